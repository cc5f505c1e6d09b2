"""nodens in a process whose loop can be held up from outside: the agent itself, unchanged, and one signal handler more.

    python -m benchmarks.plane.disturbed ORDERS TOLD serve --source file:cluster.json ...

On SIGUSR2 the first line of the file ORDERS is read, `KIND SECONDS [FILE]`, and done on the main thread, which is the
loop's: nothing else happens there meanwhile. What was done is then in the file TOLD, a line of JSON. Kinds:

  busy    a loop in Python: the interpreter lock changes hands as usual
  held    asleep with the interpreter lock held, as in a call into C that never gives it up
  decode  FILE, a list of EndpointSlices, decoded over and over by the function that the Kubernetes source uses, the
          whole body in one call (the source itself never does that: it goes in slices of a millisecond)

The product has no such hook: this is why the process is one of the benchmarks'.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from agent.cluster.objects import ENDPOINT_SLICE, decode_list


def busy(seconds: float, _body: bytes) -> int:
    """Work in Python."""
    end_s, turns = time.monotonic() + seconds, 0
    while time.monotonic() < end_s:
        turns += 1
    return turns


def held(seconds: float, _body: bytes) -> int:
    """Hold the interpreter lock: functions of a PyDLL are called with it."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return 1


def decode(seconds: float, body: bytes) -> int:
    """Decode a list until the time is over; at least once."""
    end_s, times = time.monotonic() + seconds, 0
    while not times or time.monotonic() < end_s:
        decode_list(ENDPOINT_SLICE, body)
        times += 1
    return times


KINDS: dict[str, Callable[[float, bytes], int]] = {"busy": busy, "held": held, "decode": decode}


def carry_out(orders: Path, told: Path) -> None:
    """Do what is ordered, and tell."""
    kind, seconds, *more = orders.read_text(encoding="utf-8").split()
    body = Path(more[0]).read_bytes() if more else b""
    began_s = time.monotonic()
    times = KINDS[kind](float(seconds), body)
    line = {"kind": kind, "seconds": time.monotonic() - began_s, "times": times, "bytes": len(body)}
    partial = told.with_suffix(".partial")
    partial.write_text(json.dumps(line) + "\n", encoding="utf-8")
    partial.replace(told)


def main(words: list[str]) -> int:
    """Serve, and be disturbed."""
    orders, told = Path(words[0]), Path(words[1])
    signal.signal(signal.SIGUSR2, lambda *_: carry_out(orders, told))
    from agent.cli import main as nodens

    return nodens(words[2:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The load generator at saturation: its command lines, and what it prints.

Law: pure; whoever runs it hands the output in. Its latencies are not read: at saturation they are the queue of
`OUTSTANDING` that it keeps itself; latencies come from the asker at a steady pace (benchmarks/steady.c).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers.zone import Question

CLIENTS = 8
OUTSTANDING = 500
TIMEOUT_S = 1
_COUNT = re.compile(r"^\s+(Queries sent|Queries completed|Queries lost):\s+(\d+)", re.MULTILINE)
_SECONDS = re.compile(r"^\s+Run time \(s\):\s+([\d.]+)", re.MULTILINE)
_QPS = re.compile(r"^\s+Queries per second:\s+([\d.]+)", re.MULTILINE)
_RCODES = re.compile(r"^\s+Response codes:\s+(.*)$", re.MULTILINE)
_RCODE = re.compile(r"(\w+) (\d+) \(")
_SIZES = re.compile(r"^\s+Average packet size:\s+request (\d+), response (\d+)", re.MULTILINE)


class DnsperfError(Exception):
    """What dnsperf printed are no statistics; the text says what it was."""


class Statistics(NamedTuple):
    """What dnsperf says of one load."""

    sent: int
    completed: int
    lost: int
    seconds: float
    qps: float
    rcodes: dict[str, int]
    reply_bytes: int


def command(questions: Path, port: int, *, seconds: float | None) -> list[str]:
    """Return the command of one load; without seconds it asks every question once."""
    out = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(questions), "-t", str(TIMEOUT_S)]
    out += ["-O", "suppress=timeouts,unexpected,congestion", "-c", str(CLIENTS)]
    if seconds is None:
        out += ["-q", "64", "-n", "1"]
    else:
        out += ["-q", str(OUTSTANDING), "-l", f"{seconds:g}"]
    return out


def write_questions(path: Path, questions: Iterable[Question]) -> None:
    """Write a file of questions as dnsperf reads it."""
    path.write_text("".join(f"{question.name} {question.type}\n" for question in questions), encoding="ascii")


def statistics(output: str) -> Statistics:
    """Read the statistics at the end of dnsperf's output.

    Raises:
        DnsperfError: there are none.
    """
    counts = {name: int(number) for name, number in _COUNT.findall(output)}
    seconds, qps = _SECONDS.search(output), _QPS.search(output)
    if len(counts) != 3 or seconds is None or qps is None:
        raise DnsperfError(f"no statistics in the output of dnsperf: {output[-400:].strip() or 'nothing'}")
    rcodes, sizes = _RCODES.search(output), _SIZES.search(output)
    return Statistics(
        counts["Queries sent"],
        counts["Queries completed"],
        counts["Queries lost"],
        float(seconds[1]),
        float(qps[1]),
        {name: int(number) for name, number in _RCODE.findall(rcodes[1])} if rcodes else {},
        int(sizes[2]) if sizes else 0,
    )

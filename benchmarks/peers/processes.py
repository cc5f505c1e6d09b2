"""A server as a process of its own: started on one core, watched through /proc, ended by its own pid.

Law: what was started is ended on every way out; figures are those of the process and all that descend from it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from benchmarks.measure import ROOT, SERVER_CORE, pinned, rss_mib

_TICKS = os.sysconf("SC_CLK_TCK")
_ENDS_WITHIN_S = 5.0


class ServerError(Exception):
    """A server did not start or did not go on; the text says what it wrote."""


class Usage(NamedTuple):
    """What a server has used so far."""

    user_s: float
    system_s: float
    """As the kernel shares it out: exact in sum, by sampling in its parts."""

    @property
    def cpu_s(self) -> float:
        return self.user_s + self.system_s


def free_port() -> int:
    """Return a port that is free for UDP and TCP on 127.0.0.1 now."""
    while True:
        with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("127.0.0.1", 0))
            port: int = udp.getsockname()[1]
            with contextlib.suppress(OSError):
                tcp.bind(("127.0.0.1", port))
                return port


def family(pid: int) -> list[int]:
    """Return a process and its living descendants."""
    out, new = [], [pid]
    while new:
        each = new.pop()
        out.append(each)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{each}/task").iterdir():
                new += map(int, (task / "children").read_text(encoding="ascii").split())
    return out


def _ticks(task: Path) -> tuple[int, int]:
    fields = (task / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def _run_ns(task: Path) -> int:
    """Return the nanoseconds a thread ran; finer than ticks. 0 where the kernel doesn't say."""
    with contextlib.suppress(OSError):
        return int((task / "schedstat").read_text(encoding="ascii").split()[0])
    return 0


def usage_between(before: dict[int, tuple[int, int, int]], after: dict[int, tuple[int, int, int]]) -> Usage:
    """Return what was used between two samples; a thread that came in between counts whole."""
    user = system = run_ns = 0
    for pid, (user_ticks, system_ticks, ran_ns) in after.items():
        was = before.get(pid, (0, 0, 0))
        user += user_ticks - was[0]
        system += system_ticks - was[1]
        run_ns += ran_ns - was[2]
    ticks = user + system
    total_s = run_ns / 1e9 if run_ns > 0 else ticks / _TICKS
    share = user / ticks if ticks else 0.0
    return Usage(total_s * share, total_s * (1 - share))


def busy_s(core: int) -> float:
    """Return the seconds a core has worked since boot, for anybody."""
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        words = line.split()
        if words[0] == f"cpu{core}":
            user, nice, system, _, _, irq, softirq, *_ = map(int, words[1:])
            return (user + nice + system + irq + softirq) / _TICKS
    return 0.0


class Process:
    """A running server, on one core or (None) on all; a context manager."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        core: int | None = SERVER_CORE,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*(pinned(core) if core is not None else []), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environ} if environ is not None else None,
                cwd=ROOT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def check(self) -> None:
        """Raise if it has ended by itself."""
        if self._process.poll() is not None:
            written = self.log.read_text(encoding="utf-8", errors="replace")[-1500:].strip()
            raise ServerError(f"ended with {self._process.returncode}: {written or 'it wrote nothing'}")

    def stop(self) -> None:
        """End it and what it started: politely, then for good."""
        started = family(self.pid) if self._process.poll() is None else []
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDS_WITHIN_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pid in started[1:]:
            # Only what still is of this server's own session: the number may have been given to somebody else.
            with contextlib.suppress(OSError):
                if os.getsid(pid) == self.pid:
                    os.kill(pid, signal.SIGKILL)

    def sample(self) -> dict[int, tuple[int, int, int]]:
        """Read the clocks of all threads of the process and its descendants, for `usage_between`.

        By thread, since the kernel shares time out in user and system as a whole life was: that of a process
        has its start in it, that of a worker has not.
        """
        found = {}
        for pid in family(self.pid):
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    with contextlib.suppress(OSError):
                        found[int(task.name)] = (*_ticks(task), _run_ns(task))
        return found

    def memory_mib(self) -> float:
        """Return resident memory; of several processes with what they share counted once (PSS)."""
        pids = family(self.pid)
        if len(pids) == 1:
            return rss_mib(pids[0])
        total = 0
        for pid in pids:
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1])
        return total / 1024

    def settle(self, timeout_s: float = 20.0) -> None:
        """Wait until it is idle: 0.3 s in which it used less than 3 % of a core."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            before = self.sample()
            time.sleep(0.3)
            if usage_between(before, self.sample()).cpu_s < 0.01:
                return

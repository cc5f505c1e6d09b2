"""What every benchmark reads of a process: memory and processor time from /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int | str = "self", field: str = "VmRSS") -> float:
    """Resident memory of a process in MiB; `VmHWM` is its highest so far."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(pid: int) -> tuple[float, float]:
    """User and system seconds of a process and all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return int(fields[11]) / _TICKS, int(fields[12]) / _TICKS


def cpu_ms(pid: int, *, children: bool = False) -> float:
    """User and system milliseconds of a process and its threads, or of its children that have ended.

    Threads are counted in nanoseconds where the kernel keeps schedstat, else everything in its ticks (10 ms).
    """
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    at = 13 if children else 11
    ticks_ms = (int(fields[at]) + int(fields[at + 1])) * 1000 / _TICKS
    if children:
        return ticks_ms
    threads_ns = [
        int(path.read_text(encoding="ascii").split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
    ]
    return max(ticks_ms, sum(threads_ns) / 1e6)

"""Limits a process puts on itself before it reads what strangers wrote.

Law: everything here only takes away: memory, time, priority, the right to write or to outlive the parent. What the
platform doesn't offer is left out; the parent's own deadline holds in any case.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path

from agent.errors import SourceError

NICENESS = 10
MAX_OPEN_FILES = 64
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_OUT_OF_MEMORY_FIRST = "1000"
_CGROUP = Path("/sys/fs/cgroup")
_MARGIN_BYTES = 32 * 1024 * 1024


def confine(max_memory_bytes: int, cpu_s: float, parent: int) -> int:
    """Limit this process and return the address space it may use, in bytes.

    Args:
        max_memory_bytes: address space; less if the container has less left.
        cpu_s: CPU seconds until the kernel ends the process.
        parent: process id to end with; 0: none.

    Raises:
        SourceError: the parent is gone already.
    """
    with suppress(AttributeError, OSError):
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if parent and os.getppid() != parent:
        raise SourceError("the agent that asked is gone")
    with suppress(OSError):
        os.nice(NICENESS)
    with suppress(OSError):
        # If the container runs out of memory, the reader goes and the agent stays.
        Path("/proc/self/oom_score_adj").write_text(_OUT_OF_MEMORY_FIRST, encoding="ascii")
    memory = min([max_memory_bytes, *container_room()])
    seconds = max(1, int(cpu_s))
    for limit, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
    ):
        hard = resource.getrlimit(limit)[1]
        bounded = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (bounded, bounded))
    return memory


def container_room(cgroup: Path = _CGROUP) -> list[int]:
    """Give the bytes the container's memory limit (cgroup v2) leaves for one more process; empty if there is none.

    Kubernetes ends a whole container that exceeds its limit (memory.oom.group), so the reader must fail before.
    """
    try:
        most = int((cgroup / "memory.max").read_text(encoding="ascii"))
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text(encoding="ascii").splitlines())
        used = sum(int(stat.get(part, 0)) for part in ("anon", "shmem", "kernel", "sock"))
    except (OSError, ValueError):
        return []
    return [max(most - used - _MARGIN_BYTES, _MARGIN_BYTES)]

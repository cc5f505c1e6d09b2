"""System calls of a running process that fail or hang, by strace; begun and ended at any moment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.control_plane.processes import Child, wait_until


def _all_traced(pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").glob("*/status")
    return all("TracerPid:\t0\n" not in path.read_text() for path in threads)


@contextmanager
def injected(pid: int, *rules: str, log: Path) -> Iterator[None]:
    """Inject, by strace's words: `fsync:error=EIO`, `fsync:delay_enter=3s`; skips where tracing isn't possible."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("no strace on this machine (apt-get install strace)")
    calls = ",".join(rule.partition(":")[0] for rule in rules)
    words = [word for rule in rules for word in ("-e", f"inject={rule}")]
    command = [strace, "-f", "-q", "-p", str(pid), "-e", f"trace={calls}", "-o", "/dev/null", *words]
    with Child(command, log) as tracer:

        def attached() -> bool:
            if not tracer.running and "ptrace" in tracer.text():
                pytest.skip(f"tracing is not permitted here: {tracer.text().strip()[:200]}")
            tracer.check()
            return _all_traced(pid)

        wait_until("strace attached", attached)
        yield
    wait_until("strace detached", lambda: not _all_traced(pid) or not Path(f"/proc/{pid}").exists())


def open_files(pid: int) -> int:
    """Count a process's descriptors."""
    return len(os.listdir(f"/proc/{pid}/fd"))

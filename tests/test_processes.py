"""What the tests start does not outlive them, however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.control_plane.processes import wait_until

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """
import os, signal, sys
from pathlib import Path
from tests.control_plane.processes import Child
log = Path(sys.argv[1])
started = [Child(["sleep", "300"], log) for _ in range(3)]
started[1].stop()
print(*(child.pid for child in started), flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
for child in started:
    child.stop()
"""


def lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(("how", "code"), [("killed", -signal.SIGKILL), ("ended", 0)])
def test_children_end_with_the_tests_that_started_them(tmp_path: Path, how: str, code: int):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path / "log"), how],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, "")
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 3
    wait_until("their end", lambda: not any(lives(pid) for pid in pids), timeout_s=5)

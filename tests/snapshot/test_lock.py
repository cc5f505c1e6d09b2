"""One agent per state directory, and who it is."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import SnapshotError
from agent.snapshot.lock import take_lock

HOLDER = """
import sys
from agent.snapshot.lock import take_lock
take_lock(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_the_second_is_told_who_holds_it_until_that_one_is_gone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SnapshotError) as refused:
            take_lock(str(tmp_path))
        holder.kill()
        holder.wait()
    assert str(refused.value) == (
        f"{tmp_path} is in use by process {holder.pid} on {os.uname().nodename}. "
        "Stop that process, or give this one a state directory of its own"
    )
    os.close(take_lock(str(tmp_path)))


@pytest.mark.parametrize("content", [b"", b"12", b"12 \x1b[2J\n", b"\xff" * 9, b"x" * 500])
def test_what_stands_in_the_file_is_not_believed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lock"
    path.write_bytes(content)
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SnapshotError, match=r"is in use by another process\. Stop"):
            take_lock(str(tmp_path))
    os.close(take_lock(str(tmp_path)))
    assert path.read_text() == f"{os.getpid()} {os.uname().nodename}\n"


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "lock").symlink_to(target)
    with pytest.raises(SnapshotError, match=r"lock can't be opened"):
        take_lock(str(tmp_path))
    assert target.read_text() == "precious"


def test_a_full_disk_does_not_leave_the_lock_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(SnapshotError, match=r"lock can't be locked: No space left on device\. Make room"):
            take_lock(str(tmp_path))
    os.close(take_lock(str(tmp_path)))

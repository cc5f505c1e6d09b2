"""Who ordered what, when and why."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from agent.control import audit
from agent.control.audit import AUDIT, AUDIT_BEFORE, record, who
from agent.control.folder import Folder
from agent.errors import ControlError


@pytest.fixture
def folder(tmp_path: Path):
    with Folder(str(tmp_path), make=True) as opened:
        yield opened


def test_a_line_tells_who_when_what_and_why(folder: Folder) -> None:
    record(folder, "override set", {"name": "a.example.", "reason": "upstream is down"}, now_unix_s=0)
    assert audit.read(folder) == [
        {
            "at": "1970-01-01T00:00:00Z",
            "who": who(),
            "what": "override set",
            "name": "a.example.",
            "reason": "upstream is down",
        }
    ]
    assert f"(uid {os.getuid()})" in who()
    assert stat.S_IMODE((Path(folder.path) / AUDIT).stat().st_mode) == 0o600


def test_the_log_is_bounded_and_keeps_the_newest(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_AUDIT_BYTES", 2000)
    for number in range(200):
        record(folder, "test", {"number": number, "reason": "x" * 50})
    assert sorted(os.listdir(folder.path)) == [AUDIT_BEFORE, AUDIT]
    assert all((Path(folder.path) / name).stat().st_size <= 2000 for name in (AUDIT, AUDIT_BEFORE))
    numbers = [row["number"] for row in audit.read(folder)]
    assert numbers == list(range(200 - len(numbers), 200))
    assert len(numbers) > 10


def test_a_line_cut_by_a_kill_takes_no_other_with_it(folder: Folder) -> None:
    record(folder, "first", {})
    path = Path(folder.path) / AUDIT
    path.write_bytes(path.read_bytes() + b'{"at": "19')
    record(folder, "second", {})
    assert [row["what"] for row in audit.read(folder)] == ["first", "second"]


def test_what_can_not_be_written_down_is_an_error(folder: Folder, tmp_path: Path) -> None:
    (Path(folder.path) / AUDIT).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ControlError, match="symbolic link"):
        record(folder, "test", {})
    assert not (tmp_path / "elsewhere").exists()


def test_a_line_is_bounded(folder: Folder) -> None:
    with pytest.raises(ControlError, match="is longer than"):
        record(folder, "test", {"reason": "x" * audit.MAX_LINE_BYTES})


@pytest.mark.parametrize("name", ["bob\nroot", "x" * 33, ""])
def test_who_is_behind_sudo_is_told_only_if_it_is_a_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", name)
    assert "sudo" not in who()
    monkeypatch.setenv("SUDO_USER", "alice")
    assert who().endswith("(uid 0), sudo by alice")

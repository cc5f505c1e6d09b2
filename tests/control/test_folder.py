"""Documents on disk: whole, closed to others, believed only if nobody else could have written them."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import msgspec
import pytest

from agent.control import folder as control
from agent.control.folder import MAX_DOCUMENT_BYTES, MAX_REASON_CHARS, Folder, check_text
from agent.errors import ControlError
from agent.snapshot.files import AbsentError

AS_ROOT = os.geteuid() == 0
SOMEBODY = 12345


class Wish(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    count: int = 0


@pytest.fixture
def state_dir(tmp_path: Path) -> str:
    return str(tmp_path)


def place(state_dir: str, content: bytes, mode: int = 0o600) -> Path:
    with Folder(state_dir, make=True) as folder:
        path = Path(folder.path) / "wish.json"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def read(state_dir: str) -> Wish | None:
    with Folder(state_dir) as folder:
        return folder.read("wish.json", Wish)


def test_what_is_written_is_read_and_closed_to_others(state_dir: str) -> None:
    with Folder(state_dir, make=True, offline=True) as folder:
        folder.write("wish.json", Wish("water", 2))
        assert folder.read("wish.json", Wish) == Wish("water", 2)
    path = Path(state_dir) / "control"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((path / "wish.json").stat().st_mode) == 0o600
    assert os.listdir(path) == ["wish.json"]


def test_nothing_ordered_is_no_error(state_dir: str) -> None:
    with pytest.raises(AbsentError):
        Folder(state_dir)
    with Folder(state_dir, make=True) as folder:
        assert folder.read("wish.json", Wish) is None
        assert not folder.remove("wish.json")


def test_a_state_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=r"does not exist, so that no agent would see an order there\. Name the"):
        Folder(str(tmp_path / "typo"), make=True)
    assert not (tmp_path / "typo").exists()


@pytest.mark.skipif(not AS_ROOT, reason="only root can give files away")
def test_what_root_orders_belongs_to_whoever_runs_the_agent(state_dir: str) -> None:
    os.chown(state_dir, SOMEBODY, SOMEBODY)
    with Folder(state_dir, make=True, offline=True) as folder:
        folder.write("wish.json", Wish("water"))
        assert folder.read("wish.json", Wish) == Wish("water")
    for path in (Path(state_dir) / "control", Path(state_dir) / "control" / "wish.json"):
        assert (path.stat().st_uid, path.stat().st_gid) == (SOMEBODY, SOMEBODY)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"text": 7}',
        b'{"text": "water", "only_on": "monday"}',
        b'{"text": "\xff"}',
        b'{"text": ' + b"[" * 100_000,
        b'{"text": "' + b"x" * MAX_DOCUMENT_BYTES + b'"}',
    ],
    ids=["empty", "cut", "no text", "list", "null", "type", "unknown", "utf-8", "deep", "large"],
)
def test_damage_is_refused_with_its_path_and_what_to_do(state_dir: str, content: bytes) -> None:
    path = place(state_dir, content)
    with pytest.raises(ControlError) as refused:
        read(state_dir)
    assert refused.value.message.startswith(str(path))
    assert refused.value.hint


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_what_others_may_write_is_refused(state_dir: str, mode: int) -> None:
    place(state_dir, b'{"text": "water"}', mode)
    with pytest.raises(ControlError, match="can be written by others"):
        read(state_dir)


def test_a_folder_that_others_may_write_is_refused(state_dir: str) -> None:
    place(state_dir, b'{"text": "water"}').parent.chmod(0o770)
    with pytest.raises(ControlError, match="control can be written by others"):
        read(state_dir)


@pytest.mark.skipif(not AS_ROOT, reason="only root can give files away")
def test_a_foreign_document_is_refused_by_the_agent(state_dir: str) -> None:
    os.chown(place(state_dir, b'{"text": "water"}'), SOMEBODY, SOMEBODY)
    with pytest.raises(ControlError, match=f"belongs to user {SOMEBODY}"):
        read(state_dir)


def test_links_and_pipes_are_not_followed(state_dir: str, tmp_path: Path) -> None:
    path = place(state_dir, b'{"text": "water"}')
    os.rename(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ControlError, match="symbolic link"):
        read(state_dir)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(ControlError, match="not a regular file"):
        read(state_dir)


def test_a_document_left_half_written_by_somebody_killed_is_in_nobodys_way(state_dir: str) -> None:
    place(state_dir, b'{"text": "before"}').with_name("wish.json.tmp").write_bytes(b'{"te')
    with Folder(state_dir) as folder:
        assert folder.read("wish.json", Wish) == Wish("before")
        folder.write("wish.json", Wish("after"))
        assert folder.read("wish.json", Wish) == Wish("after")
        assert folder.remove("wish.json")
        assert os.listdir(folder.path) == []


def test_too_large_a_document_is_not_written_and_the_one_before_stays(state_dir: str) -> None:
    with Folder(state_dir, make=True) as folder:
        folder.write("wish.json", Wish("before"))
        with pytest.raises(ControlError, match="more than the"):
            folder.write("wish.json", Wish("x" * MAX_DOCUMENT_BYTES))
        assert folder.read("wish.json", Wish) == Wish("before")


def test_two_who_change_at_once_lose_nothing_of_each_others(state_dir: str) -> None:
    place(state_dir, b'{"text": "sum"}')

    def add() -> None:
        for _ in range(20):
            with Folder(state_dir) as folder, folder.locked():
                wish = folder.read("wish.json", Wish)
                assert wish is not None
                folder.write("wish.json", Wish("sum", wish.count + 1))

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read(state_dir) == Wish("sum", 60)


def test_a_lock_that_somebody_keeps_is_told(state_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LOCK_WAIT_S", 0.1)
    with (
        Folder(state_dir, make=True) as one,
        Folder(state_dir) as other,
        one.locked(),
        pytest.raises(ControlError, match="has been locked by another command"),
        other.locked(),
    ):
        pass


@pytest.mark.parametrize("text", ["", "  ", "x" * (MAX_REASON_CHARS + 1), "two\nlines", "\x1b[2J"])
def test_words_that_would_hurt_a_terminal_or_say_nothing_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the reason"):
        check_text(text, "the reason")


def test_words_in_any_language_are_taken() -> None:
    check_text("Störung: заблокировано", "the reason")

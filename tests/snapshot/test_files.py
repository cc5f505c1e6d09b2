"""What may be opened, and how a file gets there whole."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from agent.errors import SnapshotError
from agent.snapshot.files import AbsentError, Directory, Listing, check_number, failure, read_all, write_all

AS_ROOT = os.geteuid() == 0
SOMEBODY = 12345


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "snapshot"
    path.mkdir(mode=0o700)
    return path


def put(folder: Path, name: str, content: bytes = b"content") -> Path:
    path = folder / name
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def read(folder: Path, name: str = "gen-1.nds", limit_bytes: int = 100) -> bytes:
    with Directory(str(folder)) as directory:
        return directory.read(name, limit_bytes)


def make_foreign(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root gives the file away; anybody else becomes somebody else, as far as the check can tell."""
    if AS_ROOT:
        os.chown(path, SOMEBODY, SOMEBODY)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)


def test_a_file_of_ours_is_read(folder: Path) -> None:
    put(folder, "gen-1.nds")
    assert read(folder) == b"content"


def test_an_empty_file_is_read_as_such(folder: Path) -> None:
    put(folder, "gen-1.nds", b"")
    assert read(folder) == b""


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_what_others_may_write_is_refused(folder: Path, mode: int) -> None:
    path = put(folder, "gen-1.nds")
    path.chmod(mode)
    with pytest.raises(SnapshotError) as refused:
        read(folder)
    assert str(refused.value) == (
        f"{path} can be written by others (mode {mode:04o}). If its content can be trusted: chmod go-w {path}"
    )


@pytest.mark.parametrize("mode", [0o400, 0o644, 0o755])
def test_what_others_may_only_read_is_taken(folder: Path, mode: int) -> None:
    put(folder, "gen-1.nds").chmod(mode)
    assert read(folder) == b"content"


def test_a_foreign_file_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(folder, "gen-1.nds")
    with Directory(str(folder)) as directory:
        make_foreign(path, monkeypatch)
        directory.owners = frozenset({0, os.geteuid()})
        with pytest.raises(SnapshotError, match="which is neither root nor the user") as refused:
            directory.read("gen-1.nds", 100)
    assert f"chown {os.geteuid()} {path}" in str(refused.value)


def test_a_symbolic_link_is_refused(folder: Path, tmp_path: Path) -> None:
    put(tmp_path, "elsewhere")
    (folder / "gen-1.nds").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SnapshotError, match=r"is a symbolic link, or can't be opened.*in the place of the link"):
        read(folder)


@pytest.mark.parametrize("kind", ["fifo", "directory", "device"])
def test_what_is_no_file_is_refused_and_does_not_block(folder: Path, kind: str) -> None:
    path = folder / "gen-1.nds"
    if kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "directory":
        path.mkdir(mode=0o700)
    else:
        try:
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("only root may make a device node")
    with pytest.raises(SnapshotError, match=r"is not a regular file\. Remove it|can't be opened"):
        read(folder)


def test_a_socket_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)  # the path of a socket is limited to 108 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("gen-1.nds")
        (folder / "gen-1.nds").chmod(0o600)
        with pytest.raises(SnapshotError, match="can't be opened"):
            read(folder)


def test_an_oversized_file_is_refused_before_it_is_read(folder: Path) -> None:
    path = put(folder, "gen-1.nds")
    os.truncate(path, 1 << 40)
    with pytest.raises(SnapshotError, match=f"has {1 << 40} bytes, more than the 100 allowed"):
        read(folder)


def test_a_missing_file_and_directory_are_told_apart_from_bad_ones(folder: Path) -> None:
    with pytest.raises(AbsentError, match=r"gen-1\.nds does not exist"):
        read(folder)
    with pytest.raises(AbsentError, match="nowhere does not exist"):
        Directory(str(folder / "nowhere"))


def test_a_directory_others_may_write_to_is_refused(folder: Path) -> None:
    folder.chmod(0o770)
    with pytest.raises(SnapshotError, match=r"snapshot can be written by others \(mode 0770\)"):
        Directory(str(folder))


def test_a_directory_behind_a_link_and_a_file_in_its_place_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    put(tmp_path, "file")
    for name in ("link", "file"):
        with pytest.raises(SnapshotError, match=f"{name} can't be opened as a directory"):
            Directory(str(tmp_path / name))


def test_a_foreign_directory_is_for_root_at_a_keyboard_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(folder, "gen-1.nds")
    if not AS_ROOT:
        pytest.skip("only root can give files away")
    os.chown(folder, SOMEBODY, SOMEBODY)
    os.chown(path, SOMEBODY, SOMEBODY)
    with pytest.raises(SnapshotError, match=f"belongs to user {SOMEBODY}"):
        Directory(str(folder))
    with Directory(str(folder), offline=True) as directory:
        assert directory.read("gen-1.nds", 100) == b"content"
        os.chown(path, SOMEBODY + 1, -1)
        with pytest.raises(SnapshotError, match=f"belongs to user {SOMEBODY + 1}"):
            directory.read("gen-1.nds", 100)
    monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY + 1)
    with pytest.raises(SnapshotError, match=f"belongs to user {SOMEBODY}"):
        Directory(str(folder), offline=True)


def test_listing_takes_our_names_alone(folder: Path) -> None:
    for name in (
        "gen-3.nds", "gen-12.nds", "journal-12.ndj", "journal-2.ndj", "gen-13.nds.tmp", "gen-0.nds", "gen-03.nds",
        "gen-4.ndj", "journal-4.nds", "gen-1000000000000000000.nds", "gen-.nds", "gen-5.nds~", "notes",
    ):  # fmt: skip
        put(folder, name)
    with Directory(str(folder)) as directory:
        assert directory.list() == Listing((12, 3), (2, 12), ("gen-13.nds.tmp",), 13)


def test_listing_that_fails_is_the_projects_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Directory(str(folder)) as directory, monkeypatch.context() as patch:
        patch.setattr(os, "listdir", raising(errno.EIO))
        with pytest.raises(SnapshotError, match=r"can't be listed: Input/output error\. The disk or its driver fails"):
            directory.list()


def test_reading_that_fails_is_the_projects_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, "gen-1.nds")
    monkeypatch.setattr(os, "read", raising(errno.EIO))
    with pytest.raises(SnapshotError, match="can't be read: Input/output error"):
        read(folder)


def test_a_file_is_read_whole_however_little_comes_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, "gen-1.nds", bytes(range(100)))
    real = os.read
    monkeypatch.setattr(os, "read", lambda fd, size: real(fd, min(size, 7)))
    assert read(folder) == bytes(range(100))
    fd = os.open(folder / "gen-1.nds", os.O_RDONLY)
    assert read_all(fd, 1000) == bytes(range(100))  # it shrank after its size was asked
    os.close(fd)


def test_writing_goes_on_however_little_is_taken_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, piece: real(fd, piece[:3]))
    fd = os.open(folder / "out", os.O_WRONLY | os.O_CREAT)
    write_all(fd, [b"abcdefgh", b"", b"ij"])
    os.close(fd)
    assert (folder / "out").read_bytes() == b"abcdefghij"


def test_a_file_is_written_in_the_order_that_survives(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    for call in ("open", "write", "fsync", "close", "rename"):
        real = getattr(os, call)
        monkeypatch.setattr(os, call, lambda *a, _real=real, _call=call, **k: (done.append(_call), _real(*a, **k))[1])
    with Directory(str(folder)) as directory:
        done.clear()
        directory.write_once("gen-1.nds", [b"con", b"tent"])
        assert done == ["open", "write", "write", "fsync", "close", "rename", "fsync"]
    assert read(folder) == b"content"
    assert stat.S_IMODE((folder / "gen-1.nds").stat().st_mode) == 0o600
    assert os.listdir(folder) == ["gen-1.nds"]


@pytest.mark.parametrize("call", ["open", "write", "fsync", "close", "rename"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failed_write_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    put(folder, "gen-1.nds", b"old")
    with Directory(str(folder)) as directory, monkeypatch.context() as patch:
        real_close = os.close
        calls = []

        def fail(*arguments: object, **_: object) -> None:
            calls.append(arguments)
            if call == "close":
                real_close(arguments[0])  # what close says is about the data, not the descriptor
            raise OSError(code, os.strerror(code))

        patch.setattr(os, call, fail)
        with pytest.raises(SnapshotError, match=r"gen-2\.nds can't be written") as refused:
            directory.write_once("gen-2.nds", [b"new"])
        assert len(calls) == 1  # never tried again on the same file
    assert refused.value.hint.startswith("Make room" if code == errno.ENOSPC else "The disk or its driver fails")
    assert os.listdir(folder) == ["gen-1.nds"]


def test_a_failed_sync_of_the_directory_is_an_error_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Directory(str(folder)) as directory:
        real = os.fsync
        monkeypatch.setattr(os, "fsync", lambda fd: raising(errno.EIO)() if fd == directory.fd else real(fd))
        with pytest.raises(SnapshotError, match="can't be written"):
            directory.write_once("gen-2.nds", [b"new"])
    assert read(folder, "gen-2.nds") == b"new"  # whole, but nobody was told that it stays


def test_what_cannot_be_removed_harms_nobody(folder: Path) -> None:
    put(folder, "gen-1.nds")
    with Directory(str(folder)) as directory:
        assert directory.remove("gen-1.nds")
        assert not directory.remove("gen-1.nds")


def test_a_number_is_compared_with_our_names_alone() -> None:
    check_number("gen-7.nds", 7)
    check_number("export.nds", 7)
    with pytest.raises(SnapshotError, match=r"holds number 8\. Give it back the name"):
        check_number("journal-7.ndj", 8)


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (errno.ENOSPC, "Make room"),
        (errno.EACCES, "Run as the owner of /a"),
        (errno.EIO, "kernel's log"),
        (errno.ELOOP, "in the place of the link"),
        (errno.EBUSY, "Look at the file"),
    ],
)
def test_every_failure_says_what_to_do(code: int, hint: str) -> None:
    error = failure("/a/b", "can't be opened", OSError(code, ""))
    assert str(error).startswith(f"/a/b can't be opened: {os.strerror(code)}. ")
    assert hint in error.hint


def raising(code: int) -> object:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail

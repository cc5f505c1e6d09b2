"""The snapshot directory: the few things ever done to it.

Law: a file is opened only below a directory that nobody else can write to, never through a symbolic link, and is used
only if it is a regular file of an owner we trust, closed to others, and no larger than allowed. A file is written
once: new name, write, fsync, close, rename, fsync of the directory; what failed is taken away and never tried again.
Every OSError leaves as a SnapshotError that says what, where and what to do.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable
from typing import NamedTuple, Self

from agent.errors import SnapshotError

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
TEMPORARY = ".tmp"
_NAME = re.compile(r"(gen|journal)-([1-9][0-9]{0,17})\.(nds|ndj)(\.tmp)?")
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class AbsentError(SnapshotError):
    """A file or directory is not there (any more)."""


class Listing(NamedTuple):
    """What lies in a snapshot directory.

    Attributes:
        generations: numbers, newest first.
        journals: numbers, oldest first.
        leftovers: names of files that were not finished.
        highest: highest number in any of these names, 0 if there is none.
    """

    generations: tuple[int, ...]
    journals: tuple[int, ...]
    leftovers: tuple[str, ...]
    highest: int


def generation_name(number: int) -> str:
    """Name of a generation's file."""
    return f"gen-{number}.nds"


def journal_name(number: int) -> str:
    """Name of the journal that goes on from a generation."""
    return f"journal-{number}.ndj"


def check_number(name: str, number: int) -> None:
    """Compare a number with the one in a file's name, if the name is one of ours; raises SnapshotError."""
    match = _NAME.fullmatch(name)
    if match is not None and int(match[2]) != number:
        raise SnapshotError(f"holds number {number}", hint="Give it back the name it was written under, or remove it")


def named(path: str, error: SnapshotError) -> SnapshotError:
    """Give an error about a file's content with the file's path in front."""
    return SnapshotError(f"{path} {error.message}", hint=error.hint)


class Directory:
    """An open snapshot directory.

    Args:
        path: of the directory.
        offline: a person reads, nothing is served: root then trusts whoever owns the directory.

    Raises:
        AbsentError: there is none.
        SnapshotError: it can't be read, or others could have written to it.
    """

    def __init__(self, path: str, *, offline: bool = False) -> None:
        self.path = path
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise AbsentError(f"{path} does not exist") from None
        except OSError as error:
            raise failure(path, "can't be opened as a directory", error) from None
        try:
            self.owners = _check_directory(path, os.fstat(self.fd), offline=offline)
        except SnapshotError:
            os.close(self.fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def where(self, name: str) -> str:
        """Path of a file, for messages."""
        return f"{self.path}/{name}"

    def list(self) -> Listing:
        """List the names that are ours; every other name is left alone. Raises SnapshotError."""
        generations, journals, leftovers, highest = [], [], [], 0
        try:
            names = os.listdir(self.fd)
        except OSError as error:
            raise failure(self.path, "can't be listed", error) from None
        for name in names:
            match = _NAME.fullmatch(name)
            if match is None or (match[1] == "gen") != (match[3] == "nds"):
                continue
            number = int(match[2])
            highest = max(highest, number)
            if match[4]:
                leftovers.append(name)
            elif match[1] == "gen":
                generations.append(number)
            else:
                journals.append(number)
        generations.sort(reverse=True)
        return Listing(tuple(generations), tuple(sorted(journals)), tuple(sorted(leftovers)), highest)

    def open(self, name: str, limit_bytes: int) -> tuple[int, os.stat_result]:
        """Open a file that may be trusted; see `open_trusted`."""
        return open_trusted(self.where(name), name, self.fd, self.owners, limit_bytes)

    def read(self, name: str, limit_bytes: int) -> bytes:
        """Read a whole file; raises as `open_trusted`."""
        fd, status = self.open(name, limit_bytes)
        try:
            return read_all(fd, status.st_size)
        except OSError as error:
            raise failure(self.where(name), "can't be read", error) from None
        finally:
            os.close(fd)

    def create(self, name: str) -> int:
        """Create a file that must not exist yet; gives its descriptor. Raises OSError."""
        return os.open(name, _CREATE, FILE_MODE, dir_fd=self.fd)

    def write_once(self, name: str, pieces: Iterable[bytes]) -> None:
        """Write a new file so that it is there whole or not at all, and stays there.

        Raises:
            SnapshotError: it was not written; nothing of it is left, unless only the last fsync failed.
        """
        temporary = name + TEMPORARY
        fd = -1
        try:
            fd = self.create(temporary)
            write_all(fd, pieces)
            os.fsync(fd)
            # Whatever close says, the descriptor is gone after it.
            written, fd = fd, -1
            os.close(written)
            os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
            os.fsync(self.fd)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            self.remove(temporary)
            raise failure(self.where(name), "can't be written", error) from None

    def remove(self, name: str) -> bool:
        """Take a file away; tell whether that was done. One that can't be removed harms nobody: it is tried again."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except OSError:
            return False
        return True


def open_trusted(
    path: str, name: str, dir_fd: int | None, owners: frozenset[int], limit_bytes: int
) -> tuple[int, os.stat_result]:
    """Open a file for reading.

    Args:
        path: for messages.
        name: below `dir_fd`, or a path if that is None.
        dir_fd: descriptor of an open directory.
        owners: user ids that may own the file.
        limit_bytes: largest size allowed.

    Raises:
        AbsentError: there is none.
        SnapshotError: it can't be opened, or must not be trusted.
    """
    try:
        fd = os.open(name, _READ, dir_fd=dir_fd)
    except FileNotFoundError:
        raise AbsentError(f"{path} does not exist") from None
    except OSError as error:
        reason = "is a symbolic link, or can't be opened" if error.errno == errno.ELOOP else "can't be opened"
        raise failure(path, reason, error) from None
    status = os.fstat(fd)
    try:
        _check_file(path, status, owners, limit_bytes)
    except SnapshotError:
        os.close(fd)
        raise
    return fd, status


def _check_file(path: str, status: os.stat_result, owners: frozenset[int], limit_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise SnapshotError(f"{path} is not a regular file", hint="Remove it")
    _check_owner(path, status, owners)
    if status.st_size > limit_bytes:
        raise SnapshotError(
            f"{path} has {status.st_size} bytes, more than the {limit_bytes} allowed",
            hint="Remove it, or raise snapshot.max_bytes (of a journal: snapshot.max_journal_bytes)",
        )


def read_all(fd: int, size_bytes: int) -> bytes:
    """Read a file from its start, in one piece where the kernel lets us. Raises OSError."""
    first = os.read(fd, size_bytes)
    if len(first) == size_bytes:
        return first
    pieces = [first]
    missing = size_bytes - len(first)
    while missing and pieces[-1]:
        pieces.append(os.read(fd, missing))
        missing -= len(pieces[-1])
    return b"".join(pieces)


def write_all(fd: int, pieces: Iterable[bytes]) -> None:
    """Write pieces one after the other, however little the kernel takes at a time. Raises OSError."""
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(fd, rest) :]


def trusted_owners(directory: os.stat_result, *, offline: bool) -> frozenset[int]:
    """Say who may own files of a directory: root, ourselves, and for root at a keyboard the directory's owner."""
    uid = os.geteuid()
    return frozenset((0, uid, directory.st_uid) if offline and uid == 0 else (0, uid))


def _check_directory(path: str, status: os.stat_result, *, offline: bool) -> frozenset[int]:
    owners = trusted_owners(status, offline=offline)
    _check_owner(path, status, owners)
    return owners


def _check_owner(path: str, status: os.stat_result, owners: frozenset[int]) -> None:
    if status.st_uid not in owners:
        raise SnapshotError(
            f"{path} belongs to user {status.st_uid}, which is neither root nor the user {os.geteuid()} that runs this",
            hint=f"If its content can be trusted: chown {os.geteuid()} {path}",
        )
    if status.st_mode & OTHERS_MAY_WRITE:
        raise SnapshotError(
            f"{path} can be written by others (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"If its content can be trusted: chmod go-w {path}",
        )


def failure(path: str, what: str, error: OSError) -> SnapshotError:
    """Say in words what the operating system refused, and what to do about it."""
    if error.errno in _SPACE:
        hint = "Make room on the disk, or raise the quota; answers go on from memory"
    elif error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        hint = f"Run as the owner of {os.path.dirname(path)} or as root, on a file system that can be written"
    elif error.errno == errno.EIO:
        hint = "The disk or its driver fails: look at the kernel's log"
    elif error.errno == errno.ELOOP:
        hint = "Put the file itself in the place of the link, or remove it"
    else:
        hint = "Look at the file and at what lies on its way"
    return SnapshotError(f"{path} {what}: {os.strerror(error.errno or 0)}", hint=hint)

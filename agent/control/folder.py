"""STATE/control: one small JSON document per order.

Law: a command never talks to the agent, it leaves a document: whole or not at all, closed to others, and owned by
whoever runs the agent, also when root wrote it. A document is believed only if nobody else could have written it, if
it is no larger than `MAX_DOCUMENT_BYTES`, and if every word of it is known: an order that is half understood is none.
Whoever reads, changes and writes back holds the lock, so that two people lose nothing of each other's.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self, TypeVar

import msgspec

from agent.errors import ControlError, SnapshotError
from agent.snapshot.files import (
    DIRECTORY_MODE,
    TEMPORARY,
    AbsentError,
    Directory,
    failure,
    read_all,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

NAME = "control"
OVERRIDES = "overrides.json"
PIN = "pin.json"
DECISION = "decision.json"
QUARANTINE = "quarantine.json"
FLUSH = "flush.json"
MAX_DOCUMENT_BYTES = 1 << 18
MAX_REASON_CHARS = 200
LOCK_WAIT_S = 5.0
LOCK_STEP_S = 0.05


class _Owned(Directory):
    """A directory in which what root makes belongs to the directory's owner, or the agent could not read it."""

    def create(self, name: str) -> int:
        """See `Directory.create`."""
        fd = super().create(name)
        try:
            give_to_owner(fd, os.fstat(self.fd))
        except OSError:
            os.close(fd)
            raise
        return fd


class Folder:
    """An open STATE/control.

    Args:
        state_dir: that of the agent.
        make: make the folder if there is none (not the state directory: that is a typing error more often than not).
        offline: a person reads or writes; root then trusts whoever owns the folder.

    Raises:
        AbsentError: there is none, so that nobody has ordered anything.
        ControlError: it can't be used, or others could have written to it.
    """

    def __init__(self, state_dir: str, *, make: bool = False, offline: bool = False) -> None:
        self.path = os.path.join(state_dir, NAME)
        if make:
            _make(state_dir, self.path)
        try:
            self.directory = _Owned(self.path, offline=offline)
        except AbsentError:
            raise
        except SnapshotError as error:
            raise ControlError(error.message, hint=error.hint) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.directory.fd)

    def read(self, name: str, kind: type[T]) -> T | None:
        """Read a document; None if there is none.

        Args:
            name: of the file.
            kind: a msgspec Struct that forbids unknown fields; its `__post_init__` may raise ValueError.

        Raises:
            ControlError: it must not be believed, or can't be read.
        """
        try:
            raw = self.read_bytes(name, MAX_DOCUMENT_BYTES)
        except AbsentError:
            return None
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ControlError(
                f"{self.directory.where(name)} is no order that this version understands: {error}",
                hint="Give the order again by its command, or remove the file",
            ) from None

    def read_bytes(self, name: str, limit_bytes: int) -> bytes:
        """Read a file.

        Raises:
            AbsentError: there is none.
            ControlError: it must not be believed, or can't be read.
        """
        path = self.directory.where(name)
        try:
            fd, status = self.directory.open(name, 1 << 62)
        except AbsentError:
            raise
        except SnapshotError as error:
            raise ControlError(error.message, hint=error.hint) from None
        try:
            if status.st_size > limit_bytes:
                raise ControlError(
                    f"{path} has {status.st_size} bytes, more than the {limit_bytes} allowed",
                    hint="Remove it: no command of nodens writes such a file",
                )
            return read_all(fd, status.st_size)
        except OSError as error:
            raise _refused(path, "can't be read", error) from None
        finally:
            os.close(fd)

    def write(self, name: str, document: object) -> None:
        """Write a document so that it is there whole or not at all; only one may write a name at a time.

        Raises:
            ControlError: it was not written; the one before is still there.
        """
        raw = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
        path = self.directory.where(name)
        if len(raw) > MAX_DOCUMENT_BYTES:
            raise ControlError(f"{path} would have {len(raw)} bytes, more than the {MAX_DOCUMENT_BYTES} allowed")
        # Left by somebody who was killed in the middle: whoever may write now is the only one.
        self.directory.remove(name + TEMPORARY)
        try:
            self.directory.write_once(name, [raw])
        except SnapshotError as error:
            raise ControlError(error.message, hint=error.hint) from None

    def remove(self, name: str) -> bool:
        """Take a document away for good; tell whether there was one.

        Raises:
            ControlError: it could not be taken away.
        """
        try:
            os.unlink(name, dir_fd=self.directory.fd)
            os.fsync(self.directory.fd)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _refused(self.directory.where(name), "can't be removed", error) from None
        return True

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who changes documents here, or appends to the audit log.

        Raises:
            ControlError: somebody else has been at it for `LOCK_WAIT_S`.
        """
        until_s = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(self.directory.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until_s:
                    raise ControlError(
                        f"{self.path} has been locked by another command for {LOCK_WAIT_S:g} s",
                        hint="Look for a nodens command that hangs (its disk may), then give the order again",
                    ) from None
            except OSError as error:
                raise _refused(self.path, "can't be locked", error) from None
            time.sleep(LOCK_STEP_S)
        try:
            yield
        finally:
            fcntl.flock(self.directory.fd, fcntl.LOCK_UN)


def check_text(text: str, what: str, limit_chars: int = MAX_REASON_CHARS) -> None:
    """Check words that people and terminals will read.

    Raises:
        ValueError: naming what is wrong with it.
    """
    if not text.strip():
        raise ValueError(f"{what} is empty")
    if len(text) > limit_chars:
        raise ValueError(f"{what} has {len(text)} characters, more than {limit_chars}")
    if not text.isprintable():
        raise ValueError(f"{what} has a character that can't be printed")


def give_to_owner(fd: int, directory: os.stat_result) -> None:
    """Give what root has just made to the owner of the directory it lies in. Raises OSError."""
    if os.geteuid() == 0:
        os.fchown(fd, directory.st_uid, directory.st_gid)


def _make(state_dir: str, path: str) -> None:
    try:
        status = os.stat(state_dir)
        os.mkdir(path, DIRECTORY_MODE)
    except FileExistsError:
        return
    except FileNotFoundError:
        raise ControlError(
            f"{state_dir} does not exist, so that no agent would see an order there",
            hint="Name the agent's state directory with --state-dir, or make it",
        ) from None
    except OSError as error:
        raise _refused(path, "can't be made", error) from None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            give_to_owner(fd, status)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise _refused(path, "can't be given to its owner", error) from None


def _refused(path: str, what: str, error: OSError) -> ControlError:
    refused = failure(path, what, error)
    return ControlError(refused.message, hint=refused.hint)

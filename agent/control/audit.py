"""Who ordered what, when and why: STATE/control/audit.ndj, one JSON object per line.

Law: the line is on disk before the order is, and an order that can't be written down is not given; that an order
failed after its line is told by a second one. The log is bounded: at `MAX_AUDIT_BYTES` it becomes `audit.1.ndj`, and
what that name held before goes.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Mapping

import msgspec

from agent.control.folder import Folder
from agent.errors import ControlError, SnapshotError
from agent.snapshot.files import AbsentError, failure, open_trusted, write_all

AUDIT = "audit.ndj"
AUDIT_BEFORE = "audit.1.ndj"
MAX_AUDIT_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 14
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def who() -> str:
    """Name the person at the keyboard: `root (uid 0), sudo by alice`."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = "nobody known"
    behind = os.environ.get("SUDO_USER", "") if uid == 0 else ""
    is_name = behind.isascii() and behind.isprintable() and len(behind) <= 32  # as long as Linux lets a name be
    return f"{name} (uid {uid})" + (f", sudo by {behind}" if behind and is_name else "")


def record(folder: Folder, what: str, fields: Mapping[str, object], *, now_unix_s: float | None = None) -> None:
    """Append one line; the caller holds the folder's lock.

    Args:
        folder: open.
        what: a word for the order: `override set`.
        fields: its particulars, the reason among them; whatever JSON can say.
        now_unix_s: None: now.

    Raises:
        ControlError: it is not on disk.
    """
    at_s = time.time() if now_unix_s is None else now_unix_s
    row = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s)), "who": who(), "what": what, **fields}
    line = msgspec.json.encode(row) + b"\n"
    path = folder.directory.where(AUDIT)
    if len(line) > MAX_LINE_BYTES:
        raise ControlError(f"{path}: a line of {len(line)} bytes is longer than the {MAX_LINE_BYTES} allowed")
    try:
        fd, before = _open(folder, len(line))
        try:
            write_all(fd, [before + line])
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        refused = failure(path, "can't be written, so the order is not given", error)
        raise ControlError(refused.message, hint=refused.hint) from None
    except SnapshotError as error:
        raise ControlError(error.message, hint=error.hint) from None


def read(folder: Folder) -> list[dict[str, object]]:
    """Read what is held, oldest first; a line that is none is left out.

    Raises:
        ControlError: it must not be believed, or can't be read.
    """
    rows: list[dict[str, object]] = []
    for name in (AUDIT_BEFORE, AUDIT):
        try:
            raw = folder.read_bytes(name, MAX_AUDIT_BYTES + MAX_LINE_BYTES)
        except AbsentError:
            continue
        for line in raw.splitlines():
            try:
                rows.append(msgspec.json.decode(line, type=dict[str, object]))
            except (msgspec.MsgspecError, RecursionError):
                continue
    return rows


def _open(folder: Folder, more_bytes: int) -> tuple[int, bytes]:
    """Open the log where a line has room; gives what is to stand before the line. Raises OSError, SnapshotError."""
    directory = folder.directory
    try:
        # A name that is there is checked like any other document before it is written to.
        checked, status = open_trusted(directory.where(AUDIT), AUDIT, directory.fd, directory.owners, 1 << 62)
    except AbsentError:
        return _create(folder), b""
    try:
        last = os.pread(checked, 1, status.st_size - 1) if status.st_size else b"\n"
    finally:
        os.close(checked)
    if status.st_size + more_bytes > MAX_AUDIT_BYTES:
        os.rename(AUDIT, AUDIT_BEFORE, src_dir_fd=directory.fd, dst_dir_fd=directory.fd)
        return _create(folder), b""
    # Whoever was killed in the middle of a line takes that line with them, not the next.
    return os.open(AUDIT, _APPEND, dir_fd=directory.fd), b"" if last == b"\n" else b"\n"


def _create(folder: Folder) -> int:
    fd = folder.directory.create(AUDIT)
    os.fsync(folder.directory.fd)
    return fd

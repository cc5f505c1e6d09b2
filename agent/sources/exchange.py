"""What the reader process and the file source say to each other over a pipe.

Law: neither end trusts the other. Every message has one shape and named bounds, the parent checks both before it
uses a byte, and whatever doesn't fit ends the reading, never the agent.

A frame is `u32 length (little endian) | msgpack`; the reader sends any number of `Objects` and `Skips`, then one
of `Done`, `Same`, `Changed` or `Failed`, and ends.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from agent.cluster.objects import (
    ENDPOINT_SLICE,
    NAMESPACE,
    SERVICE,
    Skipped,
    Stored,
    unpack_namespace,
    unpack_service,
    unpack_slice,
)
from agent.cluster.selection import EVERYTHING, Selection
from agent.errors import SourceError

FRAME_GOAL_BYTES = 32 * 1024
"""Objects are gathered up to this size: about 0.3 ms of the parent's time."""
MAX_FRAME_BYTES = 4 * 1024 * 1024
MAX_BLOB_BYTES = 2 * 1024 * 1024
MAX_KEY_CHARS = 2 * 253 + 1
MAX_TEXT_CHARS = 1_000
MAX_SKIPS_NAMED = 1_000
"""Objects left out that are named one by one; the rest is only counted."""
MAX_OBJECTS = 5_000_000
LENGTH_BYTES = 4


class Mark(NamedTuple):
    """What tells one state of a file from another: its name, times, size and identity."""

    name: str
    mtime_ns: int
    ctime_ns: int
    size: int
    inode: int
    device: int


Marks = tuple[Mark, ...]


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the reader is asked to do; its only argument, as JSON.

    Attributes:
        path: file or folder.
        selection: objects that count.
        known: digest of the content that is held already, "" for none.
        max_bytes: of all files together.
        max_files: of a folder.
        max_memory_bytes: address space of the reader.
        timeout_s: CPU seconds of the reader.
        parent: process id that must be the reader's parent; 0: not checked.
    """

    path: str
    selection: Selection = EVERYTHING
    known: str = ""
    max_bytes: int = 512 * 1024 * 1024
    max_files: int = 1_000
    max_memory_bytes: int = 2 * 1024 * 1024 * 1024
    timeout_s: float = 120.0
    parent: int = 0


class Objects(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Objects that apply, in file order."""

    objects: list[Stored]


class Skips(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Objects that don't apply, and why; at most `MAX_SKIPS_NAMED` in all."""

    skipped: list[Skipped]


class Totals(NamedTuple):
    """Counts of one reading: all objects sent (the replaced ones too), left out, of other kinds, given twice."""

    files: int = 0
    size_bytes: int = 0
    objects: int = 0
    skipped: int = 0
    ignored: int = 0
    replaced: int = 0
    cpu_ms: int = 0
    peak_rss_kib: int = 0


class Done(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Everything was read; `marks` are those of the very files that were read."""

    digest: str
    identity: str
    marks: Marks
    totals: Totals


class Same(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The content is the known one."""

    digest: str
    marks: Marks


class Changed(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The files changed while they were read; nothing of this reading may be used."""

    name: str


class Failed(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The files can't be used; the reason is for people."""

    reason: str
    hint: str


Message = Objects | Skips | Done | Same | Changed | Failed

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def frame(message: Message) -> bytes:
    """Encode one message with its length."""
    payload = _ENCODER.encode(message)
    return len(payload).to_bytes(LENGTH_BYTES, "little") + payload


def frame_length(head: bytes) -> int:
    """Read the length of a frame.

    Raises:
        SourceError: it is out of bounds.
    """
    length = int.from_bytes(head, "little")
    if not 0 < length <= MAX_FRAME_BYTES:
        raise SourceError(f"the reader sent a message of {length} bytes, which can't be")
    return length


def parse(payload: bytes) -> Message:
    """Decode and check one message.

    Raises:
        SourceError: its shape or one of its values is out of bounds.
    """
    try:
        message = _DECODER.decode(payload)
        if isinstance(message, Objects):
            for stored in message.objects:
                _check_stored(stored)
        elif isinstance(message, Skips):
            for skipped in message.skipped:
                _check_texts(*skipped)
        elif isinstance(message, Failed):
            _check_texts(message.reason, message.hint)
        elif isinstance(message, Changed):
            _check_texts(message.name)
        elif isinstance(message, Done):
            _check_texts(message.digest, message.identity, *(mark.name for mark in message.marks))
        else:
            _check_texts(message.digest, *(mark.name for mark in message.marks))
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise SourceError(f"the reader sent something that is not a message: {plain(str(error))}") from None
    return message


def _check_stored(stored: Stored) -> None:
    kind, key, owner, blob = stored
    if len(key) > MAX_KEY_CHARS or len(owner) > MAX_KEY_CHARS or len(blob) > MAX_BLOB_BYTES:
        raise ValueError("an object is larger than any object can be")
    if kind == SERVICE:
        service = unpack_service(blob)
        named = (f"{service.namespace}/{service.name}",) * 2
    elif kind == ENDPOINT_SLICE:
        part = unpack_slice(blob)
        named = (f"{part.namespace}/{part.name}", f"{part.namespace}/{part.service}")
    elif kind == NAMESPACE:
        named = (unpack_namespace(blob).name,) * 2
    else:
        raise ValueError("an object of a kind that was not asked for")
    if named != (key, owner):
        raise ValueError("an object's key is not its name")


def _check_texts(*texts: str) -> None:
    for text in texts:
        if len(text) > MAX_TEXT_CHARS or not text.isprintable():
            raise ValueError("a text that is too long or not printable")


def plain(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    """Make foreign text fit for a log line: bounded, and a question mark for what can't be printed."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)

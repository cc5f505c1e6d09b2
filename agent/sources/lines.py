"""Lines of a watch stream, bounded.

Law: bytes in, lines out; never more than `limit_bytes` of an unfinished line are held. A longer line is dropped as it
comes and only its head is kept, so that it can be named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

HEAD_BYTES = 2_048
"""How much of a giant line is kept: name and namespace stand at the front of every object."""
_NAME = re.compile(rb'"name":"([^"\\]{1,253})"')
_NAMESPACE = re.compile(rb'"namespace":"([^"\\]{1,63})"')


class Giant(NamedTuple):
    """A line that was longer than the limit: its first bytes and its length."""

    head: bytes
    size_bytes: int

    def name(self) -> str:
        """Read the object's name off the head, "?" if it isn't there."""
        name, namespace = _NAME.search(self.head), _NAMESPACE.search(self.head)
        parts = [found[1].decode("utf-8", "replace") for found in (namespace, name) if found]
        return "/".join(parts) or "?"


class Lines:
    """Splits a stream into lines.

    Args:
        limit_bytes: longest line that is delivered.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._parts: list[bytes] = []
        self._held_bytes = 0
        self._dropped = b""

    @property
    def held_bytes(self) -> int:
        """Bytes of a line that has no end yet."""
        return self._held_bytes

    def feed(self, chunk: bytes) -> Iterator[bytes | Giant]:
        """Take the next bytes; yield the lines that they complete, without their line ends and without empty ones."""
        *complete, rest = chunk.split(b"\n")
        for piece in complete:
            line = self._finish(piece)
            if line:
                yield line
        if rest:
            self._hold(rest)

    def _hold(self, piece: bytes) -> None:
        self._held_bytes += len(piece)
        if self._dropped:
            return
        self._parts.append(piece)
        if self._held_bytes > self._limit_bytes:
            self._dropped = b"".join(self._parts)[:HEAD_BYTES]
            self._parts.clear()

    def _finish(self, piece: bytes) -> bytes | Giant:
        if self._parts or self._dropped or len(piece) > self._limit_bytes:
            self._hold(piece)
            piece = b"".join(self._parts)
        size_bytes, head = self._held_bytes, self._dropped
        self._parts.clear()
        self._held_bytes, self._dropped = 0, b""
        return Giant(head, size_bytes) if head else piece

"""A page of a list, from bytes to trimmed objects, without holding up the loop.

Law: a page is inflated and cut into objects in a thread (two calls that don't need the interpreter for long), and
trimmed on the loop in slices of `SLICE_BYTES`. Trimmed in a thread, it would cost every query that is answered
meanwhile a wait for the interpreter lock at each system call (docs/decisions/0008).
"""

from __future__ import annotations

import asyncio
import zlib
from typing import NamedTuple

import msgspec

from agent.cluster.objects import UNREADABLE, Page, Skipped, Stored, decode_list
from agent.cluster.selection import Selection
from agent.errors import SourceError

MAX_PAGE_BYTES = 64 * 1024 * 1024
"""Bound of one page of a list, compressed and not. 500 of the largest slices (1,000 endpoints each) are 150 MB: a page
that meets the bound is asked for again in smaller ones."""
SLICE_BYTES = 32 * 1024
"""JSON trimmed between two looks at the loop, 1 ms of work; one object is never split."""


class TooLargeError(SourceError):
    """A page of a list is larger than `MAX_PAGE_BYTES`."""


class _Meta(msgspec.Struct):
    resource_version: str = msgspec.field(default="", name="resourceVersion")
    remaining: int | None = msgspec.field(default=None, name="remainingItemCount")
    continue_token: str | None = msgspec.field(default=None, name="continue")


class _List(msgspec.Struct):
    items: list[msgspec.Raw] | None
    metadata: _Meta = msgspec.field(default_factory=_Meta)


_LIST = msgspec.json.Decoder(_List)


class Sheet(NamedTuple):
    """A page that is cut into objects, each still JSON; `size_bytes` is its JSON altogether."""

    items: list[msgspec.Raw]
    resource_version: str
    continue_token: str
    remaining: int | None
    size_bytes: int


async def read(pieces: list[bytes], encoding: str, kind: str, selection: Selection) -> tuple[Page, int]:
    """Read a page; gives it and the size of its JSON.

    Args:
        pieces: of the body, as received.
        encoding: gzip or nothing.
        kind: of the objects.
        selection: objects that count.

    Raises:
        TooLargeError: it is beyond the bound.
        SourceError: it is no list.
    """
    sheet = await asyncio.to_thread(_cut, pieces, encoding, kind)
    objects: list[Stored] = []
    skipped: list[Skipped] = []
    start = 0
    while start < len(sheet.items):
        end, size_bytes = start, 0
        while end < len(sheet.items) and (end == start or size_bytes < SLICE_BYTES):
            size_bytes += len(memoryview(sheet.items[end]))
            end += 1
        page = decode_list(kind, b'{"items":[' + b",".join(sheet.items[start:end]) + b"]}", selection)
        objects += page.objects
        skipped += page.skipped
        start = end
        await asyncio.sleep(0)
    page = Page(objects, skipped, sheet.resource_version, sheet.continue_token, sheet.remaining)
    return page, sheet.size_bytes


def _cut(pieces: list[bytes], encoding: str, kind: str) -> Sheet:
    body = plain(b"".join(pieces), encoding, MAX_PAGE_BYTES)
    try:
        found = _LIST.decode(body)
    except UNREADABLE as error:
        raise SourceError(f"the list of {kind} objects can't be read: {error}") from None
    meta = found.metadata
    if found.items is None and not meta.resource_version:
        raise SourceError(f"the list of {kind} objects has no items and no resourceVersion")
    return Sheet(found.items or [], meta.resource_version, meta.continue_token or "", meta.remaining, len(body))


def plain(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """Inflate a body.

    Raises:
        TooLargeError: it is larger than `limit_bytes`.
        SourceError: it is cut, broken, or in another encoding than gzip.
    """
    if encoding in {"", "identity"}:
        return body
    if encoding != "gzip":
        raise SourceError(f"the API server compressed by {encoding[:40]!r}, which was not asked for")
    inflater = zlib.decompressobj(wbits=31)
    try:
        text = inflater.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise SourceError(f"a compressed answer is broken: {error}") from None
    if len(text) > limit_bytes:
        raise TooLargeError(f"an answer is larger than {limit_bytes} bytes")
    if not inflater.eof:
        raise SourceError("a compressed answer ends too early")
    return text

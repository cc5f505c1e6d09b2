"""A page of a list, JSON or protobuf, from bytes to trimmed objects, without holding up the loop.

Law: a page is inflated and cut into objects in a thread (two calls that don't need the interpreter for long), and
trimmed on the loop in slices of `SLICE_BYTES`. Trimmed in a thread, it would cost every query that is answered
meanwhile a wait for the interpreter lock at each system call (docs/decisions/0008).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from typing import NamedTuple, cast

import msgspec

from agent.cluster import protobuf
from agent.cluster.objects import UNREADABLE, Page, Skipped, Stored, decode_list, decode_protobuf
from agent.cluster.selection import Selection
from agent.errors import SourceError

MAX_PAGE_BYTES = 64 * 1024 * 1024
"""Bound of one page of a list, compressed and not. 500 of the largest slices (1,000 endpoints each) are 150 MB: a page
that meets the bound is asked for again in smaller ones."""
SLICE_BYTES = 32 * 1024
"""JSON trimmed between two looks at the loop, 1 ms of work; one object is never split."""
PROTOBUF_SLICE_BYTES = 8 * 1024
"""The same of protobuf, which says as much in less than half the bytes and takes longer to read."""


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
    """A page that is cut into objects.

    Attributes:
        items: each still JSON; or where each stands in `body`, which then is protobuf.
        resource_version, continue_token, remaining: of the list.
        body: inflated.
    """

    items: list[msgspec.Raw] | list[tuple[int, int]]
    resource_version: str
    continue_token: str
    remaining: int | None
    body: bytes


async def read(pieces: list[bytes], encoding: str, kind: str, selection: Selection) -> tuple[Page, int]:
    """Read a page; gives it and its size, inflated.

    Args:
        pieces: of the body, as received.
        encoding: gzip or nothing.
        kind: of the objects.
        selection: objects that count.

    Raises:
        TooLargeError: it is beyond the bound.
        SourceError: it is no list.
    """
    sheet = await asyncio.to_thread(cut, pieces, encoding, kind)
    trim = _trim_protobuf if sheet.body.startswith(protobuf.MAGIC) else _trim_json
    objects: list[Stored] = []
    skipped: list[Skipped] = []
    for some, others in trim(sheet, kind, selection):
        objects += some
        skipped += others
        await asyncio.sleep(0)
    page = Page(objects, skipped, sheet.resource_version, sheet.continue_token, sheet.remaining)
    return page, len(sheet.body)


Trimmed = Iterator[tuple[list[Stored], list[Skipped]]]


def _trim_json(sheet: Sheet, kind: str, selection: Selection) -> Trimmed:
    items, start = cast("list[msgspec.Raw]", sheet.items), 0
    while start < len(items):
        end, size_bytes = start, 0
        while end < len(items) and (end == start or size_bytes < SLICE_BYTES):
            size_bytes += len(memoryview(items[end]))
            end += 1
        page = decode_list(kind, b'{"items":[' + b",".join(items[start:end]) + b"]}", selection)
        yield page.objects, page.skipped
        start = end


def _trim_protobuf(sheet: Sheet, kind: str, selection: Selection) -> Trimmed:
    objects: list[Stored] = []
    skipped: list[Skipped] = []
    size_bytes = 0
    for start, end in cast("list[tuple[int, int]]", sheet.items):
        found = decode_protobuf(kind, sheet.body, start, end, selection)
        if isinstance(found, Stored):
            objects.append(found)
        elif found is not None:
            skipped.append(found)
        size_bytes += end - start
        if size_bytes >= PROTOBUF_SLICE_BYTES:
            yield objects, skipped
            objects, skipped, size_bytes = [], [], 0
    yield objects, skipped


def cut(pieces: list[bytes], encoding: str, kind: str) -> Sheet:
    """Inflate a page and cut it into objects; raises like `read`."""
    body = plain(b"".join(pieces), encoding, MAX_PAGE_BYTES)
    try:
        if body.startswith(protobuf.MAGIC):
            return Sheet(*protobuf.cut(body), body)
        found = _LIST.decode(body)
    except (protobuf.BrokenError, *UNREADABLE) as error:
        raise SourceError(f"the list of {kind} objects can't be read: {error}") from None
    meta = found.metadata
    if found.items is None and not meta.resource_version:
        raise SourceError(f"the list of {kind} objects has no items and no resourceVersion")
    return Sheet(found.items or [], meta.resource_version, meta.continue_token or "", meta.remaining, body)


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

"""JSON as kubectl prints it: a List, a typed list, one object, or an array of objects.

Law: the text is parsed once as a whole, so a cut or damaged file gives an error with its place and nothing else;
then each item stands for itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from agent.cluster.objects import NAMESPACE, Page, Skipped, decode_list
from agent.cluster.selection import EVERYTHING
from agent.errors import SourceError
from agent.sources.exchange import plain
from agent.sources.harvest import Harvest, wanted

BATCH_OBJECTS = 256
BATCH_BYTES = 4 * 1024 * 1024
_BYTE = re.compile(r" ?\(byte (\d+)\)")


class _Top(msgspec.Struct):
    kind: str = ""
    items: list[msgspec.Raw] | msgspec.UnsetType | None = msgspec.UNSET
    message: str | None = None


class _Item(msgspec.Struct):
    kind: str = ""
    api_version: str = msgspec.field(default="", name="apiVersion")


_TOP = msgspec.json.Decoder(_Top)
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_ITEM = msgspec.json.Decoder(_Item)


def read_json(body: bytes, name: str, harvest: Harvest) -> None:
    """Take all objects of one JSON file.

    Args:
        body: the whole file, without a byte order mark.
        name: of the file, for people.
        harvest: takes what is found.

    Raises:
        SourceError: the text as a whole can't be used; says where it breaks.
    """
    try:
        if body.lstrip()[:1] == b"[":
            kind, items = "List", _ARRAY.decode(body)
        else:
            kind, items = _top_level(body, name)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _in_words(body, name, str(error)) from None
    except RecursionError:
        raise SourceError(f"{name} is nested too deeply to be a list of Kubernetes objects") from None
    _Sorter(harvest, "" if kind == "List" else kind.removesuffix("List")).take(items)


def _top_level(body: bytes, name: str) -> tuple[str, list[msgspec.Raw]]:
    top = _TOP.decode(body)
    if top.kind == "Status":
        raise status_in_words(name, top.message)
    if top.items is not msgspec.UNSET:
        if not top.kind.endswith("List"):
            raise SourceError(f"{name} has items, but its kind {plain(top.kind, 80)!r} is not a list's")
        return top.kind, top.items or []
    if not top.kind:
        raise SourceError(f"{name} has no kind", hint="It must hold a Kubernetes List or objects")
    if top.kind.endswith("List"):
        raise SourceError(f"{name} is a {plain(top.kind, 80)} without items")
    return "List", [msgspec.Raw(body)]


def status_in_words(name: str, message: object) -> SourceError:
    """Say that a file holds an API server's error instead of objects."""
    told = f": {plain(message, 200)}" if isinstance(message, str) and message else ""
    return SourceError(f"{name} holds an error answer of an API server, no objects{told}")


class _Sorter:
    """Sorts items by kind into batches; the order within a kind is kept."""

    def __init__(self, harvest: Harvest, implied: str) -> None:
        self._harvest = harvest
        self._implied = implied
        self._batches: dict[str, list[tuple[int, msgspec.Raw]]] = {}
        self._sizes: dict[str, int] = {}

    def take(self, items: Sequence[msgspec.Raw]) -> None:
        for number, raw in enumerate(items, 1):
            try:
                item = _ITEM.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self._harvest.leave_out(Skipped(self._implied or "?", f"item {number}", str(error)))
                continue
            kind = item.kind or self._implied
            if wanted(kind, item.api_version):
                self._add(kind, number, raw)
            elif kind:
                self._harvest.ignored += 1
            else:
                self._harvest.leave_out(Skipped("?", f"item {number}", "has no kind"))
        for kind, batch in self._batches.items():
            self._apply(kind, batch)

    def _add(self, kind: str, number: int, raw: msgspec.Raw) -> None:
        batch = self._batches.setdefault(kind, [])
        batch.append((number, raw))
        self._sizes[kind] = self._sizes.get(kind, 0) + len(memoryview(raw))
        if len(batch) >= BATCH_OBJECTS or self._sizes[kind] >= BATCH_BYTES:
            self._apply(kind, batch)
            self._batches[kind], self._sizes[kind] = [], 0

    def _apply(self, kind: str, batch: list[tuple[int, msgspec.Raw]]) -> None:
        page = self._decode(kind, (raw for _, raw in batch))
        if any(_is_nameless(skipped) for skipped in page.skipped):
            # An object without a name is named by its place, which only a decoding one by one can tell.
            pages = [(number, self._decode(kind, (raw,))) for number, raw in batch]
            skips = [(number, skipped) for number, single in pages for skipped in single.skipped]
        else:
            skips = [(0, skipped) for skipped in page.skipped]
        for number, skipped in skips:
            self._harvest.leave_out(skipped._replace(name=f"item {number}") if _is_nameless(skipped) else skipped)
        if kind == NAMESPACE:
            self._harvest.look_for_identity(decode_list(kind, _as_list(raw for _, raw in batch), EVERYTHING).objects)
        self._harvest.take(page.objects)

    def _decode(self, kind: str, raws: Iterable[msgspec.Raw]) -> Page:
        return decode_list(kind, _as_list(raws), self._harvest.selection)


def _is_nameless(skipped: Skipped) -> bool:
    return not skipped.name.strip("?/")


def _as_list(raws: Iterable[msgspec.Raw]) -> bytes:
    return b'{"items":[%b]}' % b",".join(raws)


def _in_words(body: bytes, name: str, problem: str) -> SourceError:
    if "truncated" in problem:
        return SourceError(
            f"{name} ends after {len(body)} bytes in the middle of its JSON",
            hint="It looks half-written: write beside it and rename",
        )
    found = _BYTE.search(problem)
    if found is None:
        return SourceError(f"{name} can't be used: {plain(problem, 200)}")
    told = _BYTE.sub("", problem).replace("JSON is malformed: ", "")
    return SourceError(f"{name}, {place(body, int(found[1]))}: not valid JSON, {plain(told, 200)}")


def place(body: bytes, offset: int) -> str:
    """Say where a byte stands: line and column as an editor counts them, and its offset."""
    line = body.count(b"\n", 0, offset) + 1
    column = offset - body.rfind(b"\n", 0, offset)
    return f"line {line}, column {column} (byte {offset})"

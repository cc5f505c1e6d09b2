"""YAML as kubectl prints it or people write it: Lists, typed lists, and any number of documents of one object each.

Law: the text is read as a stream of events and one item at a time, so a large file costs no more memory than its
largest object; nesting, anchors and what aliases expand to are bounded; no tag makes anything but plain values.

Scalars follow the core schema of YAML 1.2 (section 10.3): `no` and `on` are words, as nobody who names a namespace
`no` means false.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml
from yaml import events

from agent.cluster.objects import NAMESPACE, Skipped, Stored, decode_object
from agent.errors import SourceError
from agent.sources.exchange import plain
from agent.sources.harvest import Harvest, wanted
from agent.sources.json_documents import place, status_in_words

MAX_DEPTH = 100
MAX_ANCHORS = 10_000
MAX_ALIASED_VALUES = 100_000
"""Values that all aliases of one document may stand for, counted as if they were written out."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE = "tag:yaml.org,2002:"
_COLLECTION_TAGS = frozenset({None, "!", _CORE + "map", _CORE + "seq"})
_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMERIC_START = frozenset("0123456789+-.")
_INTEGER = re.compile(r"[-+]?[0-9]{1,20}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)", re.ASCII)


def read_yaml(body: bytes, name: str, harvest: Harvest) -> None:
    """Take all objects of one YAML file; arguments and errors as of `read_json`."""
    try:
        loader = _LOADER(body)
        try:
            _Documents(loader.get_event, name, harvest).read()
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        where = place(body, error.position if isinstance(error.position, int) else 0)
        raise SourceError(f"{name}, {where}: not text in UTF-8, {plain(str(error.reason), 200)}") from None
    except yaml.MarkedYAMLError as error:
        told = ", ".join(part for part in (error.context, error.problem) if part)
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SourceError(f"{name}{where}: not valid YAML, {plain(told, 200)}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise SourceError(f"{name} can't be read as YAML: {plain(str(error), 200)}") from None


class _Documents:
    """Composes plain values from the parser's events."""

    def __init__(self, next_event: Callable[[], Any], name: str, harvest: Harvest) -> None:
        self._next = next_event
        self._name = name
        self._harvest = harvest
        self._number = 0
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._values = self._aliased = 0

    def read(self) -> None:
        while True:
            event = self._next()
            if event is None or type(event) is events.StreamEndEvent:
                return
            if type(event) is events.DocumentStartEvent:
                self._number += 1
                self._anchors, self._values, self._aliased = {}, 0, 0
                self._document(self._next())

    def _document(self, event: Any) -> None:
        if type(event) is events.ScalarEvent and not event.value:
            return  # nothing between two --- lines
        if type(event) is events.SequenceStartEvent:
            for line, value in self._items():
                self._object(line, value)
            return
        if type(event) is not events.MappingStartEvent:
            raise self._error(event, "is not a Kubernetes object")
        pending: list[tuple[int, Any]] | None = None
        top: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while type(key := self._next()) is not events.MappingEndEvent:
            first = self._next()
            if type(first) is events.SequenceStartEvent and self._key(key) == "items":
                pending = (pending or []) + self._items()
            else:
                self._put(top, merged, key, self._value(first, 1))
        self._finish(event, {**merged, **top}, pending)

    def _finish(self, start: Any, top: dict[str, Any], pending: list[tuple[int, Any]] | None) -> None:
        kind = top.get("kind")
        if kind == "Status":
            raise status_in_words(self._name, top.get("message"))
        if not isinstance(kind, str) or not kind:
            cut = " (if it was printed by kubectl, it is half-written)" if pending is not None else ""
            raise self._error(start, f"has no kind{cut}")
        is_list = kind.endswith("List") and ("items" in top or pending is not None)
        if pending is not None and not is_list:
            raise self._error(start, f"has items, but its kind {plain(kind, 80)!r} is not a list's")
        if not is_list:
            self._object(start.start_mark.line + 1, top)
        elif top.get("items") is not None:
            raise self._error(start, "has items that are not a list")
        for line, value in pending or ():
            value["kind"] = kind.removesuffix("List")
            self._object(line, value)

    def _items(self) -> list[tuple[int, Any]]:
        """Take the items of a list; those without a kind wait for the list's, which may come after them."""
        pending = []
        while type(event := self._next()) is not events.SequenceEndEvent:
            line = event.start_mark.line + 1
            value = self._value(event, 2)
            if isinstance(value, dict) and not value.get("kind"):
                pending.append((line, dict(value)))
            else:
                self._object(line, value)
        return pending

    def _object(self, line: int, value: Any) -> None:
        harvest = self._harvest
        if isinstance(value, dict):
            kind, version = value.get("kind"), value.get("apiVersion", "")
            if not kind or not isinstance(kind, str) or not isinstance(version, str):
                harvest.leave_out(Skipped("?", f"line {line}", "kind or apiVersion is missing or not a text"))
                return
            if not wanted(kind, version):
                harvest.ignored += 1
                return
        found = decode_object(value, harvest.selection)
        if isinstance(found, Skipped):
            harvest.leave_out(found._replace(name=f"line {line}") if found.name == "?" else found)
            return
        if isinstance(value, dict) and value.get("kind") == NAMESPACE:
            whole = decode_object(value)
            harvest.look_for_identity([whole] if isinstance(whole, Stored) else [])
        if found is not None:
            harvest.take((found,))

    def _value(self, event: Any, depth: int) -> Any:
        kind = type(event)
        if kind is events.AliasEvent:
            return self._alias(event)
        before = self._values
        self._values += 1
        if kind is events.ScalarEvent:
            value = self._scalar(event)
        elif depth > MAX_DEPTH:
            raise self._error(event, f"is nested more than {MAX_DEPTH} levels deep")
        elif event.tag not in _COLLECTION_TAGS:
            raise self._error(event, f"has a tag {plain(event.tag, 80)!r} that no Kubernetes object has")
        elif kind is events.MappingStartEvent:
            value = self._mapping(depth)
        else:
            value = []
            while type(item := self._next()) is not events.SequenceEndEvent:
                value.append(self._value(item, depth + 1))
        if event.anchor is not None:
            if len(self._anchors) >= MAX_ANCHORS:
                raise self._error(event, f"has more than {MAX_ANCHORS} anchors")
            self._anchors[event.anchor] = (value, self._values - before)
        return value

    def _mapping(self, depth: int) -> dict[str, Any]:
        value: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while type(key := self._next()) is not events.MappingEndEvent:
            self._put(value, merged, key, self._value(self._next(), depth + 1))
        return {**merged, **value} if merged else value

    def _put(self, into: dict[str, Any], merged: dict[str, Any], event: Any, value: Any) -> None:
        key = self._key(event)
        if key != "<<" or not event.implicit[0]:
            into[key] = value
            return
        for part in reversed(value) if isinstance(value, list) else (value,):
            if not isinstance(part, dict):
                raise self._error(event, "merges (<<) what is not a mapping")
            merged.update(part)

    def _key(self, event: Any) -> str:
        if type(event) is not events.ScalarEvent:
            raise self._error(event, "has a key that is not a word")
        key: str = event.value
        return key

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            raise self._error(event, f"uses *{plain(event.anchor, 80)} before &{plain(event.anchor, 80)} is complete")
        value, size = self._anchors[event.anchor]
        self._values += size
        self._aliased += size
        if self._aliased > MAX_ALIASED_VALUES:
            raise self._error(event, f"expands to more than {MAX_ALIASED_VALUES} values by its aliases")
        return value

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        tag = event.tag
        if not event.implicit[0]:
            if tag is None or tag in {"!", _CORE + "str"}:
                return text
            if tag not in {_CORE + "null", _CORE + "bool", _CORE + "int", _CORE + "float"}:
                raise self._error(event, f"has a tag {plain(tag, 80)!r} that no Kubernetes object has")
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text[0] in _NUMERIC_START:
            if _INTEGER.fullmatch(text):
                return int(text)
            if _FLOAT.fullmatch(text):
                return float(text)
        return text

    def _error(self, event: Any, problem: str) -> SourceError:
        mark = event.start_mark
        document = f" (document {self._number})" if self._number > 1 else ""
        return SourceError(f"{self._name}, line {mark.line + 1}, column {mark.column + 1}{document}: {problem}")

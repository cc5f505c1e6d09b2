"""Watch events, from bytes to changes for the sink.

Law: the position moves only past what the sink has taken. A line that is no event, or one that is older than the one
before, ends the watch, after everything before it was applied.
"""

from __future__ import annotations

import asyncio

from agent.cluster.objects import Event, Stored, decode_event
from agent.cluster.selection import Selection
from agent.errors import SourceError
from agent.sources import Sink
from agent.sources.api import MAX_MESSAGE, GoneError, RejectedError, Resource, is_older
from agent.sources.counters import Counters
from agent.sources.lines import Giant, Lines
from agent.sources.pages import SLICE_BYTES

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""Longest watch event that is read. etcd takes objects of up to 1.5 MiB; JSON and managed fields make it more."""
CHANGES = frozenset({"ADDED", "MODIFIED", "DELETED"})
OVERLOAD = frozenset({429, 500, 503, 504})


class GarbledError(SourceError):
    """A line that is no event."""


class DisorderError(SourceError):
    """Events came in an order that can't be: something is missing."""


class Events:
    """Takes in one watch.

    Args:
        resource: what is watched.
        sink: told of changes, bookmarks and skipped objects.
        selection: objects that count.
        counters: what happened.
        position: where the watch began.
    """

    def __init__(self, resource: Resource, sink: Sink, selection: Selection, counters: Counters, position: str) -> None:
        self.position = position
        self._resource = resource
        self._sink = sink
        self._selection = selection
        self._counters = counters
        self._lines = Lines(MAX_EVENT_BYTES)
        self._changes: list[tuple[str, Stored | None]] = []

    @property
    def is_mid_line(self) -> bool:
        """Whether the last line has no end yet."""
        return self._lines.held_bytes > 0

    async def take(self, chunk: bytes) -> bool:
        """Take in the lines that `chunk` completes; tell whether there were any.

        Raises:
            GarbledError, DisorderError, GoneError, RejectedError: the watch is over; what came before is applied.
            SourceError: as above, or from the sink, which then has not taken what lies behind the position.
        """
        position, taken, since_bytes = self.position, 0, 0
        try:
            for line in self._lines.feed(chunk):
                taken += 1
                if isinstance(line, Giant):
                    self._counters.giant += 1
                    self._skip(line.name(), f"its event of {line.size_bytes} bytes is longer than {MAX_EVENT_BYTES}")
                    continue
                event = self._decode(line, position)
                position = event.resource_version or position
                self._sort(event, position)
                since_bytes += len(line)
                if since_bytes >= SLICE_BYTES:
                    since_bytes = 0
                    self._apply(position)
                    await asyncio.sleep(0)
        except (GarbledError, DisorderError, GoneError, RejectedError):
            self._apply(position)
            raise
        self._apply(position)
        return taken > 0

    def _sort(self, event: Event, position: str) -> None:
        if event.type == "BOOKMARK":
            self._apply(position)
            self._counters.bookmarks += 1
            self._sink.confirm(self._resource.kind, position)
        elif event.skipped is not None:
            # What is held of this object stays: a field that can't be used is no reason to forget it.
            self._skip(event.skipped.name, event.skipped.reason)
        else:
            self._changes.append((event.key, event.stored))

    def _decode(self, line: bytes, position: str) -> Event:
        name = self._resource.name
        try:
            event = decode_event(self._resource.kind, line, self._selection)
        except SourceError as error:
            raise GarbledError(str(error)) from None
        if event.type == "ERROR":
            what = f"the API server ended the watch of {name}: {event.message[:MAX_MESSAGE]} ({event.code})"
            if event.code == 410:
                raise GoneError(what)
            if event.code in OVERLOAD:
                raise RejectedError(what, code=event.code, retry_after_s=event.retry_after_s)
            raise GarbledError(what)
        if event.type != "BOOKMARK" and event.type not in CHANGES:
            raise GarbledError(f"a watch event of {name} has the unknown type {event.type[:40]!r}")
        if is_older(event.resource_version, position):
            raise DisorderError(
                f"a watch event of {name} has resourceVersion {event.resource_version} and comes after {position}"
            )
        return event

    def _apply(self, position: str) -> None:
        changes, self._changes = self._changes, []
        if changes:
            self._sink.apply(self._resource.kind, changes, position)
            self._counters.events += len(changes)
        self.position = position

    def _skip(self, name: str, reason: str) -> None:
        self._counters.skipped += 1
        self._sink.skipped(self._resource.kind, name, reason)

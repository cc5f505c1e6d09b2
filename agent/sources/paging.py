"""A full set of one kind, page by page.

Law: pages are decoded as they come and only trimmed objects are kept. What is asked for can be answered from the API
server's watch cache; the size of a page follows the size of the objects, so that memory stays bounded.

What the API server of 1.37 does with each form of a list: docs/decisions/0010.
"""

from __future__ import annotations

from typing import NamedTuple

from agent.cluster.objects import Stored
from agent.cluster.selection import Selection
from agent.errors import SourceError
from agent.sources import Sink
from agent.sources.api import Query, Resource
from agent.sources.counters import Counters
from agent.sources.gate import Gate
from agent.sources.pages import TooLargeError

PAGE_OBJECTS = 500
MIN_PAGE_OBJECTS = 10
HEAL_PAGE_OBJECTS = 1_000
"""A list that heals takes larger pages: half the requests, so that its hour stays within the budget of 20."""
LARGE_PAGE_BYTES = 8 * 1024 * 1024
"""After a page of more JSON than this the next ones are asked for at half the size."""
MAX_OBJECTS = 2_000_000
"""Bound of one list, objects; a server whose pages never end is not listened to."""
MAX_PAGES = 20_000
ANY_POSITION = "1"
"""Asked for with `NotOlderThan` when nothing is held: any state that the watch cache has will do, the watch brings it
up to date. "0" would mean the same, but then the server ignores the limit; "" makes it ask etcd."""


class FullSet(NamedTuple):
    """All objects of one kind, and the position to watch from."""

    objects: list[Stored]
    position: str


class Paging:
    """Lists one kind.

    Args:
        resource: what to list.
        gate: the door to the API servers.
        sink: told of skipped objects.
        selection: objects that count.
        counters: what happened.
    """

    def __init__(self, resource: Resource, gate: Gate, sink: Sink, selection: Selection, counters: Counters) -> None:
        self.page_objects = PAGE_OBJECTS
        self._resource = resource
        self._gate = gate
        self._sink = sink
        self._selection = selection
        self._counters = counters

    async def fetch(self, position: str, epoch: int, *, is_healing: bool) -> FullSet:
        """Fetch every page.

        Args:
            position: the set must not be older than this; "" for any that is at hand, "latest" for the most recent.
            epoch: see `Gate.watch`.
            is_healing: larger pages.

        Raises:
            GoneError: the server forgot this list while it was being read.
            SourceError: no full set; see `sources.api` for the classes.
        """
        limit = min(2 * self.page_objects, HEAL_PAGE_OBJECTS) if is_healing else self.page_objects
        query: Query = [("limit", str(limit))]
        if position != "latest":
            query += [("resourceVersion", position or ANY_POSITION), ("resourceVersionMatch", "NotOlderThan")]
        objects: list[Stored] = []
        listed_at = ""
        for _ in range(MAX_PAGES):
            try:
                fetched = await self._gate.page(self._resource, query, self._selection, epoch)
            except TooLargeError:
                self.page_objects = max(MIN_PAGE_OBJECTS, limit // 4)
                raise
            page = fetched.page
            self._counters.pages += 1
            listed_at = listed_at or page.resource_version
            objects += page.objects
            for _kind, name, reason in page.skipped:
                self._counters.skipped += 1
                self._sink.skipped(self._resource.kind, name, reason)
            if not page.continue_token:
                break
            if fetched.size_bytes > LARGE_PAGE_BYTES:
                self.page_objects = limit = max(MIN_PAGE_OBJECTS, limit // 2)
            if len(objects) > MAX_OBJECTS:
                raise SourceError(f"the list of {self._resource.name} is longer than {MAX_OBJECTS} objects")
            query = [("limit", str(limit)), ("continue", page.continue_token)]
        else:
            raise SourceError(f"the list of {self._resource.name} has more than {MAX_PAGES} pages")
        if not listed_at.isdigit():
            raise SourceError(f"the list of {self._resource.name} names no resourceVersion to watch from")
        return FullSet(objects, listed_at)

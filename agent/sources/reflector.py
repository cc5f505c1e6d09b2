"""One kind, followed for ever: a paged list, then a watch from where the list ended.

Law: the position only ever names a state that the sink has been given in full. A watch is taken up from it whatever
ended the one before; a list is spent only when there is no position, the server forgot it (410), the order of events
broke, or it is time to heal a gap nobody saw.

Source: Kubernetes API concepts, "Efficient detection of changes", "Watch bookmarks", "Resource versions"; what the API
server of 1.37 does in each case: docs/decisions/0010.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import NamedTuple

from agent.cluster.selection import Selection
from agent.errors import SourceError
from agent.sources import Sink
from agent.sources.api import (
    Answer,
    BehindError,
    ClusterChangedError,
    CredentialsError,
    GoneError,
    RejectedError,
    Resource,
    SilentError,
    UnreachableError,
)
from agent.sources.counters import Counters
from agent.sources.events import DisorderError, Events, GarbledError
from agent.sources.following import Following
from agent.sources.gate import OF_ONE_KIND, Gate
from agent.sources.pacing import Backoff, Clock, Healing, Timing
from agent.sources.pages import TooLargeError
from agent.sources.paging import MIN_PAGE_OBJECTS, Paging

TRIES_BEHIND = 3
"""Lists that found the server behind what is held, before its most recent state is asked for."""
TRIES_GARBLED = 3
"""Watches that broke at the same position, before a list is spent."""
TRIES_SILENT = 2
"""Watches without a single line, before a list is spent: from a position that the server has not reached (a cluster
restored from a backup) a watch is silent for ever."""

_log = logging.getLogger("nodens.source.kubernetes")


class BrokenError(SourceError):
    """A watch that ended before its time, or in the middle of something."""


class IdleError(SourceError):
    """A watch that said nothing for too long."""


class Shared(NamedTuple):
    """What the reflectors of one source have in common.

    Attributes:
        gate: the door to the API servers.
        sink: told everything.
        following: adds up the kinds.
        healing: when to list again.
        clock: time.
        timing: spans.
        selection: objects that count.
        list_turn: one list at a time, in the order of the kinds.
        counters: what happened.
    """

    gate: Gate
    sink: Sink
    following: Following
    healing: Healing
    clock: Clock
    timing: Timing
    selection: Selection
    list_turn: asyncio.Lock
    counters: Counters


class Reflector:
    """Follows one kind.

    Args:
        resource: what to list and watch.
        shared: see `Shared`.
        position: where to go on without a list, "" to start with one.
    """

    def __init__(self, resource: Resource, shared: Shared, position: str) -> None:
        self._resource = resource
        self._shared = shared
        self._paging = Paging(resource, shared.gate, shared.sink, shared.selection, shared.counters)
        self._position = position if position.isdigit() else ""
        self._must_list = not self._position
        self._is_healing = False
        self._is_fresh = False
        self._epoch = 0
        self._silent = 0
        self._garbled = 0
        self._behind = 0
        self._backoff = Backoff(shared.timing.backoff_s, shared.timing.backoff_max_s)

    async def run(self) -> None:
        """List and watch for ever; trouble at the API servers is waited out."""
        self._shared.healing.started(self._resource.kind)
        while True:
            try:
                if self._must_list:
                    async with self._shared.list_turn:
                        await self._list()
                await self._watch()
            except SourceError as error:
                await self._recover(error)

    async def _recover(self, error: SourceError) -> None:
        if self._position or not isinstance(error, ClusterChangedError):
            self._shared.following.missed(self._resource.kind, str(error))
            _log.debug("%s: %s", self._resource.name, error)
        if self._is_healing and not isinstance(error, ClusterChangedError):
            # What is held is as good as before: it is followed again, and healed another time.
            self._is_healing = self._must_list = False
            self._shared.healing.started(self._resource.kind)
        elif self._must_wait(error):
            at_least_s = error.retry_after_s if isinstance(error, BehindError) else 0.0
            at_least_s = min(at_least_s, self._shared.timing.retry_after_max_s)
            await self._shared.clock.sleep(self._backoff.next_s(at_least_s=at_least_s))

    def _must_wait(self, error: SourceError) -> bool:
        """Decide what comes next; tell whether it has to wait here (what concerns every kind waits at the gate)."""
        counters = self._shared.counters
        match error:
            case ClusterChangedError():
                self._epoch = self._shared.gate.epoch
                self._position, self._must_list, self._is_healing = "", True, False
                return False
            case GoneError():
                counters.gone += 1
                self._shared.gate.forgotten()
                # No further wait, unless a list itself ran into it: its pages took longer than the server's memory.
                is_list, self._must_list = self._must_list, True
                return is_list
            case DisorderError():
                counters.disordered += 1
                self._must_list = True
            case BehindError():
                counters.behind += 1
                self._behind += 1
            case GarbledError():
                counters.garbled += 1
                self._garbled += 1
                self._must_list = self._garbled >= TRIES_GARBLED
            case BrokenError():
                counters.broken += 1
            case TooLargeError():
                return self._paging.page_objects <= MIN_PAGE_OBJECTS
            case IdleError():
                counters.idle += 1
                return False
            case CredentialsError() | UnreachableError() | SilentError():
                return False
            case RejectedError():
                return error.code in OF_ONE_KIND
        return True

    async def _list(self) -> None:
        shared, kind = self._shared, self._resource.kind
        position = "latest" if self._behind >= TRIES_BEHIND else self._position
        objects, position = await self._paging.fetch(position, self._epoch, is_healing=self._is_healing)
        if not shared.sink.replace(kind, objects, position):
            shared.counters.refused += 1
            name = self._resource.name
            raise BehindError(f"the API server's list of {name} is of {position}, which is older than what is held")
        shared.counters.lists += 1
        shared.counters.healed += self._is_healing
        self._is_fresh = True
        self._position = position
        self._must_list = self._is_healing = False
        self._behind = self._garbled = self._silent = 0
        self._backoff.reset()
        shared.healing.started(kind)

    async def _watch(self) -> None:
        shared, timing = self._shared, self._shared.timing
        timeout_s = random.uniform(timing.watch_min_s, timing.watch_max_s)
        query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(max(1, round(timeout_s)))),
            ("resourceVersion", self._position),
        ]
        answer = await shared.gate.watch(self._resource, query, self._epoch)
        shared.counters.watches += 1
        started_s = shared.clock.now()
        events = Events(self._resource, shared.sink, shared.selection, shared.counters, self._position)
        try:
            await self._read(answer, events)
        except SilentError as error:
            raise BrokenError(f"the watch of {self._resource.name} broke off: {error}") from None
        except RejectedError as error:
            shared.gate.failed(error)
            raise
        finally:
            answer.close()
            has_moved, self._position = events.position != self._position, events.position
            if has_moved:
                self._garbled = 0
            is_worth = has_moved or shared.clock.now() - started_s >= timing.short_s
            if is_worth:
                self._backoff.reset()
        if not is_worth:
            raise BrokenError(f"the API server ends the watch of {self._resource.name} as soon as it begins")
        shared.following.missed(self._resource.kind, f"the watch of {self._resource.name} ended")
        self._must_list = self._is_healing = shared.healing.take(self._resource.kind)

    async def _read(self, answer: Answer, events: Events) -> None:
        """Take in a watch until it ends; the first line, or a moment of silence, shows that it was accepted."""
        timing, kind = self._shared.timing, self._resource.kind
        patience_s, has_spoken = timing.settle_s, False
        if self._is_fresh:
            # The position is moments old: it will not be refused.
            self._is_fresh, patience_s = False, timing.idle_s
            self._shared.following.gained(kind)
        while True:
            try:
                async with asyncio.timeout(patience_s):
                    chunk = await answer.chunk()
            except TimeoutError:
                if patience_s == timing.idle_s:
                    self._fell_silent(has_spoken=has_spoken)
                self._shared.following.gained(kind)
                patience_s = timing.idle_s
                continue
            if not chunk:
                break
            if await events.take(chunk):
                has_spoken, patience_s = True, timing.idle_s
                self._silent = 0
                self._shared.following.gained(kind)
        if events.is_mid_line:
            raise BrokenError(f"the watch of {self._resource.name} ended in the middle of a line")

    def _fell_silent(self, *, has_spoken: bool) -> None:
        if not has_spoken:
            self._silent += 1
            self._must_list = self._silent >= TRIES_SILENT
        idle_s = self._shared.timing.idle_s
        raise IdleError(f"the watch of {self._resource.name} brought neither event nor bookmark for {idle_s:g} s")

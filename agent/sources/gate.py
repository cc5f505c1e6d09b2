"""The one door to the API servers, for every kind.

Law: at most one request waits for its answer at a time; each passes the governor and is accounted for exactly once.
While nothing can be reached, only TCP connects are spent; an overloaded server (429, 5xx, silence) closes the door
for all kinds, for as long as it asked and a random time more. After every return the cluster's identity is checked
before any position is used. What a whole fleet would ask at the same moment, the first request after an outage and a
list because positions were forgotten, waits for the node's own place in the reconnect window.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from agent.cluster.objects import NAMESPACE, Page, unpack_namespace
from agent.cluster.selection import EVERYTHING, Selection
from agent.errors import SourceError
from agent.sources import Access, Sink, pages
from agent.sources.api import (
    Answer,
    Api,
    ClusterChangedError,
    CredentialsError,
    Query,
    RejectedError,
    Resource,
    SilentError,
    UnreachableError,
    rejection,
)
from agent.sources.counters import Counters
from agent.sources.pacing import Backoff, Clock, Governor, Timing, reconnect_delay_s
from agent.sources.pages import TooLargeError

MAX_STATUS_BYTES = 64 * 1024
OF_ONE_KIND = frozenset({400, 403, 404, 405, 409, 413, 422})
"""Statuses that say something about one kind or object only; any other that is no success holds up every request."""
IDENTITY = Resource(NAMESPACE, "namespaces", "/api/v1/namespaces", (("fieldSelector", "metadata.name=kube-system"),))
"""Who this cluster is: the UID of its kube-system namespace, by a list, as the account may not get."""

_log = logging.getLogger("nodens.source.kubernetes")


class Fetched(NamedTuple):
    """A page, and the size of its JSON."""

    page: Page
    size_bytes: int


class Gate:
    """Asks the API servers.

    Args:
        api: the way there.
        sink: told of every request and of the cluster's identity.
        clock: time.
        timing: spans.
        governor: bounds requests per hour.
        counters: what happened.
        known_identity: cluster that the positions held from before belong to.
        node_name: decides this node's place in the reconnect window.
    """

    def __init__(
        self,
        api: Api,
        sink: Sink,
        clock: Clock,
        timing: Timing,
        governor: Governor,
        counters: Counters,
        known_identity: str,
        node_name: str,
    ) -> None:
        self.epoch = 0
        self.identity = known_identity
        self._api = api
        self._sink = sink
        self._clock = clock
        self._timing = timing
        self._governor = governor
        self._counters = counters
        self._slot_s = reconnect_delay_s(node_name, timing.spread_s)
        self._slot_from_s = self._window_ends_s = 0.0
        self._turn = asyncio.Lock()
        self._backoff = Backoff(timing.backoff_s, timing.backoff_max_s)
        self._shut_until_s = 0.0
        self._is_unreachable = False
        self._came_back = False
        self._must_identify = True
        self._has_identified = False
        self._refused_since_s: float | None = None

    async def watch(self, resource: Resource, query: Query, epoch: int) -> Answer:
        """Start a watch.

        Args:
            resource: what to watch.
            query: beside its selectors.
            epoch: the caller's; a position is only used in the epoch that it was learnt in.

        Raises:
            ClusterChangedError: the cluster is another one than the position's.
            SourceError: no watch; see `sources.api` for the classes.
        """
        answer = await self._ask("WATCH", resource, query, epoch)
        self._sink.requested("WATCH", answer.status, 0)
        return answer

    async def page(self, resource: Resource, query: Query, selection: Selection, epoch: int) -> Fetched:
        """Fetch and decode one page of a list; raises like `watch`, and TooLargeError."""
        # Not at the door: watches of the other kinds may pass meanwhile.
        while (wait_s := self._slot_from_s - self._clock.now()) > 0.0:
            await self._clock.sleep(wait_s)
        answer = await self._ask("LIST", resource, query, epoch)
        fetched = await self._finish(answer, resource, selection)
        self._backoff.reset()
        return fetched

    def forgotten(self) -> None:
        """Note that the server forgot a position (410), as a restarted one has for every node at once.

        Lists wait for the node's slot then, unless an outage has just made it wait for that.
        """
        if self._clock.now() >= self._window_ends_s:
            self._take_slot()

    def access(self) -> Access:
        """Tell how the API servers are being asked at the moment."""
        shut_s, slot_s = self._shut_until_s - self._clock.now(), self._slot_from_s - self._clock.now()
        if self._is_unreachable:
            circuit, next_try_s = "unreachable", shut_s
        elif shut_s > 0.0:
            circuit, next_try_s = "open", shut_s
        elif slot_s > 0.0:
            circuit, next_try_s = "slot", slot_s
        else:
            circuit, next_try_s = "closed", 0.0
        bound = self._governor
        budget = (bound.left, bound.burst, bound.per_hour)
        return Access(circuit, max(0.0, next_try_s), *budget, self._slot_s, self._timing.spread_s)

    def failed(self, error: SourceError) -> None:
        """Count a failure that concerns every kind, and close the door for a while."""
        now_s, timing = self._clock.now(), self._timing
        if isinstance(error, UnreachableError) and not self._came_back:
            self._is_unreachable = True
            wait_s = random.uniform(timing.probe_min_s, timing.probe_max_s)
            self._must_identify = True
        elif isinstance(error, RejectedError):
            if error.code == 401:
                self._api.distrust()
            wait_s = self._backoff.next_s(at_least_s=min(error.retry_after_s, timing.retry_after_max_s))
        else:
            # Also when a TCP connect works and the connection after it doesn't: that is silence, not absence.
            wait_s = self._backoff.next_s(longest_s=timing.silent_max_s)
            self._must_identify = True
        self._came_back = False
        self._shut_until_s = max(self._shut_until_s, now_s + wait_s)

    async def create(self, name: str, path: str, value: Mapping[str, Any]) -> None:
        """Create an object.

        Args:
            name: of the resource, for people.
            path: of the collection.
            value: the object.

        Raises:
            SourceError: it was not created, or nobody knows; see `sources.api` for the classes.
        """
        async with self._turn:
            await self._pass()
            if self._must_identify:
                await self._identify()
            answer = await self._exchange("CREATE", name, partial(self._api.post, path, value))
            body = await self._read_status(answer)
            self._sink.requested("CREATE", answer.status, len(body))

    async def _ask(self, verb: str, resource: Resource, query: Query, epoch: int) -> Answer:
        async with self._turn:
            await self._pass()
            if self._must_identify:
                await self._identify()
            if epoch != self.epoch:
                raise ClusterChangedError("the cluster is not the one that the position belongs to")
            return await self._send(verb, resource, query)

    async def _pass(self) -> None:
        while True:
            wait_s = self._shut_until_s - self._clock.now()
            if wait_s > 0.0:
                await self._clock.sleep(wait_s)
            if not self._is_unreachable:
                return
            self._counters.probes += 1
            try:
                await self._api.probe()
            except UnreachableError:
                self._shut_until_s = self._clock.now() + random.uniform(
                    self._timing.probe_min_s, self._timing.probe_max_s
                )
                continue
            self._is_unreachable = False
            self._came_back = True
            # Every node's cache of the past is worth nothing to a restarted API server (410), so that the whole fleet
            # would list at this very moment.
            self._take_slot()
            await self._clock.sleep(self._slot_s)

    def _take_slot(self) -> None:
        now_s = self._clock.now()
        self._slot_from_s = now_s + self._slot_s
        # What is refused from here on until then is still of the same outage.
        self._window_ends_s = self._slot_from_s + self._timing.spread_s + self._timing.answer_s

    async def _send(self, verb: str, resource: Resource, query: Query) -> Answer:
        get = partial(self._api.get, resource.path, [*resource.query, *query], is_watch=verb == "WATCH")
        return await self._exchange(verb, resource.name, get)

    async def _exchange(self, verb: str, name: str, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        await self._governor.take()
        try:
            answer = await ask()
        except (CredentialsError, UnreachableError) as error:
            self.failed(error)
            raise
        except SilentError as error:
            self._sink.requested(verb, 0, 0)
            self.failed(error)
            raise
        if answer.status in {200, 201}:
            self._came_back = False
            if verb == "WATCH":
                # A list has to arrive in full, and who the server is says little about what it can do.
                self._backoff.reset()
            return answer
        body = await self._read_status(answer)
        self._sink.requested(verb, answer.status, len(body))
        refused = rejection(verb, name, answer.status, answer.retry_after_s, body)
        if isinstance(refused, RejectedError) and refused.code not in OF_ONE_KIND:
            self.failed(refused)
        raise refused

    async def _read_status(self, answer: Answer) -> bytes:
        body = b""
        try:
            async with asyncio.timeout(self._timing.answer_s):
                while len(body) < MAX_STATUS_BYTES and (chunk := await answer.chunk()):
                    body += chunk
        except (SilentError, TimeoutError):
            pass  # The status line says enough.
        finally:
            answer.close()
        return body if answer.encoding in {"", "identity"} else b""

    async def _finish(self, answer: Answer, resource: Resource, selection: Selection) -> Fetched:
        received, pieces = 0, []
        try:
            async with asyncio.timeout(self._timing.page_s):
                while chunk := await answer.chunk():
                    received += len(chunk)
                    pieces.append(chunk)
                    if received > pages.MAX_PAGE_BYTES:
                        raise TooLargeError(f"a page of {resource.name} is larger than {pages.MAX_PAGE_BYTES} bytes")
        except TimeoutError:
            error = SilentError(f"a page of {resource.name} was not complete after {self._timing.page_s:g} s")
            self.failed(error)
            raise error from None
        except SilentError as error:
            self.failed(error)
            raise
        finally:
            self._sink.requested("LIST", answer.status, received)
            answer.close()
        return Fetched(*await pages.read(pieces, answer.encoding, resource.kind, selection))

    async def _identify(self) -> None:
        """Learn who the cluster is; a position held from before counts only in the cluster that it belongs to.

        Once that was known nothing goes on before it is known again: a new cluster at the old address may refuse this
        question while its permissions are still being made, and then take an old position for one of its own future.
        """
        unknown = ""
        was_known = self._has_identified and bool(self.identity)
        found = ""
        try:
            answer = await self._send("LIST", IDENTITY, [("resourceVersion", "0")])
            page = (await self._finish(answer, IDENTITY, EVERYTHING)).page
        except RejectedError as error:
            now_s = self._clock.now()
            self._refused_since_s = now_s if self._refused_since_s is None else self._refused_since_s
            # A server that has just started refuses everybody until it has read the roles.
            is_early = now_s - self._refused_since_s < self._timing.identify_s
            if error.code not in OF_ONE_KIND or was_known or is_early:
                raise
            unknown = str(error)
        else:
            found = next((_uid(stored.blob) for stored in page.objects if stored.key == "kube-system"), "")
            unknown = "" if found else "the API server shows no namespace kube-system"
        if was_known and not found:
            silent = SilentError(unknown)
            self.failed(silent)
            raise silent
        self._must_identify = False
        self._refused_since_s = None
        self._settle_identity(found, unknown)

    def _settle_identity(self, found: str, unknown: str) -> None:
        is_first, self._has_identified = not self._has_identified, True
        if found:
            is_another = found != self.identity
            self.identity = found
            if is_first or is_another:
                self._sink.identify(found)
        else:
            # Positions of this very process go on being used, as any client does; those from a disk are not.
            is_another = is_first
            if is_first:
                _log.warning("the cluster's identity can't be learned, so nothing is resumed from disk: %s", unknown)
        if is_another:
            self.epoch += 1


def _uid(blob: bytes) -> str:
    uid = unpack_namespace(blob).uid
    return f"uid:{uid}" if uid else ""

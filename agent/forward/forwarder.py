"""The forwarder: a question of a client becomes an answer from the cache, or one question to an upstream.

Law: one question to an upstream for all who wait for it. What is held is answered at once, stale or not, while a
refresh runs (`stale: immediate`), or stale once the upstreams have had their time (`stale: timeout`). Questions in
flight, clients that wait and what one client may wait for are bounded; over a bound the answer is what is held,
else SERVFAIL. Nobody waits longer than `timeout_s`. Own zones never wait for anything here.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple

from agent.errors import WireError
from agent.forward import health
from agent.forward.cache import Cache
from agent.forward.entry import STALE_TTL_S, Entry, entry_of
from agent.forward.failures import Failures
from agent.forward.fetch import Failure, fetch
from agent.forward.question import Question
from agent.forward.routes import Group, Routes, backoff_s
from agent.forward.shown import PREFETCH_LEAST_TTL_S, PREFETCH_SHARE
from agent.forward.terms import (
    IMMEDIATE,
    LATENCY_BOUNDS_S,
    NOT_ASKED,
    OFF,
    STOPPING,
    Deliver,
    ForwardCounters,
    Options,
    Said,
)
from agent.wire.codes import (
    EDE_NO_REACHABLE_AUTHORITY,
    EDE_OTHER,
    EDE_STALE,
    EDE_STALE_NXDOMAIN,
    NXDOMAIN,
    SERVFAIL,
)

log = logging.getLogger(__name__)

RECHECK_S, LONGEST_RECHECK_S = 30.0, 300.0
"""After a refresh that failed the next one waits this long, doubled each time (RFC 8767 section 5)."""
MARGIN_S = 0.02
"""What gave no answer is to be noted before the client's time is over."""


class _Waiter(NamedTuple):
    client_ip: str
    deliver: Deliver
    since_s: float


class _Flight:
    """One question to an upstream, and who waits for it."""

    __slots__ = ("stale_timer", "waiters")

    def __init__(self) -> None:
        self.waiters: list[_Waiter] = []
        self.stale_timer: asyncio.TimerHandle | None = None


class Forwarder:
    """Answers what no own zone does.

    Args:
        routes: whom to ask; may be replaced at any time (`use`).
        cache: what is held.
        options: how; may be replaced at any time (`options`).
        is_own: tells whether a name is for an own zone to answer.
        clock: monotonic seconds.

    Attributes:
        on_lost: called when the last upstream of a zone was lost.
        counters: see there.
    """

    def __init__(
        self,
        routes: Routes,
        cache: Cache,
        options: Options,
        is_own: Callable[[bytes], bool],
        clock: Callable[[], float],
    ) -> None:
        self.routes = routes
        self.cache = cache
        self.options = options
        self.counters = ForwardCounters()
        self.failures = Failures()
        self.on_lost: Callable[[], None] | None = None
        self._is_own = is_own
        self._clock = clock
        self._flights: dict[Question, _Flight] = {}
        self._waiting = 0
        self._by_client: dict[str, int] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._health = health.Watch(self._found_lost)

    @property
    def in_flight(self) -> int:
        """Questions to upstreams now."""
        return len(self._flights)

    @property
    def waiting(self) -> int:
        """Queries of clients that wait now."""
        return self._waiting

    @property
    def loops(self) -> int:
        """Probes of our own that came back."""
        return self._health.loops

    async def run(self) -> None:
        """Own the questions in flight, and probe upstreams that seem lost; never returns."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await self._health.run(lambda: self.routes, tasks)
        finally:
            self._tasks = None
            self.finish()

    def use(self, routes: Routes) -> None:
        """Ask other upstreams from now on."""
        old, self.routes = self.routes, routes
        old.close()
        self.failures.clear()
        self._health.wake()

    def finish(self) -> None:
        """Answer everybody who waits with what is held, else SERVFAIL: nothing more comes."""
        now_s = self._clock()
        for question, flight in list(self._flights.items()):
            entry = self.cache.find(question, now_s)
            self._settle(flight, self._stale(entry, now_s) if entry is not None else STOPPING)

    def is_probe(self, name: bytes) -> bool:
        """Tell whether a name is one that only our own probe asks for; the upstream it went to then leads to us."""
        return self._health.is_loop(name)

    def ask(self, question: Question, client_ip: str, deliver: Deliver, *, may_ask: bool) -> Said | None:
        """Answer a question, now or later.

        Args:
            question: of a name that no own zone answers.
            client_ip: who asks.
            deliver: called once with the answer if it comes later.
            may_ask: upstreams may be asked (RD); otherwise only the cache is.

        Returns:
            The answer; None: later.
        """
        self.counters.questions += 1
        now_s = self._clock()
        entry = self.cache.find(question, now_s)
        if entry is not None and now_s < entry.expires_s:
            self.cache.counters.hits["fresh"] += 1
            return self._fresh(question, entry, now_s)
        usable = entry if self.options.stale != OFF else None
        if usable is not None and (self.options.stale == IMMEDIATE or not may_ask or now_s < usable.retry_s):
            if may_ask:
                self._refresh(question, usable, now_s, "stale")
            return self._stale(usable, now_s)
        if not may_ask:
            return NOT_ASKED
        return self._wait(question, usable, _Waiter(client_ip, deliver, now_s), now_s)

    def renew(self, question: Question) -> None:
        """Ask for what the data plane has answered by itself: past its time, or shortly before."""
        now_s = self._clock()
        entry = self.cache.find(question, now_s)
        if entry is not None:
            self._refresh(question, entry, now_s, "stale" if now_s >= entry.expires_s else "prefetch")

    def _fresh(self, question: Question, entry: Entry, now_s: float) -> Said:
        left_s = entry.expires_s - now_s
        if self.options.prefetch and left_s < entry.ttl_s * PREFETCH_SHARE and entry.ttl_s >= PREFETCH_LEAST_TTL_S:
            self._refresh(question, entry, now_s, "prefetch")
        return _said(entry, max(1, int(left_s)), None)

    def _stale(self, entry: Entry, now_s: float) -> Said:
        """Answer with what is past its time, or (once a bound is met) with what is held."""
        self.cache.counters.hits["stale"] += now_s >= entry.expires_s
        return self._aged(entry, now_s)

    @staticmethod
    def _aged(entry: Entry, now_s: float) -> Said:
        """Say what is held, marked if it is past its time."""
        if now_s < entry.expires_s:
            return _said(entry, max(1, int(entry.expires_s - now_s)), None)
        code = EDE_STALE_NXDOMAIN if entry.rcode == NXDOMAIN else EDE_STALE
        return _said(entry, STALE_TTL_S, (code, f"expired {int(now_s - entry.expires_s)}s ago"))

    def _refresh(self, question: Question, entry: Entry, now_s: float, why: str) -> None:
        """Ask for what is held once more, unless that failed a while ago; bounds are kept in silence."""
        group = self.routes.of(question.name)
        if question in self._flights or group is None or self._tasks is None:
            return
        if now_s < entry.retry_s and entry.epoch == group.recoveries:
            return
        if len(self._flights) >= self.options.max_in_flight:
            self.counters.over["in_flight"] += 1
            return
        self.counters.refreshes[why] += 1
        self._fly(question, group)

    def _wait(self, question: Question, usable: Entry | None, waiter: _Waiter, now_s: float) -> Said | None:
        """Have a client wait for a question in flight, or for a new one."""
        self.cache.counters.misses += usable is None
        held = self.failures.find(question, now_s)
        if held is not None:
            self.counters.failures_held += 1
            return Said(held.rcode, error=held.error)
        flight = self._flights.get(question)
        over = self._over(waiter.client_ip, is_new=flight is None)
        if over:
            self.counters.over[over] += 1
            if usable is not None:
                return self._stale(usable, now_s)
            return Said(SERVFAIL, error=(EDE_OTHER, f"too many questions wait for an upstream ({over})"))
        if flight is None:
            group = self.routes.of(question.name)
            if group is None or self._tasks is None:
                return Said(SERVFAIL, error=(EDE_NO_REACHABLE_AUTHORITY, "no upstream is being asked yet"))
            flight = self._fly(question, group)
        else:
            self.counters.joined += 1
        flight.waiters.append(waiter)
        self._waiting += 1
        self._by_client[waiter.client_ip] = self._by_client.get(waiter.client_ip, 0) + 1
        if usable is not None and flight.stale_timer is None:
            loop = asyncio.get_running_loop()
            flight.stale_timer = loop.call_later(self.options.stale_wait_s, self._give_stale, question, flight)
        return None

    def _over(self, client_ip: str, *, is_new: bool) -> str:
        """Name the bound that one more query meets; empty: none."""
        options = self.options
        if is_new and len(self._flights) >= options.max_in_flight:
            return "in_flight"
        if self._waiting >= options.max_waiting:
            return "waiting"
        return "per_client" if self._by_client.get(client_ip, 0) >= options.max_per_client else ""

    def _fly(self, question: Question, group: Group) -> _Flight:
        flight = self._flights[question] = _Flight()
        if self._tasks is not None:
            self._tasks.create_task(self._carry(question, group, flight))
        return flight

    async def _carry(self, question: Question, group: Group, flight: _Flight) -> None:
        """Ask, keep what comes, tell everybody."""
        said = STOPPING
        try:
            said = await self._asked(question, group)
        finally:
            if self._flights.get(question) is flight:
                del self._flights[question]
            self._settle(flight, said)

    async def _asked(self, question: Question, group: Group) -> Said:
        deadline_s = asyncio.get_running_loop().time() + self.options.timeout_s
        try:
            async with asyncio.timeout_at(deadline_s):
                reply = await fetch(
                    question, group, self.routes, self._is_own, deadline_s - MARGIN_S, self._health.suspect
                )
            if not isinstance(reply, Failure):
                entry = entry_of(question, reply, self.options.caps)
                now_s = self._clock()
                self.cache.put(question, entry, now_s)
                self.failures.forget(question)
                return _said(entry, entry.ttl_s, None)
            failure = reply
        except TimeoutError:
            failure = Failure(SERVFAIL, (EDE_NO_REACHABLE_AUTHORITY, f"no answer in {self.options.timeout_s:g}s"))
        except WireError as error:
            failure = Failure(SERVFAIL, (EDE_OTHER, error.message))
        return self._failed(question, group, failure)

    def _failed(self, question: Question, group: Group, failure: Failure) -> Said:
        """Remember a failure; give what is held, else the failure."""
        self.counters.failures += 1
        now_s = self._clock()
        entry = self.cache.find(question, now_s) if self.options.stale != OFF else None
        if entry is None:
            self.failures.put(question, failure, now_s)
            return Said(failure.rcode, error=failure.error)
        entry.retry_s = now_s + backoff_s(entry.failures, RECHECK_S, LONGEST_RECHECK_S)
        entry.failures += 1
        entry.epoch = group.recoveries
        return self._aged(entry, now_s)

    def _give_stale(self, question: Question, flight: _Flight) -> None:
        """Answer everybody who has waited for long enough with what is held; the question stays in flight."""
        flight.stale_timer = None
        now_s = self._clock()
        entry = self.cache.find(question, now_s)
        if entry is not None and flight.waiters:
            self._settle(flight, self._stale(entry, now_s))

    def _settle(self, flight: _Flight, said: Said) -> None:
        """Answer everybody who waits."""
        if flight.stale_timer is not None:
            flight.stale_timer.cancel()
            flight.stale_timer = None
        now_s = self._clock()
        waiters, flight.waiters = flight.waiters, []
        for waiter in waiters:
            self._waiting -= 1
            left = self._by_client[waiter.client_ip] - 1
            if left:
                self._by_client[waiter.client_ip] = left
            else:
                del self._by_client[waiter.client_ip]
            took_s = now_s - waiter.since_s
            self.counters.buckets[bisect_left(LATENCY_BOUNDS_S, took_s)] += 1
            self.counters.sum_s += took_s
            waiter.deliver(said)

    def _found_lost(self) -> None:
        if self.on_lost is not None and any(group.is_lost for group in self.routes.groups):
            self.on_lost()


def _said(entry: Entry, ttl_s: int, error: tuple[int, str] | None) -> Said:
    answer, authority = entry.shown(ttl_s)
    return Said(entry.rcode, answer, authority, entry.end, entry.end_at, entry.ad, error)

"""How often the API servers are asked: clock, limits in time, back-off, and the governor.

Law: nothing here does I/O. Whatever the code above does, the governor bounds requests per hour (outage.md rule 6);
every wait after a failure is drawn at random from a span that doubles, so that a fleet never moves in step.
"""

from __future__ import annotations

import asyncio
import random
from typing import NamedTuple, Protocol


class Clock(Protocol):
    """Time as a source sees it."""

    def now(self) -> float:
        """Give monotonic seconds."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class LoopClock:
    """The event loop's own clock."""

    def now(self) -> float:
        """See `Clock.now`."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        await asyncio.sleep(seconds)


class Timing(NamedTuple):
    """Every span of the Kubernetes source, in seconds.

    Attributes:
        identify_s: after being refused for this long, to learn who the cluster is is given up for now.
        connect_s: TCP and TLS handshake.
        answer_s: from sending a request to the head of its answer.
        page_s: from the head of a list's answer to its end.
        idle_s: silence on a watch after which it counts as dead; API servers send a bookmark every 60 s. A connection
            whose other end is gone is found out by TCP before that.
        settle_s: a resumed watch that says nothing for this long was accepted (a refusal comes at once, as an event).
        watch_min_s, watch_max_s: asked for as `timeoutSeconds`, drawn between the two.
        short_s: a watch that ends sooner, without any progress, is a failure to be waited out.
        grace_s: a kind that is followed again within this span was never lost.
        probe_min_s, probe_max_s: between two TCP connects while nothing answers; a connect is no API request.
        backoff_s: span of the first wait after a failure; doubles with each further one.
        backoff_max_s: longest such span.
        silent_max_s: the same while connections are accepted but nothing is answered.
        retry_after_max_s: an answer that asks for a longer wait is not believed.
        spread_s: window over which a fleet's nodes come back after an outage (see `reconnect_delay_s`).
        heal_every_s: every kind is listed again this often, ± 20 %, so that a silent gap in a watch heals.
        heal_gap_s: shortest span between two such lists on one node, whatever their kinds.
        report_within_s: an Event waits a random part of this after there is somebody to take it.
        report_retry_s: until an Event that was forbidden is tried once more.
        credentials_s: credentials and certificates older than this are read again before the next request.
        distrust_s: the same, after a 401 or a failed connection.
    """

    identify_s: float = 5.0
    connect_s: float = 10.0
    answer_s: float = 30.0
    page_s: float = 60.0
    idle_s: float = 90.0
    settle_s: float = 0.2
    watch_min_s: float = 1_800.0
    watch_max_s: float = 3_600.0
    short_s: float = 30.0
    grace_s: float = 5.0
    probe_min_s: float = 0.5
    probe_max_s: float = 2.5
    backoff_s: float = 0.5
    backoff_max_s: float = 120.0
    silent_max_s: float = 30.0
    retry_after_max_s: float = 600.0
    spread_s: float = 0.0
    heal_every_s: float = 6 * 3_600.0
    heal_gap_s: float = 3_600.0
    report_within_s: float = 10.0
    report_retry_s: float = 60.0
    credentials_s: float = 300.0
    distrust_s: float = 10.0


class Backoff:
    """Exponential back-off with full jitter.

    Args:
        first_s: span of the first wait.
        longest_s: bound of the span.
    """

    def __init__(self, first_s: float, longest_s: float) -> None:
        self.failures = 0
        self._first_s = first_s
        self._longest_s = longest_s

    def next_s(self, *, at_least_s: float = 0.0, longest_s: float | None = None) -> float:
        """Count a failure and draw the wait after it: `at_least_s`, and on top a random part of the span."""
        longest_s = self._longest_s if longest_s is None else min(longest_s, self._longest_s)
        span_s = min(longest_s, self._first_s * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return at_least_s + random.uniform(0.0, span_s)

    def reset(self) -> None:
        """Forget the failures: something worked."""
        self.failures = 0


class Budget(NamedTuple):
    """Requests that may be spent at once (lists of a large cluster are hundreds of pages), and per hour after that."""

    burst: int = 600
    per_hour: int = 240


class Governor:
    """Token bucket in front of every API request.

    Args:
        clock: time.
        burst: requests that may be spent at once: lists of a large cluster are hundreds of pages.
        per_hour: how fast they come back.
    """

    def __init__(self, clock: Clock, burst: int = 600, per_hour: int = 240) -> None:
        self.waited = 0
        self.burst = burst
        self.per_hour = per_hour
        self._clock = clock
        self._burst = float(burst)
        self._per_s = per_hour / 3_600.0
        self._tokens = float(burst)
        self._filled_s: float | None = None

    @property
    def left(self) -> int:
        """Requests that may be spent at once."""
        if self._filled_s is not None:
            self._fill()
        return int(self._tokens)

    async def take(self) -> None:
        """Wait until a request may be spent, and spend it."""
        self._fill()
        while self._tokens < 1.0:
            self.waited += 1
            await self._clock.sleep((1.0 - self._tokens) / self._per_s)
            self._fill()
        self._tokens -= 1.0

    def _fill(self) -> None:
        now_s = self._clock.now()
        if self._filled_s is not None:
            self._tokens = min(self._burst, self._tokens + (now_s - self._filled_s) * self._per_s)
        self._filled_s = now_s


class Healing:
    """When each kind is listed again although its watch seems to be fine (eve#6113, coredns#3879: a silent gap)."""

    def __init__(self, clock: Clock, every_s: float, gap_s: float) -> None:
        self._clock = clock
        self._every_s = every_s
        self._gap_s = gap_s
        self._due_s: dict[str, float] = {}
        self._last_s: float | None = None

    def started(self, kind: str) -> None:
        """Note that `kind` was just listed, or resumed: the next list is due a period later."""
        self._due_s[kind] = self._clock.now() + self._every_s * random.uniform(0.8, 1.2)

    def take(self, kind: str) -> bool:
        """Tell whether `kind` is due; at most one kind is within `gap_s`, so that no hour pays for all of them."""
        now_s = self._clock.now()
        if now_s < self._due_s.get(kind, now_s + 1.0):
            return False
        if self._last_s is not None and now_s - self._last_s < self._gap_s:
            return False
        self._last_s = now_s
        return True


NODE_SPACING_S = 0.1
"""Of the reconnect window, for each node of the fleet: ten full syncs a second, 5 s of an API server's CPU time where
there are 10,000 Services."""


def reconnect_window_s(fleet_nodes: int, at_least_s: float) -> float:
    """Give the window over which a fleet comes back: it grows with the fleet."""
    return max(at_least_s, fleet_nodes * NODE_SPACING_S)


def reconnect_delay_s(node_name: str, spread_s: float) -> float:
    """Give the node's own place in the window over which a fleet comes back: the same node, the same place."""
    if spread_s <= 0.0:
        return 0.0
    return random.Random(node_name).uniform(0.0, spread_s)

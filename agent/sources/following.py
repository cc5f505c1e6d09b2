"""Which kinds are being followed, and what the sink is told about it.

Law: `connected` means every kind is in sync and watched. `lost` is said once per reason, at once while nothing was
ever followed, else when a kind has not been followed for longer than the grace: a watch that ends as agreed and is
taken up again was never lost. While it stays lost a new reason is said when the last one has stood for the grace, and
none is repeated within `REPEAT_S`: a server that comes back says no in several ways before it says yes.
"""

from __future__ import annotations

import asyncio

from agent.sources import Sink
from agent.sources.pacing import Clock

REPEAT_S = 60.0
MAX_REASONS = 100
"""Reasons remembered of one outage; texts with numbers in them could be many."""


class Following:
    """Adds up the kinds.

    Args:
        kinds: all that must be followed.
        sink: told of the sum.
        clock: time.
        grace_s: see `Timing`.

    Attributes:
        connected: every kind is in sync and being followed.
    """

    def __init__(self, kinds: tuple[str, ...], sink: Sink, clock: Clock, grace_s: float) -> None:
        self._missing_since_s: dict[str, float] = dict.fromkeys(kinds, 0.0)
        self._reason = ""
        self._sink = sink
        self._clock = clock
        self._grace_s = grace_s
        self.connected = asyncio.Event()
        self._is_connected = False
        self._last = ""
        self._said_at_s: dict[str, float] = {}
        self._missed = asyncio.Event()

    def gained(self, kind: str) -> None:
        """Note that `kind` is in sync and watched."""
        self._missing_since_s.pop(kind, None)
        if not self._missing_since_s and not self._is_connected:
            self._is_connected = True
            self.connected.set()
            self._last = ""
            self._said_at_s.clear()
            self._sink.connected()

    def missed(self, kind: str, reason: str) -> None:
        """Note that `kind` is not followed (any more), and why."""
        self._missing_since_s.setdefault(kind, self._clock.now())
        self._reason = reason
        if self._is_connected:
            self._missed.set()
        else:
            self._say()

    async def report(self) -> None:
        """Say `lost` when the grace is over; runs for ever."""
        while True:
            await self._missed.wait()
            while self._is_connected and self._missing_since_s:
                left_s = min(self._missing_since_s.values()) + self._grace_s - self._clock.now()
                if left_s > 0.0:
                    await self._clock.sleep(left_s)
                else:
                    self._is_connected = False
                    self.connected.clear()
                    self._say()
            self._missed.clear()

    def _say(self) -> None:
        """Give the latest reason: of kinds that wait for the same server, it is the one that asked last."""
        reason, now_s = self._reason, self._clock.now()
        if self._said_at_s:
            if reason == self._last or now_s - self._said_at_s[self._last] < self._grace_s:
                return
            if now_s - self._said_at_s.get(reason, -REPEAT_S) < REPEAT_S:
                return
        if len(self._said_at_s) >= MAX_REASONS:
            self._said_at_s.clear()
        self._said_at_s[reason] = now_s
        self._last = reason
        self._sink.lost(reason)

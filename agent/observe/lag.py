"""How late the event loop is: a pure-Python agent answers no sooner than its loop turns.

Law: one timer, two numbers; nothing is kept per turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

INTERVAL_S = 0.1
WINDOW_S = 15.0


class LoopLag:
    """Measures by how much a timer is late.

    Args:
        now, sleep: replaced in tests.

    Attributes:
        longest_s: worst lateness ever.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.longest_s = 0.0
        self._now = now
        self._sleep = sleep
        self._before_s = 0.0
        self._current_s = 0.0
        self._window_started_s = now()

    @property
    def worst_s(self) -> float:
        """Worst lateness of the last 15 to 30 seconds, so that a scrape every 15 s or less misses none."""
        return max(self._before_s, self._current_s)

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            due_s = self._now() + INTERVAL_S
            await self._sleep(INTERVAL_S)
            self._note(max(0.0, self._now() - due_s))

    def _note(self, late_s: float) -> None:
        now_s = self._now()
        if now_s - self._window_started_s >= WINDOW_S:
            self._before_s, self._current_s = self._current_s, 0.0
            self._window_started_s = now_s
        self._current_s = max(self._current_s, late_s)
        self.longest_s = max(self.longest_s, late_s)

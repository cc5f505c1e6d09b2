"""Counting over a moving window in bounded memory.

Law: pure; `now_s` is an argument. Memory is `slots` integers, whatever comes in.
"""

from __future__ import annotations


class Recent:
    """Counts events of the last `span_s` seconds, exact to `span_s / slots`.

    Args:
        span_s: length of the window.
        slots: parts it is counted in.
    """

    def __init__(self, span_s: float, slots: int) -> None:
        self._slot_s = span_s / slots
        self._counts = [0] * slots
        self._at = 0

    def add(self, now_s: float, count: int = 1) -> None:
        """Count events that happen now."""
        self._turn(now_s)
        self._counts[self._at % len(self._counts)] += count

    def total(self, now_s: float) -> int:
        """Sum of the window."""
        self._turn(now_s)
        return sum(self._counts)

    def _turn(self, now_s: float) -> None:
        at = int(now_s / self._slot_s)
        for passed in range(max(self._at + 1, at - len(self._counts) + 1), at + 1):
            self._counts[passed % len(self._counts)] = 0
        self._at = max(self._at, at)


class Rate:
    """Turns a counter that only grows into a rate over about `span_s` seconds."""

    def __init__(self, span_s: float = 10.0) -> None:
        self._span_s = span_s
        self._older = self._newer = (0.0, 0)
        self._started = False

    def sample(self, now_s: float, counter: int) -> float:
        """Give events per second between a moment one to two spans ago and now; call it about once a second."""
        if not self._started:
            self._older = self._newer = (now_s, counter)
            self._started = True
        if now_s - self._newer[0] >= self._span_s:
            self._older, self._newer = self._newer, (now_s, counter)
        since_s = now_s - self._older[0]
        return max(0.0, (counter - self._older[1]) / since_s) if since_s > 0 else 0.0

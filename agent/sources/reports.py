"""What should be told to the cluster, until somebody can take it.

Law: bounded, and imports nothing: it is there before the source is. Reports of one reason that wait together become
one, with the time of the first and of the last, and how many they were.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

MAX_HELD = 16
"""Reports that wait; reasons are few, so this is a bound and no limit."""
MAX_MESSAGE = 1000
"""Characters; the API takes 1024."""


class Report(NamedTuple):
    """Something that people should find in the cluster.

    Attributes:
        reason: one word in CamelCase, as `kubectl get events` shows it.
        message: one sentence.
        is_trouble: type Warning, not Normal.
        first_unix_s, last_unix_s, times: when it happened, and how often since the last one was sent.
    """

    reason: str
    message: str
    is_trouble: bool
    first_unix_s: float
    last_unix_s: float
    times: int = 1


class Reports:
    """Held until they can be sent.

    Args:
        enabled: whether they are wanted at all.

    Attributes:
        enabled: whether new ones are taken.
        counts: what became of them.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self.counts = dict.fromkeys(("made", "merged", "sent", "refused", "dropped"), 0)
        self._held: dict[str, Report] = {}
        self._some = asyncio.Event()

    def add(self, reason: str, message: str, *, is_trouble: bool, now_unix_s: float) -> None:
        """Take a report; one of the same reason that still waits becomes part of it."""
        if not self.enabled:
            return
        self.counts["made"] += 1
        self._hold(Report(reason, message[:MAX_MESSAGE], is_trouble, now_unix_s, now_unix_s))

    async def wait(self) -> None:
        """Wait until there is something to send."""
        await self._some.wait()

    def take(self) -> Report | None:
        """Give the one that waits longest, or None."""
        reason = next(iter(self._held), None)
        if len(self._held) <= 1:
            self._some.clear()
        return self._held.pop(reason) if reason is not None else None

    def put_back(self, report: Report) -> None:
        """Take back what could not be sent; it goes first, unless it happened again meanwhile."""
        newer = self._held.pop(report.reason, None)
        if newer is not None:
            self._hold(_merged(report, newer))
            self.counts["merged"] += 1
            return
        self._held = {report.reason: report, **self._held}
        self._some.set()

    def disable(self) -> None:
        """Take no more, and forget what waits."""
        self.enabled = False
        self.counts["dropped"] += len(self._held)
        self._held.clear()
        self._some.clear()

    def _hold(self, report: Report) -> None:
        older = self._held.pop(report.reason, None)
        if older is not None:
            report = _merged(older, report)
            self.counts["merged"] += 1
        elif len(self._held) >= MAX_HELD:
            del self._held[next(iter(self._held))]
            self.counts["dropped"] += 1
        self._held[report.reason] = report
        self._some.set()


def _merged(older: Report, newer: Report) -> Report:
    return newer._replace(first_unix_s=older.first_unix_s, times=older.times + newer.times)

"""When to read files that are looked at again and again (pure: marks and a clock in, a step out).

Law: files are read when they stood still between two looks, and what was read counts only if they still were the same
then. A file that is only ever replaced by rename is whole each time and may be read after a while all the same; one
rewritten in place without a pause may not, and is reported. A reading that failed is tried again after a growing
pause, and readings as a whole take a bounded share of the time.
"""

from __future__ import annotations

from enum import Enum

from agent.sources.exchange import Marks

REPLACED_S = 2.0
"""Files that are only ever replaced are read after this time, however often they change."""
RESTLESS_S = 10.0
"""Files that could not be read for so long because they keep changing are reported."""
OLD_ENOUGH_S = 2.0
"""At the first look there is none before it to compare with: files not touched for so long stand still."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
READING_SHARE = 5
"""A reading that took t seconds is followed by (READING_SHARE - 1) * t seconds without one."""


class Step(Enum):
    """What to do after a look."""

    SAME = "what is held is what the files hold"
    READ = "read them"
    WAIT = "look again soon: they changed"
    REST = "look again later: it is too early to read them again"
    RESTLESS = "they keep changing and can't be read"


class Watch:
    """Follows the marks of one place."""

    def __init__(self) -> None:
        self.held: Marks | None = None
        self._last: Marks | None = None
        self._changing_since: float | None = None
        self._replaced: set[str] = set()
        self._rewritten: set[str] = set()
        self._failed: Marks | None = None
        self._pause_s = 0.0
        self._retry_at = 0.0
        self._rest_until = 0.0

    def saw(self, marks: Marks, now: float, wall_ns: int) -> Step:
        """Take one look at `now` (monotonic seconds; `wall_ns`: nanoseconds of the wall clock)."""
        last, self._last = self._last, marks
        if marks == self.held:
            self._settle()
            return Step.SAME
        if self._changing_since is None:
            self._changing_since = now
        stood_still = marks == last if last is not None else _untouched(marks, wall_ns)
        if stood_still:
            self._replaced.clear()
            self._rewritten.clear()
        elif last is not None:
            self._compare(last, marks)
        if now < self._rest_until or (marks == self._failed and now < self._retry_at):
            return Step.REST
        if stood_still or (self._only_replaced() and now - self._changing_since >= REPLACED_S):
            return Step.READ
        return Step.RESTLESS if self.is_restless(now) else Step.WAIT

    def is_restless(self, now: float) -> bool:
        """Tell whether the files have been changing for too long to be left unsaid."""
        return self._changing_since is not None and now - self._changing_since >= RESTLESS_S

    def accepts(self, read: Marks) -> bool:
        """Tell whether files that had these marks when they were read were at rest, or whole by being replaced."""
        return read == self._last or self._only_replaced()

    def succeeded(self, read: Marks, now: float, took_s: float) -> None:
        """Note that what the files hold at these marks is held now."""
        self.held = read
        self._failed = None
        self._pause_s = 0.0
        self._rest_until = now + took_s * (READING_SHARE - 1)
        self._settle()

    def discarded(self, now: float, took_s: float) -> None:
        """Note that the files changed while they were read."""
        self._rest_until = now + took_s * (READING_SHARE - 1)

    def failed(self, now: float, took_s: float) -> None:
        """Note that the files can't be used as they are; if they stay so, the next try waits longer."""
        again = self._failed == self._last
        self._failed = self._last
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S) if again else FIRST_PAUSE_S
        self._retry_at = now + self._pause_s
        self._rest_until = now + took_s * (READING_SHARE - 1)
        self._changing_since = None

    def vanished(self) -> None:
        """Note that a look found nothing; the next one has nothing to compare with."""
        self._last = None
        self._settle()

    def _settle(self) -> None:
        self._changing_since = None
        self._replaced.clear()
        self._rewritten.clear()

    def _only_replaced(self) -> bool:
        return bool(self._replaced) and self._rewritten <= self._replaced

    def _compare(self, last: Marks, marks: Marks) -> None:
        before = {mark.name: mark for mark in last}
        for mark in marks:
            old = before.get(mark.name)
            if old is None or (old.inode, old.device) != (mark.inode, mark.device):
                self._replaced.add(mark.name)
            elif old != mark:
                # Of a file that was also seen replaced, this is an inode number used again.
                self._rewritten.add(mark.name)


def _untouched(marks: Marks, wall_ns: int) -> bool:
    newest = max(max(mark.mtime_ns, mark.ctime_ns) for mark in marks)
    return wall_ns - newest >= OLD_ENOUGH_S * 1e9

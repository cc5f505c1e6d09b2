"""When to read files that are looked at again and again (pure: marks and a clock in, a step out).

Law: what was read counts only if nobody was writing it. A file is at rest when it was the same at two looks some time
apart, or when its own times say so: untouched for long, or its status changed after its last write, which is what a
rename (or a finished copy) leaves behind. So a file that is replaced by rename again and again is read after a while
all the same; one rewritten in place without a pause is not, and is reported. A reading that failed is tried again after
a growing pause, and readings as a whole take a bounded share of the time.
"""

from __future__ import annotations

from enum import Enum

from agent.sources.exchange import Mark, Marks

REPLACED_S = 2.0
"""Files that were renamed into place are read after this time, however often that happens."""
RESTLESS_S = 10.0
"""Files that could not be read for so long because they keep changing are reported."""
OLD_ENOUGH_S = 2.0
"""A file whose times are older than this is at rest, with no second look."""
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
    """Follows the marks of one place.

    Args:
        rest_s: seconds between the first and the last of the looks that must be the same.
    """

    def __init__(self, rest_s: float) -> None:
        self.held: Marks | None = None
        self._rest_s = rest_s
        self._last: Marks = ()
        self._same_since = 0.0
        self._changing_since: float | None = None
        self._failed: Marks | None = None
        self._pause_s = 0.0
        self._retry_at = 0.0
        self._rest_until = 0.0

    def saw(self, marks: Marks, now: float, wall_ns: int) -> Step:
        """Take one look at `now` (monotonic seconds; `wall_ns`: nanoseconds of the wall clock)."""
        last, self._last = self._last, marks
        if marks != last:
            self._same_since = now
        if marks == self.held:
            self._changing_since = None
            return Step.SAME
        if self._changing_since is None:
            self._changing_since = now
        if now < self._rest_until or (marks == self._failed and now < self._retry_at):
            return Step.REST
        if marks == last and now - self._same_since >= self._rest_s:
            return Step.READ
        if not last and all(_is_old(mark, wall_ns) for mark in marks):
            return Step.READ
        if now - self._changing_since >= REPLACED_S and _is_at_rest(marks, last, wall_ns):
            return Step.READ
        return Step.RESTLESS if self.is_restless(now) else Step.WAIT

    def is_restless(self, now: float) -> bool:
        """Tell whether the files have been changing for too long to be left unsaid."""
        return self._changing_since is not None and now - self._changing_since >= RESTLESS_S

    def accepts(self, read: Marks, wall_ns: int) -> bool:
        """Tell whether files were at rest that had these marks when they were read, at `wall_ns` or later."""
        return _is_at_rest(read, self._last, wall_ns)

    def succeeded(self, read: Marks, now: float, took_s: float) -> None:
        """Note that what the files hold at these marks is held now."""
        self.held = read
        self._failed = None
        self._pause_s = 0.0
        self._rest_until = now + took_s * (READING_SHARE - 1)
        self._changing_since = None

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
        self._last = ()
        self._changing_since = None


def _is_at_rest(marks: Marks, before: Marks, wall_ns: int) -> bool:
    """Tell whether each file was the same at the look before, or is at rest by its own times."""
    return all(mark in before or mark.ctime_ns > mark.mtime_ns or _is_old(mark, wall_ns) for mark in marks)


def _is_old(mark: Mark, wall_ns: int) -> bool:
    return wall_ns - max(mark.mtime_ns, mark.ctime_ns) >= OLD_ENOUGH_S * 1e9

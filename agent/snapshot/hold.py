"""What is held, the clock of a quarantine, and the ways it can end.

Law: pure. Whoever decides names the hold that they saw.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from agent.cluster.objects import Stored
from agent.snapshot.guard import Reason

RESUMED_S = 60.0
"""How long after the source was reached again a hold of an earlier life is kept for the change to come back."""
ACCEPTED = "accepted"
REJECTED = "rejected"
EXPIRED = "expired"
MENDED = "mended"
OUTCOMES = (ACCEPTED, REJECTED, EXPIRED, MENDED)


class Moment(NamedTuple):
    """Now, on the monotonic clock and on the wall."""

    s: float
    unix_s: float


class Hold(NamedTuple):
    """A quarantine that is on.

    Attributes:
        id: what a decision names.
        since_s: when its clock was started, monotonic.
        since_unix_s: the same on the wall.
        size: objects held when its clock was started. With more than twice as many it begins anew under another id:
            nobody has seen, let alone accepted, what came to it.
    """

    id: str
    since_s: float
    since_unix_s: float
    size: int

    def is_over(self, now: Moment, hold_for_s: float) -> bool:
        """Tell whether it has lasted for as long as it may; 0 is for ever."""
        return bool(hold_for_s) and now.s - self.since_s >= hold_for_s


class Held(NamedTuple):
    """A change that is held: the newest version (None: gone), what for, and how much it weighs there."""

    stored: Stored | None
    reason: Reason
    weight: int


class Log(Protocol):
    """Where one line per transition goes."""

    def __call__(self, event: str, /, **fields: object) -> None:
        """Say that something happened."""


def name_of(unix_s: float, last: str) -> str:
    """Name a hold by when it began, so that a person can tell which one a line of a log is about; never as the last."""
    number = int(unix_s)
    return str(max(number, int(last) + 1)) if last.isascii() and last.isdigit() else str(number)

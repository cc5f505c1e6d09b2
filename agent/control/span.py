"""For how long an order holds, whatever the clock does meanwhile.

Law: pure; every function takes `now`. An order that ends is given for a number of seconds, never until a time. Within
one boot of the machine they are counted on the boot clock, which nobody can set; the wall clock counts only what
passed before this boot, and never less than nothing. So a wall clock that is set back makes no order longer while the
machine runs, and over a reboot it gives an order its whole span again at most once for each reboot.
"""

from __future__ import annotations

import time
from functools import cache
from typing import NamedTuple

import msgspec


class Now(NamedTuple):
    """The clocks of one moment.

    Attributes:
        unix_s: wall clock.
        boot_s: seconds since the machine was booted, time asleep included (CLOCK_BOOTTIME).
        boot_id: of this boot, as the kernel draws it; empty: unknown.
    """

    unix_s: float
    boot_s: float
    boot_id: str


class Span(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When an order was given, and for how long.

    Attributes:
        set_unix_s, set_boot_s, boot_id: the moment, see `Now`.
        for_s: seconds, above 0.
    """

    set_unix_s: float
    set_boot_s: float
    boot_id: str
    for_s: float

    def __post_init__(self) -> None:
        """Raise ValueError for what is no span."""
        if not 0 < self.for_s < float("inf"):
            raise ValueError("for_s is not above 0")

    @property
    def until_unix_s(self) -> float:
        """Wall time at which it ends, if nobody sets the clock."""
        return self.set_unix_s + self.for_s

    def left_s(self, now: Now) -> float:
        """Seconds for which the order still holds, 0 if it does no more."""
        if self.boot_id and self.boot_id == now.boot_id:
            passed_s = now.boot_s - self.set_boot_s
        else:
            passed_s = now.unix_s - self.set_unix_s
        return max(0.0, self.for_s - max(0.0, passed_s))


class Deadlines:
    """Ends of the orders that hold, on the boot clock, kept for as long as the process lives.

    An order of an earlier boot is measured on the wall clock when it is first seen, and never again: setting the clock
    back changes nothing from then on.
    """

    def __init__(self) -> None:
        self._ends_boot_s: dict[Span, float] = {}

    def left_s(self, span: Span, now: Now) -> float:
        """Seconds for which an order still holds, 0 if it does no more."""
        end_s = self._ends_boot_s.setdefault(span, now.boot_s + span.left_s(now))
        return max(0.0, end_s - now.boot_s)

    def keep(self, spans: frozenset[Span]) -> None:
        """Forget every other order."""
        self._ends_boot_s = {span: end_s for span, end_s in self._ends_boot_s.items() if span in spans}


def now() -> Now:
    """Read the clocks."""
    return Now(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), _boot_id())


@cache
def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read(64).strip()
    except (OSError, UnicodeDecodeError):
        return ""

"""The order to forget what upstreams said, as a document (STATE/control/flush.json).

Law: an order has a number and is followed once; one that was given while no agent ran is followed at its start, before
anything is answered. The last orders stay in the document, so that two given at once are both followed.
"""

from __future__ import annotations

import msgspec

from agent.errors import WireError
from agent.forward.cache import Cache
from agent.records.names import to_text, to_wire

MAX_ZONES = 32


class ZoneOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Forget a name and all below it.

    Attributes:
        number: counts up with each order.
        zone: presentation form; `.` is everything.
        at_unix_s: when it was given.
    """

    number: int
    zone: str
    at_unix_s: float

    def __post_init__(self) -> None:
        try:
            to_wire(self.zone)
        except WireError as error:
            raise ValueError(str(error)) from None


class FlushOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last orders, oldest first."""

    zones: tuple[ZoneOrder, ...] = ()


def new_order(before: FlushOrder | None, zone: bytes, now_unix_s: float) -> FlushOrder:
    """Add an order to those that stand; when there are too many, one for everything takes their place."""
    held = before.zones if before is not None else ()
    number = held[-1].number + 1 if held else 1
    if len(held) >= MAX_ZONES:
        held, zone = (), b"\x00"
    return FlushOrder((*held, ZoneOrder(number, to_text(zone), now_unix_s)))


class Flushes:
    """Follows orders.

    Args:
        cache: what is to be forgotten.

    Attributes:
        forgotten: answers that went because of orders.
    """

    def __init__(self, cache: Cache) -> None:
        self.forgotten = 0
        self._cache = cache
        self._followed: frozenset[ZoneOrder] = frozenset()

    def follow(self, order: FlushOrder | None, since_unix_s: float = 0.0) -> list[tuple[str, int]]:
        """Follow what was not followed yet; gives (zone, answers that went) of each.

        Args:
            order: as it lies there.
            since_unix_s: orders from before this are done: what is held is younger.
        """
        out = []
        zones = order.zones if order is not None else ()
        for each in zones:
            if each not in self._followed and each.at_unix_s >= since_unix_s:
                count = self._cache.flush(to_wire(each.zone))
                self.forgotten += count
                out.append((each.zone, count))
        self._followed = frozenset(zones)
        return out

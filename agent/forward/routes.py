"""Which upstreams answer for which names, in what order they are asked, and which of them are lost.

Law: the longest zone wins. An upstream that is lost is asked only where there is no other; it is probed with a
bounded, backed-off rhythm until it says anything at all. Retries have a budget, so that failure adds no load.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from agent.forward.target import Target
from agent.forward.upstream import MAX_FAILS, Upstream

RANDOM, ROUND_ROBIN, SEQUENTIAL = "random", "round_robin", "sequential"
POLICIES = (RANDOM, ROUND_ROBIN, SEQUENTIAL)
RETRY_COST = 5
"""A retry is earned by this many queries."""
MAX_RETRIES_SAVED = 20
FIRST_PROBE_S = 0.5
LONGEST_PROBE_S = 10.0


class Route(NamedTuple):
    """A zone (lower-cased wire form; the root is everything) and who answers for it."""

    zone: bytes
    targets: tuple[Target, ...]


class Group:
    """The upstreams of one zone.

    Args:
        zone: whose.
        upstreams: at least one.
        policy: in what order they are asked.

    Attributes:
        retries_refused: retries for which there was no budget.
    """

    def __init__(self, zone: bytes, upstreams: Sequence[Upstream], policy: str) -> None:
        self.zone = zone
        self.upstreams = tuple(upstreams)
        self.policy = policy
        self.retries_refused = 0
        self._next = 0
        self._earned = MAX_RETRIES_SAVED * RETRY_COST

    @property
    def is_lost(self) -> bool:
        """None of them is there."""
        return all(upstream.is_lost or upstream.is_loop for upstream in self.upstreams)

    @property
    def recoveries(self) -> int:
        """Times that an upstream was found again."""
        return sum(upstream.recoveries for upstream in self.upstreams)

    def order(self) -> list[Upstream]:
        """Give the upstreams to ask, in order; those that do not seem to be there last, those that loop never."""
        found = [upstream for upstream in self.upstreams if not upstream.is_loop]
        if self.policy == RANDOM:
            random.shuffle(found)
        elif self.policy == ROUND_ROBIN and found:
            self._next = (self._next + 1) % len(found)
            found = found[self._next :] + found[: self._next]
        found.sort(key=lambda upstream: (upstream.is_lost, upstream.fails >= MAX_FAILS))
        return found

    def earn(self) -> None:
        """Count a query, which earns a share of a retry."""
        self._earned = min(MAX_RETRIES_SAVED * RETRY_COST, self._earned + 1)

    def may_retry(self) -> bool:
        """Spend a retry; False: there is none left."""
        if self._earned < RETRY_COST:
            self.retries_refused += 1
            return False
        self._earned -= RETRY_COST
        return True


class Routes:
    """All groups; the longest zone that a name lies in wins."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = tuple(groups)
        self._by_zone = {group.zone: group for group in groups}

    def of(self, name: bytes) -> Group | None:
        """Find who answers for a name; None: nobody."""
        at = 0
        while name[at]:
            group = self._by_zone.get(name[at:])
            if group is not None:
                return group
            at += name[at] + 1
        return self._by_zone.get(b"\x00")

    def is_stub(self, name: bytes) -> bool:
        """Tell whether a name lies in a stub domain."""
        group = self.of(name)
        return group is not None and len(group.zone) > 1

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """Every upstream, group by group."""
        return tuple(upstream for group in self.groups for upstream in group.upstreams)

    def close(self) -> None:
        """Close all connections."""
        for upstream in self.upstreams:
            upstream.close()


def backoff_s(attempt: int, first_s: float, longest_s: float) -> float:
    """Give the wait before attempt number `attempt` (from 0): doubled each time, capped, a quarter of it jitter."""
    return min(first_s * (1 << min(attempt, 30)), longest_s) * (0.75 + random.random() / 4)

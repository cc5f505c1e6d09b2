"""How far the held state can be trusted right now.

Law: pure; every method takes `now_s` on a monotonic clock. Losing the source takes nothing away: it lowers TTLs at
once, and marks answers as stale once the state's age is past `stale_after` (dns.md section 2). The state is as old as
the kind of objects that was confirmed longest ago: of one that can't be followed the others know nothing.
"""

from __future__ import annotations

from agent.cluster.objects import KINDS
from agent.wire.posture import EXPIRED, FRESH, NOT_READY, STALE, Posture

STALE_TTL_S = 30
"""Highest TTL of an answer while the source is not being followed (RFC 8767 section 4)."""


class Freshness:
    """Tracks what the source last said.

    Args:
        stale_after_s: age from which an answer is called stale, seconds.
        max_stale_s: age from which own names are answered SERVFAIL; 0: never.

    Attributes:
        note: state of the source, for people.
        last_loss: why it was last lost, "" if it never was.
        held: which change is held, "" if none is. What it is about answers from the previous state, all else is as
            fresh as the source: answers are not stale for it (decision 0040).
    """

    def __init__(self, stale_after_s: float, max_stale_s: float) -> None:
        self.stale_after_s = stale_after_s
        self.max_stale_s = max_stale_s
        self.has_state = False
        self.connected = False
        self.note = "starting"
        self.last_loss = ""
        self.held = ""
        self._confirmed_s: dict[str, float] = {}

    def restored(self, age_s: float, now_s: float) -> None:
        """Take state from disk that its source last confirmed `age_s` ago (never below 0)."""
        self.has_state = True
        self._confirmed_s = dict.fromkeys(KINDS, now_s - max(0.0, age_s))
        self.note = "from disk, source not reached yet"

    def confirmed(self, kind: str, now_s: float) -> None:
        """Note that the source just said what is held of `kind` is right."""
        self._confirmed_s[kind] = now_s

    def follow(self, now_s: float) -> bool:
        """Note that the source is being followed; tell whether that is news."""
        news, self.connected, self.has_state = not self.connected, True, True
        self._confirmed_s = dict.fromkeys(KINDS, now_s)
        self.note = "following"
        return news

    def lose(self, reason: str) -> bool:
        """Note that the source is no longer followed; tell whether that is news."""
        news = self.connected or self.note != reason
        self.connected = False
        self.note = self.last_loss = reason
        return news

    def age_s(self, now_s: float) -> float:
        """Seconds since the source last confirmed the state, all of it; 0 before it ever did."""
        return max(0.0, now_s - min(self._confirmed_s.values(), default=now_s))

    def posture(self, generation: int, now_s: float) -> Posture:
        """Say what answers are given under now."""
        age_s = self.age_s(now_s)
        if not self.has_state:
            state = NOT_READY
        elif self.max_stale_s and age_s > self.max_stale_s:
            state = EXPIRED
        elif not self.connected and age_s > self.stale_after_s:
            state = STALE
        else:
            state = FRESH
        cap_s = None if self.connected else STALE_TTL_S
        return Posture(state, self.connected, cap_s, int(age_s), generation, self.note, held=self.held)

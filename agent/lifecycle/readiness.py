"""Readiness: may queries be sent here?

Law: ready when no guard is held. A guard has a name and a reason for people, and is dropped by the part that took
it. "Can answer" is what counts: the state of the source takes no guard (outage.md rule 1).
"""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


class Guard:
    """One reason not to be ready, until `drop`."""

    def __init__(self, readiness: Readiness, name: str) -> None:
        self._readiness = readiness
        self.name = name

    def drop(self) -> None:
        """Take the reason away; again is no error."""
        self._readiness.release(self)


class Readiness:
    """Guards that are held.

    Attributes:
        reasons: name → reason, of the guards held now, in the order they were taken.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self._held: dict[str, Guard] = {}

    @property
    def ready(self) -> bool:
        """Whether no guard is held."""
        return not self.reasons

    def hold(self, name: str, reason: str) -> Guard:
        """Take a guard; one of the same name is replaced."""
        was_ready = self.ready
        guard = Guard(self, name)
        self._held[name] = guard
        self.reasons[name] = reason
        if was_ready:
            log.info("not ready: %s", reason)
        return guard

    def release(self, guard: Guard) -> None:
        """Drop a guard, if it is the one held under its name."""
        if self._held.get(guard.name) is not guard:
            return
        del self._held[guard.name]
        del self.reasons[guard.name]
        if self.ready:
            log.info("ready: %s is done", guard.name)

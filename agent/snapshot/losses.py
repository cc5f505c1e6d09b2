"""What went lately, and can still be taken back.

Law: pure. One note per object, of what it was before its first loss; a note ends when the object is there again, when
it is held, with its window, or when there are too many.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from agent.cluster.objects import ENDPOINT_SLICE, KINDS, Stored

MAX_NOTES = 100_000
"""Losses that can be taken back; beyond it the oldest can't any more, and is counted."""
Key = tuple[str, str]


class Place(NamedTuple):
    """Where the source stood before a change, and which of all changes that was."""

    number: int
    position: str


class Note(NamedTuple):
    """A loss that was applied: what was held before, when it went, and the place before that."""

    before: Stored
    at_s: float
    place: Place


class Losses:
    """Notes by kind and key, oldest first.

    Attributes:
        dropped: notes that ended because there were too many.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._notes: dict[Key, Note] = {}
        self._slices_of: dict[str, dict[str, None]] = {}

    def add(self, before: Stored, now_s: float, place: Place) -> None:
        """Note a loss, unless an earlier one of the same object is noted."""
        at = before.kind, before.key
        if at in self._notes:
            return
        self._notes[at] = Note(before, now_s, place)
        if before.kind == ENDPOINT_SLICE:
            self._slices_of.setdefault(before.owner, {})[before.key] = None

    def take(self, at: Key) -> Note | None:
        """End a note, and give it."""
        note = self._notes.pop(at, None) if self._notes else None
        if note is not None and at[0] == ENDPOINT_SLICE:
            slices = self._slices_of[note.before.owner]
            del slices[at[1]]
            if not slices:
                del self._slices_of[note.before.owner]
        return note

    def get(self, at: Key) -> Note | None:
        """Look at a note."""
        return self._notes.get(at)

    def keys(self) -> list[Key]:
        """List what is noted: Namespaces, then Services, then EndpointSlices."""
        return sorted(self._notes, key=lambda at: KINDS.index(at[0]))

    def slices_of(self, owner: str) -> list[Key]:
        """List the EndpointSlices of a Service that are noted."""
        return [(ENDPOINT_SLICE, key) for key in self._slices_of.get(owner, ())]

    def owners_with(self, more: Collection[str]) -> int:
        """Count the Services of which EndpointSlices are noted, and `more`."""
        return len(self._slices_of) + sum(owner not in self._slices_of for owner in more)

    def expire(self, before_s: float) -> None:
        """End what is older than that, and the oldest beyond the bound."""
        while self._notes:
            at = next(iter(self._notes))
            is_old = self._notes[at].at_s < before_s
            if not is_old and len(self._notes) < MAX_NOTES:
                return
            self.dropped += not is_old
            self.take(at)

    def clear(self) -> None:
        """End every note."""
        self._notes.clear()
        self._slices_of.clear()

"""The cache: question → answer, bounded in entries and bytes.

Law: who was asked for longest ago goes first, and is counted. What is past its time is kept for `max_stale_s`, marked
by its age alone; a stale negative gives way to the positive it came after, if that may be used still.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from agent.forward.entry import KINDS, NEGATIVE, POSITIVE, Entry
from agent.forward.question import Question
from agent.forward.reply import lies_in
from agent.forward.shown import Shown

_KEY_BYTES = 150
"""About what Python takes for a key besides its name."""


class Bounds(NamedTuple):
    """Bounds of the cache; `max_stale_s` 0: nothing is kept past its time."""

    max_entries: int = 20_000
    max_bytes: int = 32 << 20
    max_stale_s: float = 259_200.0


class CacheCounters:
    """What the cache counts: plain integers.

    Attributes:
        hits: answers from the cache: fresh, or stale.
        misses: questions it had nothing for.
        stored: answers taken in, by kind.
        evicted: entries that went because a bound was met.
        aged: entries that went because they were past all use.
    """

    __slots__ = ("aged", "evicted", "hits", "misses", "stored")

    def __init__(self) -> None:
        self.hits = {"fresh": 0, "stale": 0}
        self.misses = 0
        self.stored = dict.fromkeys(KINDS, 0)
        self.evicted = 0
        self.aged = 0


class Cache:
    """Answers from upstream.

    Args:
        bounds: may be replaced at any time (`bounds`) and count from the next answer.

    Attributes:
        bytes: about what is held.
        version: another number after every change.
        counters: see there.
        shown: told of every answer that comes and goes; None: nobody is.
    """

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.shown: Shown | None = None
        self.bounds = bounds or Bounds()
        self.counters = CacheCounters()
        self.bytes = 0
        self.version = 0
        self._entries: OrderedDict[Question, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, question: Question, now_s: float) -> Entry | None:
        """Find the best that is held: fresh, else stale and not too old; None: nothing."""
        entry = self._entries.get(question)
        if entry is None:
            return None
        if now_s < entry.expires_s:
            self._entries.move_to_end(question)
            return entry
        if entry.older is not None and now_s >= entry.older.expires_s + self.bounds.max_stale_s:
            self.bytes -= entry.older.bytes
            entry.older = None
        best = entry.older or entry
        if now_s >= best.expires_s + self.bounds.max_stale_s:
            self._drop(question)
            self.counters.aged += 1
            return None
        self._entries.move_to_end(question)
        return best

    def put(self, question: Question, entry: Entry, now_s: float) -> None:
        """Hold an answer from now on; one with TTL 0 is never held, and what was held before stays."""
        if entry.ttl_s <= 0:
            return
        entry.start(now_s)
        self._hold(question, entry, now_s)
        self.counters.stored[entry.kind] += 1

    def restore(self, question: Question, entry: Entry, now_s: float) -> None:
        """Hold an answer whose times are set already."""
        self._hold(question, entry, now_s)

    def flush(self, zone: bytes = b"\x00") -> int:
        """Forget every name at and below a zone (lower-cased wire form); gives how many answers that were."""
        gone = [question for question in self._entries if lies_in(question.name, zone)]
        for question in gone:
            self._drop(question)
        return len(gone)

    def items(self) -> Iterator[tuple[Question, Entry]]:
        """Walk what is held, the longest unused first."""
        return iter(self._entries.items())

    def sizes(self) -> dict[str, int]:
        """Count what is held by kind."""
        negatives = sum(entry.kind == NEGATIVE for entry in self._entries.values())
        return {POSITIVE: len(self._entries) - negatives, NEGATIVE: negatives}

    def _hold(self, question: Question, entry: Entry, now_s: float) -> None:
        before = self._entries.get(question)
        if before is not None:
            if entry.kind == NEGATIVE:
                older = before if before.kind == POSITIVE else before.older
                if older is not None and now_s < older.expires_s + self.bounds.max_stale_s:
                    entry.older = older
            self._drop(question)
        self._entries[question] = entry
        self.bytes += entry.bytes + len(question.name) + _KEY_BYTES
        self.version += 1
        while len(self._entries) > self.bounds.max_entries or self.bytes > self.bounds.max_bytes:
            self._drop(next(iter(self._entries)))
            self.counters.evicted += 1
        if self.shown is not None and self._entries.get(question) is entry:
            self.shown.hold(question, entry, now_s)

    def show(self, shown: Shown | None, now_s: float) -> None:
        """Show everything anew, to somebody else or under other terms; None: nobody from now on."""
        if self.shown is not None:
            self.shown.table.clear()
        self.shown = shown
        if shown is not None:
            for question, entry in self._entries.items():
                shown.hold(question, entry, now_s)

    def _drop(self, question: Question) -> None:
        entry = self._entries.pop(question)
        self.bytes -= entry.bytes + len(question.name) + _KEY_BYTES
        self.version += 1
        if self.shown is not None:
            self.shown.drop(question)

"""What the Kubernetes source did so far, as plain integers.

Law: one writer, no locks, never reset; metrics read them when asked.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(slots=True)
class Counters:
    """What happened so far, as plain integers.

    Attributes:
        lists: complete, `healed` of them only to heal a gap.
        pages: of lists.
        watches: accepted by status.
        events: applied.
        bookmarks: confirmed.
        gone: positions that a server had forgotten (410).
        idle: watches that fell silent.
        broken: watches that ended early, or in the middle of something.
        garbled: lines that were no events.
        giant: lines that were too long to be read.
        disordered: events older than the one before.
        behind: servers that had not reached the position; `refused` of them by the sink, for an older list.
        skipped: objects that could not be used.
        probes: TCP connects while nothing could be reached.
    """

    lists: int = 0
    healed: int = 0
    pages: int = 0
    watches: int = 0
    events: int = 0
    bookmarks: int = 0
    gone: int = 0
    idle: int = 0
    broken: int = 0
    garbled: int = 0
    giant: int = 0
    disordered: int = 0
    behind: int = 0
    refused: int = 0
    skipped: int = 0
    probes: int = 0

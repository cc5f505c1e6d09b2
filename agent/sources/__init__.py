"""Where cluster state comes from.

Law: a source delivers a full set per kind, then ordered changes, and a position to resume from. It never
ends because of trouble at its origin: it reports `lost`, backs off and tries again for ever. It knows
nothing of records, snapshots or queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from agent.cluster.objects import Stored

Resume = Mapping[str, str]
"""kind → position (a resourceVersion, or a source's own token); empty: a full set is wanted."""


class Access(NamedTuple):
    """How a source stands with the API servers that it asks.

    Attributes:
        circuit: `closed`: requests pass; `open`: after failures nothing is asked for a while; `unreachable`: only TCP
            connects are tried; `slot`: the node waits for its place in the fleet's reconnect window.
        next_try_s: seconds until something is asked again, 0 while requests pass.
        budget_left: requests that may be spent at once.
        budget_burst, budget_per_hour: at most that many, and how fast they come back.
        slot_s, window_s: the node's place in the reconnect window, and the window.
    """

    circuit: str
    next_try_s: float
    budget_left: int
    budget_burst: int
    budget_per_hour: int
    slot_s: float
    window_s: float


class Sink(Protocol):
    """What a source may say. Every method returns at once and is called on the event loop's thread."""

    def identify(self, cluster_id: str) -> None:
        """Name the cluster this source speaks for (`uid:` + UID of the kube-system Namespace)."""

    def replace(self, kind: str, objects: list[Stored], position: str) -> bool:
        """Deliver the full set of one kind. False: refused, older than what is held (outage.md rule 5)."""

    def apply(self, kind: str, changes: list[tuple[str, Stored | None]], position: str) -> None:
        """Deliver changes in order: (key, object), or (key, None) for one that is gone."""

    def confirm(self, kind: str, position: str) -> None:
        """Say that the set held is still right at this position (bookmark, unchanged file)."""

    def skipped(self, kind: str, name: str, reason: str) -> None:
        """Name an object that could not be used; the others apply."""

    def connected(self) -> None:
        """Say that every kind is in sync and being followed."""

    def lost(self, reason: str) -> None:
        """Say that the origin is no longer being followed, and why, for people."""

    def requested(self, verb: str, code: int, size_bytes: int) -> None:
        """Account for one request to the API servers (code 0: no answer)."""


class Source(Protocol):
    """One origin of cluster state."""

    name: str

    async def run(self, sink: Sink, resume: Resume, known_identity: str) -> None:
        """Follow the origin for ever.

        Args:
            sink: told everything.
            resume: positions of the state already held, per kind; empty to start with a full set.
            known_identity: cluster the held state belongs to, "" if unknown. A source whose origin turns
                out to be another cluster must not resume: it delivers full sets.
        """

    def counts(self) -> Mapping[str, int]:
        """Give what was counted since the start: event → count."""

    def access(self) -> Access | None:
        """Tell how it stands with the API servers; None: it asks none, or not yet."""


async def follow(source: Source, sink: Sink, resume: Resume, known_identity: str) -> None:
    """Run a source; whatever it fails with is seen as a lost source, and goes on to whoever starts it again."""
    try:
        await source.run(sink, resume, known_identity)
    except Exception as error:
        what = type(error).__name__
        sink.lost(f"nodens failed while it followed its source ({what}); the log says where")
        raise

"""What comes to the publisher and waits, and the consistent steps that it hands to whoever keeps them.

Law: a step is objects together with the names compiled from them, or it is none.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from agent.cluster.objects import Stored
from agent.snapshot.compiler import Changes

Touched = tuple[str, str, str, bytes | None]


class Consistent(NamedTuple):
    """One consistent step: objects changed, names compiled from them, and where a restart may resume.

    `moves_on`: the positions are news by themselves, a quarantine that froze them has ended.
    """

    objects: list[Touched]
    nodes: Changes
    positions: dict[str, str]
    identity: str
    moves_on: bool = False


class Recorder(Protocol):
    """What keeps the steps (the persister)."""

    def record(self, step: Consistent) -> None:
        """Keep one step; returns at once."""

    def invalidate(self) -> None:
        """Be told that what comes next does not follow from what was kept."""


class Full(NamedTuple):
    """A full set that waits for its turn."""

    kind: str
    objects: list[Stored]
    position: str


class Some(NamedTuple):
    """Changes that wait for their turn."""

    kind: str
    changes: list[tuple[str, Stored | None]]
    position: str


class Decided(NamedTuple):
    """The end of a quarantine that waits for its turn: one of `hold.OUTCOMES`."""

    outcome: str

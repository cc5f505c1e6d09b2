"""A history that proves itself: state n is the number n, each step adds one.

Whatever comes back from disk must be one of the states that were, reached without a gap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.snapshot.entries import Entry
from agent.snapshot.format import SECTION_PROFILE, Header

if TYPE_CHECKING:
    from agent.snapshot.recovery import Recovered

UNKNOWN_SECTION = 77


def header(number: int, state: int = 0, **changes: object) -> Header:
    fields: dict[str, object] = {
        "cluster_identity": "uid:1",
        "generation": number,
        "epoch": 1,
        "positions": {"Service": str(state)},
        "confirmed_unix_s": 1.7e9 + state,
        "written_unix_s": 1.7e9,
        "origin": "file",
    }
    return Header(**{**fields, **changes})  # type: ignore[arg-type]


def sections(state: int, size_bytes: int = 0) -> list[tuple[int, bytes]]:
    return [(UNKNOWN_SECTION, bytes(size_bytes)), (SECTION_PROFILE, str(state).encode())]


def entry(state: int, size_bytes: int = 0) -> Entry:
    """The step to `state`."""
    return Entry({"Service": str(state)}, 1.7e9 + state, "uid:1", [], [(b"n", str(state).encode() + bytes(size_bytes))])


def state_of(recovered: Recovered | None) -> int:
    """The state on disk, 0 if there is none; fails if it is not one that was."""
    if recovered is None:
        return 0
    generation = recovered.generation
    offset, length = generation.sections[SECTION_PROFILE]
    state = int(generation.file[offset : offset + length])
    assert generation.header.positions == {"Service": str(state)}
    for step in recovered.entries:
        state += 1
        assert step.positions == {"Service": str(state)}
        assert step.nodes[0][1] is not None
        assert step.nodes[0][1].rstrip(b"\0") == str(state).encode()
    assert recovered.positions == {"Service": str(state)}
    assert recovered.confirmed_unix_s == 1.7e9 + state
    return state

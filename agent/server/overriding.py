"""Overrides: names that a person answers by hand, ahead of everything else.

Law: an override answers every type at its name (what it doesn't say is NODATA) in every state of the snapshot, and
each answer says so: extended error 4, Forged Answer (RFC 8914 section 4.5), is the code for an answer that is by policy
not the one its source gives. Names below an overridden one are not touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from agent.wire.codes import EDE_FORGED

NO_ZONE = 0xFFFF
"""Zone of a node in no own zone, or soon over: its NODATA has no SOA, so nobody keeps it (RFC 2308 section 5)."""
MAX_TEXT_CHARS = 160


class Overridden(NamedTuple):
    """What is answered at one name.

    Attributes:
        node: as `wire.node` lays it out, with TTLs that end no later than the override.
        error: extended error of every answer.
    """

    node: bytes
    error: tuple[int, str]


Overrides = Mapping[bytes, Overridden]
"""By lower-cased wire name; replaced as a whole, never changed."""


def forged(name: str, until: str) -> tuple[int, str]:
    """Write the extended error of an override: which one, and until when."""
    text = f"override of {name}"
    tail = f" until {until}"
    room = MAX_TEXT_CHARS - len(tail)
    return EDE_FORGED, (text if len(text) <= room else text[: room - 3] + "...") + tail

"""A consistent point, frozen and encoded as a generation, while changes go on.

Law: `freeze` waits for nothing, so that objects, names and positions are of one moment; `encode` reads only layers that
no longer change, in slices of the loop's time. The answers come last among the sections.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from agent.cluster.objects import Stored
from agent.errors import SnapshotError
from agent.records.zone import Profile
from agent.snapshot.compiler import profile_section
from agent.snapshot.format import SECTION_ANSWERS, SECTION_OBJECTS, SECTION_PROFILE, Header
from agent.snapshot.objects import encode_objects
from agent.snapshot.publisher import SLICE_S, Publisher
from agent.wire.table import AnswerTable, pack

MAX_SEEDS = 4
"""Hash seeds tried before a generation is given up; each one fails with a chance of one in a million."""

Sections = list[tuple[int, bytes]]


class Point(NamedTuple):
    """A consistent point, frozen; `header` lacks its number and time of writing.

    Attributes:
        table: what it was frozen from; by the end it may hold something else.
        layers: the layers frozen, as a table of their own.
    """

    table: AnswerTable
    layers: AnswerTable
    profile: Profile
    header: Header
    objects: list[Stored]


def freeze(publisher: Publisher, origin: str, confirmed_unix_s: float) -> Point:
    """Set aside what is held now; `table.rebase` or `table.thaw` ends it.

    Raises:
        SnapshotError: an earlier point is frozen still.
    """
    table = publisher.table
    table.freeze()
    layers = AnswerTable(table.zones)
    layers.base, layers.frozen = table.base, table.frozen
    header = Header(
        cluster_identity=publisher.identity,
        generation=0,
        epoch=publisher.epoch,
        positions=publisher.kept_positions,
        confirmed_unix_s=confirmed_unix_s,
        written_unix_s=0.0,
        origin=origin,
    )
    return Point(table, layers, publisher.profile, header, publisher.store.objects())


async def encode(point: Point, number: int, now_unix_s: float) -> tuple[Header, Sections]:
    """Encode a frozen point as generation `number`; the objects of the point are used up.

    Raises:
        SnapshotError: no seed puts every name within reach.
    """
    objects = await _in_slices(encode_objects(point.objects))
    point.objects.clear()
    answers = await _pack(point.layers)
    header = msgspec.structs.replace(point.header, generation=number, written_unix_s=now_unix_s)
    profile = profile_section(point.profile)
    return header, [(SECTION_PROFILE, profile), (SECTION_OBJECTS, objects), (SECTION_ANSWERS, answers)]


def _seed() -> int:
    return int.from_bytes(os.urandom(8), "big")


async def _pack(layers: AnswerTable) -> bytes:
    for _ in range(MAX_SEEDS - 1):
        try:
            return await _in_slices(pack(layers.frozen_items(), layers.names_at_most(), _seed()))
        except SnapshotError:
            continue
    return await _in_slices(pack(layers.frozen_items(), layers.names_at_most(), _seed()))


async def _in_slices(steps: Iterator[bytes | None]) -> bytes:
    """Run a builder of a section to its end, leaving the loop to others every `SLICE_S`."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + SLICE_S
    for made in steps:
        if made is not None:
            return made
        if loop.time() >= deadline_s:
            await asyncio.sleep(0)
            deadline_s = loop.time() + SLICE_S
    raise SnapshotError("a section's builder ended without the section")

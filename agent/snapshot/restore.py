"""From the newest state on disk to a table that answers.

Law: answers come first, in time that does not depend on the size of the cluster; objects follow behind them. Answers
made by another version or under another profile are not used: records are compiled anew from the objects.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from agent.cluster.objects import Stored
from agent.cluster.store import Store
from agent.errors import NodensError, SnapshotError
from agent.records.zone import Profile
from agent.snapshot.compiler import Compiler, read_profile
from agent.snapshot.entries import Place
from agent.snapshot.format import SECTION_ANSWERS, SECTION_OBJECTS, SECTION_PROFILE, Generation
from agent.snapshot.objects import decode_objects
from agent.snapshot.recovery import Recovered
from agent.snapshot.steps import Touched
from agent.wire.table import AnswerTable, PackedNodes


class Restored(NamedTuple):
    """What came of it.

    Attributes:
        is_compiled: the table answers already; otherwise the objects have to be compiled.
        keeps_positions: the source may resume; not so when other objects are selected now.
        reason: why the answers could not be used, "" if they could.
    """

    is_compiled: bool
    keeps_positions: bool
    reason: str


def restore(recovered: Recovered, table: AnswerTable, profile: Profile) -> Restored:
    """Fill an empty table from a verified generation and its journal."""
    generation = recovered.generation
    written = _profile(recovered)
    keeps = written is not None and written.selection == profile.selection
    if written != profile:
        reason = "other options" if written is not None else "another version"
        return Restored(is_compiled=False, keeps_positions=keeps, reason=f"its answers were made with {reason}")
    if SECTION_ANSWERS not in generation.sections:
        return Restored(is_compiled=False, keeps_positions=keeps, reason="it has no answers")
    try:
        table.rebase(PackedNodes(generation.file, *generation.sections[SECTION_ANSWERS]))
    except SnapshotError as error:
        return Restored(is_compiled=False, keeps_positions=keeps, reason=str(error))
    for entry in recovered.entries:
        for key, node in entry.nodes:
            table.put(key, node)
    return Restored(is_compiled=True, keeps_positions=keeps, reason="")


def _profile(recovered: Recovered) -> Profile | None:
    generation = recovered.generation
    if SECTION_PROFILE not in generation.sections:
        return None
    offset, length = generation.sections[SECTION_PROFILE]
    return read_profile(generation.file[offset : offset + length])


def objects(recovered: Recovered) -> Iterator[Stored | Touched]:
    """Walk the objects of a recovered state: the generation's, then what the journal changed.

    Raises:
        SnapshotError: while walking; what was delivered before is not the whole.
    """
    generation = recovered.generation
    if SECTION_OBJECTS not in generation.sections:
        raise SnapshotError("the generation has no objects")
    yield from decode_objects(generation.file, *generation.sections[SECTION_OBJECTS])
    for entry in recovered.entries:
        yield from entry.objects


def alone(generation: Generation) -> Recovered:
    """Give a generation as a state: as it was written, without what its journal adds."""
    return Recovered(generation, [], Place(generation.header.generation, 0), 0, 0, 0)


def recompile(recovered: Recovered, profile: Profile, table: AnswerTable) -> Iterator[None]:
    """Fill an empty table from a state's objects, in steps.

    Raises:
        SnapshotError: while walking; the table does not hold the whole then.
    """
    compiler = Compiler(profile, table)
    store = Store(needs_namespace=bool(profile.selection.rpartition("|")[2]))
    for row in objects(recovered):
        kind, key, owner, blob = row
        if blob is None:
            store.delete(kind, key)
        else:
            store.upsert(Stored(kind, key, owner, blob))
        yield
    compiler.declare_zones()
    while (namespace := store.take_dirty_namespace()) is not None:
        compiler.namespace(namespace[0], exists=namespace[1])
        yield
    while (dirty := store.take_dirty()) is not None:
        try:
            compiler.owner(*dirty)
        except (NodensError, msgspec.DecodeError, struct.error, ValueError) as error:
            raise SnapshotError(f"records of {dirty[0]} could not be made from its objects: {error!r}") from None
        yield

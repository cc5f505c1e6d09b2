"""From the newest state on disk to a table that answers.

Law: answers come first, in time that does not depend on the size of the cluster; objects follow behind them. Answers
made by another version or under another profile are not used: records are compiled anew from the objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from agent.cluster.objects import Stored
from agent.errors import SnapshotError
from agent.records.zone import Profile
from agent.snapshot.compiler import read_profile
from agent.snapshot.format import SECTION_ANSWERS, SECTION_OBJECTS, SECTION_PROFILE
from agent.snapshot.objects import decode_objects
from agent.snapshot.publisher import Touched
from agent.snapshot.recovery import Recovered
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

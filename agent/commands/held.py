"""A state read from disk for a person: no agent, no source, no lock, nothing written.

Law: what is shown is what was verified; what could not be used is told. Whoever reads in the middle of an outage must
not need a configuration that is right: with --state-dir none is read, and options come out of the snapshot itself.
"""

from __future__ import annotations

import argparse
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from agent.cluster.objects import Stored
from agent.commands.arguments import add_options, read_config
from agent.errors import NodensError, SnapshotError
from agent.records.zone import Profile
from agent.snapshot.compiler import read_profile, zones_of
from agent.snapshot.files import failure, named, open_trusted, read_all, trusted_owners
from agent.snapshot.format import SECTION_OBJECTS, SECTION_PROFILE, Generation, Header, decode
from agent.snapshot.generations import Generations
from agent.snapshot.objects import decode_objects
from agent.snapshot.recovery import Limits, Recovered
from agent.snapshot.restore import alone, recompile, restore
from agent.wire.table import AnswerTable

LATEST = "latest"
WHICH = "latest (default: what the agent would start with), the number of a generation, or the path of a file"
LIMITS = Limits(generation_bytes=1 << 34, journal_bytes=1 << 34)
"""A person may read whatever the machine can hold."""
MAX_DIGITS = 18
"""Of a generation's number."""
DIGEST_BYTES = 16


def usable(check: Callable[[str], object]) -> Callable[[str], str]:
    """Make a check of an argument out of a function that raises: what can't be used is wrong usage."""

    def checked(text: str) -> str:
        try:
            check(text)
        except NodensError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text

    return checked


def check_which(text: str) -> None:
    """Check what names a state.

    Raises:
        SnapshotError: it is none of the three.
    """
    if text != LATEST and not is_number(text) and not _is_path(text):
        raise SnapshotError(f"{text!r} names no state", hint=f"Write {WHICH}")


def is_number(text: str) -> bool:
    """Tell whether a text is the number of a generation."""
    return text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS


def _is_path(text: str) -> bool:
    return os.sep in text or text.endswith(".nds")


class Held(NamedTuple):
    """One state.

    Attributes:
        label: what it is, for people.
        where: state directory or file.
        recovered: generation and what journals add to it.
        profile: what decided the records.
        table: answers.
        notes: what was refused, left behind or compiled anew, for people.
    """

    label: str
    where: str
    recovered: Recovered
    profile: Profile
    table: AnswerTable
    notes: tuple[str, ...]

    @property
    def header(self) -> Header:
        """Header of the generation."""
        return self.recovered.generation.header

    @property
    def number(self) -> int:
        """Number of the generation."""
        return self.header.generation

    def names(self) -> Iterator[tuple[bytes, bytes]]:
        """Walk every name (wire form) and its node.

        Raises:
            SnapshotError: while walking, where the answers are damaged in spite of their checksums.
        """
        try:
            yield from self.table.items()
        except (struct.error, IndexError) as error:
            raise SnapshotError(f"the answers of {self.label} are damaged: {error}") from None

    @property
    def changes(self) -> int:
        """Steps of the journal that changed something."""
        return changes_of(self.recovered)

    def objects(self) -> dict[tuple[str, str], Stored]:
        """Collect the objects by kind and key.

        Raises:
            SnapshotError: they can't be read.
        """
        return objects_of(self.recovered)


def add_state_dir(parser: argparse.ArgumentParser) -> None:
    """Add --state-dir, and what else may say where it is."""
    add_options(parser, ("state_dir",))


def state_dir_of(args: argparse.Namespace) -> str:
    """Give the state directory; the configuration is read only if no argument names it.

    Raises:
        ConfigError: the configuration can't be used.
    """
    given: str | None = args.option_state_dir
    return given or read_config(args).state_dir


def load(state_dir: str, which: str = LATEST) -> Held:
    """Read one state and make its table.

    Raises:
        SnapshotError: there is none, or it must not be used.
    """
    check_which(which)
    if which == LATEST:
        label, where, recovered, notes = _latest(state_dir)
    elif is_number(which):
        generation = Generations(state_dir, LIMITS, offline=True).read(int(which))
        label, where, recovered, notes = f"generation {int(which)}", state_dir, alone(generation), ()
    else:
        generation = read_file(which)
        number = generation.header.generation
        label, where, recovered, notes = f"generation {number} of {which}", which, alone(generation), ()
    profile, table, more = _table(recovered)
    return Held(label, where, recovered, profile, table, (*notes, *more))


def _latest(state_dir: str) -> tuple[str, str, Recovered, tuple[str, ...]]:
    generations = Generations(state_dir, LIMITS, offline=True)
    recovered = generations.load()
    if recovered is None:
        reasons = "".join(f"\n  {reason}" for reason in generations.refused)
        raise SnapshotError(
            f"there is no valid snapshot in {generations.path}{':' if reasons else ''}{reasons}",
            hint="" if reasons else "Name the agent's state directory with --state-dir",
        )
    changes = changes_of(recovered)
    later = f" and {changes} later change{'s' * (changes != 1)} from its journal" if changes else ""
    return f"generation {recovered.generation.header.generation}{later}", state_dir, recovered, generations.refused


def read_file(path: str) -> Generation:
    """Read and verify a generation wherever it lies.

    Raises:
        SnapshotError: it must not be used.
    """
    try:
        owners = trusted_owners(Path(path).absolute().parent.stat(), offline=True)
    except OSError as error:
        raise failure(path, "can't be found", error) from None
    fd, status = open_trusted(path, path, None, owners, LIMITS.generation_bytes)
    try:
        return decode(read_all(fd, status.st_size))
    except SnapshotError as error:
        raise named(path, error) from None
    except OSError as error:
        raise failure(path, "can't be read", error) from None
    finally:
        os.close(fd)


def changes_of(recovered: Recovered) -> int:
    """Count the steps of a journal that changed something; the others only confirmed it."""
    return sum(1 for entry in recovered.entries if entry.objects or entry.nodes)


def objects_of(recovered: Recovered) -> dict[tuple[str, str], Stored]:
    """Collect a state's objects; raises SnapshotError if they can't be read."""
    generation = recovered.generation
    if SECTION_OBJECTS not in generation.sections:
        raise SnapshotError(f"generation {generation.header.generation} has no objects")
    walked = decode_objects(generation.file, *generation.sections[SECTION_OBJECTS])
    found = {(stored.kind, stored.key): stored for stored in walked}
    for entry in recovered.entries:
        for kind, key, owner, blob in entry.objects:
            if blob is None:
                found.pop((kind, key), None)
            else:
                found[kind, key] = Stored(kind, key, owner, blob)
    return found


def _table(recovered: Recovered) -> tuple[Profile, AnswerTable, tuple[str, ...]]:
    profile, note = profile_of(recovered.generation)
    table = AnswerTable(zones_of(profile))
    made = restore(recovered, table, profile)
    if made.is_compiled:
        return profile, table, ()
    notes = [note] if note else []
    notes.append(f"{made.reason}: names were compiled anew from its objects")
    table = AnswerTable(zones_of(profile))
    for _ in recompile(recovered, profile, table):
        pass
    return profile, table, tuple(notes)


def profile_of(generation: Generation) -> tuple[Profile, str]:
    """Read the options a generation was made with, be it by another version."""
    offset, length = generation.sections.get(SECTION_PROFILE, (0, 0))
    section = generation.file[offset : offset + length]
    profile = read_profile(section)
    if profile is not None:
        return profile, ""
    try:
        return msgspec.msgpack.decode(section[DIGEST_BYTES:], type=Profile), ""
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Profile(), "its options can't be read: zone cluster.local and defaults are taken"

"""`nodens snapshot list` and `verify`: which files there are, and whether each can be trusted.

Law: `list` tells the verdict of the checksums; `verify` also reads every object and every node, as a start would. A bad
file is told with the bytes that are bad. A journal whose last record is cut is what a kill leaves: told, but not bad.
"""

from __future__ import annotations

import argparse
import struct
import time
from pathlib import Path
from typing import Any, NamedTuple

from agent.commands.held import LATEST, LIMITS, is_number, read_file, state_dir_of
from agent.commands.presentation import one_line, to_json
from agent.commands.standing import pinned_in_words, standing
from agent.errors import SnapshotError
from agent.observe.words import age, amount, count
from agent.records.names import to_text
from agent.snapshot.files import AbsentError, journal_name
from agent.snapshot.format import SECTION_ANSWERS, SECTION_OBJECTS, Generation
from agent.snapshot.generations import Generations
from agent.snapshot.inspection import Description, JournalDescription, describe, describe_journal
from agent.snapshot.objects import decode_objects
from agent.wire import node as nodes
from agent.wire.table import PackedNodes

EXIT_OK = 0
EXIT_BAD = 1
_CUT = "is cut"
_OBJECTS = struct.Struct("<Q")
_NAMES = struct.Struct("<16xQ")


class File(NamedTuple):
    """One file of the snapshot directory, examined.

    Attributes:
        path: of the file.
        size_bytes: of the file.
        is_bad: it must not be used.
        verdict: `ok`, or what is wrong.
        facts: what else is known of it, for machines.
    """

    path: str
    size_bytes: int
    is_bad: bool
    verdict: str
    facts: dict[str, Any]


def list_all(args: argparse.Namespace) -> int:
    """List what is there."""
    state_dir = state_dir_of(args)
    generations, pin = Generations(state_dir, LIMITS, offline=True), standing(state_dir).pin
    listing = generations.list()
    found = [_generation(describe(generations.path_of(number), LIMITS)) for number in listing.generations]
    for file in found:
        if pin is not None and file.facts.get("generation") == pin.generation:
            file.facts["pinned"] = pinned_in_words(pin)
    journals = [
        _journal(describe_journal(f"{generations.path}/{journal_name(number)}", LIMITS))
        for number in reversed(listing.journals)
    ]
    if args.json:
        print(to_json({"generations": _plain(found), "journals": _plain(journals)}))
        return EXIT_OK
    now_s = time.time()
    rows: list[tuple[str, ...]] = [
        ("GENERATION", "WRITTEN", "CONFIRMED", "SIZE", "NAMES", "OBJECTS", "SOURCE", "VERDICT")
    ]
    rows += [_list_row(each, now_s) for each in found]
    rows += [_journal_row(each, now_s) for each in journals]
    _print_rows(rows)
    for file in found:
        if "pinned" in file.facts:
            print(one_line(f"{file.facts['pinned']}"))
    if not found:
        print(f"No generation in {generations.path}.")
    return EXIT_OK


def _list_row(file: File, now_s: float) -> tuple[str, ...]:
    facts = file.facts
    if "generation" not in facts:
        return (Path(file.path).name, "", "", amount(file.size_bytes), "", "", "", file.verdict)
    return (
        str(facts["generation"]),
        f"{age(now_s - facts['written_unix_s'])} ago",
        f"{age(now_s - facts['confirmed_unix_s'])} ago",
        amount(file.size_bytes),
        count(facts["names"]) if facts["names"] is not None else "",
        count(facts["objects"]) if facts["objects"] is not None else "",
        facts["source"],
        file.verdict + (", PINNED" if "pinned" in facts else ""),
    )


def _journal_row(file: File, now_s: float) -> tuple[str, ...]:
    facts = file.facts
    confirmed_s = facts.get("confirmed_unix_s", 0.0)
    told = f"{age(now_s - confirmed_s)} ago" if confirmed_s else ""
    records = f"{count(facts['records'])} records" if "records" in facts else ""
    return (f"journal {facts.get('journal', '')}", "", told, amount(file.size_bytes), "", records, "", file.verdict)


def verify(args: argparse.Namespace) -> int:
    """Check files."""
    generations = Generations(state_dir_of(args), LIMITS, offline=True)
    files: list[File] = []
    if args.which:
        paths = [_path(generations, which) for which in args.which]
    else:
        listing = generations.list()
        paths = [generations.path_of(number) for number in listing.generations]
        files = [
            _journal(describe_journal(f"{generations.path}/{journal_name(number)}", LIMITS))
            for number in listing.journals
        ]
        if not paths:
            raise AbsentError(f"there is no generation in {generations.path}")
    files = [_deep(_generation(describe(path, LIMITS))) for path in paths] + files
    if args.json:
        print(to_json({"files": _plain(files), "bad": sum(file.is_bad for file in files)}))
    else:
        for file in files:
            print(
                one_line(f"{'BAD' if file.is_bad else 'ok ':4}{file.path}: {file.verdict}, {amount(file.size_bytes)}")
            )
            for part in file.facts.get("parts", ()):
                told = f"bytes {part['from']}-{part['to']}: {part['verdict']}"
                print(one_line(f"    {part['name']:10}{told}"))
    return EXIT_BAD if any(file.is_bad for file in files) else EXIT_OK


def _path(generations: Generations, which: str) -> str:
    if which == LATEST:
        which = str(max(generations.list().generations, default=1))
    return generations.path_of(int(which)) if is_number(which) else which


def _generation(seen: Description) -> File:
    facts: dict[str, Any] = {}
    if seen.layout is not None:
        header = seen.layout.header
        facts = {
            "generation": header.generation,
            "source": header.origin,
            "cluster": header.cluster_identity,
            "written_unix_s": header.written_unix_s,
            "confirmed_unix_s": header.confirmed_unix_s,
            "names": _number_at(seen, SECTION_ANSWERS, _NAMES),
            "objects": _number_at(seen, SECTION_OBJECTS, _OBJECTS),
            "parts": _parts(seen),
        }
    verdict = f"{seen.reason}{f'. {seen.hint}' if seen.hint else ''}" if seen.reason else "ok"
    return File(seen.path, seen.size_bytes, bool(seen.reason), verdict, facts)


def _parts(seen: Description) -> list[dict[str, Any]]:
    parts = [
        {
            "name": verdict.section.name,
            "from": verdict.section.offset,
            "to": verdict.section.offset + verdict.section.length,
            "verdict": verdict.reason or "ok",
        }
        for verdict in seen.sections
    ]
    return [{"name": "header", "from": 0, "to": 4096, "verdict": "ok"}, *parts]


def _number_at(seen: Description, section_id: int, layout: struct.Struct) -> int | None:
    """Read a count at the start of a section that is valid."""
    for section, reason in seen.sections:
        if section.id == section_id and not reason and section.length >= layout.size:
            try:
                with Path(seen.path).open("rb") as file:
                    file.seek(section.offset)
                    number: int = layout.unpack(file.read(layout.size))[0]
                    return number
            except (OSError, struct.error):
                return None  # pruned since it was examined
    return None


def _deep(file: File) -> File:
    """Read what a start would read of a generation whose checksums are right."""
    if file.is_bad:
        return file
    try:
        generation = read_file(file.path)
        wrong = _wrong_inside(generation)
    except SnapshotError as error:
        wrong = error.message
    except (struct.error, IndexError) as error:
        wrong = f"the answers are damaged: {error}"
    return file._replace(is_bad=True, verdict=wrong) if wrong else file


def _wrong_inside(generation: Generation) -> str:
    if SECTION_OBJECTS in generation.sections:
        for _ in decode_objects(generation.file, *generation.sections[SECTION_OBJECTS]):
            pass
    if SECTION_ANSWERS in generation.sections:
        packed = PackedNodes(generation.file, *generation.sections[SECTION_ANSWERS])
        for key, node in packed.items():
            if not nodes.is_sound(node) or packed.find(key) != node:
                return f"the node of {to_text(key)} is damaged, or not found by its name"
    return ""


def _journal(seen: JournalDescription) -> File:
    if seen.replay is None:
        return File(seen.path, seen.size_bytes, is_bad=True, verdict=f"{seen.reason}. {seen.hint}", facts={})
    replay = seen.replay
    facts = {
        "journal": replay.head.generation,
        "records": replay.sequence,
        "sealed": replay.sealed,
        "left_bytes": replay.left_bytes,
        "confirmed_unix_s": max((entry.confirmed_unix_s for entry in replay.entries), default=0.0),
    }
    if not replay.left_bytes:
        return File(seen.path, seen.size_bytes, is_bad=False, verdict="ok", facts=facts)
    good_bytes = seen.size_bytes - replay.left_bytes
    part = {"name": "left", "from": good_bytes, "to": seen.size_bytes, "verdict": replay.reason}
    is_bad = _CUT not in replay.reason
    return File(seen.path, seen.size_bytes, is_bad, replay.reason, {**facts, "parts": [part]})


def _plain(files: list[File]) -> list[dict[str, Any]]:
    return [
        {"path": file.path, "bytes": file.size_bytes, "valid": not file.is_bad, "verdict": file.verdict, **file.facts}
        for file in files
    ]


def _print_rows(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(one_line("  ".join(cells).rstrip()))

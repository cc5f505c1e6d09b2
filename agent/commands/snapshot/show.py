"""`nodens snapshot show`: one state, and what stands at one of its names.

Law: counts are of the state as an agent would answer it, journals included; where they come from is told.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from typing import Any

import msgspec

from agent.cluster.objects import KINDS, Stored
from agent.commands.held import Held, load, state_dir_of
from agent.commands.manifests import facts
from agent.commands.presentation import Row, one_line, record_counts, rows_of, to_json
from agent.commands.resolve import resolve
from agent.observe.words import age, amount, count
from agent.records.names import to_text
from agent.snapshot.format import SECTION_NAMES
from agent.wire.codes import ANY

EXIT_OK = 0
EXIT_NO_NAME = 1


def run(args: argparse.Namespace) -> int:
    """Show a state."""
    held = load(state_dir_of(args), args.which)
    shown = _state(held)
    is_found = True
    if args.name is not None:
        shown["name"] = _name(held, args.name)
        is_found = bool(shown["name"]["records"])
    if args.json:
        print(to_json(shown))
    else:
        print("\n".join(one_line(line) for line in _lines(held, shown)))
    return EXIT_OK if is_found else EXIT_NO_NAME


def _state(held: Held) -> dict[str, Any]:
    header, recovered = held.header, held.recovered
    objects = Counter(kind for kind, _ in held.objects())
    names, records = _count_names(held)
    return {
        "where": held.where,
        "generation": header.generation,
        "epoch": header.epoch,
        "format": f"{header.major}.{header.minor}",
        "compat": header.compat,
        "incompat": header.incompat,
        "source": header.origin,
        "cluster": recovered.identity,
        "positions": recovered.positions,
        "written_unix_s": header.written_unix_s,
        "confirmed_unix_s": recovered.confirmed_unix_s,
        "bytes": len(recovered.generation.file),
        "journals": recovered.journals,
        "journal_bytes": recovered.journal_bytes,
        "journal_changes": held.changes,
        "sections": [
            {"id": number, "name": SECTION_NAMES.get(number, "unknown"), "offset": offset, "bytes": length}
            for number, (offset, length) in recovered.generation.sections.items()
        ],
        "options": msgspec.to_builtins(held.profile, builtin_types=(bytes,))
        | {"ns_addresses": [each.hex() for each in held.profile.ns_addresses]},
        "objects": {kind: objects[kind] for kind in KINDS},
        "names": names,
        "records": dict(sorted(records.items())),
        "notes": list(held.notes),
    }


def _count_names(held: Held) -> tuple[dict[str, int], Counter[str]]:
    names: Counter[str] = Counter()
    records: Counter[str] = Counter()
    zones = held.table.zones
    for key, node in held.names():
        zone = held.table.zone_of(key)
        names[to_text(zone.name) if zone is not None else "?"] += 1
        for kind, number in record_counts(key, node):
            records[kind] += number
    return {to_text(zone.name): names[to_text(zone.name)] for zone in zones}, records


def _name(held: Held, name: str) -> dict[str, Any]:
    found = resolve(held, name, [ANY])
    node = held.table.find(found.key)
    rows = rows_of(found.key, node) if node is not None else []
    owners = _owners(held, found.key) if node is not None else []
    return {
        "name": to_text(found.key),
        "exists": node is not None,
        "records": [row.as_json() for row in rows],
        "objects": [{"kind": stored.kind, "key": stored.key, "facts": facts(stored)} for stored in owners],
    }


def _owners(held: Held, key: bytes) -> list[Stored]:
    """Find the objects a name below svc.ZONE comes from: the Service and its slices."""
    zone = held.table.zone_of(key)
    if zone is None or zone.reverse:
        return []
    labels = to_text(key[: len(key) - len(zone.name)] + b"\0").removesuffix(".").split(".")
    if len(labels) < 3 or labels[-1] != "svc":
        return []
    owner = f"{labels[-2]}/{labels[-3]}"
    return [stored for stored in held.objects().values() if stored.owner == owner]


def _lines(held: Held, shown: dict[str, Any]) -> list[str]:
    now_s = time.time()
    steps = f", and {shown['journal_changes']} later changes from its journal" if shown["journals"] else ""
    out = [
        f"Generation {shown['generation']}{steps}, in {shown['where']}",
        _row("source", f"{shown['source']}, cluster {shown['cluster'] or 'unknown'}"),
        _row("confirmed", f"{_stamp(shown['confirmed_unix_s'])}, {age(now_s - shown['confirmed_unix_s'])} ago"),
        _row("written", f"{_stamp(shown['written_unix_s'])}, {age(now_s - shown['written_unix_s'])} ago"),
        _row("positions", ", ".join(f"{kind} {at}" for kind, at in sorted(shown["positions"].items())) or "none"),
        _row("order", f"epoch {shown['epoch']}, format {shown['format']}"),
        _row("size", f"{amount(shown['bytes'])}, journals {amount(shown['journal_bytes'])}"),
    ]
    for section in shown["sections"]:
        end = section["offset"] + section["bytes"]
        out.append(_row("section", f"{section['id']} {section['name']}, bytes {section['offset']}-{end}"))
    out.append(_row("zones", ", ".join(f"{zone} {count(number)} names" for zone, number in shown["names"].items())))
    out.append(_row("records", ", ".join(f"{count(number)} {kind}" for kind, number in shown["records"].items())))
    out.append(_row("objects", ", ".join(f"{count(number)} {kind}" for kind, number in shown["objects"].items())))
    profile = held.profile
    out.append(_row("options", f"ttl {profile.ttl_s} s, pods {profile.pods}{_switches(shown['options'])}"))
    out += [_row("note", note) for note in held.notes]
    if "name" in shown:
        out += ["", *_name_lines(shown["name"])]
    return out


def _switches(options: dict[str, Any]) -> str:
    on = [word for word in ("endpoint_pod_names", "noendpoints", "ignore_empty_service") if options[word]]
    selection = f", selection {options['selection']}" if options["selection"] else ""
    return "".join(f", {word}" for word in on) + selection


def _name_lines(name: dict[str, Any]) -> list[str]:
    if not name["exists"]:
        return [f"{name['name']} does not exist"]
    out = [str(Row(**row)) for row in name["records"]] or [f"{name['name']} has no records"]
    for held in name["objects"]:
        out += [f"{held['kind']} {held['key']}", *(f"  {fact}" for fact in held["facts"])]
    return out


def _row(name: str, text: str) -> str:
    return f"  {name:11}{text}"


def _stamp(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(unix_s))

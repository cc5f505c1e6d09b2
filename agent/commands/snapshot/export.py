"""`nodens snapshot export`: what is on disk, for other programs.

Law: the list gives back, through `--source file:`, exactly the objects that were held. Hosts and zone file give the
names as they would be answered; an address that is hidden from answers is not in them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from agent.cluster.objects import KINDS
from agent.commands.held import Held, load, state_dir_of
from agent.commands.manifests import manifest
from agent.commands.presentation import Row, rows_of
from agent.errors import NodensError
from agent.records.names import to_text, to_wire
from agent.snapshot.compiler import zones_of
from agent.wire.sections import MAX_SOA_TTL_S, SOA_EXPIRE_S, SOA_REFRESH_S, SOA_RETRY_S
from agent.wire.table import ZoneMeta

EXIT_OK = 0
_ADDRESSES = frozenset({"A", "AAAA"})


class ExportError(NodensError):
    """What was asked for can't be exported."""


def run(args: argparse.Namespace) -> int:
    """Export a state."""
    held = load(state_dir_of(args), args.which)
    for note in held.notes:
        print(f"nodens: {note}", file=sys.stderr)
    if args.format == "list":
        lines = kubernetes_list(held)
    elif args.format == "hosts":
        lines = hosts(held, _zone(held, args.zone))
    else:
        lines = zone_file(held, _zone(held, args.zone))
    if args.output is None:
        for line in lines:
            sys.stdout.write(line + "\n")
        return EXIT_OK
    write_whole(Path(args.output), lines)
    print(f"{args.output}: {held.label}", file=sys.stderr)
    return EXIT_OK


def kubernetes_list(held: Held) -> Iterator[str]:
    """Write the objects as a Kubernetes List in JSON, an object a line.

    Raises:
        SnapshotError: while writing, when an object can't be read.
    """
    objects = held.objects()
    yield '{"apiVersion":"v1","kind":"List","metadata":{"resourceVersion":""},"items":['
    names = sorted(objects, key=lambda name: (KINDS.index(name[0]), name[1]))
    for number, name in enumerate(names, 1):
        comma = "," if number < len(names) else ""
        yield msgspec.json.encode(manifest(objects[name])).decode() + comma
    yield "]}"


def _zone(held: Held, name: str | None) -> ZoneMeta:
    zones = zones_of(held.profile)
    if name is None:
        return zones[0]
    wanted = to_wire(name)
    for zone in zones:
        if zone.name == wanted:
            return zone
    known = ", ".join(to_text(zone.name) for zone in zones)
    raise ExportError(f"{name} is none of the zones in this snapshot", hint=f"Those are {known}")


def _rows(held: Held, zone: ZoneMeta) -> Iterator[tuple[bytes, list[Row]]]:
    """Walk the names of a zone in canonical order (RFC 4034 section 6.1), each with its records."""
    own = ((key, node) for key, node in held.names() if held.table.zone_of(key) == zone)
    for key, node in sorted(own, key=lambda item: _labels(item[0])):
        yield key, rows_of(key, node)


def _labels(key: bytes) -> list[bytes]:
    labels, at = [], 0
    while key[at]:
        labels.append(key[at + 1 : at + 1 + key[at]])
        at += key[at] + 1
    return labels[::-1]


def hosts(held: Held, zone: ZoneMeta) -> Iterator[str]:
    """Write names with addresses as lines of /etc/hosts; a Service also by the short names pods use."""
    yield f"# {held.label}, zone {to_text(zone.name)}"
    suffix = "." + to_text(zone.name)
    for _, rows in _rows(held, zone):
        for row in rows:
            if row.type in _ADDRESSES:
                name = row.name.removesuffix(".")
                short = row.name.removesuffix(suffix)
                names = [name, short, short.removesuffix(".svc")] if short.endswith(".svc") else [name]
                yield f"{row.value}\t{' '.join(names)}"


def zone_file(held: Held, zone: ZoneMeta) -> Iterator[str]:
    """Write one zone as a master file (RFC 1035 section 5)."""
    apex, ttl_s = to_text(zone.name), min(held.profile.ttl_s, MAX_SOA_TTL_S)
    yield f"; {held.label}"
    numbers = f"{held.number & 0xFFFFFFFF} {SOA_REFRESH_S} {SOA_RETRY_S} {SOA_EXPIRE_S} {ttl_s}"
    yield str(Row(apex, ttl_s, "SOA", f"ns.dns.{apex} hostmaster.{apex} {numbers}"))
    for _, rows in _rows(held, zone):
        for row in rows:
            yield str(row)


def write_whole(path: Path, lines: Iterable[str]) -> None:
    """Write a file beside its place and rename it, so that who follows it never sees a part of it.

    Raises:
        ExportError: it can't be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("x", encoding="utf-8") as out:
            for line in lines:
                out.write(line + "\n")
            out.flush()
            os.fsync(out.fileno())
        beside.replace(path)
    except OSError as error:
        raise ExportError(f"{path} can't be written: {error.strerror}") from None
    finally:
        beside.unlink(missing_ok=True)

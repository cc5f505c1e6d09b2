"""`nodens resolve`: what a name resolves to, read from disk.

Law: needs no agent, no source, no network and no configuration; answers by the responder itself, from the newest state
that can be trusted, and says how old that is. A name that had to be completed, and a state that is not the newest one
written, are told. Exit 0 if there was an answer, 1 if not.
"""

from __future__ import annotations

import argparse
import difflib
import ipaddress
import sys
import time
from typing import Any, NamedTuple

from agent import __version__
from agent.cluster.objects import NAMESPACE, SERVICE
from agent.commands.held import LATEST, WHICH, Held, add_state_dir, check_which, load, state_dir_of, usable
from agent.commands.presentation import Reply, one_line, read_reply, rows_of, to_json, type_name, type_number
from agent.commands.standing import Standing, overridden_in_words, pinned_in_words, standing
from agent.errors import SnapshotError, WireError
from agent.observe.words import age
from agent.orders import answers_of
from agent.records.names import reverse, to_text, to_wire
from agent.server.options import ResponderOptions
from agent.server.responder import Responder
from agent.wire.codes import AAAA, ANY, IN, PTR, SRV, A
from agent.wire.posture import FRESH, Posture

EXIT_OK = 0
EXIT_NO_ANSWER = 1
MAX_HINTS = 10
NO_ORDERS = Standing()
_EXAMPLES = """\
examples:
  nodens resolve web.shop.svc.cluster.local             A and AAAA, from the newest state on disk
  nodens resolve web.shop                               completed with .svc.ZONE, and says so
  nodens resolve _http._tcp.web.shop SRV
  nodens resolve 10.96.0.10                             an address: PTR
  nodens resolve web.shop --generation 810              as it was in an older generation
  nodens resolve web.shop ANY --json --state-dir /mnt/old-node/var/lib/nodens

Overrides and a pinned generation count as they would for an agent that started now, and are told.
Nothing is asked of the network: only names of own zones are answered. Exit code 0 if there was an answer, 1 if not.
"""


class Asked(NamedTuple):
    """One question and its reply."""

    type: str
    reply: Reply


class Found(NamedTuple):
    """What came of a name: the one that was asked for in the end, and its replies."""

    key: bytes
    is_completed: bool
    asked: list[Asked]

    @property
    def has_answer(self) -> bool:
        """Tell whether any question had an answer."""
        return any(each.reply.answer for each in self.asked)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `resolve`."""
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "name", metavar="NAME", type=usable(to_wire), help="a name, complete or as a pod would write it, or an address"
    )
    parser.add_argument(
        "type",
        metavar="TYPE",
        type=usable(type_number),
        nargs="?",
        help="record type; default: A and AAAA, SRV for _PORT names, PTR for addresses",
    )
    parser.add_argument("--generation", metavar="WHICH", type=usable(check_which), default=LATEST, help=WHICH)
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    add_state_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Resolve."""
    type_numbers = [type_number(args.type)] if args.type else []
    state_dir, orders = state_dir_of(args), Standing()
    if args.generation == LATEST:
        orders = standing(state_dir)
    held = _held(state_dir, args.generation, orders)
    found = resolve(held, args.name, type_numbers, orders)
    hints = [] if found.has_answer else _hints(held, found.key)
    if args.json:
        print(to_json({**_as_json(held, args.name, found, hints), "orders": orders.lines()}))
    else:
        for note in held.notes:
            print(f"nodens: {one_line(note)}", file=sys.stderr)
        print("\n".join(_lines(held, args.name, found, [*hints, *_ordered(found, orders)])))
    return EXIT_OK if found.has_answer else EXIT_NO_ANSWER


def _held(state_dir: str, which: str, orders: Standing) -> Held:
    """Load what an agent that started now would serve: the pinned generation, if there is one that can be."""
    if orders.pin is None:
        return load(state_dir, which)
    try:
        held = load(state_dir, str(orders.pin.generation))
    except SnapshotError as error:
        held = load(state_dir, which)
        return held._replace(notes=(*held.notes, f"{pinned_in_words(orders.pin)}; it can't be served: {error}"))
    return held._replace(notes=(*held.notes, pinned_in_words(orders.pin)))


def _ordered(found: Found, orders: Standing) -> list[str]:
    """Say which orders had a part in what was found, and which can't be believed."""
    names = {to_text(found.key), *(row.name for each in found.asked for row in each.reply.answer)}
    said = [overridden_in_words(*row) for row in orders.overrides if row[0].name in names]
    return [*said, *orders.problems]


def resolve(held: Held, name: str, types: list[int], orders: Standing = NO_ORDERS) -> Found:
    """Answer a name from a state.

    Args:
        held: the state.
        name: absolute (with a final dot), relative, or an address.
        types: RR types; empty for what is usual for such a name.
        orders: overrides go before what the state says.

    Raises:
        WireError: the name can't be one.
    """
    responder = responder_of(held)
    responder.overrides = {each.key: answers_of(each, left_s, held.table) for each, left_s in orders.overrides}
    tried: list[Found] = []
    for number, key in enumerate(_candidates(held, name)):
        is_ours = held.table.zone_of(key) is not None
        asked = [_ask(responder, key, rtype) for rtype in types or _usual_types(name, key)]
        if ANY in types and is_ours:
            asked = [_ask(responder, key, rtype) for rtype in _types_at(held, key)] or asked
        tried.append(Found(key, number > 0, asked))
        if asked[0].reply.status == "NOERROR":
            return tried[-1]
    return next((found for found in tried if held.table.zone_of(found.key) is not None), tried[0])


def responder_of(held: Held) -> Responder:
    """Make a responder that answers from a state as it is, without lowering TTLs."""
    responder = Responder(held.table, ResponderOptions(ttl_s=held.profile.ttl_s, pods=held.profile.pods))
    age_s = max(0, int(time.time() - held.recovered.confirmed_unix_s))
    responder.posture = Posture(
        FRESH, connected=False, ttl_cap_s=None, age_s=age_s, generation=held.number, note="disk"
    )
    return responder


def _candidates(held: Held, name: str) -> list[bytes]:
    """Names to try: as it is, then as a pod's search path would complete it."""
    try:
        return [reverse(ipaddress.ip_address(name).packed)]
    except ValueError:
        pass
    text = name.removesuffix(".")
    found = [to_wire(text)]
    if not name.endswith("."):
        for suffix in [f"{tree}{zone}" for zone in held.profile.zones for tree in ("svc.", "")]:
            try:
                found.append(to_wire(f"{text}.{suffix}"))
            except WireError:
                continue
    return found


def _usual_types(name: str, key: bytes) -> list[int]:
    if key.endswith(b"\x04arpa\x00"):
        return [PTR]
    return [SRV] if name.startswith("_") else [A, AAAA]


def _types_at(held: Held, key: bytes) -> list[int]:
    node = held.table.find(key)
    return [] if node is None else list(dict.fromkeys(type_number(row.type) for row in rows_of(key, node)))


def _ask(responder: Responder, key: bytes, rtype: int) -> Asked:
    head = b"\0\0\0\0\0\1\0\0\0\0\0\0"
    question = key + rtype.to_bytes(2, "big") + IN.to_bytes(2, "big")
    # Only what is no query at all gets no reply, which the reader refuses like any other that is too short.
    replied = responder.respond(head + question, "127.0.0.1", tcp=True)
    reply = replied if isinstance(replied, bytes) else b""
    return Asked(type_name(rtype), read_reply(reply))


def _hints(held: Held, key: bytes) -> list[str]:
    """Say what may have been meant instead of a name that has no answer."""
    zone = held.table.zone_of(key)
    if zone is None:
        return [f"only names of own zones are answered: {', '.join(held.profile.zones)}"]
    labels = to_text(key[: len(key) - len(zone.name)] + b"\0").removesuffix(".").split(".")
    if labels[-1:] == ["svc"]:
        labels.pop()
    try:
        objects = held.objects()
    except SnapshotError:
        return []
    namespaces = {name for kind, name in objects if kind == NAMESPACE}
    services = [name for kind, name in objects if kind == SERVICE]
    namespaces.update(name.partition("/")[0] for name in services)
    where = sorted(namespace for namespace, _, service in (s.partition("/") for s in services) if service == labels[-1])
    if len(labels) == 1 and where:
        return [f"{labels[0]} is a Service of namespace {namespace}" for namespace in where[:MAX_HINTS]]
    if labels[-1] not in namespaces:
        close = difflib.get_close_matches(labels[-1], namespaces, MAX_HINTS)
        said = f"; there is {', '.join(close)}" if close else f" in {', '.join(held.profile.zones)}"
        return [f"there is no namespace {labels[-1]}{said}"]
    if len(labels) == 1:
        return [f"{labels[0]} is a namespace"]
    own = [name.partition("/")[2] for name in services if name.startswith(f"{labels[-1]}/")]
    if labels[-2] in own:
        return [f"namespace {labels[-1]} has a Service {labels[-2]}, which has no such name or no data of this type"]
    close = difflib.get_close_matches(labels[-2], own, MAX_HINTS)
    said = f"; it has {', '.join(close)}" if close else ""
    return [f"namespace {labels[-1]} has no Service {labels[-2]}{said}"]


def _lines(held: Held, name: str, found: Found, hints: list[str]) -> list[str]:
    header, confirmed_s = held.header, held.recovered.confirmed_unix_s
    stamp = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(confirmed_s))
    cluster = held.recovered.identity or "unknown"
    out = [
        f"; nodens {__version__}, from disk: {held.label} in {held.where}",
        f"; age={age(time.time() - confirmed_s)} generation={held.number} source={header.origin} cluster={cluster}",
        f"; last confirmed by its source {stamp}",
    ]
    if found.is_completed:
        out.append(f"; {name} is no name of an own zone as it stands: looked up as {to_text(found.key)}")
    for each in found.asked:
        out += _sections(to_text(found.key), each)
    out += [f"; {hint}" for hint in hints]
    return [one_line(line) for line in out]


def _sections(name: str, asked: Asked) -> list[str]:
    reply = asked.reply
    kind = reply.status if reply.answer or reply.status != "NOERROR" else "NOERROR, no data"
    out = ["", f";; {name} {asked.type}: {kind}{', authoritative' if reply.is_authoritative else ''}"]
    out += [str(row) for row in reply.answer]
    for title, rows in (("authority", reply.authority), ("additional", reply.additional)):
        if rows:
            out += [f";; {title}", *map(str, rows)]
    return out


def _as_json(held: Held, name: str, found: Found, hints: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "asked_for": to_text(found.key),
        "completed": found.is_completed,
        "answers": [
            {
                "type": each.type,
                "status": each.reply.status,
                "authoritative": each.reply.is_authoritative,
                "answer": [row.as_json() for row in each.reply.answer],
                "authority": [row.as_json() for row in each.reply.authority],
                "additional": [row.as_json() for row in each.reply.additional],
            }
            for each in found.asked
        ],
        "hints": hints,
        "state": {
            "where": held.where,
            "generation": held.number,
            "journal_changes": held.changes,
            "age_s": round(max(0.0, time.time() - held.recovered.confirmed_unix_s), 3),
            "confirmed_unix_s": held.recovered.confirmed_unix_s,
            "source": held.header.origin,
            "cluster": held.recovered.identity,
            "notes": list(held.notes),
        },
    }

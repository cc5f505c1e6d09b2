"""`nodens cache`: what is kept of upstreams' answers, and the order to forget it.

Law: `show` reads the file in the state directory and needs no agent; `flush` leaves an order there, which the agent
follows within a second or two, or at its next start, and which the audit log names. Exit 0; 1 if there is nothing to
show, or the order could not be given.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from typing import Any

from agent.commands.arguments import add_options, read_config
from agent.commands.held import usable
from agent.commands.presentation import Row, name_text, read_reply, to_json, type_name
from agent.control import audit
from agent.control.folder import FLUSH, Folder
from agent.errors import SnapshotError
from agent.forward import persistence
from agent.forward.flush import FlushOrder, new_order
from agent.forward.persistence import Held
from agent.forward.reply import lies_in
from agent.observe.words import age, amount, count
from agent.records.names import to_text, to_wire
from agent.wire.codes import RCODES

_EXAMPLES = """\
examples:
  nodens cache show                       how many answers are on disk, and how old they are
  nodens cache show example.com           the answers at and below a name
  nodens cache show --all --json | jq .   every answer
  nodens cache flush example.com          forget what upstreams said of a name and all below it
  nodens cache flush                      forget everything

`show` tells what was last written to disk (cache.save_every, and when the agent stops or its upstreams are lost).
Answers for own zones are in no cache: `nodens resolve`.
"""
_ROOT = b"\x00"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `cache`."""
    parser.epilog = _EXAMPLES
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs", required=True)
    for name, summary, run_verb in (
        ("show", "what is held on disk", _show),
        ("flush", "have the agent forget what upstreams said", _flush),
    ):
        verb = verbs.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + ".", allow_abbrev=False
        )
        verb.set_defaults(run_verb=run_verb)
        verb.add_argument("name", metavar="NAME", nargs="?", type=usable(to_wire), help="this name and all below it")
        if name == "show":
            verb.add_argument("--all", action="store_true", help="every answer, not their number alone")
            verb.add_argument("--json", action="store_true", help="the same as JSON")
        add_options(verb, ("state_dir",))


def run(args: argparse.Namespace) -> int:
    """Show or flush."""
    code: int = args.run_verb(args)
    return code


def _show(args: argparse.Namespace) -> int:
    state_dir = read_config(args).state_dir
    stored = persistence.read(state_dir, offline=True)
    if stored is None:
        raise SnapshotError(
            f"no cache on disk in {state_dir}",
            hint="It is written every cache.save_every, if cache.persist is on and anything was forwarded",
        )
    passed_s = max(0.0, time.time() - stored.written_unix_s)
    chosen = [held for held in stored.answers if lies_in(held.question.name, _zone(args))]
    wants_all = args.all or args.name is not None
    if args.json:
        rows = [_as_json(held, passed_s) for held in chosen] if wants_all else []
        print(to_json({"written_unix_s": stored.written_unix_s, "answers": len(chosen), "shown": rows}))
        return 0
    fresh = sum(held.left_s > passed_s for held in chosen)
    octets = sum(len(group.body) for held in chosen for group in held.entry.answer + held.entry.authority)
    print(f"{count(len(chosen))} answers ({amount(octets)} of records), written {age(passed_s)} ago:")
    print(f"{count(fresh)} within their TTL, {count(len(chosen) - fresh)} past it (they would be answered stale)")
    for held in chosen if wants_all else ():
        print("\n".join(_lines(held, passed_s)))
    return 0


def _flush(args: argparse.Namespace) -> int:
    zone = _zone(args)
    with Folder(read_config(args).state_dir, make=True, offline=True) as folder, folder.locked():
        audit.record(folder, "cache flush", {"zone": to_text(zone)})
        folder.write(FLUSH, new_order(folder.read(FLUSH, FlushOrder), zone, time.time()))
    print(f"ordered: what upstreams said of {to_text(zone)} and all below it is forgotten")
    return 0


def _zone(args: argparse.Namespace) -> bytes:
    return to_wire(args.name) if args.name is not None else _ROOT


def _lines(held: Held, passed_s: float) -> Iterable[str]:
    left_s = held.left_s - passed_s
    when = f"{age(left_s)} left" if left_s > 0 else f"expired {age(-left_s)} ago"
    bits = "".join(word for word, is_set in ((" DO", held.question.do), (" CD", held.question.cd)) if is_set)
    question = f"{name_text(held.question.name)} {type_name(held.question.qtype)}{bits}"
    yield f"{question}: {RCODES[held.entry.rcode]}, {when}"
    for row in _rows(held):
        yield f"  {row}"


def _as_json(held: Held, passed_s: float) -> dict[str, Any]:
    return {
        "name": name_text(held.question.name),
        "type": type_name(held.question.qtype),
        "do": held.question.do,
        "cd": held.question.cd,
        "status": RCODES[held.entry.rcode],
        "left_s": round(held.left_s - passed_s, 3),
        "records": [row.as_json() for row in _rows(held)],
    }


def _rows(held: Held) -> list[Row]:
    """Read the records of an answer as a client would."""
    groups = held.entry.answer + held.entry.authority
    counts = (sum(g.records for g in held.entry.answer), sum(g.records for g in held.entry.authority))
    head = bytes((0, 0, 0x80, held.entry.rcode, 0, 1)) + b"".join(n.to_bytes(2, "big") for n in counts) + bytes(2)
    reply = read_reply(head + held.question.on_wire + b"".join(group.body for group in groups))
    return reply.answer + reply.authority

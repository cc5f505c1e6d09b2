"""`nodens override`: answer a name by hand, for a while.

Law: writes one document and one line of the audit log, asks nobody, and works with the agent down. An override has an
end and a reason, or is not given. A name that was probably meant otherwise is refused with what to type instead.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from agent.commands.held import LIMITS, add_state_dir, profile_of, state_dir_of, usable
from agent.commands.ordering import TAKEN_UP, add_reason, give, span_s
from agent.commands.presentation import one_line, to_json
from agent.config.values import show
from agent.control import span
from agent.control.audit import who
from agent.control.folder import OVERRIDES, Folder
from agent.control.overrides import (
    LONGEST_S,
    MAX_ADDRESSES,
    MAX_OVERRIDES,
    Override,
    Overrides,
    with_override,
    without,
)
from agent.control.span import Now, Span
from agent.errors import ControlError
from agent.observe.words import age, moment
from agent.records.names import packed, to_text, to_wire
from agent.snapshot.compiler import zones_of
from agent.snapshot.files import AbsentError
from agent.snapshot.generations import Generations
from agent.wire.table import AnswerTable, ZoneMeta

EXIT_OK = 0
EXIT_FAILURE = 1
_EXAMPLES = f"""\
examples:
  nodens override set db.shop.svc.cluster.local 10.0.7.12 --for 2h --reason "database moved, API servers down"
  nodens override set db.shop.svc.cluster.local 10.0.7.12,fd00::12 --for 30m --reason "both families"
  nodens override set web.shop.svc.cluster.local --cname web.shop.svc.cluster.west --for 1d --reason "fail over west"
  nodens override set api.example.com. 192.0.2.7 --for 1h --reason "their DNS is down"   (a name outside: final dot)
  nodens override list
  nodens override unset db.shop.svc.cluster.local

An override answers every type at its name (with an IPv4 address alone AAAA is no data) and nothing below it, ahead of
everything else, in every state of the snapshot. Each answer says so: extended error 4 (Forged Answer), with the name
and the end. It ends by itself after --for ({show(LONGEST_S)} at most), survives restarts, and is one of {MAX_OVERRIDES}
at most. {TAKEN_UP}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `override`."""
    parser.epilog = _EXAMPLES
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs", required=True)
    for name, summary, add, run_verb in (
        ("set", "answer a name by hand from now on, for a while", _add_set, _set),
        ("unset", "take an override back", _add_unset, _unset),
        ("list", "list overrides: what, until when, by whom, why", _add_list, _list),
    ):
        verb = verbs.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            allow_abbrev=False,
            epilog=_EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.set_defaults(run_verb=run_verb)
        add(verb)


def run(args: argparse.Namespace) -> int:
    """Run one verb."""
    code: int = args.run_verb(args)
    return code


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", metavar="NAME", type=usable(to_wire), help="complete; outside own zones with a dot at its end"
    )
    parser.add_argument(
        "addresses",
        metavar="ADDRESS[,ADDRESS...]",
        type=_addresses,
        nargs="?",
        default=(),
        help=f"IPv4 and IPv6 addresses, {MAX_ADDRESSES} at most",
    )
    parser.add_argument(
        "--cname", metavar="TARGET", type=usable(to_wire), default="", help="instead of addresses: ask this name"
    )
    parser.add_argument(
        "--for",
        dest="for_s",
        metavar="DURATION",
        type=span_s,
        required=True,
        help=f"for how long, such as 30m, 2h or 1d; {show(LONGEST_S)} at most",
    )
    add_reason(parser, required=True)


def _add_unset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", type=usable(to_wire), help="the name")
    add_reason(parser, required=False)


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    add_state_dir(parser)


def _addresses(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(","))
    for part in found:
        if packed(part) is None:
            raise argparse.ArgumentTypeError(f"{part!r} is no IPv4 or IPv6 address (for a name: --cname)")
    return found


def _set(args: argparse.Namespace) -> int:
    state_dir = state_dir_of(args)
    name = to_text(to_wire(args.name))
    target = to_text(to_wire(args.cname)) if args.cname else ""
    table = AnswerTable(_zones(state_dir))
    _check_is_meant(args.name, name, table)
    now = span.now()
    override = _override(args, name, target, now)
    with Folder(state_dir, make=True, offline=True) as folder, folder.locked():
        held = folder.read(OVERRIDES, Overrides) or Overrides()
        left = without(held, frozenset(each.name for each in held.overrides if not each.span.left_s(now)))
        before = left.find(name)
        document = with_override(left, override)
        fields = {
            "name": name,
            "answers": override.says,
            "for": show(args.for_s),
            "until": moment(override.span.until_unix_s),
            "reason": args.reason,
            **({"instead_of": before.says} if before is not None else {}),
        }
        give(folder, "override set", fields, lambda: folder.write(OVERRIDES, document))
    said = f" instead of {before.says}" if before is not None else ""
    print(f"{name} is answered with {override.says}{said} until {moment(override.span.until_unix_s)}.")
    print(f"The order lies in {state_dir}/control. {TAKEN_UP}")
    if target and table.zone_of(to_wire(target)) is None:
        print(
            f"{target} is in no own zone: clients get the alias, and its addresses only if an upstream is asked",
            file=sys.stderr,
        )
    return EXIT_OK


def _override(args: argparse.Namespace, name: str, target: str, now: Now) -> Override:
    if bool(args.addresses) == bool(target):
        raise ControlError(
            f"{name}: {'both addresses and a CNAME' if target else 'neither an address nor a CNAME'} given",
            hint="Write one of: nodens override set NAME ADDRESS ..., nodens override set NAME --cname TARGET ...",
        )
    try:
        return Override(
            name=name,
            span=Span(now.unix_s, now.boot_s, now.boot_id, args.for_s),
            reason=args.reason,
            who=who(),
            addresses=tuple(dict.fromkeys(args.addresses)),
            cname=target,
        )
    except ValueError as error:
        raise ControlError(str(error)) from None


def _check_is_meant(typed: str, name: str, table: AnswerTable) -> None:
    if typed.endswith(".") or table.zone_of(to_wire(name)) is not None:
        return
    zones = [to_text(zone.name) for zone in table.zones if not zone.reverse]
    raise ControlError(
        f"{typed} is in no own zone ({', '.join(zones) or 'none is known: there is no snapshot yet'})",
        hint=f"Write a name of a zone in full ({typed}.svc.{zones[0] if zones else 'ZONE.'}), "
        f"or {name} with its dot at the end if the name outside is meant",
    )


def _zones(state_dir: str) -> tuple[ZoneMeta, ...]:
    """Read the own zones from the newest snapshot; none if there is none, so that an override needs no snapshot."""
    recovered = Generations(state_dir, LIMITS, offline=True).load()
    return zones_of(profile_of(recovered.generation)[0]) if recovered is not None else ()


def _unset(args: argparse.Namespace) -> int:
    name = to_text(to_wire(args.name))
    with Folder(state_dir_of(args), make=True, offline=True) as folder, folder.locked():
        held = folder.read(OVERRIDES, Overrides) or Overrides()
        before = held.find(name)
        if before is None:
            raise ControlError(
                f"{name} is not overridden",
                hint="See what is: nodens override list" if held.overrides else "Nothing is",
            )
        document = without(held, frozenset((name,)))
        fields = {"name": name, "answered": before.says, "reason": args.reason}
        give(folder, "override unset", fields, lambda: folder.write(OVERRIDES, document))
    print(f"{name} is no longer answered with {before.says}. {TAKEN_UP}")
    return EXIT_OK


def _list(args: argparse.Namespace) -> int:
    now = span.now()
    try:
        with Folder(state_dir_of(args), offline=True) as folder:
            held = folder.read(OVERRIDES, Overrides) or Overrides()
    except AbsentError:
        held = Overrides()
    rows = [(each, each.span.left_s(now)) for each in held.overrides]
    active = sorted((row for row in rows if row[1]), key=lambda row: row[1])
    if args.json:
        print(to_json({"overrides": [_as_json(each, left_s) for each, left_s in active]}))
        return EXIT_OK
    if not active:
        print("No name is overridden.")
    for each, left_s in active:
        print(one_line(f"{each.name} {each.says}"))
        print(one_line(f"  until {moment(each.span.until_unix_s)} ({age(left_s)} left), by {each.who}: {each.reason}"))
    return EXIT_OK


def _as_json(each: Override, left_s: float) -> dict[str, Any]:
    return {
        "name": each.name,
        "addresses": list(each.addresses),
        "cname": each.cname,
        "set_unix_s": each.span.set_unix_s,
        "until_unix_s": each.span.until_unix_s,
        "left_s": round(left_s, 3),
        "who": each.who,
        "reason": each.reason,
    }

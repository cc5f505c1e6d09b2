"""`nodens quarantine`: what is held, and what becomes of it.

Law: reads and writes documents of the state directory alone, so that it works without the admin endpoint, and with no
agent running: a decision is then followed when the agent is there and the change has come again.
"""

from __future__ import annotations

import argparse
import sys
import time

from agent.commands.arguments import add_options, read_config
from agent.commands.presentation import one_line, to_json
from agent.control import audit
from agent.control.folder import DECISION, QUARANTINE, Folder, check_text
from agent.control.quarantine import Decision, HeldDocument
from agent.errors import ControlError
from agent.observe.words import age, count
from agent.snapshot.files import AbsentError

EXIT_OK = 0
MAX_SHOWN = 20
_EXAMPLES = """\
examples:
  nodens quarantine show
  nodens quarantine accept 1764000000 --reason "payments was moved to the other cluster"
  nodens quarantine reject 1764000000 --reason "namespace deleted by accident, is being restored"

A change that takes away suspiciously much (docs/guard.md) is held: names go on answering as before, all other changes
pass. What is held is applied after guard.hold_for, unless it is decided before; what takes a protected name away
(guard.protected) stays held until somebody decides.
  accept  applies it now.
  reject  drops it: the previous objects stay until the source says something new about each of them. A full list that
          still lacks them is something new: it is judged, and held, anew. Mend the source, or accept.
A decision is followed within about a second, also by an agent that is started later, and is written to the audit log.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `quarantine`."""
    parser.epilog = _EXAMPLES
    parser.add_argument("action", choices=("show", "accept", "reject"))
    parser.add_argument("id", nargs="?", default="", metavar="ID", help="of the quarantine, as `show` prints it")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why; required to accept or reject")
    parser.add_argument("--json", action="store_true", help="show as JSON")
    add_options(parser, ("state_dir",))


def run(args: argparse.Namespace) -> int:
    """Show or decide."""
    state_dir = read_config(args).state_dir
    if args.action == "show":
        held = _read(state_dir)
        if args.json:
            print(to_json({"active": held is not None, "quarantine": held}))
        else:
            print("\n".join(_lines(held, time.time())))
        return EXIT_OK
    _decide(state_dir, args.id, accept=args.action == "accept", reason=args.reason)
    return EXIT_OK


def _read(state_dir: str) -> HeldDocument | None:
    try:
        with Folder(state_dir, offline=True) as folder:
            return folder.read(QUARANTINE, HeldDocument)
    except AbsentError:
        return None


def _decide(state_dir: str, wanted: str, *, accept: bool, reason: str) -> None:
    word = "accept" if accept else "reject"
    try:
        check_text(reason, "the reason")
    except ValueError as error:
        raise ControlError(str(error), hint=f'Say why: nodens quarantine {word} ID --reason "..."') from None
    nothing = ControlError(f"nothing is held by the agent of {state_dir}", hint="Is it another --state-dir?")
    try:
        with Folder(state_dir, offline=True) as folder, folder.locked():
            held = folder.read(QUARANTINE, HeldDocument)
            if held is None:
                raise nothing
            if held.id != wanted:
                what = f"what is held is {held.id}, not {wanted}" if wanted else "no ID was given"
                raise ControlError(what, hint=f"Look at `nodens quarantine show`, then {word} {held.id}")
            differences = "; ".join(held.differences)[:1000]
            audit.record(folder, f"quarantine {word}", {"id": wanted, "reason": reason, "difference": differences})
            folder.write(DECISION, Decision(id=wanted, accept=accept, reason=reason))
    except AbsentError:
        raise nothing from None
    done = "applied" if accept else "dropped, and the previous objects stay,"
    print(
        f"{word.capitalize()}ed: {count(held.objects)} held objects are {done} within about a second.", file=sys.stderr
    )


def _lines(held: HeldDocument | None, now_unix_s: float) -> list[str]:
    if held is None:
        return ["Nothing is held."]
    since = f"{_at(held.since_unix_s)} ({age(now_unix_s - held.since_unix_s)} ago)"
    lines = [
        f"Quarantine {one_line(held.id)}: {count(held.objects)} objects held since {since}.",
        "The previous state answers for them.",
        *(f"  It {one_line(difference)}." for difference in held.differences),
        f"Applied by itself {_at(held.applied_unix_s)} (in {age(held.applied_unix_s - now_unix_s)}), if nobody decides."
        if held.applied_unix_s
        else "Held until somebody decides.",
        f'  nodens quarantine accept {held.id} --reason "..."   it is right: apply it now',
        f'  nodens quarantine reject {held.id} --reason "..."   it is wrong: drop it',
    ]
    shown = held.changes[:MAX_SHOWN]
    lines.append(f"Held ({len(shown)} of {count(held.objects)}; --json has up to {len(held.changes)}):")
    return lines + [f"  {one_line(each.kind)} {one_line(each.key)}: {each.what}" for each in shown]


def _at(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(unix_s))

"""`nodens snapshot rollback` and `unpin`: serve an older generation, and the newest state again.

Law: writes one document and one line of the audit log, asks nobody, and works with the agent down. Only a generation
that can be read and verified right now is pinned.
"""

from __future__ import annotations

import argparse
import time

from agent.commands.held import LIMITS, state_dir_of
from agent.commands.ordering import TAKEN_UP, add_reason, give, span_s
from agent.config.values import show
from agent.control import span
from agent.control.audit import who
from agent.control.folder import PIN, Folder
from agent.control.pin import Pin
from agent.control.span import Span
from agent.errors import ControlError, SnapshotError
from agent.observe.words import age, moment
from agent.snapshot.generations import Generations

EXIT_OK = 0


def add_rollback(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `rollback`."""
    parser.add_argument("generation", metavar="GENERATION", type=_number, help="its number, see `nodens snapshot list`")
    parser.add_argument(
        "--for",
        dest="for_s",
        metavar="DURATION",
        type=span_s,
        help="for how long, such as 30m, 2h or 1d; default: until `nodens snapshot unpin`",
    )
    add_reason(parser, required=True)


def add_unpin(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `unpin`."""
    add_reason(parser, required=False)


def rollback(args: argparse.Namespace) -> int:
    """Pin a generation."""
    state_dir = state_dir_of(args)
    header = Generations(state_dir, LIMITS, offline=True).read(args.generation).header
    now = span.now()
    held = Span(now.unix_s, now.boot_s, now.boot_id, args.for_s) if args.for_s else None
    pin = Pin(args.generation, now.unix_s, args.reason, who(), held)
    until = moment(held.until_unix_s) if held is not None else "unpinned"
    fields = {"generation": args.generation, "for": show(args.for_s) if args.for_s else "", "until": until}
    with Folder(state_dir, make=True, offline=True) as folder, folder.locked():
        fields |= {"reason": args.reason}
        give(folder, "snapshot rollback", fields, lambda: folder.write(PIN, pin))
    try:
        # The agent may have removed it in the very moment before it could see the pin.
        Generations(state_dir, LIMITS, offline=True).read(args.generation)
    except SnapshotError as error:
        with Folder(state_dir, offline=True) as folder, folder.locked():
            give(folder, "snapshot unpin", {"reason": str(error)}, lambda: folder.remove(PIN))
        raise
    old = age(time.time() - header.confirmed_unix_s)
    print(f"Generation {args.generation}, last confirmed {old} ago, is served until {until}. {TAKEN_UP}")
    print("The source goes on being followed behind it. Back to the newest state: nodens snapshot unpin")
    return EXIT_OK


def unpin(args: argparse.Namespace) -> int:
    """Take the pin back."""
    with Folder(state_dir_of(args), make=True, offline=True) as folder, folder.locked():
        try:
            pin = folder.read(PIN, Pin)
        except ControlError as error:
            # Whatever lies there, it is to be gone.
            give(folder, "snapshot unpin", {"found": str(error), "reason": args.reason}, lambda: folder.remove(PIN))
            print(f"A pin that can't be read is taken away. {TAKEN_UP}")
            return EXIT_OK
        if pin is None:
            raise ControlError("no generation is pinned: the newest state is served")
        fields = {"generation": pin.generation, "reason": args.reason}
        give(folder, "snapshot unpin", fields, lambda: folder.remove(PIN))
    print(f"Generation {pin.generation} is no longer pinned: the newest state is served. {TAKEN_UP}")
    return EXIT_OK


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < len(text) <= 18 and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is the number of no generation")
    return int(text)

"""What commands that order something share: reason, span, the folder, the line in the audit log.

Law: what a person typed is checked before anything is written; the audit line is on disk before the order is, and an
order that failed after it is told by a second line. No command asks the agent: it works with the agent down.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from agent.commands.held import add_state_dir
from agent.config.values import UnfitError, duration
from agent.control.audit import record
from agent.control.folder import Folder, check_text
from agent.control.overrides import LONGEST_S, SHORTEST_S
from agent.errors import ControlError

TAKEN_UP = "A running agent takes it up within 2 s, another at its start."


def add_reason(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add --reason, and where the order goes."""
    how = "" if required else " (default: %(default)s)"
    parser.add_argument(
        "--reason",
        metavar="TEXT",
        type=_reason,
        required=required,
        default="taken back",
        help=f"why; stands in the audit log{how}",
    )
    add_state_dir(parser)


def span_s(text: str) -> float:
    """Read for how long an order is to hold."""
    try:
        return duration(SHORTEST_S, LONGEST_S)(text)
    except UnfitError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def give(folder: Folder, what: str, fields: Mapping[str, object], order: Callable[[], object]) -> None:
    """Write an order down, then give it; the caller holds the folder's lock.

    Raises:
        ControlError: it is not given.
    """
    record(folder, what, fields)
    try:
        order()
    except ControlError as error:
        record(folder, f"{what} failed", {**fields, "error": str(error)})
        raise


def _reason(text: str) -> str:
    try:
        check_text(text, "it")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text

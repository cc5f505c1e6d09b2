"""`nodens snapshot`: what lies in the state directory, for people, and which of it is served.

Law: all but `rollback` and `unpin` only read; needs no agent, no lock and no configuration. Times are told as ages,
trouble in words; `--json` says the same to machines.
"""

from __future__ import annotations

import argparse

from agent.commands.held import LATEST, WHICH, add_state_dir, check_which, usable
from agent.commands.snapshot import diff, export, overview, rollback, show
from agent.records.names import to_wire

WHICH_TYPE = usable(check_which)
_EXAMPLES = """\
examples:
  nodens snapshot list                       generations and journals: age, size, names, verdict
  nodens snapshot verify                     every byte of every file; exit 1 if any is bad
  nodens snapshot show 812 --name web.shop.svc.cluster.local
  nodens snapshot diff 810 812               what changed between two generations, in words
  nodens snapshot export --output cluster.json && nodens serve --source file:cluster.json
  nodens snapshot export --format hosts >> /etc/hosts
  nodens snapshot rollback 810 --reason "812 lost half of shop" --for 2h
  nodens snapshot unpin

WHICH is `latest`, the number of a generation, or the path of a generation file.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `snapshot`."""
    parser.epilog = _EXAMPLES
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs", required=True)
    for name, summary, add, run_verb in (
        ("list", "list generations and journals", _no_more, overview.list_all),
        ("show", "header, sections and counts of one state", _add_show, show.run),
        ("verify", "check every byte; exit 1 if any file is bad", _add_verify, overview.verify),
        ("export", "objects as a file for --source file:, or names as hosts or zone file", _add_export, export.run),
        ("diff", "what changed from one state to another", _add_diff, diff.run),
        ("rollback", "serve an older generation, whatever the source says", rollback.add_rollback, rollback.rollback),
        ("unpin", "take `rollback` back: serve the newest state", rollback.add_unpin, rollback.unpin),
    ):
        verb = verbs.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + ".", allow_abbrev=False
        )
        verb.set_defaults(run_verb=run_verb)
        add(verb)
        if name in {"rollback", "unpin"}:
            continue
        if name != "export":
            verb.add_argument("--json", action="store_true", help="the same as JSON")
        add_state_dir(verb)


def _no_more(parser: argparse.ArgumentParser) -> None:
    """`list` needs nothing else."""


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("which", metavar="WHICH", type=WHICH_TYPE, nargs="?", default=LATEST, help=WHICH)
    parser.add_argument(
        "--name",
        metavar="NAME",
        type=usable(to_wire),
        help="also what stands at one name, and the objects it comes from",
    )


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "which",
        metavar="WHICH",
        type=WHICH_TYPE,
        nargs="*",
        help="latest, numbers or paths of generations; default: all of them, and their journals",
    )


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("which", metavar="WHICH", type=WHICH_TYPE, nargs="?", default=LATEST, help=WHICH)
    parser.add_argument(
        "--format",
        choices=("list", "hosts", "zone"),
        default="list",
        help="list: Kubernetes List in JSON (default); hosts: lines for /etc/hosts; zone: master file (RFC 1035)",
    )
    parser.add_argument(
        "--zone", metavar="ZONE", type=usable(to_wire), help="zone of hosts and zone; default: the first one"
    )
    parser.add_argument("--output", metavar="FILE", help="write there, whole or not at all; default: standard output")


def _add_diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", metavar="A", type=WHICH_TYPE, help=WHICH)
    parser.add_argument(
        "after", metavar="B", type=WHICH_TYPE, nargs="?", default=LATEST, help="the same; default: latest"
    )
    parser.add_argument(
        "--limit", metavar="N", type=int, default=diff.LIMIT, help=f"lines of each part; default {diff.LIMIT}, 0: all"
    )


def run(args: argparse.Namespace) -> int:
    """Run one verb."""
    code: int = args.run_verb(args)
    return code

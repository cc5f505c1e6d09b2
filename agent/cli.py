"""The command `nodens`: which sub-command, with which arguments, to which exit code.

Law: only the module of the sub-command that was asked for is imported, so that `serve` answers sooner. Exit codes:
0 ok, 1 failure, 2 usage or configuration. Errors of nodens become one message on stderr, never a traceback.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from agent import __version__
from agent.errors import ConfigError, NodensError

EXIT_FAILURE = 1
EXIT_USAGE = 2
READ_SOURCE = "_read-source"
"""Hidden: the process that reads files for the file source (`agent.sources.reader`)."""
COMMANDS = {
    "serve": "answer DNS queries from the snapshot, and keep it up to date",
    "check": "check a configuration; show what is in force, or every option there is",
    "status": "state, age, source and counters of the running agent",
    "rollout-gate": "tell by the exit code whether the next wave of a rollout may go",
    "resolve": "what a name resolves to, read from disk; no agent needed",
    "quarantine": "show suspicious change that is held; accept or reject it",
    "cache": "show what is kept of upstreams' answers, or have it forgotten",
    "snapshot": "list, show, verify, export and compare what is on disk; serve an older generation",
    "override": "break-glass: answer a name by hand, for a while",
}
_DESCRIPTION = "Cluster DNS on every node, answered from a persisted snapshot, with or without the control plane."
_EXAMPLES = """\
examples:
  nodens serve --source file:cluster.json --listen 127.0.0.1:5300 --state-dir ./state
  nodens serve                          in a pod or with a kubeconfig: follows the Kubernetes API
  dig @127.0.0.1 -p 5300 web.shop.svc.cluster.local
  nodens status                         is it fresh? since when not? why?
  nodens resolve web.shop.svc.cluster.local --state-dir ./state
  nodens COMMAND --help                 each command has examples of its own

Every option is also a key of the configuration file and a NODENS_... variable; an argument goes before a variable,
a variable before the file. `nodens check --options` lists them all. Exit codes: 0 ok, 1 failure, 2 usage.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]  # argparse says NoReturn, and so it is
        """Say what is wrong and where to read on."""
        self.exit(EXIT_USAGE, f"nodens: {message}\nSee `{self.prog} --help`.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command; gives the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == [READ_SOURCE]:
        from agent.sources import reader

        return reader.main(words[1:])
    try:
        return _run(words)
    except ConfigError as error:
        print(f"nodens: {error}", file=sys.stderr)
        return EXIT_USAGE
    except NodensError as error:
        print(f"nodens: {error}", file=sys.stderr)
        return EXIT_FAILURE
    except BrokenPipeError:
        # Whoever read our output has enough; the interpreter would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_FAILURE


def _run(words: list[str]) -> int:
    command = next((word for word in words if word in COMMANDS), "")
    parser = _parser(command)
    args = parser.parse_args(words)
    if not args.command:
        parser.print_help()
        return EXIT_USAGE
    code: int = _module(args.command).run(args)
    sys.stdout.flush()
    return code


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"agent.commands.{command.replace('-', '_')}")


def _parser(command: str) -> argparse.ArgumentParser:
    """Build the parser; only the sub-command in question gets its arguments."""
    parser = _Parser(
        prog="nodens",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"nodens {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == command:
            _module(name).add_arguments(sub)
    return parser

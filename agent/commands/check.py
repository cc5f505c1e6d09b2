"""`nodens check`: is a configuration right, what is in force, what could be set?

Law: nothing is started, bound or written; every problem is told at once.
"""

from __future__ import annotations

import argparse
import os
import sys

from agent.commands.arguments import add_options, given_options
from agent.config.loader import inspect
from agent.config.show import as_yaml, reference

EXIT_OK = 0
EXIT_USAGE = 2
_EXAMPLES = """\
examples:
  nodens check nodens.yaml              OK, or every problem with its line; exit 0 or 2
  nodens check nodens.yaml --print      the configuration in force, and where each value comes from
  nodens check --options                every option: default, meaning, variable, what changes it

NODENS_... variables count as they do for serve.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `check`."""
    parser.epilog = _EXAMPLES
    parser.add_argument("file", nargs="?", metavar="FILE", help="configuration file")
    parser.add_argument("--print", dest="show", action="store_true", help="show the configuration in force as YAML")
    parser.add_argument("--options", action="store_true", help="list every option there is")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Check."""
    if args.options:
        print("\n".join(reference()))
        return EXIT_OK
    loaded = inspect(given_options(args), os.environ, args.file or args.config)
    if loaded.config is None:
        for problem in loaded.problems:
            print(problem, file=sys.stderr)
        count = len(loaded.problems)
        print(f"{count} problem{'s' * (count > 1)}; nothing would start with this configuration", file=sys.stderr)
        return EXIT_USAGE
    if args.show:
        print(as_yaml(loaded.config, loaded.origins), end="")
    else:
        print(f"OK: {loaded.file or 'no file, defaults'}")
    return EXIT_OK

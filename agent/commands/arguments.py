"""Arguments that several commands share, and the configuration they lead to.

Law: an argument is an option's value on its way to the loader; nothing is decided here.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from agent.config import Config, load
from agent.config.loader import FLAGS
from agent.config.options import DEFAULT_FILE
from agent.config.slots import table
from agent.errors import ConfigError

_METAVARS = {
    "source": "SOURCE",
    "kubeconfig": "FILE",
    "context": "NAME",
    "zones": "ZONE",
    "listen": "ADDR:PORT",
    "upstream": "ADDR[:PORT]",
    "state_dir": "DIR",
    "admin": "WHERE",
    "log_level": "LEVEL",
    "log_format": "FORM",
}
_REPEATED = frozenset(("zones", "listen", "upstream"))


def add_options(parser: argparse.ArgumentParser, keys: Sequence[str] = tuple(FLAGS)) -> None:
    """Add --config, the arguments of some options (by key), and --set for all others."""
    group = parser.add_argument_group("configuration")
    group.add_argument("--config", metavar="FILE", help=f"YAML file; default: {DEFAULT_FILE}, if there is one")
    for key in keys:
        slot = table()[key]
        repeated = key in _REPEATED
        group.add_argument(
            FLAGS[key],
            dest=f"option_{key}",
            metavar=_METAVARS[key],
            action="append" if repeated else "store",
            help=slot.option.help + (" (may be repeated)" if repeated else ""),
        )
    group.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="any option by its key, such as --set ttl=10 or --set tcp.idle_timeout=5s (may be repeated)",
    )


def given_options(args: argparse.Namespace) -> dict[str, object]:
    """Collect what was given, by option key.

    Raises:
        ConfigError: a --set that is no KEY=VALUE.
    """
    given: dict[str, object] = {}
    for setting in getattr(args, "settings", ()):
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: no value", hint=f"Write --set {key or 'KEY'}=VALUE")
        given[key.strip()] = value.strip()
    for key in FLAGS:
        value = getattr(args, f"option_{key}", None)
        if value is not None:
            given[key] = value
    return given


def read_config(args: argparse.Namespace) -> Config:
    """Read the configuration that arguments, environment and file give.

    Raises:
        ConfigError: naming every problem.
    """
    return load(given_options(args), os.environ, args.config)

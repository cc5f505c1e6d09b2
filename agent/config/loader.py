"""Layers of the configuration become one: argument over environment over file over default.

Law: every problem of every layer is found before anything is said, and each is named by where it was written and
by the closest known word. The caller's environment and host name come in as arguments; only the file is read here.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from agent.config.options import DEFAULT_FILE, Config, Given
from agent.config.slots import build, table
from agent.config.values import UnfitError
from agent.errors import ConfigError

FLAGS = {
    "source": "--source",
    "kubeconfig": "--kubeconfig",
    "context": "--context",
    "zones": "--zone",
    "listen": "--listen",
    "upstream": "--upstream",
    "state_dir": "--state-dir",
    "admin": "--admin",
    "log_level": "--log-level",
    "log_format": "--log-format",
}
"""Options with an argument of their own; the others are given with --set KEY=VALUE."""
PREFIX = "NODENS_"
CONFIG_VARIABLE = "NODENS_CONFIG"
BUILD_VARIABLES = frozenset(("NODENS_NO_EXT", "NODENS_REQUIRE_EXT"))
_SERVICE_LINK = re.compile(
    r"NODENS_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)
"""What Kubernetes puts into every pod beside a Service called nodens or nodens-something: no options of ours."""


class Written(NamedTuple):
    """A value as somebody wrote it: the key they named, the value, where."""

    key: str
    value: object
    where: str


class Loaded(NamedTuple):
    """Outcome of reading every layer.

    Attributes:
        config: None if there are problems.
        origins: key → where its value comes from ("default" for the rest).
        problems: in words, one each.
        file: the file that was read, None if there is none.
    """

    config: Config | None
    origins: dict[str, str]
    problems: list[str]
    file: str | None


def load(options: Mapping[str, object], environ: Mapping[str, str], path: str | None) -> Config:
    """Read the configuration.

    Args:
        options: key → value of what was given as arguments; may be empty.
        environ: the process environment.
        path: file that must exist; None reads NODENS_CONFIG's, else the default file if there is one.

    Raises:
        ConfigError: naming every problem, one a line.
    """
    loaded = inspect(options, environ, path)
    if loaded.config is None:
        raise ConfigError("\n".join(loaded.problems), hint=_HINT if len(loaded.problems) > 1 else "")
    return loaded.config


_HINT = "\nNothing was changed; mend these and try again"


def again(config: Config, environ: Mapping[str, str] = os.environ) -> Config:
    """Read again the places a configuration came from (SIGHUP): arguments as they were, environment, file.

    Raises:
        ConfigError: as `load`.
    """
    return load(config.given.options, environ, config.given.file)


def inspect(options: Mapping[str, object], environ: Mapping[str, str], path: str | None) -> Loaded:
    """Read every layer and tell all about it, without raising."""
    problems: list[str] = []
    named = path or environ.get(CONFIG_VARIABLE) or None
    file = named or (DEFAULT_FILE if os.access(DEFAULT_FILE, os.F_OK) else None)
    found: dict[str, object] = {}
    origins = dict.fromkeys(table(), "default")
    layers = (
        _file(file, problems) if file else (),
        _environment(environ, problems),
        (Written(key, value, FLAGS.get(key, f"--set {key}")) for key, value in options.items()),
    )
    for layer in layers:
        for key, value, where in layer:
            slot = table().get(key)
            if slot is None:
                problems.append(f"{where}: no option is called {key!r}{closest(key)}")
                continue
            try:
                found[key] = slot.option.read(value)
            except UnfitError as error:
                problems.append(f"{where}: {key} {error}")
            origins[key] = where
    found["identity"] = found.get("identity") or environ.get("NODE_NAME") or socket.gethostname()
    config = build(found, Given(dict(options), named)) if not problems else None
    if config is not None:
        problems.extend(_contradictions(config))
    return Loaded(config if not problems else None, origins, problems, file)


def _file(path: str, problems: list[str]) -> Iterator[Written]:
    from agent.config import file  # yaml only where there is a file: 20 ms of the way to the first answer

    try:
        entries = file.read(path)
    except ConfigError as error:
        problems.append(str(error))
        return
    groups = {slot.path[:-1] for slot in table().values() if len(slot.path) > 1}
    for entry in entries:
        key, where = ".".join(entry.path), f"{path}:{entry.line}"
        if entry.value is None and entry.path in groups:
            continue
        if entry.value is None and key in table():
            problems.append(f"{where}: {key} has no value. Leave the line out to get the default")
            continue
        yield Written(key, entry.value, where)


def _environment(environ: Mapping[str, str], problems: list[str]) -> Iterator[Written]:
    by_variable = {slot.variable: key for key, slot in table().items()}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name == CONFIG_VARIABLE or name in BUILD_VARIABLES:
            continue
        if name in by_variable:
            yield Written(by_variable[name], environ[name], name)
        elif not _SERVICE_LINK.fullmatch(name):
            problems.append(f"{name}: no option has this variable{_suggest(name, by_variable)}")


def closest(key: str) -> str:
    """Name the known option closest to an unknown one, as the end of a sentence; empty if none is close."""
    if key in {slot.path[0] for slot in table().values()}:
        inner = [other for other in table() if other.startswith(key + ".")]
        return f"; it is a group: {', '.join(inner)}"
    by_end = [other for other in table() if other.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    return f", did you mean {by_end[0]!r}?" if by_end else _suggest(key, table())


def _suggest(word: str, known: Iterable[str]) -> str:
    import difflib  # only ever needed on the way to an error

    match = difflib.get_close_matches(word, list(known), 1, cutoff=0.6)
    return f", did you mean {match[0]!r}?" if match else ""


def _contradictions(config: Config) -> Iterator[str]:
    """Find what is right by itself and wrong together."""
    if config.max_stale_s and config.max_stale_s < config.stale_after_s:
        yield "max_stale is shorter than stale_after: answers would end before they are marked stale"
    if config.noendpoints and config.pods == "verified":
        yield "pods: verified needs EndpointSlices, but noendpoints leaves them out"
    for zone in config.zones:
        if zone.endswith((".in-addr.arpa", ".ip6.arpa")) or zone in ("in-addr.arpa", "ip6.arpa"):
            yield f"zones: {zone} is a reverse zone; reverse names come with every cluster zone"
        for other in config.zones:
            if zone.endswith("." + other):
                yield f"zones: {zone} lies inside {other}; one of them is enough"
    own = {*config.zones, "in-addr.arpa", "ip6.arpa"}
    for zone in config.fallthrough:
        if zone not in own:
            yield f"fallthrough: {zone} is no own zone; those are {', '.join(sorted(own))}"
    yield from _wrong_ways_out(config)
    if isinstance(config.admin, tuple) and config.admin in config.listen:
        yield f"admin: {config.admin} is a listen address as well"


def _wrong_ways_out(config: Config) -> Iterator[str]:
    """Find upstreams that can't be meant."""
    listen = {(address.host, address.port) for address in config.listen}
    for name, target in (
        *(("upstream", target) for target in config.upstream.targets),
        *((f"stub_domains: {stub.zone}", stub.target) for stub in config.stub_domains),
    ):
        if (target.host, target.port) in listen:
            yield f"{name}: {target} is a listen address: the agent would ask itself"
    for stub in config.stub_domains:
        if any(stub.zone == zone or stub.zone.endswith("." + zone) for zone in config.zones):
            yield f"stub_domains: {stub.zone} lies in an own zone, whose names are never forwarded"
    if config.cache.stale == "timeout" and config.cache.stale_wait_s >= config.forward.timeout_s:
        yield "cache.stale_wait is not shorter than forward.timeout: clients would never get a stale answer in time"

"""The configuration file: YAML to (key, value, line), nothing more.

Law: only structure is judged here: one mapping of words, nested, each key once. Which words exist and what values
they take is the loader's business. Words such as `on` and `off` stay text (YAML 1.2), so `admin: off` is what it says.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from agent.errors import ConfigError

MAX_FILE_BYTES = 1 << 20
MAX_DEPTH = 4


class Entry(NamedTuple):
    """One leaf of the file: its words from the top, its value, the line it stands on."""

    path: tuple[str, ...]
    value: object
    line: int


class _Loader(yaml.SafeLoader):
    """SafeLoader without YAML 1.1's surprises: on/off/yes/no, 1:30 as a number, dates."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rsplit(":", 1)[-1] in ("null", "merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]{1,18}", "-+0123456789"),
    ("float", r"[-+]?[0-9]{1,18}\.[0-9]{1,18}", "-+0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first))


def read(path: str) -> list[Entry]:
    """Read a configuration file.

    Raises:
        ConfigError: it can't be read, is no YAML, or is not one mapping with each key once.
    """
    body = _bytes(path)
    try:
        loader = _Loader(body)
        try:
            root = loader.get_single_node()
            return [] if root is None else list(_leaves(loader, root, (), path))
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ConfigError(f"{_where(path, error)}: {_problem(error)}", hint="Check the YAML around that line") from None


def _bytes(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            body = file.read(MAX_FILE_BYTES + 1) if stat.S_ISREG(status.st_mode) else None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint="Name a readable file with --config") from None
    if body is None:
        raise ConfigError(f"{path}: not a regular file", hint="Name a YAML file with --config")
    if len(body) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES} bytes", hint="This is no nodens configuration")
    return body


def _leaves(loader: _Loader, node: yaml.Node, above: tuple[str, ...], path: str) -> Iterator[Entry]:
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}:{node.start_mark.line + 1}: not a mapping", hint="Write lines such as `ttl: 5`")
    if len(above) >= MAX_DEPTH:
        raise ConfigError(f"{path}:{node.start_mark.line + 1}: {'.'.join(above)}: nested too deep")
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        word = key.value if isinstance(key, yaml.ScalarNode) else ""
        if not word or key.tag == "tag:yaml.org,2002:merge":
            raise ConfigError(f"{path}:{line}: a key must be a plain word")
        if word in seen:
            raise ConfigError(
                f"{path}:{line}: {'.'.join((*above, word))} is there already, in line {seen[word]}",
                hint="Keep one of them",
            )
        seen[word] = line
        if isinstance(value, yaml.MappingNode):
            yield from _leaves(loader, value, (*above, word), path)
        else:
            yield Entry((*above, word), _value(loader, value), line)


def _value(loader: _Loader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode) and not all(isinstance(item, yaml.ScalarNode) for item in node.value):
        raise yaml.constructor.ConstructorError(None, None, "a list here holds plain values only", node.start_mark)
    return loader.construct_object(node, deep=True)


def _where(path: str, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"{path}:{mark.line + 1}" if mark is not None else path


def _problem(error: yaml.YAMLError) -> str:
    said = (getattr(error, "context", None), getattr(error, "problem", None))
    return ", ".join(part for part in said if part) or str(error).splitlines()[0]

"""The table of all options, read off the structs, and the way back from checked values to a configuration."""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from agent.config.options import Config, Given, Group, Option, word


class Slot(NamedTuple):
    """One option in the table.

    Attributes:
        path: words from the top, as in YAML (`("tcp", "idle_timeout")`).
        fields: the same as attributes of the structs.
        option: the rest.
        default: its default.
    """

    path: tuple[str, ...]
    fields: tuple[str, ...]
    option: Option
    default: object

    @property
    def key(self) -> str:
        """The option as written on the command line and in messages: `tcp.idle_timeout`."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """Its environment variable: `NODENS_TCP__IDLE_TIMEOUT`."""
        return "NODENS_" + "__".join(part.upper() for part in self.path)

    def of(self, config: Config) -> object:
        """Read the option's value from a configuration."""
        return functools.reduce(getattr, self.fields, typing.cast("object", config))


@functools.cache
def table() -> dict[str, Slot]:
    """Every option by its key, in the order of the structs."""
    return {slot.key: slot for slot in _slots(Config, (), ())}


def _slots(group: type[Group], path: tuple[str, ...], fields: tuple[str, ...]) -> Iterator[Slot]:
    for field, default in zip(group.__struct_fields__, _defaults(group), strict=True):
        hint = group.__annotations__[field]
        if isinstance(default, Group):
            yield from _slots(type(default), (*path, word(field)), (*fields, field))
        elif options := [extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Option)]:
            yield Slot((*path, word(field)), (*fields, field), options[0], default)


def _defaults(group: type[Group]) -> tuple[object, ...]:
    made = group()
    return tuple(getattr(made, field) for field in group.__struct_fields__)


def build(found: Mapping[str, object], given: Given) -> Config:
    """Make a configuration of checked values by key; what is missing keeps its default."""
    groups: dict[tuple[str, ...], dict[str, object]] = {}
    for key, value in found.items():
        fields = table()[key].fields
        groups.setdefault(fields[:-1], {})[fields[-1]] = value
    top = groups.pop((), {})
    for (field,), inner in groups.items():
        top[field] = type(getattr(Config(), field))(**inner)
    return Config(given=given, **top)  # type: ignore[arg-type]

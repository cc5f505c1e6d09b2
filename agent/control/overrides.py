"""STATE/control/overrides.json: names that a person answers by hand.

Law: pure. Every override has an end and a reason, and says one thing at one name: addresses, or the name that is asked
in its place. What can't be answered is refused here, by the command and by the agent alike.
"""

from __future__ import annotations

import msgspec

from agent.control.folder import check_text
from agent.control.span import Span
from agent.errors import ControlError, WireError
from agent.records.names import packed, to_text, to_wire

MAX_OVERRIDES = 100
MAX_ADDRESSES = 16
MAX_ALIASES = 8
"""Followed for one question, aliases of own zones included."""
LONGEST_S = 7 * 86_400.0
"""Whoever needs a name for longer than this needs a Service, or another zone."""
SHORTEST_S = 1.0
MAX_WHO_CHARS = 120
_VERSION = 1


class Override(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One name.

    Attributes:
        name: complete, as `to_text` writes it.
        span: when it was given and for how long.
        reason, who: why and by whom.
        addresses: A and AAAA as text; empty for an alias.
        cname: complete name that is asked instead; empty for addresses.
    """

    name: str
    span: Span
    reason: str
    who: str
    addresses: tuple[str, ...] = ()
    cname: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError, naming what is wrong."""
        for text in (self.name, *([self.cname] if self.cname else ())):
            try:
                wire = to_wire(text)
            except WireError as error:
                raise ValueError(f"{text!r} is no name: {error.message}") from None
            if text != to_text(wire) or text == ".":
                raise ValueError(f"{text!r} is no name below the root, written in full and in lower case")
        if bool(self.addresses) == bool(self.cname):
            raise ValueError(f"{self.name} has neither addresses nor a CNAME, or both")
        if len(self.addresses) > MAX_ADDRESSES:
            raise ValueError(f"{self.name} has {len(self.addresses)} addresses, more than {MAX_ADDRESSES}")
        for address in self.addresses:
            if packed(address) is None:
                raise ValueError(f"{address!r} is no IPv4 or IPv6 address")
        if self.cname == self.name:
            raise ValueError(f"{self.name} would be an alias of itself")
        if self.span.for_s > LONGEST_S:
            raise ValueError(f"{self.name} is overridden for more than {LONGEST_S / 86_400:g} days")
        check_text(self.reason, "the reason")
        check_text(self.who, "who", MAX_WHO_CHARS)

    @property
    def key(self) -> bytes:
        """Wire form of the name."""
        return to_wire(self.name)

    @property
    def says(self) -> str:
        """What it answers, for people."""
        return f"CNAME {self.cname}" if self.cname else ", ".join(self.addresses)


class Overrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The document."""

    version: int = _VERSION
    overrides: tuple[Override, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError, naming what is wrong."""
        if self.version != _VERSION:
            raise ValueError(f"version {self.version}, this one reads {_VERSION}")
        if len(self.overrides) > MAX_OVERRIDES:
            raise ValueError(f"{len(self.overrides)} overrides, more than {MAX_OVERRIDES}")
        aliases = {each.name: each.cname for each in self.overrides}
        if len(aliases) != len(self.overrides):
            raise ValueError("a name stands in it twice")
        for name in aliases:
            _check_ring(name, aliases)

    def find(self, name: str) -> Override | None:
        """Give the override of a name, None if there is none."""
        return next((each for each in self.overrides if each.name == name), None)


def with_override(document: Overrides, override: Override) -> Overrides:
    """Give the document with one more override, or another for a name it has.

    Raises:
        ControlError: they do not go together.
    """
    others = tuple(each for each in document.overrides if each.name != override.name)
    if len(others) >= MAX_OVERRIDES:
        raise ControlError(
            f"there are {MAX_OVERRIDES} overrides, which is the bound",
            hint="Take one back: nodens override list, nodens override unset NAME",
        )
    try:
        return Overrides(overrides=(*others, override))
    except ValueError as error:
        raise ControlError(str(error)) from None


def without(document: Overrides, names: frozenset[str]) -> Overrides:
    """Give the document without some names."""
    return Overrides(overrides=tuple(each for each in document.overrides if each.name not in names))


def _check_ring(name: str, aliases: dict[str, str]) -> None:
    seen = [name]
    while target := aliases.get(seen[-1], ""):
        if target in seen:
            raise ValueError(f"aliases go round in a ring: {' -> '.join([*seen, target])}")
        seen.append(target)
        if len(seen) > MAX_ALIASES + 1:
            raise ValueError(f"more than {MAX_ALIASES} aliases follow each other from {name}")

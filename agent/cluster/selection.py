"""Which objects count: the CoreDNS options `namespaces`, `labels` and `namespace_labels`.

Law: the same selection is asked of the API servers (as selectors) and applied again here, so that a file and an
API server that ignores selectors give the same names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from agent.errors import ConfigError

_SET = re.compile(r"\s*([\w./-]+)\s+(in|notin)\s*\(([^)]*)\)\s*")
_EQUAL = re.compile(r"\s*([\w./-]+)\s*(==|=|!=)\s*([\w.-]*)\s*")
_EXISTS = re.compile(r"\s*(!?)\s*([\w./-]+)\s*")
_COMMA = re.compile(r",(?![^(]*\))")


class Requirement(NamedTuple):
    """One part of a label selector: `key` must (or must not) be there, with one of `values` if any are given."""

    key: str
    wanted: bool
    values: frozenset[str] | None


class Selection(NamedTuple):
    """Objects that count.

    Attributes:
        namespaces: names; empty means all.
        labels: label selector of Services and EndpointSlices, parsed.
        namespace_labels: label selector of Namespaces, parsed; with one, a namespace that doesn't match has no names.
    """

    namespaces: frozenset[str] = frozenset()
    labels: tuple[Requirement, ...] = ()
    namespace_labels: tuple[Requirement, ...] = ()

    def takes_namespace_name(self, name: str) -> bool:
        """Tell whether objects of this namespace count, as far as its name goes."""
        return not self.namespaces or name in self.namespaces

    def takes_namespace(self, name: str, labels: Mapping[str, str]) -> bool:
        """Tell whether a Namespace counts."""
        return self.takes_namespace_name(name) and _all_hold(self.namespace_labels, labels)

    def takes_labels(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a Service or EndpointSlice with these labels counts."""
        return not self.labels or _all_hold(self.labels, labels)


EVERYTHING = Selection()


def _all_hold(requirements: tuple[Requirement, ...], labels: Mapping[str, str]) -> bool:
    for key, wanted, values in requirements:
        if values is None:
            holds = key in labels
        else:
            holds = key in labels and labels[key] in values
        if holds != wanted:
            return False
    return True


def parse_selector(text: str) -> tuple[Requirement, ...]:
    """Parse a label selector in kubectl's words: `a=b, c!=d, e in (f,g), h notin (i), j, !k`.

    Raises:
        ConfigError: a part of it is not one of these.
    """
    out = []
    for part in _COMMA.split(text) if text.strip() else ():
        if match := _SET.fullmatch(part):
            values = frozenset(value.strip() for value in match[3].split(","))
            out.append(Requirement(match[1], match[2] == "in", values))
        elif match := _EQUAL.fullmatch(part):
            out.append(Requirement(match[1], match[2] != "!=", frozenset((match[3],))))
        elif match := _EXISTS.fullmatch(part):
            out.append(Requirement(match[2], not match[1], None))
        else:
            raise ConfigError(
                f"label selector {text!r} has a part {part.strip()!r} that can't be read",
                hint="Write it as for kubectl -l: app=web, tier!=test, env in (a,b), !legacy",
            )
    return tuple(out)

"""What may be ordered of names, and what may not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent.control.overrides import (
    LONGEST_S,
    MAX_ADDRESSES,
    MAX_ALIASES,
    MAX_OVERRIDES,
    Override,
    Overrides,
    with_override,
    without,
)
from agent.control.span import Span
from agent.errors import ControlError

SPAN = Span(1.8e9, 100.0, "boot", 60.0)


def override(name: str, **more: Any) -> Override:
    fields = {"span": SPAN, "reason": "why", "who": "ann", **more}
    return Override(name=name, **(fields if "cname" in fields else {"addresses": ("192.0.2.1",), **fields}))


def test_a_document_is_read_as_it_was_written() -> None:
    document = Overrides(overrides=(override("a.example."), override("b.example.", cname="a.example.")))
    assert msgspec.json.decode(msgspec.json.encode(document), type=Overrides) == document


@pytest.mark.parametrize(
    ("name", "more", "told"),
    [
        ("A.example.", {}, "in lower case"),
        ("a.example", {}, "in full"),
        (".", {}, "below the root"),
        ("a..example.", {}, "no name"),
        ("a.example.", {"addresses": ()}, "neither"),
        ("a.example.", {"addresses": ("192.0.2.1",), "cname": "b.example."}, "or both"),
        ("a.example.", {"addresses": ("192.0.2.256",)}, "no IPv4 or IPv6 address"),
        ("a.example.", {"addresses": ("fe80::1%eth0",)}, "no IPv4 or IPv6 address"),
        ("a.example.", {"addresses": tuple(f"192.0.2.{n}" for n in range(MAX_ADDRESSES + 1))}, "more than"),
        ("a.example.", {"cname": "a.example."}, "alias of itself"),
        ("a.example.", {"span": Span(1.8e9, 100.0, "boot", LONGEST_S + 1)}, "more than 7 days"),
        ("a.example.", {"reason": ""}, "the reason is empty"),
        ("a.example.", {"who": "a\x1bb"}, "can't be printed"),
    ],
)
def test_what_can_not_be_answered_is_refused(name: str, more: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        override(name, **more)


def test_aliases_in_a_ring_are_refused_and_named() -> None:
    document = Overrides(
        overrides=(override("a.example.", cname="b.example."), override("b.example.", cname="c.example."))
    )
    with pytest.raises(ControlError, match=r"ring: .*c\.example\. -> a\.example\."):
        with_override(document, override("c.example.", cname="a.example."))


def test_too_long_a_chain_of_aliases_is_refused() -> None:
    chain = [override(f"a{n}.example.", cname=f"a{n + 1}.example.") for n in range(MAX_ALIASES)]
    document = Overrides(overrides=tuple(chain))
    with pytest.raises(ControlError, match=f"more than {MAX_ALIASES} aliases"):
        with_override(document, override(f"a{MAX_ALIASES}.example.", cname="end.example."))


def test_their_number_is_bounded_and_one_may_still_be_replaced() -> None:
    document = Overrides(overrides=tuple(override(f"a{n}.example.") for n in range(MAX_OVERRIDES)))
    with pytest.raises(ControlError, match=f"there are {MAX_OVERRIDES} overrides"):
        with_override(document, override("one-more.example."))
    replaced = with_override(document, override("a7.example.", addresses=("192.0.2.9",)))
    assert len(replaced.overrides) == MAX_OVERRIDES
    found = replaced.find("a7.example.")
    assert found is not None
    assert found.says == "192.0.2.9"
    assert without(replaced, frozenset(("a7.example.",))).find("a7.example.") is None


@pytest.mark.parametrize(
    "raw", [b'{"version": 2}', b'{"overrides": [], "for_all": true}', b'{"overrides": [{"name": "a.example."}]}']
)
def test_what_is_not_wholly_understood_is_no_document(raw: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        msgspec.json.decode(raw, type=Overrides)


def test_a_name_stands_in_it_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        Overrides(overrides=(override("a.example."), override("a.example.")))

from __future__ import annotations

import ipaddress

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import WireError
from agent.records import names


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        (".", b"\x00"),
        ("", b"\x00"),
        ("A.b", b"\x01a\x01b\x00"),
        ("a.b.", b"\x01a\x01b\x00"),
        (r"a\.b.c", b"\x03a.b\x01c\x00"),
        (r"a\032b.c.", b"\x03a b\x01c\x00"),
        (r"a\\b", b"\x03a\\b\x00"),
    ],
)
def test_a_name_is_written_in_lower_case_wire_form(text, wire):
    assert names.to_wire(text) == wire


@pytest.mark.parametrize("text", ["a..b", ".a", "a" * 64, "ü.de", "a\\", r"a\999", ".".join(["a" * 60] * 5), "a.\\"])
def test_a_name_that_can_not_be_is_refused(text):
    with pytest.raises(WireError):
        names.to_wire(text)


@given(st.lists(st.binary(min_size=1, max_size=63), min_size=0, max_size=3))
def test_text_and_wire_form_agree_with_dnspython(labels):
    wire = b"".join(b"%c%b" % (len(label), label) for label in labels) + b"\x00"
    text = names.to_text(wire)
    assert names.to_wire(text) == b"".join(b"%c%b" % (len(label), label.lower()) for label in labels) + b"\x00"
    assert dns.name.from_text(text) == dns.name.from_wire(wire, 0)[0]


@given(st.ip_addresses())
def test_reverse_names_agree_with_the_standard_library(address):
    name = names.reverse(address.packed)
    assert names.to_text(name) == address.reverse_pointer + "."


@given(st.ip_addresses())
def test_a_dashed_address_reads_back(address):
    label = names.dashed(address.packed)
    assert not label.endswith("-")
    assert names.undashed(label) == address.packed


@pytest.mark.parametrize(
    ("address", "label"),
    [
        ("10.1.2.3", "10-1-2-3"),
        ("fd00::1", "fd00--1"),
        ("fd00::", "fd00--0"),
        ("::1", "--1"),
        ("1:2:3:4:5:6:7:8", "1-2-3-4-5-6-7-8"),
    ],
)
def test_dashed_addresses_are_written_as_coredns_does(address, label):
    assert names.dashed(names.packed(address)) == label


@pytest.mark.parametrize("text", ["a-b-c-d", "10-1-2", "10-1-2-300", "", "-", "010-1-2-3", "web"])
def test_other_labels_are_no_addresses(text):
    assert names.undashed(text) is None


@pytest.mark.parametrize("text", ["1.2.3", "1.2.3.04", "fe80::1%eth0", "x", ""])
def test_an_address_is_checked(text):
    assert names.packed(text) is None


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("web", True),
        ("a", True),
        ("9-a", True),
        ("_http", True),
        ("", False),
        ("-a", False),
        ("a-", False),
        ("A", False),
        ("a.b", False),
        ("a" * 63, True),
        ("a" * 64, False),
        ("ü", False),
        ("a\n", False),
    ],
)
def test_labels_are_checked(text, is_one):
    assert names.is_label(text) is is_one


def test_a_label_is_encoded_or_refused():
    assert names.label("Web") == b"\x03web"
    for text in ("", "a" * 64, "ü"):
        with pytest.raises(WireError):
            names.label(text)


def test_the_parent_is_one_label_up():
    assert names.parent(b"\x01a\x01b\x00") == b"\x01b\x00"
    assert names.parent(b"\x00") == b""


@given(st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,4}){3}", fullmatch=True) | st.text("0123456789.:a", max_size=12))
def test_addresses_are_read_as_the_standard_library_reads_them(text):
    try:
        expected = ipaddress.ip_address(text).packed
    except ValueError:
        expected = None
    assert names.packed(text) == expected

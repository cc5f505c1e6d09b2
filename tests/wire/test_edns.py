"""The OPT record: read without raising, written so that others read the same."""

from __future__ import annotations

import struct

import dns.edns
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire import edns
from agent.wire.codes import COOKIE, KEEPALIVE, NSID


def options(*pairs: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack(">HH", code, len(value)) + value for code, value in pairs)


def test_an_empty_opt_is_read():
    assert edns.read(4096, 0x00_00_8000, b"") == ((4096, 0, True, False, False, b""), "")
    assert edns.read(0, 0xFF_01_7FFF, b"")[0].version == 1
    assert edns.read(0, 0xFF_01_7FFF, b"")[0].do is False


def test_options_are_read():
    opt, fault = edns.read(1232, 0, options((65001, b"?"), (NSID, b""), (KEEPALIVE, b""), (COOKIE, b"12345678")))
    assert (opt.nsid, opt.keepalive, opt.cookie, fault) == (True, True, b"12345678", "")


def test_only_the_first_cookie_counts():
    opt, fault = edns.read(1232, 0, options((COOKIE, b"12345678"), (COOKIE, b"bad")))
    assert (opt.cookie, fault) == (b"12345678", "")
    opt, fault = edns.read(1232, 0, options((COOKIE, b"bad"), (COOKIE, b"12345678")))
    assert (opt.cookie, fault) == (b"", "cookie_length")


@pytest.mark.parametrize("length", range(43))
def test_lengths_of_a_cookie(length: int):
    is_right = length == 8 or 16 <= length <= 40
    assert edns.read(1232, 0, options((COOKIE, bytes(length))))[1] == ("" if is_right else edns.COOKIE_LENGTH)


@pytest.mark.parametrize(
    ("rdata", "fault"),
    [
        (b"\x00", edns.MALFORMED),
        (b"\x00\x03\x00", edns.MALFORMED),
        (b"\x00\x03\x00\x01", edns.MALFORMED),
        (options((NSID, b"")) + b"\x00\x03\x00\x01", edns.MALFORMED),
        (options((65001, b"")) * edns.MAX_OPTIONS, ""),
        (options((65001, b"")) * (edns.MAX_OPTIONS + 1), edns.TOO_MANY_OPTIONS),
    ],
)
def test_broken_options_are_named(rdata: bytes, fault: str):
    assert edns.read(1232, 0, rdata)[1] == fault


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF), st.binary(max_size=80))
def test_reading_never_raises(size: int, ttl: int, rdata: bytes):
    opt, _ = edns.read(size, ttl, rdata)
    assert opt.cookie == b"" or len(opt.cookie) == 8 or 16 <= len(opt.cookie) <= 40


def read_back(opt: bytes) -> dns.message.Message:
    return dns.message.from_wire(struct.pack(">HHHHHH", 0, 0x8000, 0, 0, 0, 1) + opt)


def test_what_is_written_is_read_by_others():
    written = edns.option(NSID, b"node") + edns.extended_error(3, "age=1s") + edns.keepalive(12_345)
    message = read_back(edns.write(1232, 0, do=True, options=written))
    assert (message.edns, message.payload, message.ednsflags & 0x8000) == (0, 1232, 0x8000)
    nsid, error, keepalive = message.options
    assert nsid.nsid == b"node"
    assert (int(error.code), error.text) == (3, "age=1s")
    assert keepalive.data == struct.pack(">H", 123)


@pytest.mark.parametrize("rcode", [0, 16, 23])
def test_the_upper_bits_of_the_rcode_are_in_the_opt(rcode: int):
    message = read_back(edns.write(1232, rcode, do=False))
    assert (message.rcode() | rcode & 15, message.ednsflags & 0x8000) == (rcode, 0)


def test_a_keepalive_too_long_for_the_wire_is_the_longest():
    assert edns.keepalive(10**9)[-2:] == b"\xff\xff"

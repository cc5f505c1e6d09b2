"""Reading queries: never raises, never reads past the packet, says what is wrong with what."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import WireError
from agent.wire.message import (
    HEADER_BYTES,
    MAX_POINTER_HOPS,
    MAX_RECORDS,
    drop_reason,
    read_name,
    read_query,
)
from agent.wire.reply import header_only

HEADER = bytes(HEADER_BYTES)


def test_a_query_is_read():
    packet = (
        struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + b"\x03WeB\x07example\x00" + struct.pack(">HH", 28, 1) + b"rest"
    )
    query = read_query(packet)
    assert query == (packet, len(packet) - 4, b"\x03web\x07example\x00", 28, 1, None, 0, "")


@pytest.mark.parametrize(
    ("packet", "reason"),
    [(b"", "short"), (bytes(11), "short"), (bytes(12), ""), (b"\x00\x00\x80" + bytes(9), "response")],
)
def test_what_gets_no_reply(packet: bytes, reason: str):
    assert drop_reason(packet) == reason


@given(st.binary(min_size=12, max_size=600))
def test_no_packet_raises_and_nothing_is_echoed_that_was_not_read(packet: bytes):
    query = read_query(packet)
    assert HEADER_BYTES <= query.end <= len(packet)
    assert bool(query.rcode) == bool(query.fault)
    if query.end > HEADER_BYTES:
        assert packet[HEADER_BYTES : query.end - 4].lower() == query.key
        assert read_name(packet, HEADER_BYTES) == (packet[HEADER_BYTES : query.end - 4], query.end - 4)
    assert len(header_only(packet, 4)) == HEADER_BYTES


labels = st.lists(st.binary(min_size=1, max_size=63), max_size=8).map(
    lambda parts: b"".join(b"%c%b" % (len(part), part) for part in parts) + b"\x00"
)


@given(labels.filter(lambda name: len(name) <= 255), st.binary(max_size=40))
def test_every_name_is_read_as_it_stands(name: bytes, behind: bytes):
    message = HEADER + name + behind
    assert read_name(message, HEADER_BYTES) == (name, HEADER_BYTES + len(name))


@given(st.binary(max_size=300), st.integers(0, 320))
def test_reading_a_name_ends_in_a_name_or_a_wire_error(message: bytes, at: int):
    try:
        name, end = read_name(message, at)
    except WireError:
        return
    assert len(name) <= 255
    assert name.endswith(b"\x00")
    assert at < end <= len(message)


def test_a_compressed_name_is_written_out_and_ends_behind_its_pointer():
    message = HEADER + b"\x07example\x00" + b"\x03www\xc0\x0c" + b"\x01a\xc0\x15"
    assert read_name(message, 21) == (b"\x03www\x07example\x00", 27)
    assert read_name(message, 27) == (b"\x01a\x03www\x07example\x00", 31)


def chain(pointers: int) -> tuple[bytes, int]:
    """A name at 12, then pointers each to the one before; gives the message and the last one's offset."""
    message = bytearray(HEADER + b"\x01a\x00")
    at = HEADER_BYTES
    for _ in range(pointers):
        target, at = at, len(message)
        message += struct.pack(">H", 0xC000 | target)
    return bytes(message), at


def test_pointer_hops_are_bounded():
    message, at = chain(MAX_POINTER_HOPS)
    assert read_name(message, at)[0] == b"\x01a\x00"
    message, at = chain(MAX_POINTER_HOPS + 1)
    with pytest.raises(WireError, match="too many"):
        read_name(message, at)


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        (b"\xc0\x0c", "does not go back"),
        (b"\xc0\x0d\x00", "does not go back"),
        (b"\xc0\x00", "does not go back"),
        (b"\xc0", "runs over"),
        (b"\x05ab", "runs over"),
        (b"", "runs over"),
        (b"\x40" + bytes(64), "label type 0x40"),
        (b"\x80\x00", "label type 0x80"),
        ((b"\x3f" + b"a" * 63) * 4 + b"\x00", "longer than 255"),
    ],
)
def test_names_that_cannot_be_read(tail: bytes, words: str):
    with pytest.raises(WireError, match=words):
        read_name(HEADER + tail, HEADER_BYTES)


RECORD = struct.pack(">HHIH", 1, 1, 0, 0)
OPT = b"\x00" + struct.pack(">HHIH", 41, 1232, 0, 0)
QUESTION = b"\x03web\x00" + struct.pack(">HH", 1, 1)


def message(counts: tuple[int, int, int, int], body: bytes, flags: int = 0) -> bytes:
    return struct.pack(">HHHHHH", 7, flags, *counts) + body


@pytest.mark.parametrize(
    ("packet", "rcode", "fault", "has_opt", "has_question"),
    [
        (message((0, 0, 0, 0), b"", 0x2800), 4, "opcode", False, False),
        (message((0, 0, 0, 0), b""), 1, "no_question", False, False),
        (message((0, 0, 0, 1), OPT), 1, "no_question", True, False),
        (message((0, 0, 0, 1), OPT[:-1]), 1, "no_question", False, False),
        (message((2, 0, 0, 1), QUESTION * 2 + OPT), 1, "many_questions", True, False),
        (message((2, 0, 0, 1), QUESTION + OPT), 1, "many_questions", False, False),
        (message((2, 0, 0, 1), QUESTION + b"\x40" + OPT), 1, "many_questions", False, False),
        (message((MAX_RECORDS + 1, 0, 0, 1), QUESTION * (MAX_RECORDS + 1) + OPT), 1, "many_questions", False, False),
        (message((1, 0, 0, 0), b"\xc0\x0c" + bytes(4)), 1, "bad_question", False, False),
        (message((1, 0, 0, 0), QUESTION[:-1]), 1, "bad_question", False, False),
        (message((1, 0, 0, 0), b"\x01a" * 126 + b"\x02bb\x00" + bytes(4)), 1, "bad_question", False, False),
        (message((1, 0, 0, 0), b"\x01a" * 127 + b"\x00" + bytes(4)), 0, "", False, True),
        (message((1, 0, 0, 1), QUESTION + OPT), 0, "", True, True),
        (message((1, 1, 0, 1), QUESTION + b"\xc0\x0c" + RECORD + OPT), 0, "", True, True),
        (message((1, 0, 0, 1), QUESTION + b"\x00" + RECORD), 0, "", False, True),
        (message((1, 1, 0, 0), QUESTION + OPT), 1, "opt_misplaced", True, True),
        (message((1, 0, 0, 1), QUESTION + b"\xc0\x0c" + OPT[1:]), 1, "opt_owner", True, True),
        (message((1, 0, 0, 2), QUESTION + OPT * 2), 1, "opt_repeated", True, True),
        (message((1, 0, 0, 1), QUESTION + OPT[:-2] + b"\x00\x01\x00"), 1, "opt_malformed", True, True),
        (message((1, 0, 0, 1), QUESTION + OPT[:-2] + b"\x00\x01"), 1, "bad_records", False, True),
        (message((1, 0, 0, 1), QUESTION), 1, "bad_records", False, True),
        (message((1, 0, 0, 1), QUESTION + b"\xc0\xff" + RECORD), 1, "bad_records", False, True),
        (message((1, 0, 0, 1), QUESTION + OPT[:6] + b"\x01" + OPT[7:]), 16, "opt_version", True, True),
        (message((1, 0, 0, 1), QUESTION + b"\xc0\x10" + OPT[1:]), 0, "", True, True),
    ],
)
def test_what_is_wrong_with_a_query(packet: bytes, rcode: int, fault: str, has_opt: bool, has_question: bool):
    query = read_query(packet)
    assert (query.rcode, query.fault, query.opt is not None, query.end > HEADER_BYTES) == (
        rcode,
        fault,
        has_opt,
        has_question,
    )


def test_records_read_are_bounded():
    record = b"\x00" + struct.pack(">HHIH", 1, 1, 0, 0)
    question = b"\x00" + struct.pack(">HH", 1, 1)
    for count, fault in ((MAX_RECORDS, ""), (MAX_RECORDS + 1, "bad_records")):
        packet = struct.pack(">HHHHHH", 7, 0, 1, count, 0, 0) + question + record * count
        assert read_query(packet).fault == fault

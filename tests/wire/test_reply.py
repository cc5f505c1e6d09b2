"""Putting a reply together: whole RRsets within the bound, id and question as they came."""

from __future__ import annotations

import struct

import pytest

from agent.wire.message import read_query
from agent.wire.reply import Answer, Group, assemble, header_only, is_truncated

QUESTION = b"\x03wEb\x00\x00\x01\x00\x01"
QUERY = read_query(struct.pack(">HHHHHH", 0xABCD, 0x0110, 1, 0, 0, 0) + QUESTION)
BASE = 12 + len(QUESTION)
FULL = Answer(
    3,
    authoritative=True,
    answer=(Group(2, b"a" * 20), Group(1, b"b" * 10)),
    authority=(Group(1, b"c" * 10),),
    additional=(Group(1, b"d" * 10), Group(3, b"e" * 5)),
)


def counts(reply: bytes) -> tuple[int, ...]:
    return struct.unpack_from(">HHHH", reply, 4)


@pytest.mark.parametrize(
    ("room", "body", "expected", "cut"),
    [
        (99, b"a" * 20 + b"b" * 10 + b"c" * 10 + b"d" * 10 + b"e" * 5, (1, 3, 1, 4), False),
        (55, b"a" * 20 + b"b" * 10 + b"c" * 10 + b"d" * 10 + b"e" * 5, (1, 3, 1, 4), False),
        (54, b"a" * 20 + b"b" * 10 + b"c" * 10 + b"d" * 10, (1, 3, 1, 1), False),
        (49, b"a" * 20 + b"b" * 10 + b"c" * 10 + b"e" * 5, (1, 3, 1, 3), False),
        (44, b"a" * 20 + b"b" * 10 + b"c" * 10, (1, 3, 1, 0), False),
        (39, b"a" * 20 + b"b" * 10, (1, 3, 0, 0), True),
        (29, b"a" * 20, (1, 2, 0, 0), True),
        (19, b"", (1, 0, 0, 0), True),
        (-9, b"", (1, 0, 0, 0), True),
    ],
)
@pytest.mark.parametrize("opt", [b"", b"OPT record"])
def test_what_fits(room: int, body: bytes, expected: tuple[int, ...], cut: bool, opt: bytes):
    reply = assemble(QUERY, FULL, opt, BASE + len(opt) + room)
    assert reply[BASE:] == body + opt
    assert counts(reply) == (*expected[:3], expected[3] + bool(opt))
    assert is_truncated(reply) == cut
    assert reply[:2] == b"\xab\xcd"
    assert reply[2:4] == bytes((0x85 | (2 if cut else 0), 3))
    assert reply[12:BASE] == QUESTION


def test_a_query_without_a_question_gets_none_back():
    query = read_query(bytes(12))
    assert assemble(query, Answer(1), b"", 512) == b"\x00\x00\x80\x01" + bytes(8)


def test_only_the_lower_four_bits_of_an_rcode_are_in_the_header():
    assert assemble(QUERY, Answer(16), b"", 512)[3] == 0
    assert assemble(QUERY, Answer(23), b"", 512)[3] == 7


def test_a_header_alone_echoes_id_and_opcode():
    assert header_only(b"\x12\x34\x2f\xff" + bytes(8), 4) == b"\x12\x34\xa8\x04" + bytes(8)

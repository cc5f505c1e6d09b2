from __future__ import annotations

import dns.message
import dns.rdata
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.commands import presentation
from agent.commands.presentation import Row, name_text, read_reply, record_counts, rows_of, type_name, type_number
from agent.errors import WireError
from agent.records.names import to_text, to_wire
from agent.records.rrset import CNAME, single
from agent.wire import node
from agent.wire.codes import TXT
from agent.wire.sections import record, soa

KEY = to_wire("a.b.")
QUESTION = KEY + b"\0\1\0\1"


def message(*bodies, rcode=0):
    return bytes((0, 0, 0x84, rcode, 0, 1, 0, len(bodies), 0, 0, 0, 0)) + QUESTION + b"".join(bodies)


@pytest.mark.parametrize(
    ("rtype", "text"),
    [
        ("A", "10.0.0.1"),
        ("AAAA", "fd00::1"),
        ("CNAME", "x.example."),
        ("PTR", "x.example."),
        ("NS", "x.example."),
        ("SRV", "0 50 80 x.example."),
        ("MX", "10 x.example."),
        ("TXT", '"one" "t\\"w\\\\o" "\\007"'),
        ("HINFO", '"RFC8482" ""'),
        ("SOA", "ns.x. me.x. 1 2 3 4 5"),
        ("TYPE65280", "\\# 3 01ff00"),
        ("SVCB", "\\# 2 0000"),
    ],
)
def test_records_are_written_as_dnspython_reads_them(rtype, text):
    number = dns.rdatatype.from_text(rtype)
    try:
        wanted = dns.rdata.from_text("IN", rtype, text)
    except dns.exception.SyntaxError:
        wanted = dns.rdata.GenericRdata(1, number, bytes.fromhex(text.split()[-1]))
    rdata = bytes.fromhex(text.split()[-1]) if text.startswith("\\#") else wanted.to_wire()
    (row,) = read_reply(message(record(number, 5, rdata))).answer
    assert row == Row("a.b.", 5, rtype, text)
    assert str(row) == f"a.b. 5 IN {rtype} {text}"


def test_a_reply_is_read_with_status_flags_and_sections():
    head = bytes((0, 0, 0x84, 3, 0, 1, 0, 0, 0, 1, 0, 1))
    opt = b"\0\0\x29\4\xd0\0\0\0\0\0\0"
    reply = read_reply(head + QUESTION + soa(b"\1b\0", 7, 5) + opt)
    assert (reply.status, reply.is_authoritative, reply.answer, reply.additional) == ("NXDOMAIN", True, [], [])
    assert [str(row) for row in reply.authority] == ["b. 5 IN SOA ns.dns.b. hostmaster.b. 7 7200 1800 86400 5"]
    assert read_reply(message(rcode=11)).status == "RCODE11"


@given(st.binary(max_size=80))
def test_damaged_replies_are_one_error(tail):
    try:
        reply = read_reply(message() + tail)
        reply = read_reply(bytes((0, 0, 0x84, 0, 0, 1, 0, 2, 0, 0, 0, 1)) + QUESTION + tail)
    except WireError:
        return
    assert all(str(row).isprintable() for row in reply.answer + reply.additional)


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5))
def test_names_are_written_as_elsewhere(labels):
    wire = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    assert name_text(wire) == to_text(wire)
    assert name_text(wire).isprintable()


@pytest.mark.parametrize(("text", "number"), [("A", 1), ("aaaa", 28), ("TYPE65280", 65280), ("type1", 1)])
def test_types_are_read_by_name_or_number(text, number):
    assert type_number(text) == number


@pytest.mark.parametrize("text", ["", "FOO", "TYPE", "TYPE65536", "TYPE-1", "TYPE²", "28"])
def test_no_type_is_made_up(text):
    with pytest.raises(WireError, match="is no record type"):
        type_number(text)


def test_types_without_a_name_are_written_by_number():
    assert [type_name(number) for number in (1, 28, 255, 65280)] == ["A", "AAAA", "ANY", "TYPE65280"]


def test_a_nodes_records_are_its_public_answers():
    private = node.RRset(65281, 0, 1, 0, record(65281, 5, b"x"), b"")
    made = node.encode(rrsets=(single(CNAME, 30, to_wire("x.y")), private))
    assert [str(row) for row in rows_of(KEY, made)] == ["a.b. 30 IN CNAME x.y."]
    assert record_counts(KEY, made) == [("CNAME", 1)]


@pytest.mark.parametrize("damaged", [b"", b"\0\1", bytes(8)[:7], node.encode(rrsets=(single(CNAME, 1, b"\0"),))[:-1]])
def test_a_damaged_node_is_an_error_that_names_it(damaged):
    for read in (rows_of, record_counts):
        with pytest.raises(WireError, match=r"the node of a\.b\. is damaged"):
            read(KEY, damaged)


def test_a_node_with_a_wrong_count_is_an_error():
    wrong = node.encode(rrsets=(node.RRset(TXT, 0, 2, 0, record(TXT, 5, b"\1x"), b""),))
    with pytest.raises(WireError):
        rows_of(KEY, wrong)


def test_one_line_stays_one_line():
    assert presentation.one_line("a\x1b[2J\nb") == "a?[2J?b"

"""Each row of dns.md section 3 is a test named after it, through the responder, read back by dnspython."""

from __future__ import annotations

import ipaddress
import struct

import dns.edns
import dns.flags
import dns.rcode
import dns.rdatatype
import pytest

from agent.records.names import to_wire
from agent.wire import node
from agent.wire.codes import RCODES
from agent.wire.message import MAX_RECORDS
from tests.server.tables import (
    CLIENT,
    STALE_NOW,
    addresses,
    ask,
    extended_error,
    has_flag,
    opt,
    option,
    packet,
    query,
    question,
    rdatas,
    read,
    record,
    responder,
    service,
    short,
)

WEB = short("web")


def test_less_than_12_bytes_is_dropped_and_counted():
    served = responder()
    for size in range(12):
        assert served.respond(query(WEB)[:size], CLIENT, tcp=False) is None
    assert served.counters.dropped["short"] == 12
    assert served.counters.queries == {"udp": 12, "tcp": 0}


def test_a_response_is_dropped_and_counted():
    served = responder()
    assert served.respond(query(WEB, flags=0x8100), CLIENT, tcp=False) is None
    assert served.respond(query(WEB, flags=0x8100), CLIENT, tcp=True) is None
    assert served.counters.dropped["response"] == 2


@pytest.mark.parametrize("opcode", [1, 2, 3, 4, 5, 6, 15])
def test_opcode_other_than_query_is_notimp_with_id_and_opcode_and_no_other_flag(opcode: int):
    served = responder()
    sent = packet(question(WEB) + opt(), (1, 0, 0, 1), flags=opcode << 11 | 0x07F0, ident=0xBEEF)
    reply = served.respond(sent, CLIENT, tcp=False)
    assert reply == struct.pack(">HHHHHH", 0xBEEF, 0x8000 | opcode << 11 | 4, 0, 0, 0, 0)
    assert served.counters.faults["opcode"] == 1


def test_qdcount_0_is_formerr():
    reply = read(responder().respond(packet(counts=(0, 0, 0, 0)), CLIENT, tcp=False))
    assert (reply.rcode(), reply.question) == (dns.rcode.FORMERR, [])


def test_qdcount_0_with_a_cookie_is_noerror_and_a_server_cookie_if_cookies_are_on():
    sent = packet(opt(options=option(10, b"12345678")), (0, 0, 0, 1))
    served = responder(cookie_secrets=(bytes(16),))
    reply = read(served.respond(sent, CLIENT, tcp=False))
    assert reply.rcode() == dns.rcode.NOERROR
    cookie = reply.options[0]
    assert (cookie.otype, len(cookie.server), cookie.client) == (dns.edns.COOKIE, 16, b"12345678")
    assert served.counters.faults["no_question"] == 0
    # The cookie just learned is good; one that is not ours is answered BADCOOKIE (RFC 7873 section 5.4).
    again = packet(opt(options=option(10, b"12345678" + cookie.server)), (0, 0, 0, 1))
    assert read(served.respond(again, CLIENT, tcp=False)).rcode() == dns.rcode.NOERROR
    forged = packet(opt(options=option(10, b"12345678" + bytes(16))), (0, 0, 0, 1))
    assert read(served.respond(forged, CLIENT, tcp=False)).rcode() == dns.rcode.BADCOOKIE
    assert served.counters.responses[23] == 1


def test_qdcount_0_with_a_cookie_is_formerr_if_cookies_are_off():
    sent = packet(opt(options=option(10, b"12345678")), (0, 0, 0, 1))
    reply = read(responder().respond(sent, CLIENT, tcp=False))
    assert (reply.rcode(), reply.options, reply.edns) == (dns.rcode.FORMERR, (), 0)


def test_qdcount_0_with_a_broken_cookie_is_formerr():
    sent = packet(opt(options=option(10, b"1234567")), (0, 0, 0, 1))
    reply = read(responder(cookie_secrets=(bytes(16),)).respond(sent, CLIENT, tcp=False))
    assert (reply.rcode(), reply.options, reply.edns) == (dns.rcode.FORMERR, (), 0)


@pytest.mark.parametrize("count", [2, 3, MAX_RECORDS])
def test_qdcount_over_1_is_formerr_with_opt(count: int):
    served = responder()
    sent = packet(question(WEB) * count + opt(), (count, 0, 0, 1))
    reply = read(served.respond(sent, CLIENT, tcp=False))
    assert (reply.rcode(), reply.question, reply.edns) == (dns.rcode.FORMERR, [], 0)
    assert served.counters.faults["many_questions"] == 1


@pytest.mark.parametrize("count", [2, MAX_RECORDS + 1, 0xFFFF])
def test_qdcount_over_1_that_cannot_be_read_is_formerr(count: int):
    reply = read(responder().respond(packet(question(WEB), (count, 0, 0, 1)), CLIENT, tcp=False))
    assert (reply.rcode(), reply.question, reply.edns) == (dns.rcode.FORMERR, [], -1)


TAIL = struct.pack(">HH", 1, 1)
BROKEN_QUESTIONS = {
    "compression loop": b"\xc0\x0c" + TAIL,
    "compression loop behind a label": b"\x03web\xc0\x0c" + TAIL,
    "pointer into the header": b"\x03web\xc0\x04" + TAIL,
    "forward pointer": b"\x03web\xc0\x20" + TAIL + bytes(40),
    "label type 0x40": b"\x41" + b"a" * 65 + b"\x00" + TAIL,
    "label type 0x80": b"\x80abc\x00" + TAIL,
    "label over 63": b"\x40" + b"a" * 64 + b"\x00" + TAIL,
    "name of 256 octets": (b"\x3f" + b"a" * 63) * 3 + b"\x3e" + b"a" * 62 + b"\x00" + TAIL,
    "name of very many octets": b"\x01a" * 2000 + b"\x00" + TAIL,
    "no question": b"",
    "cut in a label": b"\x03we",
    "cut behind a label": b"\x03web",
    "cut before the type": b"\x03web\x00",
    "cut in the type": b"\x03web\x00\x00",
    "cut in the class": b"\x03web\x00\x00\x01\x00",
}


@pytest.mark.parametrize("body", BROKEN_QUESTIONS.values(), ids=BROKEN_QUESTIONS.keys())
@pytest.mark.parametrize("tcp", [False, True])
def test_a_question_that_cannot_be_read_is_formerr_without_echo(body: bytes, tcp: bool):
    served = responder()
    reply = served.respond(packet(body), CLIENT, tcp=tcp)
    assert reply == struct.pack(">HHHHHH", 0x1234, 0x8101, 0, 0, 0, 0)
    assert served.counters.faults["bad_question"] == 1


def test_a_name_of_255_octets_is_fine():
    name = (b"\x3f" + b"a" * 63) * 3 + b"\x2f" + b"b" * 47 + b"\x07cluster\x05local\x00"
    assert len(name) == 255
    sent = query(name)
    for _ in range(2):
        reply = responder().respond(sent, CLIENT, tcp=False)
        assert read(reply).rcode() == dns.rcode.NXDOMAIN
        assert reply is not None
        assert reply[12 : 12 + 255 + 4] == sent[12:]


@pytest.mark.parametrize("extra", [b"\x00", b"trailing", opt() + b"x"])
def test_trailing_bytes_are_ignored(extra: bytes):
    served = responder()
    for flags in (0x0100, 0):
        has_opt = extra.startswith(b"\x00\x00\x29")
        sent = packet(question(WEB) + extra, (1, 0, 0, int(has_opt)), flags=flags)
        for _ in range(2):
            reply = read(served.respond(sent, CLIENT, tcp=False))
            assert rdatas(reply) == ["10.0.0.1"]
            assert (reply.edns == 0) == has_opt


@pytest.mark.parametrize("bits", [0x0400, 0x0200, 0x0080, 0x0040, 0x0020, 0x0010, 0x0003, 0x06FF])
@pytest.mark.parametrize("name", ["web", "gone"])
def test_flags_set_in_a_query_are_ignored_and_only_rd_is_copied(bits: int, name: str):
    served = responder()
    for rd in (0, 0x0100):
        plain = served.respond(query(short(name), flags=rd), CLIENT, tcp=False)
        reply = served.respond(query(short(name), flags=rd | bits), CLIENT, tcp=False)
        assert reply == plain
        assert reply is not None
        assert struct.unpack_from(">H", reply, 2)[0] & 0x7BF0 == rd


@pytest.mark.parametrize("version", [1, 2, 255])
def test_edns_version_1_and_above_is_badvers_with_version_0_and_no_answer(version: int):
    served = responder(nsid=b"node-1")
    sent = query(WEB, extra=opt(version=version, flags=0x8000, options=option(3)))
    reply = served.respond(sent, CLIENT, tcp=False)
    message = read(reply)
    assert message.rcode() == dns.rcode.BADVERS
    assert (message.edns, message.answer, message.authority, bool(message.ednsflags & dns.flags.DO)) == (
        0,
        [],
        [],
        True,
    )
    assert message.question[0].name.to_text() == WEB + "."
    assert served.counters.responses[16] == 1
    assert served.counters.faults["opt_version"] == 1


TXT_RECORD = b"\x00" + struct.pack(">HHIH", 16, 1, 0, 2) + b"\x01a"
BROKEN_OPTS = {
    "two OPTs": ("opt_repeated", opt() + opt(), (0, 0, 2)),
    "OPT in the answer section": ("opt_misplaced", opt(), (1, 0, 0)),
    "OPT in the authority section": ("opt_misplaced", opt(), (0, 1, 0)),
    "OPT owner not root": ("opt_owner", opt(owner=b"\x01a\x00"), (0, 0, 1)),
    "COOKIE of 7 octets": ("cookie_length", opt(options=option(10, bytes(7))), (0, 0, 1)),
    "COOKIE of 0 octets": ("cookie_length", opt(options=option(10)), (0, 0, 1)),
    "COOKIE of 9 octets": ("cookie_length", opt(options=option(10, bytes(9))), (0, 0, 1)),
    "COOKIE of 15 octets": ("cookie_length", opt(options=option(10, bytes(15))), (0, 0, 1)),
    "COOKIE of 41 octets": ("cookie_length", opt(options=option(10, bytes(41))), (0, 0, 1)),
    "option longer than rdata": ("opt_malformed", opt(options=struct.pack(">HH", 3, 1)), (0, 0, 1)),
    "option header cut": ("opt_malformed", opt(options=b"\x00\x03\x00"), (0, 0, 1)),
    "17 options": ("too_many_options", opt(options=option(65001) * 17), (0, 0, 1)),
}


@pytest.mark.parametrize(("fault", "records", "counts"), BROKEN_OPTS.values(), ids=BROKEN_OPTS.keys())
def test_a_broken_opt_is_formerr_with_opt(fault: str, records: bytes, counts: tuple[int, int, int]):
    served = responder()
    reply = read(served.respond(packet(question(WEB) + records, (1, *counts)), CLIENT, tcp=False))
    assert (reply.rcode(), reply.edns, reply.answer) == (dns.rcode.FORMERR, 0, [])
    assert reply.question[0].name.to_text() == WEB + "."
    assert served.counters.faults[fault] == 1


BROKEN_RECORDS = {
    "OPT missing": (b"", (0, 0, 1)),
    "OPT rdata longer than the packet": (opt(options=option(3))[:-1], (0, 0, 1)),
    "OPT header cut": (opt()[:-1], (0, 0, 1)),
    "owner cut": (b"\x05abc", (0, 0, 1)),
    "owner is a compression loop": (b"\xc0\x22" + TXT_RECORD[1:], (0, 0, 1)),
    "owner of a label type 0x40": (b"\x41" + TXT_RECORD, (0, 0, 1)),
    "more records than are read": (TXT_RECORD * (MAX_RECORDS + 1), (0, 0, MAX_RECORDS + 1)),
}


@pytest.mark.parametrize(("records", "counts"), BROKEN_RECORDS.values(), ids=BROKEN_RECORDS.keys())
def test_records_that_cannot_be_read_are_formerr_without_opt(records: bytes, counts: tuple[int, int, int]):
    served = responder()
    reply = read(served.respond(packet(question("x") + records, (1, *counts)), CLIENT, tcp=False))
    assert (reply.rcode(), reply.edns) == (dns.rcode.FORMERR, -1)
    assert served.counters.faults["bad_records"] == 1


def test_an_opt_before_a_record_that_cannot_be_read_is_answered_with_opt():
    reply = read(responder().respond(packet(question(WEB) + opt(), (1, 0, 0, 2)), CLIENT, tcp=False))
    assert (reply.rcode(), reply.edns) == (dns.rcode.FORMERR, 0)


def test_other_records_of_a_query_are_passed_over():
    records = TXT_RECORD * 3 + b"\xc0\x0c" + TXT_RECORD[1:] + opt()
    reply = read(responder().respond(packet(question(WEB) + records, (1, 1, 1, 3)), CLIENT, tcp=False))
    assert (rdatas(reply), reply.edns) == (["10.0.0.1"], 0)


@pytest.mark.parametrize("length", [8, 16, 24, 40])
def test_a_cookie_of_a_right_length_is_ignored_while_cookies_are_off(length: int):
    reply = ask(responder(), WEB, extra=opt(options=option(10, bytes(length))))
    assert (rdatas(reply), reply.options) == (["10.0.0.1"], ())


def test_unknown_options_and_flags_are_ignored_and_not_echoed():
    served = responder()
    for _ in range(2):
        reply = ask(served, WEB, extra=opt(flags=0x7FFF, options=option(65001, b"x") * 16, rcode=3))
        assert rdatas(reply) == ["10.0.0.1"]
        assert (reply.options, reply.ednsflags, reply.edns) == ((), 0, 0)


OPT_REPLIES = {
    "answer": query(WEB, extra=opt()),
    "nodata": query(WEB, "TXT", opt()),
    "nxdomain": query(short("gone"), extra=opt()),
    "refused": query("example.com", extra=opt()),
    "truncated": query(short("huge"), extra=opt()),
    "formerr": packet(question(WEB) * 2 + opt(), (2, 0, 0, 1)),
    "badvers": query(WEB, extra=opt(version=1)),
    "chaos": query("version.bind", "TXT", opt(), qclass=3),
    "special": query("localhost", extra=opt()),
    "transfer": query("cluster.local", "AXFR", opt()),
    "alias loop": query(short("ping"), extra=opt()),
}


@pytest.mark.parametrize("sent", OPT_REPLIES.values(), ids=OPT_REPLIES.keys())
def test_opt_in_the_query_means_opt_in_the_reply_advertising_1232(sent: bytes):
    served = responder()
    for tcp in (False, False, True):
        reply = read(served.respond(sent, CLIENT, tcp=tcp))
        assert (reply.edns, reply.payload) == (0, 1232)


@pytest.mark.parametrize("sent", OPT_REPLIES.values(), ids=OPT_REPLIES.keys())
def test_no_opt_in_the_query_means_none_in_the_reply(sent: bytes):
    served = responder(posture=STALE_NOW)
    bare = sent[:11] + b"\x00" + sent[12:]
    for tcp in (False, False, True):
        assert read(served.respond(bare, CLIENT, tcp=tcp)).edns == -1


@pytest.mark.parametrize(
    ("size", "limit", "bound"),
    [(0, 1232, 512), (511, 1232, 512), (512, 1232, 512), (700, 1232, 700), (4096, 1232, 1232), (4096, 4096, 4096)],
)
def test_payload_size_below_512_is_512_and_the_bound_is_the_lesser_of_client_and_option(
    size: int, limit: int, bound: int
):
    served = responder(udp_size_bytes=limit)
    for count in range(1, 200):
        name = f"n{count}.default.svc.cluster.local"
        served.table.put(*_addresses_at(name, count))
        reply = served.respond(query(name, extra=opt(size)), CLIENT, tcp=False)
        assert reply is not None
        needed = 12 + len(question(name)) + 16 * count + 11
        assert has_flag(read(reply), "TC") == (needed > bound)
        assert len(reply) <= bound
        assert len(read(reply).answer) == (needed <= bound)


def _addresses_at(name: str, count: int) -> tuple[bytes, bytes]:
    rrsets = addresses(*(f"10.3.0.{n}" for n in range(count)))
    return to_wire(name), node.encode(rrsets=rrsets)


def test_without_edns_the_bound_is_512():
    reply = responder().respond(query(short("huge")), CLIENT, tcp=False)
    assert reply is not None
    assert has_flag(read(reply), "TC")
    assert len(reply) <= 512


def test_truncation_leaves_out_whole_rrsets_and_sets_tc():
    served = responder()
    reply = ask(served, short("huge"), extra=opt(1232))
    assert has_flag(reply, "TC")
    assert (reply.answer, reply.authority) == ([], [])
    assert served.counters.truncated == 1
    assert len(rdatas(ask(served, short("huge"), tcp=True))) == 200


def test_leaving_out_additional_sets_no_tc():
    served = responder()
    name = "_http._tcp." + WEB
    full = served.respond(query(name, "SRV", opt(1232)), CLIENT, tcp=False)
    assert full is not None
    assert len(read(full).additional) == 1
    # A bound just below the whole: NSID makes the reply longer without making the bound wider.
    reply = responder(nsid=b"n" * 128)
    large = query(name, "SRV", opt(512, option(3)))
    sent = reply.respond(large, CLIENT, tcp=False)
    assert sent is not None
    padded = read(sent)
    assert rdatas(padded) == rdatas(read(full))
    served.table.put(*_wide_service())
    wide = ask(served, short("wide"), "SRV", opt(512))
    assert (len(wide.answer[0]), wide.additional, has_flag(wide, "TC")) == (1, [], False)
    assert len(ask(served, short("wide"), "SRV", opt(1232)).additional[0]) == 30


def _wide_service() -> tuple[bytes, bytes]:
    srv = service(80)
    glue = b"".join(record(1, bytes((10, 9, 0, n))) for n in range(30))
    return to_wire(short("wide")), node.encode(rrsets=(srv._replace(arcount=30, additional=glue),))


def test_do_is_echoed():
    served = responder()
    for flags, expected in ((0x8000, True), (0, False)):
        for name in (WEB, short("gone"), "example.com"):
            for _ in range(2):
                reply = ask(served, name, extra=opt(flags=flags))
                assert bool(reply.ednsflags & dns.flags.DO) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (WEB, ["A 10.0.0.1"]),
        (short("alias"), [f"CNAME {WEB}."]),
        ("cluster.local", ["SOA ns.dns.cluster.local. hostmaster.cluster.local. 812 7200 1800 86400 5"]),
        (short("huge"), ['HINFO "RFC8482" ""']),
        ("dns-version.cluster.local", ['TXT "1.1.0"']),
        ("localhost", ["A 127.0.0.1"]),
    ],
)
def test_any_gets_one_rrset_or_hinfo_rfc8482(name: str, expected: list[str]):
    reply = ask(responder(), name, "ANY")
    shown = [f"{dns.rdatatype.to_text(rdata.rdtype)} {rdata.to_text()}" for rrset in reply.answer for rdata in rrset]
    assert shown == expected
    assert reply.additional == []


def test_any_at_an_empty_non_terminal_is_nodata():
    reply = ask(responder(), "svc.cluster.local", "ANY")
    assert (reply.rcode(), reply.answer, len(reply.authority)) == (dns.rcode.NOERROR, [], 1)


@pytest.mark.parametrize("qclass", [0, 2, 4, 254, 255, 65535])
def test_class_other_than_in_and_ch_is_refused(qclass: int):
    reply = responder().respond(query(WEB, qclass=qclass), CLIENT, tcp=False)
    assert reply is not None
    assert (reply[3] & 15, reply[12:]) == (5, question(WEB, qclass=qclass))


@pytest.mark.parametrize("qtype", [0, 3, 41, 43, 249, 250, 253, 254, 256, 1234, 65280, 65281, 65535])
def test_unknown_qtype_is_nodata_if_the_name_exists(qtype: int):
    served = responder()
    for name, rcode in ((WEB, 0), ("1.0.0.10.in-addr.arpa", 0), (short("gone"), 3)):
        reply = served.respond(query(name, qtype), CLIENT, tcp=False)
        assert reply is not None
        assert (reply[3] & 15, struct.unpack_from(">HHH", reply, 6)) == (rcode, (0, 1, 0))


@pytest.mark.parametrize(("name", "rcode"), [(WEB, 0), (short("gone"), 3), ("svc.cluster.local", 0)])
@pytest.mark.parametrize("extra", [b"", opt()])
@pytest.mark.parametrize("tcp", [False, True])
def test_nxdomain_and_nodata_in_an_own_zone_have_aa_and_soa(name: str, rcode: int, extra: bytes, tcp: bool):
    served = responder()
    for qtype in ("TXT", "SVCB", 1234):
        for _ in range(2):
            reply = ask(served, name, qtype, extra, tcp=tcp)
            assert (reply.rcode(), has_flag(reply, "AA"), reply.answer) == (rcode, True, [])
            soa = reply.authority[0]
            assert soa.name.to_text() == "cluster.local."
            assert soa.ttl == 5
            expected = "ns.dns.cluster.local. hostmaster.cluster.local. 812 7200 1800 86400 5"
            assert [rdata.to_text() for rdata in soa] == [expected]


@pytest.mark.parametrize("qtype", ["AXFR", "IXFR"])
@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("name", ["cluster.local", "example.com"])
def test_zone_transfers_are_refused(qtype: str, tcp: bool, name: str):
    reply = ask(responder(), name, qtype, opt(), tcp=tcp)
    assert (reply.rcode(), reply.answer) == (dns.rcode.REFUSED, [])
    assert extended_error(reply) == (21, "no zone transfers")


def test_the_question_is_echoed_byte_for_byte_whatever_its_case():
    served = responder()
    for name in (b"\x03wEb\x07DEFAULT\x03svc\x07Cluster\x05LOCAL\x00", b"\x03NoT\x07cluster\x05LoCal\x00"):
        for tcp in (False, False, True):
            sent = query(name, extra=opt())
            reply = served.respond(sent, CLIENT, tcp=tcp)
            assert reply is not None
            assert reply[12 : 12 + len(name) + 4] == sent[12 : 12 + len(name) + 4]


@pytest.mark.parametrize("tcp", [False, True])
def test_a_client_outside_allow_is_refused_with_ede_18(tcp: bool):

    served = responder(allow=(ipaddress.ip_network("192.0.2.0/24"),))
    reply = ask(served, WEB, extra=opt(), tcp=tcp)
    assert (reply.rcode(), reply.answer) == (dns.rcode.REFUSED, [])
    assert extended_error(reply) == (18, "source address not allowed")
    assert served.counters.refused_clients == 1
    allowed = served.respond(query(WEB), "192.0.2.77", tcp=tcp)
    assert rdatas(read(allowed)) == ["10.0.0.1"]
    assert read(served.respond(packet(b"\xc0"), CLIENT, tcp=tcp)).rcode() == dns.rcode.FORMERR
    assert served.respond(b"", CLIENT, tcp=tcp) is None


@pytest.mark.parametrize("tcp", [False, True])
def test_a_client_outside_allow_is_dropped_if_so_wished(tcp: bool):

    served = responder(allow=(ipaddress.ip_network("192.0.2.0/24"),), drop_others=True)
    assert served.respond(query(WEB), CLIENT, tcp=tcp) is None
    assert served.counters.dropped["not_allowed"] == 1
    assert served.counters.queries == {"udp": int(not tcp), "tcp": int(tcp)}


def test_nsid_names_the_node_to_who_asks():
    served = responder(nsid=b"node-1")
    assert ask(served, WEB, extra=opt()).options == ()
    for _ in range(2):
        reply = ask(served, WEB, extra=opt(options=option(3)))
        assert [(int(each.otype), each.nsid) for each in reply.options] == [(3, b"node-1")]
    assert ask(responder(), WEB, extra=opt(options=option(3))).options == ()


def test_edns_tcp_keepalive_is_answered_over_tcp_only():
    served = responder(tcp_idle_timeout_ms=10_000)
    extra = opt(options=option(11))
    assert ask(served, WEB, extra=extra).options == ()
    reply = served.respond(query(WEB, extra=extra), CLIENT, tcp=True)
    assert reply is not None
    assert reply.endswith(struct.pack(">HHH", 11, 2, 100))
    assert ask(served, WEB, extra=opt(), tcp=True).options == ()


def test_cookies_are_given_renewed_and_kept():
    served = responder(cookie_secrets=(bytes(16),), now_s=1_000_000.0)
    first = ask(served, WEB, extra=opt(options=option(10, b"12345678"))).options[0]
    value = first.client + first.server
    for _ in range(2):
        again = ask(served, WEB, extra=opt(options=option(10, value))).options[0]
        assert again.client + again.server == value
    later = responder(cookie_secrets=(bytes(16),), now_s=1_000_000.0 + 1801)
    renewed = ask(later, WEB, extra=opt(options=option(10, value)))
    assert rdatas(renewed) == ["10.0.0.1"]
    assert renewed.options[0].server != first.server
    # A cookie of somebody else is treated like none (RFC 7873 section 5.2.4).
    forged = ask(served, WEB, extra=opt(options=option(10, b"12345678" + bytes(8))))
    assert rdatas(forged) == ["10.0.0.1"]
    assert forged.options[0].server == first.server


def test_every_rcode_sent_has_a_name():
    assert {dns.rcode.to_text(dns.rcode.Rcode(code)) for code in RCODES} == set(RCODES.values())

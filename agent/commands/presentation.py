"""Answers as people write them: presentation form of names and records (RFC 1035 section 5.1, RFC 3597).

Law: what comes in are replies and nodes of our own making, yet nothing of them is trusted: what can't be read is a
WireError, and nothing that is printed leaves its line.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from agent.errors import WireError
from agent.records.names import to_text
from agent.wire import codes
from agent.wire import node as nodes
from agent.wire.codes import AAAA, CNAME, HINFO, MX, NS, PTR, RCODES, SOA, SRV, TXT, A
from agent.wire.message import HEADER_BYTES, read_name
from agent.wire.node import PRIVATE_TYPE

TYPES = {
    name: getattr(codes, name)
    for name in ("A", "NS", "CNAME", "SOA", "PTR", "HINFO", "MX", "TXT", "AAAA", "SRV", "SVCB", "HTTPS", "ANY")
}
TYPE_NAMES = {number: name for name, number in TYPES.items()}
MAX_TYPE = 0xFFFF
_PLAIN = re.compile(rb"[a-zA-Z0-9_-]+(?:\.[a-zA-Z0-9_-]+)*")
_FIXED = struct.Struct(">HHIH")
_COUNTS = struct.Struct(">HHHH")
_SOA_NUMBERS = struct.Struct(">IIIII")


def one_line(text: str) -> str:
    """Keep foreign text from leaving its line or speaking to the terminal."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)


def to_json(value: object) -> str:
    """Write a value for machines, indented for people."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


class Row(NamedTuple):
    """One record in text; `name` ends with a dot."""

    name: str
    ttl_s: int
    type: str
    value: str

    def __str__(self) -> str:
        return f"{self.name} {self.ttl_s} IN {self.type} {self.value}"

    def as_json(self) -> dict[str, Any]:
        """Give the record for machines."""
        return {"name": self.name, "ttl_s": self.ttl_s, "type": self.type, "value": self.value}


class Reply(NamedTuple):
    """A reply in text."""

    status: str
    is_authoritative: bool
    answer: list[Row]
    authority: list[Row]
    additional: list[Row]


def type_name(number: int) -> str:
    """Name an RR type."""
    return TYPE_NAMES.get(number, f"TYPE{number}")


def type_number(text: str) -> int:
    """Read the name of an RR type, or TYPE65 (RFC 3597 section 5).

    Raises:
        WireError: there is none of this name.
    """
    name = text.upper()
    if name in TYPES:
        number: int = TYPES[name]
        return number
    digits = name.removeprefix("TYPE")
    if digits != name and digits.isdecimal() and digits.isascii() and int(digits) <= MAX_TYPE:
        return int(digits)
    raise WireError(f"{text!r} is no record type", hint=f"Use one of {', '.join(TYPES)}, or TYPE and a number")


def name_text(wire: bytes) -> str:
    """Write a name as `to_text` does, many of them at once."""
    labels, at = [], 0
    while at < len(wire) and wire[at]:
        labels.append(wire[at + 1 : at + 1 + wire[at]])
        at += 1 + wire[at]
    text = b".".join(labels)
    return text.decode("ascii") + "." if _PLAIN.fullmatch(text) else to_text(wire)


def read_reply(message: bytes) -> Reply:
    """Read a reply of the responder.

    Raises:
        WireError: it is not laid out like one.
    """
    try:
        questions, *counts = _COUNTS.unpack_from(message, 4)
        at = HEADER_BYTES
        for _ in range(questions):
            at = read_name(message, at)[1] + 4
        sections: list[list[Row]] = []
        for count in counts:
            rows = []
            for _ in range(count):
                row, at = _read_row(message, at)
                rows.append(row)
            sections.append([row for row in rows if row.type != "TYPE41"])
    except (struct.error, IndexError) as error:
        raise WireError(f"the reply can't be read: {error}") from None
    rcode = message[3] & 0x0F
    return Reply(RCODES.get(rcode, f"RCODE{rcode}"), bool(message[2] & codes.AA), *sections)


def _read_row(message: bytes, at: int) -> tuple[Row, int]:
    owner, at = read_name(message, at)
    rtype, _, ttl_s, length = _FIXED.unpack_from(message, at)
    at += _FIXED.size
    return Row(name_text(owner), ttl_s, type_name(rtype), _value(message, at, rtype, length)), at + length


def _value(message: bytes, at: int, rtype: int, length: int) -> str:
    rdata = message[at : at + length]
    if rtype in {A, AAAA} and length == (4 if rtype == A else 16):
        return str(ipaddress.ip_address(rdata))
    if rtype in {CNAME, PTR, NS}:
        return name_text(read_name(message, at)[0])
    if rtype == SRV:
        return "{} {} {} {}".format(*struct.unpack_from(">HHH", rdata), name_text(read_name(message, at + 6)[0]))
    if rtype == MX:
        return "{} {}".format(*struct.unpack_from(">H", rdata), name_text(read_name(message, at + 2)[0]))
    if rtype == SOA:
        primary, at = read_name(message, at)
        contact, at = read_name(message, at)
        return f"{name_text(primary)} {name_text(contact)} {' '.join(map(str, _SOA_NUMBERS.unpack_from(message, at)))}"
    if rtype in {TXT, HINFO}:
        return " ".join(_strings(rdata))
    return f"\\# {length} {rdata.hex()}".rstrip()


def _strings(rdata: bytes) -> Iterator[str]:
    at = 0
    while at < len(rdata):
        raw = rdata[at + 1 : at + 1 + rdata[at]]
        yield '"' + "".join(_character(octet) for octet in raw) + '"'
        at += 1 + rdata[at]


def _character(octet: int) -> str:
    if octet in b'"\\':
        return "\\" + chr(octet)
    return chr(octet) if 0x20 <= octet <= 0x7E else f"\\{octet:03d}"


def record_counts(key: bytes, node: bytes) -> list[tuple[str, int]]:
    """Count the records that stand at a name, by type; empty for a name that is there for others alone.

    Raises:
        WireError: the node is damaged.
    """
    _require_sound(key, node)
    return [(type_name(rrset.type), rrset.ancount) for rrset in nodes.rrsets(node) if rrset.type < PRIVATE_TYPE]


def _require_sound(key: bytes, node: bytes) -> None:
    if not nodes.is_sound(node):
        raise WireError(f"the node of {to_text(key)} is damaged")


def rows_of(key: bytes, node: bytes) -> list[Row]:
    """List the records that stand at a name, additional ones left out.

    Raises:
        WireError: the node is damaged.
    """
    _require_sound(key, node)
    rows: list[Row] = []
    for rrset in nodes.rrsets(node):
        if rrset.type < PRIVATE_TYPE:
            question = key + rrset.type.to_bytes(2, "big") + b"\x00\x01"
            head = b"\0\0\x84\0" + _COUNTS.pack(1, rrset.ancount, 0, 0)
            rows += read_reply(head + question + rrset.answer).answer
    return rows

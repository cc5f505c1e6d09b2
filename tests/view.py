"""Reads an answer table as people write zones: names in text, rdata decoded by dnspython from the wire bytes."""

from __future__ import annotations

import dns.message
import dns.rdatatype

from agent.records.names import to_text
from agent.wire import node
from agent.wire.table import AnswerTable

Zone = dict[str, dict[str, list[str]]]


def message(key: bytes, rrset: node.RRset) -> dns.message.Message:
    """Builds the message an RRset is an answer in, and lets dnspython read it."""
    counts = b"\x00\x01%b\x00\x00%b" % (rrset.ancount.to_bytes(2, "big"), rrset.arcount.to_bytes(2, "big"))
    question = key + rrset.type.to_bytes(2, "big") + b"\x00\x01"
    return dns.message.from_wire(b"\x00\x00\x84\x00" + counts + question + rrset.answer + rrset.additional)


def records(key: bytes, rrset: node.RRset) -> list[str]:
    """Lists an RRset's rdata in text, sorted."""
    answer = message(key, rrset).answer
    assert all(to_text(key) == each.name.to_text() for each in answer)
    return sorted(rdata.to_text() for each in answer for rdata in each)


def zone(table: AnswerTable) -> Zone:
    """Lists every name of a table: name → type → rdata. An empty non-terminal has no types."""
    out: Zone = {}
    for key, held in table.items():
        assert node.is_sound(held)
        out[to_text(key)] = {
            dns.rdatatype.to_text(each.type): records(key, each)
            for each in node.rrsets(held)
            if each.type < node.PRIVATE_TYPE
        }
    return out

"""What is asked of an upstream: a question, its place in the cache, its query on the wire.

Law: pure. DO and CD are part of a question, because the answers differ; nothing else that a client sent goes upstream.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from agent.wire import edns
from agent.wire.codes import AD, CD, IN, RD

UDP_SIZE_BYTES = 1232
"""What we take over UDP (dns.md section 3); more comes over TCP."""
_HEAD = struct.Struct(">HBBHHHH")
_TYPE = struct.Struct(">HH")


class Question(NamedTuple):
    """One question of class IN.

    Attributes:
        name: lower-cased wire form.
        qtype: RR type.
        do: DNSSEC records are wanted.
        cd: data that fails validation is wanted too.
    """

    name: bytes
    qtype: int
    do: bool = False
    cd: bool = False

    @property
    def on_wire(self) -> bytes:
        """The question section."""
        return self.name + _TYPE.pack(self.qtype, IN)


def query(question: Question, ident: int, *, plain: bool = False) -> bytes:
    """Lay out a query for an upstream: RD and AD set (RFC 6840 section 5.7), one question, our OPT and nothing in it.

    Args:
        question: what to ask.
        ident: message id.
        plain: without EDNS, for a server that knows none.
    """
    head = _HEAD.pack(ident, RD, AD | (CD if question.cd else 0), 1, 0, 0, 0 if plain else 1)
    opt = b"" if plain else edns.write(UDP_SIZE_BYTES, 0, do=question.do)
    return head + question.on_wire + opt

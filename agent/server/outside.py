"""Queries that lead outside: a name of no own zone, or an own one that is an alias of such a name.

Law: a query that has to wait is a `Pending`, which whoever read the query gives the way back to its client; it is
answered exactly once. What comes from outside stands behind what own zones say, and where it leads back into an own
zone the own zone goes on. At most `MAX_LEGS` times is a name followed in or out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from agent.errors import WireError
from agent.forward.forwarder import Forwarder
from agent.forward.question import Question
from agent.forward.terms import Said
from agent.server.zones import Behind, OwnZones
from agent.wire.codes import AD, CD, CNAME, EDE_OTHER, IN, NOERROR, RA, RD, SERVFAIL
from agent.wire.message import HEADER_BYTES, Query
from agent.wire.node import RRset
from agent.wire.reply import Answer, Group
from agent.wire.sections import moved, skip_name

MAX_LEGS = 8
_DAMAGE = (WireError, IndexError, struct.error)
_FIXED = struct.Struct(">HHIH")


class Pending:
    """A reply that comes later; `deliver` is set by whoever knows the client."""

    __slots__ = ("deliver",)

    def __init__(self) -> None:
        self.deliver: Callable[[bytes], None] = _nobody


def _nobody(reply: bytes) -> None:
    """Nobody has said where replies go."""


class Asker(NamedTuple):
    """Who asks, and how the answer goes out.

    Attributes:
        query: as read.
        client_ip: source address in text.
        finish: lays out the reply to an answer.
    """

    query: Query
    client_ip: str
    finish: Callable[[Answer], bytes]


class Errand:
    """One query on its way outside.

    Args:
        forwarder: asks and remembers.
        zones: gives own zones as they are at the moment.
        asker: who waits.
        instead: what is said if the name is denied, or nobody answers; None: just that.
    """

    __slots__ = ("_asker", "_forwarder", "_instead", "_legs", "_pending", "_zones")

    def __init__(
        self, forwarder: Forwarder, zones: Callable[[], OwnZones], asker: Asker, instead: Answer | None = None
    ) -> None:
        self._instead = instead
        self._forwarder = forwarder
        self._zones = zones
        self._asker = asker
        self._legs = 0
        self._pending: Pending | None = None

    def go(self, key: bytes, behind: Behind | None = None) -> bytes | Pending:
        """Ask for a name; gives the reply, or what it will come by."""
        answer = self._step(key, behind)
        if answer is not None:
            return self._asker.finish(answer)
        self._pending = Pending()
        return self._pending

    def _step(self, key: bytes, behind: Behind | None) -> Answer | None:
        """Ask for a name; None: the answer comes later."""
        self._legs += 1
        if self._legs > MAX_LEGS:
            return Answer(SERVFAIL, error=(EDE_OTHER, "aliases lead in and out of own zones without end"))
        query = self._asker.query
        second = query.packet[3]
        question = Question(key, query.qtype, do=query.opt is not None and query.opt.do, cd=bool(second & CD))

        def deliver(said: Said) -> None:
            answer = self._heard(question, behind, said)
            if answer is not None and self._pending is not None:
                self._pending.deliver(self._asker.finish(answer))

        may_ask = bool(query.packet[2] & RD)
        said = self._forwarder.ask(question, self._asker.client_ip, deliver, may_ask=may_ask)
        return self._heard(question, behind, said) if said is not None else None

    def _heard(self, question: Question, behind: Behind | None, said: Said) -> Answer | None:
        """Turn what was said into an answer, following it into own zones; None: it leads out again."""
        try:
            return self._placed(question, behind, said)
        except _DAMAGE as error:
            return Answer(SERVFAIL, error=(EDE_OTHER, f"the answer can't be put together: {error}"))

    def _placed(self, question: Question, behind: Behind | None, said: Said) -> Answer | None:
        if self._instead is not None and said.rcode != NOERROR:
            return self._instead
        answer, authority, end_at = said.answer, said.authority, said.end_at
        start = HEADER_BYTES + len(self._asker.query.key) + 4
        if behind is not None:
            answer, authority = _behind(question.name, behind, said)
            start = behind.end
            end_at = start + _last_target(answer) if said.end else 0
            answer = behind.aliases + answer
        flags = self._flags(said) if behind is None else self._flags(said) & ~AD
        if not said.end:
            return Answer(
                said.rcode,
                authoritative=behind is not None,
                answer=answer,
                authority=authority,
                error=said.error,
                flags=flags,
            )
        new = answer if behind is None else answer[len(behind.aliases) :]
        end = start + sum(len(group.body) for group in new)
        own = self._zones().answer(said.end, question.qtype, self._legs, Behind(answer, end_at, end))
        if isinstance(own, Answer):
            return own._replace(authoritative=behind is not None, flags=flags & ~AD, lasting=False)
        if own is None:
            # It was ours when the answer came; now it falls through.
            return self._step(said.end, Behind(answer, end_at, end))
        return self._step(own.key, own.behind)

    def _flags(self, said: Said) -> int:
        """RA always; AD for who asked for it by AD or DO (RFC 6840 section 5.7); CD as asked."""
        query = self._asker.query
        second = query.packet[3]
        wants_ad = second & AD or (query.opt is not None and query.opt.do)
        return RA | second & CD | (AD if said.ad and wants_ad else 0)


def _behind(name: bytes, behind: Behind, said: Said) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
    """Give what was said so that it can stand behind other records."""
    answer, authority = (b"".join(group.body for group in groups) for groups in (said.answer, said.authority))
    ancount, nscount = (sum(group.records for group in groups) for groups in (said.answer, said.authority))
    placed = moved(name, RRset(0, 0, ancount, nscount, answer, authority), behind.key_at)
    return (
        (Group(ancount, placed.answer),) if ancount else (),
        (Group(nscount, placed.additional),) if nscount else (),
    )


def _last_target(groups: tuple[Group, ...]) -> int:
    """Find where the target of the last CNAME stands."""
    at = found = start = 0
    for count, body in groups:
        at = 0
        for _ in range(count):
            at = skip_name(body, at)
            rtype, rclass, _, length = _FIXED.unpack_from(body, at)
            at += _FIXED.size
            if rtype == CNAME and rclass == IN:
                found = start + at
            at += length
        start += len(body)
    return found

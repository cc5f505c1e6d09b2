"""One query in, one reply out, for every protocol.

Law: nothing blocks, logs or raises here, and no reply is longer than its client takes. A query is rejected in the
order of the RFCs, cheapest reason first; what the hit path (`wire.hit`) is sure of never gets that far.

Precedence (dns.md): overrides, own zones, what upstreams have said, stub domains, special names, upstreams; without
upstreams the rest is not ours.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

from agent.errors import WireError
from agent.forward.forwarder import Forwarder
from agent.server import chaos, shortcut, special
from agent.server.access import Access
from agent.server.counters import Counters
from agent.server.options import ResponderOptions
from agent.server.outside import Asker, Errand, Pending
from agent.server.overriding import Overrides
from agent.server.sender import Sender, Sent
from agent.server.zones import Behind, Onward, OwnZones
from agent.wire import timed
from agent.wire.codes import (
    AXFR,
    CH,
    EDE_NOT_AUTHORITATIVE,
    EDE_NOT_SUPPORTED,
    EDE_OTHER,
    EDE_PROHIBITED,
    EDE_STALE,
    EDE_STALE_NXDOMAIN,
    IN,
    IXFR,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
)
from agent.wire.hit import HitPath
from agent.wire.message import NO_QUESTION, Query, drop_reason, read_query
from agent.wire.posture import EXPIRED, NOT_READY, STALE, START, Posture
from agent.wire.reply import Answer, header_only
from agent.wire.table import AnswerTable
from agent.wire.timed import TimedTable

_DAMAGE = (WireError, IndexError, struct.error)
"""What reading a node that is none can raise."""
_NOT_OURS = Answer(REFUSED, error=(EDE_NOT_AUTHORITATIVE, "not an own zone, and nowhere to forward to"))
_NOT_FORWARDED = frozenset((0, 41, 249, 250, AXFR, IXFR, 253, 254))
"""Types that mean something between two servers alone (RFC 6895 section 3.1)."""
_OPT_AT_ROOT = b"\x00\x00\x29"
_ONE_ADDITIONAL = bytes((0, 0, 0, 0, 0, 1))


class Responder:
    """Answers queries from a table, under a posture.

    Args:
        table: own names; may be replaced (`table`) and may change between any two queries.
        options: how to answer; for other options make another responder with the same counters.
        counters: where to count.
        clock: Unix time in seconds, for DNS cookies alone.
        cache: what upstreams have said of names that are not ours; None: nothing ever is. Whoever fills it renews it
            too: `cache.report`. What is in it is answered ahead of special names, so only what the precedence sends
            upstream belongs there.
        ticks_ms: monotonic milliseconds, for `cache` alone.
        forwarder: answers names of no own zone; None: they are refused.

    Attributes:
        options: as given.
        zones: own zones under the posture of the moment.
        access: who may ask; None: everybody.
        on_change: called after table or posture has changed what is answered.
        on_settle: called by `settle`: whoever answers beside this responder brings its counts.
    """

    def __init__(
        self,
        table: AnswerTable,
        options: ResponderOptions,
        *,
        counters: Counters | None = None,
        clock: Callable[[], float] = time.time,
        cache: TimedTable | None = None,
        ticks_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
        forwarder: Forwarder | None = None,
    ) -> None:
        self.forwarder = forwarder
        self.counters = counters if counters is not None else Counters()
        self.options = options
        self.access = Access(options.allow) if options.allow else None
        self.cache = cache if cache is not None else TimedTable(max_entries=0)
        self._ticks_ms = ticks_ms
        self._sender = Sender(options, self.counters, clock)
        self._posture = START
        self._overrides: Overrides = {}
        self.on_change: Callable[[], None] | None = None
        self.on_settle: Callable[[], None] | None = None
        self._install(table)

    @property
    def table(self) -> AnswerTable:
        """What is answered from."""
        return self._table

    @table.setter
    def table(self, table: AnswerTable) -> None:
        self.settle()
        self._install(table)

    @property
    def posture(self) -> Posture:
        """What answers are given under."""
        return self._posture

    @posture.setter
    def posture(self, posture: Posture) -> None:
        before, self._posture = self._posture, posture
        if _seen_by_clients(before) != _seen_by_clients(posture):
            self.settle(before)
            self._apply()

    @property
    def overrides(self) -> Overrides:
        """Names that a person answers by hand; replaced as a whole."""
        return self._overrides

    @overrides.setter
    def overrides(self, overrides: Overrides) -> None:
        if overrides != self._overrides:
            self.settle()
            self._overrides = overrides
            self._apply()

    def settle(self, posture: Posture | None = None) -> None:
        """Bring what was counted on the way into `counters`; a collector does so before it reads them."""
        state = (posture or self._posture).state
        answered, counters = self._hit.answered, self.counters
        freshness = "stale" if state == STALE else "fresh"
        for rcode, count in enumerate(answered):
            if count:
                counters.responses[rcode] += count
                counters.answers[freshness] += count
                answered[rcode] = 0
        for word, count in self._hit.evicted.items():
            counters.evicted[word] += count
            self._hit.evicted[word] = 0
        if self.access is not None:
            counters.evicted["verdicts"] += self.access.evicted
            self.access.evicted = 0
        self.counters.evicted["cache"] += self.cache.evicted
        self.cache.evicted = 0
        if self.on_settle is not None:
            self.on_settle()

    def respond(self, packet: bytes, client_ip: str, *, tcp: bool) -> bytes | Pending | None:
        """Answer one message.

        Args:
            packet: as it came, without TCP's length.
            client_ip: source address in text.
            tcp: it came over TCP.

        Returns:
            The reply; None if there is none (dropped and counted); what it will come by if somebody else is asked.
        """
        if self.access is not None and not self.access.allows(client_ip):
            return self._turn_away(packet, client_ip, tcp=tcp)
        if not tcp:
            try:
                reply = self._hit.answer(packet)
            except _DAMAGE:
                reply = None  # The slow path meets it again, and counts it.
            if reply is not None:
                return reply
        return self._read(packet, client_ip, tcp=tcp)

    def _install(self, table: AnswerTable) -> None:
        self._table = table
        self._hit = HitPath(table)
        self._apply()

    def _apply(self) -> None:
        """Take over a new table or posture."""
        posture = self._posture
        self.zones = OwnZones(self._table, self.options, posture, self._overrides)
        if posture.state in {NOT_READY, EXPIRED}:
            self._hit.close()
        else:
            self._hit.open(
                serial=posture.generation,
                soa_ttl_s=self.zones.soa_ttl_s,
                cap_s=posture.ttl_cap_s,
                denies=self.zones.denies,
                marks=posture.state == STALE,
                leaves=self._overrides,
            )
        if self.on_change is not None:
            self.on_change()

    def _read(
        self, packet: bytes, client_ip: str, *, tcp: bool, answer: Answer | None = None
    ) -> bytes | Pending | None:
        """Read a message with care and answer it, with the answer given if it is well formed."""
        counters = self.counters
        if tcp:
            counters.tcp_queries += 1
        reason = drop_reason(packet)
        if reason:
            counters.dropped[reason] += 1
            return None
        query = read_query(packet)
        if query.rcode == NOTIMP:
            counters.faults[query.fault] += 1
            counters.responses[NOTIMP] += 1
            return header_only(packet, NOTIMP)
        if query.rcode:
            return self._sender.send(query, self._fault(query), client_ip, tcp=tcp).reply
        if answer is not None:
            return self._sender.send(query, answer, client_ip, tcp=tcp).reply
        own = self._own(query)
        if own is None or isinstance(own, Onward):
            return self._outside(query, own, client_ip, tcp=tcp)
        if self.options.search_shortcut and own.rcode == NXDOMAIN and not own.answer and self.forwarder is not None:
            reply = self._walk(query, own, self.forwarder, client_ip, tcp=tcp)
            if reply is not None:
                return reply
        answer = own
        sent = self._sender.send(query, answer, client_ip, tcp=tcp)
        self._remember(query, answer, sent, tcp=tcp)
        return sent.reply

    def _fault(self, query: Query) -> Answer:
        """Answer a query that could not be read, or one for a cookie alone (RFC 7873 section 5.4)."""
        if query.fault == NO_QUESTION and query.opt is not None and self._sender.wants_cookie(query.opt):
            return Answer(NOERROR)
        self.counters.faults[query.fault] += 1
        return Answer(query.rcode)

    def _outside(self, query: Query, own: Onward | None, client_ip: str, *, tcp: bool) -> bytes | Pending:
        """Answer a query whose name, or the name at the end of whose aliases, is in no own zone."""
        if own is not None:
            self.counters.answers["stale" if self._posture.state == STALE else "fresh"] += 1
            answer = own.answer if self.forwarder is None or self._stays(own.key, self.forwarder) else None
        else:
            answer = self._other(query)
        if answer is not None or self.forwarder is None:
            return self._sender.send(query, answer or _NOT_OURS, client_ip, tcp=tcp).reply
        asker = Asker(query, client_ip, lambda found: self._sender.send(query, found, client_ip, tcp=tcp).reply)
        errand = Errand(self.forwarder, lambda: self.zones, asker)
        return errand.go(own.key, own.behind) if own is not None else errand.go(query.key)

    def _walk(
        self, query: Query, denial: Answer, forwarder: Forwarder, client_ip: str, *, tcp: bool
    ) -> bytes | Pending | None:
        """Answer the first question of a search path with the end of the walk; None: it is none."""
        zones = self.zones
        zone = zones.zone_of(query.key)
        name = shortcut.meant(query.key, zone, zones.exists)
        if name is None or zone is None:
            return None
        asker = Asker(query, client_ip, lambda found: self._sender.send(query, found, client_ip, tcp=tcp).reply)
        for target in shortcut.candidates(name, zone):
            behind = shortcut.behind(query.key, target, self.options.ttl_s)
            own = self._own_at(target, query.qtype, behind)
            if own is None:
                if self._stays(target, forwarder):
                    break
                return Errand(forwarder, lambda: self.zones, asker, denial).go(target, behind)
            if isinstance(own, Onward):
                if self._stays(own.key, forwarder):
                    return asker.finish(own.answer)
                return Errand(forwarder, lambda: self.zones, asker, denial).go(own.key, own.behind)
            if own.rcode != NXDOMAIN:
                return asker.finish(own)
        return None

    def _stays(self, key: bytes, forwarder: Forwarder) -> bool:
        """Tell whether a name must not leave the node, because it is special, or has nowhere to go."""
        if forwarder.routes.of(key) is None:
            return True
        return special.zone_of(key, self.options.special_names) is not None and not forwarder.routes.is_stub(key)

    def _own(self, query: Query) -> Answer | Onward | None:
        """Answer for own zones; None if the question is not about them."""
        if query.qclass != IN or query.qtype in {AXFR, IXFR}:
            return None
        return self._own_at(query.key, query.qtype, None)

    def _own_at(self, key: bytes, qtype: int, behind: Behind | None) -> Answer | Onward | None:
        try:
            self._hit.turn += 1
            return self.zones.answer(key, qtype, self._hit.turn, behind)
        except _DAMAGE:
            self.counters.damaged_nodes += 1
            return Answer(SERVFAIL)

    def _other(self, query: Query) -> Answer | None:
        """Answer what no own zone does; None if an upstream is to be asked."""
        if query.qclass == CH:
            return chaos.answer(query.key, query.qtype, self.options, self._posture)
        if query.qclass != IN:
            return Answer(REFUSED)
        if query.qtype in {AXFR, IXFR}:
            return Answer(REFUSED, error=(EDE_NOT_SUPPORTED, "no zone transfers"))
        if self.cache.held and (kept := self._kept(query)) is not None:
            return kept
        forwarder = self.forwarder
        zone = special.zone_of(query.key, self.options.special_names)
        if zone is not None and (forwarder is None or not forwarder.routes.is_stub(query.key)):
            return special.answer(query.key, query.qtype, zone)
        if forwarder is None or forwarder.routes.of(query.key) is None:
            return _NOT_OURS
        if query.qtype in _NOT_FORWARDED:
            return Answer(REFUSED, error=(EDE_NOT_SUPPORTED, "not a type that is asked of upstreams"))
        if forwarder.is_probe(query.key):
            return Answer(REFUSED, error=(EDE_OTHER, "a question of this agent's own has come back to it"))
        return None

    def _kept(self, query: Query) -> Answer | None:
        """Answer with what an upstream has said, if that is not too old."""
        second, do = query.packet[3], query.opt is not None and query.opt.do
        key = timed.key_of(query.key, query.qtype, do=do, cd=bool(second & timed.CD))
        value = self.cache.find(key)
        kept = timed.read(value, self._ticks_ms()) if value is not None else None
        if kept is None:
            return None
        if kept.is_due and self.cache.report is not None:
            self.counters.refreshes["reported"] += 1
            self.cache.report(key)
        self.counters.cached["stale" if kept.is_stale else "fresh"] += 1
        flags = kept.flags if do or second & timed.AD else kept.flags & ~timed.AD
        error = past_ttl(kept.rcode) if kept.is_stale else None
        answer, authority, additional = ((group,) for group in kept.sections)
        return Answer(kept.rcode, False, answer, authority, additional, error, flags=flags)

    def _turn_away(self, packet: bytes, client_ip: str, *, tcp: bool) -> bytes | Pending | None:
        """Answer a client that is not on the allow list, or don't."""
        if self.options.drop_others:
            self.counters.tcp_queries += tcp
            self.counters.dropped["not_allowed"] += 1
            return None
        self.counters.refused_clients += 1
        refused = Answer(REFUSED, error=(EDE_PROHIBITED, "source address not allowed"))
        return self._read(packet, client_ip, tcp=tcp, answer=refused)

    def _remember(self, query: Query, answer: Answer, sent: Sent, *, tcp: bool) -> None:
        """Count an answer of an own zone by freshness, and hand the hit path what it can use."""
        if answer.rcode == SERVFAIL:
            return
        if answer.overridden:
            # Kept nowhere: the hit path would count it as another answer, and put its mark on others.
            self.counters.answers["override"] += 1
            return
        self.counters.answers["stale" if self._posture.state == STALE else "fresh"] += 1
        opt = query.opt
        if tcp or (opt is not None and self._sender.wants_cookie(opt)):
            return
        if answer.lasting:
            self._hit.keep(query.packet, sent.reply)
        tail = query.packet[query.end :]
        # Only what means the same behind any question: counted as one record, its owner not a pointer somewhere.
        is_plain = tail.startswith(_OPT_AT_ROOT) and query.packet[6:12] == _ONE_ADDITIONAL
        if opt is not None and is_plain and answer.rcode == NOERROR:
            self._hit.learn(tail, sent.limit_bytes, sent.opt)


def past_ttl(rcode: int) -> tuple[int, str]:
    """Give the extended error that marks what is past its TTL."""
    return EDE_STALE_NXDOMAIN if rcode == NXDOMAIN else EDE_STALE, timed.STALE_TEXT


def _seen_by_clients(posture: Posture) -> tuple[object, ...]:
    """Give what of a posture changes answers of own zones."""
    age_s = posture.age_s if posture.state in {STALE, EXPIRED} else 0
    return posture.state, posture.ttl_cap_s, posture.generation, age_s, posture.pinned

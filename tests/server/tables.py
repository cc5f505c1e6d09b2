"""A small cluster's answer table, written by hand as the compiler would write it, and queries for it."""

from __future__ import annotations

import importlib
import ipaddress
import struct
from typing import Any

import dns.flags
import dns.message

from agent.records.names import IN_ADDR_ARPA, IP6_ARPA, reverse, to_wire
from agent.server.counters import Counters
from agent.server.options import ResponderOptions
from agent.server.responder import Responder
from agent.wire import node
from agent.wire.node import CNAME_NODE, EXPLICIT, ROTATE, RRset
from agent.wire.posture import EXPIRED, FRESH, NOT_READY, STALE, Posture
from agent.wire.table import AnswerTable, ZoneMeta
from agent.wire.timed import TimedTable

ZONE = to_wire("cluster.local")
ZONES = (ZoneMeta(ZONE, 0, False), ZoneMeta(IN_ADDR_ARPA, 1, True), ZoneMeta(IP6_ARPA, 2, True))
TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "HINFO": 13, "TXT": 16, "AAAA": 28, "SRV": 33, "OPT": 41,
         "SVCB": 64, "IXFR": 251, "AXFR": 252, "ANY": 255, "PRIVATE": 65281}  # fmt: skip
CLIENT = "10.1.2.3"

FRESH_NOW = Posture(FRESH, connected=True, ttl_cap_s=None, age_s=3, generation=812, note="following")
LOST_NOW = Posture(FRESH, connected=False, ttl_cap_s=30, age_s=20, generation=812, note="connection refused")
STALE_NOW = Posture(STALE, connected=False, ttl_cap_s=30, age_s=1843, generation=812, note="connection refused")
EXPIRED_NOW = Posture(EXPIRED, connected=False, ttl_cap_s=30, age_s=99_999, generation=812, note="connection refused")
NOT_READY_NOW = Posture(NOT_READY, connected=False, ttl_cap_s=30, age_s=0, generation=0, note="starting")


def record(rtype: int, rdata: bytes, ttl_s: int = 5, owner: bytes = b"\xc0\x0c") -> bytes:
    return owner + struct.pack(">HHIH", rtype, 1, ttl_s, len(rdata)) + rdata


def addresses(*texts: str, ttl_s: int = 5) -> tuple[RRset, ...]:
    packed = [ipaddress.ip_address(text).packed for text in texts]
    out = []
    for size, rtype in ((4, 1), (16, 28)):
        chosen = [record(rtype, address, ttl_s) for address in packed if len(address) == size]
        if chosen:
            out.append(RRset(rtype, ROTATE if len(chosen) > 1 else 0, len(chosen), 0, b"".join(chosen), b""))
    return tuple(out)


def one(rtype: str, rdata: bytes, ttl_s: int = 5) -> RRset:
    return RRset(TYPES[rtype], 0, 1, 0, record(TYPES[rtype], rdata, ttl_s), b"")


def service(port: int, *, prefix: bytes = b"") -> RRset:
    """An SRV RRset for web.default, with the addresses in additional; the owner is `prefix` in front of it."""
    target = to_wire("web.default.svc.cluster.local")
    glue_owner = struct.pack(">H", 0xC00C + len(prefix))
    glue = record(1, bytes((10, 0, 0, 1)), owner=glue_owner)
    return RRset(33, 0, 1, 1, record(33, struct.pack(">HHH", 0, 100, port) + target), glue)


def alias(target: str) -> RRset:
    return one("CNAME", to_wire(target))


SMALL = ("10.0.0.1", "fd00::1")
MANY = tuple(f"10.0.1.{n}" for n in range(1, 6))
HUGE = tuple(f"10.2.{n // 250}.{n % 250}" for n in range(200))

NAMES: dict[str, tuple[int, tuple[RRset, ...]]] = {
    "cluster.local": (
        EXPLICIT,
        (
            RRset(
                2,
                0,
                1,
                1,
                record(2, to_wire("ns.dns.cluster.local")),
                record(1, bytes((10, 0, 0, 10)), owner=b"\x02ns\x03dns\xc0\x0c"),
            ),
        ),
    ),
    "dns.cluster.local": (0, ()),
    "ns.dns.cluster.local": (EXPLICIT, addresses("10.0.0.10")),
    "dns-version.cluster.local": (0, (one("TXT", b"\x051.1.0", 28_800),)),
    "svc.cluster.local": (EXPLICIT, ()),
    "pod.cluster.local": (EXPLICIT, ()),
    "default.svc.cluster.local": (EXPLICIT, ()),
    "default.pod.cluster.local": (EXPLICIT, ()),
    "web.default.svc.cluster.local": (0, (*addresses(*SMALL), service(80))),
    "_tcp.web.default.svc.cluster.local": (0, ()),
    "_http._tcp.web.default.svc.cluster.local": (0, (service(80, prefix=b"\x05_http\x04_tcp"),)),
    "many.default.svc.cluster.local": (0, addresses(*MANY)),
    "huge.default.svc.cluster.local": (0, addresses(*HUGE)),
    "version.default.svc.cluster.local": (0, addresses("10.0.0.9", ttl_s=600)),
    "alias.default.svc.cluster.local": (CNAME_NODE, (alias("web.default.svc.cluster.local"),)),
    "double.default.svc.cluster.local": (CNAME_NODE, (alias("alias.default.svc.cluster.local"),)),
    "ports.default.svc.cluster.local": (CNAME_NODE, (alias("_http._tcp.web.default.svc.cluster.local"),)),
    "turning.default.svc.cluster.local": (CNAME_NODE, (alias("many.default.svc.cluster.local"),)),
    "apex.default.svc.cluster.local": (CNAME_NODE, (alias("cluster.local"),)),
    "ping.default.svc.cluster.local": (CNAME_NODE, (alias("pong.default.svc.cluster.local"),)),
    "pong.default.svc.cluster.local": (CNAME_NODE, (alias("ping.default.svc.cluster.local"),)),
    "outside.default.svc.cluster.local": (CNAME_NODE, (alias("www.example.com"),)),
    "backwards.default.svc.cluster.local": (CNAME_NODE, (alias("9.9.9.10.in-addr.arpa"),)),
    "dangling.default.svc.cluster.local": (CNAME_NODE, (alias("gone.default.svc.cluster.local"),)),
    "in-addr.arpa": (EXPLICIT, ()),
    "10.in-addr.arpa": (0, ()),
    "ip6.arpa": (EXPLICIT, ()),
}
HOPS = 9
for hop in range(HOPS):
    NAMES[f"hop{hop}.default.svc.cluster.local"] = (CNAME_NODE, (alias(f"hop{hop + 1}.default.svc.cluster.local"),))
NAMES[f"hop{HOPS}.default.svc.cluster.local"] = (0, addresses("10.0.0.7"))


BUILD = ["python"]
"""Which data plane the tests of this room run on; set by their conftest."""


class Compiled(Responder):
    """A responder behind a compiled worker's eyes: what that answers by itself never gets here."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        native = importlib.import_module("agent.server.native")
        self.plane, self.tally = native.Plane(self.table), native.Tally()
        timed = self.cache if hasattr(self.cache, "memory") else None
        self.on_change = lambda: self.plane.show(native.terms_of(self), self.table, timed)
        self.on_change()

    def respond(self, packet: bytes, client_ip: str, *, tcp: bool) -> bytes | None:
        if not tcp and self.plane.allows(ipaddress.ip_address(client_ip).packed):
            due: list[bytes] = []
            reply = self.plane.answer(
                packet, self._ticks_ms(), due, ipaddress.ip_address(client_ip).packed, int(self._sender._clock())
            )
            for key in due:
                self.counters.refreshes["reported"] += 1
                self.cache.report(key)  # type: ignore[misc]
            self.tally.add(self.plane.counts(), self.counters)
            if reply is not False:
                return reply
        return super().respond(packet, client_ip, tcp=tcp)


def empty_table(zones: tuple[ZoneMeta, ...] = ZONES) -> AnswerTable:
    """A table of the data plane under test."""
    if BUILD[0] == "python":
        return AnswerTable(zones)
    made: AnswerTable = importlib.import_module("agent.wire._fast").AnswerTable(zones)
    return made


def empty_cache() -> TimedTable:
    """A table of answers with an age, of the data plane under test."""
    if BUILD[0] == "python":
        return TimedTable()
    made: TimedTable = importlib.import_module("agent.wire._fast").TimedTable()
    return made


def table(names: dict[str, tuple[int, tuple[RRset, ...]]] = NAMES) -> AnswerTable:
    """The whole table, in the overlay."""
    made = empty_table()
    for name, (flags, rrsets) in names.items():
        key = to_wire(name)
        zone = made.zone_of(key)
        assert zone is not None
        made.put(key, node.encode(flags=flags, zone=zone.number, children=1, rrsets=rrsets))
    pointing = one("PTR", to_wire("web.default.svc.cluster.local"))
    kept = RRset(65281, 0, 1, 0, record(65281, b"\x00"), b"")
    made.put(reverse(bytes((10, 0, 0, 1))), node.encode(zone=1, rrsets=(pointing, kept)))
    made.put(reverse(ipaddress.ip_address("fd00::1").packed), node.encode(zone=2, rrsets=(pointing,)))
    return made


def responder(posture: Posture = FRESH_NOW, now_s: float = 1_000_000.0, **options: object) -> Responder:
    kind = Responder if BUILD[0] == "python" else Compiled
    made = kind(table(), ResponderOptions(**options), counters=Counters(), clock=lambda: now_s)  # type: ignore[arg-type]
    made.posture = posture
    return made


def option(code: int, value: bytes = b"") -> bytes:
    return struct.pack(">HH", code, len(value)) + value


def opt(
    size: int = 1232, options: bytes = b"", *, version: int = 0, flags: int = 0, owner: bytes = b"\x00", rcode: int = 0
) -> bytes:
    return owner + struct.pack(">HHBBHH", 41, size, rcode, version, flags, len(options)) + options


def question(name: str | bytes, qtype: str | int = "A", qclass: int = 1) -> bytes:
    wire = name if isinstance(name, bytes) else to_wire(name)
    return wire + struct.pack(">HH", TYPES[qtype] if isinstance(qtype, str) else qtype, qclass)


def packet(
    body: bytes = b"", counts: tuple[int, int, int, int] = (1, 0, 0, 0), *, flags: int = 0x0100, ident: int = 0x1234
) -> bytes:
    return struct.pack(">HHHHHH", ident, flags, *counts) + body


def query(
    name: str | bytes, qtype: str | int = "A", extra: bytes = b"", *, qclass: int = 1, flags: int = 0x0100
) -> bytes:
    """A query with one question and at most one additional record."""
    return packet(question(name, qtype, qclass) + extra, (1, 0, 0, 1 if extra else 0), flags=flags)


def short(name: str) -> str:
    """web → web.default.svc.cluster.local."""
    return f"{name}.default.svc.cluster.local"


def ask(
    served: Responder,
    name: str | bytes,
    qtype: str | int = "A",
    extra: bytes = b"",
    *,
    tcp: bool = False,
    qclass: int = 1,
) -> dns.message.Message:
    return read(served.respond(query(name, qtype, extra, qclass=qclass), CLIENT, tcp=tcp))


def read(reply: bytes | None) -> dns.message.Message:
    """A reply as dnspython understands it."""
    assert reply is not None
    return dns.message.from_wire(reply, raise_on_truncation=False)


def rdatas(message: dns.message.Message) -> list[str]:
    """What the answer section holds, in order."""
    return [rdata.to_text() for rrset in message.answer for rdata in rrset]


def extended_error(message: dns.message.Message) -> tuple[int, str] | None:
    """Info code and text of the EDE option."""
    for each in message.options:
        if each.otype == 15:
            return int(each.code), each.text or ""
    return None


def has_flag(message: dns.message.Message, flag: str) -> bool:
    return bool(message.flags & dns.flags.from_text(flag))

"""DNS over UDP by compiled workers: each is a thread with sockets of its own that answers from the table by itself.

Law: nothing here is on the path of a query that is in the table. What workers hand over is answered by the responder
from the loop, at most `MAX_BATCH` queries a wake-up, from the socket it came in by; what does not fit into a worker's
queue was dropped and counted by the worker (`queue_full`). Counts are read from the workers and added up when
somebody asks for them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from agent.errors import NodensError
from agent.server.counters import DROPS, Counters
from agent.server.options import MAX_NSID_BYTES, Network
from agent.server.outside import Pending
from agent.server.responder import Responder, past_ttl
from agent.server.sockets import another, lost
from agent.server.udp import MAX_BATCH, tell_queried_address
from agent.server.zones import TOO_MANY_ALIASES
from agent.wire import edns
from agent.wire._fast import MAX_SOCKETS, Plane, TimedTable, WayBack, Worker, reclaim
from agent.wire.codes import NOERROR, NSID, NXDOMAIN, A
from agent.wire.posture import EXPIRED, NOT_READY
from agent.wire.reply import Answer

MAX_WORKERS = 32
_FAULTS = ("opcode", "no_question", "many_questions", "bad_question", "opt_version")
"""Faults that workers find themselves, in their order."""
_DROPS = DROPS[:5]
"""Why workers drop, in their order; what they never see, the kernel tells of."""
_STALE = "stale"


class Terms(NamedTuple):
    """What workers answer under, the responder's options and posture boiled down.

    Attributes:
        state: of the posture.
        ttl_cap_s: highest TTL; None leaves them alone.
        serial, soa_ttl_s: of the own zones' SOA.
        udp_size_bytes: bound of a reply.
        cookie_secret: signs server cookies, 16 octets; empty: COOKIE options are passed over.
        makes_pods: names below pod.ZONE that are not in the table are the responder's.
        drops_others: clients outside `networks` get nothing; otherwise the responder refuses them.
        nsid: option ready to be sent, empty: none.
        errors: extended error option with NOERROR, NXDOMAIN and SERVFAIL, with too many aliases, with a cached NOERROR
            and NXDOMAIN past their TTL; empty: none.
        fallthrough: zones whose unknown names are the responder's.
        networks: who may ask; empty: everybody.
        follows_out: an alias that leads out of own zones is the responder's; otherwise the alias alone is the answer.
        pinned: name → (EDNS option ready to be sent, node): answered ahead of everything else, in every state; a type
            that is not at the node is the responder's, and an empty node leaves it the whole name.
    """

    state: str
    ttl_cap_s: int | None
    serial: int
    soa_ttl_s: int
    udp_size_bytes: int
    cookie_secret: bytes
    makes_pods: bool
    drops_others: bool
    nsid: bytes
    errors: tuple[bytes, ...]
    fallthrough: frozenset[bytes]
    networks: tuple[Network, ...]
    follows_out: bool = False
    pinned: Mapping[bytes, tuple[bytes, bytes]] = {}


def terms_of(responder: Responder) -> Terms:
    """Boil down what a responder answers under."""
    options, posture, zones = responder.options, responder.posture, responder.zones
    failure: tuple[int, str] | None = None
    if posture.state in {NOT_READY, EXPIRED} and responder.table.zones:
        refusal = zones.answer(responder.table.zones[0].name, A, 0)
        failure = refusal.error if isinstance(refusal, Answer) else None
    own = (zones.error(NOERROR), zones.error(NXDOMAIN), failure)
    errors = (*own, TOO_MANY_ALIASES, past_ttl(NOERROR), past_ttl(NXDOMAIN))
    return Terms(
        state=posture.state,
        ttl_cap_s=posture.ttl_cap_s,
        serial=posture.generation,
        soa_ttl_s=zones.soa_ttl_s,
        udp_size_bytes=options.udp_size_bytes,
        cookie_secret=options.cookie_secrets[0] if options.cookie_secrets else b"",
        makes_pods=options.pods == "insecure",
        drops_others=options.drop_others,
        nsid=edns.option(NSID, options.nsid[:MAX_NSID_BYTES]) if options.nsid else b"",
        errors=tuple(edns.extended_error(*error) if error else b"" for error in errors),
        fallthrough=zones.handed,
        follows_out=responder.forwarder is not None,
        networks=responder.access.networks if responder.access is not None else (),
        pinned={key: (edns.extended_error(*each.error), each.node) for key, each in responder.overrides.items()},
    )


class NativeEndpoint:
    """Serves UDP sockets by compiled workers.

    Args:
        socks: bound, one for each address; closed by `close`.
        responder: answers what workers don't; its table is a compiled one, and may be replaced.
        loop: on which it does so.
        workers: threads; each gets a socket of its own for every address, by SO_REUSEPORT.

    Raises:
        NodensError: more sockets than a worker serves.
    """

    def __init__(
        self, socks: Sequence[socket.socket], responder: Responder, loop: asyncio.AbstractEventLoop, workers: int = 1
    ) -> None:
        if len(socks) > MAX_SOCKETS:
            raise NodensError(
                f"{len(socks)} listen addresses are more than the {MAX_SOCKETS} that compiled workers serve",
                hint="listen on fewer addresses or on a wildcard, or set NODENS_NO_EXT=1",
            )
        self._loop = loop
        self._plane = Plane(responder.table)
        self._workers: list[Worker] = []
        self._tallies: list[Tally] = []
        self._socks = list(socks)
        self._responder = responder
        self._follow(responder)
        for number in range(min(workers, MAX_WORKERS)):
            self._workers.append(self._worker(socks, is_first=not number))
            self._tallies.append(Tally())
        self._lost = [0] * len(self._socks)

    @property
    def responder(self) -> Responder:
        """Who answers what workers don't; may be replaced at any time."""
        return self._responder

    @responder.setter
    def responder(self, responder: Responder) -> None:
        self._responder.on_change = self._responder.on_settle = None
        self._responder = responder
        self._follow(responder)

    def start(self) -> None:
        """Begin to answer."""
        for worker in self._workers:
            self._loop.add_reader(worker.wake_fd, self._wake, worker)
            worker.start()

    def close(self) -> None:
        """Answer what has arrived, end the threads and close the sockets."""
        for worker in self._workers:
            self._loop.remove_reader(worker.wake_fd)
            worker.stop()
            while self._serve(worker):
                pass
        self._settle()
        self._responder.on_change = self._responder.on_settle = None
        self._workers.clear()
        for sock in self._socks:
            sock.close()

    def _follow(self, responder: Responder) -> None:
        responder.on_change = self._show
        responder.on_settle = self._settle
        self._show()

    def _show(self) -> None:
        cache = self._responder.cache
        timed = cache if isinstance(cache, TimedTable) else None
        self._plane.show(terms_of(self._responder), self._responder.table, timed)

    def _worker(self, socks: Sequence[socket.socket], *, is_first: bool) -> Worker:
        worker = Worker(self._plane)
        for sock in socks:
            own = sock if is_first else another(sock)
            if own is not sock:
                self._socks.append(own)
            own.setblocking(False)
            is_wildcard = ipaddress.ip_address(own.getsockname()[0]).is_unspecified
            if is_wildcard:
                tell_queried_address(own)
            worker.add(own.fileno(), is_wildcard)
        return worker

    def _wake(self, worker: Worker) -> None:
        """Answer what a worker has handed over; the rest in the loop's next turn."""
        if self._serve(worker) < MAX_BATCH:
            worker.rest()

    def _serve(self, worker: Worker) -> int:
        counters = self._responder.counters
        return worker.serve(
            self._respond,
            MAX_BATCH,
            counters.send_errors,
            counters.latency.observe,
            self._responder.cache.report or _ignore,
            self._later,
        )

    def _respond(self, packet: bytes, client_ip: str) -> bytes | Pending | None:
        return self._responder.respond(packet, client_ip, tcp=False)

    def _later(self, pending: Pending, way_back: WayBack) -> None:
        """Note where a reply goes that others have to be asked for."""
        pending.deliver = partial(self._send_later, way_back)

    def _send_later(self, way_back: WayBack, reply: bytes) -> None:
        if self._workers:  # Otherwise the sockets are closed.
            way_back.send(reply, self._responder.counters.send_errors)

    def _settle(self) -> None:
        """Add what workers have counted since the last time to the counters, and give back what they see no more."""
        reclaim()
        for number, sock in enumerate(self._socks):
            before, self._lost[number] = self._lost[number], lost(sock)
            self._responder.counters.dropped["receive_buffer"] += self._lost[number] - before & 0xFFFFFFFF
        for worker, tally in zip(self._workers, self._tallies, strict=False):
            tally.add(worker.counts(), self._responder.counters)


class Tally:
    """What of one worker's counts has been brought to the counters."""

    def __init__(self) -> None:
        self._seen: dict[str, Any] = {}

    def add(self, now: dict[str, Any], counters: Counters) -> None:
        """Bring what was counted since the last time.

        Args:
            now: what `Worker.counts` says.
            counters: where to.
        """
        new = {word: _difference(value, self._seen.get(word)) for word, value in now.items()}
        self._seen = now
        for rcode in counters.responses:
            counters.responses[rcode] += new["responses"][rcode]
        counters.answers["fresh"] += new["fresh"]
        counters.answers[_STALE] += new["stale"]
        counters.answers["override"] += new["pinned"]
        counters.cached["fresh"] += new["timed_fresh"]
        counters.cached[_STALE] += new["timed_stale"]
        counters.refreshes["reported"] += new["reported"]
        counters.refreshes["lost"] += new["reports_lost"]
        for word, count in zip(_DROPS, new["dropped"], strict=True):
            counters.dropped[word] += count
        for word, count in zip(_FAULTS, new["faults"], strict=True):
            counters.faults[word] += count
        counters.truncated += new["truncated"]
        counters.handed_over += new["handed_over"]
        for bucket, count in enumerate(new["latency"]):
            counters.latency.buckets[bucket] += count
        counters.latency.sum_s += new["latency_ns"] / 1e9
        for word, counts in (("send_errors", counters.send_errors), ("receive_errors", counters.receive_errors)):
            for errno, count in enumerate(new[word]):
                if count:
                    counts[errno] = counts.get(errno, 0) + count


def _ignore(_key: bytes) -> None:
    """Take what nobody wants to renew."""


def _difference(now: Any, before: Any) -> Any:
    if before is None:
        return now
    if isinstance(now, list):
        return [a - b for a, b in zip(now, before, strict=True)]
    return now - before

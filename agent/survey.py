"""What the agent knows of itself, gathered when somebody asks.

Law: reads plain counters and attributes of the rooms, changes nothing, and costs nothing while nobody asks but one
sample a second.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from agent import __version__, sources, wire
from agent.cluster.objects import KINDS
from agent.holding import Holding
from agent.forward.forwarder import Forwarder
from agent.forward.keeper import Keeper
from agent.forward.terms import LATENCY_BOUNDS_S as FORWARD_BOUNDS_S
from agent.forward.upstream import Upstream
from agent.lifecycle.readiness import Readiness
from agent.lifecycle.reload import Reloader
from agent.lifecycle.supervisor import Supervisor
from agent.observe import status as seen
from agent.observe.lag import LoopLag
from agent.observe.logs import Logs
from agent.observe.recent import Rate, Recent
from agent.observe.status import (
    Access,
    Durations,
    Override,
    Pin,
    Process,
    Quarantine,
    Skipped,
    Snapshot,
    Source,
    Status,
    Traffic,
)
from agent.observe.status import Orders as OrdersStatus
from agent.orders import Orders
from agent.records.names import to_text
from agent.server.counters import LATENCY_BOUNDS_S
from agent.server.responder import Responder
from agent.snapshot.persister import Persister
from agent.snapshot.publisher import Publisher
from agent.sources.reports import Reports
from agent.wire.codes import RCODES


class Identity(NamedTuple):
    """What does not change in a life."""

    name: str
    source: str
    listen: tuple[str, ...]
    zones: tuple[str, ...]
    state_dir: str


class Rooms(NamedTuple):
    """Where to look."""

    publisher: Publisher
    persister: Persister
    responder: Callable[[], Responder]
    readiness: Readiness
    supervisor: Supervisor
    reloader: Reloader
    lag: LoopLag
    logs: Logs
    source: Callable[[], sources.Source | None]
    reports: Reports
    orders: Orders
    holding: Holding
    forwarder: Forwarder
    keeper: Keeper


class Survey:
    """Reads the rooms.

    Args:
        identity: of this agent.
        rooms: where to look.
        refused: files that were not used at the start, and why.

    Attributes:
        started_s: how long it took from the start of the process to answering, seconds.
        restore_s: how much of that was reading the snapshot, seconds.
    """

    def __init__(self, identity: Identity, rooms: Rooms, refused: tuple[str, ...]) -> None:
        self.started_s = 0.0
        self.restore_s = 0.0
        self._identity = identity
        self._rooms = rooms
        self._refused = refused
        self._started_unix_s = time.time()
        self._recent = Recent(3600.0, 60)
        self._requests = 0
        self._rate = Rate()
        self._per_s = 0.0
        self._last_error = ""
        self._last_error_unix_s = 0.0

    def sample(self) -> None:
        """Take the once-a-second sample."""
        now_s = time.monotonic()
        rooms = self._rooms
        total = sum(rooms.publisher.requests.values())
        self._recent.add(now_s, total - self._requests)
        self._requests = total
        responder = rooms.responder()
        responder.settle()
        self._per_s = self._rate.sample(now_s, sum(responder.counters.queries.values()))
        freshness = rooms.publisher.freshness
        if freshness.last_loss and (not freshness.connected or freshness.last_loss != self._last_error):
            self._last_error, self._last_error_unix_s = freshness.last_loss, time.time()

    def read(self) -> Status:
        """Gather everything."""
        rooms = self._rooms
        rooms.responder().settle()
        posture = rooms.responder().posture
        return Status(
            state=posture.state,
            age_s=float(posture.age_s),
            ready=rooms.readiness.ready,
            not_ready=dict(rooms.readiness.reasons),
            source=self._source(posture.age_s),
            snapshot=self._snapshot(),
            orders=self._orders(),
            traffic=self._traffic(),
            process=self._process(),
            forward=self._forward(),
            cache=self._cache(),
            events=self._events(),
            quarantine=self._quarantine(),
        )

    def _events(self) -> dict[str, dict[str, int]]:
        """Gather every count of a bound that was met, or of what should not happen."""
        rooms = self._rooms
        publisher, persister, counters = rooms.publisher, rooms.persister, rooms.responder().counters
        disk, source, forwarder = persister.generations.counts, rooms.source(), rooms.forwarder
        return {
            "query": {
                **counters.faults,
                "refused_clients": counters.refused_clients,
                "damaged_nodes": counters.damaged_nodes,
            },
            "udp": {
                **{f"send_{errno.errorcode.get(code, code)}": n for code, n in counters.send_errors.items()},
                **{f"receive_{errno.errorcode.get(code, code)}": n for code, n in counters.receive_errors.items()},
            },
            "tcp": {"accepted": counters.tcp_accepted, **counters.tcp_closed},
            "cache": {
                **{f"answered_{freshness}": n for freshness, n in counters.cached.items()},
                **{f"renewals_{what}": n for what, n in counters.refreshes.items()},
                "evicted": forwarder.cache.counters.evicted,
                "aged": forwarder.cache.counters.aged,
            },
            "memo": {f"evicted_{what}": n for what, n in counters.evicted.items()},
            "state": {
                "changes": publisher.changes_applied,
                "owners_compiled": publisher.owners_compiled,
                "owners_failed": publisher.compile_failures,
                "names_or_records_left_out": publisher.compiler.left_out,
                "objects_over_bound": publisher.store.overflowed,
                "older_sets_refused": publisher.order.refused,
                "losses_not_taken_back": publisher.quarantine.losses_dropped,
            },
            "disk": {
                "journal_given_up": persister.dropped,
                "records_dropped": disk.dropped,
                "syncs": disk.syncs,
                "files_refused": disk.refused,
                "bytes_left_behind": disk.left_bytes,
                "files_removed": disk.removed,
            },
            "reports": dict(rooms.reports.counts),
            "orders": {"documents_refused": rooms.orders.refused, "overrides_ended": rooms.orders.ended},
            "source": dict(source.counts()) if source is not None else {},
            "forward": {
                **{f"over_{bound}": n for bound, n in forwarder.counters.over.items()},
                "retries_refused": sum(group.retries_refused for group in forwarder.routes.groups),
                "failures_forgotten": forwarder.failures.evicted,
                "loops": forwarder.loops,
            },
        }

    def _orders(self) -> OrdersStatus:
        orders = self._rooms.orders
        overrides = (
            Override(
                name=each.name,
                answers=each.says,
                until_unix_s=each.span.until_unix_s,
                left_s=left_s,
                who=each.who,
                reason=each.reason,
            )
            for each, left_s in orders.active()
        )
        pin = orders.pinned.pin if orders.pinned is not None else None
        pinned: Pin | None = None
        if pin is not None:
            until_s = pin.span.until_unix_s if pin.span is not None else 0.0
            pinned = Pin(generation=pin.generation, until_unix_s=until_s, who=pin.who, reason=pin.reason)
        return OrdersStatus(overrides=tuple(overrides), pin=pinned, problems=tuple(orders.problems.values()))

    def _quarantine(self) -> Quarantine:
        held, shown = self._rooms.publisher.quarantine, self._rooms.holding.shown
        counted = Quarantine(holds=dict(held.holds), outcomes=dict(held.outcomes))
        if shown is None:
            return counted
        return msgspec.structs.replace(
            counted,
            active=True,
            id=shown.id,
            since_unix_s=shown.since_unix_s,
            applied_unix_s=shown.applied_unix_s,
            objects=shown.objects,
            differences=shown.differences,
            problem=self._rooms.holding.problem,
        )

    def _source(self, age_s: int) -> Source:
        publisher = self._rooms.publisher
        requests: dict[str, dict[str, int]] = {}
        for (verb, code), count in publisher.requests.items():
            requests.setdefault(verb, {})[str(code)] = count
        freshness = publisher.freshness
        return Source(
            name=self._identity.source,
            connected=freshness.connected,
            note=freshness.note,
            cluster=publisher.identity,
            last_success_unix_s=time.time() - age_s if freshness.has_state else 0.0,
            last_error=self._last_error,
            last_error_unix_s=self._last_error_unix_s,
            api_requests_last_hour=self._recent.total(time.monotonic()),
            api_requests=requests,
            api_bytes=publisher.request_bytes,
            access=self._access(),
        )

    def _access(self) -> Access | None:
        source = self._rooms.source()
        access = source.access() if source is not None else None
        return Access(**access._asdict()) if access is not None else None

    def _snapshot(self) -> Snapshot:
        publisher, persister = self._rooms.publisher, self._rooms.persister
        counts = persister.generations.counts
        return Snapshot(
            generation=persister.generation,
            records=publisher.table.names_at_most(),
            objects={kind: publisher.store.count(kind) for kind in KINDS},
            skipped_total=dict(publisher.skipped_by_kind),
            skipped=tuple(Skipped(*row) for row in publisher.skipped_names),
            disk_bytes=persister.generation_bytes,
            journal_bytes=persister.journal_bytes,
            generation_writes=counts.generations,
            persist_failures=counts.failures,
            written_unix_s=persister.written_unix_s,
            write_s=persister.write_s,
            restore_s=self.restore_s,
            persist_error=persister.failing,
            refused=self._refused,
        )

    def _traffic(self) -> Traffic:
        counters = self._rooms.responder().counters
        dropped: Mapping[str, int] = counters.dropped
        return Traffic(
            queries=counters.queries,
            responses={RCODES[rcode]: count for rcode, count in counters.responses.items() if count},
            answers=dict(counters.answers),
            dropped=dict(dropped),
            queries_per_s=self._per_s,
            tcp_connections=counters.tcp_open,
            durations=Durations(
                bounds_s=LATENCY_BOUNDS_S,
                counts=tuple(counters.latency.buckets),
                sum_s=counters.latency.sum_s,
            ),
            truncated=counters.truncated,
            handed_over=counters.handed_over,
        )

    def _forward(self) -> seen.Forward:
        forwarder = self._rooms.forwarder
        counters = forwarder.counters
        return seen.Forward(
            upstreams=tuple(
                _upstream(upstream, to_text(group.zone))
                for group in forwarder.routes.groups
                for upstream in group.upstreams
            ),
            questions=counters.questions,
            joined=counters.joined,
            refreshes=dict(counters.refreshes),
            failures=counters.failures,
            failures_held=counters.failures_held,
            over=dict(counters.over),
            in_flight=forwarder.in_flight,
            waiting=forwarder.waiting,
            durations=Durations(bounds_s=FORWARD_BOUNDS_S, counts=tuple(counters.buckets), sum_s=counters.sum_s),
        )

    def _cache(self) -> seen.Cache:
        cache, keeper = self._rooms.forwarder.cache, self._rooms.keeper
        shown = self._rooms.responder().counters.cached
        counters = cache.counters
        return seen.Cache(
            entries=cache.sizes(),
            bytes=cache.bytes,
            hits={how: counters.hits[how] + shown[how] for how in counters.hits},
            misses=counters.misses,
            stored=dict(counters.stored),
            evicted=counters.evicted,
            aged=counters.aged,
            restored=keeper.restored,
            disk_bytes=keeper.bytes,
            writes=keeper.writes,
            write_failures=keeper.failures,
            write_error=keeper.failing,
            refused=keeper.refused,
        )

    def _process(self) -> Process:
        rooms, identity = self._rooms, self._identity
        return Process(
            version=__version__,
            wire=wire.IMPLEMENTATION,
            identity=identity.name,
            pid=os.getpid(),
            started_unix_s=self._started_unix_s,
            uptime_s=time.time() - self._started_unix_s,
            first_answer_s=self.started_s,
            listen=identity.listen,
            zones=identity.zones,
            state_dir=identity.state_dir,
            loop_lag_s=rooms.lag.worst_s,
            task_failures=dict(rooms.supervisor.failures),
            reloads_applied=rooms.reloader.applied,
            reloads_refused=rooms.reloader.refused,
            log_lines_dropped=rooms.logs.background.dropped,
            log_lines_held=rooms.logs.damper.held,
        )


def _upstream(upstream: Upstream, zone: str) -> seen.Upstream:
    counters = upstream.counters
    return seen.Upstream(
        address=str(upstream.target),
        zone=zone,
        state="loop" if upstream.is_loop else "lost" if upstream.is_lost else "up",
        in_flight=upstream.in_flight,
        tries=counters.tries,
        replies={RCODES.get(rcode, f"RCODE{rcode}"): count for rcode, count in counters.replies.items()},
        failures=dict(counters.failures),
        mismatches=counters.mismatches,
        truncated=counters.truncated,
        connections=counters.streams,
        probes=counters.probes,
        losses=counters.losses,
        latency_s=counters.latency_s,
    )

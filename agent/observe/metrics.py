"""Prometheus metrics, made from a status when they are asked for.

Law: no counter object of prometheus_client is ever touched on the way of a query: plain integers are counted, and this
collector turns them into families at scrape time. No query name is ever a label. This module alone imports
prometheus_client, and is itself imported with the first scrape.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder

from agent.observe.status import CIRCUITS, Access, Durations, Status

RCODES = ("NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED", "FORMERR", "NOTIMP")
FRESHNESS = ("fresh", "stale", "override")
Families = Iterator[Metric]


class Metrics:
    """Renders statuses in the format a scraper asks for.

    Args:
        coredns_names: tells whether CoreDNS's names are wanted too; asked at each scrape, so a reload can change it.
    """

    def __init__(self, coredns_names: Callable[[], bool]) -> None:
        self._coredns_names = coredns_names
        self._status = Status()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self._turn = threading.Lock()

    def render(self, status: Status, accept: str) -> tuple[str, bytes]:
        """Give content type and body; called on a thread, for it reads /proc.

        Args:
            status: read on the loop just before.
            accept: the request's Accept header.
        """
        encode, content_type = choose_encoder(accept)
        with self._turn:
            self._status = status
            return content_type, encode(self._registry)

    def collect(self) -> Families:
        """Give every family (called by the registry)."""
        status = self._status
        yield from _snapshot(status)
        yield from _orders(status)
        yield from _quarantine(status)
        yield from _source(status)
        yield from _traffic(status)
        yield from _process(status)
        yield from _forward(status)
        yield from _upstreams(status)
        yield from _cache(status)
        yield from _events(status)
        if self._coredns_names():
            yield from _coredns(status)

    def describe(self) -> Families:
        """Give no family in advance: the registry need not call `collect` to register this."""
        return iter(())


def _events(status: Status) -> Families:
    family = CounterMetricFamily(
        "nodens_events",
        "Bounds that were met and things that should not happen, by room (docs/operations.md).",
        labels=("room", "event"),
    )
    for room, events in status.events.items():
        for event, count in events.items():
            family.add_metric((room, event), count)
    yield family


def _snapshot(status: Status) -> Families:
    held = status.snapshot
    if status.state != "not_ready":
        yield _gauge(
            "nodens_snapshot_age_seconds",
            "Time since the source last confirmed the served snapshot. Grows while the source is lost; answers go on.",
            status.age_s,
        )
    yield _gauge("nodens_snapshot_records", "Names in the answer table.", held.records)
    yield _gauge(
        "nodens_snapshot_generation",
        "Number of the served snapshot, also the SOA serial. Nodes of one cluster need not agree on it.",
        held.generation,
    )
    yield _gauges("nodens_objects", "Kubernetes objects held.", "kind", held.objects)
    yield _counters(
        "nodens_objects_skipped_total",
        "Objects that could not be used (blank or ill-typed fields); the others apply. /status names the last ones.",
        "kind",
        held.skipped_total,
    )
    yield _gauge(
        "nodens_journal_bytes", "Size of the journal of changes since the newest generation file.", held.journal_bytes
    )
    yield _gauge("nodens_snapshot_disk_bytes", "Size of the newest generation file.", held.disk_bytes)
    yield _counter("nodens_generation_writes_total", "Generation files written.", held.generation_writes)
    yield _gauge("nodens_generation_write_seconds", "How long the last generation file took to write.", held.write_s)
    yield _gauge("nodens_restore_seconds", "How long the snapshot took to read at the start.", held.restore_s)
    yield _counter(
        "nodens_persist_failures_total",
        "Writes to the state directory that failed. Answering goes on, but a restart would come back with older state.",
        held.persist_failures,
    )


def _orders(status: Status) -> Families:
    orders = status.orders
    yield _gauge("nodens_overrides_active", "Names that a person answers by hand right now.", len(orders.overrides))
    yield _gauge(
        "nodens_override_next_expiry_timestamp_seconds",
        "Unix time at which the first of them ends; 0: there is none.",
        min((each.until_unix_s for each in orders.overrides), default=0.0),
    )
    yield _gauge(
        "nodens_pinned_generation",
        "Number of the generation that is served whatever the source says; 0: none is pinned.",
        orders.pin.generation if orders.pin is not None else 0,
    )
    yield _gauge("nodens_order_problems", "Orders that are not carried out; /status says why.", len(orders.problems))


def _quarantine(status: Status) -> Families:
    held = status.quarantine
    yield _gauge(
        "nodens_quarantine_active",
        "1 while suspicious change is held and the previous state goes on answering (docs/guard.md).",
        int(held.active),
    )
    yield _gauge("nodens_quarantine_objects", "Objects whose change is held.", held.objects)
    yield _counters("nodens_quarantine_holds_total", "Times change was held, by rule.", "rule", held.holds)
    yield _counters(
        "nodens_quarantine_ended_total",
        "Quarantines that ended: accepted or rejected by a person, expired after guard.hold_for, mended by the source.",
        "outcome",
        held.outcomes,
    )


def _source(status: Status) -> Families:
    source = status.source
    yield _gauge(
        "nodens_source_connected",
        "1 while the source is being followed, 0 while the last good state answers without it.",
        int(source.connected),
    )
    yield _gauge(
        "nodens_source_last_success_timestamp_seconds",
        "Unix time at which the source last confirmed the state; 0 if it never did.",
        source.last_success_unix_s,
    )
    requests = CounterMetricFamily(
        "nodens_api_requests",
        "Requests to the Kubernetes API servers by verb (list, watch, create) and HTTP status; code 0: no answer came.",
        labels=("verb", "code"),
    )
    for verb, by_code in source.api_requests.items():
        for code, count in by_code.items():
            requests.add_metric((verb, code), count)
    yield requests
    yield _counter("nodens_api_received_bytes_total", "Bytes received from the API servers.", source.api_bytes)
    if source.access is not None:
        yield from _access(source.access)


def _access(access: Access) -> Families:
    yield _gauge(
        "nodens_api_budget_left",
        "Requests to the API servers that may be spent at once; at 0 the source waits (api.burst, requests_per_hour).",
        access.budget_left,
    )
    yield _gauges(
        "nodens_api_circuit",
        "1 for how the API servers are asked now: closed, requests pass; open, nothing is asked for a while after"
        " failures; unreachable, only TCP connects are tried; slot, the node waits for its place after an outage.",
        "state",
        {state: int(state == access.circuit) for state in CIRCUITS},
    )
    yield _gauge(
        "nodens_api_next_try_seconds",
        "Time until the API servers are asked again; 0 while requests pass.",
        access.next_try_s,
    )
    yield _gauge(
        "nodens_api_reconnect_slot_seconds",
        "How long after an outage this node waits before it asks or lists, by its name (api.fleet_nodes).",
        access.slot_s,
    )


def _traffic(status: Status) -> Families:
    traffic = status.traffic
    yield _counters("nodens_queries_total", "Queries received.", "proto", {"udp": 0, "tcp": 0, **traffic.queries})
    yield _counters(
        "nodens_responses_total",
        "Responses sent, by rcode.",
        "rcode",
        {**dict.fromkeys(RCODES, 0), **traffic.responses},
    )
    yield _counters(
        "nodens_answers_total",
        "Answers for own zones: fresh; stale, given from the last good state while the source is lost; override.",
        "freshness",
        {**dict.fromkeys(FRESHNESS, 0), **traffic.answers},
    )
    yield _counters(
        "nodens_dropped_total",
        "Packets and connections that got no answer because they were malformed, not allowed or over a bound.",
        "reason",
        traffic.dropped,
    )
    yield _counter(
        "nodens_truncated_total", "Answers sent truncated (TC=1): the client asks again over TCP.", traffic.truncated
    )
    yield _counter(
        "nodens_handed_over_total",
        "Queries that compiled workers left to Python: not in the table, or odd.",
        traffic.handed_over,
    )
    yield _gauge("nodens_tcp_connections", "Open DNS connections over TCP.", traffic.tcp_connections)
    if traffic.durations.bounds_s:
        yield _histogram(
            "nodens_request_duration_seconds", "Time from reading a query to writing its response.", traffic.durations
        )


def _process(status: Status) -> Families:
    process = status.process
    yield _gauge(
        "nodens_ready", "1 when queries may be sent here (/readyz); does not depend on the source.", int(status.ready)
    )
    yield _gauge(
        "nodens_first_answer_seconds",
        "Time from the start of the process until it was ready to answer.",
        process.first_answer_s,
    )
    yield _gauge(
        "nodens_event_loop_lag_seconds",
        "Worst delay of the event loop in the last 15 to 30 seconds.",
        process.loop_lag_s,
    )
    yield _counters(
        "nodens_task_failures_total",
        "Times a task that runs for ever ended and was started again. Any growth is a bug or a sick node.",
        "task",
        process.task_failures,
    )
    yield _counters(
        "nodens_reloads_total",
        "Reloads by SIGHUP: applied, or refused with everything kept as it was.",
        "result",
        {"applied": process.reloads_applied, "refused": process.reloads_refused},
    )
    yield _counter(
        "nodens_log_lines_dropped_total", "Log lines lost because stderr was stuck.", process.log_lines_dropped
    )
    build = GaugeMetricFamily(
        "nodens_build_info",
        "Always 1; the version, and which implementation answers queries: python or compiled.",
        labels=("version", "wire"),
    )
    build.add_metric((process.version, process.wire), 1)
    yield build


def _forward(status: Status) -> Families:
    forward = status.forward
    yield _counter(
        "nodens_forward_questions_total",
        "Queries for names of no own zone that reached the forwarder.",
        forward.questions,
    )
    yield _counter(
        "nodens_forward_joined_total", "Queries that waited for a question in flight already.", forward.joined
    )
    yield _counters(
        "nodens_forward_refreshes_total",
        "Questions to upstreams that renew what is held: past its TTL, or shortly before (prefetch).",
        "why",
        forward.refreshes,
    )
    yield _counter("nodens_forward_failures_total", "Questions that no upstream answered.", forward.failures)
    yield _counter(
        "nodens_forward_failures_held_total",
        "SERVFAIL from the memory of failures (5 s) instead of another question.",
        forward.failures_held,
    )
    yield _counters(
        "nodens_forward_over_total",
        "Queries that met a bound of the forwarder: answered stale, else SERVFAIL.",
        "bound",
        forward.over,
    )
    yield _gauge("nodens_forward_in_flight", "Questions to upstreams at this moment.", forward.in_flight)
    yield _gauge("nodens_forward_waiting", "Queries that wait for them.", forward.waiting)
    if forward.durations.bounds_s:
        yield _histogram(
            "nodens_forward_duration_seconds", "Time that queries had to wait for an upstream.", forward.durations
        )


def _upstreams(status: Status) -> Families:
    upstreams = {each.address: each for each in status.forward.upstreams}
    up = GaugeMetricFamily(
        "nodens_forward_upstream_up",
        "1 while an upstream answers; 0 once it is lost (probed in the background) or leads back to this agent.",
        labels=("upstream",),
    )
    tries = CounterMetricFamily(
        "nodens_forward_upstream_tries", "Questions sent, probes included.", labels=("upstream",)
    )
    replies = CounterMetricFamily(
        "nodens_forward_upstream_replies", "Answers of upstreams by rcode.", labels=("upstream", "rcode")
    )
    failures = CounterMetricFamily(
        "nodens_forward_upstream_failures", "Questions without an answer, by reason.", labels=("upstream", "reason")
    )
    mismatches = CounterMetricFamily(
        "nodens_forward_mismatches",
        "Packets from an upstream's address that matched no question, and were dropped. Growth: somebody guesses.",
        labels=("upstream",),
    )
    latency = CounterMetricFamily(
        "nodens_forward_upstream_latency_seconds", "Sum of the time upstreams took to answer.", labels=("upstream",)
    )
    for address, each in upstreams.items():
        up.add_metric((address,), int(each.state == "up"))
        tries.add_metric((address,), each.tries)
        mismatches.add_metric((address,), each.mismatches)
        latency.add_metric((address,), each.latency_s)
        for rcode, count in each.replies.items():
            replies.add_metric((address, rcode), count)
        for reason, count in each.failures.items():
            failures.add_metric((address, reason), count)
    yield from (up, tries, replies, failures, mismatches, latency)


def _cache(status: Status) -> Families:
    cache = status.cache
    yield _gauges("nodens_cache_entries", "Answers of upstreams held.", "kind", cache.entries)
    yield _gauge("nodens_cache_bytes", "Memory they take, about.", cache.bytes)
    yield _counters(
        "nodens_cache_hits_total", "Answers from the cache: fresh, or stale (past their TTL).", "freshness", cache.hits
    )
    yield _counter("nodens_cache_misses_total", "Questions the cache had nothing for.", cache.misses)
    yield _counters("nodens_cache_stored_total", "Answers taken in.", "kind", cache.stored)
    yield _counter("nodens_cache_evicted_total", "Answers that went because a bound was met.", cache.evicted)
    yield _counter("nodens_cache_aged_total", "Answers that went because they were past all use.", cache.aged)
    yield _gauge("nodens_cache_restored", "Answers that came back from disk at the start.", cache.restored)
    yield _gauge("nodens_cache_disk_bytes", "Size of the cache's file.", cache.disk_bytes)
    yield _counters(
        "nodens_cache_writes_total",
        "Writes of the cache's file.",
        "result",
        {"done": cache.writes, "failed": cache.write_failures},
    )


def _coredns(status: Status) -> Families:
    """What CoreDNS has under CoreDNS's names, so that dashboards made for it go on working."""
    traffic = status.traffic
    yield _counters(
        "coredns_dns_requests_total", "Queries received (same as nodens_queries_total).", "proto", traffic.queries
    )
    yield _counters(
        "coredns_dns_responses_total", "Responses sent (same as nodens_responses_total).", "rcode", traffic.responses
    )
    if traffic.durations.bounds_s:
        yield _histogram(
            "coredns_dns_request_duration_seconds",
            "Time to answer a query (same as nodens_request_duration_seconds).",
            traffic.durations,
        )


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)


def _counter(name: str, words: str, value: float) -> Metric:
    return CounterMetricFamily(name.removesuffix("_total"), words, value=value)


def _gauges(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    return _labelled(GaugeMetricFamily(name, words, labels=(label,)), values.items())


def _counters(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    return _labelled(CounterMetricFamily(name.removesuffix("_total"), words, labels=(label,)), values.items())


def _labelled(family: GaugeMetricFamily | CounterMetricFamily, values: Iterable[tuple[str, float]]) -> Metric:
    for label, value in values:
        family.add_metric((label,), value)
    return family


def _histogram(name: str, words: str, durations: Durations) -> Metric:
    total, buckets = 0, []
    for bound_s, count in zip((*durations.bounds_s, float("inf")), durations.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound_s == float("inf") else repr(bound_s), total))
    return HistogramMetricFamily(name, words, buckets=buckets, sum_value=durations.sum_s)

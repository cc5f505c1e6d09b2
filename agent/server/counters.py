"""What the servers count: plain integers, read by the metrics collector.

Law: counting is one addition; nothing here is labelled, locked or reset. Every dict has a fixed set of keys or is
keyed by what has a bound (errno).
"""

from __future__ import annotations

from bisect import bisect_left

from agent.wire.codes import RCODES

DROPS = ("short", "response", "source_port", "not_allowed", "queue_full", "receive_buffer")
"""Why a packet gets no reply; queue_full: too many wait for Python behind a compiled worker; receive_buffer: the kernel
had no room left for it in the socket's buffer."""
FAULTS = (
    "opcode",
    "no_question",
    "many_questions",
    "bad_question",
    "bad_records",
    "opt_malformed",
    "opt_misplaced",
    "opt_owner",
    "opt_repeated",
    "opt_version",
    "cookie_length",
    "too_many_options",
)
"""Why a query is answered with FORMERR, NOTIMP or BADVERS."""
CLOSES = ("client", "idle", "slow_reader", "too_many", "too_many_of_client", "query_limit", "broken", "drain")
"""Why a TCP connection ended (`too_many…`: before it began)."""

LATENCY_BOUNDS_S = (
    *(0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5),
    *(0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)


class Latency:
    """Histogram of the time from reading a query to having handed its reply to the kernel.

    The asyncio endpoint answers one query after the other, and each counts with the mean of its batch. A compiled
    worker sends a batch's replies together, and each counts with the time of the whole batch: none took longer. What a
    worker has left to Python counts from being read to being answered, the wait between them included. Waiting in the
    socket's buffer before that is not seen.

    Attributes:
        buckets: observations by upper bound (`LATENCY_BOUNDS_S`, the last one is everything above); not cumulative.
        sum_s: their sum, seconds.
    """

    __slots__ = ("buckets", "sum_s")

    def __init__(self) -> None:
        self.buckets = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self.sum_s = 0.0

    def observe(self, total_s: float, queries: int) -> None:
        """Add a batch of at least one query that took `total_s` together."""
        self.buckets[bisect_left(LATENCY_BOUNDS_S, total_s / queries)] += queries
        self.sum_s += total_s


class Counters:
    """All counts of one process's servers; they outlive a reload.

    Attributes:
        tcp_queries: messages read from TCP connections.
        responses: replies by rcode.
        answers: answers to questions in own zones by freshness: `fresh`, `stale` (age past stale_after), `override`.
        dropped: packets without a reply by reason (`DROPS`).
        faults: queries that could not be read by reason (`FAULTS`).
        truncated: replies with TC.
        cached: answers from what upstreams have said: `fresh`, `stale` (past their TTL).
        refreshes: names that were answered so and are to be renewed: `reported`; `lost`: not told, too much waited.
        handed_over: queries that compiled workers left to Python.
        evicted: entries forgotten because a table of fixed size was full: `replies`, `opts` and `soas` of the hit
            path, `verdicts` of the allow list, `cache` of what upstreams have said.
        refused_clients: queries answered REFUSED because of the source address.
        damaged_nodes: answers that could not be made from what the table holds, SERVFAIL instead.
        send_errors: UDP replies the kernel did not take, by errno.
        receive_errors: failed reads of a UDP socket, by errno.
        tcp_accepted: connections accepted.
        tcp_open: connections open now.
        tcp_closed: connections that ended by reason (`CLOSES`).
        latency: histogram over both protocols.
    """

    __slots__ = (
        "answers",
        "cached",
        "damaged_nodes",
        "dropped",
        "evicted",
        "faults",
        "handed_over",
        "latency",
        "receive_errors",
        "refreshes",
        "refused_clients",
        "responses",
        "send_errors",
        "tcp_accepted",
        "tcp_closed",
        "tcp_open",
        "tcp_queries",
        "truncated",
    )

    def __init__(self) -> None:
        self.tcp_queries = 0
        self.responses = dict.fromkeys(RCODES, 0)
        self.answers = {"fresh": 0, "stale": 0, "override": 0}
        self.cached = {"fresh": 0, "stale": 0}
        self.refreshes = {"reported": 0, "lost": 0}
        self.dropped = dict.fromkeys(DROPS, 0)
        self.faults = dict.fromkeys(FAULTS, 0)
        self.truncated = 0
        self.handed_over = 0
        self.evicted = {"replies": 0, "opts": 0, "soas": 0, "verdicts": 0, "cache": 0}
        self.refused_clients = 0
        self.damaged_nodes = 0
        self.send_errors: dict[int, int] = {}
        self.receive_errors: dict[int, int] = {}
        self.tcp_accepted = 0
        self.tcp_open = 0
        self.tcp_closed = dict.fromkeys(CLOSES, 0)
        self.latency = Latency()

    @property
    def queries(self) -> dict[str, int]:
        """Messages received, by protocol."""
        total = sum(self.responses.values()) + sum(self.dropped.values())
        return {"udp": total - self.tcp_queries, "tcp": self.tcp_queries}

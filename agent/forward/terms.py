"""How to forward, what there is to say to a question, and what is counted on the way.

Law: values only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from agent.forward.entry import Caps
from agent.wire.codes import EDE_OTHER, REFUSED, SERVFAIL
from agent.wire.reply import Group as Records

IMMEDIATE, TIMEOUT, OFF = "immediate", "timeout", "off"
STALE_MODES = (IMMEDIATE, TIMEOUT, OFF)
LATENCY_BOUNDS_S = (0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Options(NamedTuple):
    """How to forward.

    Attributes:
        timeout_s: longest wait of a client.
        stale: `immediate`, `timeout` (after `stale_wait_s`) or `off`.
        stale_wait_s: the client's part of the time limit (RFC 8767: client response timer).
        caps: highest TTLs.
        prefetch: names in use are refreshed before they expire.
        max_in_flight: questions to upstreams at a time.
        max_waiting: clients' queries that wait.
        max_per_client: of one client address.
    """

    timeout_s: float = 4.0
    stale: str = IMMEDIATE
    stale_wait_s: float = 1.8
    caps: Caps = Caps()
    prefetch: bool = True
    max_in_flight: int = 1024
    max_waiting: int = 4096
    max_per_client: int = 256


class Said(NamedTuple):
    """What there is to say to a question.

    Attributes:
        rcode: NOERROR, NXDOMAIN, SERVFAIL, REFUSED or NOTIMP.
        answer, authority: groups that stand behind the question.
        end: name that is for an own zone to go on with; empty: none.
        end_at: offset where it stands.
        ad: validated by the upstream.
        error: extended error.
    """

    rcode: int
    answer: tuple[Records, ...] = ()
    authority: tuple[Records, ...] = ()
    end: bytes = b""
    end_at: int = 0
    ad: bool = False
    error: tuple[int, str] | None = None


Deliver = Callable[[Said], None]
NOT_ASKED = Said(REFUSED, error=(EDE_OTHER, "recursion not desired, and nothing in the cache"))
STOPPING = Said(SERVFAIL, error=(EDE_OTHER, "the agent is stopping"))


class ForwardCounters:
    """What the forwarder counts: plain integers.

    Attributes:
        questions: asked by clients.
        joined: clients that wait for a question in flight already.
        refreshes: questions asked to renew what is held: `stale`, `prefetch`.
        over: clients that met a bound, by its name.
        failures: questions that no upstream answered.
        failures_held: answers from the memory of failures.
        buckets, sum_s: time until a client that had to wait was answered.
    """

    __slots__ = ("buckets", "failures", "failures_held", "joined", "over", "questions", "refreshes", "sum_s")

    def __init__(self) -> None:
        self.questions = self.joined = self.failures = self.failures_held = 0
        self.refreshes = {"stale": 0, "prefetch": 0}
        self.over = {"in_flight": 0, "waiting": 0, "per_client": 0}
        self.buckets = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self.sum_s = 0.0

"""The API servers as a source, whatever way leads to them.

Law: makes the parts of one source and nothing else: one gate with its governor for every kind, one reflector a kind.
The way there is given: the official client (`sources.kubernetes`), or whoever wants to count what is asked.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from typing import TypedDict

from agent.cluster.selection import EVERYTHING, Selection
from agent.sources import Access, Resume, Sink
from agent.sources.api import Api, resources
from agent.sources.counters import Counters
from agent.sources.delivery import Delivery
from agent.sources.following import Following
from agent.sources.gate import Gate
from agent.sources.pacing import Budget, Clock, Governor, Healing, LoopClock, Timing
from agent.sources.reflector import Reflector, Shared
from agent.sources.reports import Reports


class Options(TypedDict, total=False):
    """How a source behaves.

    Attributes:
        node_name: decides this node's place in the fleet's reconnect window.
        timing: spans, for tests and for `spread_s`.
        clock: time, for tests.
        budget: requests that may be spent.
        reports: told to the cluster when there is somebody to tell; None: nothing is.
    """

    node_name: str
    timing: Timing | None
    clock: Clock | None
    budget: Budget
    reports: Reports | None


class ApiSource:
    """Lists and watches Namespaces, Services and EndpointSlices.

    Args:
        selection: objects that count; passed to the server as selectors, and applied again here.
        node_name, timing, clock, budget, reports: see `Options`.
    """

    name = "kubernetes"

    def __init__(
        self,
        selection: Selection = EVERYTHING,
        *,
        node_name: str = "",
        timing: Timing | None = None,
        clock: Clock | None = None,
        budget: Budget = Budget(),  # noqa: B008 -- immutable
        reports: Reports | None = None,
    ) -> None:
        self.counters = Counters()
        self.timing = timing or Timing()
        self._selection = selection
        self._node_name = node_name or socket.gethostname()
        self._clock = clock or LoopClock()
        self.governor = Governor(self._clock, budget.burst, budget.per_hour)
        self._reports = reports
        self._gate: Gate | None = None

    def counts(self) -> dict[str, int]:
        """See `Source.counts`; `waited` is how often the budget of requests made one wait."""
        return {**dataclasses.asdict(self.counters), "waited": self.governor.waited}

    def access(self) -> Access | None:
        """See `Source.access`."""
        return self._gate.access() if self._gate is not None else None

    async def follow(self, api: Api, sink: Sink, resume: Resume, known_identity: str) -> None:
        """Follow the API servers for ever, by the given way; see `Source.run`."""
        clock, timing = self._clock, self.timing
        wanted = resources(self._selection)
        following = Following(tuple(resource.kind for resource in wanted), sink, clock, timing.grace_s)
        gate = Gate(api, sink, clock, timing, self.governor, self.counters, known_identity, self._node_name)
        self._gate = gate
        healing = Healing(clock, timing.heal_every_s, timing.heal_gap_s)
        shared = Shared(gate, sink, following, healing, clock, timing, self._selection, asyncio.Lock(), self.counters)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(following.report(), name="kubernetes following")
            if self._reports is not None:
                delivery = Delivery(self._reports, gate, following, clock, timing, self._node_name)
                tasks.create_task(delivery.run(), name="kubernetes reports")
            for resource in wanted:
                reflector = Reflector(resource, shared, resume.get(resource.kind, ""))
                tasks.create_task(reflector.run(), name=f"kubernetes {resource.name}")

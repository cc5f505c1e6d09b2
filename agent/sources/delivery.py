"""How reports reach the cluster: as Kubernetes Events on the agent's own Node.

Law: best effort, and never a burden. What happened while the API servers were away is sent after their return, with its
own time; at most `PER_HOUR` Events go in an hour, each through the door and the budget that every request passes. Who
may not create Events finds that out twice, says it once, and stops.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Mapping
from typing import Any

from agent.errors import SourceError
from agent.sources.api import RejectedError
from agent.sources.following import Following
from agent.sources.gate import Gate
from agent.sources.pacing import Clock, Governor, Timing, reconnect_delay_s
from agent.sources.reports import Report, Reports

PER_HOUR = 12
"""Events of one node in an hour, in the long run."""
BURST = 6
MAX_NODE_CHARS = 220
NAMESPACE = "default"
"""Where Events of objects without a namespace belong."""
RESOURCE = "events"
PATH = f"/api/v1/namespaces/{NAMESPACE}/events"
FORBIDDEN = frozenset({403, 404, 405})
UNFIT = frozenset({400, 413, 422})
EXISTS = 409

_log = logging.getLogger("nodens.source.kubernetes")


class Delivery:
    """Sends what is held, for ever.

    Args:
        reports: what is held.
        gate: the door to the API servers.
        following: tells whether they are there.
        clock: time.
        timing: spans.
        node: name of the Node.
    """

    def __init__(
        self, reports: Reports, gate: Gate, following: Following, clock: Clock, timing: Timing, node: str
    ) -> None:
        self._reports = reports
        self._gate = gate
        self._following = following
        self._clock = clock
        self._timing = timing
        self._node = node
        self._hourly = Governor(clock, BURST, PER_HOUR)
        self._forbidden = False

    async def run(self) -> None:
        """Deliver, one after the other; ends only when Events turn out to be forbidden."""
        while self._reports.enabled:
            await self._reports.wait()
            await self._following.connected.wait()
            # A fleet that has just found its API servers again has better things to ask, and does not move in step.
            slot_s = reconnect_delay_s(self._node, self._timing.spread_s)
            await self._clock.sleep(slot_s + random.uniform(0.0, self._timing.report_within_s))
            await self._hourly.take()
            if self._following.connected.is_set() and (report := self._reports.take()) is not None:
                await self._send(report)

    async def _send(self, report: Report) -> None:
        counts = self._reports.counts
        try:
            await self._gate.create(RESOURCE, PATH, event(report, self._node))
        except RejectedError as error:
            if error.code == EXISTS:
                counts["sent"] += 1  # An answer was lost, not the Event.
            elif error.code in UNFIT:
                counts["refused"] += 1
                _log.warning("an Event was not taken: %s", error)
            else:
                await self._refused(report, error)
        except SourceError:
            self._reports.put_back(report)
        else:
            counts["sent"] += 1
            self._forbidden = False

    async def _refused(self, report: Report, error: RejectedError) -> None:
        """Try once more, for a server that has just started refuses everybody until it has read the roles."""
        self._reports.put_back(report)
        if error.code not in FORBIDDEN:
            return
        if self._forbidden:
            self._reports.counts["refused"] += 1
            self._reports.disable()
            _log.warning("Kubernetes Events are off until the next start: %s", error)
            return
        self._forbidden = True
        await self._clock.sleep(self._timing.report_retry_s)


def event(report: Report, node: str) -> Mapping[str, Any]:
    """Make the Event (core v1) of a report.

    Its name follows from when it first happened, so that sending it twice creates it once. The Node is meant by its
    name in place of its uid, as the kubelet does: `kubectl describe node` looks for both, and Nodes may not be read.
    """
    name = re.sub(r"[^a-z0-9.-]+", "-", node.lower()).strip("-.")[:MAX_NODE_CHARS] or "node"
    first_ms = int(report.first_unix_s * 1000)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.{report.reason.lower()}.{first_ms:x}", "namespace": NAMESPACE},
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
        "reason": report.reason,
        "message": report.message,
        "type": "Warning" if report.is_trouble else "Normal",
        "source": {"component": "nodens", "host": node},
        "reportingComponent": "nodens",
        "reportingInstance": node,
        "firstTimestamp": _timestamp(report.first_unix_s),
        "lastTimestamp": _timestamp(report.last_unix_s),
        "count": report.times,
    }


def _timestamp(unix_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))

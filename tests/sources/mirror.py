"""A sink that holds what a source says, as the publisher does, and quick ways to run the Kubernetes source."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from agent.cluster.objects import KINDS, Stored
from agent.cluster.selection import EVERYTHING
from agent.errors import SourceError
from agent.sources.api import is_older
from agent.sources.kubernetes import KubernetesSource
from agent.sources.origin import Origin
from agent.sources.pacing import Timing

QUICK = Timing(
    identify_s=0.1,
    connect_s=1.0,
    answer_s=0.5,
    page_s=1.0,
    idle_s=0.4,
    settle_s=0.05,
    short_s=0.05,
    grace_s=0.2,
    probe_min_s=0.01,
    probe_max_s=0.03,
    report_within_s=0.01,
    report_retry_s=0.05,
    backoff_s=0.005,
    backoff_max_s=0.05,
    silent_max_s=0.05,
    credentials_s=300.0,
    distrust_s=0.0,
)
PATIENT = QUICK._replace(idle_s=60.0, answer_s=10.0, page_s=20.0)


class ScaledClock:
    """Time that passes `factor` times as fast; remembers every wait."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.waits: list[float] = []

    def now(self) -> float:
        return asyncio.get_running_loop().time() * self.factor

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(seconds / self.factor)


class Mirror:
    """Implements `agent.sources.Sink`: refuses older lists, applies changes, remembers the words."""

    def __init__(self) -> None:
        self.said: list[tuple] = []
        self.held: dict[str, dict[str, Stored]] = {kind: {} for kind in KINDS}
        self.positions: dict[str, str] = {}
        self.identity = ""
        self.overflows = 0
        self.is_connected = False
        self._changed = asyncio.Event()

    def _say(self, *what) -> None:
        self.said.append(what)
        self._changed.set()

    def identify(self, cluster_id):
        if self.identity not in {"", cluster_id}:
            self.positions.clear()
        self.identity = cluster_id
        self._say("identify", cluster_id)

    def replace(self, kind, objects, position):
        if is_older(position, self.positions.get(kind, "")):
            self._say("refused", kind, position)
            return False
        self.held[kind] = {stored.key: stored for stored in objects}
        self.positions[kind] = position
        self._say("replace", kind, len(objects))
        return True

    def apply(self, kind, changes, position):
        if self.overflows:
            self.overflows -= 1
            raise SourceError("too many changes are waiting")
        for key, stored in changes:
            if stored is None:
                self.held[kind].pop(key, None)
            else:
                self.held[kind][key] = stored
        self.positions[kind] = position
        self._say("apply", kind, len(changes))

    def confirm(self, kind, position):
        self.positions[kind] = position
        self._say("confirm", kind, position)

    def skipped(self, kind, name, reason):
        self._say("skipped", kind, name, reason)

    def connected(self):
        self.is_connected = True
        self._say("connected")

    def lost(self, reason):
        self.is_connected = False
        self._say("lost", reason)

    def requested(self, verb, code, size_bytes):
        self._say("requested", verb, code, size_bytes)

    def of(self, word: str) -> list[tuple]:
        return [what[1:] for what in self.said if what[0] == word]

    def names(self, kind: str = "Service") -> list[str]:
        return sorted(self.held[kind])

    async def until(self, true: Callable[[], bool], timeout_s: float = 15) -> None:
        async with asyncio.timeout(timeout_s):
            while not true():
                self._changed.clear()
                # Some conditions are the server's: look again soon even if the source says nothing.
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), 0.05)


@asynccontextmanager
async def following(
    kubeconfig: Path | Origin,
    mirror: Mirror,
    resume=None,
    identity="",
    *,
    selection=EVERYTHING,
    timing=QUICK,
    clock=None,
    name="node-1",
    reports=None,
):
    """Run the source for as long as the block lasts; it must never end by itself."""
    origin = kubeconfig if isinstance(kubeconfig, Origin) else Origin(str(kubeconfig))
    source = KubernetesSource(origin, selection, node_name=name, timing=timing, clock=clock, reports=reports)
    task = asyncio.create_task(source.run(mirror, resume or {}, identity))
    try:
        yield source
        assert not task.done(), task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

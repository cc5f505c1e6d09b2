"""Which upstreams are there: found out from replies alone, by probes where there are none, and no loop back to us.

Law: any reply is a sign of life. Probes are sent only to an upstream that gave no answer, one at a time, with a
back-off, until it answers; what the fleet sends to a dead server does not grow. At the start, and now and then after,
each upstream is asked for a name that nobody else knows: if that question arrives here, the upstream leads back to
us and is not used until it does no more.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable

from agent.forward.question import Question
from agent.forward.routes import FIRST_PROBE_S, LONGEST_PROBE_S, Routes, backoff_s
from agent.forward.stream import UpstreamError
from agent.forward.upstream import MAX_FAILS, Upstream
from agent.wire.codes import NS, TXT

log = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 1.0
LOOP_CHECK_S = 3600.0
_ROOT_NS = Question(b"\x00", NS)
_LOOP_ZONE = b"\x04loop\x06nodens\x00"
_TOKEN_BYTES = 16


class Watch:
    """Keeps `is_lost` and `is_loop` of all upstreams right.

    Args:
        on_lost: told when an upstream was found lost.

    Attributes:
        loops: times that a probe of ours came back.
    """

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self.loops = 0
        self._on_lost = on_lost
        self._token = secrets.token_hex(_TOKEN_BYTES).encode()
        self._numbers: dict[bytes, Upstream] = {}
        self._came_back: set[bytes] = set()
        self._probed: set[Upstream] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._changed = asyncio.Event()

    async def run(self, routes: Callable[[], Routes], tasks: asyncio.TaskGroup) -> None:
        """Look for loops, at once when there are other upstreams; never returns."""
        self._tasks = tasks
        while True:
            self._changed.clear()
            await self._look_for_loops(routes())
            try:
                async with asyncio.timeout(LOOP_CHECK_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def wake(self) -> None:
        """There are other upstreams: probes of the old ones end."""
        self._probed.clear()
        self._changed.set()

    def is_loop(self, name: bytes) -> bool:
        """Tell whether a name is one of our probes, and mark the upstream that it was sent to."""
        if not name.endswith(_LOOP_ZONE):
            return False
        upstream = self._numbers.get(name)
        if upstream is not None:
            self.loops += 1
            self._came_back.add(name)
            if not upstream.is_loop:
                upstream.is_loop = True
                log.error("upstream %s leads back to this agent and is not used; name another one", upstream.target)
        return True

    def suspect(self, upstream: Upstream) -> None:
        """An upstream gave no answer: find out whether it is there."""
        upstream.fails += 1
        if upstream not in self._probed and self._tasks is not None:
            self._probed.add(upstream)
            self._tasks.create_task(self._probe(upstream))

    async def _probe(self, upstream: Upstream) -> None:
        """Ask an upstream until it says anything, to us or to a client's question."""
        attempt, was_lost = 0, False
        try:
            while upstream in self._probed:
                upstream.counters.probes += 1
                try:
                    await upstream.ask(_ROOT_NS, PROBE_TIMEOUT_S)
                except UpstreamError:
                    upstream.fails += 1
                if upstream.fails > MAX_FAILS and not upstream.is_lost:
                    self._lose(upstream)
                    was_lost = True
                if not upstream.fails:
                    break
                await asyncio.sleep(backoff_s(attempt, FIRST_PROBE_S, LONGEST_PROBE_S))
                attempt += 1
        finally:
            self._probed.discard(upstream)
        if was_lost and not upstream.is_lost:
            log.warning("upstream %s answers again", upstream.target)

    def _lose(self, upstream: Upstream) -> None:
        upstream.is_lost = True
        upstream.counters.losses += 1
        log.warning("upstream %s gives no answer: what is held is answered stale, and it is probed", upstream.target)
        self._on_lost()

    async def _look_for_loops(self, routes: Routes) -> None:
        """Ask each upstream, one after the other, for a name of its own."""
        upstreams = dict.fromkeys(routes.upstreams)
        self._numbers = {self._name(number): upstream for number, upstream in enumerate(upstreams)}
        for name, upstream in self._numbers.items():
            self._came_back.discard(name)
            try:
                await upstream.ask(Question(name, TXT), PROBE_TIMEOUT_S)
            except UpstreamError:
                continue
            if upstream.is_loop and name not in self._came_back:
                upstream.is_loop = False
                log.warning("upstream %s leads here no more and is used again", upstream.target)

    def _name(self, number: int) -> bytes:
        label = b"%b-%d" % (self._token, number)
        return b"%c%b%b" % (len(label), label, _LOOP_ZONE)

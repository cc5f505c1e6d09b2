"""How client-go's reflector asks, as far as its documentation and source say (tools/cache/reflector.go of 1.3x).

Law: a model of when it asks and for what, nothing else; each rule names what it stands for. It is kind to client-go
where the source leaves a choice.
"""

from __future__ import annotations

import asyncio
import random

from agent.errors import SourceError
from benchmarks.fleet.servers import HEAD_BYTES, KINDS, Servers, Watch

FIRST_S, LONGEST_S, FACTOR, JITTER, RESET_S = 0.8, 30.0, 2.0, 1.0, 120.0
"""NewExponentialBackoffManager(800 ms, 30 s, 2 min, 2.0, 1.0): waits end at 30 to 60 s."""
MIN_WATCH_S = 300.0
"""defaultMinWatchTimeout: a watch lasts between this and twice as long."""


class BackoffManager:
    """One reflector's."""

    def __init__(self) -> None:
        self._span_s = FIRST_S
        self._last_s = -RESET_S

    def next_s(self) -> float:
        """Draw the next wait."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._last_s > RESET_S:
            self._span_s = FIRST_S
        self._last_s = now_s
        span_s, self._span_s = self._span_s, min(LONGEST_S, self._span_s * FACTOR)
        return span_s * (1.0 + random.random() * JITTER)


class Reflector:
    """One kind of one client: a streamed list (WatchListClient), then watches."""

    def __init__(self, servers: Servers, kind: str) -> None:
        self.is_synced = False
        self._servers = servers
        self._kind = kind
        self._position = servers.revision
        self._backoff = BackoffManager()

    async def run(self) -> None:
        """Run (BackoffUntil, sliding): after ListAndWatch has ended for any reason, a wait, then a list."""
        while True:
            try:
                watch = await self._list()
                await self._watch(watch)
            except SourceError:
                pass
            self.is_synced = False
            await asyncio.sleep(self._backoff.next_s())

    async def _list(self) -> Watch:
        """watchList: the list comes as events of a watch, which then goes on as one."""
        await self._servers.answer()
        self._servers.count("list", self._servers.shelf.streamed[self._kind] + HEAD_BYTES)
        self._position = self._servers.revision
        self.is_synced = True
        return self._open()

    def _open(self) -> Watch:
        timeout_s = MIN_WATCH_S * (1.0 + random.random())
        return Watch(self._servers, self._kind, self._position, timeout_s)

    async def _watch(self, watch: Watch) -> None:
        while True:
            while line := await watch.chunk():
                self._position = self._servers.revision
                if b'"ERROR"' in line:  # isExpiredError: the watch is over, and with it ListAndWatch
                    return
            while True:
                try:
                    await self._servers.answer()
                except SourceError:  # isWatchErrorRetriable, connection refused: backed off and watched again, no list
                    self.is_synced = False
                    await asyncio.sleep(self._backoff.next_s())
                    continue
                break
            self._servers.count("watch", HEAD_BYTES)
            watch = self._open()
            self.is_synced = self._position >= self._servers.floor


class Client:
    """A client with a reflector a kind, as CoreDNS is one (which watches these three kinds by default)."""

    def __init__(self, servers: Servers) -> None:
        self._reflectors = [Reflector(servers, kind) for kind in KINDS.values()]

    @property
    def is_following(self) -> bool:
        """Whether every kind is in sync."""
        return all(reflector.is_synced for reflector in self._reflectors)

    async def run(self) -> None:
        """Follow for ever."""
        async with asyncio.TaskGroup() as tasks:
            for reflector in self._reflectors:
                tasks.create_task(reflector.run())

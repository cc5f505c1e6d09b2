"""Keeps the cache on disk: reads it at the start, writes it now and then, when upstreams are lost, and at the end.

Law: a disk that fails takes nothing from the cache in memory; it is told once and counted. Encoding and writing run on
a thread, from what was held at one moment.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from agent.errors import SnapshotError
from agent.forward import persistence
from agent.forward.cache import Cache

log = logging.getLogger(__name__)

LEAST_BETWEEN_S = 5.0
"""Writes are at least this far apart, whoever asks for them."""


class Keeper:
    """Brings a cache to disk and back.

    Args:
        cache: what is kept.
        state_dir: of the agent.
        every_s: how often it is written, if it has changed; may be replaced at any time.
        clock: monotonic seconds, the cache's.

    Attributes:
        writes, failures: counted.
        bytes: of the file that was written last.
        restored: answers that came back at the start.
        restored_unix_s: when what came back was written; 0: nothing came back.
        refused: why the file was not used at the start; empty: it was, or there was none.
        failing: why the last write failed; empty: it did not.
    """

    def __init__(self, cache: Cache, state_dir: str, every_s: float, clock: Callable[[], float]) -> None:
        self.every_s = every_s
        self.writes = self.failures = self.bytes = self.restored = 0
        self.restored_unix_s = 0.0
        self.refused = self.failing = ""
        self._cache = cache
        self._state_dir = state_dir
        self._clock = clock
        self._written_version = cache.version
        self._wanted = asyncio.Event()

    def restore(self) -> None:
        """Read the file into the cache, which is empty; what can't be believed is told and left out."""
        try:
            stored = persistence.read(self._state_dir)
        except SnapshotError as error:
            self.refused = error.message
            log.warning("cached answers of the last life are not used: %s", error)
            return
        if stored is not None:
            self.restored = persistence.restore(self._cache, stored, self._clock(), time.time())
            self.restored_unix_s = stored.written_unix_s
            self._written_version = self._cache.version
            log.info("%d cached answers restored from disk", self.restored)

    def want(self) -> None:
        """Have it written soon: it may be needed."""
        self._wanted.set()

    async def run(self) -> None:
        """Write it now and then; never returns."""
        while True:
            try:
                async with asyncio.timeout(self.every_s):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            await self.write()
            await asyncio.sleep(LEAST_BETWEEN_S)

    async def write(self) -> None:
        """Write it if it has changed."""
        version = self._cache.version
        if version == self._written_version:
            return
        answers = persistence.snapshot(self._cache, self._clock())
        try:
            self.bytes = await asyncio.to_thread(persistence.write, self._state_dir, answers, time.time())
        except SnapshotError as error:
            self.failures += 1
            if not self.failing:
                log.warning("cached answers can't be written, a restart will not have them: %s", error)
            self.failing = error.message
            return
        self.writes += 1
        self.failing = ""
        self._written_version = version

"""Keeps on disk what is answered from memory: journal as changes come, generations now and then.

Law: nothing here can harm answering. Everything that blocks runs on one thread of its own; what is encoded for a
generation is encoded in slices on the loop, from layers that no longer change. A failure is counted, said once, and
tried again with another file after a back-off. Changes that could not be kept make the journal end: no hole is
ever written.

A generation is due after `rewrite_churn_percent` of the names changed, or when changes are `rewrite_after_s` old and
the disk budget allows another file of this size (docs/decisions/0009).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from agent.errors import SnapshotError
from agent.snapshot.entries import Entry
from agent.snapshot.freezing import Point, encode, freeze
from agent.snapshot.generations import Generations
from agent.snapshot.hold import Log
from agent.snapshot.journal import JournalWriter
from agent.snapshot.publisher import Publisher
from agent.snapshot.recovery import Recovered
from agent.snapshot.steps import Consistent
from agent.wire.table import PackedNodes

MAX_PENDING_BYTES = 8 << 20
"""Bound of changes waiting for the disk; beyond it they are dropped, and a generation takes their place."""
HEARTBEAT_S = 60.0
"""How often "still right" is written when nothing changes, so that a restart knows the age."""
LEAST_BETWEEN_S = 5.0
"""Shortest time between two generations."""
WRITE_BUDGET_BYTES_PER_S = 65_536
"""Average rate at which ageing changes may make generations be written."""
FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 300.0

T = TypeVar("T")


class Pace(NamedTuple):
    """When things are written; the options of `snapshot`."""

    keep: int = 3
    rewrite_churn_percent: int = 10
    rewrite_after_s: float = 60.0
    sync_every_s: float = 1.0


class Persister:
    """The one writer of the state directory; a `publisher.Recorder`.

    Args:
        generations: the directory.
        publisher: what is kept.
        origin: name of the source.
        pace: when things are written.
        log: one line per transition.

    Attributes:
        generation: number of the newest generation held; 0 before the first.
        generation_bytes: its size.
        written_unix_s: when it was written.
        write_s: how long the last generation took from freeze to fsync, seconds.
        dropped: times that changes were too many for the journal.
        failing: why the disk can't be written, "" while it can.
        after_write: called on the disk's thread after each generation.
    """

    def __init__(self, generations: Generations, publisher: Publisher, origin: str, pace: Pace, log: Log) -> None:
        self.generations = generations
        self.pace = pace
        self.generation = 0
        self.generation_bytes = 0
        self.write_s = 0.0
        self.written_unix_s = 0.0
        self.dropped = 0
        self.failing = ""
        self.after_write: Callable[[], object] = lambda: None
        self._publisher = publisher
        self._origin = origin
        self._log = log
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nodens-disk")
        self._pending: list[Entry] = []
        self._pending_bytes = 0
        self._came = asyncio.Event()
        self._recovered: Recovered | None = None
        self._journal: JournalWriter | None = None
        self._is_due = False
        self._endings = 0
        self._is_locked = False
        self._oldest_change_s: float | None = None
        self._last_write_s = 0.0
        self._last_sync_s = 0.0
        self._last_entry_s = 0.0
        self._retry_s = FIRST_RETRY_S

    @property
    def journal_bytes(self) -> int:
        """Size of the journal being written."""
        return self._journal.size_bytes if self._journal is not None else 0

    def restored(self, recovered: Recovered, *, compiled: bool) -> None:
        """Go on from what was loaded; `compiled` tells whether its answers could be used as they are."""
        self._recovered = recovered
        self.generation = recovered.generation.header.generation
        self.generation_bytes = len(recovered.generation.file)
        self.written_unix_s = recovered.generation.header.written_unix_s
        self._is_due = not compiled or recovered.journals > 1

    def record(self, step: Consistent) -> None:
        """See `Recorder.record`."""
        if not step.objects and not step.nodes and not step.moves_on:
            return
        now_s = time.monotonic()
        if self._oldest_change_s is None:
            self._oldest_change_s = now_s
        self._pending_bytes += _size_bytes(step, MAX_PENDING_BYTES - self._pending_bytes)
        if self._pending_bytes > MAX_PENDING_BYTES:
            self.invalidate()
            self.dropped += 1
            return
        self._pending.append(self._entry(step))
        self._came.set()

    def invalidate(self) -> None:
        """End the journal here: what comes next can only be kept by a generation, which is due at once."""
        self._pending.clear()
        self._is_due = True
        self._endings += 1
        self._pending_bytes = 0
        if self._journal is not None:
            journal, self._journal = self._journal, None
            self._thread.submit(journal.close)
        self._came.set()

    def _entry(self, step: Consistent) -> Entry:
        return Entry(
            positions=step.positions,
            confirmed_unix_s=self._confirmed_unix_s(),
            identity=step.identity,
            objects=step.objects,
            nodes=list(step.nodes.items()),
        )

    def _confirmed_unix_s(self) -> float:
        age_s = self._publisher.freshness.age_s(asyncio.get_running_loop().time())
        return time.time() - age_s

    async def run(self) -> None:
        """Write for ever."""
        while not self._is_locked:
            if not await self._attempt(self._take):
                await asyncio.sleep(self._next_retry_s())
        while True:
            if not await self._attempt(self._round):
                self._is_due = True
                await asyncio.sleep(self._next_retry_s())
            try:
                async with asyncio.timeout(1.0):
                    await self._came.wait()
            except TimeoutError:
                pass
            self._came.clear()

    async def _attempt(self, work: Callable[[], object]) -> bool:
        counts = self.generations.counts
        failures = counts.failures
        try:
            await work()  # type: ignore[misc]
        except SnapshotError as error:
            # What could not even be begun, for want of the lock or the directory, is a failure too.
            counts.failures = max(counts.failures, failures + 1)
            if not self.failing:
                self._log("persist_failed", reason=str(error))
            self.failing = str(error)
            return False
        if self.failing and self._journal is not None and not self._journal.broken:
            self._log("persist_recovered")
            self.failing = ""
        self._retry_s = FIRST_RETRY_S
        return True

    def _next_retry_s(self) -> float:
        wait_s, self._retry_s = self._retry_s, min(self._retry_s * 2, LONGEST_RETRY_S)
        return wait_s

    async def _take(self) -> None:
        await self._on_thread(self.generations.lock)
        self._is_locked = True
        if self._recovered is not None:
            recovered, self._recovered = self._recovered, None
            self._journal = await self._on_thread(lambda: self.generations.open_journal(recovered))
            self._is_due = self._is_due or not self._journal.anchored
        else:
            self._is_due = True

    async def _round(self) -> None:
        if self._can_write_generation() and (self._is_due or self._has_aged()):
            await self._roll()
            return
        now_s = time.monotonic()
        if self._journal is None or self._journal.broken:
            self._drop_pending()
            return
        if now_s - self._last_entry_s >= HEARTBEAT_S and self._publisher.freshness.connected and not self._pending:
            self._pending.append(
                self._entry(Consistent([], {}, self._publisher.kept_positions, self._publisher.identity))
            )
        if self._pending:
            self._last_entry_s = now_s
        entries, self._pending, self._pending_bytes = self._pending, [], 0
        should_sync = now_s - self._last_sync_s >= self.pace.sync_every_s
        journal = self._journal
        await self._on_thread(lambda: _write_entries(journal, entries, sync=should_sync))
        if should_sync:
            self._last_sync_s = now_s
        elif entries:
            # The sync that these wait for comes with the next round.
            asyncio.get_running_loop().call_later(self.pace.sync_every_s, self._came.set)

    def _drop_pending(self) -> None:
        if self._pending:
            self._pending, self._pending_bytes = [], 0
            self._is_due = True

    def _can_write_generation(self) -> bool:
        return self._publisher.freshness.has_state and not self._publisher.awaits_full_set

    def _has_aged(self) -> bool:
        if self._oldest_change_s is None:
            return False
        table = self._publisher.table
        now_s = time.monotonic()
        if now_s - self._last_write_s < LEAST_BETWEEN_S:
            return False
        names = table.base.names if table.base is not None else 0
        if len(table.overlay) * 100 >= names * self.pace.rewrite_churn_percent:
            return True
        patience_s = max(self.pace.rewrite_after_s, self.generation_bytes / WRITE_BUDGET_BYTES_PER_S)
        return now_s - max(self._oldest_change_s, self._last_write_s) >= patience_s

    async def _roll(self) -> None:
        """Write a generation from a consistent point; changes go on meanwhile, into the next journal."""
        await self._publisher.idle()
        if not self._can_write_generation():
            # Meanwhile the source has begun with another cluster: its set is written when it is served.
            return
        started_s = time.monotonic()
        # From here to the freeze nothing may wait: this is the consistent point.
        point = freeze(self._publisher, self._origin, self._confirmed_unix_s())
        table, endings = point.table, self._endings
        before, self._pending, self._pending_bytes = self._pending, [], 0
        oldest_change_s, self._oldest_change_s = self._oldest_change_s, None
        try:
            journal = await self._on_thread(lambda: self._rotate(before))
            if self._endings == endings:
                self._journal = journal
            else:
                # Changes after the freeze were dropped, so this journal can't take those that follow.
                self._thread.submit(journal.close)
            answers = await self._write(point, journal.generation)
        except BaseException:
            table.thaw()
            self._oldest_change_s = oldest_change_s if oldest_change_s is not None else started_s
            raise
        if table.frozen is point.layers.frozen:
            table.rebase(PackedNodes(answers, 0, len(answers)))
        # Otherwise the table holds another cluster by now, and the answers of this point are not among its own.
        self.generation = journal.generation
        self._last_write_s = time.monotonic()
        self.write_s = self._last_write_s - started_s
        self._is_due = bool(journal.broken) or self._endings != endings
        # What the point held is let go before memory is given back.
        del point, answers
        await self._on_thread(lambda: (self.generations.prune(self.pace.keep), self.after_write()))

    async def _write(self, point: Point, number: int) -> bytes:
        """Encode and write what was frozen; gives the answers section."""
        header, sections = await encode(point, number, time.time())
        self.generation_bytes = await self._on_thread(lambda: self.generations.write(header, sections))
        self.written_unix_s = header.written_unix_s
        return sections[-1][1]

    def _rotate(self, before: list[Entry]) -> JournalWriter:
        old = self._journal
        if old is not None and not old.broken:
            try:
                for entry in before:
                    old.append(entry)
            except SnapshotError:
                # It is broken now, and the generation about to be written holds what it could not take.
                pass
        return self.generations.rotate()

    async def finish(self) -> None:
        """Write what is held, at the end of a life."""
        if not self._is_locked:
            return
        try:
            if self._can_write_generation() and (self._is_due or self._journal is None or self._journal.broken):
                await self._roll()
            journal = self._journal
            if journal is not None and not journal.broken:
                last = self._entry(Consistent([], {}, self._publisher.kept_positions, self._publisher.identity))
                entries, self._pending = [*self._pending, last], []
                await self._on_thread(lambda: _write_entries(journal, entries, sync=True))
        except SnapshotError as error:
            self._log("persist_failed", reason=str(error))
        finally:
            await self._on_thread(self.generations.close)
            self._is_locked = False
            self._thread.shutdown(wait=False)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        # Shielded: when the caller is cancelled, what was handed over is still done, and before what comes next.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))


def _size_bytes(step: Consistent, most: int) -> int:
    """Add up what a step takes, no further than to something above `most`: a full set is too long a list to walk."""
    size = 100 * len(step.objects) + 20 * len(step.nodes)
    if size <= most:
        for row in step.objects:
            size += len(row[3] or b"")
            if size > most:
                return size
        for key, made in step.nodes.items():
            size += len(key) + len(made or b"")
            if size > most:
                return size
    return size


def _write_entries(journal: JournalWriter, entries: list[Entry], *, sync: bool) -> None:
    for entry in entries:
        journal.append(entry)
    if sync:
        journal.sync()
    else:
        journal.flush()

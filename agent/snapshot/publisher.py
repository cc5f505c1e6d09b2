"""From what sources say to what is answered: the one writer of store and table.

Law: everything happens on the event loop's thread in slices of `SLICE_S`, so that queries are answered in between;
a change is compiled at once, a burst is coalesced for at most `COALESCE_S`. What reaches the journal is always a
consistent point: objects together with the names compiled from them. Order is checked when applied (outage.md
rule 5), objects of two clusters are never mixed, and what the guard holds (rule 4) never reaches the store.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from collections.abc import Iterable, Iterator

import msgspec

from agent.cluster.objects import KINDS, Stored
from agent.cluster.store import OwnerState, Store
from agent.errors import NodensError, SourceError
from agent.records.zone import Profile
from agent.snapshot.compiler import Compiler
from agent.snapshot.freshness import Freshness
from agent.snapshot.guard import Limits
from agent.snapshot.hold import Log, Moment
from agent.snapshot.order import OLDER, RESTORED, Order
from agent.snapshot.quarantine import Quarantine
from agent.snapshot.steps import Consistent, Decided, Full, Recorder, Some, Touched
from agent.wire.table import AnswerTable

SLICE_S = 0.002
"""Longest piece of work between two looks at the sockets, seconds (one owner is never split)."""
COALESCE_S = 0.020
"""Longest wait of a change in a burst, seconds; the wait is as long as the last work took, so that a lone change
waits for nothing and a flood can take half of the processor at most."""
MAX_QUEUED = 200_000
"""Bound of changes that wait for their turn; beyond it the source has to deliver a full set again."""

MAX_UNUSABLE = 10_000
"""Unusable objects of one kind whose last good version is kept when a full set is delivered."""


class Publisher:
    """Implements `sources.Sink`.

    Args:
        profile: what decides the records.
        freshness: told what the source says.
        table: what is answered from; written here alone.
        on_transition: called with a word and fields, once per transition.
        needs_namespace: see `Store`.
        limits: of the guard.

    Attributes:
        positions: kind → where the source stands; `kept_positions` is what goes to disk.
        quarantine: what stands between the source and the store.
    """

    def __init__(
        self,
        profile: Profile,
        freshness: Freshness,
        table: AnswerTable,
        on_transition: Log,
        *,
        needs_namespace: bool = False,
        limits: Limits = Limits(),  # noqa: B008 -- immutable
    ) -> None:
        self.profile = profile
        self.freshness = freshness
        self.store = Store(needs_namespace=needs_namespace)
        self.table = table
        self.compiler = Compiler(profile, table)
        self.positions: dict[str, str] = {}
        self.identity = ""
        self.epoch = 0
        self.recorder: Recorder | None = None
        self.skipped_by_kind: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.skipped_names: deque[tuple[str, str, str]] = deque(maxlen=100)
        self._unusable: dict[str, dict[str, None]] = {kind: {} for kind in KINDS}
        self.requests: dict[tuple[str, int], int] = {}
        self.request_bytes = 0
        self.order = Order()
        self.quarantine = Quarantine(limits, on_transition)
        self.owners_compiled = 0
        self.compile_failures = 0
        self._served: AnswerTable | None = None
        self._log = on_transition
        self._queue: deque[Full | Some | Decided] = deque()
        self._queued = 0
        self._step: Iterator[int] | None = None
        self._after_step: Full | Some | None = None
        self._scheduled = False
        self._not_before_s = 0.0
        self._worked_s = 0.0
        self._foreign: dict[str, Full] | None = None
        self._follow_when_idle = False
        self._idle_waiters: list[asyncio.Future[None]] = []

    @property
    def changes_applied(self) -> int:
        """Changes that reached the store since the start."""
        return self.quarantine.applied

    @property
    def kept_positions(self) -> dict[str, str]:
        """Positions that go to disk: they never pass a change that is held, so that a restart meets it again."""
        return self.quarantine.positions(self.positions)

    @property
    def awaits_full_set(self) -> bool:
        """What is served is not what the store holds: a full set is being delivered and is not complete."""
        return self._foreign is not None or self._served is not None

    # What sources say -------------------------------------------------------------------------------------------

    def identify(self, cluster_id: str) -> None:
        """See `Sink.identify`. Another cluster than before: nothing of the old one may be resumed or mixed in."""
        if cluster_id and self.identity and cluster_id != self.identity:
            self._log("cluster_changed", before=self.identity, now=cluster_id)
            self._foreign = {}
            self.positions.clear()
            self.quarantine.forget_positions()
        if cluster_id:
            self.identity = cluster_id

    def replace(self, kind: str, objects: list[Stored], position: str) -> bool:
        """See `Sink.replace`."""
        if self._foreign is not None:
            self._foreign[kind] = Full(kind, objects, position)
            self._unusable[kind].clear()
            if len(self._foreign) < len(KINDS):
                return True
            ready, self._foreign = self._foreign, None
            self.epoch += 1
            self.start_over()
            for each in KINDS:
                self._enqueue(ready[each], len(ready[each].objects))
            # A source that came back before it was given up as lost does not say that it is connected once more.
            self._follow_when_idle = self._follow_when_idle or self.freshness.connected
            return True
        if self._is_refused(kind, position):
            return False
        full = Full(kind, objects + self._last_good(kind), position)
        self._enqueue(full, len(full.objects))
        return True

    def _last_good(self, kind: str) -> list[Stored]:
        """Give the held versions of objects that the set being delivered has only in a form that can't be used."""
        unusable, self._unusable[kind] = self._unusable[kind], {}
        held = (self.store.held(kind, key) for key in unusable)
        return [stored for stored in held if stored is not None]

    def _is_refused(self, kind: str, position: str) -> bool:
        held = self.positions.get(kind, "")
        verdict = self.order.judge(held, position, asyncio.get_running_loop().time())
        if verdict == RESTORED:
            self._log("older_list_accepted", kind=kind, held=held, offered=position)
            self.epoch += 1
            self.positions.clear()
            self.quarantine.forget_positions()
            # A journal has no epoch: only a generation makes a restart know of it.
            if self.recorder is not None:
                self.recorder.invalidate()
        elif verdict == OLDER:
            self._log("older_list_refused", kind=kind, held=held, offered=position)
        return verdict == OLDER

    def apply(self, kind: str, changes: list[tuple[str, Stored | None]], position: str) -> None:
        """See `Sink.apply`.

        Raises:
            SourceError: too much is waiting already; deliver a full set again.
        """
        if self._foreign is not None:
            raise SourceError(f"changes of {kind} before the full set of another cluster is complete")
        if self._queued + len(changes) > MAX_QUEUED:
            raise SourceError(f"more than {MAX_QUEUED} changes are waiting to be applied")
        unusable = self._unusable[kind]
        for key, _ in changes:
            unusable.pop(key, None)
        self._enqueue(Some(kind, changes, position), len(changes))

    def confirm(self, kind: str, position: str) -> None:
        """See `Sink.confirm`."""
        self.freshness.confirmed(kind, asyncio.get_running_loop().time())
        if self._queue or self._step is not None:
            self._enqueue(Some(kind, [], position), 0)
        else:
            self.positions[kind] = position

    def skipped(self, kind: str, name: str, reason: str) -> None:
        """See `Sink.skipped`. What is held of such an object stays, also when a full set follows without it."""
        self.skipped_by_kind[kind] = self.skipped_by_kind.get(kind, 0) + 1
        unusable = self._unusable.setdefault(kind, {})
        if len(unusable) < MAX_UNUSABLE:
            unusable[name] = None
        self.skipped_names.append((kind, name, reason))
        self._log("object_skipped", kind=kind, name=name, reason=reason)

    def connected(self) -> None:
        """See `Sink.connected`; takes effect when all that was said before is compiled."""
        self._follow_when_idle = True
        self._schedule()

    def lost(self, reason: str) -> None:
        """See `Sink.lost`."""
        self._follow_when_idle = False
        if self.freshness.lose(reason):
            self._log("source_lost", reason=reason)

    def requested(self, verb: str, code: int, size_bytes: int) -> None:
        """See `Sink.requested`."""
        self.requests[verb, code] = self.requests.get((verb, code), 0) + 1
        self.request_bytes += size_bytes

    # The pump ---------------------------------------------------------------------------------------------------

    def _enqueue(self, item: Full | Some | Decided, size: int) -> None:
        self._queue.append(item)
        self._queued += size
        self._schedule()

    def _schedule(self) -> None:
        if self._scheduled:
            return
        self._scheduled = True
        loop = asyncio.get_running_loop()
        wait_s = self._not_before_s - loop.time()
        if wait_s <= 0:
            loop.call_soon(self._pump)
        else:
            loop.call_later(wait_s, self._pump)

    def _pump(self) -> None:
        loop = asyncio.get_running_loop()
        started_s = now_s = loop.time()
        is_done = False
        try:
            while now_s < started_s + SLICE_S and not is_done:
                is_done = not self._work()
                now_s = loop.time()
        finally:
            self._worked_s += now_s - started_s
            if not is_done:
                loop.call_soon(self._pump)
        if is_done:
            self._scheduled = False
            self._not_before_s = now_s + min(COALESCE_S, self._worked_s)
            self._worked_s = 0.0
            self._settled()

    def _settled(self) -> None:
        """Act on a consistent point: nothing queued, nothing dirty."""
        loop = asyncio.get_running_loop()
        ended, self.quarantine.has_ended = self.quarantine.has_ended, False
        touched, made = self.store.take_touched(), self.compiler.take_changes()
        step = Consistent(touched, made, self.kept_positions, self.identity, moves_on=ended)
        if self.recorder is not None and not self.awaits_full_set:
            self.recorder.record(step)
        if self._follow_when_idle and self._foreign is None:
            self._follow_when_idle = False
            self._serve_full_set()
            if self.freshness.follow(loop.time()):
                self._log("source_following", identity=self.identity)
        waiters, self._idle_waiters = self._idle_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _work(self) -> bool:
        """Do one bounded piece of work; False when there is none left."""
        if self._step is not None:
            self._advance(self._step)
            return True
        if self._queue:
            self._begin(self._queue.popleft())
            return True
        namespace = self.store.take_dirty_namespace()
        if namespace is not None:
            self.compiler.namespace(namespace[0], exists=namespace[1])
            return True
        dirty = self.store.take_dirty()
        if dirty is not None:
            self._compile(*dirty)
            return True
        return False

    def _compile(self, owner: str, before: OwnerState, after: OwnerState) -> None:
        try:
            self.compiler.owner(owner, before, after)
            self.owners_compiled += 1
        except (NodensError, msgspec.DecodeError, struct.error, ValueError) as error:
            # Names already put stay, the rest keeps its last state; the next change of the owner tries again.
            self.compile_failures += 1
            self._log("compile_failed", owner=owner, reason=repr(error))

    def _advance(self, step: Iterator[int]) -> None:
        try:
            next(step)
        except StopIteration:
            self._step = None
            if self._after_step is not None:
                self.positions[self._after_step.kind] = self._after_step.position
                self._after_step = None

    def _begin(self, item: Full | Some | Decided) -> None:
        now = Moment(asyncio.get_running_loop().time(), time.time())
        if isinstance(item, Decided):
            self._step = self.quarantine.finish(self.store, item.outcome, now)
            return
        self._after_step = item
        before = self.positions.get(item.kind, "")
        if isinstance(item, Full):
            self._queued -= len(item.objects)
            self._step = self.quarantine.replace(self.store, item.kind, item.objects, before, now)
        else:
            self._queued -= len(item.changes)
            self._step = self.quarantine.apply(self.store, item.kind, item.changes, before, now)

    # What is held -------------------------------------------------------------------------------------------------

    def decide(self, outcome: str) -> None:
        """End the quarantine, in slices as any change: `quarantine.ACCEPTED`, `REJECTED` or `EXPIRED`."""
        self._enqueue(Decided(outcome), 0)

    def watch_hold(self) -> None:
        """Apply what has been held for long enough; called once a second."""
        now = Moment(asyncio.get_running_loop().time(), time.time())
        outcome = self.quarantine.tick(self.store, following=self.freshness.connected, now=now)
        if outcome:
            self.decide(outcome)

    def _serve_full_set(self) -> None:
        if self._served is None:
            return
        self._served.take_over(self.table)
        self.table, self._served = self._served, None
        self.compiler.table = self.table
        if self.recorder is not None:
            self.recorder.invalidate()

    async def idle(self) -> None:
        """Wait for a consistent point: nothing queued, nothing dirty."""
        waiter = asyncio.get_running_loop().create_future()
        self._idle_waiters.append(waiter)
        self._schedule()
        await waiter

    # Restore and recompile ----------------------------------------------------------------------------------------

    def resume(self, positions: dict[str, str], identity: str, epoch: int) -> None:
        """Take over what is known of the state that was restored into the table; its objects follow by `load`."""
        self.positions, self.identity, self.epoch = dict(positions), identity, epoch

    def start_over(self) -> None:
        """Have names without their objects: what is served stays until the source has delivered everything anew."""
        # What waits is of the state that is left behind: the new one begins with nothing, and loses nothing of it.
        self._queue.clear()
        self._queued, self._step, self._after_step = 0, None, None
        self._served = self.table
        self.table = type(self.table)(self.table.zones)
        self.compiler = Compiler(self.profile, self.table)
        self.store = Store(needs_namespace=self.store.needs_namespace)
        self.compiler.declare_zones()
        self.positions.clear()
        self.quarantine.start_over()

    async def load(self, objects: Iterable[Stored | Touched], *, compiled: bool) -> None:
        """Fill the store from disk.

        Args:
            objects: Stored, or journal rows (kind, key, owner, blob or None for gone), in order.
            compiled: the table was made from exactly these objects; otherwise they stay dirty and are compiled.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + SLICE_S
        for at, (kind, key, owner, blob) in enumerate(objects):
            if blob is None:
                self.store.delete(kind, key)
            else:
                self.store.upsert(Stored(kind, key, owner, blob))
            if not at % 64 and loop.time() >= deadline_s:
                await asyncio.sleep(0)
                deadline_s = loop.time() + SLICE_S
        if compiled:
            self.store.forget_dirty()
        else:
            self.compiler.declare_zones()
            await self.idle()

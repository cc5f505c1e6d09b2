"""What people have ordered, and what becomes of it: overrides for the responder, a pinned generation in its table.

Law: a document changes nothing by itself: it is looked at off the loop, and applied on it, once a second. An order ends
when its span does, also while the disk hangs. What can't be done (a generation that is gone) is told once and takes no
answer away: what was served before goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from agent import wire
from agent.control.folder import OVERRIDES, PIN, Folder
from agent.control.overrides import Override, Overrides
from agent.control.pin import Pin
from agent.control.span import Deadlines, Now, Span, now
from agent.control.watch import REFUSED, SAME, Watch
from agent.errors import NodensError, SnapshotError
from agent.observe.transitions import transition
from agent.observe.words import moment
from agent.records.names import packed, to_wire
from agent.records.rrset import address_rrsets, single
from agent.records.zone import Profile
from agent.server.overriding import NO_ZONE, Overridden, forged
from agent.server.responder import Responder
from agent.snapshot.compiler import zones_of
from agent.snapshot.format import Generation
from agent.snapshot.freshness import STALE_TTL_S
from agent.snapshot.generations import Generations
from agent.snapshot.restore import alone, recompile, restore
from agent.wire import node as nodes
from agent.wire.codes import CNAME
from agent.wire.posture import STALE, Posture
from agent.wire.table import AnswerTable

LOOK_S = 1.0
TTL_S = 5
"""TTL of an override's answers, seconds; less when it ends sooner."""
READ_FOR_S = 10.0
"""How long a table that is no longer served is kept: a worker ends the batch it has begun with it."""
SLICE_S = 0.002
"""Longest piece of compiling between two looks at the sockets, seconds."""


Seen = list[tuple[Watch[Any], str]]
"""Documents that changed, and how: REFUSED or CHANGED."""


class Pinned(NamedTuple):
    """A pinned generation that is served.

    Attributes:
        pin: the order.
        table: its answers.
        confirmed_s: when its source last confirmed it, on the loop's clock.
    """

    pin: Pin
    table: AnswerTable
    confirmed_s: float


class Orders:
    """Follows the control documents of one state directory.

    Args:
        generations: of that directory.
        profile: what decides the records; a pinned generation made under another one is compiled anew.
        clocks: for tests.

    Attributes:
        pinned: what is served instead of the newest state; None: nothing is.
        problems: document → why what it orders is not done.
        ended: overrides whose time has come, since the start.
    """

    def __init__(self, generations: Generations, profile: Profile, clocks: Callable[[], Now] = now) -> None:
        self.pinned: Pinned | None = None
        self.problems: dict[str, str] = {}
        self.ended = 0
        self._generations = generations
        self._profile = profile
        self._clocks = clocks
        self._overrides = Watch(generations.state_dir, OVERRIDES, Overrides)
        self._pin = Watch(generations.state_dir, PIN, Pin)
        self._watches: tuple[Watch[Any], ...] = (self._overrides, self._pin)
        self._deadlines = Deadlines()
        self._active: dict[str, Override] = {}
        self._tried: Pin | None = None
        self._former: list[tuple[AnswerTable, float]] = []

    @property
    def refused(self) -> int:
        """Documents that could not be believed, since the start."""
        return self._overrides.refused + self._pin.refused

    def begin(self) -> None:
        """Take up what is ordered before the first answer is given, however long that takes."""
        self._notice(self.look())
        pin = self.wanted()
        if pin is None:
            return
        try:
            generation = self._generations.read(pin.generation)
            table, steps = self._prepare(generation)
            for _ in steps:
                pass
            self._take(pin, generation, table)
        except SnapshotError as error:
            self._refuse(pin, error)

    async def follow(self, changed: Callable[[], None]) -> None:
        """Look once a second for ever, off the loop: no tick waits for a disk. `changed` is called after news."""
        while True:
            seen = await asyncio.to_thread(self.look)
            self._notice(seen)
            await self._follow_pin()
            if seen:
                changed()
            await asyncio.sleep(LOOK_S)

    def apply(self, responder: Responder, newest: AnswerTable, posture: Posture) -> None:
        """Have a responder answer as ordered under a posture that `posture` gave; `newest` is served without a pin."""
        table = self.pinned.table if self.pinned is not None else newest
        if responder.table is not table:
            responder.table = table
        responder.overrides = self._overridden(table)
        responder.posture = posture

    def posture(self, posture: Posture, now_s: float) -> Posture:
        """Give what answers are given under, orders considered.

        A pinned generation is stale by intent: it is marked as such however well the source is followed, and is not
        subject to `max_stale`, because a person has asked for it.
        """
        if self.pinned is not None and self.wanted() is None:
            transition("unpinned", generation=self.pinned.pin.generation)
            self._let_go(now_s)
        self._former = [each for each in self._former if now_s - each[1] < READ_FOR_S]
        posture = posture._replace(overrides=len(self.active()))
        if self.pinned is None:
            return posture
        age_s = int(max(0.0, now_s - self.pinned.confirmed_s))
        number = self.pinned.pin.generation
        return posture._replace(state=STALE, ttl_cap_s=STALE_TTL_S, age_s=age_s, generation=number, pinned=True)

    # Documents ----------------------------------------------------------------------------------------------------

    def look(self) -> Seen:
        """Look at the documents; blocks for as long as the disk does. What was seen is for `_notice`."""
        return [(watch, seen) for watch in self._watches if (seen := watch.look()) != SAME]

    def _notice(self, seen: Seen) -> None:
        """Take up what was seen."""
        for watch, what in seen:
            if what == REFUSED:
                self.problems[watch.name] = watch.problem
                transition("order_refused", document=watch.name, reason=watch.problem)
            else:
                self.problems.pop(watch.name, None)
        spans = {each.span for each in self._ordered()}
        if self._pin.order is not None and self._pin.order.span is not None:
            spans.add(self._pin.order.span)
        self._deadlines.keep(frozenset(spans))

    def spared(self) -> frozenset[int]:
        """Read which generations must not be pruned: called on the disk's thread, just before."""
        try:
            with Folder(self._generations.state_dir) as folder:
                pin = folder.read(PIN, Pin)
        except NodensError:
            pin = self._pin.order
        return frozenset((pin.generation,) if pin is not None else ())

    # Overrides ----------------------------------------------------------------------------------------------------

    def active(self) -> list[tuple[Override, float]]:
        """List the overrides that hold and the seconds they have left, the first to end first."""
        at = self._clocks()
        left = [(each, self._left_s(each.span, at)) for each in self._ordered()]
        return sorted(((each, left_s) for each, left_s in left if left_s > 0), key=lambda row: row[1])

    def _overridden(self, table: AnswerTable) -> dict[bytes, Overridden]:
        """Make what the responder answers at overridden names right now; tells what began and what ended."""
        active = self.active()
        self._tell({each.name: each for each, _ in active})
        return {each.key: answers_of(each, left_s, table) for each, left_s in active}

    def _ordered(self) -> tuple[Override, ...]:
        return self._overrides.order.overrides if self._overrides.order is not None else ()

    def _left_s(self, span: Span, at: Now) -> float:
        return self._deadlines.left_s(span, at)

    def _tell(self, active: dict[str, Override]) -> None:
        if active == self._active:
            return
        ordered = {each.name for each in self._ordered()}
        for name, before in self._active.items():
            if name not in active:
                is_over = name in ordered
                self.ended += is_over
                transition("override_ended" if is_over else "override_unset", name=name, answered=before.says)
        for name, each in active.items():
            if self._active.get(name) != each:
                until = moment(each.span.until_unix_s)
                transition("override_set", name=name, answers=each.says, until=until, who=each.who, reason=each.reason)
        self._active = active

    # Pin ------------------------------------------------------------------------------------------------------------

    def wanted(self) -> Pin | None:
        """Give the pin that holds right now."""
        pin = self._pin.order
        if pin is None or (pin.span is not None and not self._left_s(pin.span, self._clocks())):
            return None
        return pin

    async def _follow_pin(self) -> None:
        """Take up a new pin, or let go of one that is over."""
        pin = self.wanted()
        if pin is None:
            self.problems.pop(_SERVED, None)
            self._tried = None
            return
        if pin == self._tried:
            return
        try:
            generation = await asyncio.to_thread(self._generations.read, pin.generation)
            table, steps = self._prepare(generation)
            loop = asyncio.get_running_loop()
            deadline_s = loop.time() + SLICE_S
            for _ in steps:
                if loop.time() >= deadline_s:
                    await asyncio.sleep(0)
                    deadline_s = loop.time() + SLICE_S
        except SnapshotError as error:
            self._refuse(pin, error)
            return
        if self.wanted() == pin:
            self._take(pin, generation, table)

    def _prepare(self, generation: Generation) -> tuple[AnswerTable, Iterator[None]]:
        recovered = alone(generation)
        table = wire.new_table(zones_of(self._profile))
        made = restore(recovered, table, self._profile)
        if made.is_compiled:
            return table, iter(())
        table = wire.new_table(zones_of(self._profile))
        return table, recompile(recovered, self._profile, table)

    def _take(self, pin: Pin, generation: Generation, table: AnswerTable) -> None:
        now_s, age_s = time.monotonic(), max(0.0, time.time() - generation.header.confirmed_unix_s)
        self._let_go(now_s)
        self.pinned = Pinned(pin, table, now_s - age_s)
        self._tried = pin
        self.problems.pop(_SERVED, None)
        until = moment(pin.span.until_unix_s) if pin.span is not None else "unpinned"
        transition("pinned", generation=pin.generation, until=until, who=pin.who, reason=pin.reason)

    def _let_go(self, now_s: float) -> None:
        if self.pinned is not None:
            self._former.append((self.pinned.table, now_s))
            self.pinned = None

    def _refuse(self, pin: Pin, error: SnapshotError) -> None:
        self._tried = pin
        self.problems[_SERVED] = f"generation {pin.generation} is pinned, and can't be served: {error}"
        transition("pin_refused", generation=pin.generation, reason=str(error))


_SERVED = "pinned generation"


def answers_of(each: Override, left_s: float, table: AnswerTable) -> Overridden:
    """Make what is answered at an overridden name by a responder of that table."""
    # A second passes until this is made anew, and no answer may be kept for longer than the override holds.
    ttl_s = min(TTL_S, max(0, int(left_s - LOOK_S)))
    zone = table.zone_of(each.key)
    # In its last seconds what it doesn't say has no SOA either, whose TTL would be longer.
    number = zone.number if zone is not None and ttl_s == TTL_S else NO_ZONE
    if each.cname:
        rrsets, flags = [single(CNAME, ttl_s, to_wire(each.cname))], nodes.EXPLICIT | nodes.CNAME_NODE
    else:
        addresses = (packed(address) or b"" for address in each.addresses)
        rrsets, flags = address_rrsets(addresses, ttl_s), nodes.EXPLICIT
    node = nodes.encode(flags=flags, zone=number, rrsets=tuple(rrsets))
    return Overridden(node, forged(each.name, moment(each.span.until_unix_s)))

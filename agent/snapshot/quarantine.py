"""Suspicious change is held apart: the previous state goes on answering (outage.md rule 4).

Law: pure, takes `now`; stands between what the source says and the store. Harmless changes pass at once. What takes
something away is judged together with all that went lately (`guard`); once that is too much, it is held, and what of
it had been applied already is taken back. For every object the newest version is held, so that whatever is decided
later, in whatever order, ends at what the source said last. A position that a restart resumes from never passes a
change that is held: a restart meets the change again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from agent.cluster.objects import (
    ENDPOINT_SLICE,
    KINDS,
    SERVICE,
    Stored,
)
from agent.cluster.store import Store
from agent.snapshot.difference import sentence
from agent.snapshot.guard import (
    LEAST_FOR_SIZE,
    PROTECTED,
    RULES,
    SIZE,
    Guard,
    Limits,
    Reason,
)
from agent.snapshot.harm import Harmful, covers, emptied, harm, has, is_about, listed, names, put, weight_in, weight_of
from agent.snapshot.hold import EXPIRED, MENDED, OUTCOMES, REJECTED, RESUMED_S, Held, Hold, Log, Moment, name_of
from agent.snapshot.losses import Key, Losses, Place

STEP = 256
"""Objects of one piece of work."""


class Quarantine:
    """Lets changes into the store, or holds them.

    Args:
        limits: see `Guard`.
        log: one line per transition.

    Attributes:
        held: what is held, by kind and key.
        reasons: rule broken → how much is held for it.
        hold: set while anything is held.
        frozen: kind → place that a restart has to resume from while something of the kind is held.
        holds: rule → how often it was broken.
        outcomes: how often a quarantine ended, and how.
        applied: changes that reached the store.
        has_ended: a quarantine ended since somebody set this to False: positions on disk may go on.
    """

    def __init__(self, limits: Limits, log: Log) -> None:
        self.guard = Guard(limits)
        self.held: dict[Key, Held] = {}
        self.reasons: dict[Reason, int] = {}
        self.hold: Hold | None = None
        self.frozen: dict[str, Place] = {}
        self._number = 0
        self._valid_from = 0
        self._held_of = dict.fromkeys(KINDS, 0)
        self.holds = dict.fromkeys(RULES, 0)
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.applied = 0
        self.has_ended = False
        self.carried: Hold | None = None
        self._last_id = ""
        self._carried_until_s: float | None = None
        self._trusted: set[str] = set()
        self._losses = Losses()
        self._log = log

    # What the source says ----------------------------------------------------------------------------------------

    def replace(self, store: Store, kind: str, objects: list[Stored], position: str, now: Moment) -> Iterator[int]:
        """Take a full set, in steps."""
        if kind in self._trusted:
            self._trusted.discard(kind)
            yield from store.replace(kind, objects)
            return
        base = store.count(kind)
        limit = base * self.guard.limits.max_growth
        is_too_large = self.guard.limits.enabled and base >= LEAST_FOR_SIZE and len(objects) > limit
        size = Reason(SIZE, kind, base, limit) if is_too_large else None
        seen = {stored.key for stored in objects}
        missing = [key for key in store.keys(kind) if key not in seen]
        missing += [key for each, key in self.held if each == kind and key not in seen and not has(store, kind, key)]
        changes: Iterable[tuple[str, Stored | None]] = listed(objects, missing)
        yield from self._admit(store, kind, changes, position, now, size)

    def apply(
        self, store: Store, kind: str, changes: list[tuple[str, Stored | None]], position: str, now: Moment
    ) -> Iterator[int]:
        """Take changes in order, in steps."""
        yield from self._admit(store, kind, changes, position, now, None)

    def _admit(
        self,
        store: Store,
        kind: str,
        changes: Iterable[tuple[str, Stored | None]],
        position: str,
        now: Moment,
        size: Reason | None,
    ) -> Iterator[int]:
        self._number += 1
        place = Place(self._number, position)
        if kind == ENDPOINT_SLICE:
            self.guard.sample(store.ready, now.s)
        is_first = not store.count(kind)
        is_on = self.guard.limits.enabled
        harmful: Harmful = {}
        for at, (key, new) in enumerate(changes):
            if self.held:
                self._let_go((kind, key))
            weight = harm(self.guard.limits.protected, store, kind, key, new) if is_on else None
            if weight is None and size is not None and new is not None and not has(store, kind, key):
                weight = 1
            if weight is None:
                harmful.pop(key, None)
                if kind == SERVICE and new is not None and not is_first and not has(store, kind, key):
                    self.guard.come(key, now.s)
                self.applied += put(store, kind, key, new)
                if new is not None:
                    self._losses.take((kind, key))
            else:
                harmful[key] = (new, weight)
            if at % STEP == STEP - 1:
                yield at
        if harmful:
            yield from self._judge(store, kind, harmful, place, now, size)
        if self.hold is not None:
            yield from self._settle(store, now)

    # Judgement ---------------------------------------------------------------------------------------------------

    def _judge(
        self, store: Store, kind: str, harmful: Harmful, place: Place, now: Moment, size: Reason | None
    ) -> Iterator[int]:
        if size is not None:
            self._break([size])
        left = self._hold_covered(store, kind, harmful, place)
        reasons = emptied(self.guard.limits.protected, store, kind, left)
        if kind == ENDPOINT_SLICE:
            self._expire(now.s)
            owners = {held.owner for key in left if (held := store.held(kind, key)) is not None}
            services = self._losses.owners_with(owners)
            reasons += self.guard.judge_endpoints(store, sum(weight for _, weight in left.values()), services)
        else:
            reasons += self.guard.judge_names(store, names(store, kind, left), now.s)
        if reasons:
            self._break(reasons)
            self._expire(now.s)
            left = self._hold_covered(store, kind, left, place)
            yield from self._roll_back(store)
        for at, (key, (new, _)) in enumerate(left.items()):
            self._note(store, kind, key, new, place, now.s)
            self.applied += put(store, kind, key, new)
            if at % STEP == STEP - 1:
                yield at
        self._mind_clock(store, now)

    def _break(self, reasons: list[Reason]) -> None:
        for reason in reasons:
            if reason not in self.reasons:
                self.reasons[reason] = 0
                self.holds[reason.rule] += 1

    def _hold_covered(self, store: Store, kind: str, harmful: Harmful, place: Place) -> Harmful:
        """Hold what a broken rule covers; gives the rest."""
        if not self.reasons:
            return harmful
        left: Harmful = {}
        for key, (new, weight) in harmful.items():
            reason = self._covering(kind, key, new, store.held(kind, key))
            if reason is None:
                left[key] = (new, weight)
            else:
                self._hold(store, (kind, key), Held(new, reason, weight_in(kind, reason, weight)), place)
        return left

    def _covering(self, kind: str, key: str, new: Stored | None, before: Stored | None) -> Reason | None:
        """Find the broken rule that a harmful change falls under."""
        owner = before.owner if before is not None else key
        held = self.held.get((SERVICE, owner)) if kind == ENDPOINT_SLICE else None
        if held is not None and held.stored is None:
            return held.reason
        for reason in self.reasons:
            if covers(reason, kind, key, new, before):
                return reason
        return None

    def _hold(self, store: Store, at: Key, held: Held, place: Place) -> None:
        self._let_go(at)
        self._losses.take(at)
        self.held[at] = held
        self._held_of[at[0]] += 1
        self.reasons[held.reason] += held.weight
        self.frozen[at[0]] = min(place, self.frozen.get(at[0], place))
        if at[0] == SERVICE and held.stored is None:
            for each in self._losses.slices_of(at[1]):
                self._take_back(store, each, held.reason)

    def _let_go(self, at: Key) -> None:
        held = self.held.pop(at, None)
        if held is None:
            return
        self._held_of[at[0]] -= 1
        if held.reason in self.reasons:
            self.reasons[held.reason] -= held.weight

    # What went before it was too much ----------------------------------------------------------------------------

    def _note(self, store: Store, kind: str, key: str, new: Stored | None, place: Place, now_s: float) -> None:
        """Remember a loss that is about to be applied."""
        before = store.held(kind, key)
        if before is None:
            return
        for name in names(store, kind, {key: (new, 0)}):
            self.guard.lose(name, now_s)
        self._expire(now_s)
        self._losses.add(before, now_s, place)

    def _expire(self, now_s: float) -> None:
        limits = self.guard.limits
        self._losses.expire(now_s - max(limits.window_s, limits.unready_window_s))

    def _roll_back(self, store: Store) -> Iterator[int]:
        """Take back what had gone, as far as a broken rule covers it: Services first, their slices follow them."""
        for number, at in enumerate(self._losses.keys()):
            note = self._losses.get(at)
            if note is not None:
                reason = self._covering(*at, store.held(*at), note.before)
                if reason is not None:
                    self._take_back(store, at, reason)
            if number % STEP == STEP - 1:
                yield number

    def _take_back(self, store: Store, at: Key, reason: Reason) -> None:
        note, now = self._losses.take(at), store.held(*at)
        if note is None:
            return
        weight = weight_of(store, note.before, now, reason)
        store.upsert(note.before)
        if at[0] == SERVICE:
            self.guard.find(at[1])
        self._hold(store, at, Held(now, reason, weight), note.place)

    # The end -----------------------------------------------------------------------------------------------------

    def _settle(self, store: Store, now: Moment) -> Iterator[int]:
        """Apply what a rule holds once that is less than half of what the rule allows, or nothing any more."""
        for reason, weight in list(self.reasons.items()):
            if weight * 2 <= reason.limit:
                yield from self._release(store, [at for at, held in self.held.items() if held.reason == reason])
                del self.reasons[reason]
        self._thaw()
        if not self.reasons:
            self._end(MENDED, now)

    def _thaw(self) -> None:
        for kind in [kind for kind in self.frozen if not self._held_of[kind]]:
            del self.frozen[kind]

    def _release(self, store: Store, keys: list[Key]) -> Iterator[int]:
        for at, key in enumerate(keys):
            held = self.held.get(key)
            if held is not None:
                self._let_go(key)
                self.applied += put(store, *key, held.stored)
            if at % STEP == STEP - 1:
                yield at

    def finish(self, store: Store, outcome: str, now: Moment) -> Iterator[int]:
        """Apply all that is held (accepted, expired) or drop it (rejected), in steps.

        Time alone takes no protected name away: what an expired quarantine holds of those stays held, as another one
        that only a person, or the source, can end.
        """
        if self.hold is None:
            return
        if outcome != REJECTED:
            keeps = self.guard.limits.protected if outcome == EXPIRED and self.guard.limits.enabled else ()
            yield from self._release(store, [at for at in self.held if not is_about(keeps, store, *at)])
        kept = dict(self.held) if outcome == EXPIRED else {}
        frozen = dict(self.frozen)
        self._end(outcome, now)
        self.guard.forget()
        self._losses.clear()
        if kept:
            self._keep(store, kept, frozen, now)

    def _keep(self, store: Store, kept: dict[Key, Held], frozen: dict[str, Place], now: Moment) -> None:
        """Hold what is left of an expired quarantine, each under the protected name that it is about."""
        for at, held in kept.items():
            before = store.held(*at)
            reason = Reason(PROTECTED, before.owner if before is not None else at[1], 1, 0)
            self._break([reason])
            self._hold(store, at, held._replace(reason=reason), frozen[at[0]])
        self._mind_clock(store, now)

    def _end(self, outcome: str, now: Moment) -> None:
        hold, count = self.hold, len(self.held)
        self._clear()
        if hold is not None:
            self.has_ended = True
            self.outcomes[outcome] += 1
            self._log(f"quarantine_{outcome}", id=hold.id, after_s=round(now.s - hold.since_s, 1), dropped=count)

    def start_over(self) -> None:
        """Forget everything: what comes next is another state, filled from nothing."""
        if self.hold is not None:
            self._log("quarantine_dropped", id=self.hold.id)
        self._clear()
        self._losses.clear()
        self.guard.start_over()

    def _clear(self) -> None:
        self.hold = None
        for table in (self.held, self.reasons, self.frozen):
            table.clear()
        self._held_of = dict.fromkeys(KINDS, 0)

    def trust(self) -> None:
        """Take the next full set of each kind as it is: other objects are wanted than those that were restored."""
        self._trusted = set(KINDS)

    # The clock ---------------------------------------------------------------------------------------------------

    def _mind_clock(self, store: Store, now: Moment) -> None:
        """Start the clock of what is held, or start it anew when that became much more."""
        if not self.held:
            self.reasons.clear()
            return
        size, before = len(self.held), self.hold
        if before is not None and size <= before.size * 2 and not before.is_over(now, self.guard.limits.hold_for_s):
            return
        self._last_id = name_of(now.unix_s, self._last_id)
        self.hold = Hold(self._last_id, now.s, now.unix_s, size)
        if before is None and self.carried is not None:
            carried, self.carried = self.carried, None
            if size <= carried.size * 2:
                self.hold = carried
        self._log(
            "quarantine_began" if before is None else "quarantine_grew",
            id=self.hold.id,
            held=size,
            difference="; ".join(self.differences(store)),
        )

    def carry(self, hold: Hold) -> None:
        """Take over the clock of a quarantine that was on when the last life ended: the change will come again."""
        self.carried, self._last_id = hold, hold.id

    def tick(self, store: Store, *, following: bool, now: Moment) -> str:
        """Say how the quarantine ends by itself now, "" if it goes on or there is none."""
        if self.carried is not None and following:
            if self._carried_until_s is None:
                self._carried_until_s = now.s + RESUMED_S
            elif now.s >= self._carried_until_s:
                self.carried = None
        if self.hold is None:
            return ""
        if not self.guard.limits.enabled:
            return EXPIRED
        return (
            EXPIRED if self.hold.is_over(now, self.guard.limits.hold_for_s) and not self.needs_a_person(store) else ""
        )

    def needs_a_person(self, store: Store) -> bool:
        """Tell whether nothing is held that is applied by itself: only what is about protected names, or for ever."""
        limits = self.guard.limits
        return not limits.hold_for_s or all(is_about(limits.protected, store, *at) for at in self.held)

    @property
    def losses_dropped(self) -> int:
        """Losses that can't be taken back any more, because there were too many."""
        return self._losses.dropped

    def positions(self, positions: Mapping[str, str]) -> dict[str, str]:
        """Give the positions that a restart may resume from."""
        frozen = {
            kind: place.position if place.number > self._valid_from else "" for kind, place in self.frozen.items()
        }
        return {**positions, **frozen}

    def forget_positions(self) -> None:
        """Give no position of before any more: the source's history is another one, and is listed anew."""
        self._valid_from = self._number

    def differences(self, store: Store) -> list[str]:
        """Say in words what applying all that is held would do, one sentence for each broken rule."""
        return [sentence(reason, weight, self.held, store) for reason, weight in self.reasons.items()]

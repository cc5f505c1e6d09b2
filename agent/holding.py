"""The quarantine as people meet it: shown on disk, decided on disk, ended by its clock.

Law: the loop is never held up by a disk; a document that can't be written is told and tried again, and neither that nor
a decision that can't be read changes an answer.
"""

from __future__ import annotations

import asyncio
import time

from agent.control.folder import DECISION, QUARANTINE, Folder
from agent.control.quarantine import MAX_CHANGES, Decision, HeldChange, HeldDocument
from agent.control.watch import CHANGED, REFUSED, Watch
from agent.errors import ControlError
from agent.snapshot.files import AbsentError
from agent.snapshot.hold import ACCEPTED, REJECTED, Hold, Log
from agent.snapshot.publisher import Publisher

LOOK_S = 1.0
"""How often decisions are looked for, and the clock."""
RENEW_S = 5.0
"""How often the document is written while only the number of held objects changes."""


class Holding:
    """Keeps `quarantine.json` right and follows `decision.json`.

    Args:
        state_dir: of the agent.
        publisher: whose quarantine it is.
        log: one line per transition.

    Attributes:
        shown: the document as it should lie on disk; None: nothing is held.
        problem: why it does not, "" if it does.
    """

    def __init__(self, state_dir: str, publisher: Publisher, log: Log) -> None:
        self.shown: HeldDocument | None = None
        self.problem = ""
        self._state_dir = state_dir
        self._publisher = publisher
        self._log = log
        self._decisions = Watch(state_dir, DECISION, Decision)
        self._on_disk: HeldDocument | None = None
        self._shown_at_s = float("-inf")

    def restore(self) -> None:
        """Take over the clock of a quarantine that was on when the last life ended; called once, at the start."""
        try:
            with Folder(self._state_dir) as folder:
                self._on_disk = folder.read(QUARANTINE, HeldDocument)
        except AbsentError:
            return
        except ControlError as error:
            self._log("order_refused", reason=str(error))
            return
        found = self._on_disk
        if found is not None:
            age_s = max(0.0, time.time() - found.since_unix_s)
            self._publisher.quarantine.carry(
                Hold(found.id, time.monotonic() - age_s, found.since_unix_s, max(1, found.size))
            )
            self.shown = found
            self._log("quarantine_carried", id=found.id, age_s=round(age_s, 1))

    async def run(self) -> None:
        """Look once a second, for ever."""
        while True:
            self._publisher.watch_hold()
            seen = await asyncio.to_thread(self._decisions.look)
            if seen == REFUSED:
                self._log("order_refused", reason=self._decisions.problem)
            elif seen == CHANGED or self._decisions.order is not None:
                await self._decide(self._decisions.order)
            self._show()
            if self.shown != self._on_disk:
                await asyncio.to_thread(self._write, self.shown)
            await asyncio.sleep(LOOK_S)

    async def _decide(self, decision: Decision | None) -> None:
        quarantine = self._publisher.quarantine
        if decision is None:
            return
        if quarantine.hold is None or decision.id != quarantine.hold.id:
            if quarantine.carried is not None and decision.id == quarantine.carried.id:
                return  # It counts when the change has come again.
            self._log("decision_void", id=decision.id, reason=decision.reason)
        else:
            self._publisher.decide(ACCEPTED if decision.accept else REJECTED)
            await self._publisher.idle()
        self._decisions.order = None
        await asyncio.to_thread(self._forget_decision)

    def _show(self) -> None:
        """Work out what is to be shown."""
        quarantine, now_s = self._publisher.quarantine, time.monotonic()
        hold = quarantine.hold
        if hold is None:
            if quarantine.carried is None:
                self.shown = None
        elif self.shown is None or self.shown.id != hold.id or now_s - self._shown_at_s >= RENEW_S:
            self.shown, self._shown_at_s = document(self._publisher, hold), now_s
        shown = self.shown
        self._publisher.freshness.held = f"{shown.id} held={shown.objects}" if shown is not None else ""

    def _write(self, shown: HeldDocument | None) -> None:
        try:
            if shown is None:
                self._remove(QUARANTINE)
            else:
                with Folder(self._state_dir, make=True) as folder:
                    folder.write(QUARANTINE, shown)
        except (AbsentError, ControlError) as error:
            if not self.problem:
                self._log("quarantine_not_written", reason=str(error))
            self.problem = str(error)
            return
        self.problem, self._on_disk = "", shown

    def _remove(self, name: str) -> None:
        """Take a document away; raises ControlError."""
        try:
            with Folder(self._state_dir) as folder:
                folder.remove(name)
        except AbsentError:
            return

    def _forget_decision(self) -> None:
        try:
            self._remove(DECISION)
        except ControlError as error:
            self._log("order_refused", reason=str(error))


def document(publisher: Publisher, hold: Hold) -> HeldDocument:
    """Write down what is held."""
    quarantine, store = publisher.quarantine, publisher.store
    hold_for_s = quarantine.guard.limits.hold_for_s
    changes: list[HeldChange] = []
    for (kind, key), held in quarantine.held.items():
        if len(changes) == MAX_CHANGES:
            break
        what = "would go" if held.stored is None else "would change"
        changes.append(HeldChange(kind, key, what if store.held(kind, key) is not None else "would come"))
    return HeldDocument(
        id=hold.id,
        since_unix_s=hold.since_unix_s,
        applied_unix_s=0.0 if quarantine.needs_a_person(store) else hold.since_unix_s + hold_for_s,
        size=hold.size,
        objects=len(quarantine.held),
        differences=tuple(quarantine.differences(store)),
        changes=tuple(changes),
    )

"""What a person should know of an agent right now, worst first, each with what to type.

Law: pure; one function for each thing that can be wrong, in `_NOTES`. The same notes stand in `nodens status` and on
the page. What to do is something that can be typed or done.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from agent.observe.status import Status
from agent.observe.words import count, held_in_words, orders_in_words, state_in_words

GOOD, INFO, WARN, BAD = "good", "info", "warn", "bad"
SEVERITIES = (GOOD, INFO, WARN, BAD)
"""From nothing to do, over good to know and look today, to look now."""
MAX_REFUSED = 3
MAX_WHY = 120
"""Characters of the source's trouble in the headline; all of it stands in its own row."""
NOT_READY = "not ready"
LOW_BUDGET_PERCENT = 10
_STATE_SEVERITIES = {"fresh": GOOD, "stale": WARN, "expired": BAD, "not_ready": BAD}


class Note(NamedTuple):
    """One thing to know.

    Attributes:
        severity: one of `SEVERITIES`.
        title: two words at most, such as `disk trouble`.
        sentence: what is the matter.
        do: what to type or do; empty when there is nothing.
    """

    severity: str
    title: str
    sentence: str
    do: str = ""

    def __str__(self) -> str:
        return f"{self.sentence.removesuffix('.')}. Do: {self.do}." if self.do else self.sentence


def headline(status: Status, others: list[Note]) -> Note:
    """Give the one line to read: the state, and if that is well the worst note.

    Args:
        status: of the agent.
        others: see `notes`.
    """
    title, sentence = state_in_words(status)
    severity = _STATE_SEVERITIES.get(status.state, BAD)
    if severity == GOOD and not status.source.connected:
        severity = WARN
    state = Note(severity, title, sentence, _remedy(status))
    if not others or others[0].severity == INFO:
        return state
    worst = others[0]
    if severity == WARN and worst.severity == BAD:
        return state._replace(title=f"{title}, {worst.title}")
    if severity != GOOD:
        return state
    return Note(worst.severity, f"{title}, {worst.title}", worst.sentence, worst.do)


def notes(status: Status) -> list[Note]:
    """List what else there is to know, worst first; of one severity in the order of `_NOTES`."""
    found = [note for look in _NOTES for note in look(status)]
    return sorted(found, key=lambda note: -SEVERITIES.index(note.severity))


def _remedy(status: Status) -> str:
    """What to do about the state."""
    source = status.source
    if status.state == "fresh" and source.connected:
        return ""
    why = source.note if len(source.note) <= MAX_WHY else source.note[: MAX_WHY - 1] + "…"
    mend = f"mend this: {why}" if why else "see the log for what keeps the source away"
    if status.state == "fresh":
        return "nothing yet; a restart is safe"
    if status.state == "stale" and status.orders.pin is not None:
        return "when the reason is over: nodens snapshot unpin"
    if status.state == "stale":
        return f"{mend}; a restart is safe"
    if status.state == "expired":
        return f"{mend}; to answer meanwhile set max_stale to 0 and send SIGHUP"
    return mend


def _orders(status: Status) -> Iterator[Note]:
    for problem in status.orders.problems:
        yield Note(WARN, "order not done", problem, "give it again, or take it back: nodens override, snapshot unpin")
    for title, sentence in orders_in_words(status):
        yield Note(INFO, title, sentence)


def _not_ready(status: Status) -> Iterator[Note]:
    for guard, reason in status.not_ready.items():
        yield Note(BAD, NOT_READY, f"{guard}: {reason}")


def _held(status: Status) -> Iterator[Note]:
    held = status.quarantine
    if held.active:
        right, wrong = (f'nodens quarantine {word} {held.id} --reason "..."' for word in ("accept", "reject"))
        yield Note(WARN, "change held", held_in_words(held), f"{right} if it is right; {wrong} if not")


def _disk(status: Status) -> Iterator[Note]:
    held = status.snapshot
    failed = f"{count(held.persist_failures)} failed writes: {held.persist_error or 'over by now'}"
    if held.persist_error:
        where = status.process.state_dir
        yield Note(
            WARN, "disk trouble", f"{failed}; a restart would come back with older answers",
            f"df -h {where}; ls -ld {where}" if where else "look at the disk of the state directory",
        )  # fmt: skip
    elif held.persist_failures:
        yield Note(INFO, "disk trouble", failed)


def _refused(status: Status) -> Iterator[Note]:
    for refused in status.snapshot.refused[:MAX_REFUSED]:
        yield Note(INFO, "refused", refused)


def _tasks(status: Status) -> Iterator[Note]:
    failures = {task: number for task, number in status.process.task_failures.items() if number}
    if failures:
        listed = ", ".join(f"{count(number)} {task}" for task, number in failures.items())
        yield Note(WARN, "failed tasks", f"{listed}; each was started again", "look for its name in the log")


def _skipped(status: Status) -> Iterator[Note]:
    skipped = {kind: number for kind, number in status.snapshot.skipped_total.items() if number}
    if skipped:
        listed = ", ".join(f"{count(number)} {kind}" for kind, number in skipped.items())
        yield Note(INFO, "skipped", f"{listed} could not be used, the others apply", "mend the objects listed below")


def _damaged(status: Status) -> Iterator[Note]:
    damaged = status.events.get("query", {}).get("damaged_nodes", 0)
    if damaged:
        sentence = f"{count(damaged)} answers could not be made from what is held, SERVFAIL instead"
        yield Note(BAD, "damaged", sentence, "nodens snapshot verify, then restart it")


def _budget(status: Status) -> Iterator[Note]:
    access = status.source.access
    if access is None or access.budget_left * 100 > access.budget_burst * LOW_BUDGET_PERCENT:
        return
    if access.budget_left:
        sentence = f"{count(access.budget_left)} of {count(access.budget_burst)} API requests are left at once"
        yield Note(INFO, "API budget", f"{sentence}, {count(access.budget_per_hour)} an hour come back")
    else:
        sentence = (
            f"its requests are spent: one every {3600 / max(1, access.budget_per_hour):.0f} s, so changes arrive late"
        )
        yield Note(WARN, "API budget", sentence, "find in the log why it lists so often; api.burst is the bound")


def _circuit(status: Status) -> Iterator[Note]:
    access = status.source.access
    if access is None or access.circuit == "closed":
        return
    when = f"in {max(1, math.ceil(access.next_try_s))} s"
    sentence = {
        "unreachable": f"not to be reached, the next connect comes {when}",
        "open": f"left alone after failures, asked again {when}",
        "slot": f"this node's place in the fleet's return comes {when}",
    }.get(access.circuit, f"{access.circuit}, asked again {when}")
    yield Note(INFO, "API servers", sentence)


def _log_lines(status: Status) -> Iterator[Note]:
    lost = status.process.log_lines_dropped
    if lost:
        yield Note(INFO, "log", f"{count(lost)} lines were lost because stderr was stuck")


_NOTES: tuple[Callable[[Status], Iterator[Note]], ...] = (
    _not_ready,
    _orders,
    _damaged,
    _held,
    _disk,
    _tasks,
    _budget,
    _circuit,
    _refused,
    _skipped,
    _log_lines,
)

"""What is ordered, as an agent that started now would take it up: read from disk for a person.

Law: reads only; an order that can't be believed is told, never raised.
"""

from __future__ import annotations

from typing import NamedTuple

from agent.control import span
from agent.control.folder import OVERRIDES, PIN, Folder
from agent.control.overrides import Override, Overrides
from agent.control.pin import Pin
from agent.errors import ControlError
from agent.observe.words import age, moment
from agent.snapshot.files import AbsentError


class Standing(NamedTuple):
    """Orders that hold.

    Attributes:
        overrides: with the seconds they have left, the first to end first.
        pin: the generation to be served; None: the newest state.
        problems: documents that can't be believed.
    """

    overrides: tuple[tuple[Override, float], ...] = ()
    pin: Pin | None = None
    problems: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Write them for people."""
        said = list(self.problems)
        if self.pin is not None:
            said.append(pinned_in_words(self.pin))
        return said + [overridden_in_words(*row) for row in self.overrides]


def standing(state_dir: str) -> Standing:
    """Read what is ordered in a state directory."""
    now, problems = span.now(), []
    document, pin = Overrides(), None
    try:
        with Folder(state_dir, offline=True) as folder:
            try:
                document = folder.read(OVERRIDES, Overrides) or document
            except ControlError as error:
                problems.append(str(error))
            pin = folder.read(PIN, Pin)
    except AbsentError:
        pass
    except ControlError as error:
        problems.append(str(error))
    if pin is not None and pin.span is not None and not pin.span.left_s(now):
        pin = None
    left = sorted(((each, each.span.left_s(now)) for each in document.overrides), key=lambda row: row[1])
    return Standing(tuple(row for row in left if row[1] > 0), pin, tuple(problems))


def pinned_in_words(pin: Pin) -> str:
    """Say what a pin does."""
    until = moment(pin.span.until_unix_s) if pin.span is not None else "nodens snapshot unpin"
    return f"generation {pin.generation} is pinned until {until}, by {pin.who}: {pin.reason}"


def overridden_in_words(each: Override, left_s: float) -> str:
    """Say what an override answers, until when, by whom and why."""
    until = f"{moment(each.span.until_unix_s)} ({age(left_s)} left)"
    return f"{each.name} is overridden: {each.says} until {until}, by {each.who}: {each.reason}"

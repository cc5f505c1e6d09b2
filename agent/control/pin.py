"""STATE/control/pin.json: the generation that is served, whatever the source says.

Law: pure. A pin holds until its span ends or it is taken back; without a span, until it is taken back.
"""

from __future__ import annotations

import msgspec

from agent.control.folder import check_text
from agent.control.overrides import MAX_WHO_CHARS
from agent.control.span import Span

MAX_NUMBER = 10**18 - 1
_VERSION = 1


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The document.

    Attributes:
        generation: its number.
        set_unix_s: when the order was given.
        reason, who: why and by whom.
        span: for how long; None: until it is taken back.
    """

    generation: int
    set_unix_s: float
    reason: str
    who: str
    span: Span | None = None
    version: int = _VERSION

    def __post_init__(self) -> None:
        """Raise ValueError, naming what is wrong."""
        if self.version != _VERSION:
            raise ValueError(f"version {self.version}, this one reads {_VERSION}")
        if not 0 < self.generation <= MAX_NUMBER:
            raise ValueError(f"{self.generation} is the number of no generation")
        check_text(self.reason, "the reason")
        check_text(self.who, "who", MAX_WHO_CHARS)

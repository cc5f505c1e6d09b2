"""The two documents of a quarantine: what the agent holds, and what a person decided about it.

Law: the agent alone writes `quarantine.json`, and takes it away when nothing is held any more; a decision names the
quarantine that the person saw, and one about another quarantine decides nothing.
"""

from __future__ import annotations

import msgspec

from agent.control.folder import check_text

MAX_CHANGES = 200
"""Held objects that the document names."""
MAX_WORDS_CHARS = 400


class HeldChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One object that is held: its kind and key, and whether it would go, change or come."""

    kind: str
    key: str
    what: str


class HeldDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """STATE/control/quarantine.json.

    Attributes:
        id: names this quarantine; it changes when there is much more to decide.
        since_unix_s: when its clock was started.
        applied_unix_s: when it is applied by itself; 0: never.
        size: objects held when the clock was started.
        objects: objects held now.
        differences: what applying them would do, one sentence for each broken rule.
        changes: some of them.
    """

    id: str
    since_unix_s: float
    applied_unix_s: float
    size: int
    objects: int
    differences: tuple[str, ...]
    changes: tuple[HeldChange, ...]


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """STATE/control/decision.json."""

    id: str
    accept: bool
    reason: str

    def __post_init__(self) -> None:
        """Check the words; raises ValueError."""
        check_text(self.reason, "the reason")
        check_text(self.id, "the id", 40)

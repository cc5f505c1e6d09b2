"""Which transitions are worth a Kubernetes Event, and how it says so.

Law: pure; a transition's word and fields in, reason and sentence out. What a log line is enough for is not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from agent.observe.words import age

_WITHOUT = frozenset({"stale", "expired"})
_ENDINGS = {
    "quarantine_accepted": "Held change is applied: a person accepted it",
    "quarantine_rejected": "Held change is dropped: a person rejected it",
    "quarantine_expired": "Held change is applied: nobody decided in time",
    "quarantine_mended": "Held change is gone: the source took it back",
}


class Announcement(NamedTuple):
    """An Event to be: `reason` is its word, `is_trouble` makes it a Warning."""

    reason: str
    message: str
    is_trouble: bool


def announcement(event: str, fields: Mapping[str, object]) -> Announcement | None:
    """Give what a transition is announced as; None: not at all.

    Args:
        event: its word, as for `transitions.transition`.
        fields: what was said with it.
    """
    if event == "posture":
        return _posture(fields)
    if event in {"quarantine_began", "quarantine_grew"}:
        sentence = f"Suspicious change is held, the previous state answers: it {fields['difference']}"
        return Announcement("DNSChangeHeld", f"{sentence} (id {fields['id']})", is_trouble=True)
    if event in _ENDINGS:
        return Announcement("DNSChangeSettled", f"{_ENDINGS[event]} (id {fields['id']})", is_trouble=False)
    return None


def _posture(fields: Mapping[str, object]) -> Announcement | None:
    before, now, source = str(fields["before"]), str(fields["now"]), fields["source"]
    old = age(float(str(fields["age_s"])))
    if now == "stale":
        sentence = f"DNS answers come from the last good state, {old} old: {source}"
        return Announcement("DNSStale", sentence, is_trouble=True)
    if now == "expired":
        sentence = f"DNS answers SERVFAIL: the state is {old} old, past max_stale: {source}"
        return Announcement("DNSExpired", sentence, is_trouble=True)
    if now == "fresh" and before in _WITHOUT:
        return Announcement("DNSFresh", "DNS follows its source again, answers are fresh", is_trouble=False)
    return None

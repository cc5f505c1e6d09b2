"""Which transitions are worth a Kubernetes Event, and how it says so.

Law: pure; a transition's word and fields in, reason and sentence out. What a log line is enough for is not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from agent.observe.words import age

_WITHOUT = frozenset({"stale", "expired"})


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

"""Which transitions become an Event, and what it says."""

from __future__ import annotations

import pytest

from agent.observe.announcements import announcement


@pytest.mark.parametrize(
    ("before", "now", "reason", "is_trouble"),
    [
        ("fresh", "stale", "DNSStale", True),
        ("start", "stale", "DNSStale", True),
        ("stale", "expired", "DNSExpired", True),
        ("stale", "fresh", "DNSFresh", False),
        ("expired", "fresh", "DNSFresh", False),
    ],
)
def test_a_change_of_freshness_is_announced(before, now, reason, is_trouble):
    found = announcement("posture", {"before": before, "now": now, "age_s": 72, "source": "connection refused"})
    assert (found.reason, found.is_trouble) == (reason, is_trouble)
    if is_trouble:
        assert "1m 12s old" in found.message
        assert found.message.endswith("connection refused")


def test_change_that_is_held_is_announced_with_what_it_would_do():
    fields = {"id": "q-1", "held": 12, "difference": "would remove 94 % of namespace payments"}
    found = announcement("quarantine_began", fields)
    assert (found.reason, found.is_trouble) == ("DNSChangeHeld", True)
    assert found.message.endswith("it would remove 94 % of namespace payments (id q-1)")


@pytest.mark.parametrize("ending", ["accepted", "rejected", "expired", "mended"])
def test_how_it_ended_is_announced_too(ending):
    found = announcement(f"quarantine_{ending}", {"id": "q-1", "after_s": 3.0, "dropped": 2})
    assert (found.reason, found.is_trouble) == ("DNSChangeSettled", False)


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("posture", {"before": "not_ready", "now": "fresh", "age_s": 0, "source": "following"}),
        ("source_lost", {"reason": "refused"}),
        ("restored", {}),
    ],
)
def test_what_a_log_line_is_enough_for_is_not(event, fields):
    assert announcement(event, fields) is None

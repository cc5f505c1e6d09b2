from __future__ import annotations

from agent.cluster.objects import ENDPOINT_SLICE, NAMESPACE, SERVICE
from agent.snapshot.freshness import STALE_TTL_S, Freshness
from agent.wire.posture import EXPIRED, FRESH, NOT_READY, STALE


def test_without_state_nothing_is_ready():
    freshness = Freshness(60, 0)
    posture = freshness.posture(0, 5.0)
    assert (posture.state, posture.connected, posture.age_s) == (NOT_READY, False, 0)


def test_followed_state_is_fresh_whatever_its_age():
    freshness = Freshness(60, 0)
    assert freshness.follow(100.0)
    assert not freshness.follow(101.0)
    posture = freshness.posture(3, 201.0)
    assert (posture.state, posture.connected, posture.ttl_cap_s, posture.generation) == (FRESH, True, None, 3)


def test_losing_the_source_lowers_ttls_at_once_and_calls_answers_stale_later():
    freshness = Freshness(60, 0)
    freshness.follow(100.0)
    assert freshness.lose("connection refused")
    assert not freshness.lose("connection refused")
    assert freshness.lose("timed out")
    assert freshness.posture(1, 130.0)[:4] == (FRESH, False, STALE_TTL_S, 30)
    assert freshness.posture(1, 161.0)[:4] == (STALE, False, STALE_TTL_S, 61)
    assert freshness.posture(1, 161.0).note == "timed out"
    freshness.confirmed(SERVICE, 170.0)
    freshness.follow(170.0)
    assert freshness.posture(1, 171.0).state == FRESH


def test_state_is_as_old_as_the_kind_that_was_confirmed_longest_ago():
    freshness = Freshness(60, 0)
    freshness.follow(100.0)
    freshness.lose("services are forbidden")
    for now_s in (120.0, 140.0, 160.0):
        freshness.confirmed(NAMESPACE, now_s)
        freshness.confirmed(ENDPOINT_SLICE, now_s)
    assert freshness.posture(1, 161.0)[:4] == (STALE, False, STALE_TTL_S, 61)
    freshness.confirmed(SERVICE, 162.0)
    assert freshness.posture(1, 162.0).age_s == 2


def test_state_from_disk_keeps_its_age_and_a_clock_that_went_back_makes_none():
    freshness = Freshness(60, 0)
    freshness.restored(1843.0, 10.0)
    assert freshness.posture(7, 10.0)[:4] == (STALE, False, STALE_TTL_S, 1843)
    other = Freshness(60, 0)
    other.restored(-86400.0, 10.0)
    assert other.posture(7, 10.0)[:4] == (FRESH, False, STALE_TTL_S, 0)


def test_with_a_bound_old_state_expires_and_recovers():
    freshness = Freshness(60, 3600)
    freshness.restored(3601.0, 0.0)
    assert freshness.posture(1, 0.0).state == EXPIRED
    freshness.follow(1.0)
    assert freshness.posture(1, 1.0).state == FRESH

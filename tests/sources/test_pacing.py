"""Back-off, governor, healing and the reconnect window, on a clock that only moves when told."""

from __future__ import annotations

import pytest

from agent.config.options import Api
from agent.sources.pacing import Backoff, Governor, Healing, Timing, reconnect_delay_s, reconnect_window_s


class StillClock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_waits_are_drawn_from_a_span_that_doubles_up_to_its_bound():
    backoff = Backoff(0.5, 120.0)
    for failures in range(40):
        span_s = min(120.0, 0.5 * 2**failures)
        assert backoff.failures == failures
        assert 0.0 <= backoff.next_s() <= span_s


def test_waits_use_the_whole_span():
    draws = []
    for _ in range(300):
        backoff = Backoff(8.0, 8.0)
        draws.append(backoff.next_s())
    assert min(draws) < 1.0
    assert max(draws) > 7.0


def test_what_the_server_asked_for_comes_on_top():
    assert 30.0 <= Backoff(0.5, 120.0).next_s(at_least_s=30.0) <= 30.5


def test_a_caller_can_shorten_the_bound_but_not_stretch_it():
    backoff = Backoff(1.0, 10.0)
    backoff.failures = 30
    assert all(backoff.next_s(longest_s=3.0) <= 3.0 for _ in range(50))
    assert all(backoff.next_s(longest_s=99.0) <= 10.0 for _ in range(50))


def test_success_forgets():
    backoff = Backoff(1.0, 100.0)
    for _ in range(10):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 1.0


async def test_the_governor_lets_a_full_sync_through_at_once():
    clock = StillClock()
    governor = Governor(clock)
    for _ in range(600):
        await governor.take()
    assert clock.now_s == 0.0
    assert (governor.waited, governor.left) == (0, 0)


async def test_the_governor_bounds_requests_per_hour_whatever_is_asked():
    clock = StillClock()
    governor = Governor(clock, burst=10, per_hour=60)
    for _ in range(10 + 60):
        await governor.take()
    assert clock.now_s == pytest.approx(3600.0)
    assert governor.waited == 60


async def test_the_governor_s_bucket_has_a_bottom_and_a_brim():
    clock = StillClock()
    governor = Governor(clock, burst=5, per_hour=3600)
    for _ in range(5):
        await governor.take()
    clock.now_s += 10_000.0
    for _ in range(5):
        await governor.take()
    started_s = clock.now_s
    await governor.take()
    assert clock.now_s == pytest.approx(started_s + 1.0)


def test_a_kind_is_healed_when_its_period_is_over_and_not_before():
    clock = StillClock()
    healing = Healing(clock, 100.0, 10.0)
    healing.started("Service")
    clock.now_s = 79.0
    assert not healing.take("Service")
    clock.now_s = 121.0
    assert healing.take("Service")


def test_a_kind_that_never_started_is_not_due():
    clock = StillClock()
    clock.now_s = 1e9
    assert not Healing(clock, 100.0, 10.0).take("Service")


def test_two_kinds_are_never_healed_close_together():
    clock = StillClock()
    healing = Healing(clock, 100.0, 50.0)
    for kind in ("Service", "EndpointSlice"):
        healing.started(kind)
    clock.now_s = 130.0
    assert healing.take("Service")
    assert not healing.take("EndpointSlice")
    clock.now_s = 181.0
    assert healing.take("EndpointSlice")


def test_a_node_keeps_its_place_in_the_window_and_nodes_differ():
    places = [reconnect_delay_s(f"node-{number}", 300.0) for number in range(1000)]
    assert places == [reconnect_delay_s(f"node-{number}", 300.0) for number in range(1000)]
    assert all(0.0 <= place <= 300.0 for place in places)
    by_minute = [sum(1 for place in places if minute * 60 <= place < minute * 60 + 60) for minute in range(5)]
    assert min(by_minute) > 150
    assert reconnect_delay_s("node-1", 0.0) == 0.0


def test_the_window_grows_with_the_fleet_and_is_as_long_as_was_asked_for_at_least():
    assert [reconnect_window_s(nodes, 0.0) for nodes in (0, 10, 1000)] == [0.0, 1.0, 100.0]
    assert reconnect_window_s(10, 60.0) == 60.0
    # A node alone is back within 5 s (see below) with what is assumed of a fleet nobody described.
    assert reconnect_window_s(Api().fleet_nodes, 0.0) + Timing().probe_max_s + Timing().backoff_s * 2 < 5.0


def test_the_spans_keep_the_budgets_of_the_design():
    timing = Timing()
    # Back within 5 s: the last probe before, the span of a first wait (403 until the roles are read), the rest.
    assert timing.probe_max_s + timing.backoff_s * 2 + timing.settle_s < 5.0
    assert timing.watch_min_s == 30 * 60
    assert timing.watch_max_s == 60 * 60
    assert timing.idle_s >= 1.5 * 60.0  # a bookmark comes every minute
    # At most 20 requests an hour: three watches, and the list of one kind of 10,000 objects to heal it.
    assert 3 * 3600 / timing.watch_min_s + 10_000 / 1000 <= 20
    assert timing.heal_gap_s >= 3600

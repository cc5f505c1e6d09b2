"""Recent, Rate, LoopLag, words, transitions."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.observe import words
from agent.observe.lag import INTERVAL_S, LoopLag
from agent.observe.recent import Rate, Recent
from agent.observe.status import Source, Status
from agent.observe.transitions import SENTENCES, transition


def test_recent_forgets_what_is_older_than_its_window():
    recent = Recent(3600, 60)
    recent.add(1000, 5)
    recent.add(2000)
    assert recent.total(2000) == 6
    assert recent.total(1000 + 3600 + 60) == 1
    assert recent.total(10_000_000) == 0


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 5)), max_size=60))
def test_recent_counts_as_a_list_of_moments_would(steps):
    recent, now_s, moments = Recent(100, 10), 0.0, []
    for wait_s, count in steps:
        now_s += wait_s
        recent.add(now_s, count)
        moments += [now_s] * count
        total = recent.total(now_s)
        assert sum(at > now_s - 90 for at in moments) <= total <= sum(at > now_s - 101 for at in moments)


def test_rate_is_events_per_second_over_the_last_ten_to_twenty_seconds():
    rate = Rate(10)
    assert rate.sample(0, 0) == 0
    for second in range(1, 40):
        got = rate.sample(second, second * 50)
    assert got == pytest.approx(50)
    for second in range(40, 70):
        got = rate.sample(second, 39 * 50)
    assert got == 0


async def test_loop_lag_sees_how_late_the_timer_is_and_forgets_it_after_half_a_minute():
    now = [0.0]
    lateness = iter([0.0, 0.25, 0.0] + [0.0] * 400)

    async def sleep(seconds: float) -> None:
        try:
            now[0] += seconds + next(lateness)
        except StopIteration:
            await asyncio.Event().wait()
        if now[0] > seen_at[0]:
            seen.append(lag.worst_s)
            seen_at[0] += 5

    seen, seen_at = [], [5.0]
    lag = LoopLag(lambda: now[0], sleep)
    task = asyncio.create_task(lag.run())
    for _ in range(500):
        await asyncio.sleep(0)
    task.cancel()
    assert seen[0] == pytest.approx(0.25)
    assert seen[-1] == pytest.approx(0, abs=1e-9)
    assert lag.longest_s == pytest.approx(0.25)
    assert INTERVAL_S < 1


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (-5, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (1843, "30m 43s"),
        (3600, "1h"),
        (90_061, "1d 1h"),
        (86_460, "1d"),
    ],
)
def test_ages_are_written_with_their_two_largest_units(seconds, shown):
    assert words.age(seconds) == shown


@pytest.mark.parametrize(
    ("status", "title"),
    [
        (Status(state="fresh", source=Source(connected=True)), "Fresh"),
        (Status(state="fresh", age_s=7), "Fresh, source lost"),
        (Status(state="stale", age_s=1843), "Stale for 30m 43s"),
        (Status(state="expired", age_s=7200), "Expired, 2h old"),
        (Status(), "Not ready"),
    ],
)
def test_each_state_has_its_headline(status, title):
    assert words.state_in_words(status)[0] == title


def test_transitions_are_sentences_with_fields(caplog):
    caplog.set_level("INFO")
    transition("source_lost", reason="refused", name="kubernetes")
    transition("something_new", count=5)
    first, second = caplog.records
    assert first.getMessage() == SENTENCES["source_lost"][1]
    assert (first.levelname, first.reason, first.name_) == ("WARNING", "refused", "kubernetes")
    assert (second.getMessage(), second.count) == ("something new", 5)

"""For how long an order holds, whatever the clock does."""

from __future__ import annotations

import pytest

from agent.control.span import Deadlines, Now, Span, now

DAY_S = 86_400.0
SET = Now(1_800_000_000.0, 5000.0, "boot-a")
SPAN = Span(SET.unix_s, SET.boot_s, SET.boot_id, 3600.0)


def later(s: float, *, clock_s: float = 0.0, boot: str = "boot-a") -> Now:
    """The clocks `s` seconds after the order, the wall clock set by `clock_s` meanwhile."""
    boot_s = SET.boot_s + s if boot == SET.boot_id else 10.0 + s
    return Now(SET.unix_s + s + clock_s, boot_s, boot)


@pytest.mark.parametrize("clock_s", [0.0, DAY_S, -DAY_S])
def test_within_a_boot_no_setting_of_the_clock_matters(clock_s: float) -> None:
    assert SPAN.left_s(later(0, clock_s=clock_s)) == 3600
    assert SPAN.left_s(later(3599, clock_s=clock_s)) == 1
    assert SPAN.left_s(later(3600, clock_s=clock_s)) == 0


def test_over_a_reboot_the_wall_clock_counts() -> None:
    assert SPAN.left_s(later(600, boot="boot-b")) == 3000
    assert SPAN.left_s(later(7200, boot="boot-b")) == 0


def test_a_clock_set_back_over_a_reboot_gives_the_span_once_more_and_no_longer() -> None:
    assert SPAN.left_s(later(600, clock_s=-DAY_S, boot="boot-b")) == 3600
    deadlines = Deadlines()
    assert deadlines.left_s(SPAN, later(600, clock_s=-DAY_S, boot="boot-b")) == 3600
    assert deadlines.left_s(SPAN, later(600 + 1800, clock_s=-2 * DAY_S, boot="boot-b")) == 1800
    assert deadlines.left_s(SPAN, later(600 + 3600, clock_s=-2 * DAY_S, boot="boot-b")) == 0


def test_a_clock_set_forward_ends_nothing_that_was_seen() -> None:
    deadlines = Deadlines()
    assert deadlines.left_s(SPAN, later(600, boot="boot-b")) == 3000
    assert deadlines.left_s(SPAN, later(601, clock_s=DAY_S, boot="boot-b")) == 2999


def test_an_unknown_boot_is_another_one() -> None:
    span = Span(SET.unix_s, SET.boot_s, "", 3600.0)
    assert span.left_s(Now(SET.unix_s + 60, SET.boot_s + 9999, "")) == 3540


def test_what_is_no_longer_ordered_is_forgotten() -> None:
    deadlines = Deadlines()
    deadlines.left_s(SPAN, later(600, boot="boot-b"))
    deadlines.keep(frozenset())
    assert deadlines.left_s(SPAN, later(700, boot="boot-b")) == 2900


def test_the_clocks_of_this_machine_are_read() -> None:
    first, second = now(), now()
    assert first.boot_id == second.boot_id != ""
    assert second.boot_s >= first.boot_s > 0

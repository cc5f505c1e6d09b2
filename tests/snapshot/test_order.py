from __future__ import annotations

import pytest

from agent.snapshot.order import NEWER, OLDER, RESTORED, RESTORED_AFTER_S, Order


@pytest.mark.parametrize(("held", "offered"), [("", "5"), ("5", "5"), ("5", "6"), ("9", "10"), ("abc", "1"), ("5", "")])
def test_what_is_not_older_is_taken(held, offered):
    assert Order().judge(held, offered, 0.0) == NEWER


def test_older_sets_are_refused_and_counted_until_they_have_been_the_only_ones_for_long():
    order = Order()
    assert order.judge("10", "9", 0.0) == OLDER
    assert order.judge("10", "9", RESTORED_AFTER_S - 1) == OLDER
    assert order.refused == 2
    assert order.judge("10", "9", RESTORED_AFTER_S) == RESTORED
    assert order.judge("10", "9", RESTORED_AFTER_S + 1) == OLDER


def test_a_newer_set_in_between_begins_the_wait_anew():
    order = Order()
    assert order.judge("10", "9", 0.0) == OLDER
    assert order.judge("10", "11", 500.0) == NEWER
    assert order.judge("11", "9", RESTORED_AFTER_S) == OLDER

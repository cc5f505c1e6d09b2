"""A fleet of the real source in fast time: what the design promises of it, counted by the servers."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.cluster_generator import Spec
from benchmarks.fleet import scenarios
from benchmarks.fleet.fast_time import run
from benchmarks.fleet.plot import Line, Panel, svg
from benchmarks.fleet.servers import Shelf, weigh

NODES = 40


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return weigh(Spec(services=1200, endpoints=3000, namespaces=20), 1.6)


def test_a_node_of_a_steady_fleet_stays_within_its_hourly_budget(shelf):
    found = scenarios.in_fast_time(scenarios.steady(shelf, scenarios.agents, 5, 12), 1)
    assert found.requests / 5 / 12 <= 20
    assert found.lists > 0  # each kind is healed every six hours or so


def test_a_restart_of_all_lists_nothing(shelf):
    found = scenarios.in_fast_time(scenarios.restart(shelf, scenarios.agents, NODES), 1)
    assert found.requests == 4 * NODES  # who are you, and three watches
    assert found.lists == NODES  # the first of these is a list of one object


def test_an_outage_costs_no_request_and_the_return_no_more_than_one_list_of_each_kind(shelf):
    away, back = scenarios.in_fast_time(scenarios.outage(shelf, scenarios.agents, NODES), 1)
    pages = sum(len(sizes[500]) for sizes in shelf.pages.values())
    assert away.requests == 0
    assert away.connects > 0
    assert back.requests == NODES * (1 + 3 + pages + 3)  # who, watches that are refused, pages, watches
    assert back.following_s <= NODES * 0.1 + 5


@pytest.mark.slow
def test_the_window_keeps_the_herd_apart(shelf):
    _, spread = scenarios.in_fast_time(scenarios.outage(shelf, scenarios.agents, NODES), 1)
    _, herd = scenarios.in_fast_time(scenarios.outage(shelf, scenarios.agents_at_once, NODES), 1)
    assert herd.requests == spread.requests
    assert herd.peak_bytes_per_s > 1.4 * spread.peak_bytes_per_s


def test_client_go_lists_again_after_a_restart_and_a_minute_after_a_long_outage(shelf):
    restarted = scenarios.in_fast_time(scenarios.restart(shelf, scenarios.clients, NODES), 1)
    assert restarted.lists == 3 * NODES
    assert restarted.size_bytes > sum(shelf.streamed.values()) * NODES
    away, back = scenarios.in_fast_time(scenarios.outage(shelf, scenarios.clients, NODES), 1)
    assert away.requests == 0
    assert back.lists == 3 * NODES
    assert 30 <= back.following_s <= 120  # two waits of 30 to 60 s at most


def test_fast_time_waits_for_nothing_and_never_for_ever():
    async def main() -> tuple[float, int]:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time(), await asyncio.to_thread(lambda: 7)

    assert run(main()) == (pytest.approx(86_400), 7)
    with pytest.raises(RuntimeError, match="wait for ever"):
        run(asyncio.Event().wait())


def test_the_plot_says_what_is_what():
    text = svg([Panel("requests & more", [Line("nodens", [1.0, 3.0], own=True), Line("client-go", [2.0, 0.5])])], 2)
    assert "requests &amp; more" in text
    assert 'class="own" d="M70.0,' in text
    assert ">client-go<" in text

"""Every row of the budget table is there: met, missed or not measured, each with where that comes from."""

from __future__ import annotations

import json

import pytest

from benchmarks import budgets


def peers(user_us, x_echo=1.0):
    return {
        "date": "2026-01-12",
        "options": {"runs": 3},
        "cluster": {"services": 10_000},
        "summary": {"nodens": {"loads": {"hit": {"user_us": user_us, "x_echo": x_echo}}}},
    }


def rows(records):
    return {each[0]: each for each in budgets.rows(records)}


def test_without_records_every_row_says_what_would_measure_it():
    found = list(budgets.rows({}))
    assert len(found) == len(budgets.BUDGETS)
    for budget, each in zip(budgets.BUDGETS, found, strict=True):
        assert each[2:4] == ["–", "not measured"]
        assert each[4] == (budget.why_not or f"`{budgets.COMMANDS[budget.record]}`")


@pytest.mark.parametrize(("user_us", "verdict"), [(0.7, "met"), (0.71, "**missed**")])
def test_a_figure_is_held_against_its_budget(user_us, verdict):
    row = rows({"peers": peers(user_us)})["hit, compiled, saturated: user CPU"]
    assert row[1:] == ["≤ 0.7 µs", f"{user_us:.2f} µs", verdict, "peers, 2026-01-12, 3 runs"]


def test_a_least_is_a_least():
    for x_capacity, verdict in ((1.7, "met"), (1.69, "**missed**")):
        record = {"figures": {"workers": {"compiled": {"x_capacity": x_capacity}}}}
        assert rows({"plane": record})["two UDP workers: capacity of one"][3] == verdict


def test_a_life_of_another_size_is_not_taken_for_it():
    life = {"services": 200, "endpoints": 0, "start_wall_ms": 1.0}
    assert rows({"life": {"lives": [life]}})["exec → first right answer, 10,000 Services"][3] == "not measured"
    life["services"] = 10_000
    assert rows({"life": {"lives": [life]}})["exec → first right answer, 10,000 Services"][3] == "met"


def test_a_smaller_cluster_is_not_taken_for_the_budgets():
    change = {"services": 2_000.0, "endpoints": 200_000.0, "burst_ms": 1.0}
    assert rows({"change": {"figures": change}})["… a burst of 1,000 changes"][3] == "not measured"
    change["services"] = 10_000.0
    assert rows({"change": {"figures": change}})["… a burst of 1,000 changes"][3] == "met"
    places = {"alone": {"rss_mib": 60.0}}
    figures = {"relist": {"source": {"api": {"compiled": places}}}}
    title = "RSS, Kubernetes source, 10,000 Services + 20,000 endpoints"
    for services, verdict in ((500, "not measured"), (10_000, "met")):
        assert rows({"plane": {"options": {"services": services}, "figures": figures}})[title][3] == verdict


def test_the_fleet_that_asks_most_counts():
    def runs(requests):
        return {"steady": {"requests": requests}}

    record = {
        "steady_hours": 2,
        "runs": {"nodens 10": runs(100), "nodens 100": runs(3_000), "client-go 10": runs(10**6)},
    }
    assert rows({"fleet": record})["API requests a node and hour, steady"][1:4] == ["≤ 20", "15.00", "met"]


def test_a_damaged_record_counts_as_missing_and_is_told(tmp_path, capsys):
    (tmp_path / "peers.json").write_text("{")
    (tmp_path / "life.json").write_text(json.dumps({"lives": []}))
    assert list(budgets.read(tmp_path)) == ["life"]
    assert "peers.json is left out" in capsys.readouterr().err


def test_the_command_prints_the_published_records(capsys):
    assert budgets.main([]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(budgets.BUDGETS) + 2

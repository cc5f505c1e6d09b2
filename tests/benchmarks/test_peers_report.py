"""Ratios are taken inside a run; what is missing or wrong is said; the page is written between its marks."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from benchmarks import plot
from benchmarks.measure import keep
from benchmarks.peers import __main__ as command
from benchmarks.peers import report

LOADS = ("hit", "mix", "zipf", "hit@20000", "mix@20000", "zipf@20000")


def load(total_us, lost=0):
    return {
        "sent": 1000, "completed": 1000 - lost, "lost": lost, "seconds": 1.0, "qps": 1e6 / total_us, "rcodes": {},
        "user_us": total_us / 4, "system_us": total_us * 3 / 4, "total_us": total_us, "others": 0.05, "load_1m": 1.0,
        "p50_us": 10.0, "p99_us": 20.0, "p999_us": 30.0, "late_p999_us": 5.0,
    }  # fmt: skip


def result(server, run, total_us, **more):
    return {"server": server, "run": run, "loads": {name: load(total_us) for name in LOADS}, "memory_mib": 30.0, **more}


RUNS = [
    # The machine is twice as slow in the second run: ratios do not change.
    result("echo", 1, 2.0), result("nodens-pure", 1, 6.0), result("node-cache", 1, 20.0),
    result("echo", 2, 4.0), result("nodens-pure", 2, 12.0), result("node-cache", 2, 40.0),
    result("echo", 3, 2.0), result("nodens-pure", 3, 8.0), result("node-cache", 3, 20.0),
]  # fmt: skip


@pytest.fixture
def record():
    def server(name, label, missing="", note=""):
        return {"name": name, "label": label, "missing": missing, "note": note, "version": "" if missing else "1"}

    checked = {"asked": 300, "wrong": 2, "truncated": 0, "told": ["x A: SERVFAIL with 0, not NOERROR with 1"]}
    runs = [*RUNS[:2], {**RUNS[2], "checked": checked}, *RUNS[3:]]
    return {
        "date": "2026-01-12",
        "machine": {
            "cpu": "X",
            "cores": 2,
            "kernel": "6",
            "python": "3.11",
            "server_core": 0,
            "load_core": 1,
            "load_average_before": (0.1, 0.2, 0.3),
        },
        "options": {"runs": 3, "seconds": 1.5, "fixed_qps": 20_000},
        "cluster": {"services": 10_000, "endpoints": 20_000, "records": 80_000},
        "servers": [
            server("echo", "bare C echo"),
            server("nodens", "**nodens**, compiled", missing="the extension is not built here"),
            server("nodens-pure", "**nodens**, pure Python"),
            server("node-cache", "node-cache", note="only the front one is counted"),
        ],
        "summary": report.summary(runs),
        "runs": runs,
    }


def test_ratios_are_medians_of_the_runs_own_ratios():
    row = report.summary(RUNS)["nodens-pure"]["loads"]["hit"]
    assert row["total_us"] == 8.0
    assert row["x_echo"] == pytest.approx(3.0)
    assert row["x_node_cache"] == pytest.approx(0.3)


def test_without_a_reference_there_is_no_ratio():
    row = report.summary([result("knot", 1, 3.0)])["knot"]["loads"]["hit"]
    assert "x_echo" not in row
    assert "x_node_cache" not in row


def test_a_run_without_the_reference_does_not_count_for_the_ratio():
    row = report.summary([*RUNS[:3], result("nodens-pure", 2, 99.0)])["nodens-pure"]["loads"]["hit"]
    assert row["x_node_cache"] == pytest.approx(0.3)


def test_losses_are_summed_over_runs():
    runs = [result("knot", 1, 3.0), result("knot", 2, 3.0)]
    runs[0]["loads"]["hit"] = load(3.0, lost=20)
    assert report.summary(runs)["knot"]["loads"]["hit"]["lost"] == pytest.approx(0.01)


def test_tables_show_what_was_measured_and_say_what_was_not(record):
    text = report.tables(record)
    row = next(line for line in text.splitlines() if line.startswith("| **nodens**, pure Python"))
    assert "| 8.00 | 3.00 | – | 0.30 |" in row
    assert "- nodens, compiled: not measured, the extension is not built here." in text
    assert "| **nodens**, compiled" not in text
    assert "- node-cache: only the front one is counted." in text
    assert "took 5 % of the server's core in the median load, 5 % at most." in text
    assert "- node-cache: 2 of 300 answers wrong: x A: SERVFAIL with 0, not NOERROR with 1." in text


def test_one_core_is_said_loudly(record):
    assert "server on core 0, load on core 1" in report.heading(record)
    record["machine"]["load_core"] = None
    assert "**one core only" in report.heading(record)


def test_record_and_plot_are_written_beside_each_other(record, tmp_path):
    (path,) = keep(record, "peers", publish=False, path=tmp_path / "deep" / "peers.json")
    assert path.is_file()
    command.draw(record, path)
    texts = [element.text for element in ET.parse(path.with_suffix(".svg")).iter() if element.tag.endswith("text")]
    assert "nodens, pure Python" in texts
    assert "8.00 (2.00 + 6.00)" in texts
    # Cheapest first.
    assert texts.index("bare C echo") < texts.index("nodens, pure Python") < texts.index("node-cache")


def test_names_are_escaped_in_a_plot_and_an_empty_chart_is_left_out():
    text = plot.svg([plot.Chart("a < b", [plot.Bar("x & y", 1, 0)]), plot.Chart("none", [])], "u", "s", "µs")
    root = ET.fromstring(text)
    assert next(element.text for element in root.iter() if element.tag.endswith("text")) == "a < b"
    assert "none" not in text


def test_a_bar_far_longer_than_the_others_is_cut_off():
    bars = [plot.Bar("a", 1, 1), plot.Bar("b", 2, 2), plot.Bar("c", 50, 50)]
    root = ET.fromstring(plot.svg([plot.Chart("t", bars)], "u", "s", "µs"))
    widths = [float(element.get("width")) for element in root.iter() if element.tag.endswith("rect")]
    assert widths == [plot.CHART_PX / 4] * 2 + [plot.CHART_PX / 2] * 2 + [plot.CHART_PX, 0.0]
    assert "→ 100.00 (50.00 + 50.00)" in [element.text for element in root.iter()]


def test_parts_add_up_and_their_share_is_that_of_all_runs():
    runs = [result("knot", number, total) for number, total in ((1, 4.0), (2, 9.0), (3, 5.0))]
    runs[1]["loads"]["hit"]["user_us"] = 4.5
    row = report.summary(runs)["knot"]["loads"]["hit"]
    assert row["total_us"] == 5.0
    assert row["user_us"] == pytest.approx(5.0 * (1.0 + 4.5 + 1.25) / 18.0)
    assert row["user_us"] + row["system_us"] == pytest.approx(5.0)


def test_an_unknown_server_is_refused_with_those_there_are(capsys):
    assert command.main(["--only", "echo,unboundd"]) == 2
    assert "no server unboundd; there are echo, nodens," in capsys.readouterr().err


def test_only_picks_servers_in_the_order_of_the_table():
    assert [server.name for server in command.chosen("node-cache, echo")] == ["echo", "node-cache"]
    assert len(command.chosen("")) == 10

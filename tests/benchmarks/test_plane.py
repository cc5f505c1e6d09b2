"""What is compared is a disturbance beside none; and the disturbances are real."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import pytest

from benchmarks.cluster_generator import Spec
from benchmarks.measure import ROOT, compiler, cores
from benchmarks.peers.servers import extension_missing
from benchmarks.plane import __main__ as command
from benchmarks.plane import agents, beside, disturbed, relisting, report
from benchmarks.plane.agents import Site, asked, serving, wait_answers

SPEC = Spec(services=60, endpoints=200, namespaces=20)
LIST = b'{"kind":"EndpointSliceList","metadata":{"resourceVersion":"7"},"items":[]}'
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler")


def window(p999_us, *, lost=0):
    took = {"p50_us": 20.0, "p99_us": 50.0, "p999_us": p999_us, "max_us": p999_us, "late_p999_us": 5.0}
    return {"sent": 1000, "lost": lost, **took}


def test_the_ratio_is_the_median_of_the_runs_own_ratios():
    runs = [
        {"idle": window(100.0), "disturbed": window(150.0)},
        # The machine was three times as slow: the ratio tells nothing of it.
        {"idle": window(300.0), "disturbed": window(600.0, lost=30)},
        {"idle": window(100.0), "disturbed": window(900.0)},
    ]
    found = agents.paired(runs)
    assert found["x_idle_p999"] == 2.0
    assert found["disturbed"]["p999_us"] == 600.0
    assert found["disturbed"]["lost"] == pytest.approx(0.01)


def test_without_any_answer_there_is_no_ratio():
    found = agents.paired([{"idle": window(100.0), "disturbed": window(None, lost=1000)}])
    assert found["x_idle_p999"] is None
    assert found["disturbed"]["p999_us"] is None
    assert found["disturbed"]["lost"] == 1.0


@pytest.mark.parametrize("kind", disturbed.KINDS)
def test_a_disturbance_takes_the_time_ordered_and_is_told(tmp_path, kind):
    body = tmp_path / "list.json"
    body.write_bytes(LIST)
    orders, told = tmp_path / "orders", tmp_path / "told"
    orders.write_text(f"{kind} 0.05 {body}")
    disturbed.carry_out(orders, told)
    line = json.loads(told.read_text())
    assert (line["kind"], line["bytes"]) == (kind, len(LIST))
    assert line["seconds"] >= 0.05
    assert line["times"] >= 1


def test_every_cluster_address_moves_there_and_back(tmp_path):
    site = Site(tmp_path, SPEC)
    text = site.cluster.read_text()
    there = relisting.moved(text)
    assert '"10.96.' not in there
    assert '"10.112.' in there
    assert relisting.moved(there) == text
    name, address = site.watched[0]
    assert name.endswith(".svc.cluster.local")
    assert site.there(address).startswith("10.112.")
    assert site.there(site.there(address)) == address


@needs_compiler
@pytest.mark.slow
def test_an_agent_is_held_up_and_answers_again_and_a_relist_moves_all(tmp_path):
    site = Site(tmp_path, SPEC)
    orders, told = tmp_path / "orders", tmp_path / "told"
    launcher = ("benchmarks.plane.disturbed", str(orders), str(told))
    with serving(site, "pure", core=None, launcher=launcher) as agent:
        assert agent.status()["process"]["wire"] == "python"
        orders.write_text("held 0.5")

        def disturb():
            agent.disturb()
            agents.wait_for("word", told.is_file)

        found = asked(site, agent.port, 1.0, disturb)
        # Its only thread was asleep: somebody waited.
        assert found["max_us"] > 100_000 or found["lost"]
        beside.relist_file(site.cluster)
        wait_answers(agent.port, [(name, site.there(address)) for name, address in site.watched])


@needs_compiler
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_relists_from_both_sources_stand_beside_idle_windows(tmp_path, monkeypatch):
    monkeypatch.setattr(beside, "CASES", (("pure", "spread"),))
    found = beside.relist(beside.Bench(Site(tmp_path, SPEC), 1, 0.3))
    for source in ("file", "api"):
        measured = found["source"][source]["pure"]["spread"]
        assert measured["idle"]["p999_us"] > 0
        assert measured["disturbed"]["p999_us"] > 0
        assert measured["relist_s"] > 0
        assert measured["rss_mib"] > 10


@needs_compiler
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("dnsperf") is None, reason="no dnsperf")
@pytest.mark.skipif(bool(extension_missing()), reason="no extension")
def test_the_command_leaves_a_record_and_a_table(tmp_path):
    kept = tmp_path / "plane.json"
    words = ["--quick", "--services", "80", "--endpoints", "300", "--seconds", "0.3", "--json", str(kept)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.plane", "scrape", "workers", *words],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(kept.read_text())
    assert record["figures"]["scrape"]["compiled"]["alone"]["cpu_ms"] > 0
    if len(cores()) > 1:
        assert record["figures"]["workers"]["compiled"]["x_capacity"] > 0
    assert "ten scrapes a second" in report.table(record)


def test_an_unknown_part_is_refused_with_those_there_are(capsys):
    assert command.main(["relist", "relax"]) == 2
    assert "no part relax; there are relist, blocked, scrape, workers" in capsys.readouterr().err


def test_parts_do_not_replace_the_published_whole(capsys):
    assert command.main(["relist", "--publish"]) == 2
    assert "only the whole is published" in capsys.readouterr().err


def test_what_never_comes_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(agents, "_WITHIN_S", 0.05)
    began_s = time.monotonic()
    with pytest.raises(agents.ServerError, match="a miracle: not within"):
        agents.wait_for("a miracle", lambda: False)
    assert time.monotonic() - began_s < 30

"""A campaign goes on when the generator hangs or a server ends: the load is done again, the failure told."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest

from benchmarks.peers import campaign, dnsperf
from benchmarks.peers.processes import Process, free_port
from benchmarks.peers.servers import Running, Server
from benchmarks.peers.zone import MIXES, Question
from tests.benchmarks.test_peers_dnsperf import OUTPUT
from tests.benchmarks.test_steady import PACE

ASKED = [Question("a.cluster.local", "A", "NOERROR", 1)]


class Place:
    """Where a campaign writes."""

    def __init__(self, folder):
        self.folder = folder


def echo(name, command=(sys.executable, "-c", "import time; time.sleep(60)")):
    @contextlib.contextmanager
    def start(place):
        with Process(command, place.folder / f"{name}.log") as process:
            yield Running(process, free_port())

    return Server(name, name, start, str, str)


@pytest.fixture
def generator(monkeypatch):
    """A generator that says what the test wants; it is given each command."""
    commands = []

    class Generator:
        hangs = 0

        def __call__(self, command, *, stdout, **_):
            commands.append(command)
            if self.hangs:
                self.hangs -= 1
                raise subprocess.TimeoutExpired("dnsperf", 1)
            stdout.write((PACE if command[-2:-1] == ["20000"] else OUTPUT).encode())

    made = Generator()
    made.commands = commands
    monkeypatch.setattr(campaign.subprocess, "run", made)
    monkeypatch.setattr(campaign.asking, "wrong", lambda port, questions: ([], 0))
    monkeypatch.setattr(campaign, "DISTURBED", float("inf"))
    monkeypatch.setattr(campaign, "built", lambda name, folder: folder / name)
    return made


def carried_out(tmp_path, servers, runs=1):
    plan = campaign.Plan(servers, dict.fromkeys(MIXES, ASKED), runs, 1.0)
    made = campaign.Campaign(plan, Place(tmp_path))
    made.carry_out()
    return made


def test_every_server_gets_every_load_in_every_run_and_every_other_round_goes_backwards(tmp_path, generator):
    done = carried_out(tmp_path, [echo("a"), echo("b")], runs=2)
    assert [(result["server"], result["run"]) for result in done.results] == [("a", 1), ("b", 1), ("b", 2), ("a", 2)]
    for result in done.results:
        assert list(result["loads"]) == [load.name for load in campaign.LOADS]
        assert result["memory_mib"] > 1
        paced = result["loads"]["hit@20000"]
        assert (paced["p50_us"], paced["late_p999_us"], paced["lost"]) == (31.5, 3.5, 1)
        assert "p50_us" not in result["loads"]["hit"]
    assert not done.failed
    # Each mix is asked once before it counts.
    assert len(generator.commands) == 4 * (len(campaign.LOADS) + len(MIXES))


def test_a_generator_that_hangs_is_run_again(tmp_path, generator):
    generator.hangs = 2
    done = carried_out(tmp_path, [echo("a")])
    assert len(done.results) == 1
    assert not done.failed


def test_a_generator_that_always_hangs_costs_one_run_and_is_told(tmp_path, generator):
    generator.hangs = campaign.TRIES
    done = carried_out(tmp_path, [echo("a"), echo("b")])
    assert [result["server"] for result in done.results] == ["b"]
    assert done.failed == {"a": "run 1 failed: the generator did not end, asking every question once"}


def test_a_server_that_ends_under_load_is_told(tmp_path, generator):
    done = carried_out(tmp_path, [echo("a", (sys.executable, "-c", "raise SystemExit(7)"))])
    assert not done.results
    assert "run 1 failed: ended with 7" in done.failed["a"]


def test_a_disturbed_load_is_repeated_and_the_quieter_one_kept(tmp_path, generator, monkeypatch):
    clock = iter([0.0, 1000.0])
    monkeypatch.setattr(campaign, "busy_s", lambda core: next(clock, 1000.0))
    monkeypatch.setattr(campaign, "DISTURBED", 0.5)
    done = carried_out(tmp_path, [echo("a")])
    loads = done.results[0]["loads"]
    assert [name for name, load in loads.items() if load.get("repeated")] == ["hit"]
    assert loads["hit"]["others"] == 0.0


def test_no_round_is_begun_that_would_end_too_late(tmp_path, generator, monkeypatch):
    monkeypatch.setattr(campaign, "LIMIT_S", 0.0)
    done = carried_out(tmp_path, [echo("a")], runs=3)
    assert [result["run"] for result in done.results] == [1]


def test_output_that_is_no_statistics_costs_one_run(tmp_path, generator, monkeypatch):
    monkeypatch.setattr(dnsperf, "statistics", lambda output: (_ for _ in ()).throw(dnsperf.DnsperfError("nothing")))
    assert carried_out(tmp_path, [echo("a")]).failed == {"a": "run 1 failed: nothing"}

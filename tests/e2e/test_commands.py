"""The commands as a person on the node runs them: exit codes, words on stderr, and what can be had from disk alone."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from agent import __version__
from benchmarks.cluster_generator import write
from tests.agent_process import Agent
from tests.control_plane.processes import wait_until
from tests.e2e.conftest import SPEC
from tests.e2e.dig import Dig
from tests.e2e.right_answers import Rightful, wrong_answers

WEB = "web.shop.svc.cluster.local"
Run = Callable[..., "CompletedProcess[str]"]


@pytest.mark.parametrize(
    ("words", "environ", "code", "told"),
    [
        (["--version"], {}, 0, f"nodens {__version__}"),
        ([], {}, 2, "usage: nodens"),
        (["serv"], {}, 2, "invalid choice: 'serv'"),
        (["serve", "--listn", "127.0.0.1:5300"], {}, 2, "unrecognized arguments: --listn"),
        (["serve", "--set", "tll=3"], {}, 2, "no option is called 'tll', did you mean 'ttl'?"),
        (["serve", "--set", "ttl=soon"], {}, 2, "ttl"),
        (["serve", "--listen", "localhost:53"], {}, 2, "localhost"),
        (["check"], {"NODENS_TLL": "3"}, 2, "did you mean 'NODENS_TTL'?"),
        (["serve"], {"HOME": "/nonexistent"}, 2, "kubectl get services,endpointslices,namespaces -A -o json"),
        (["serve", "--config", "/nonexistent.yaml"], {}, 2, "/nonexistent.yaml"),
        (["resolve", "web.shop", "--state-dir", "/nonexistent"], {}, 1, "/nonexistent"),
        (["snapshot", "list", "--state-dir", "/nonexistent"], {}, 1, "/nonexistent"),
        (["snapshot", "lst"], {}, 2, "invalid choice: 'lst'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_exit_codes_and_words(nodens: Run, words: list[str], environ: dict[str, str], code: int, told: str):
    done = nodens(*words, environ=environ)
    assert done.returncode == code
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_configuration_is_checked_with_all_its_problems_at_once(nodens: Run, tmp_path: Path):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("source: file:cluster.json\nttl: 10\ntcp: {idle_timeout: 5s}\n")
    bad.write_text("source: file:cluster.json\ntttl: 10\ntcp:\n  idle_timeot: 5s\npods: some\n")
    done = nodens("check", good)
    assert (done.returncode, done.stdout) == (0, f"OK: {good}\n")
    shown = nodens("check", good, "--print", "--set", "ttl=20", environ={"NODENS_TTL": "15", "NODENS_PODS": "verified"})
    assert shown.returncode == 0
    for line in ("ttl: 20", "pods: verified", "idle_timeout: 5"):
        assert line in shown.stdout
    done = nodens("check", bad)
    assert done.returncode == 2
    for told in (
        f"{bad}:2: no option is called 'tttl', did you mean 'ttl'?",
        f"{bad}:4:",
        "did you mean 'tcp.idle_timeout'?",
        f"{bad}:5:",
        "3 problems",
    ):
        assert told in done.stderr


def test_argument_goes_before_variable_before_file(start_agent: Callable[..., Agent], cluster: Path, dig: str):
    agent = start_agent(cluster, ttl=60, identity="of-the-file", edns_udp_size=1100)
    agent.wait_connected()
    assert Dig(dig, agent.port)(WEB).answer[0].ttl_s == 60
    agent.stop()
    agent.environ = {"NODENS_TTL": "70", "NODENS_SOURCE": "file:/nonexistent"}
    agent.start()
    agent.wait_connected()
    said = Dig(dig, agent.port)(WEB, "+nsid")
    assert said.answer[0].ttl_s == 70
    assert '("of-the-file")' in said.text
    assert "udp: 1100" in said.text


def test_a_port_in_use_is_named_and_what_to_do_about_it(nodens: Run, cluster: Path, tmp_path: Path):
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        done = nodens("serve", "--source", f"file:{cluster}", "--listen", where, "--state-dir", tmp_path / "s")
    assert done.returncode == 1
    assert f"can't serve UDP on {where}: Address already in use" in done.stderr
    assert "ss -lnup" in done.stderr


def test_status_of_a_running_agent_and_of_one_that_is_gone(agent: Agent, nodens: Run):
    where = ("--admin", f"127.0.0.1:{agent.admin_port}", "--state-dir", agent.state_dir)
    told = nodens("status", *where)
    assert told.returncode == 0
    assert told.stdout.startswith("Fresh")
    assert "generation 1" in told.stdout
    assert json.loads(nodens("status", *where, "--json").stdout)["state"] == "fresh"
    agent.kill()
    told = nodens("status", *where)
    assert told.returncode == 1
    assert "nodens is not running, or does not answer" in told.stderr
    assert "generation 1" in told.stdout
    assert "valid" in told.stdout
    machine = nodens("status", *where, "--json")
    assert machine.returncode == 1
    assert [each["generation"] for each in json.loads(machine.stdout)["on_disk"]] == [1]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["web.shop"], 0, ["10.96.10.80", "fd00:10:96::a50"]),
        ([WEB, "AAAA"], 0, ["fd00:10:96::a50"]),
        (["_http._tcp.web.shop"], 0, [f"80 {WEB}."]),
        (["10.96.10.80"], 0, [f"{WEB}."]),
        (["fd00:10:96::a50"], 0, [f"{WEB}."]),
        (["db-1.db.shop"], 0, ["10.128.0.22"]),
        (["mail.shop"], 0, ["smtp.example.com."]),
        (["wob.shop"], 1, []),
        (["example.com"], 1, []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_break_glass_a_name_is_resolved_from_disk_with_nothing_running(
    killed: Agent, nodens: Run, words: list[str], code: int, told: list[str]
):
    done = nodens("resolve", *words, "--state-dir", killed.state_dir)
    assert done.returncode == code, done.stdout + done.stderr
    for text in told:
        assert text in done.stdout
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def killed(start_shared: Callable[..., Agent], tmp_path_factory: pytest.TempPathFactory) -> Agent:
    """An agent that was killed when it had written generation 1."""
    path = tmp_path_factory.mktemp("killed") / "cluster.json"
    write(SPEC, path, indent=0)
    agent = start_shared(path)
    agent.wait_connected()
    agent.wait_state("generation 1", lambda state: state["snapshot"]["generation_writes"] >= 1)
    agent.kill()
    return agent


def test_what_is_on_disk_is_listed_verified_and_shown(killed: Agent, nodens: Run):
    where = ("--state-dir", killed.state_dir)
    listed = nodens("snapshot", "list", *where)
    assert listed.returncode == 0
    assert "ok" in listed.stdout
    verified = nodens("snapshot", "verify", *where)
    assert verified.returncode == 0, verified.stdout
    shown = nodens("snapshot", "show", "latest", *where)
    assert shown.returncode == 0
    assert "uid:" in shown.stdout


def test_break_glass_an_export_is_a_source_that_gives_the_same_answers(
    killed: Agent, nodens: Run, start_agent: Callable[..., Agent], tmp_path: Path, rightful: Rightful
):
    path = tmp_path / "exported.json"
    done = nodens("snapshot", "export", "--output", path, "--state-dir", killed.state_dir)
    assert done.returncode == 0, done.stderr
    agent = start_agent(path)
    agent.wait_connected()
    assert agent.state()["snapshot"]["skipped"] == []
    assert wrong_answers(agent.port, rightful) == {}


def test_what_changed_between_two_generations_is_told_and_the_serial_counts_them(
    agent: Agent, cluster: Path, nodens: Run, ask: Dig
):
    first = agent.state()["snapshot"]["generation"]
    assert agent.stop() == 0
    agent.configure({"snapshot": {"rewrite_churn_percent": 1}, "file": {"poll": "50ms", "debounce": "20ms"}})
    cluster.write_text(cluster.read_text().replace("10.96.", "10.97."))
    agent.start()
    agent.wait_connected()
    state = agent.wait_state("a generation", lambda state: state["snapshot"]["generation"] > first)
    second = state["snapshot"]["generation"]
    assert second > first
    wait_until("the serial", lambda: next(iter(ask("cluster.local", "SOA").rdata)).split()[2] == str(second))
    done = nodens("snapshot", "diff", first, second, "--limit", 0, "--state-dir", agent.state_dir)
    assert done.returncode == 0, done.stderr
    assert WEB in done.stdout
    assert "10.97.10.80" in done.stdout
    assert "10.96.10.80" in done.stdout
    old = nodens("resolve", "web.shop", "A", "--generation", first, "--state-dir", agent.state_dir)
    assert "10.96.10.80" in old.stdout
    new = nodens("resolve", "web.shop", "A", "--state-dir", agent.state_dir)
    assert "10.97.10.80" in new.stdout

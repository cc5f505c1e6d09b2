"""Started for the first time while its source is away: it does not know, and says so; it never denies a name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.cluster_generator import write
from tests.agent_process import Agent
from tests.control_plane.processes import wait_until
from tests.e2e.conftest import SPEC
from tests.e2e.dig import Dig
from tests.e2e.right_answers import Rightful, wrong_answers

pytestmark = pytest.mark.faults


@pytest.fixture
def empty(start_agent: Callable[..., Agent], tmp_path: Path) -> Agent:
    agent = start_agent(tmp_path / "cluster.json")
    agent.wait_listening()
    return agent


@pytest.mark.parametrize(
    "words",
    [
        ("web.shop.svc.cluster.local", "A"),
        ("no.such.svc.cluster.local", "A"),
        ("cluster.local", "SOA"),
        ("dns-version.cluster.local", "TXT"),
        ("-x", "10.96.0.1"),
        ("-x", "fd00::1"),
    ],
    ids=" ".join,
)
def test_own_names_are_servfail_not_ready_never_nxdomain(start_shared, tmp_path_factory, dig: str, words):
    agent = start_shared(tmp_path_factory.mktemp("none") / "cluster.json")
    agent.wait_listening()
    ask = Dig(dig, agent.port)
    for _ in range(3):
        said = ask(*words)
        assert (said.status, said.answer, said.authority) == ("SERVFAIL", [], [])
        assert said.extended_error.startswith("14 (Not Ready)")
    assert ask(*words, "+tcp").status == "SERVFAIL"
    assert ask(*words, "+noedns").status == "SERVFAIL"


def test_it_is_alive_but_not_ready_until_the_source_comes(empty: Agent, tmp_path: Path, dig: str, rightful: Rightful):
    assert empty.wait_state("its admin endpoint", bool)["state"] == "not_ready"
    assert empty.get("/healthz")[0] == 200
    code, body = empty.get("/readyz")
    assert code == 503
    assert b"no valid snapshot" in body
    state = empty.state()
    assert (state["ready"], state["snapshot"]["generation"]) == (False, 0)
    assert "cluster.json" in wait_until("why", lambda: empty.state()["source"]["last_error"])
    assert empty.metric("nodens_ready") == 0
    write(SPEC, tmp_path / "cluster.json", indent=0)
    empty.wait_answering()
    assert wait_until("readiness", lambda: empty.get("/readyz")[0] == 200)
    assert wrong_answers(empty.port, rightful) == {}
    assert Dig(dig, empty.port)("no.such.svc.cluster.local").status == "NXDOMAIN"


def test_what_needs_no_snapshot_is_answered_all_the_same(empty: Agent, dig: str):
    ask = Dig(dig, empty.port)
    assert ask("localhost").rdata == {"127.0.0.1"}
    assert ask("example.com").status == "REFUSED"
    (words,) = ask("status.nodens", "TXT", "CH").rdata
    assert words.startswith('"generation=0 age=0s state=not_ready')


def test_an_unreadable_source_from_the_first_moment_is_no_crash(start_agent, tmp_path: Path, dig: str):
    (tmp_path / "cluster.json").write_bytes(b"\x00\xff" * 5000)
    agent = start_agent(tmp_path / "cluster.json")
    agent.wait_listening()
    pid = agent.state().get("process", {}).get("pid", agent.child.pid)
    wait_until("the reason", lambda: "cluster.json" in agent.state().get("source", {}).get("last_error", ""))
    assert Dig(dig, agent.port)("web.shop.svc.cluster.local").status == "SERVFAIL"
    agent.child.check()
    assert pid == agent.child.pid

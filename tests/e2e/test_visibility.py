"""A stale answer is seen everywhere one may look, on both data planes, and the gate of a rollout closes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import wire
from tests.agent_process import Agent
from tests.e2e.conftest import ROOT
from tests.e2e.dig import Dig

WEB = "web.shop.svc.cluster.local"
ASKED = 7


def said(agent: Agent, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", *words, "--admin", f"127.0.0.1:{agent.admin_port}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def answers(agent: Agent) -> dict[str, int]:
    found: dict[str, int] = agent.state()["traffic"]["answers"]
    return found


@pytest.mark.parametrize("plane", ["compiled", "python"])
def test_what_is_told_of_an_answer_s_age_agrees_everywhere(
    plane: str, start_agent: Callable[..., Agent], cluster: Path, dig: str
):
    if plane == "compiled" and wire.IMPLEMENTATION != "compiled":
        pytest.skip("the compiled data plane is not built")
    agent = start_agent(cluster, environ={"NODENS_NO_EXT": "1"} if plane == "python" else {})
    agent.wait_connected()
    assert agent.state()["process"]["wire"] == plane
    ask = Dig(dig, agent.port)
    before = answers(agent)
    for _ in range(ASKED):
        assert ask(WEB).extended_error == ""
    assert answers(agent)["fresh"] - before["fresh"] == ASKED
    gate = said(agent, "rollout-gate")
    assert (gate.returncode, gate.stdout.split(",")[0]) == (0, "gate open: 1 asked")
    assert said(agent, "status").stdout.startswith("Fresh  ")

    cluster.unlink()
    agent.wait_state("stale", lambda state: state["state"] == "stale")
    before = answers(agent)
    for _ in range(ASKED):
        assert ask(WEB).extended_error.startswith("3 (Stale Answer): (age=")
    after = answers(agent)
    assert (after["stale"] - before["stale"], after["fresh"] - before["fresh"]) == (ASKED, 0)
    (record,) = ask("CH", "TXT", "status.nodens").answer
    assert "state=stale" in record.rdata
    assert agent.metric("nodens_snapshot_age_seconds") >= 2
    assert said(agent, "status").stdout.startswith("Stale for ")
    gate = said(agent, "rollout-gate")
    assert gate.returncode == 1
    assert gate.stdout.split()[:2] == ["test-node", "stale"]
    agent.wait_told("now=stale")
    lines = [line for line in agent.child.text().splitlines() if "state of the answers changed" in line]
    assert ["before=fresh now=stale" in line for line in lines] == [False, True]


def test_an_agent_that_starts_in_an_outage_says_so_once(start_agent: Callable[..., Agent], cluster: Path):
    agent = start_agent(cluster)
    agent.wait_connected()
    agent.wait_state("written", lambda state: state["snapshot"]["generation"] > 0)
    assert agent.stop() == 0
    cluster.unlink()
    agent.configure({"file": {"poll": "50ms"}, "stale_after": 1})
    agent.start()
    agent.wait_answering()
    agent.wait_state("stale", lambda state: state["state"] == "stale")
    agent.wait_told("now=stale")
    assert agent.child.text().count("now=stale") == 1

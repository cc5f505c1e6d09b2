"""Two agents on one state directory: both answer, one writes, and the other says who it waits for and takes over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent_process import Agent
from tests.e2e.dig import Dig
from tests.e2e.right_answers import Rightful, wrong_answers


@pytest.fixture
def second(agent: Agent, start_agent: Callable[..., Agent], cluster: Path) -> Agent:
    running = start_agent(cluster, state_dir=agent.state_dir)
    running.wait_connected()
    return running


def test_the_second_answers_and_says_who_holds_the_directory(agent: Agent, second: Agent, rightful: Rightful, nodens):
    assert wrong_answers(second.port, rightful) == {}
    assert wrong_answers(agent.port, rightful) == {}
    state = second.wait_state("why it can't write", lambda state: state["snapshot"]["persist_error"])
    assert f"is in use by process {agent.child.pid} on " in state["snapshot"]["persist_error"]
    assert state["ready"]
    assert agent.state()["snapshot"]["persist_error"] == ""
    told = nodens("status", "--admin", f"127.0.0.1:{second.admin_port}")
    assert told.returncode == 0
    assert f"is in use by process {agent.child.pid}" in told.stdout


def test_the_second_takes_over_writing_when_the_first_is_killed(
    agent: Agent, second: Agent, cluster: Path, dig: str, rightful: Rightful
):
    second.wait_state("why it can't write", lambda state: state["snapshot"]["persist_error"])
    agent.kill()
    before = second.state()["snapshot"]["generation"]
    second.wait_state("its turn", lambda state: not state["snapshot"]["persist_error"], timeout_s=15)
    cluster.write_text(cluster.read_text().replace("10.96.", "10.97."))
    second.wait_state("a generation", lambda state: state["snapshot"]["generation"] > before, timeout_s=15)
    second.kill()
    cluster.unlink()
    second.start()
    second.wait_answering()
    assert Dig(dig, second.port)("web.shop.svc.cluster.local").rdata == {"10.97.10.80"}
    pods = {question: right for question, right in rightful.items() if question[0].endswith("10.in-addr.arpa")}
    assert wrong_answers(second.port, {q: r for q, r in pods.items() if ".128.10." in q[0]}) == {}

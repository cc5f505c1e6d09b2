"""kill -9 at any moment, under load, while the source changes: what is served after it is one state that was."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cluster_generator import Spec, objects
from tests import witness
from tests.agent_process import Agent
from tests.e2e.conftest import QUICK, SPEC
from tests.e2e.right_answers import right_answers, wrong_answers
from tests.e2e.versions import Writer, versions_answered
from tests.faults.stage import Asking

pytestmark = pytest.mark.faults

EAGER = {
    **QUICK,
    "snapshot": {"rewrite_churn_percent": 1, "rewrite_after": "1s", "sync_every": "50ms"},
}


def kill_rounds(agent: Agent, writer: Writer, rounds: int, base: list[dict[str, Any]]) -> list[int]:
    """Change the source, kill, restart without the source; returns the versions that came up."""
    rng = random.Random(time.time_ns())
    found = []
    rightful = right_answers(base)
    few = {question: rightful[question] for question in rng.sample(sorted(rightful), 200)}
    with Asking(agent.port, few) as asking:
        for number in range(rounds):
            writer.write()
            time.sleep(rng.uniform(0, 0.5))
            asking.expects_silence = True
            agent.kill()
            writer.take_away()
            agent.start()
            agent.wait_answering()
            witness.NOW.started(time.monotonic() - agent.child.started_s)
            asking.expects_silence = False
            versions = versions_answered(agent.port)
            assert len(set(versions)) == 1, f"a mixture of versions {versions} in round {number}"
            assert 1 <= versions[0] <= writer.last
            assert not found or versions[0] >= found[-1], "older than what had been on disk before"
            found.append(versions[0])
            assert wrong_answers(agent.port, few) == {}
    return found


@pytest.mark.parametrize(
    ("spec", "rounds"),
    [
        (SPEC, 8),
        pytest.param(Spec(services=600, endpoints=6000, namespaces=20), 200, marks=pytest.mark.slow),
    ],
    ids=["8 rounds", "200 rounds of a larger cluster"],
)
@pytest.mark.timeout(900)
def test_killed_at_any_moment_it_comes_back_with_one_version(
    start_agent: Callable[..., Agent], tmp_path: Path, spec: Spec, rounds: int
):
    path = tmp_path / "cluster.json"
    base = list(objects(spec))
    writer = Writer(path, base)
    writer.write()
    agent = start_agent(path, **EAGER)
    agent.wait_connected()
    agent.wait_state("generation 1", lambda state: state["snapshot"]["generation_writes"] >= 1)
    found = kill_rounds(agent, writer, rounds, base)
    assert len(set(found)) > rounds // 10
    generation = agent.wait_state("its admin endpoint", bool)["snapshot"]["generation"]
    print(f"{rounds} kills: versions {found[0]} to {found[-1]} of {writer.last}, generation {generation}")

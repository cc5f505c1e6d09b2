"""The source is rewritten all the time, carefully and carelessly, while questions come in."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import dns.message
import pytest

from benchmarks.cluster_generator import objects
from tests.agent_process import Agent
from tests.control_plane.dns_client import Question, ask_many, rdata, status
from tests.control_plane.processes import wait_until
from tests.e2e.conftest import SPEC
from tests.e2e.versions import LEFT, POD, RIGHT, Rewriting, Writer, version_of, versions_answered

pytestmark = pytest.mark.faults

STEADY = {"web.shop.svc.cluster.local": "10.96.10.80", "db-1.db.shop.svc.cluster.local": "10.128.0.22"}


def test_no_question_gets_a_wrong_answer_while_the_source_is_rewritten(
    start_agent: Callable[..., Agent], tmp_path: Path
):
    path = tmp_path / "cluster.json"
    writer = Writer(path, list(objects(SPEC)))
    writer.write()
    agent = start_agent(path)
    agent.wait_connected()
    with Rewriting(writer):
        seen: set[int] = set()
        wrong, asked = [], 0
        names = [*STEADY, LEFT, RIGHT, POD] * 20
        while asked < 2_500 or len(seen) < 3:
            for question, packet in ask_many(agent.port, [Question(name, "A") for name in names]):
                asked += 1
                answered = {text.split(" ", 1)[1] for text in rdata(dns.message.from_wire(packet))} if packet else set()
                if question.name in STEADY:
                    is_right = answered == {STEADY[question.name]}
                else:
                    versions = {version_of(address) for address in answered}
                    is_right = len(versions) == 1 and 1 <= min(versions) <= writer.last
                    seen |= versions
                if not is_right:
                    wrong.append((question.name, answered, packet and status(dns.message.from_wire(packet))))
            time.sleep(0.05)
        assert wrong == []
    wait_until("the last version", lambda: versions_answered(agent.port) == (writer.last,) * 3)
    assert agent.state()["source"]["connected"]

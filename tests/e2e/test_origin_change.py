"""The state on disk came from one kind of source, the agent is started with the other: nothing is lost or misread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from agent.cluster.objects import KINDS
from benchmarks.cluster_generator import objects
from tests.agent_process import Agent
from tests.control_plane.dns_client import addresses
from tests.e2e.conftest import SPEC
from tests.e2e.right_answers import Rightful, wrong_answers
from tests.scripted_api import ScriptedApi

WEB = "web.shop.svc.cluster.local"


async def until(what: str, ask: Callable[[], object]) -> None:
    """Ask from a thread, so that the API server of this very loop goes on answering."""
    end = asyncio.get_running_loop().time() + 20
    while not await asyncio.to_thread(ask):
        assert asyncio.get_running_loop().time() < end, f"{what}: not within 20 s"
        await asyncio.sleep(0.02)


async def test_from_a_file_to_the_api_and_back(agent: Agent, cluster: Path, tmp_path: Path, rightful: Rightful):
    assert agent.stop() == 0
    file = agent.source
    async with ScriptedApi() as api:
        for value in objects(SPEC):
            api.put(value)
        agent.source, agent.environ = "kubernetes", {"KUBECONFIG": str(api.kubeconfig(tmp_path))}
        agent.start()
        await until("answers from disk", lambda: addresses(agent.port, WEB) == {"10.96.10.80"})
        assert await asyncio.to_thread(wrong_answers, agent.port, rightful) == {}
        await until("the API is followed", lambda: agent.metric("nodens_source_connected"))
        first = {kind: next(seen.verb for seen in api.seen if seen.kind == kind) for kind in KINDS}
        assert first == dict.fromkeys(KINDS, "LIST"), "a file's digest is no place to resume a watch from"
        assert {seen.code for seen in api.seen} <= {0, 200}
        assert await asyncio.to_thread(wrong_answers, agent.port, rightful) == {}
        api.put({**web(), "spec": {**web()["spec"], "clusterIP": "10.96.99.1", "clusterIPs": ["10.96.99.1"]}})
        await until("the change", lambda: addresses(agent.port, WEB) == {"10.96.99.1"})
        assert await asyncio.to_thread(agent.stop) == 0
    agent.source, agent.environ = file, {}
    agent.start()
    await until("the file's state", lambda: addresses(agent.port, WEB) == {"10.96.10.80"})
    assert wrong_answers(agent.port, rightful) == {}


def web() -> dict:
    """Return the web service of the generated cluster."""
    return next(value for value in objects(SPEC) if value["metadata"]["name"] == "web" and value["kind"] == "Service")

"""Answering from disk comes before anything heavy is imported: seen in the interpreter's own list of imports."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from tests.agent_process import Agent
from tests.e2e.dig import Dig

WEB = "web.shop.svc.cluster.local"
HEAVY = {"aiohttp", "kubernetes", "prometheus_client", "dnslib", "dns"}
_IMPORTED = re.compile(r"^import time:\s+\d+ \|\s+\d+ \| +(\S+)$", re.MULTILINE)


def imported(text: str) -> set[str]:
    """Return the top-level packages whose import a log shows."""
    return {name.partition(".")[0] for name in _IMPORTED.findall(text)}


def test_a_file_source_never_imports_a_client_of_anything(start_agent: Callable[..., Agent], cluster: Path, dig: str):
    agent = start_agent(cluster, environ={"PYTHONPROFILEIMPORTTIME": "1"})
    agent.wait_answering()
    agent.wait_state("generation 1", lambda state: state["snapshot"]["generation_writes"] >= 1)
    assert Dig(dig, agent.port)(WEB).rdata == {"10.96.10.80"}
    assert agent.get("/readyz")[0] == 200
    before = imported(agent.child.text())
    assert "asyncio" in before, "the list of imports is there"
    assert before & HEAVY == set()
    assert "nodens_ready 1.0" in agent.get("/metrics")[1].decode()
    assert imported(agent.child.text()) & HEAVY == {"prometheus_client"}


def test_with_a_kubeconfig_the_client_is_imported_behind_the_first_answers(
    start_agent: Callable[..., Agent], agent: Agent, tmp_path: Path, dig: str
):
    assert agent.stop() == 0
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "gone",
        "clusters": [{"name": "gone", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "gone", "user": {"token": "x"}}],
        "contexts": [{"name": "gone", "context": {"cluster": "gone", "user": "gone"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    agent.source = "kubernetes"
    agent.environ = {"PYTHONPROFILEIMPORTTIME": "1", "KUBECONFIG": str(tmp_path / "kubeconfig")}
    agent.log = agent.root / "second.log"
    agent.start()
    agent.wait_answering()
    assert Dig(dig, agent.port)(WEB).rdata == {"10.96.10.80"}
    agent.wait_state("its source", lambda _: {"aiohttp", "kubernetes"} <= imported(agent.child.text()))
    before, answering, after = agent.child.text().partition("answering on 127.0.0.1:")
    assert answering
    assert imported(before) & HEAVY == set()
    assert HEAVY & imported(after) == {"aiohttp", "kubernetes"}
    assert agent.state()["process"]["first_answer_s"] < 5

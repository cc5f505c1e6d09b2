"""Suspicious change is held: the real agent on a file that lies, dig, and the commands of a person.

Each test is named after its incident where there was one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from benchmarks.cluster_generator import objects
from tests.agent_process import Agent
from tests.control_plane.processes import wait_until
from tests.e2e.conftest import SPEC
from tests.e2e.dig import Dig
from tests.e2e.right_answers import Rightful, wrong_answers

WEB = "web.shop.svc.cluster.local"
Items = list[dict[str, Any]]
Start = Callable[..., Agent]
Nodens = Callable[..., CompletedProcess[str]]


class Source:
    """The file that the agent follows; `first` is what it held at the start."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first: Items = list(objects(SPEC))

    def write(self, items: Items) -> None:
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        partial.replace(self.path)

    def half(self) -> Items:
        """Leave out every second Service, and its slices."""
        gone = {_owner(each) for number, each in enumerate(self.first) if each["kind"] == "Service" and number % 2}
        gone.discard(("default", "kubernetes"))
        return [each for each in self.first if _owner(each) not in gone]

    def unready(self) -> Items:
        """Make every endpoint unready, as a node controller gone wild does."""
        return [
            {**each, "endpoints": [{**pod, "conditions": {"ready": False}} for pod in each["endpoints"] or ()]}
            if each["kind"] == "EndpointSlice"
            else each
            for each in self.first
        ]

    def without(self, namespace: str) -> Items:
        return [each for each in self.first if namespace not in {_owner(each)[0], each["metadata"]["name"]}]


def _owner(each: dict[str, Any]) -> tuple[str, str]:
    meta = each["metadata"]
    name = meta.get("labels", {}).get("kubernetes.io/service-name", meta["name"])
    return meta.get("namespace", ""), name


LIES: dict[str, tuple[Callable[[Source], Items], str]] = {
    "AWS 2025-10: emptied": (lambda _: [], "would remove 98 % of all names"),
    "half the Services gone": (Source.half, "% of all names"),
    "kubernetes#23034: no endpoint is ready": (Source.unready, "would take away 99 % of all ready endpoints"),
    "a namespace deleted by accident": (lambda source: source.without("shop"), "most of them in namespace shop"),
}


@pytest.fixture
def source(cluster: Path) -> Source:
    """Give the source of the agents of a test."""
    return Source(cluster)


@pytest.fixture
def follow(start_agent: Start, cluster: Path) -> Start:
    """Start an agent that follows the source and has written it to disk; **guard: its options."""

    def start(**guard: Any) -> Agent:
        agent = start_agent(cluster, guard={"hold_for": 0, "max_removed_percent": 10, "min_names": 5, **guard})
        agent.wait_connected()
        agent.wait_state("generation 1 on disk", lambda state: state["snapshot"]["generation_writes"] >= 1)
        return agent

    return start


def held(agent: Agent) -> dict[str, Any]:
    state = agent.wait_state("change held", lambda state: state["quarantine"]["active"], timeout_s=20)
    return state["quarantine"]


def wait_ended(agent: Agent, outcome: str, timeout_s: float = 20) -> None:
    def ended(state: dict[str, Any]) -> bool:
        quarantine = state["quarantine"]
        return not quarantine["active"] and quarantine["outcomes"][outcome] == 1

    agent.wait_state(f"quarantine {outcome}", ended, timeout_s=timeout_s)


def decide(nodens: Nodens, agent: Agent, word: str, quarantine: str) -> None:
    done = nodens("quarantine", word, quarantine, "--reason", "seen by a test", "--state-dir", agent.state_dir)
    assert done.returncode == 0, done.stderr


def audit(agent: Agent) -> Iterator[dict[str, Any]]:
    for line in (agent.state_dir / "control" / "audit.ndj").read_text().splitlines():
        yield json.loads(line)


@pytest.mark.parametrize("lie", LIES)
def test_every_name_still_answers_and_everybody_can_see_why(
    lie: str, follow: Start, source: Source, rightful: Rightful, nodens: Nodens, dig: str
) -> None:
    agent = follow()
    tell, words = LIES[lie]
    source.write(tell(source))
    quarantine = held(agent)
    assert wrong_answers(agent.port, rightful) == {}
    assert words in "; ".join(quarantine["differences"])
    state = agent.state()
    assert (state["state"], state["ready"], state["source"]["connected"]) == ("fresh", True, True)
    assert agent.metric("nodens_quarantine_active") == 1
    assert agent.metric("nodens_quarantine_holds_total") >= 1
    ask = Dig(dig, agent.port)
    told = f"quarantine={quarantine['id']} held={quarantine['objects']}"
    wait_until("CH TXT says it", lambda: told in ask("status.nodens", "TXT", "CH").text)
    assert ask(WEB).extended_error == ""
    shown = nodens("quarantine", "show", "--state-dir", agent.state_dir).stdout
    assert quarantine["id"] in shown
    assert words in shown
    status = nodens("status", "--admin", f"127.0.0.1:{agent.admin_port}").stdout
    assert "change held" in status.splitlines()[0]
    assert f"nodens quarantine accept {quarantine['id']}" in status
    assert words in agent.get("/")[1].decode()
    agent.wait_told("suspicious change is held")
    assert agent.child.text().count("suspicious change is held") == 1


def test_what_is_harmless_passes_meanwhile_and_the_source_itself_may_end_it(
    follow: Start, source: Source, rightful: Rightful, dig: str
) -> None:
    agent, ask = follow(), None
    source.write([])
    held(agent)
    new = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "new", "namespace": "shop"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.99.1", "clusterIPs": ["10.96.99.1"]},
    }
    source.write([new])
    ask = Dig(dig, agent.port)
    agent.wait_state("one Service more", lambda state: state["snapshot"]["objects"]["Service"] == SPEC.services + 1)
    assert ask("new.shop.svc.cluster.local").rdata == {"10.96.99.1"}
    assert wrong_answers(agent.port, rightful) == {}
    source.write(source.first)
    wait_ended(agent, "mended")
    assert ask("new.shop.svc.cluster.local").status == "NXDOMAIN"
    assert wrong_answers(agent.port, rightful) == {}


def test_accepted_it_is_applied_and_stays_so(follow: Start, source: Source, nodens: Nodens, dig: str) -> None:
    agent = follow()
    ask = Dig(dig, agent.port)
    source.write(source.without("shop"))
    decide(nodens, agent, "accept", held(agent)["id"])
    wait_ended(agent, "accepted")
    assert ask(WEB).status == "NXDOMAIN"
    assert not (agent.state_dir / "control" / "decision.json").exists()
    (line,) = audit(agent)
    assert (line["what"], line["reason"]) == ("quarantine accept", "seen by a test")
    agent.kill()
    agent.start()
    agent.wait_connected()
    assert ask(WEB).status == "NXDOMAIN"
    assert not agent.state()["quarantine"]["active"]


def test_rejected_it_is_dropped_until_the_source_says_something_new(
    follow: Start, source: Source, rightful: Rightful, nodens: Nodens
) -> None:
    agent = follow()
    source.write(source.without("shop"))
    first = held(agent)["id"]
    decide(nodens, agent, "reject", first)
    wait_ended(agent, "rejected")
    assert wrong_answers(agent.port, rightful) == {}
    source.write(source.without("shop")[1:])
    assert held(agent)["id"] != first
    assert wrong_answers(agent.port, rightful).keys() <= {each for each in rightful if "kubernetes.default" in each[0]}


def test_nobody_decides_and_it_is_applied(follow: Start, source: Source, dig: str) -> None:
    agent = follow(hold_for="3s")
    source.write(source.without("shop"))
    assert held(agent)["applied_unix_s"] > 0
    assert Dig(dig, agent.port)(WEB).rdata == {"10.96.10.80"}
    wait_ended(agent, "expired")
    assert Dig(dig, agent.port)(WEB).status == "NXDOMAIN"


def test_killed_in_quarantine_it_holds_the_same_again_and_its_clock_goes_on(
    follow: Start, source: Source, rightful: Rightful, nodens: Nodens
) -> None:
    agent = follow(hold_for="1h")
    source.write([])
    before = held(agent)
    document = agent.state_dir / "control" / "quarantine.json"
    agent.wait_state("the document on disk", lambda _: document.exists())
    for _ in range(2):
        agent.kill()
        shown = nodens("quarantine", "show", "--state-dir", agent.state_dir).stdout
        assert before["id"] in shown
        agent.start()
        agent.wait_answering()
        assert wrong_answers(agent.port, rightful) == {}
        agent.wait_connected()
        agent.wait_state("held anew", lambda state: sum(state["quarantine"]["holds"].values()) >= 1)
        after = held(agent)
        assert (after["id"], after["applied_unix_s"]) == (before["id"], before["applied_unix_s"])
        assert wrong_answers(agent.port, rightful) == {}


def test_a_decision_made_while_no_agent_runs_is_followed_by_the_next(
    follow: Start, source: Source, rightful: Rightful, nodens: Nodens, dig: str
) -> None:
    agent = follow()
    source.write(source.without("shop"))
    quarantine = held(agent)["id"]
    document = agent.state_dir / "control" / "quarantine.json"
    agent.wait_state("the document on disk", lambda _: document.exists())
    agent.kill()
    decide(nodens, agent, "accept", quarantine)
    agent.start()
    wait_ended(agent, "accepted", timeout_s=30)
    assert Dig(dig, agent.port)(WEB).status == "NXDOMAIN"


def test_kubernetes_default_is_kept_however_little_goes(follow: Start, source: Source, dig: str) -> None:
    agent = follow(max_removed_percent=100)
    source.write([each for each in source.first if _owner(each) != ("default", "kubernetes")])
    assert held(agent)["differences"] == ["would remove the protected name kubernetes.default"]
    assert Dig(dig, agent.port)("kubernetes.default.svc.cluster.local").rdata == {"10.96.0.1"}


def test_other_options_that_want_fewer_names_are_not_suspicious(follow: Start, cluster: Path, dig: str) -> None:
    agent = follow()
    agent.stop()
    agent.configure({"namespaces": ["shop"], "guard": {"hold_for": 0}})
    agent.start()
    agent.wait_connected()
    assert Dig(dig, agent.port)("kubernetes.default.svc.cluster.local").status == "NXDOMAIN"
    assert Dig(dig, agent.port)(WEB).rdata == {"10.96.10.80"}
    assert not agent.state()["quarantine"]["active"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("accept", "1", "--reason", "x"), "nothing is held"),
        (("accept", "1"), "the reason is empty"),
        (("reject", "--reason", "x"), "nothing is held"),
    ],
)
def test_a_decision_about_nothing_is_refused(words: tuple[str, ...], told: str, nodens: Nodens, tmp_path: Path) -> None:
    done = nodens("quarantine", *words, "--state-dir", tmp_path)
    assert done.returncode == 1
    assert told in done.stderr


def test_a_decision_about_another_quarantine_is_refused(follow: Start, source: Source, nodens: Nodens) -> None:
    agent = follow()
    source.write([])
    quarantine = held(agent)["id"]
    document = agent.state_dir / "control" / "quarantine.json"
    agent.wait_state("the document on disk", lambda _: document.exists())
    done = nodens("quarantine", "accept", "1", "--reason", "x", "--state-dir", agent.state_dir)
    assert done.returncode == 1
    assert f"what is held is {quarantine}, not 1" in done.stderr
    assert held(agent)["id"] == quarantine

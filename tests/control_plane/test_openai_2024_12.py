"""11 December 2024 as one story: a fleet on a real API server that is overloaded, then dead, while agents restart.

What broke that day, in order: the API servers could not keep up and died; caches hid it; nodes restarted and had
nothing; what came back came back all at once. Here: answers go on, also for names never asked before; each says how
old it is; a restart needs nobody; and when the API server is back the fleet follows within its window, without a herd.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest

from benchmarks.cluster_generator import Spec, objects
from tests import witness
from tests.agent_process import Agent
from tests.control_plane.agent_process import Nodens
from tests.control_plane.control_plane import ControlPlane
from tests.control_plane.dns_client import addresses
from tests.control_plane.nasty_cases import port, service
from tests.control_plane.processes import wait_until
from tests.e2e.dig import Dig
from tests.e2e.right_answers import Rightful, right_answers, wrong_answers
from tests.faults.stage import Asking

pytestmark = [pytest.mark.control_plane, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(600)]

SPEC = Spec(services=150, endpoints=1500, namespaces=12)
AGENTS = 6
WINDOW_S = 20
STALE_AFTER_S = 5
WEB = "web.shop.svc.cluster.local"
KINDS = 3


class Fleet:
    """Agents on one control plane, each with a node's name of its own."""

    def __init__(self, root: Path, plane: ControlPlane, dig: str, stack: ExitStack) -> None:
        self.agents: list[Agent] = []
        options = {"stale_after": f"{STALE_AFTER_S}s", "api": {"reconnect_window": f"{WINDOW_S}s"}}
        for number in range(AGENTS):
            agent = Nodens(root / f"node-{number}", plane.kubeconfig(), {**options, "identity": f"node-{number}"})
            self.agents.append(stack.enter_context(agent))
        self.digs = [Dig(dig, agent.port) for agent in self.agents]

    def settle(self) -> None:
        for agent in self.agents:
            agent.wait_connected(timeout_s=60)
        for agent in self.agents:
            agent.wait_state("generation 1", lambda state: state["snapshot"]["generation_writes"] >= 1, timeout_s=60)

    def all_right(self, rightful: Rightful) -> None:
        for agent in self.agents:
            assert wrong_answers(agent.port, rightful) == {}

    def every_answer_shows_its_age(self, least_s: int) -> None:
        for agent, dig in zip(self.agents, self.digs, strict=True):
            said = wait_until("a stale answer", lambda dig=dig: (said := dig(WEB)).extended_error and said)
            found = re.fullmatch(r"3 \(Stale Answer\): \(age=(\d+)s generation=\d+\)", said.extended_error)
            assert found, said.extended_error
            assert int(found[1]) >= least_s
            assert agent.metric('nodens_answers_total{freshness="stale"}') >= 1
            assert agent.get("/readyz")[0] == 200
            state = agent.state()
            assert (state["state"], state["source"]["connected"]) == ("stale", False)


@pytest.fixture
def fleet(plane: ControlPlane, tmp_path: Path, dig: str) -> Iterator[Fleet]:
    plane.admin.write(objects(SPEC))
    with ExitStack() as stack:
        running = Fleet(tmp_path, plane, dig, stack)
        running.settle()
        yield running


def kill_and_start(agent: Agent, asking: Asking, right: tuple[str, frozenset[str]]) -> None:
    """Kill -9 and start; the first right answer is for a name that was never asked before."""
    name, rdata = right
    asking.expects_silence = True
    agent.kill()
    agent.start()
    wait_until("the first right answer", lambda: addresses(agent.port, name) == rdata, every_s=0.005)
    witness.NOW.started(time.monotonic() - agent.child.started_s)
    asking.expects_silence = False


def requests_per_second(plane: ControlPlane, since: int) -> Counter[int]:
    """Count requests by the second in which the API server received them, from its audit log."""
    found: dict[str, int] = {}
    with plane.audit_log.open("rb") as log:
        log.seek(since)
        for line in log:
            event = json.loads(line)
            if event.get("user", {}).get("username") == "nodens":
                came = datetime.fromisoformat(event["requestReceivedTimestamp"])
                found[event["auditID"]] = int(came.timestamp())
    return Counter(found.values())


def test_openai_2024_12_a_fleet_lives_through_overload_death_restarts_and_return(fleet: Fleet, plane: ControlPlane):
    rightful = right_answers(objects(SPEC))
    rng = random.Random(7)
    # Names that nobody asks before the outage: every cache would have to say it does not know.
    a_records = sorted(question for question in rightful if question[1] == "A" and "ip6" not in question[0])
    untouched = rng.sample(a_records, len(a_records) // 2)
    asked = {question: right for question, right in rightful.items() if question not in set(untouched)}
    never_asked = iter(untouched)

    with ExitStack() as stack:
        askings = [stack.enter_context(Asking(agent.port, asked, pause_s=0.3)) for agent in fleet.agents]

        def restart(number: int) -> None:
            question = next(question for question in never_asked if len(rightful[question]) < 20)
            kill_and_start(fleet.agents[number], askings[number], (question[0], rightful[question]))

        # Overloaded: connections are accepted, nothing is answered.
        plane.api.pause()
        restart(0)
        # Dead, and two more nodes restart; one of them twice.
        plane.api.resume()
        plane.kill_api()
        began = time.monotonic()
        for number in (1, 2, 2):
            restart(number)
        fleet.every_answer_shows_its_age(STALE_AFTER_S)
        fleet.all_right(rightful)
        witness.NOW.saw("every answer: EDE 3 with its age; stale in status and metrics; ready")

        # Back: whatever it forgot, whoever comes.
        mark = plane.audit_mark()
        outage_s = time.monotonic() - began
        plane.start_api()
        back = time.monotonic()
        plane.admin.create(service("after", port("http", 80), ips=("10.102.0.1",), namespace="shop"))
        for agent in fleet.agents:
            wait_until(
                f"the change after the return (log: {agent.log})",
                lambda port=agent.port: addresses(port, "after.shop.svc.cluster.local") == {"10.102.0.1"},
                timeout_s=WINDOW_S + 30,
            )
        followed_s = time.monotonic() - back
        for agent in fleet.agents:
            agent.wait_state("fresh", lambda state: state["state"] == "fresh" and state["source"]["connected"])
        for dig in fleet.digs:
            wait_until("a fresh answer", lambda dig=dig: dig(WEB).extended_error == "")
        fleet.all_right(rightful)
        no_herd(plane, mark, outage_s, followed_s)


def no_herd(plane: ControlPlane, mark: int, outage_s: float, followed_s: float) -> None:
    """Assert what the fleet's return cost the API server."""
    counts = plane.counts(since=mark)
    per_s = requests_per_second(plane, mark)
    lists = sum(count for what, count in counts.items() if what.startswith("list"))
    # Of one agent: who it is, a watch that is refused (410), a list and a watch of each kind, an Event on its node.
    of_one = 1 + 3 * KINDS + 1
    said = (
        f"return after {outage_s:.0f} s of outage: all {AGENTS} followed within {followed_s:.1f} s "
        f"(window {WINDOW_S} s); {sum(per_s.values())} requests ({lists} lists), "
        f"at most {max(per_s.values())} in a second, {dict(counts)}"
    )
    print(said)
    witness.NOW.saw(said.partition(", {")[0])
    assert sum(per_s.values()) <= AGENTS * (of_one + 3), "refused while the roles are read: a few more"
    assert max(per_s.values()) <= AGENTS / 2 * of_one, "the fleet does not come back in one second"

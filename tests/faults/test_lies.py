"""An API server that answers, and what it says can't be used or isn't so: cut, garbled, old, out of order, with gaps.

The fault lies in what is said, so each is told at a list or at a watch, to a running agent and to one that starts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.cluster_generator import objects
from tests import witness
from tests.control_plane.processes import wait_until
from tests.faults.stage import SPEC, Stage
from tests.faults.test_api_server import MANY, failing, meets, survives
from tests.scripted_api import Fault, ScriptedApi, service

Start = Callable[..., Stage]


def relist(script: ScriptedApi) -> None:
    """Let every position be forgotten (410), the newest one too, so that every kind is listed."""
    script.advance()
    script.forget()
    script.break_watches()


STATUS = b'{"kind": "Status", "apiVersion": "v1", "status": "Success"}'
UNREADABLE = "can't be read"
LISTS = {
    "truncated JSON": (Fault("LIST", body=b'{"kind": "ServiceList", "items": [{"metadata"'), UNREADABLE),
    "cut connection": (Fault("LIST", cut_bytes=1000), "ended in the middle of an answer|broke|closed the connection"),
    "error page": (Fault("LIST", body=b"<html><body>502 Bad Gateway</body></html>"), UNREADABLE),
    "nothing": (Fault("LIST", body=b""), UNREADABLE),
    "zeros": (Fault("LIST", body=bytes(100_000)), UNREADABLE),
    "another kind": (Fault("LIST", body=STATUS), "can't be read|no items"),
    "a million brackets": (Fault("LIST", body=b'{"items": ' + b"[" * 1_000_000), UNREADABLE),
}


@meets
@pytest.mark.parametrize(
    "said", [each if "JSON" in each else pytest.param(each, marks=pytest.mark.slow) for each in LISTS]
)
def test_unusable_list(stage: Stage, said: str, restarts: bool):
    fault, told = LISTS[said]
    fault = Fault(**{**vars(fault), "times": MANY})
    stage.api.do(lambda script: (script.advance(), script.forget()))
    survives(stage, failing(stage.api, fault), told, restarts=restarts)


WATCHES = {
    "truncated line": b'{"type": "MODIFIED", "object": {"kind": "Ser',
    "no JSON": b"<html>502 Bad Gateway</html>\n",
    "unknown event": b'{"type": "RENAMED", "object": {}}\n',
    "null object": b'{"type": "DELETED", "object": null}\n',
}


@pytest.mark.slow
@pytest.mark.parametrize("said", WATCHES)
def test_garbled_watch(stage: Stage, said: str):
    with stage.asking():
        for _ in range(3):
            before = stage.api.do(lambda script: script.count("WATCH"))
            stage.api.do(lambda script: (script.send("Service", WATCHES[said]), script.end_watches("Service")))
            wait_until("another watch", lambda n=before: stage.api.do(lambda script: script.count("WATCH")) > n)
        stage.follows()
        stage.all_right()
    events = stage.agent.state()["events"]["source"]
    assert events["garbled"] + events["broken"] >= 1
    witness.NOW.saw(f"events: source/garbled {events['garbled']}, source/broken {events['broken']}")


def test_410_for_every_position(stage: Stage):
    with stage.asking() as asking:
        before = stage.api.do(lambda script: script.count("LIST", "Service"))
        stage.api.do(relist)
        wait_until("a list", lambda: stage.api.do(lambda script: script.count("LIST", "Service")) > before)
        stage.follows()
        stage.agent.kill()
        stage.api.restart()
        stage.restart(asking)
        stage.follows()
        stage.all_right()
    gone = stage.agent.state()["events"]["source"]["gone"]
    assert gone >= 1
    witness.NOW.saw(f"events: source/gone {gone}")


def _older(page: dict[str, Any]) -> None:
    page["metadata"]["resourceVersion"] = "1010"
    page["items"] = page["items"][:3]


@meets
def test_aws_2025_10_an_older_list_is_refused(stage: Stage, restarts: bool):
    stage.api.do(lambda script: (script.advance(), script.forget()))
    older = Fault("LIST", "Service", times=MANY, change=_older)
    survives(stage, failing(stage.api, older), "older than what is held", restarts=restarts)
    assert stage.agent.state()["events"]["state"]["older_sets_refused"] >= 1


def test_events_out_of_order_cost_a_list_and_no_answer(stage: Stage):
    web = next(v for v in objects(SPEC) if v["kind"] == "Service" and v["metadata"]["name"] == "web")
    old = {**web, "metadata": {**web["metadata"], "resourceVersion": "3"}, "spec": {**web["spec"]}}
    old["spec"] |= {"clusterIP": "10.96.66.66", "clusterIPs": ["10.96.66.66"]}
    with stage.asking():
        line = json.dumps({"type": "MODIFIED", "object": old}).encode() + b"\n"
        stage.api.do(lambda script: script.send("Service", line))
        state = stage.agent.wait_state("the disorder", lambda state: state["events"]["source"]["disordered"] >= 1)
        stage.follows()
        stage.all_right()
    witness.NOW.saw(f"events: source/disordered {state['events']['source']['disordered']}")


@pytest.mark.slow
def test_silent_watch_gap_is_found_by_the_periodic_list(start_stage: Start):
    """eve#6113, coredns#3879: a change that no watch ever tells; the shipped agent lists every six hours."""
    spans = {"watch_min_s": 1.0, "watch_max_s": 1.5}
    stage = start_stage(spans=spans)
    with stage.asking() as asking:
        stage.api.do(lambda script: script.put(service("shop", "unseen", "10.96.201.1"), silently=True))
        stage.follows()
        assert stage.ask("unseen.shop.svc.cluster.local").status == "NXDOMAIN", "the gap is one that no watch tells"
        stage.agent.environ["HASTY"] = json.dumps({**spans, "heal_s": 1.0, "heal_gap_s": 0.0})
        stage.restart(asking)
        wait_until("the gap to heal", lambda: stage.ask("unseen.shop.svc.cluster.local").rdata == {"10.96.201.1"})
        healed = stage.agent.state()["events"]["source"]["healed"]
        assert healed >= 1
        witness.NOW.saw(f"events: source/healed {healed}")
        stage.all_right()


@pytest.mark.slow
def test_giant_object_in_a_list_and_in_a_watch(stage: Stage):
    giant = service("shop", "giant", "10.96.203.1", labels={"x": "y" * (9 << 20)})
    with stage.asking() as asking:
        stage.api.do(lambda script: script.put(giant))
        state = stage.agent.wait_state("it skipped", lambda state: state["events"]["source"]["giant"] >= 1)
        assert any("giant" in skipped["name"] for skipped in state["snapshot"]["skipped"])
        witness.NOW.saw("skipped by name, events: source/giant")
        stage.follows()
        stage.api.do(relist)
        stage.follows()
        stage.restart(asking)
        stage.follows()
        stage.all_right()


@pytest.mark.slow
def test_cloudflare_2025_11_a_list_beyond_every_bound(stage: Stage):
    huge = b'{"kind": "ServiceList", "metadata": {"resourceVersion": "9999"}, "items": [' + b" " * (65 << 20) + b"]}"
    stage.api.do(lambda script: (script.advance(), script.forget()))
    before = stage.agent.child.usage().rss_bytes
    survives(stage, failing(stage.api, Fault("LIST", "Service", times=MANY, body=huge)), "larger than", restarts=False)
    assert stage.agent.child.usage().rss_bytes - before < 200 << 20

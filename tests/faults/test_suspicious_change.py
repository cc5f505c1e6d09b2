"""A source that is followed and says something nobody would do on purpose: it is held, and every name still answers.

Told in the two ways an API server has, a list after a 410 and a burst of events; the agent is restarted meanwhile.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from benchmarks.cluster_generator import objects
from tests import witness
from tests.control_plane.processes import wait_until
from tests.faults.stage import SPEC, WEB, WEB_ADDRESS, Stage
from tests.faults.test_lies import relist
from tests.scripted_api import ScriptedApi, service

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("agent.snapshot.guard") is None, reason="suspicious change is not held by this version"
)
Start = Callable[..., Stage]
slow = pytest.mark.slow
by = pytest.mark.parametrize("way", ["by list", pytest.param("by events", marks=slow)])


def of(kind: str) -> list[dict[str, Any]]:
    return [value for value in objects(SPEC) if value["kind"] == kind]


def key(value: dict[str, Any]) -> str:
    return f"{value['metadata']['namespace']}/{value['metadata']['name']}"


def everything_gone(script: ScriptedApi, *, silently: bool) -> None:
    for kind in ("Service", "EndpointSlice"):
        for value in of(kind):
            script.delete(kind, key(value), silently=silently)


def half_the_services_gone(script: ScriptedApi, *, silently: bool) -> None:
    for value in of("Service")[::2]:
        script.delete("Service", key(value), silently=silently)


def all_endpoints_unready(script: ScriptedApi, *, silently: bool) -> None:
    for value in of("EndpointSlice"):
        unready = [{**each, "conditions": {"ready": False}} for each in value["endpoints"] or ()]
        script.put({**value, "endpoints": unready}, silently=silently)


def kubernetes_default_gone(script: ScriptedApi, *, silently: bool) -> None:
    script.delete("Service", "default/kubernetes", silently=silently)


def is_held(stage: Stage) -> None:
    """Assert that what came is held, and that anybody can see it."""
    state = stage.agent.wait_state("change held", lambda state: state["quarantine"]["active"], timeout_s=20)
    assert state["ready"]
    assert state["quarantine"]["differences"]
    assert stage.agent.metric("nodens_quarantine_active") == 1
    wait_until("CH TXT", lambda: "quarantine=" in stage.ask("status.nodens", "TXT", "CH").text)
    witness.NOW.saw("quarantined: status, metric, CH TXT", state["quarantine"]["differences"][0][:90])


@by
@pytest.mark.parametrize(
    "lie", [everything_gone, half_the_services_gone, all_endpoints_unready], ids=lambda lie: lie.__name__
)
def test_suspicious(start_stage: Start, lie: Callable[..., None], way: str):
    stage = start_stage(options={"guard": {"hold_for": 0}})
    # What comes bit by bit is ordinary until it is too much, and then all of it is taken back; after a restart again.
    with stage.asking() if way == "by list" else nullcontext() as asking:
        if way == "by list":
            stage.api.do(lambda script: (lie(script, silently=True), relist(script)))
        else:
            stage.api.do(lambda script: lie(script, silently=False))
        is_held(stage)
        stage.all_right()
        stage.restart(asking)
        stage.agent.wait_connected()
        is_held(stage)
        stage.all_right()
        stage.api.do(lambda script: script.put(service("shop", "new", "10.96.204.1")))
        wait_until("what is harmless", lambda: stage.ask("new.shop.svc.cluster.local").rdata == {"10.96.204.1"})
        assert stage.ask(WEB).rdata == {WEB_ADDRESS}
    stage.api.do(lambda script: [script.put(value) for value in objects(SPEC)])
    stage.agent.wait_state("its end", lambda state: not state["quarantine"]["active"], timeout_s=20)
    stage.follows()
    stage.all_right()


@by
def test_protected_name_emptied(start_stage: Start, way: str):
    stage = start_stage(options={"guard": {"hold_for": 0}})
    with stage.asking():
        if way == "by list":
            stage.api.do(lambda script: (kubernetes_default_gone(script, silently=True), relist(script)))
        else:
            stage.api.do(lambda script: kubernetes_default_gone(script, silently=False))
        is_held(stage)
        stage.all_right()

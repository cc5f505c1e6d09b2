"""Google 2025-06: blank fields in replicated data, a crash loop, a herd: bad objects are skipped by name."""

from __future__ import annotations

from tests import witness
from tests.faults.stage import Stage
from tests.faults.test_lies import relist
from tests.faults.test_suspicious_change import of
from tests.scripted_api import ScriptedApi


def blank(script: ScriptedApi) -> int:
    """Blank a field of every fifth live object."""
    services = [value for value in of("Service") if value["spec"].get("clusterIP") not in {None, "None", ""}][::5]
    for value in services:
        script.put({**value, "spec": {**value["spec"], "clusterIP": "", "clusterIPs": [""]}})
    for value in of("EndpointSlice")[::5]:
        script.put({**value, "endpoints": [{"addresses": [""], "conditions": {"ready": True}}], "addressType": ""})
    return len(services)


def test_google_2025_06_blank_fields_in_live_objects(stage: Stage):
    with stage.asking() as asking:
        count = stage.api.do(blank)
        assert count > 5
        state = stage.agent.wait_state(
            "them counted", lambda state: state["snapshot"]["skipped_total"]["Service"] >= count, timeout_s=20
        )
        assert all(skipped["name"] and skipped["reason"] for skipped in state["snapshot"]["skipped"])
        witness.NOW.saw(f"skipped by name: {state['snapshot']['skipped'][-1]['reason'][:60]}")
        stage.follows()
        stage.all_right()
        for _ in range(2):
            stage.restart(asking)
            stage.follows()
        stage.api.do(relist)
        stage.agent.wait_state(
            "them counted anew", lambda state: state["snapshot"]["skipped_total"]["Service"] >= count, timeout_s=20
        )
        stage.follows()
        stage.all_right()
        assert sum(stage.agent.state()["process"]["task_failures"].values()) == 0, "no crash, no loop of them"
        assert stage.agent.metric("nodens_objects_skipped_total") >= count

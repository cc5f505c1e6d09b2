"""Kubernetes Events on a real API server, as kubectl shows them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.control_plane import binaries
from tests.control_plane.control_plane import ADMIN, ControlPlane
from tests.control_plane.processes import wait_until

if TYPE_CHECKING:
    from tests.control_plane.agent_process import Nodens

pytestmark = [pytest.mark.control_plane, pytest.mark.slow]

EVENTS = "/api/v1/namespaces/default/events?fieldSelector=involvedObject.kind=Node"


def reports(plane: ControlPlane) -> dict[str, dict[str, Any]]:
    """Read the Events on Nodes, by reason."""
    return {item["reason"]: item for item in plane.admin.request("GET", EVENTS)["items"]}


def test_an_outage_is_told_after_it_on_the_node_and_kubectl_shows_it(
    plane: ControlPlane, start_nodens: Callable[..., Nodens]
):
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "test-node"}}
    plane.admin.request("POST", "/api/v1/nodes", node)
    agent = start_nodens(plane, stale_after=1)
    agent.wait_connected()
    plane.kill_api()
    agent.wait_state("stale", lambda state: state["state"] == "stale")
    plane.start_api()
    wait_until("both Events", lambda: {"DNSStale", "DNSFresh"} <= set(reports(plane)), timeout_s=90)
    found = reports(plane)
    assert (found["DNSStale"]["type"], found["DNSFresh"]["type"]) == ("Warning", "Normal")
    assert found["DNSStale"]["firstTimestamp"] < found["DNSFresh"]["firstTimestamp"]
    assert found["DNSStale"]["firstTimestamp"] < found["DNSStale"]["metadata"]["creationTimestamp"]
    assert found["DNSStale"]["source"] == {"component": "nodens", "host": "test-node"}
    kubectl = binaries.program("kubectl")
    if kubectl is not None:
        words = [str(kubectl), "--kubeconfig", str(plane.kubeconfig(ADMIN)), "describe", "node", "test-node"]
        shown = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
        print(shown[shown.index("Events:") :])
        assert "DNSStale" in shown
        assert "DNS follows its source again, answers are fresh" in shown


def test_an_account_that_may_not_is_told_so_and_the_source_is_followed_all_the_same(
    plane: ControlPlane, start_nodens: Callable[..., Nodens]
):
    plane.forbid_events()
    agent = start_nodens(plane, stale_after=1)
    agent.wait_connected()
    plane.kill_api()
    agent.wait_state("stale", lambda state: state["state"] == "stale")
    plane.start_api()
    refused = lambda: any(spent.code == 403 and spent.resource == "events" for spent in plane.spent())  # noqa: E731
    wait_until("the refusal", refused, timeout_s=90)
    agent.wait_state("fresh", lambda state: state["state"] == "fresh" and state["source"]["connected"], timeout_s=60)
    assert reports(plane) == {}

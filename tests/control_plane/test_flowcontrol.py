"""The manifests in daemonset/ on a real API server: what the agent's account may do, and how the fleet is bounded."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.sources.delivery import event
from agent.sources.reports import Report
from benchmarks.cluster_generator import Spec, objects
from tests.control_plane import binaries
from tests.control_plane.agent_process import Nodens
from tests.control_plane.api_client import ApiClient, ApiError
from tests.control_plane.control_plane import ADMIN, ControlPlane
from tests.control_plane.processes import wait_until

pytestmark = [pytest.mark.control_plane, pytest.mark.slow]

MANIFESTS = Path(__file__).parents[2] / "daemonset"
ACCOUNT = "/api/v1/namespaces/kube-system/serviceaccounts/nodens/token"
PAGE = "/apis/discovery.k8s.io/v1/endpointslices?resourceVersion=1&resourceVersionMatch=NotOlderThan"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices?resourceVersion=0"
CLIENTS = 24


class Level:
    """The priority level `nodens`, as the API server's metrics show it."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def read(self, name: str, **labels: str) -> float:
        """Add up the samples of a metric, of this level and with these labels."""
        text = self._plane.admin.request("GET", "/metrics")
        wanted = [f'{key}="{value}"' for key, value in {"priority_level": "nodens", **labels}.items()]
        lines = re.findall(rf"^apiserver_flowcontrol_{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE)
        return sum(float(value) for found, value in lines if all(each in found for each in wanted))


@pytest.fixture
def account(plane: ControlPlane) -> str:
    """Apply the manifests; gives a token of the agent's ServiceAccount."""
    kubectl = binaries.program("kubectl")
    if kubectl is None:
        pytest.skip(f"no kubectl in {binaries.folder()} (`make envtest` builds it)")
    for name in ("rbac.yaml", "flowcontrol.yaml"):
        command = [kubectl, "--kubeconfig", plane.kubeconfig(ADMIN), "apply", "-f", MANIFESTS / name]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        print(done.stdout)
    wait_until("the priority level", lambda: Level(plane).read("nominal_limit_seats") > 0)
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    token: str = plane.admin.request("POST", ACCOUNT, body)["status"]["token"]
    return token


def kubeconfig_with(plane: ControlPlane, token: str) -> Path:
    """Write a kubeconfig of the account; its token is too long for a file name."""
    config = json.loads(plane.kubeconfig().read_text())
    config["users"][0]["user"]["token"] = token
    path = plane.root / "kubeconfig-account"
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    return path


def test_the_agent_s_account_may_follow_and_its_requests_count_in_its_own_level(
    plane: ControlPlane, account: str, tmp_path: Path
):
    plane.admin.write(objects(Spec(services=40, endpoints=300, namespaces=10)))
    level = Level(plane)
    before = level.read("dispatched_requests_total", flow_schema="nodens")
    with Nodens(tmp_path / "nodens", kubeconfig_with(plane, account)) as agent:
        agent.wait_connected()
        asked = agent.metric("nodens_api_requests_total")
    assert asked >= 7  # identity, three lists, three watches
    assert level.read("dispatched_requests_total", flow_schema="nodens") - before == asked
    assert level.read("rejected_requests_total") == 0


def test_the_agent_s_account_may_nothing_else(plane: ControlPlane, account: str):
    client = ApiClient("127.0.0.1", plane.port, account, str(plane.ca))
    for path in ("/api/v1/pods", "/api/v1/secrets", "/api/v1/nodes", "/api/v1/namespaces/kube-system"):
        with pytest.raises(ApiError) as refused:
            client.request("GET", path)
        assert refused.value.code == 403, path
    report = event(Report("DNSStale", "a test", is_trouble=True, first_unix_s=1.7e9, last_unix_s=1.7e9), "node-7")
    client.request("POST", "/api/v1/namespaces/default/events", report)
    elsewhere = {**report, "metadata": {"name": "a", "namespace": "kube-system"}}
    with pytest.raises(ApiError) as refused:
        client.request("POST", "/api/v1/namespaces/kube-system/events", elsewhere)
    assert refused.value.code == 403
    client.close()


def test_a_herd_takes_no_more_than_the_level_s_seats_and_the_rest_waits(plane: ControlPlane, account: str):
    plane.admin.write(objects(Spec(services=1500, endpoints=20_000, namespaces=50)))
    level = Level(plane)
    limit = level.read("nominal_limit_seats")
    request = f"GET {SLICES} HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {account}\r\n\r\n".encode()
    tls = ssl.create_default_context(cafile=str(plane.ca))
    with ExitStack() as herd:
        for _ in range(CLIENTS):
            # Whoever asks and doesn't read keeps its seats: the herd stands still to be counted.
            peer = herd.enter_context(socket.create_connection(("127.0.0.1", plane.port)))
            herd.enter_context(tls.wrap_socket(peer, server_hostname="127.0.0.1")).sendall(request)
        wait_until("a queue", lambda: level.read("current_inqueue_requests") >= CLIENTS / 2)
        seats, waiting = level.read("current_executing_seats"), level.read("current_inqueue_requests")
        print(f"{limit:.0f} seats, {seats:.0f} taken, {waiting:.0f} requests waiting")
        assert 0 < seats <= limit
        plane.admin.get("Service", "default", "kubernetes")  # people get through meanwhile
    assert level.read("rejected_requests_total", reason="queue-full") == 0


def test_a_page_is_reckoned_within_the_level_s_seats(plane: ControlPlane, account: str):
    plane.admin.write(objects(Spec(services=1500, endpoints=20_000, namespaces=50)))
    level, client = Level(plane), ApiClient("127.0.0.1", plane.port, account, str(plane.ca))
    before = level.read("work_estimated_seats_sum")
    client.request("GET", f"{PAGE}&limit=500")
    client.close()
    seats = level.read("work_estimated_seats_sum") - before
    print(f"a page of 500 is reckoned at {seats:.0f} seats")
    assert 1 <= seats <= 10 < level.read("nominal_limit_seats")

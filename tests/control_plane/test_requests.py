"""What one agent costs the API server: counted by the API server's own audit log, and by a relay before it."""

from __future__ import annotations

import time
import urllib.parse
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from benchmarks.cluster_generator import Spec, objects
from tests.control_plane.control_plane import ControlPlane, Spent
from tests.control_plane.dns_client import addresses
from tests.control_plane.processes import wait_until
from tests.control_plane.relay import Relay

if TYPE_CHECKING:
    from tests.control_plane.agent_process import Nodens

pytestmark = [pytest.mark.control_plane, pytest.mark.slow]

REQUESTS_PER_HOUR = 20
"""The budget of one agent in the steady state."""
Start = Callable[..., "Nodens"]


@pytest.fixture
def cluster(plane: ControlPlane) -> ControlPlane:
    plane.admin.write(objects(Spec(services=40, endpoints=300, namespaces=10)))
    return plane


def watch_seconds(request: Spent) -> float:
    """Return the timeoutSeconds a watch was asked for."""
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(request.uri).query)
    return float(query["timeoutSeconds"][0])


def test_a_fleet_of_one_stays_within_its_hourly_budget(cluster: ControlPlane, start_nodens: Start):
    agent = start_nodens(cluster)
    agent.wait_connected()
    requests = cluster.spent()
    print(f"requests of a first start: {dict(cluster.counts())}")
    watches = [request for request in requests if request.verb == "watch" and not request.streamed]
    assert Counter(request.resource for request in watches) == {"services": 1, "endpointslices": 1, "namespaces": 1}
    assert sum(request.is_list for request in requests) == 3
    hourly = sum(3600 / watch_seconds(request) for request in watches)
    print(f"watches renewed in the steady state: {hourly:.1f} an hour")
    assert hourly <= REQUESTS_PER_HOUR
    mark = cluster.audit_mark()
    time.sleep(15)
    assert cluster.spent(since=mark) == []
    assert all("allowWatchBookmarks=true" in request.uri for request in watches)


def test_the_agent_counts_what_the_audit_log_counts(cluster: ControlPlane, start_nodens: Start):
    agent = start_nodens(cluster)
    agent.wait_connected()
    assert agent.metric("nodens_api_requests_total") == len(cluster.spent())


def test_an_outage_is_not_answered_with_a_storm(cluster: ControlPlane, start_nodens: Start):
    with Relay(cluster.port) as relay:
        agent = start_nodens(cluster, port=relay.port)
        agent.wait_connected()
        cluster.kill_api()
        time.sleep(1)
        before = relay.attempts
        time.sleep(20)
        attempts = relay.attempts - before
        print(f"{attempts} connection attempts in 20 s of outage")
        assert attempts <= 40
        assert addresses(agent.port, "web.shop.svc.cluster.local")


def test_a_revoked_permission_is_not_answered_with_a_storm(cluster: ControlPlane, start_nodens: Start):
    agent = start_nodens(cluster)
    agent.wait_connected()
    cluster.admin.request("DELETE", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/dns-nodens")
    assert agent.stop() == 0
    mark = cluster.audit_mark()
    agent.start()
    agent.wait_answering()
    time.sleep(15)
    refused = [request for request in cluster.spent(since=mark) if request.code == 403]
    print(f"{len(refused)} refused requests in 15 s")
    assert 1 <= len(refused) <= 30
    assert addresses(agent.port, "web.shop.svc.cluster.local")


def test_a_cut_connection_is_resumed_without_a_list(cluster: ControlPlane, start_nodens: Start):
    with Relay(cluster.port) as relay:
        agent = start_nodens(cluster, port=relay.port)
        agent.wait_connected()
        mark = cluster.audit_mark()
        for number in range(3):
            relay.cut()
            ip = f"10.103.0.{number + 1}"
            body = {"metadata": {"name": f"cut-{number}"}, "spec": {"clusterIP": ip, "ports": [{"port": 80}]}}
            cluster.admin.request("POST", "/api/v1/namespaces/shop/services", body)
            name = f"cut-{number}.shop.svc.cluster.local"
            wait_until("a change after the cut", lambda name=name, ip=ip: addresses(agent.port, name) == {ip})
        assert not [request for request in cluster.spent(since=mark) if request.is_list]

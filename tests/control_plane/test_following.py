"""Services and slices are created, changed and deleted on a real API server, and dig follows."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.control_plane import binaries
from tests.control_plane.control_plane import ADMIN, ControlPlane
from tests.control_plane.dns_client import addresses, status, try_ask
from tests.control_plane.nasty_cases import endpoint, port, service, slice_
from tests.control_plane.processes import wait_until

if TYPE_CHECKING:
    from tests.control_plane.agent_process import Nodens

pytestmark = [pytest.mark.control_plane]
_places = itertools.count(1)
_ips = itertools.count(1)


@pytest.fixture
def place(shared_plane: ControlPlane) -> str:
    """A namespace of the test's own."""
    name = f"follow-{next(_places)}"
    shared_plane.admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


@pytest.fixture
def nodens(shared_plane: ControlPlane, start_nodens: Callable[..., Nodens]) -> Nodens:
    agent = start_nodens(shared_plane)
    agent.wait_connected()
    return agent


def fresh_ip() -> str:
    return f"10.101.0.{next(_ips)}"


@pytest.fixture
def digs(dig: str, nodens: Nodens) -> Callable[..., list[str]]:
    """Ask the agent with the real dig: the short answer, sorted."""

    def ask(name: str, type_: str = "A") -> list[str]:
        command = [dig, "@127.0.0.1", "-p", str(nodens.port), "+short", "+tries=1", "+time=2", name, type_]
        return sorted(subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines())

    return ask


def test_a_created_service_is_answered_and_a_deleted_one_is_gone(shared_plane, nodens, digs, place):
    ip = fresh_ip()
    name = f"web.{place}.svc.cluster.local"
    assert status(try_ask(nodens.port, name)) == "NXDOMAIN"
    shared_plane.admin.create(service("web", port("http", 80), ips=(ip,), namespace=place))
    wait_until("dig sees the new Service", lambda: digs(name) == [ip], timeout_s=5)
    assert digs(f"_http._tcp.{name}", "SRV") == [f"0 100 80 {name}."]
    reverse = ".".join(reversed(ip.split("."))) + ".in-addr.arpa"
    assert digs(reverse, "PTR") == [f"{name}."]
    shared_plane.admin.delete("Service", place, "web")
    wait_until("dig sees it is gone", lambda: status(try_ask(nodens.port, name)) == "NXDOMAIN", timeout_s=5)
    assert digs(reverse, "PTR") == []
    assert status(try_ask(nodens.port, f"{place}.svc.cluster.local")) == "NODATA"


def test_endpoints_come_and_go_with_their_readiness(shared_plane, nodens, digs, place):
    name = f"db.{place}.svc.cluster.local"
    admin = shared_plane.admin
    admin.create(service("db", port("postgres", 5432), namespace=place))
    members = [endpoint(f"10.202.0.{i}", hostname=f"db-{i}") for i in (1, 2)]
    admin.create(slice_("db", 1, [port("postgres", 5432)], *members, namespace=place))
    wait_until("both endpoints", lambda: digs(name) == ["10.202.0.1", "10.202.0.2"], timeout_s=5)
    assert digs(f"db-2.{name}") == ["10.202.0.2"]
    members[1]["conditions"]["ready"] = False
    admin.patch("EndpointSlice", place, "db-1", {"endpoints": members})
    wait_until("the unready one leaves", lambda: digs(name) == ["10.202.0.1"], timeout_s=5)
    assert status(try_ask(nodens.port, f"db-2.{name}")) == "NXDOMAIN"
    admin.delete("EndpointSlice", place, "db-1")
    wait_until("nobody is left", lambda: status(try_ask(nodens.port, name)) == "NXDOMAIN", timeout_s=5)


def test_changed_ports_and_targets_are_followed(shared_plane, nodens, digs, place):
    ip, base = fresh_ip(), f"{place}.svc.cluster.local"
    admin = shared_plane.admin
    admin.create(service("web", port("http", 80), ips=(ip,), namespace=place))
    admin.create(service("alias", namespace=place, externalName=f"web.{base}"))
    wait_until("the alias leads there", lambda: digs(f"alias.{base}") == [ip, f"web.{base}."], timeout_s=5)
    admin.patch("Service", place, "web", {"spec": {"ports": [port("https", 443)]}})
    new = f"_https._tcp.web.{base}"
    wait_until("the new port", lambda: digs(new, "SRV") == [f"0 100 443 web.{base}."], timeout_s=5)
    assert status(try_ask(nodens.port, f"_http._tcp.web.{base}", "SRV")) == "NXDOMAIN"
    admin.patch("Service", place, "alias", {"spec": {"externalName": "elsewhere.example.org"}})
    wait_until("the new target", lambda: digs(f"alias.{base}", "CNAME") == ["elsewhere.example.org."], timeout_s=5)


def test_a_deleted_namespace_takes_its_names_with_it(shared_plane, nodens, place):
    admin, base = shared_plane.admin, f"{place}.svc.cluster.local"
    admin.create(service("web", port("http", 80), ips=(fresh_ip(),), namespace=place))
    wait_until("the Service", lambda: addresses(nodens.port, f"web.{base}"), timeout_s=5)
    admin.delete("Service", place, "web")
    admin.remove_namespace(place)
    wait_until("the namespace is gone", lambda: status(try_ask(nodens.port, base)) == "NXDOMAIN", timeout_s=5)


def test_kubectl_apply_is_followed(shared_plane, nodens, digs, place, tmp_path):
    kubectl = binaries.program("kubectl")
    if kubectl is None:
        pytest.skip(f"no kubectl in {binaries.folder()}")
    ip = fresh_ip()
    manifest = tmp_path / "service.json"
    manifest.write_text(json.dumps(service("web", port("http", 80), ips=(ip,), namespace=place)))
    command = [str(kubectl), "--kubeconfig", str(shared_plane.kubeconfig(ADMIN)), "apply", "-f", str(manifest)]
    subprocess.run(command, check=True, capture_output=True)
    wait_until("dig follows kubectl", lambda: digs(f"web.{place}.svc.cluster.local") == [ip], timeout_s=5)


def test_a_burst_of_changes_arrives_whole(shared_plane, nodens, place):
    admin = shared_plane.admin
    wanted = {}
    for number in range(150):
        ip = fresh_ip()
        wanted[f"burst-{number}.{place}.svc.cluster.local"] = {ip}
        admin.create(service(f"burst-{number}", port("http", 80), ips=(ip,), namespace=place))
    wait_until(
        "every Service of the burst",
        lambda: all(addresses(nodens.port, name) == ips for name, ips in wanted.items()),
        timeout_s=10,
    )


def test_list_and_watch_of_three_kinds_are_all_it_asks_for(shared_plane, nodens):
    requests = shared_plane.spent("nodens")
    assert requests
    assert {request.verb for request in requests} <= {"list", "watch"}
    assert {request.resource for request in requests} == {"services", "endpointslices", "namespaces"}
    assert {request.code for request in requests} <= {200, 410}

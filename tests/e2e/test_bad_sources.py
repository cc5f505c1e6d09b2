"""Sources that went wrong elsewhere: what can't be used as a whole changes nothing, a part that is wrong is skipped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cluster_generator import objects
from tests.agent_process import Agent
from tests.control_plane.nasty_cases import endpoint, port, service, slice_
from tests.control_plane.processes import wait_until
from tests.e2e.conftest import SPEC
from tests.e2e.dig import Dig
from tests.e2e.right_answers import Rightful, right_answers, wrong_answers

pytestmark = pytest.mark.faults

WEB = "web.shop.svc.cluster.local"
HTTP = port("http", 80)


def _file(path: Path, items: list[Any]) -> None:
    """Write a list beside the file and rename it into place."""
    new = path.with_name(f".{path.name}")
    new.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    new.replace(path)


def _invalid(kind: str, good: bytes) -> bytes:
    return {
        "half-written": good[: len(good) // 2],
        "without its last byte": good.rstrip()[:-1],
        "empty": b"",
        "zeros": bytes(len(good)),
        "another document": b'{"kind": "Status", "status": "Failure", "code": 503}',
        "a million brackets": b"[" * 1_000_000,
        "an error page": b"<html><body>502 Bad Gateway</body></html>",
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "half-written",
        "without its last byte",
        "empty",
        "zeros",
        "another document",
        "a million brackets",
        "an error page",
    ],
)
def test_cloudflare_2025_11_an_invalid_file_leaves_the_last_good_state_in_place(
    agent: Agent, cluster: Path, kind: str, rightful: Rightful, ask: Dig
):
    good = cluster.read_bytes()
    cluster.write_bytes(_invalid(kind, good))
    state = agent.wait_state("the source lost", lambda state: "cluster.json" in state["source"]["last_error"])
    assert not state["source"]["connected"]
    assert wrong_answers(agent.port, rightful) == {}
    assert (state["ready"], state["snapshot"]["objects"]["Service"]) == (True, SPEC.services)
    cluster.write_bytes(good.replace(b"10.96.10.80", b"10.96.99.99"))
    wait_until("the repaired file", lambda: ask(WEB).rdata == {"10.96.99.99"})
    assert agent.state()["source"]["connected"]
    assert sum(agent.state()["process"]["task_failures"].values()) == 0


def test_cloudflare_2025_11_an_oversized_file_is_refused_not_read(
    start_agent: Callable[..., Agent], cluster: Path, rightful: Rightful
):
    good = cluster.read_bytes()
    agent = start_agent(cluster, file={"poll": "50ms", "debounce": "20ms", "max_bytes": 2 * len(good)})
    agent.wait_connected()
    before = agent.child.usage().rss_bytes
    many = [service(f"flood-{n}", HTTP, ips=(f"10.110.{n >> 8}.{n & 255}",)) for n in range(20_000)]
    _file(cluster, [*objects(SPEC), *many])
    assert cluster.stat().st_size > 2 * len(good)
    agent.wait_state("the source lost", lambda state: str(2 * len(good)) in state["source"]["last_error"])
    assert wrong_answers(agent.port, rightful) == {}
    assert agent.child.usage().rss_bytes - before < 20 << 20
    cluster.write_bytes(good)
    agent.wait_state("the source back", lambda state: state["source"]["connected"])
    assert wrong_answers(agent.port, rightful) == {}


def test_a_reader_that_would_eat_the_memory_is_ended_and_harms_nobody(
    start_agent: Callable[..., Agent], cluster: Path, rightful: Rightful
):
    agent = start_agent(cluster, file={"poll": "50ms", "debounce": "20ms", "max_memory_bytes": "64MiB"})
    agent.wait_connected()
    with cluster.open("r+b") as out:
        out.truncate(200 << 20)
    agent.wait_state("the source lost", lambda state: not state["source"]["connected"])
    assert wrong_answers(agent.port, rightful) == {}
    agent.child.check()


BLANKS: list[tuple[str, str, Any]] = [
    ("Service", "no-spec", {**service("no-spec", HTTP), "spec": None}),
    ("Service", "no-address", service("no-address", HTTP, clusterIP="", clusterIPs=[""], type="ClusterIP")),
    ("Service", "odd-address", service("odd-address", HTTP, ips=("10.96.300.1",))),
    ("Service", "odd-ports", service("odd-ports", {"name": "http", "port": "eighty"}, ips=("10.111.0.1",))),
    ("EndpointSlice", "web-1", slice_("web", 1, [HTTP], endpoint("10.0.0.256"), namespace="shop")),
    ("EndpointSlice", "web-2", slice_("web", 2, [HTTP], endpoint(""), namespace="shop")),
    ("EndpointSlice", "web-3", {**slice_("web", 3, [HTTP], namespace="shop"), "endpoints": {"addresses": []}}),
    ("Service", "", {"apiVersion": "v1", "kind": "Service", "metadata": None, "spec": {}}),
    ("Service", "", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "", "namespace": ""}, "spec": {}}),
    ("Namespace", "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": None}}),
]


def test_google_2025_06_objects_with_blank_fields_are_skipped_by_name_and_all_others_apply(
    agent: Agent, cluster: Path, rightful: Rightful, ask: Dig
):
    good = list(objects(SPEC))
    _file(
        cluster, [value for _, _, value in BLANKS[:6]] + good + [value for _, _, value in BLANKS[6:]] + [None, 7, "x"]
    )
    wanted = sum(kind == "Service" for kind, *_ in BLANKS)
    state = agent.wait_state("them counted", lambda state: state["snapshot"]["skipped_total"]["Service"] >= wanted)
    assert wrong_answers(agent.port, rightful) == {}
    named = {(skipped["kind"], skipped["name"].rpartition("/")[2]) for skipped in state["snapshot"]["skipped"]}
    assert {(kind, name) for kind, name, _ in BLANKS if name} <= named
    assert all(skipped["reason"] for skipped in state["snapshot"]["skipped"])
    assert state["source"]["connected"]
    assert agent.metric('nodens_objects_skipped_total{kind="Service"}') >= wanted
    assert ask("no-spec.nasty.svc.cluster.local").status == "NXDOMAIN"
    agent.wait_told("no-spec")


def test_google_2025_06_an_object_that_turned_bad_goes_on_answering_as_it_was(
    agent: Agent, cluster: Path, rightful: Rightful, ask: Dig
):
    items = list(objects(SPEC))
    for value in items:
        if value["metadata"]["name"] in {"web", "cache"} and value["kind"] == "Service":
            value["spec"]["clusterIPs"] = [""]
    _file(cluster, [*items, service("later", HTTP, ips=("10.114.0.1",), namespace="shop")])
    wait_until("what is good in it", lambda: ask("later.shop.svc.cluster.local").rdata == {"10.114.0.1"})
    assert wrong_answers(agent.port, rightful) == {}
    named = {skipped["name"] for skipped in agent.state()["snapshot"]["skipped"]}
    assert {"shop/web", "shop/cache"} <= named
    agent.kill()
    agent.start()
    agent.wait_connected()
    assert wrong_answers(agent.port, rightful) == {}
    _file(cluster, [value for value in items if value["metadata"]["name"] != "web"])
    wait_until("its end", lambda: ask(WEB).status == "NXDOMAIN")
    assert ask("cache.shop.svc.cluster.local").rdata == {"10.96.10.81"}


def test_google_2025_06_such_a_file_starts_no_crash_loop(agent: Agent, cluster: Path, rightful: Rightful):
    _file(cluster, [value for _, _, value in BLANKS] + list(objects(SPEC)))
    agent.wait_state("them counted", lambda state: state["snapshot"]["skipped_total"]["Service"] >= 1)
    for _ in range(2):
        agent.kill()
        agent.start()
        agent.wait_connected()
    assert wrong_answers(agent.port, rightful) == {}
    assert sum(agent.state()["process"]["task_failures"].values()) == 0


def test_monzo_2017_a_service_without_endpoints_is_normal_input(agent: Agent, cluster: Path, ask: Dig):
    null = {**slice_("null", 1, None, namespace="shop"), "endpoints": None}
    _file(
        cluster,
        [
            *objects(SPEC),
            service("null", HTTP, ips=("10.112.0.1",), namespace="shop"),
            service("bare", HTTP, ips=("10.112.0.2",), namespace="shop"),
            service("none", HTTP, ips=("10.112.0.3",), namespace="shop"),
            service("headless-null", HTTP, namespace="shop"),
            null,
            {**slice_("headless-null", 1, None, namespace="shop"), "endpoints": None},
            slice_("none", 1, [], namespace="shop"),
            slice_("web", 9, [HTTP], endpoint("10.250.1.1", ready=False), namespace="shop"),
        ],
    )  # fmt: skip
    wait_until("the services", lambda: ask("bare.shop.svc.cluster.local").rdata == {"10.112.0.2"})
    assert ask("null.shop.svc.cluster.local").rdata == {"10.112.0.1"}
    assert ask("none.shop.svc.cluster.local").rdata == {"10.112.0.3"}
    assert ask("_http._tcp.bare.shop.svc.cluster.local", "SRV").kind == "NOERROR"
    assert ask("headless-null.shop.svc.cluster.local").status == "NXDOMAIN"
    assert ask(WEB).rdata == {"10.96.10.80"}
    state = agent.state()
    assert (state["source"]["connected"], state["snapshot"]["skipped"]) == (True, [])


def test_services_without_endpoints_do_not_exist_where_that_is_wanted(
    start_agent: Callable[..., Agent], cluster: Path, dig: str
):
    agent = start_agent(cluster, ignore_empty_service=True)
    agent.wait_connected()
    ask = Dig(dig, agent.port)
    assert ask("idle.shop.svc.cluster.local").status == "NXDOMAIN"
    assert ask(WEB).rdata == {"10.96.10.80"}


def test_a_folder_of_manifests_is_followed_file_by_file(start_agent: Callable[..., Agent], tmp_path: Path, dig: str):
    folder = tmp_path / "manifests"
    folder.mkdir()
    everything = list(objects(SPEC))
    for kind in ("Service", "EndpointSlice", "Namespace"):
        _file(folder / f"{kind.lower()}.json", [value for value in everything if value["kind"] == kind])
    agent = start_agent(folder)
    agent.wait_connected()
    assert wrong_answers(agent.port, right_answers(everything)) == {}
    (folder / "more.yaml").write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: extra, namespace: shop}\n"
        "spec: {clusterIP: 10.113.0.1, clusterIPs: [10.113.0.1], ports: [{name: http, port: 80}]}\n"
    )
    ask = Dig(dig, agent.port)
    wait_until("the new file", lambda: ask("extra.shop.svc.cluster.local").rdata == {"10.113.0.1"})
    os.unlink(folder / "more.yaml")
    wait_until("its end", lambda: ask("extra.shop.svc.cluster.local").status == "NXDOMAIN")
    assert wrong_answers(agent.port, right_answers(everything)) == {}

"""The Kubernetes source against a scripted API server: the ordinary life."""

from __future__ import annotations

import asyncio
import json

import pytest

from agent.cluster.objects import unpack_service, unpack_slice
from agent.cluster.selection import Selection, parse_selector
from agent.sources.kubernetes import KubernetesSource
from agent.sources.origin import Origin
from agent.sources.pacing import Budget
from tests.scripted_api import KUBE_SYSTEM_UID, ScriptedApi, endpoint_slice, namespace, service
from tests.sources.mirror import PATIENT, QUICK, Mirror, ScaledClock, following

IDENTITY = f"uid:{KUBE_SYSTEM_UID}"


@pytest.fixture
async def api():
    async with ScriptedApi() as server:
        server.put(namespace("shop"))
        server.put(service("shop", "web", "10.0.0.1"))
        server.put(endpoint_slice("shop", "web-abc", ["10.1.0.1", "10.1.0.2"], of="web"))
        yield server


@pytest.fixture
def mirror():
    return Mirror()


def position(api: ScriptedApi) -> dict[str, str]:
    return dict.fromkeys(("Namespace", "Service", "EndpointSlice"), str(api.revision))


async def test_the_full_set_comes_first_in_the_order_of_the_kinds(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await mirror.until(lambda: mirror.is_connected)
    assert [kind for kind, _ in mirror.of("replace")] == ["Namespace", "Service", "EndpointSlice"]
    assert mirror.names("Namespace") == ["kube-system", "shop"]
    assert unpack_service(mirror.held["Service"]["shop/web"].blob).cluster_ips == (b"\x0a\x00\x00\x01",)
    assert len(unpack_slice(mirror.held["EndpointSlice"]["shop/web-abc"].blob).endpoints) == 2
    assert mirror.positions == position(api)
    words = [what[0] for what in mirror.said if what[0] != "requested"]
    assert words == ["identify", "replace", "replace", "replace", "connected"]


async def test_changes_follow_in_order(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await mirror.until(lambda: mirror.is_connected)
        api.put(service("shop", "db", "10.0.0.2"))
        api.put(service("shop", "web", "10.0.0.9"))
        last = api.delete("Service", "shop/db")
        await mirror.until(lambda: mirror.positions["Service"] == last)
    assert mirror.names() == ["shop/web"]
    assert unpack_service(mirror.held["Service"]["shop/web"].blob).cluster_ips == (b"\x0a\x00\x00\x09",)
    assert not mirror.of("lost")


async def test_a_list_is_read_in_pages_of_500_from_the_watch_cache(api, mirror, tmp_path):
    for number in range(1200):
        api.put(service("shop", f"svc-{number:04}"))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await mirror.until(lambda: mirror.is_connected)
    assert len(mirror.names()) == 1201
    pages = [seen.query for seen in api.seen if seen.kind == "Service" and seen.verb in {"LIST", "CONTINUE"}]
    assert pages[0] == {"limit": "500", "resourceVersion": "1", "resourceVersionMatch": "NotOlderThan"}
    assert [set(page) for page in pages[1:]] == [{"limit", "continue"}] * 2


async def test_every_request_says_who_asks_and_takes_gzip(api, mirror, tmp_path):
    for number in range(1000):
        api.put(service("shop", f"svc-{number:04}", labels=dict.fromkeys(("app", "tier", "part"), "a" * 63)))
    async with following(api.kubeconfig(tmp_path, token="secret"), mirror, timing=PATIENT):
        await mirror.until(lambda: mirror.is_connected)
    for seen in api.seen:
        assert seen.headers["user-agent"].startswith("nodens/")
        assert seen.headers["authorization"] == "Bearer secret"
        assert seen.headers["accept"] == (
            "application/json" if seen.verb == "WATCH" else "application/vnd.kubernetes.protobuf, application/json"
        )
        assert seen.headers["accept-encoding"] == ("identity" if seen.verb == "WATCH" else "gzip")
    assert all(seen.size_bytes < 60_000 for seen in api.seen)  # 500 Services are 150 KB


async def test_every_request_is_accounted_for_once(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await mirror.until(lambda: mirror.is_connected and api.watchers() == 3)
    told = sorted((verb, size) for verb, code, size in mirror.of("requested") if code == 200)
    assert told == sorted((seen.verb, seen.size_bytes) for seen in api.seen)
    assert len(told) == 7  # who the cluster is, three lists, three watches


async def test_a_watch_asks_for_bookmarks_and_a_random_end(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await mirror.until(lambda: api.watchers() == 3)
    watches = [seen.query for seen in api.seen if seen.verb == "WATCH"]
    assert {watch["allowWatchBookmarks"] for watch in watches} == {"true"}
    ends = {int(watch["timeoutSeconds"]) for watch in watches}
    assert len(ends) > 1
    assert all(1800 <= end <= 3600 for end in ends)


async def test_a_bookmark_moves_the_position(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await mirror.until(lambda: mirror.is_connected and api.watchers() == 3)
        api.advance(50)
        api.bookmark()
        await mirror.until(lambda: len(mirror.of("confirm")) == 3)
    assert mirror.positions == position(api)


async def test_after_a_restart_nothing_is_listed(api, mirror, tmp_path):
    held = position(api)
    changed = api.put(service("shop", "web", "10.0.0.7"))
    async with following(api.kubeconfig(tmp_path), mirror, held, IDENTITY, timing=PATIENT) as source:
        await mirror.until(lambda: mirror.is_connected and mirror.positions.get("Service") == changed)
    assert source.counters.lists == 0
    assert mirror.of("replace") == []
    assert api.count("WATCH") == 3
    assert api.count() == 4  # and one list of one object, to know the cluster


async def test_the_identity_is_one_list_of_one_object(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror, position(api), IDENTITY, timing=PATIENT):
        await mirror.until(lambda: mirror.is_connected)
    first = api.seen[0]
    assert first.path == "/api/v1/namespaces"
    assert first.query == {"fieldSelector": "metadata.name=kube-system", "resourceVersion": "0"}
    assert mirror.of("identify") == [(IDENTITY,)]


async def test_another_cluster_is_never_resumed(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror, position(api), "uid:other", timing=PATIENT) as source:
        await mirror.until(lambda: mirror.is_connected)
    assert source.counters.lists == 3
    words = [what[0] for what in mirror.said if what[0] in {"identify", "replace", "apply"}]
    assert words[0] == "identify"


async def test_positions_of_nobody_knows_which_cluster_are_not_resumed(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror, position(api), "", timing=PATIENT) as source:
        await mirror.until(lambda: mirror.is_connected)
    assert source.counters.lists == 3


async def test_a_cluster_without_kube_system_is_followed_but_not_resumed(api, mirror, tmp_path, caplog):
    api.delete("Namespace", "kube-system")
    async with following(api.kubeconfig(tmp_path), mirror, position(api), IDENTITY, timing=PATIENT) as source:
        await mirror.until(lambda: mirror.is_connected)
    assert source.counters.lists == 3
    assert mirror.of("identify") == []
    assert "identity can't be learned" in caplog.text


async def test_a_cluster_that_is_replaced_while_away_is_listed_anew(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror) as source:
        await mirror.until(lambda: mirror.is_connected)
        await api.stop()
        await mirror.until(lambda: not mirror.is_connected)
        for kind in ("Service", "EndpointSlice"):
            for key in api.keys(kind):
                api.delete(kind, key)
        api.put(namespace("kube-system", uid="99999999-0000-0000-0000-000000000000"))
        await api.start()
        await mirror.until(lambda: mirror.is_connected)
        assert source.counters.lists == 6
    assert mirror.of("identify")[-1] == ("uid:99999999-0000-0000-0000-000000000000",)
    assert mirror.names() == []


async def test_a_selection_is_asked_of_the_server(api, mirror, tmp_path):
    api.put(namespace("test", labels={"tier": "test"}))
    api.put(service("test", "web", labels={"app": "web"}))
    wanted = Selection(
        labels=parse_selector("app in (web,db), !legacy"), namespace_labels=parse_selector("tier!=production")
    )
    async with following(api.kubeconfig(tmp_path), mirror, selection=wanted, timing=PATIENT):
        await mirror.until(lambda: mirror.is_connected)
    assert mirror.names() == ["test/web"]
    asked = {(seen.kind, seen.query.get("labelSelector")) for seen in api.seen[1:]}
    assert asked == {
        ("Namespace", "tier!=production"),
        ("Service", "app in (db,web),!legacy"),
        ("EndpointSlice", "app in (db,web),!legacy"),
    }


async def test_one_namespace_is_asked_for_by_its_path(api, mirror, tmp_path):
    api.put(namespace("test"))
    api.put(service("test", "web"))
    async with following(
        api.kubeconfig(tmp_path), mirror, selection=Selection(namespaces=frozenset({"shop"})), timing=PATIENT
    ):
        await mirror.until(lambda: mirror.is_connected)
        api.put(service("test", "web", "10.0.0.5"))
        last = api.put(service("shop", "db"))
        await mirror.until(lambda: mirror.positions["Service"] == last)
    assert mirror.names() == ["shop/db", "shop/web"]
    assert mirror.names("Namespace") == ["shop"]
    assert {seen.path for seen in api.seen} == {
        "/api/v1/namespaces",
        "/api/v1/namespaces/shop/services",
        "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
    }


async def test_an_object_that_leaves_the_selection_is_gone(api, mirror, tmp_path):
    api.put(service("shop", "web", labels={"app": "web"}))
    async with following(
        api.kubeconfig(tmp_path), mirror, selection=Selection(labels=parse_selector("app=web")), timing=PATIENT
    ):
        await mirror.until(lambda: mirror.is_connected and mirror.names() == ["shop/web"])
        api.put(service("shop", "web", labels={"app": "other"}))
        await mirror.until(lambda: mirror.names() == [])


async def test_objects_that_can_t_be_used_are_skipped_by_name(api, mirror, tmp_path):
    broken = service("shop", "broken")
    del broken["spec"]["clusterIP"], broken["spec"]["clusterIPs"]
    api.put(broken)
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT) as source:
        await mirror.until(lambda: mirror.is_connected)
        web = service("shop", "web")
        web["spec"]["clusterIPs"] = [""]
        last = api.put(web)
        await mirror.until(lambda: mirror.positions["Service"] == last or len(mirror.of("skipped")) == 2)
        last = api.put(service("shop", "after"))
        await mirror.until(lambda: mirror.positions["Service"] == last)
    assert [(kind, name) for kind, name, _ in mirror.of("skipped")] == [
        ("Service", "shop/broken"),
        ("Service", "shop/web"),
    ]
    assert mirror.names() == ["shop/after", "shop/web"]  # the good web of before stays
    assert source.counters.skipped == 2


async def test_a_watch_that_ends_as_agreed_is_taken_up_again_without_loss(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT) as source:
        for round_ in range(1, 4):
            await mirror.until(lambda: mirror.is_connected and api.watchers() == 3)
            await asyncio.sleep(0.06)
            api.end_watches()
            last = api.put(service("shop", "web", f"10.0.1.{round_}"))
            await mirror.until(lambda last=last: mirror.positions["Service"] == last)
        await mirror.until(lambda: api.watchers() == 3)
    assert source.counters.lists == 3
    assert mirror.of("lost") == []
    assert len(mirror.of("connected")) == 1


async def test_in_a_steady_state_a_node_spends_few_requests(api, mirror, tmp_path):
    clock = ScaledClock(36_000.0)  # an hour is 0.1 s
    timing = PATIENT._replace(short_s=60.0, grace_s=36_000.0)
    async with following(api.kubeconfig(tmp_path), mirror, timing=timing, clock=clock) as source:
        await mirror.until(lambda: mirror.is_connected and api.watchers() == 3)
        before = api.count()
        started_s = clock.now()
        for _ in range(36):
            # A watch lives for 45 minutes on average: here its end is the server's.
            await asyncio.sleep(0.075)
            api.end_watches()
            while api.watchers():
                await asyncio.sleep(0)
            while api.watchers() < 3:
                await asyncio.sleep(0.001)
        hours = (clock.now() - started_s) / 3600
        per_hour = (api.count() - before) / hours
    assert source.counters.healed >= 3
    assert 1 < per_hour <= 20
    assert mirror.of("lost") == []


async def test_a_burst_reaches_the_sink_in_bounded_pieces(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await mirror.until(lambda: mirror.is_connected and api.watchers() == 3)
        for number in range(1000):
            last = api.put(service("shop", f"burst-{number}"))
        await mirror.until(lambda: mirror.positions["Service"] == last)
    sizes = [size for kind, size in mirror.of("apply") if kind == "Service"]
    assert sum(sizes) == 1000
    assert max(sizes) <= 300  # 32 KiB of events of some 250 bytes
    assert len(sizes) >= 4


async def test_requests_of_a_node_wait_for_each_other(api, mirror, tmp_path):
    """Politeness: never more than one request of a node waits for the head of its answer."""
    waiting, most = 0, 0
    answer = api._answer

    async def counting(request):
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        await asyncio.sleep(0.01)
        waiting -= 1
        return await answer(request)

    await api.stop()
    api._answer = counting
    await api.start()
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await mirror.until(lambda: mirror.is_connected and api.watchers() == 3)
        api.end_watches()
        await mirror.until(lambda: api.count("WATCH") == 6)
    assert most == 1


async def test_a_run_leaves_nothing_behind(api, mirror, tmp_path):
    for _ in range(2):
        mirror.is_connected = False
        async with following(api.kubeconfig(tmp_path), mirror, timing=QUICK):
            await mirror.until(lambda: mirror.is_connected)
        assert [task for task in asyncio.all_tasks() if task.get_name().startswith("kubernetes")] == []
    await asyncio.sleep(0.05)
    assert api.watchers() == 0
    assert json.loads(json.dumps(mirror.positions)) == position(api)


def test_the_budget_of_requests_is_the_governors():
    origin = Origin("", "")
    source = KubernetesSource(origin, budget=Budget(burst=7, per_hour=60))
    assert source.governor.left == 7

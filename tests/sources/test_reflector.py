"""The Kubernetes source against a scripted API server: everything that can go wrong, one fault a test."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import socket
import time

import pytest

from agent.cluster.objects import unpack_service
from agent.sources import events, pages, paging
from agent.sources.pacing import reconnect_delay_s
from tests.scripted_api import (
    KUBE_SYSTEM_UID,
    Fault,
    ScriptedApi,
    endpoint_slice,
    make_certificates,
    namespace,
    service,
)
from tests.sources.mirror import PATIENT, QUICK, Mirror, ScaledClock, following

IDENTITY = f"uid:{KUBE_SYSTEM_UID}"
LIST_AND_WATCH = ("LIST", "CONTINUE", "WATCH")


@pytest.fixture
async def api():
    async with ScriptedApi() as server:
        server.put(namespace("shop"))
        server.put(service("shop", "web", "10.0.0.1"))
        server.put(endpoint_slice("shop", "web-abc", ["10.1.0.1"], of="web"))
        yield server


@pytest.fixture
def mirror():
    return Mirror()


def positions(api: ScriptedApi) -> dict[str, str]:
    return dict.fromkeys(("Namespace", "Service", "EndpointSlice"), str(api.revision))


async def connected(api: ScriptedApi, mirror: Mirror) -> None:
    await mirror.until(lambda: mirror.is_connected and api.watchers() == 3)


async def follows(api: ScriptedApi, mirror: Mirror) -> None:
    """See that every kind still follows: a change of each arrives, and the whole set is right."""
    await connected(api, mirror)
    api.put(namespace("follows", labels={"at": str(api.revision)}))
    api.put(service("shop", "follows", f"10.0.3.{api.revision % 250}"))
    last = api.put(endpoint_slice("shop", "follows-abc", [f"10.3.0.{api.revision % 250}"], of="follows"))
    await mirror.until(lambda: mirror.positions.get("EndpointSlice") == last)
    await mirror.until(
        lambda: mirror.names() == api.keys("Service") and mirror.names("Namespace") == api.keys("Namespace")
    )
    assert mirror.names("EndpointSlice") == api.keys("EndpointSlice")


# 410 ------------------------------------------------------------------------------------------------------------------


async def test_a_forgotten_position_is_listed_anew_not_older_than_held(api, mirror, tmp_path):
    held = positions(api)
    api.advance(10)
    api.forget()
    async with following(api.kubeconfig(tmp_path), mirror, held, IDENTITY, timing=PATIENT) as source:
        await follows(api, mirror)
    assert source.counters.gone == 3
    lists = [seen.query for seen in api.seen[1:] if seen.verb == "LIST"]
    assert {page["resourceVersion"] for page in lists} == {held["Service"]}
    assert {page["resourceVersionMatch"] for page in lists} == {"NotOlderThan"}


@pytest.mark.parametrize("verb", ["WATCH", "LIST"])
async def test_gone_as_a_status_is_survived(api, mirror, tmp_path, verb):
    api.fail(Fault(verb, "Service", status=410))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT) as source:
        await follows(api, mirror)
    assert source.counters.gone == 1
    assert source.counters.lists == (4 if verb == "WATCH" else 3)


async def test_a_list_whose_pages_are_forgotten_starts_again(api, mirror, tmp_path):
    for number in range(1100):
        api.put(service("shop", f"svc-{number}"))
    api.fail(Fault("CONTINUE", "Service", status=410))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT) as source:
        await follows(api, mirror)
    assert source.counters.gone == 1
    assert len(mirror.names()) == 1102
    assert [len(what) for what in mirror.of("replace")] == [2, 2, 2]  # the half list was never delivered


async def test_gone_within_the_grace_is_not_a_loss(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT) as source:
        await connected(api, mirror)
        api.advance(5)
        api.forget()
        api.send(
            "Service", json.dumps({"type": "ERROR", "object": {"code": 410, "message": "too old"}}).encode() + b"\n"
        )
        await mirror.until(lambda: source.counters.lists == 4)
        await follows(api, mirror)
    assert mirror.of("lost") == []


# The server is away --------------------------------------------------------------------------------------------------


async def test_an_outage_is_reported_and_followed_again_at_once(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror) as source:
        await connected(api, mirror)
        await api.stop()
        await mirror.until(lambda: not mirror.is_connected)
        await asyncio.sleep(0.3)
        requests = api.count()
        away = len(mirror.of("requested"))
        await asyncio.sleep(0.2)
        assert len(mirror.of("requested")) == away  # only TCP connects while nothing listens
        await api.start()
        returned_s = time.monotonic()
        await connected(api, mirror)
        assert time.monotonic() - returned_s < 1.0
        assert source.counters.lists == 3  # the positions were still good
        assert api.count("WATCH") == 6
        assert api.count() == requests + 4  # who are you, and three watches
        await follows(api, mirror)
    assert "connection refused" in mirror.of("lost")[0][0]


async def test_a_restarted_server_has_forgotten_everything(api, mirror, tmp_path):
    """OpenAI 2024-12, the herd: after its return each node lists again, once."""
    async with following(api.kubeconfig(tmp_path), mirror) as source:
        await connected(api, mirror)
        await api.stop()
        api.delete("Service", "shop/web")
        await api.restart()
        await mirror.until(lambda: mirror.names() == [])
        await follows(api, mirror)
        assert source.counters.lists == 6


async def test_starting_while_the_server_is_away_says_why(api, mirror, tmp_path):
    kubeconfig = api.kubeconfig(tmp_path)
    await api.stop()
    async with following(kubeconfig, mirror):
        await mirror.until(lambda: bool(mirror.of("lost")))
        assert "can't be reached: connection refused" in mirror.of("lost")[0][0]
        assert len(mirror.of("lost")) <= 3  # said once, not once per attempt
        await api.start()
        await follows(api, mirror)


async def test_a_return_is_spread_over_the_fleet_s_window(api, mirror, tmp_path):
    clock = ScaledClock(1000.0)
    timing = PATIENT._replace(spread_s=300.0, grace_s=200.0, probe_min_s=5.0, probe_max_s=10.0)
    async with following(api.kubeconfig(tmp_path), mirror, timing=timing, clock=clock):
        await connected(api, mirror)
        await api.stop()
        await mirror.until(lambda: not mirror.is_connected)
        await api.start()
        await connected(api, mirror)
    assert len([wait for wait in clock.waits if 20.0 < wait <= 300.0 and wait != 200.0]) >= 1


async def test_a_list_after_a_410_waits_for_the_node_s_slot_and_watches_don_t(api, mirror, tmp_path):
    """An API server restarted behind a load balancer: nothing was ever refused, and all nodes would list at once."""
    clock = ScaledClock(1000.0)
    timing = PATIENT._replace(spread_s=300.0, grace_s=200.0, idle_s=60_000.0)
    slot_s = reconnect_delay_s("node-1", 300.0)
    async with following(api.kubeconfig(tmp_path), mirror, timing=timing, clock=clock) as source:
        await connected(api, mirror)
        assert source.access().circuit == "closed"
        api.advance(5)
        api.forget()
        api.break_watches()
        await mirror.until(lambda: source.counters.gone == 3)
        access = source.access()
        assert (access.circuit, access.slot_s, access.window_s) == ("slot", slot_s, 300.0)
        assert 0.0 < access.next_try_s <= slot_s
        assert source.counters.lists == 3
        await mirror.until(lambda: source.counters.lists == 6)
        await follows(api, mirror)
        assert source.access().circuit == "closed"
    waits = [wait for wait in clock.waits if slot_s / 2 < wait <= slot_s]
    assert waits  # once for all kinds: the second and third 410 are of the same outage


@pytest.mark.parametrize("name", ["node-1", "node-24"])
async def test_after_an_outage_the_slot_is_waited_for_once(api, mirror, tmp_path, name):
    clock = ScaledClock(1000.0)
    timing = PATIENT._replace(spread_s=300.0, grace_s=200.0, idle_s=60_000.0, probe_min_s=5.0, probe_max_s=10.0)
    slot_s = reconnect_delay_s(name, 300.0)
    async with following(api.kubeconfig(tmp_path), mirror, timing=timing, clock=clock, name=name) as source:
        await connected(api, mirror)
        await api.stop()
        await mirror.until(lambda: source.access().circuit == "unreachable")
        api.advance()
        api.forget()
        await api.start()
        await mirror.until(lambda: source.counters.lists == 6)
    graces = [wait for wait in clock.waits if 150.0 < wait <= 200.0]
    assert [wait for wait in clock.waits if wait > slot_s * 0.5 and wait not in graces] == [slot_s]


async def test_a_list_that_never_arrives_in_full_is_asked_for_less_and_less(api, mirror, tmp_path):
    clock = ScaledClock(1000.0)
    timing = PATIENT._replace(backoff_s=0.5, backoff_max_s=120.0, silent_max_s=30.0, idle_s=60_000.0)
    for number in range(600):
        api.put(service("shop", f"svc-{number}"))
    api.fail(Fault("LIST", "Service", times=8, cut_bytes=1000))
    async with following(api.kubeconfig(tmp_path), mirror, timing=timing, clock=clock):
        await follows(api, mirror)
    spans = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert sum(clock.waits) <= sum(spans)
    assert max(clock.waits) > 0.5  # the head of each answer was good: it must not count as a success


async def test_a_server_that_is_behind_is_left_alone_as_long_as_it_asks(api, mirror, tmp_path):
    clock = ScaledClock(100.0)
    late = "Too large resource version: 9999, current: 5"
    api.fail(Fault("LIST", "Service", status=504, retry_after_s=7, message=late))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT, clock=clock) as source:
        await follows(api, mirror)
    assert source.counters.behind == 1
    assert max(clock.waits) >= 7.0


async def test_an_open_circuit_says_when_it_tries_again(api, mirror, tmp_path):
    api.fail(Fault("LIST", "Service", status=429, retry_after_s=500))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT) as source:
        assert source.access() is None or source.access().circuit == "closed"
        await mirror.until(lambda: source.access() is not None and source.access().circuit == "open")
        assert 490.0 < source.access().next_try_s <= 501.0
        assert source.access().budget_left == 600 - len(mirror.of("requested"))


async def test_a_black_hole_is_noticed_by_its_silence(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror) as source:
        await connected(api, mirror)
        api.freeze()
        await mirror.until(lambda: not mirror.is_connected)
        assert source.counters.idle >= 1
        await mirror.until(lambda: ("WATCH", 0, 0) in mirror.of("requested"))
        assert "did not answer" in mirror.of("lost")[-1][0] or "neither event" in mirror.of("lost")[-1][0]
        api.thaw()
        await follows(api, mirror)


async def test_a_quiet_watch_with_bookmarks_is_left_alone(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror) as source:
        await connected(api, mirror)
        for _ in range(10):
            await asyncio.sleep(QUICK.idle_s / 4)
            api.bookmark()
        assert source.counters.idle == 0
        assert source.counters.watches == 3


async def test_a_watch_from_the_future_is_found_out(api, mirror, tmp_path):
    """A control plane restored from a backup: watches from the position held are silent for ever, without any error."""
    held = positions(api)
    api.rewind(3)
    mirror.positions = dict(held)
    async with following(api.kubeconfig(tmp_path), mirror, held, IDENTITY) as source:
        await mirror.until(lambda: len(mirror.of("refused")) >= 1)
        assert source.counters.behind >= 4  # three times "not older than", then "what is the latest?"
        mirror.positions.clear()  # the sink decides to believe it, as the publisher does after a while
        await follows(api, mirror)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates with")
async def test_a_tls_server_that_never_shakes_hands_is_no_busy_loop(mirror, tmp_path):
    """SIGSTOP: the kernel goes on accepting connections for a process that stands still."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as still:
        api = ScriptedApi(folder=tmp_path)
        make_certificates(tmp_path)
        api.port = still.getsockname()[1]
        timing = QUICK._replace(connect_s=0.1)
        async with following(api.kubeconfig(tmp_path), mirror, timing=timing) as source:
            await asyncio.sleep(1.0)
            assert source.counters.probes >= 1
    assert "no connection within 0.1 s" in mirror.of("lost")[-1][0]
    assert mirror.of("requested") == []


async def test_connections_that_are_accepted_and_dropped_are_not_a_busy_loop(mirror, tmp_path):
    accepted = 0

    def drop(_reader, writer):
        nonlocal accepted
        accepted += 1
        writer.close()

    server = await asyncio.start_server(drop, "127.0.0.1", 0)
    api = ScriptedApi()
    api.port = server.sockets[0].getsockname()[1]
    clock = ScaledClock(100.0)
    timing = QUICK._replace(backoff_s=0.5, backoff_max_s=120.0, silent_max_s=30.0)
    async with server, following(api.kubeconfig(tmp_path), mirror, timing=timing, clock=clock):
        await asyncio.sleep(1.0)  # 100 s of the source's time
    assert 4 <= accepted <= 40
    assert "without an answer" in mirror.of("lost")[-1][0]


# The server says no --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["LIST", "WATCH"])
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_obeyed_by_every_kind(api, mirror, tmp_path, verb, status):
    clock = ScaledClock(100.0)
    fault = api.fail(Fault(verb, "Service", status=status, retry_after_s=30))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT, clock=clock):
        await mirror.until(lambda: fault.times == 0)
        said = len(api.seen)
        await asyncio.sleep(0.2)
        assert len(api.seen) <= said + 1
        await follows(api, mirror)
    assert any(25.0 <= wait <= 31.0 for wait in clock.waits)


async def test_a_retry_after_beyond_reason_is_not_believed(api, mirror, tmp_path):
    clock = ScaledClock(10_000.0)
    api.fail(Fault(status=429, retry_after_s=999_999))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT, clock=clock):
        await follows(api, mirror)
    assert max(clock.waits) < 601


async def test_waits_double_and_are_random(api, mirror, tmp_path):
    clock = ScaledClock(1000.0)
    api.fail(Fault(status=500, times=10))
    timing = PATIENT._replace(backoff_s=1.0, backoff_max_s=120.0)
    async with following(api.kubeconfig(tmp_path), mirror, timing=timing, clock=clock):
        await follows(api, mirror)
    assert sum(1 for wait in clock.waits if wait > 4.0) >= 1
    assert max(clock.waits) <= 120.0
    assert len(set(clock.waits)) == len(clock.waits)


@pytest.mark.parametrize("status", [500, 502, 504])
@pytest.mark.parametrize("verb", LIST_AND_WATCH)
async def test_server_errors_are_waited_out(api, mirror, tmp_path, verb, status):
    for number in range(600):
        api.put(service("shop", f"svc-{number}"))
    api.fail(Fault(verb, "Service", status=status, times=3))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await follows(api, mirror)


@pytest.mark.parametrize(
    ("kind", "resource"),
    [("Namespace", "namespaces"), ("Service", "services"), ("EndpointSlice", "endpointslices.discovery.k8s.io")],
)
async def test_missing_rights_are_named_and_the_other_kinds_follow(api, mirror, tmp_path, kind, resource):
    fault = api.fail(Fault("", kind, times=1_000_000, status=403, message=f"{resource} is forbidden"))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await mirror.until(lambda: api.watchers() == 2 and bool(mirror.of("lost")))
        reason = mirror.of("lost")[-1][0]
        assert "403" in reason
        assert f"Grant the verbs list and watch on {resource}" in reason
        assert not mirror.is_connected
        fault.times = 0
        await follows(api, mirror)


async def test_rights_that_come_late_after_a_restart_cost_little(api, mirror, tmp_path):
    """A kube-apiserver answers 403 for some 150 ms after its start, until it has read the roles."""
    api.fail(Fault("", "", times=6, status=403))
    started_s = time.monotonic()
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await follows(api, mirror)
    assert time.monotonic() - started_s < 2.0


async def test_rights_that_come_late_don_t_cost_a_list(api, mirror, tmp_path):
    """Who the cluster is can't be read yet: that is no reason to list what is held."""
    held = positions(api)
    api.fail(Fault("", "", times=6, status=403))
    timing = PATIENT._replace(identify_s=60.0)
    async with following(api.kubeconfig(tmp_path), mirror, held, IDENTITY, timing=timing) as source:
        await connected(api, mirror)
        assert source.counters.lists == 0


async def test_without_the_right_to_know_the_cluster_nothing_is_resumed(api, mirror, tmp_path, caplog):
    held = positions(api)
    api.fail(Fault("", "Namespace", times=1_000_000, status=403))
    async with following(api.kubeconfig(tmp_path), mirror, held, IDENTITY, timing=PATIENT) as source:
        await mirror.until(lambda: source.counters.lists == 2 and api.watchers() == 2)
    assert mirror.of("identify") == []
    assert "identity can't be learned" in caplog.text


async def test_a_known_cluster_is_not_followed_again_before_it_is_known_again(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror) as source:
        await connected(api, mirror)
        await api.stop()
        await mirror.until(lambda: not mirror.is_connected)
        api.delete("Namespace", "kube-system")
        await api.start()
        await mirror.until(lambda: "no namespace kube-system" in (mirror.of("lost") or [("",)])[-1][0])
        assert api.watchers() == 0
        refused = api.fail(Fault("LIST", "Namespace", times=3, status=403))
        api.put(namespace("kube-system", uid=KUBE_SYSTEM_UID))
        await follows(api, mirror)
        assert refused.times == 0
        assert source.counters.lists == 3


async def test_an_address_without_an_api_says_so(mirror, tmp_path):
    async with ScriptedApi() as api:
        api.fail(Fault(status=404, times=1_000_000, message="404 page not found"))
        async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
            await mirror.until(lambda: "Kubernetes API server" in (mirror.of("lost") or [("",)])[-1][0])


async def test_a_refusal_that_breaks_off_is_still_one(mirror, tmp_path):
    async def refuse(_reader, writer):
        writer.write(b"HTTP/1.1 503 Overloaded\r\nRetry-After: 1\r\nContent-Length: 100\r\n\r\nnot all of")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    api = ScriptedApi()
    api.port = server.sockets[0].getsockname()[1]
    clock = ScaledClock(20.0)
    async with server, following(api.kubeconfig(tmp_path), mirror, clock=clock):
        await mirror.until(lambda: "answered 503" in (mirror.of("lost") or [("",)])[-1][0])
        assert mirror.of("requested")[0][:2] == ("LIST", 503)


async def test_a_redirect_is_not_followed(mirror, tmp_path):
    async def redirect(_reader, writer):
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(redirect, "127.0.0.1", 0)
    api = ScriptedApi()
    api.port = server.sockets[0].getsockname()[1]
    async with server, following(api.kubeconfig(tmp_path), mirror):
        await mirror.until(lambda: "redirect" in (mirror.of("lost") or [("",)])[-1][0])


# What the server sends is broken ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"garbage",
        b"\xff\xfe\x00",
        b'{"kind":"ServiceList","metadata":{"resourceVersion":"9999"},"items":[{"metadata":{"name":',
        b'{"kind":"ServiceList","metadata":{"resourceVersion":"","items":[]}}',
        b'{"kind":"ServiceList","metadata":{"resourceVersion":"not a number"},"items":[]}',
        b'{"items":"many"}',
    ],
)
async def test_a_list_that_is_none_changes_nothing(api, mirror, tmp_path, body):
    api.fail(Fault("LIST", "Service", body=body, times=2))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await follows(api, mirror)
    assert len(mirror.of("replace")) == 3


@pytest.mark.parametrize("verb", ["LIST", "CONTINUE"])
async def test_a_list_that_breaks_off_changes_nothing(api, mirror, tmp_path, verb):
    for number in range(600):
        api.put(service("shop", f"svc-{number}"))
    api.fail(Fault(verb, "Service", cut_bytes=5_000))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await follows(api, mirror)
    assert ("Service", 601) in mirror.of("replace")
    assert len(mirror.of("replace")) == 3


async def test_a_compressed_list_that_breaks_off_changes_nothing(api, mirror, tmp_path):
    for number in range(600):
        api.put(service("shop", f"svc-{number}", labels={"a": "b" * 63}))
    api.fail(Fault("LIST", "Service", cut_bytes=2_000, times=2))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await follows(api, mirror)


async def test_a_list_that_drips_is_given_up(api, mirror, tmp_path):
    api.fail(Fault("LIST", "Service", drip=(1, 0.02)))
    timing = QUICK._replace(page_s=0.2, idle_s=60.0)
    async with following(api.kubeconfig(tmp_path), mirror, timing=timing):
        await mirror.until(lambda: "was not complete after 0.2 s" in (mirror.of("lost") or [("",)])[-1][0])
        await follows(api, mirror)


async def test_a_slow_list_arrives(api, mirror, tmp_path):
    api.fail(Fault("LIST", "Service", drip=(50, 0.005)))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT) as source:
        await follows(api, mirror)
        assert source.counters.lists == 3


async def test_a_slow_watch_delivers_each_event_once_it_is_whole(api, mirror, tmp_path):
    api.fail(Fault("WATCH", "Service", drip=(7, 0.001)))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await follows(api, mirror)


async def test_a_page_too_large_is_asked_for_in_smaller_ones(api, mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "MAX_PAGE_BYTES", 20_000)
    for number in range(600):
        api.put(service("shop", f"svc-{number}"))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await follows(api, mirror)
        api.forget()
        api.end_watches()
        await follows(api, mirror)
    limits = [int(seen.query["limit"]) for seen in api.seen if seen.kind == "Service" and "limit" in seen.query]
    assert limits[0] == 500
    assert limits[-1] < 200


async def test_pages_shrink_as_objects_grow(api, mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(paging, "LARGE_PAGE_BYTES", 30_000)
    for number in range(1100):
        api.put(service("shop", f"svc-{number:04}"))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await connected(api, mirror)
    limits = [int(seen.query["limit"]) for seen in api.seen if seen.kind == "Service" and "limit" in seen.query]
    assert limits[:3] == [500, 250, 250][: len(limits[:3])]
    assert len(mirror.names()) == 1101


async def test_a_list_without_end_is_not_listened_to(api, mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(paging, "MAX_PAGES", 3)
    for number in range(2000):
        api.put(service("shop", f"svc-{number}"))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await mirror.until(lambda: "more than 3 pages" in (mirror.of("lost") or [("",)])[-1][0])
    assert "Service" not in [kind for kind, _ in mirror.of("replace")]


async def test_a_list_of_too_many_objects_is_not_held(api, mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(paging, "MAX_OBJECTS", 600)
    for number in range(2000):
        api.put(service("shop", f"svc-{number}"))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await mirror.until(lambda: "longer than 600 objects" in (mirror.of("lost") or [("",)])[-1][0])


@pytest.mark.parametrize(
    "line",
    [
        b"garbage\n",
        b"{\n",
        b'{"type":"ADDED"}\n',
        b'{"type":"EXPLODED","object":{"metadata":{"name":"x","namespace":"shop"}}}\n',
        b'{"type":"ADDED","object":[]}\n',
        b"\xff\n",
        b'{"type":"ERROR","object":{"code":0,"message":"odd"}}\n',
    ],
)
async def test_a_line_that_is_no_event_ends_the_watch_after_what_came_before(api, mirror, tmp_path, line):
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT) as source:
        await connected(api, mirror)
        before = api.put(service("shop", "before"))
        api.send("Service", line)
        await mirror.until(lambda: source.counters.garbled == 1)
        assert mirror.positions["Service"] == before
        await follows(api, mirror)
        assert source.counters.lists == 3  # taken up again from the position, not listed


async def test_garbage_that_comes_again_and_again_is_listed_over(api, mirror, tmp_path):
    api.fail(Fault("WATCH", "Service", times=3, body=b"garbage\n"))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT) as source:
        await follows(api, mirror)
        assert source.counters.garbled == 3
        assert source.counters.lists == 4


@pytest.mark.parametrize("code", [429, 500])
async def test_an_error_in_a_watch_is_waited_out(api, mirror, tmp_path, code):
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT) as source:
        await connected(api, mirror)
        api.send("Service", json.dumps({"type": "ERROR", "object": {"code": code, "message": "x"}}).encode() + b"\n")
        await mirror.until(lambda: source.counters.watches == 4)
        await follows(api, mirror)
        assert source.counters.lists == 3


async def test_a_watch_that_is_sent_away_for_a_while_stays_away_for_every_kind(api, mirror, tmp_path):
    status = {"code": 429, "message": "too many", "details": {"retryAfterSeconds": 9}}
    line = json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
    api.fail(Fault("WATCH", "Service", body=line))
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT) as source:
        await mirror.until(lambda: source.access() is not None and source.access().circuit == "open")
        assert 7.0 < source.access().next_try_s <= 9.1


async def test_a_watch_cut_in_the_middle_of_a_line_loses_nothing(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT) as source:
        await connected(api, mirror)
        api.send("Service", b'{"type":"ADDED","object":{"metadata":{"na')
        await asyncio.sleep(0.05)
        api.end_watches("Service")
        await mirror.until(lambda: source.counters.broken == 1)
        await follows(api, mirror)
        assert source.counters.lists == 3


async def test_a_watch_whose_connection_breaks_is_taken_up_again(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT) as source:
        await connected(api, mirror)
        api.break_watches()
        api.put(service("shop", "meanwhile"))
        await mirror.until(lambda: source.counters.watches == 6)
        await follows(api, mirror)
        assert "shop/meanwhile" in mirror.names()
        assert source.counters.lists == 3


async def test_watches_that_end_as_they_begin_are_not_a_busy_loop(api, mirror, tmp_path):
    clock = ScaledClock(100.0)
    fault = api.fail(Fault("WATCH", times=1_000_000, body=b""))
    timing = PATIENT._replace(backoff_s=0.5, backoff_max_s=120.0, short_s=30.0)
    async with following(api.kubeconfig(tmp_path), mirror, timing=timing, clock=clock):
        await asyncio.sleep(1.0)  # 100 s of the source's time, three kinds
        assert api.count("WATCH") <= 90
        fault.times = 0
        api.end_watches()
    assert not any(what[0] == "apply" for what in mirror.said)


async def test_a_giant_event_is_skipped_by_name_and_costs_no_memory(api, mirror, tmp_path, monkeypatch):
    """Cloudflare 2025-11: an input too large is left out, named, and the rest goes on."""
    monkeypatch.setattr(events, "MAX_EVENT_BYTES", 100_000)
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT) as source:
        await connected(api, mirror)
        giant = service("shop", "giant")
        giant["metadata"] = {"name": "giant", "namespace": "shop", "annotations": {"a": "b" * 3_000_000}}
        api.put(giant)
        await follows_but(api, mirror, "shop/giant")
        assert source.counters.giant == 1
        assert source.counters.lists == 3
    assert mirror.of("skipped")[0][:2] == ("Service", "shop/giant")


async def follows_but(api: ScriptedApi, mirror: Mirror, missing: str) -> None:
    last = api.put(service("shop", "after"))
    await mirror.until(lambda: mirror.positions["Service"] == last)
    assert sorted({*mirror.names(), missing}) == api.keys("Service")


# Order ---------------------------------------------------------------------------------------------------------------


async def test_an_older_list_is_refused_and_asked_for_again(api, mirror, tmp_path):
    """AWS DynamoDB DNS 2025-10: a delayed older plan must not replace a newer one."""

    def older(page):
        page["metadata"]["resourceVersion"] = "500"
        page["items"] = []

    async with following(api.kubeconfig(tmp_path), mirror) as source:
        await connected(api, mirror)
        api.advance(5)
        api.forget()
        fault = api.fail(Fault("LIST", "Service", times=3, change=older))
        api.end_watches("Service")
        await mirror.until(lambda: fault.times == 0)
        await follows(api, mirror)
        assert source.counters.refused == 3
    assert mirror.of("refused") == [("Service", "500")] * 3
    assert "shop/web" in mirror.names()


async def test_an_empty_list_is_passed_on(api, mirror, tmp_path):
    """Whether to believe it is the guard's business."""
    api.delete("Service", "shop/web")
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await connected(api, mirror)
    assert ("Service", 0) in mirror.of("replace")


async def test_events_out_of_order_are_not_applied_but_listed_over(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT) as source:
        await connected(api, mirror)
        stale = service("shop", "web", "10.9.9.9")
        stale["metadata"]["resourceVersion"] = "7"
        api.send("Service", json.dumps({"type": "MODIFIED", "object": stale}).encode() + b"\n")
        await mirror.until(lambda: source.counters.disordered == 1)
        await follows(api, mirror)
        assert source.counters.lists == 4
    assert mirror.held["Service"]["shop/web"].blob.find(b"\x0a\x09\x09\x09") == -1


async def test_a_bookmark_that_goes_back_is_disorder(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT) as source:
        await connected(api, mirror)
        api.bookmark("Service", position=3)
        await mirror.until(lambda: source.counters.disordered == 1)
        await follows(api, mirror)


async def test_a_silent_gap_heals(api, mirror, tmp_path):
    """eve#6113, coredns#3879: a change that no watch ever told."""
    clock = ScaledClock(36_000.0)
    timing = PATIENT._replace(short_s=60.0, grace_s=36_000.0)
    async with following(api.kubeconfig(tmp_path), mirror, timing=timing, clock=clock) as source:
        await connected(api, mirror)
        api.put(service("shop", "unseen"), silently=True)
        api.delete("EndpointSlice", "shop/web-abc", silently=True)
        while source.counters.healed < 3:
            await asyncio.sleep(0.05)
            api.end_watches()
        await follows(api, mirror)
        assert "shop/unseen" in mirror.names()
    assert mirror.of("lost") == []


async def test_a_list_that_heals_takes_larger_pages_and_keeps_its_distance(api, mirror, tmp_path):
    clock = ScaledClock(36_000.0)
    timing = PATIENT._replace(short_s=60.0, grace_s=36_000.0)
    async with following(api.kubeconfig(tmp_path), mirror, timing=timing, clock=clock) as source:
        await connected(api, mirror)
        healed = []
        while source.counters.healed < 3:
            before = source.counters.healed
            await asyncio.sleep(0.02)
            api.end_watches()
            await asyncio.sleep(0.02)
            if source.counters.healed > before:
                healed.append(clock.now())
    lists = [seen.query["limit"] for seen in api.seen[1:] if seen.verb == "LIST"]
    assert lists == ["500"] * 3 + ["1000"] * 3
    assert len(healed) == 3


async def test_a_list_that_fails_to_heal_leaves_the_watch_in_place(api, mirror, tmp_path):
    clock = ScaledClock(36_000.0)
    timing = PATIENT._replace(short_s=60.0, grace_s=360_000.0)
    async with following(api.kubeconfig(tmp_path), mirror, timing=timing, clock=clock) as source:
        await connected(api, mirror)
        fault = api.fail(Fault("LIST", times=1, status=403))
        while fault.times:
            await asyncio.sleep(0.05)
            api.end_watches()
        await follows(api, mirror)
        assert source.counters.lists == 3
    assert mirror.of("lost") == []


async def test_a_sink_that_can_t_take_more_gets_it_again(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT) as source:
        await connected(api, mirror)
        mirror.overflows = 2
        api.put(service("shop", "one"))
        api.put(service("shop", "two"))
        await follows(api, mirror)
        assert {"shop/one", "shop/two"} <= set(mirror.names())
        assert source.counters.lists == 3


# A random life -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_goes_wrong_the_end_is_right(api, mirror, tmp_path, seed):
    rng = random.Random(seed)
    misfortunes = [
        api.end_watches,
        api.break_watches,
        api.forget,
        api.bookmark,
        lambda: api.send(rng.choice(["Service", "EndpointSlice"]), b"junk\n"),
        lambda: api.fail(Fault(rng.choice(["LIST", "WATCH", ""]), status=rng.choice([401, 403, 410, 429, 500, 503]))),
        lambda: api.fail(Fault("LIST", cut_bytes=rng.randrange(200))),
        lambda: api.fail(Fault("WATCH", cut_bytes=0)),
        lambda: api.fail(Fault("LIST", body=b"{}")),
    ]
    timing = PATIENT._replace(idle_s=1.0, answer_s=1.0)
    async with following(api.kubeconfig(tmp_path), mirror, timing=timing):
        for step in range(120):
            name = f"svc-{rng.randrange(20)}"
            if rng.random() < 0.3 and f"shop/{name}" in api.keys("Service"):
                api.delete("Service", f"shop/{name}")
            else:
                api.put(service("shop", name, f"10.0.{step}.{rng.randrange(250)}"))
            if rng.random() < 0.25:
                rng.choice(misfortunes)()
            await asyncio.sleep(rng.random() * 0.01)
        api.faults.clear()
        await follows(api, mirror)
        expected = {key: value["spec"]["clusterIP"] for key, value in api._held["Service"].items()}
        shown = {key: ".".join(map(str, _address(stored.blob))) for key, stored in mirror.held["Service"].items()}
        assert shown == expected


def _address(blob: bytes) -> bytes:
    return unpack_service(blob).cluster_ips[0]

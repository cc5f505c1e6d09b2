from __future__ import annotations

import asyncio
import random

import pytest

from agent.cluster.objects import KINDS, NAMESPACE, SERVICE, Endpoint, EndpointSlice, Namespace, Port, Service
from agent.errors import SourceError
from agent.records.zone import Profile
from agent.snapshot import order
from agent.snapshot import publisher as room
from agent.snapshot.compiler import zones_of
from agent.snapshot.freshness import Freshness
from agent.snapshot.publisher import Publisher
from agent.wire.posture import FRESH, NOT_READY
from agent.wire.table import AnswerTable
from tests.snapshot.clusters import random_change, stored
from tests.view import zone

WEB = "web.shop.svc.cluster.local."


class Recorder:
    def __init__(self):
        self.steps = []

    def record(self, step):
        self.steps.append(step)

    def invalidate(self):
        self.steps.append("invalidated")


class Bench:
    """A publisher with everything around it written down."""

    def __init__(self, profile=None, table=None, **options):
        self.log = []
        self.recorder = Recorder()
        self.freshness = Freshness(60, 0)
        self.publisher = Publisher(
            profile or Profile(),
            self.freshness,
            table or AnswerTable(zones_of(profile or Profile())),
            lambda event, /, **fields: self.log.append((event, fields)),
            **options,
        )
        self.first_table = self.publisher.table
        self.publisher.recorder = self.recorder
        self.publisher.compiler.declare_zones()

    def full(self, *values, at="10"):
        for kind in KINDS:
            of_kind = [s for s in map(stored, values) if s.kind == kind]
            assert self.publisher.replace(kind, of_kind, at)
        self.publisher.connected()

    def state(self):
        return self.freshness.posture(1, asyncio.get_running_loop().time()).state

    @property
    def served(self):
        return zone(self.first_table)

    @property
    def zone(self):
        return zone(self.publisher.table)


def web(last=5):
    return Service("shop", "web", cluster_ips=(bytes((10, 0, 0, last)),))


async def test_state_is_ready_when_every_kind_was_delivered_and_compiled():
    bench = Bench()
    bench.full(Namespace("shop"), web())
    assert bench.state() == NOT_READY
    await bench.publisher.idle()
    assert bench.state() == FRESH
    assert bench.zone[WEB] == {"A": ["10.0.0.5"]}
    assert bench.log == [("source_following", {"identity": ""})]


async def test_changes_apply_in_order_and_are_recorded_with_what_was_compiled_from_them():
    bench = Bench()
    bench.full(Namespace("shop"), web())
    await bench.publisher.idle()
    bench.recorder.steps.clear()
    bench.publisher.apply(SERVICE, [("shop/web", stored(web(6)))], "11")
    bench.publisher.apply(SERVICE, [("shop/web", None)], "12")
    bench.publisher.apply(SERVICE, [("shop/web", stored(web(7)))], "13")
    await bench.publisher.idle()
    assert bench.zone[WEB] == {"A": ["10.0.0.7"]}
    (step,) = [step for step in bench.recorder.steps if step.nodes]
    assert step.positions[SERVICE] == "13"
    assert [row[:2] for row in step.objects] == [(SERVICE, "shop/web")]
    assert all(bench.publisher.table.find(key) == made for key, made in step.nodes.items())


async def test_a_full_set_takes_away_what_it_does_not_name():
    bench = Bench()
    bench.full(Namespace("shop"), web(), Service("shop", "old", cluster_ips=(bytes((10, 0, 0, 9)),)))
    await bench.publisher.idle()
    bench.full(Namespace("shop"), web(), at="20")
    await bench.publisher.idle()
    assert "old.shop.svc.cluster.local." not in bench.zone
    assert WEB in bench.zone


async def test_aws_2025_10_an_older_list_is_refused_until_it_has_been_the_only_one_for_long(monkeypatch):
    bench = Bench()
    bench.full(Namespace("shop"), web(), at="100")
    await bench.publisher.idle()
    assert not bench.publisher.replace(SERVICE, [], "99")
    await bench.publisher.idle()
    assert WEB in bench.zone
    assert bench.publisher.order.refused == 1
    assert ("older_list_refused", {"kind": SERVICE, "held": "100", "offered": "99"}) in bench.log
    monkeypatch.setattr(order, "RESTORED_AFTER_S", -1.0)
    assert bench.publisher.replace(SERVICE, [], "99")
    await bench.publisher.idle()
    assert WEB not in bench.zone
    assert bench.publisher.epoch == 1
    assert "invalidated" in bench.recorder.steps


async def test_objects_of_two_clusters_are_never_mixed():
    bench = Bench()
    bench.publisher.identify("uid:one")
    bench.full(Namespace("shop"), web())
    await bench.publisher.idle()
    bench.publisher.lost("connection refused")
    bench.publisher.identify("uid:two")
    assert bench.publisher.positions == {}
    assert bench.publisher.replace(NAMESPACE, [stored(Namespace("other"))], "1")
    assert bench.publisher.replace(SERVICE, [], "1")
    with pytest.raises(SourceError, match="another cluster"):
        bench.publisher.apply(SERVICE, [], "2")
    await bench.publisher.idle()
    assert WEB in bench.zone
    assert "other.svc.cluster.local." not in bench.zone
    assert bench.publisher.replace("EndpointSlice", [], "1")
    await bench.publisher.idle()
    assert WEB in bench.served
    bench.publisher.connected()
    await bench.publisher.idle()
    assert bench.recorder.steps[-1] == "invalidated"
    assert bench.publisher.table is bench.first_table
    assert WEB not in bench.zone
    assert "other.svc.cluster.local." in bench.zone
    assert bench.publisher.epoch == 1
    assert ("cluster_changed", {"before": "uid:one", "now": "uid:two"}) in bench.log


async def test_another_cluster_is_served_when_complete_if_its_source_was_never_said_to_be_lost():
    bench = Bench()
    bench.publisher.identify("uid:one")
    bench.full(Namespace("shop"), web())
    await bench.publisher.idle()
    bench.publisher.identify("uid:two")
    for kind, objects in ((NAMESPACE, [stored(Namespace("other"))]), (SERVICE, []), ("EndpointSlice", [])):
        assert WEB in bench.served
        assert bench.publisher.replace(kind, objects, "1")
    await bench.publisher.idle()
    assert WEB not in bench.served
    assert "other.svc.cluster.local." in bench.served


async def test_a_lost_source_takes_nothing_away_and_is_said_once():
    bench = Bench()
    bench.full(Namespace("shop"), web())
    await bench.publisher.idle()
    bench.publisher.lost("connection refused")
    bench.publisher.lost("connection refused")
    assert [event for event, _ in bench.log].count("source_lost") == 1
    assert WEB in bench.zone
    assert bench.state() == FRESH
    assert not bench.freshness.connected


async def test_too_much_waiting_is_refused(monkeypatch):
    bench = Bench()
    monkeypatch.setattr(room, "MAX_QUEUED", 3)
    with pytest.raises(SourceError, match="waiting"):
        bench.publisher.apply(SERVICE, [("shop/a", None)] * 4, "1")


async def test_a_bookmark_behind_waiting_changes_does_not_overtake_them():
    bench = Bench()
    bench.publisher.apply(SERVICE, [("shop/web", stored(web()))], "5")
    bench.publisher.confirm(SERVICE, "6")
    assert SERVICE not in bench.publisher.positions
    await bench.publisher.idle()
    assert bench.publisher.positions[SERVICE] == "6"
    bench.publisher.confirm(SERVICE, "7")
    assert bench.publisher.positions[SERVICE] == "7"


async def test_what_is_skipped_and_what_was_asked_is_counted():
    bench = Bench()
    bench.publisher.skipped(SERVICE, "shop/bad", "ports")
    bench.publisher.requested("list", 200, 1000)
    bench.publisher.requested("list", 200, 500)
    assert bench.publisher.skipped_by_kind[SERVICE] == 1
    assert list(bench.publisher.skipped_names) == [(SERVICE, "shop/bad", "ports")]
    assert bench.publisher.requests == {("list", 200): 2}
    assert bench.publisher.request_bytes == 1500


async def test_an_owner_that_can_not_be_compiled_is_named_and_its_neighbours_are(monkeypatch):
    bench = Bench()
    bad = stored(Service("shop", "bad"))._replace(blob=b"\xc1")
    assert bench.publisher.replace(SERVICE, [bad, stored(web())], "1")
    await bench.publisher.idle()
    assert WEB in bench.zone
    assert bench.publisher.compile_failures == 1
    assert bench.log[0][0] == "compile_failed"


async def test_a_big_set_is_worked_off_in_slices_so_that_queries_are_answered_in_between():
    bench = Bench()
    services = [
        Service("shop", f"s{n}", cluster_ips=(bytes((10, 1, n >> 8, n & 255)),), ports=(Port("http", "TCP", 80),))
        for n in range(1500)
    ]
    bench.full(Namespace("shop"), *services)
    turns = 0
    done = asyncio.ensure_future(bench.publisher.idle())
    while not done.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
    assert bench.publisher.owners_compiled == 1500


async def test_a_restart_loads_objects_behind_the_table_and_compiles_nothing_twice():
    first = Bench()
    first.full(Namespace("shop"), web())
    await first.publisher.idle()
    second = Bench(table=first.publisher.table)
    second.publisher.resume({SERVICE: "10"}, "uid:one", 2)
    await second.publisher.load(first.publisher.store.objects(), compiled=True)
    assert second.publisher.owners_compiled == 0
    assert (second.publisher.identity, second.publisher.epoch) == ("uid:one", 2)
    second.publisher.apply(SERVICE, [("shop/web", None)], "11")
    await second.publisher.idle()
    assert WEB not in second.zone


async def test_objects_from_disk_are_compiled_when_their_table_can_not_be_used():
    first = Bench()
    first.full(Namespace("shop"), web(), Service("shop", "old", cluster_ips=(bytes((10, 0, 0, 9)),)))
    await first.publisher.idle()
    second = Bench(Profile(ttl_s=9))
    rows = [*first.publisher.store.objects(), (SERVICE, "shop/old", "shop/old", None)]
    await second.publisher.load(rows, compiled=False)
    assert WEB in second.zone
    assert "old.shop.svc.cluster.local." not in second.zone


async def test_random_changes_through_the_pump_end_where_a_fresh_start_ends():
    rng = random.Random(7)
    bench = Bench(Profile(pods="verified"))
    for at in range(400):
        kind, key, value = random_change(rng)
        bench.publisher.apply(kind, [(key, value)], str(at))
        if rng.random() < 0.2:
            await asyncio.sleep(0)
    await bench.publisher.idle()
    fresh = Bench(Profile(pods="verified"))
    await fresh.publisher.load(bench.publisher.store.objects(), compiled=False)
    assert dict(fresh.publisher.table.items()) == dict(bench.publisher.table.items())


async def test_a_slice_that_moves_to_another_service_takes_its_endpoints_along():
    bench = Bench()
    address = bytes((10, 0, 0, 1))
    bench.full(Namespace("shop"), Service("shop", "a", headless=True), Service("shop", "b", headless=True))
    for service in "ab":
        moved = EndpointSlice("shop", "x", service, (), (Endpoint((address,), "h"),))
        bench.publisher.apply("EndpointSlice", [("shop/x", stored(moved))], "11")
        await bench.publisher.idle()
    assert "a.shop.svc.cluster.local." not in bench.zone
    assert bench.zone["h.b.shop.svc.cluster.local."] == {"A": ["10.0.0.1"]}


async def test_names_without_their_objects_are_served_until_everything_was_delivered_anew():
    first = Bench()
    first.full(Namespace("shop"), web(), Service("shop", "old", cluster_ips=(bytes((10, 0, 0, 9)),)))
    await first.publisher.idle()
    bench = Bench(table=first.publisher.table)
    bench.publisher.start_over()
    assert bench.publisher.positions == {}
    bench.full(Namespace("shop"), web(6))
    assert bench.served[WEB] == {"A": ["10.0.0.5"]}
    await bench.publisher.idle()
    assert bench.served[WEB] == {"A": ["10.0.0.6"]}
    assert "old.shop.svc.cluster.local." not in bench.served
    assert bench.recorder.steps[-1] == "invalidated"
    bench.publisher.apply(SERVICE, [("shop/web", stored(web(7)))], "11")
    await bench.publisher.idle()
    assert bench.served[WEB] == {"A": ["10.0.0.7"]}


async def test_google_2025_06_an_object_that_turned_bad_keeps_its_last_good_version():
    bench = Bench()
    address = bytes((10, 0, 0, 1))
    held = [
        Namespace("shop"),
        web(),
        Service("shop", "db", headless=True),
        EndpointSlice("shop", "db-1", "db", (), (Endpoint((address,), "db-0"),)),
    ]
    bench.full(*held)
    await bench.publisher.idle()
    bench.publisher.skipped(SERVICE, "shop/web", "spec is blank")
    bench.publisher.skipped("EndpointSlice", "shop/db-1", "endpoints are blank")
    bench.publisher.skipped(NAMESPACE, "shop", "metadata is blank")
    bench.publisher.skipped(SERVICE, "shop/never-seen", "spec is blank")
    bench.full(Service("shop", "db", headless=True), at="20")
    await bench.publisher.idle()
    assert bench.zone[WEB] == {"A": ["10.0.0.5"]}
    assert bench.zone["db-0.db.shop.svc.cluster.local."] == {"A": ["10.0.0.1"]}
    # Once the set has neither a good nor a bad one, it is gone.
    bench.full(Namespace("shop"), at="30")
    await bench.publisher.idle()
    assert WEB not in bench.zone


async def test_an_object_that_was_mended_and_then_went_is_gone():
    bench = Bench()
    bench.full(Namespace("shop"), web())
    await bench.publisher.idle()
    bench.publisher.skipped(SERVICE, "shop/web", "spec is blank")
    bench.publisher.apply(SERVICE, [("shop/web", stored(web(6)))], "11")
    bench.full(Namespace("shop"), at="20")
    await bench.publisher.idle()
    assert WEB not in bench.zone
    assert bench.publisher._queued == 0


async def test_the_last_good_version_of_another_cluster_is_never_taken():
    bench = Bench()
    bench.publisher.identify("uid:one")
    bench.full(Namespace("shop"), web())
    await bench.publisher.idle()
    bench.publisher.identify("uid:two")
    bench.publisher.skipped(SERVICE, "shop/web", "spec is blank")
    bench.full(Namespace("shop"), at="1")
    await bench.publisher.idle()
    assert WEB not in bench.zone
    assert bench.publisher._queued == 0


async def test_what_still_waits_for_its_turn_is_left_behind_with_the_cluster_that_it_is_of():
    bench = Bench()
    bench.publisher.identify("uid:one")
    many = [Service("shop", f"s{n}", cluster_ips=(bytes((10, 0, 1, n)),)) for n in range(100)]
    bench.full(Namespace("shop"), *many)
    bench.publisher.identify("uid:two")
    bench.full(Namespace("shop"), web(), at="1")
    await bench.publisher.idle()
    assert bench.publisher.store.count(SERVICE) == 1
    assert not bench.publisher.quarantine.hold
    assert bench.publisher._queued == 0


async def test_what_is_held_reaches_neither_the_table_nor_the_record():
    bench = Bench()
    bench.full(Namespace("shop"), *(Service("shop", f"s{n}", cluster_ips=(bytes((10, 0, 1, n)),)) for n in range(50)))
    await bench.publisher.idle()
    bench.recorder.steps.clear()
    before = dict(bench.publisher.table.items())
    for n in range(50):
        bench.publisher.apply(SERVICE, [(f"shop/s{n}", None)], str(20 + n))
    await bench.publisher.idle()
    assert dict(bench.publisher.table.items()) == before
    assert bench.publisher.store.count(SERVICE) == 50
    assert all(not step.nodes for step in bench.recorder.steps)
    bench.publisher.decide("accepted")
    await bench.publisher.idle()
    assert bench.publisher.store.count(SERVICE) == 0
    assert bench.publisher.kept_positions[SERVICE] == "69"

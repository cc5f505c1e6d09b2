"""The guard by itself: a store, a clock in the test's hand, and what a source would say."""

from __future__ import annotations

import random

import pytest

from agent.cluster.objects import ENDPOINT_SLICE, NAMESPACE, SERVICE, Endpoint, EndpointSlice, Namespace, Service
from agent.cluster.store import Store
from agent.snapshot.guard import YOUNG_S, Limits
from agent.snapshot.hold import ACCEPTED, EXPIRED, MENDED, REJECTED, Hold, Moment
from agent.snapshot.quarantine import Quarantine
from tests.snapshot.clusters import random_change, stored


class Cluster:
    """A store behind a quarantine; `said` is what the source said last of every object."""

    def __init__(self, *, needs_namespace=False, **limits):
        self.log = []
        self.store = Store(needs_namespace=needs_namespace)
        self.quarantine = Quarantine(Limits(**limits), lambda event, /, **fields: self.log.append((event, fields)))
        self.said = {}
        self.position = 0
        self.now_s = 1000.0

    @property
    def now(self):
        return Moment(self.now_s, self.now_s + 1.7e9)

    def full(self, kind, *values):
        objects = [stored(value) for value in values]
        self.said = {at: value for at, value in self.said.items() if at[0] != kind}
        self.said.update({(kind, each.key): each for each in objects})
        self._run(self.quarantine.replace(self.store, kind, objects, str(self.position), self.now))

    def apply(self, kind, *changes):
        rows = [(each, None) if isinstance(each, str) else (stored(each).key, stored(each)) for each in changes]
        for key, value in rows:
            self.said.pop((kind, key), None)
            if value is not None:
                self.said[kind, key] = value
        self._run(self.quarantine.apply(self.store, kind, rows, str(self.position), self.now))

    def finish(self, outcome):
        self._run(self.quarantine.finish(self.store, outcome, self.now))

    def _run(self, steps):
        self.position += 1
        for _ in steps:
            pass

    @property
    def objects(self):
        return {(each.kind, each.key): each for each in self.store.objects()}

    def names(self):
        return {key for kind, key in self.objects if kind == SERVICE}

    @property
    def events(self):
        return [event for event, _ in self.log]

    def difference(self):
        return "; ".join(self.quarantine.differences(self.store))


def service(name, namespace="shop", last=1):
    return Service(namespace, name, cluster_ips=(bytes((10, 0, 0, last)),))


def pods(name, count, namespace="shop", first=0, part="0"):
    endpoints = tuple(Endpoint((bytes((10, 1, (first + n) >> 8, (first + n) & 255)),)) for n in range(count))
    return EndpointSlice(namespace, f"{name}-{part}", name, (), endpoints)


def cluster(services=100, endpoints=3, namespace="shop", **options):
    made = Cluster(**options)
    made.full(NAMESPACE, Namespace(namespace))
    made.full(SERVICE, *(service(f"s{n}", namespace) for n in range(services)))
    made.full(ENDPOINT_SLICE, *(pods(f"s{n}", endpoints, namespace, n * 10) for n in range(services)))
    assert not made.quarantine.hold
    return made


def test_an_emptied_list_takes_nothing_away_and_says_what_it_would():
    made = cluster()
    before = made.objects
    made.full(SERVICE)
    made.full(ENDPOINT_SLICE)
    assert made.objects == before
    assert made.difference() == (
        "would remove 100 % of all names (100 of 100); most of them in namespace shop (100 of its 100), "
        "for example s0.shop, s1.shop, s2.shop"
    )
    assert made.events == ["quarantine_began"]


def test_additions_and_harmless_changes_pass_while_something_is_held():
    made = cluster()
    made.full(SERVICE, service("s0", last=9), service("new"))
    assert made.objects[SERVICE, "shop/s0"] == stored(service("s0", last=9))
    assert "shop/new" in made.names()
    assert len(made.names()) == 101
    made.apply(SERVICE, service("newer"), service("s5", last=7))
    assert "shop/newer" in made.names()
    assert made.objects[SERVICE, "shop/s5"] == stored(service("s5", last=7))
    assert (SERVICE, "shop/s5") not in made.quarantine.held


def test_what_went_one_by_one_before_it_was_too_much_comes_back():
    made = cluster()
    for n in range(20):
        made.apply(SERVICE, f"shop/s{n}")
    assert len(made.names()) == 80
    assert not made.quarantine.hold
    made.apply(SERVICE, "shop/s20")
    assert len(made.names()) == 100
    assert len(made.quarantine.held) == 21
    made.apply(SERVICE, "shop/s21")
    assert len(made.names()) == 100


def test_slices_follow_their_service_whichever_goes_first():
    made = cluster()
    before = made.objects
    for n in range(10):
        made.apply(ENDPOINT_SLICE, f"shop/s{n}-0")
        made.apply(SERVICE, f"shop/s{n}")
    for n in range(10, 40):
        made.apply(SERVICE, f"shop/s{n}")
        made.apply(ENDPOINT_SLICE, f"shop/s{n}-0")
    assert made.objects == before


def test_a_slow_bleed_and_few_names_pass():
    made = cluster(200, window_s=60.0)
    for n in range(100):
        made.now_s += 3.0
        made.apply(SERVICE, f"shop/s{n}")
    assert len(made.names()) == 100
    small = cluster(12)
    small.full(SERVICE, *(service(f"s{n}") for n in range(3)))
    assert len(small.names()) == 3
    assert not small.quarantine.hold


def test_a_first_fill_is_never_held():
    made = Cluster()
    made.full(SERVICE)
    made.full(SERVICE, *(service(f"s{n}") for n in range(5000)))
    assert not made.quarantine.hold


def test_names_that_are_made_anew_were_not_lost():
    made = cluster()
    for n in range(100):
        made.apply(SERVICE, f"shop/s{n}")
        made.apply(SERVICE, service(f"s{n}", last=2))
    assert not made.quarantine.hold
    made.apply(SERVICE, *(f"shop/s{n}" for n in range(60)), *(service(f"s{n}", last=3) for n in range(60)))
    assert not made.quarantine.hold
    assert made.objects[SERVICE, "shop/s7"] == stored(service("s7", last=3))


def test_a_large_namespace_is_not_taken_away_as_a_whole():
    made = cluster(1000)
    made.apply(
        SERVICE, *(service(f"p{n}", "payments") for n in range(60)), *(service(f"c{n}", "ci") for n in range(40))
    )
    made.now_s += YOUNG_S + 1
    made.apply(SERVICE, *(f"ci/c{n}" for n in range(40)))
    assert not made.quarantine.hold
    for n in range(60):
        made.apply(SERVICE, f"payments/p{n}")
    assert len(made.names()) == 1060
    said = "would remove 100 % of the names of namespace payments (60 of 60), for example p"
    assert made.difference().startswith(said)
    made.apply(SERVICE, "shop/s1")
    assert "shop/s1" not in made.names()


def test_names_that_came_lately_may_go_again_unless_most_are_of_that_kind():
    made = cluster(50)
    made.apply(SERVICE, *(service(f"p{n}", "preview") for n in range(100)))
    made.apply(SERVICE, *(f"preview/p{n}" for n in range(100)))
    assert not made.quarantine.hold
    made.apply(SERVICE, *(f"shop/s{n}" for n in range(20)))
    assert made.quarantine.hold
    new = cluster(5)
    new.apply(SERVICE, *(service(f"p{n}", "new") for n in range(100)))
    new.apply(SERVICE, *(f"new/p{n}" for n in range(100)))
    assert len(new.names()) == 105


def test_a_young_name_is_an_old_one_after_half_a_day():
    made = cluster(50)
    made.apply(SERVICE, *(service(f"p{n}", "preview") for n in range(30)))
    made.now_s += YOUNG_S + 1
    made.apply(SERVICE, *(f"preview/p{n}" for n in range(30)))
    assert made.quarantine.hold


def test_one_service_with_most_of_the_endpoints_may_lose_them():
    made = cluster(50)
    made.apply(ENDPOINT_SLICE, pods("s1", 900, first=4000))
    made.apply(ENDPOINT_SLICE, pods("s1", 0))
    assert not made.quarantine.hold
    small = cluster(4, 10)
    small.full(ENDPOINT_SLICE, *(pods(f"s{n}", 0) for n in range(4)))
    assert small.quarantine.hold


def test_a_namespace_goes_only_with_its_names():
    made = cluster()
    made.apply(NAMESPACE, "shop")
    assert (NAMESPACE, "shop") not in made.objects
    made.full(SERVICE)
    assert (NAMESPACE, "shop") in made.objects


def test_with_namespace_labels_a_namespace_that_no_longer_matches_takes_its_names_along():
    made = cluster(needs_namespace=True)
    made.full(NAMESPACE)
    assert (NAMESPACE, "shop") in made.objects
    assert "would remove 100 % of all names (100 of 100)" in made.difference()
    made.full(NAMESPACE, Namespace("shop"))
    assert made.events == ["quarantine_began", "quarantine_mended"]


@pytest.mark.parametrize("in_one", [True, False])
def test_kubernetes_23034_endpoints_of_all_services_gone_at_once_stay(in_one):
    made = cluster(50)
    before = made.objects
    empty = [pods(f"s{n}", 0) for n in range(50)]
    if in_one:
        made.full(ENDPOINT_SLICE, *empty)
    else:
        for each in empty:
            made.now_s += 0.5
            made.apply(ENDPOINT_SLICE, each)
    assert made.objects == before
    assert made.difference().startswith("would take away 100 % of all ready endpoints (150 of 150), for example s")


def test_endpoints_that_become_ready_again_end_it_and_nothing_stale_stays():
    made = cluster(50)
    made.full(ENDPOINT_SLICE, *(pods(f"s{n}", 0) for n in range(50)))
    for n in range(50):
        made.apply(ENDPOINT_SLICE, pods(f"s{n}", 2 if n % 10 == 0 else 3, first=n * 10))
    assert made.events == ["quarantine_began", "quarantine_mended"]
    assert made.objects == made.said


def test_a_slice_with_an_endpoint_that_is_new_passes_also_while_endpoints_are_held():
    made = cluster(50)
    made.full(ENDPOINT_SLICE, *(pods(f"s{n}", 0) for n in range(50)))
    moved = pods("s4", 1, first=2000)
    made.apply(ENDPOINT_SLICE, moved)
    assert made.objects[ENDPOINT_SLICE, "shop/s4-0"] == stored(moved)


def test_endpoints_that_go_while_as_many_come_are_a_roll_out():
    made = cluster(50)
    for n in range(50):
        made.apply(ENDPOINT_SLICE, pods(f"s{n}", 3, first=3000 + n * 10, part="1"))
        made.apply(ENDPOINT_SLICE, pods(f"s{n}", 0))
    assert not made.quarantine.hold


def test_endpoints_are_counted_over_a_minute():
    made = cluster(50)
    for n in range(50):
        made.now_s += 12.0
        made.apply(ENDPOINT_SLICE, pods(f"s{n}", 0))
    assert not made.quarantine.hold


@pytest.mark.parametrize("change", ["gone", "blank", "no endpoints", "slices gone"])
def test_a_protected_name_is_kept_however_small_the_cluster(change):
    made = cluster(3, 2, "default", protected=frozenset(("default/s1",)))
    made.apply(ENDPOINT_SLICE, pods("s1", 1, "default", 90, part="1"))
    before = made.objects
    match change:
        case "gone":
            made.apply(SERVICE, "default/s1")
        case "blank":
            made.apply(SERVICE, Service("default", "s1"))
        case "no endpoints":
            made.apply(ENDPOINT_SLICE, pods("s1", 0, "default"), pods("s1", 0, "default", part="1"))
        case _:
            made.apply(ENDPOINT_SLICE, "default/s1-0", "default/s1-1")
    assert made.objects == before
    assert made.difference() in {
        "would remove the protected name s1.default",
        "would take the last endpoint from the protected name s1.default",
    }
    made.apply(SERVICE, "default/s0")
    assert "default/s0" not in made.names()


def test_time_alone_takes_no_protected_name_away():
    made = cluster(100, 2, protected=frozenset(("shop/s1",)))
    made.full(SERVICE)
    made.full(ENDPOINT_SLICE)
    first, position = made.quarantine.hold, made.quarantine.positions({SERVICE: "9"})[SERVICE]
    made.now_s += 600
    assert made.quarantine.tick(made.store, following=True, now=made.now) == EXPIRED
    made.finish(EXPIRED)
    assert made.names() == {"shop/s1"}
    assert made.store.ready == 2
    assert made.difference() == "would remove the protected name s1.shop"
    assert made.quarantine.hold.id != first.id
    assert made.quarantine.positions({SERVICE: "9"})[SERVICE] == position
    made.now_s += 1e6
    assert made.quarantine.tick(made.store, following=True, now=made.now) == ""
    made.finish(ACCEPTED)
    assert made.objects == made.said


def test_what_joins_a_protected_name_after_its_time_has_its_own_time():
    made = cluster(100, 2, protected=frozenset(("shop/s1",)))
    made.apply(SERVICE, "shop/s1")
    made.now_s += 10_000
    assert made.quarantine.tick(made.store, following=True, now=made.now) == ""
    made.apply(SERVICE, *(f"shop/s{n}" for n in range(2, 60)))
    assert made.quarantine.tick(made.store, following=True, now=made.now) == ""
    made.now_s += 600
    assert made.quarantine.tick(made.store, following=True, now=made.now) == EXPIRED
    made.finish(EXPIRED)
    assert "shop/s1" in made.names()
    assert "shop/s2" not in made.names()


def test_a_protected_name_that_comes_back_ends_it():
    made = cluster(3, 2, protected=frozenset(("shop/s1",)))
    made.apply(SERVICE, "shop/s1")
    made.now_s += 600
    made.apply(SERVICE, service("s1", last=2))
    assert not made.quarantine.hold
    assert made.objects == made.said


def test_a_set_far_larger_than_usual_is_held():
    made = cluster()
    made.full(SERVICE, *(service(f"s{n}") for n in range(100)), *(service(f"x{n}") for n in range(2000)))
    assert len(made.names()) == 100
    assert "would add 2000 objects of kind Service to the 100 that there are" in made.difference()
    made.finish(ACCEPTED)
    assert len(made.names()) == 2100


def test_an_object_that_comes_back_as_it_was_leaves_and_the_last_one_ends_it():
    made = cluster()
    made.full(SERVICE)
    made.apply(SERVICE, *(service(f"s{n}", last=1) for n in range(50)))
    assert len(made.quarantine.held) == 50
    made.full(SERVICE, *(service(f"s{n}") for n in range(100)))
    assert not made.quarantine.held
    assert made.events == ["quarantine_began", "quarantine_mended"]
    assert made.quarantine.outcomes[MENDED] == 1


@pytest.mark.parametrize("outcome", [ACCEPTED, EXPIRED])
def test_what_is_accepted_or_expired_ends_where_the_source_is(outcome):
    made = cluster()
    made.full(SERVICE)
    made.apply(SERVICE, service("s1", last=4), service("s2"))
    made.apply(SERVICE, "shop/s2")
    made.full(ENDPOINT_SLICE)
    made.finish(outcome)
    assert made.objects == made.said
    assert not made.quarantine.hold
    assert made.quarantine.outcomes[outcome] == 1


def test_what_is_rejected_stays_until_the_source_says_something_new_of_it():
    made = cluster()
    made.full(SERVICE)
    made.finish(REJECTED)
    assert len(made.names()) == 100
    assert not made.quarantine.frozen
    made.apply(SERVICE, "shop/s1", service("s2", last=9))
    assert len(made.names()) == 99
    assert made.objects[SERVICE, "shop/s2"] == stored(service("s2", last=9))
    made.now_s += 1000
    made.full(SERVICE)
    assert len(made.names()) == 99
    assert made.events == ["quarantine_began", "quarantine_rejected", "quarantine_began"]


def test_a_restart_may_not_resume_past_what_is_held():
    made = cluster()
    assert made.quarantine.positions({SERVICE: "9"}) == {SERVICE: "9"}
    first = made.position
    for n in range(30):
        made.apply(SERVICE, f"shop/s{n}")
    assert made.quarantine.positions({SERVICE: "99", ENDPOINT_SLICE: "99"}) == {
        SERVICE: str(first),
        ENDPOINT_SLICE: "99",
    }
    made.apply(SERVICE, *(service(f"s{n}") for n in range(30)))
    assert made.quarantine.positions({SERVICE: "99"}) == {SERVICE: "99"}


def test_the_clock_ends_it_and_begins_anew_when_there_is_much_more_to_decide():
    made = cluster(100, hold_for_s=600.0)
    made.apply(SERVICE, *(f"shop/s{n}" for n in range(25)))
    first = made.quarantine.hold
    made.now_s += 500
    made.apply(SERVICE, *(f"shop/s{n}" for n in range(25, 40)))
    assert made.quarantine.hold == first
    made.apply(SERVICE, *(f"shop/s{n}" for n in range(40, 90)))
    assert made.quarantine.hold.id != first.id
    made.now_s += 599
    assert made.quarantine.tick(made.store, following=True, now=made.now) == ""
    made.now_s += 1
    assert made.quarantine.tick(made.store, following=True, now=made.now) == EXPIRED
    assert made.events == ["quarantine_began", "quarantine_grew"]


def test_without_hold_for_only_a_person_ends_it():
    made = cluster(hold_for_s=0.0)
    made.full(SERVICE)
    made.now_s += 1e7
    assert made.quarantine.tick(made.store, following=True, now=made.now) == ""


def test_the_clock_of_an_earlier_life_goes_on():
    made = cluster()
    made.quarantine.carry(Hold("1700000000", made.now_s - 590, 0.0, 80))
    made.full(SERVICE)
    assert made.quarantine.hold.id == "1700000000"
    made.now_s += 11
    assert made.quarantine.tick(made.store, following=True, now=made.now) == EXPIRED


def test_the_clock_of_an_earlier_life_is_not_that_of_another_change():
    made = cluster()
    made.quarantine.carry(Hold("1700000000", made.now_s - 590, 0.0, 11))
    made.full(SERVICE)
    assert made.quarantine.hold.since_s == made.now_s
    later = cluster()
    later.quarantine.carry(Hold("1700000000", later.now_s - 590, 0.0, 100))
    assert later.quarantine.tick(made.store, following=False, now=later.now) == ""
    later.now_s += 1000
    later.quarantine.tick(made.store, following=True, now=later.now)
    later.now_s += 100
    later.quarantine.tick(made.store, following=True, now=later.now)
    later.full(SERVICE)
    assert later.quarantine.hold.since_s == later.now_s


def test_switched_off_nothing_is_held_and_what_was_held_goes():
    made = cluster(enabled=False)
    made.full(SERVICE)
    assert not made.names()
    other = cluster()
    other.full(SERVICE)
    other.quarantine.guard.limits = Limits(enabled=False)
    assert other.quarantine.tick(made.store, following=True, now=other.now) == EXPIRED


def test_other_objects_wanted_are_taken_as_they_are():
    made = cluster()
    made.quarantine.trust()
    made.full(SERVICE, service("s1"))
    assert made.names() == {"shop/s1"}
    assert not made.quarantine.hold


@pytest.mark.parametrize("seed", range(100))
def test_whatever_happens_accepting_ends_at_what_the_source_said_last(seed):
    rng = random.Random(seed)
    made = Cluster(
        min_names=1, max_removed_percent=rng.choice((1, 20, 60)), min_endpoints=1, namespace_names=2, window_s=20.0,
        max_unready_percent=rng.choice((1, 50)), needs_namespace=rng.random() < 0.3, protected=frozenset(("one/a",)),
    )  # fmt: skip
    for _ in range(400):
        made.now_s += rng.random() * 2
        kind, key, value = random_change(rng)
        rows = [(key, value)]
        made.said.pop((kind, key), None)
        if value is not None:
            made.said[kind, key] = value
        if rng.random() < 0.1:
            objects = [each for at, each in made.said.items() if at[0] == kind]
            made._run(made.quarantine.replace(made.store, kind, objects, str(made.position), made.now))
        else:
            made._run(made.quarantine.apply(made.store, kind, rows, str(made.position), made.now))
        if rng.random() < 0.02:
            made.finish(rng.choice((ACCEPTED, EXPIRED)))
        for (of, name), held in made.quarantine.held.items():
            assert held.stored == made.said.get((of, name))
        for at in set(made.objects) ^ set(made.said):
            assert at in made.quarantine.held
        for reason, weight in made.quarantine.reasons.items():
            of_it = [held.weight for held in made.quarantine.held.values() if held.reason == reason]
            assert sum(of_it) == weight
    made.finish(ACCEPTED)
    assert made.objects == made.said
    assert made.store.ready == sum(len(_endpoints(each)) for each in made.objects.values())


def _endpoints(each):
    from agent.cluster.objects import unpack_slice

    return unpack_slice(each.blob).endpoints if each.kind == ENDPOINT_SLICE else ()


def test_a_position_of_another_history_is_not_resumed_from():
    made = cluster()
    made.full(SERVICE)
    made.quarantine.forget_positions()
    assert made.quarantine.positions({SERVICE: "5"}) == {SERVICE: ""}


def test_no_quarantine_is_named_like_the_one_before():
    made = cluster()
    seen = set()
    for _ in range(3):
        made.full(SERVICE)
        seen.add(made.quarantine.hold.id)
        made.finish(REJECTED)
    assert len(seen) == 3

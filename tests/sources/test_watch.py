from __future__ import annotations

import itertools

import pytest

from agent.sources import watch
from agent.sources.exchange import Mark
from agent.sources.watch import Step, Watch

NOW_NS = 10**18


def marks(version=0, inode=1, name=""):
    """A file written in place, just now."""
    return (Mark(name, NOW_NS + version, NOW_NS + version, 100, inode, 1),)


def renamed(version=0, inode=1, name=""):
    """A file renamed into place after it had been written."""
    return (Mark(name, NOW_NS + version, NOW_NS + version + 1, 100, inode, 1),)


def looks(watch_, *each, start=0.0, step=0.5):
    return [watch_.saw(seen, start + step * number, NOW_NS) for number, seen in enumerate(each)]


def test_files_are_read_when_they_stood_still_between_two_looks():
    assert looks(Watch(0.5), marks(), marks()) == [Step.WAIT, Step.READ]
    assert looks(Watch(0.5), marks(), marks(1), marks(1)) == [Step.WAIT, Step.WAIT, Step.READ]


def test_two_looks_that_are_too_close_prove_nothing():
    steps = looks(Watch(0.5), *[marks()] * 7, step=0.1)
    assert steps == [Step.WAIT] * 5 + [Step.READ] * 2
    steps = looks(Watch(0.5), *[marks(), marks(1)] * 20, step=0.1)
    assert set(steps) == {Step.WAIT}


def test_time_spent_on_another_state_of_the_files_does_not_count():
    assert looks(Watch(0.5), marks(), marks(1), marks(), marks(), step=0.4) == [Step.WAIT] * 4


def test_a_file_not_touched_for_long_is_read_at_the_first_look():
    assert Watch(0.5).saw(marks(), 0.0, NOW_NS + int(watch.OLD_ENOUGH_S * 1e9)) is Step.READ
    assert Watch(0.5).saw(marks(), 0.0, NOW_NS + int(watch.OLD_ENOUGH_S * 1e9) - 1) is Step.WAIT


def test_a_file_from_the_future_waits_for_a_second_look():
    future = marks(version=10**15)
    assert looks(Watch(0.5), future, future) == [Step.WAIT, Step.READ]


def test_what_is_held_is_not_read_again():
    watched = Watch(0.5)
    looks(watched, marks(), marks())
    assert watched.accepts(marks(), NOW_NS)
    watched.succeeded(marks(), 1.0, 0.1)
    assert looks(watched, marks(), marks(), start=2) == [Step.SAME, Step.SAME]


@pytest.mark.parametrize(
    "changed",
    [
        (Mark("", NOW_NS + 1, NOW_NS, 100, 1, 1),),
        (Mark("", NOW_NS, NOW_NS + 1, 100, 1, 1),),
        (Mark("", NOW_NS, NOW_NS, 101, 1, 1),),
        (Mark("", NOW_NS, NOW_NS, 100, 2, 1),),
        (*marks(), *marks(name="b.json")),
    ],
    ids=["mtime", "ctime", "size", "inode", "one more file"],
)
def test_every_part_of_the_signature_counts(changed):
    watched = Watch(0.5)
    watched.succeeded(marks(), 0.0, 0.0)
    assert looks(watched, marks(), changed, changed, start=1) == [Step.SAME, Step.WAIT, Step.READ]


def test_a_reading_whose_files_changed_since_the_look_is_not_accepted():
    watched = Watch(0.5)
    looks(watched, marks(), marks())
    assert not watched.accepts(marks(1), NOW_NS)
    # A new file under the same name may be half-written as well: rm, then kubectl > file.
    assert not watched.accepts(marks(0, inode=2), NOW_NS)


def test_a_reading_is_accepted_if_its_files_were_at_rest_by_their_own_times():
    watched = Watch(0.5)
    looks(watched, marks(), marks())
    assert watched.accepts(renamed(1, inode=2), NOW_NS)
    assert watched.accepts(marks(1), NOW_NS + int(watch.OLD_ENOUGH_S * 1e9) + 1)
    assert not watched.accepts((*renamed(1, 2, "a.json"), *marks(1, 3, "b.json")), NOW_NS)
    assert watched.accepts((*renamed(1, 2, "a.json"), *marks()), NOW_NS)


def test_files_that_are_only_renamed_into_place_are_read_after_a_while_though_they_never_stand_still():
    steps = looks(Watch(0.5), *(renamed(n, inode=n) for n in range(6)))
    assert steps == [Step.WAIT] * 4 + [Step.READ] * 2


def test_an_inode_number_used_again_makes_no_difference():
    assert looks(Watch(0.5), *(renamed(n, inode=n // 2 % 2) for n in range(6)))[-1] is Step.READ


@pytest.mark.parametrize("inodes", [1, 1000], ids=["in place", "new each time"])
def test_files_rewritten_without_a_pause_are_never_read_and_reported_after_a_while(inodes):
    watched = Watch(0.5)
    steps = looks(watched, *(marks(n, inode=n % inodes) for n in range(25)))
    silent = int(watch.RESTLESS_S / 0.5)
    assert steps == [Step.WAIT] * silent + [Step.RESTLESS] * (25 - silent)
    assert not watched.accepts(marks(99), NOW_NS)


def test_one_file_rewritten_in_place_spoils_the_replacement_of_another():
    def both(n):
        return (*renamed(n, inode=n, name="a.json"), *marks(n, inode=77, name="b.json"))

    assert Step.READ not in looks(Watch(0.5), *(both(n) for n in range(25)))


def test_one_file_that_stays_does_not_spoil_the_replacement_of_another():
    def both(n):
        return (*renamed(n, inode=n, name="a.json"), *marks(0, inode=77, name="b.json"))

    assert looks(Watch(0.5), *(both(n) for n in range(6)))[-1] is Step.READ


def test_unusable_files_that_stay_as_they_are_are_tried_again_after_a_growing_pause():
    watched, now, tries = Watch(0.5), 0.0, []
    while now < 300:
        if watched.saw(marks(), now, NOW_NS) is Step.READ:
            tries.append(now)
            watched.failed(now, 0.0)
        now += 0.5
    pauses = [after - before for before, after in itertools.pairwise(tries)]
    assert pauses[:6] == [1, 2, 4, 8, 16, 32]
    assert max(pauses) == watch.LONGEST_PAUSE_S


def test_a_changed_file_does_not_wait_for_the_pause_of_its_bad_predecessor():
    watched = Watch(0.5)
    looks(watched, marks(), marks())
    for _ in range(8):
        watched.failed(1.0, 0.0)
    assert looks(watched, marks(), marks(1), marks(1), start=1.5) == [Step.REST, Step.WAIT, Step.READ]


def test_the_held_file_put_back_is_in_sync_at_once():
    watched = Watch(0.5)
    watched.succeeded(marks(), 0.0, 0.0)
    looks(watched, marks(1), marks(1), start=1)
    watched.failed(2.0, 0.0)
    assert looks(watched, marks(), start=3) == [Step.SAME]


@pytest.mark.parametrize("outcome", ["succeeded", "discarded", "failed"])
def test_readings_take_a_bounded_share_of_the_time(outcome):
    watched = Watch(0.5)
    looks(watched, marks(), marks())
    if outcome == "succeeded":
        watched.succeeded(marks(), 10.0, 2.0)
    else:
        getattr(watched, outcome)(10.0, 2.0)
    rest_s = 2.0 * (watch.READING_SHARE - 1)
    assert looks(watched, marks(1), marks(1), marks(1), start=10, step=1.0)[-1] is Step.REST
    assert watched.saw(marks(1), 10.0 + rest_s, NOW_NS) is Step.READ


def test_readings_discarded_again_and_again_become_a_complaint():
    watched = Watch(0.5)
    looks(watched, marks(), marks())
    watched.discarded(5.0, 0.0)
    assert not watched.is_restless(5.0)
    assert watched.is_restless(watch.RESTLESS_S)


def test_after_a_look_at_nothing_there_is_nothing_to_compare_with():
    watched = Watch(0.5)
    looks(watched, marks())
    watched.vanished()
    assert looks(watched, marks(), marks(), start=1) == [Step.WAIT, Step.READ]

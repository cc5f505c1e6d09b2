from __future__ import annotations

import asyncio
import errno
import os
import threading
import time

import pytest

from agent.cluster.objects import KINDS, SERVICE, Namespace, Port, Service, Stored
from agent.errors import SnapshotError
from agent.records.zone import Profile
from agent.snapshot import format as layout
from agent.snapshot import freezing
from agent.snapshot import persister as room
from agent.snapshot.compiler import profile_section, read_profile, zones_of
from agent.snapshot.freshness import Freshness
from agent.snapshot.generations import Generations
from agent.snapshot.objects import encode_objects
from agent.snapshot.persister import Pace, Persister
from agent.snapshot.publisher import Publisher
from agent.snapshot.restore import objects, restore
from agent.wire.table import AnswerTable, PackedNodes
from tests.snapshot.clusters import stored
from tests.view import zone

WEB = "web.shop.svc.cluster.local."
EAGER = Pace(sync_every_s=0.0)


def web(last=5):
    return stored(Service("shop", "web", cluster_ips=(bytes((10, 0, 0, last)),), ports=(Port("http", "TCP", 80),)))


class Life:
    """One process's worth of rooms on a state directory."""

    def __init__(self, state_dir, profile=None, pace=EAGER):
        self.log = []
        self.profile = profile or Profile()
        self.freshness = Freshness(60, 0)
        self.table = AnswerTable(zones_of(self.profile))
        self.publisher = Publisher(self.profile, self.freshness, self.table, self._note)
        self.generations = Generations(state_dir)
        self.persister = Persister(self.generations, self.publisher, "test", pace, self._note)
        self.publisher.recorder = self.persister
        self.task = None

    def _note(self, event, /, **fields):
        self.log.append((event, fields))

    @property
    def events(self):
        return [event for event, _ in self.log]

    @property
    def zone(self):
        return zone(self.table)

    async def begin(self):
        """Restore, load, start writing; tell whether the answers could be used as they were."""
        recovered = self.generations.load()
        compiled = True
        if recovered is None:
            self.publisher.compiler.declare_zones()
        else:
            restored = restore(recovered, self.table, self.profile)
            compiled = restored.is_compiled
            self.publisher.resume(recovered.positions if restored.keeps_positions else {}, recovered.identity, 0)
            self.persister.restored(recovered, compiled=compiled)
            self.freshness.restored(time.time() - recovered.confirmed_unix_s, time.monotonic())
            await self.publisher.load(objects(recovered), compiled=compiled)
        self.task = asyncio.create_task(self.persister.run())
        return compiled

    async def full(self, *values, at="10"):
        for kind in KINDS:
            assert self.publisher.replace(kind, [each for each in values if each.kind == kind], at)
        self.publisher.connected()
        await self.publisher.idle()

    async def change(self, value: Stored | None, at="11"):
        self.publisher.apply(SERVICE, [("shop/web", value)], at)
        await self.publisher.idle()

    async def until(self, condition):
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.005)

    async def written(self, generation):
        await self.until(lambda: self.persister.generation >= generation)

    async def journalled(self):
        await self.until(lambda: not self.persister._pending and self.generations.counts.syncs > 0)
        await asyncio.sleep(0.02)

    async def kill(self):
        """End as kill -9 would: nothing is finished; what the kernel has is there."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.persister._on_thread(self.generations.close)

    async def end(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.persister.finish()


async def test_the_first_full_set_is_a_generation_at_once(tmp_path):
    life = Life(tmp_path)
    await life.begin()
    assert life.persister.generation == 0
    await life.full(stored(Namespace("shop")), web())
    await life.written(1)
    assert life.table.overlay == {}
    assert life.table.base is not None
    assert life.zone[WEB]["A"] == ["10.0.0.5"]
    assert life.persister.write_s > 0
    await life.end()


async def test_a_change_is_in_the_journal_and_survives_a_kill(tmp_path):
    life = Life(tmp_path)
    await life.begin()
    await life.full(stored(Namespace("shop")), web())
    await life.written(1)
    await life.change(web(6))
    await life.journalled()
    await life.kill()
    again = Life(tmp_path)
    assert await again.begin()
    assert again.zone[WEB]["A"] == ["10.0.0.6"]
    assert again.publisher.positions[SERVICE] == "11"
    assert again.publisher.owners_compiled == 0
    # And the objects behind the names are the changed ones: a deletion takes the right name away.
    await again.change(None, at="12")
    assert WEB not in again.zone
    assert "6.0.0.10.in-addr.arpa." not in again.zone
    await again.end()


async def test_a_name_deleted_in_the_journal_stays_deleted(tmp_path):
    life = Life(tmp_path)
    await life.begin()
    await life.full(stored(Namespace("shop")), web())
    await life.written(1)
    await life.change(None)
    await life.journalled()
    await life.kill()
    again = Life(tmp_path)
    await again.begin()
    assert WEB not in again.zone
    assert again.publisher.store.count(SERVICE) == 0
    await again.end()


async def test_the_end_of_a_life_writes_what_is_held(tmp_path):
    life = Life(tmp_path, pace=Pace(sync_every_s=1000.0))
    await life.begin()
    await life.full(stored(Namespace("shop")), web())
    await life.written(1)
    await life.change(web(7))
    await life.end()
    again = Life(tmp_path)
    await again.begin()
    assert again.zone[WEB]["A"] == ["10.0.0.7"]
    await again.end()


async def test_churn_writes_a_generation_and_old_ones_are_pruned(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "LEAST_BETWEEN_S", 0.0)
    life = Life(tmp_path)
    await life.begin()
    await life.full(stored(Namespace("shop")), web())
    await life.written(1)
    for number in range(2, 7):
        await life.change(web(number), at=str(10 + number))
        await life.written(number)
    await life.until(lambda: len(list(tmp_path.glob("snapshot/gen-*"))) == 3)
    assert life.zone[WEB]["A"] == ["10.0.0.6"]
    await life.end()


async def test_few_changes_wait_for_their_age_and_the_disk_budget(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "LEAST_BETWEEN_S", 0.0)
    life = Life(tmp_path, pace=Pace(sync_every_s=0.0, rewrite_churn_percent=100, rewrite_after_s=0.0))
    await life.begin()
    await life.full(stored(Namespace("shop")), web())
    await life.written(1)
    life.persister.generation_bytes = room.WRITE_BUDGET_BYTES_PER_S * 1000
    await life.change(web(6))
    await life.journalled()
    assert life.persister.generation == 1
    life.persister.generation_bytes = 0
    await life.change(web(7))
    await life.written(2)
    await life.end()


async def test_changes_while_a_generation_is_written_go_into_the_next_journal(tmp_path, monkeypatch):
    life = Life(tmp_path)
    await life.begin()
    await life.full(stored(Namespace("shop")), web())
    write = life.generations.write

    def slow_write(header, sections):
        time.sleep(0.15)
        return write(header, sections)

    monkeypatch.setattr(life.generations, "write", slow_write)
    await life.until(lambda: life.table.frozen is not None)
    await life.change(web(8))
    assert life.zone[WEB]["A"] == ["10.0.0.8"]
    await life.written(1)
    assert life.zone[WEB]["A"] == ["10.0.0.8"]
    await life.journalled()
    await life.kill()
    again = Life(tmp_path)
    await again.begin()
    assert again.zone[WEB]["A"] == ["10.0.0.8"]
    await again.end()


async def test_more_than_a_journal_should_take_becomes_a_generation(tmp_path, monkeypatch):
    life = Life(tmp_path)
    await life.begin()
    await life.full(stored(Namespace("shop")), web())
    await life.written(1)
    monkeypatch.setattr(room, "MAX_PENDING_BYTES", 10)
    await life.change(web(9))
    await life.written(2)
    assert life.persister.dropped == 1
    await life.kill()
    again = Life(tmp_path)
    await again.begin()
    assert again.zone[WEB]["A"] == ["10.0.0.9"]
    await again.end()


async def test_a_full_disk_takes_no_answer_away_and_is_over_when_it_is_over(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "FIRST_RETRY_S", 0.02)
    life = Life(tmp_path)
    life.persister._retry_s = 0.02
    await life.begin()
    await life.full(stored(Namespace("shop")), web())
    await life.written(1)
    real = os.fsync

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    await life.change(web(6))
    await life.until(lambda: life.persister.failing)
    assert life.zone[WEB]["A"] == ["10.0.0.6"]
    await life.change(web(7), at="12")
    assert life.generations.counts.failures > 0
    monkeypatch.setattr(os, "fsync", real)
    await life.until(lambda: not life.persister.failing)
    await life.written(2)
    assert life.events.count("persist_failed") == 1
    assert life.events.count("persist_recovered") == 1
    assert life.zone[WEB]["A"] == ["10.0.0.7"]
    await life.kill()
    again = Life(tmp_path)
    await again.begin()
    assert again.zone[WEB]["A"] == ["10.0.0.7"]
    await again.end()


async def test_a_locked_directory_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "FIRST_RETRY_S", 0.02)
    first = Life(tmp_path)
    await first.begin()
    await first.full(stored(Namespace("shop")), web())
    await first.written(1)
    second = Life(tmp_path)
    second.persister._retry_s = 0.02
    await second.begin()
    await second.until(lambda: second.persister.failing)
    assert str(os.getpid()) in second.persister.failing
    assert second.generations.counts.failures >= 1
    assert second.zone[WEB]["A"] == ["10.0.0.5"]
    await first.end()
    await second.full(stored(Namespace("shop")), web(6), at="20")
    await second.until(lambda: not second.persister.failing)
    await second.end()
    third = Life(tmp_path)
    await third.begin()
    assert third.zone[WEB]["A"] == ["10.0.0.6"]
    await third.end()


async def test_answers_of_other_options_are_compiled_anew_from_the_objects(tmp_path):
    life = Life(tmp_path)
    await life.begin()
    await life.full(stored(Namespace("shop")), web())
    await life.written(1)
    await life.end()
    other = Life(tmp_path, Profile(zones=("west.example",)))
    assert not await other.begin()
    assert other.zone["web.shop.svc.west.example."]["A"] == ["10.0.0.5"]
    assert other.publisher.positions[SERVICE] == "10"
    await other.written(2)
    await other.end()
    selected = Life(tmp_path, Profile(zones=("west.example",), selection="a|b|c"))
    assert not await selected.begin()
    assert selected.publisher.positions == {}
    await selected.end()


async def test_heartbeats_keep_the_age_right_when_nothing_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "HEARTBEAT_S", 0.0)
    life = Life(tmp_path)
    await life.begin()
    await life.full(stored(Namespace("shop")), web())
    await life.written(1)
    before = life.generations.load()
    await asyncio.sleep(0.05)
    life.publisher.confirm(SERVICE, "99")
    life.persister._came.set()
    await life.until(lambda: life.generations.load().positions[SERVICE] == "99")
    assert life.generations.load().confirmed_unix_s > before.confirmed_unix_s
    await life.end()


def test_a_profile_is_read_back_or_known_to_be_another_version():
    section = profile_section(Profile(ttl_s=9))
    assert read_profile(section) == Profile(ttl_s=9)
    assert read_profile(b"x" * 16 + section[16:]) is None
    assert read_profile(section[:16]) is None
    assert read_profile(b"") is None


async def test_a_generation_without_answers_or_objects_is_used_as_far_as_it_goes(tmp_path):
    life = Life(tmp_path)
    await life.begin()
    await life.full(stored(Namespace("shop")), web())
    await life.written(1)
    await life.end()
    recovered = Generations(tmp_path).load()
    generation = recovered.generation
    for missing in (layout.SECTION_ANSWERS, layout.SECTION_PROFILE):
        sections = {number: place for number, place in generation.sections.items() if number != missing}
        cut = recovered._replace(generation=generation._replace(sections=sections))
        assert not restore(cut, AnswerTable(zones_of(Profile())), Profile()).is_compiled
    broken = {**generation.sections, layout.SECTION_ANSWERS: (4096, 8)}
    damaged = recovered._replace(generation=generation._replace(sections=broken))
    assert "shorter" in restore(damaged, AnswerTable(zones_of(Profile())), Profile()).reason
    sections = {number: place for number, place in generation.sections.items() if number != layout.SECTION_OBJECTS}
    with pytest.raises(SnapshotError, match="no objects"):
        list(objects(recovered._replace(generation=generation._replace(sections=sections))))


async def test_a_hash_seed_that_collides_is_drawn_again(tmp_path, monkeypatch):
    life = Life(tmp_path)
    seeds = iter([1, 2, 3, 4, 5])
    monkeypatch.setattr(freezing, "_seed", lambda: next(seeds))
    real, used = freezing.pack, []

    def colliding(items, names, seed):
        used.append(seed)
        if seed < 3:
            raise SnapshotError("collision")
        return real(items, names, seed)

    monkeypatch.setattr(freezing, "pack", colliding)
    await life.begin()
    await life.full(stored(Namespace("shop")), web())
    await life.written(1)
    assert used == [1, 2, 3]
    await life.end()


async def test_when_no_seed_will_do_nothing_is_written_and_nothing_is_lost(tmp_path, monkeypatch):
    def colliding(items, names, seed):
        raise SnapshotError("collision")

    life = Life(tmp_path)
    await life.begin()
    monkeypatch.setattr(freezing, "pack", colliding)
    await life.full(stored(Namespace("shop")), web())
    await life.until(lambda: life.persister.failing)
    assert life.zone[WEB]["A"] == ["10.0.0.5"]
    assert life.persister.generation == 0
    await life.kill()


async def test_a_builder_that_gives_no_section_is_an_error():
    with pytest.raises(SnapshotError, match="without the section"):
        await freezing._in_slices(iter([None]))


async def test_a_flood_while_the_journal_is_rotated_leaves_no_hole(tmp_path, monkeypatch):
    life = Life(tmp_path)
    await life.begin()
    await life.full(
        stored(Namespace("shop")), web(), stored(Service("shop", "db", cluster_ips=(bytes((10, 0, 1, 1)),)))
    )
    await life.written(1)
    rotate = life.generations.rotate
    rotating = threading.Event()

    def slow_rotate():
        rotating.set()
        time.sleep(0.15)
        return rotate()

    monkeypatch.setattr(life.generations, "rotate", slow_rotate)
    life.persister.invalidate()
    await life.until(rotating.is_set)
    monkeypatch.setattr(room, "MAX_PENDING_BYTES", 10)
    await life.change(web(8), "11")
    assert life.persister.dropped == 1
    monkeypatch.setattr(room, "MAX_PENDING_BYTES", 8 << 20)
    await life.written(2)
    later = stored(Service("shop", "db", cluster_ips=(bytes((10, 0, 1, 2)),)))
    life.publisher.apply(SERVICE, [("shop/db", later)], "12")
    await life.publisher.idle()
    await life.until(lambda: not life.persister._pending and not life.persister._is_due)
    await life.kill()
    again = Life(tmp_path)
    await again.begin()
    assert again.publisher.positions[SERVICE] == "12"
    assert again.zone["db.shop.svc.cluster.local."]["A"] == ["10.0.1.2"]
    assert again.zone[WEB]["A"] == ["10.0.0.8"], "what came before the change that was kept"
    await again.end()


async def another_cluster(life):
    life.publisher.identify("uid:another")
    new = stored(Service("new", "api", cluster_ips=(bytes((10, 0, 2, 1)),)))
    await life.full(stored(Namespace("new")), new, at="3")


def assert_only_the_other_cluster(life):
    assert life.zone["api.new.svc.cluster.local."]["A"] == ["10.0.2.1"]
    assert WEB not in life.zone


async def test_another_cluster_taken_while_a_generation_is_written_brings_no_old_name_back(tmp_path, monkeypatch):
    life = Life(tmp_path)
    await life.begin()
    life.publisher.identify("uid:one")
    write = life.generations.write
    writing = threading.Event()

    def slow_write(header, sections):
        writing.set()
        time.sleep(0.15)
        return write(header, sections)

    monkeypatch.setattr(life.generations, "write", slow_write)
    await life.full(stored(Namespace("shop")), web())
    await life.until(writing.is_set)
    await another_cluster(life)
    assert_only_the_other_cluster(life)
    await life.written(1)
    assert_only_the_other_cluster(life)
    await life.written(2)
    assert_only_the_other_cluster(life)
    await life.kill()
    again = Life(tmp_path)
    await again.begin()
    assert again.publisher.identity == "uid:another"
    assert_only_the_other_cluster(again)
    await again.end()


async def test_another_cluster_taken_while_a_point_is_encoded_leaves_that_point_whole(tmp_path, monkeypatch):
    life = Life(tmp_path)
    await life.begin()
    life.publisher.identify("uid:one")
    encoding, taken = threading.Event(), threading.Event()

    def interrupted(values):
        encoding.set()
        while not taken.is_set():
            yield None
        yield from encode_objects(values)

    monkeypatch.setattr(freezing, "encode_objects", interrupted)
    await life.full(stored(Namespace("shop")), web())
    await life.until(encoding.is_set)
    await another_cluster(life)
    taken.set()
    await life.written(1)
    assert_only_the_other_cluster(life)
    point = life.generations.read(1)
    assert point.header.cluster_identity == "uid:one"
    packed = AnswerTable(zones_of(life.profile))
    packed.rebase(PackedNodes(point.file, *point.sections[layout.SECTION_ANSWERS]))
    assert zone(packed)[WEB]["A"] == ["10.0.0.5"]
    await life.kill()


async def test_another_cluster_begun_at_the_very_point_of_freezing_is_written_when_it_is_served(tmp_path, monkeypatch):
    life = Life(tmp_path)
    await life.begin()
    life.publisher.identify("uid:one")
    await life.full(stored(Namespace("shop")), web())
    await life.written(1)
    idle = life.publisher.idle
    begun = asyncio.Event()

    async def interrupted_idle():
        await idle()
        if not begun.is_set():
            begun.set()
            life.publisher.lost("connection refused")
            life.publisher.identify("uid:another")
            for kind in KINDS:
                life.publisher.replace(kind, [], "3")

    monkeypatch.setattr(life.publisher, "idle", interrupted_idle)
    life.persister.invalidate()
    await life.until(begun.is_set)
    assert life.zone[WEB]["A"] == ["10.0.0.5"], "served until the new set is complete"
    await idle()
    life.publisher.connected()
    await idle()
    assert WEB not in life.zone
    await another_cluster(life)
    await life.until(lambda: not life.persister._is_due and not life.persister._pending)
    assert life.persister.failing == ""
    await life.kill()
    again = Life(tmp_path)
    await again.begin()
    assert_only_the_other_cluster(again)
    await again.end()

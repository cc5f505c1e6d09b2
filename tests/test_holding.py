"""The quarantine on disk: what is shown, what is decided, what survives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from agent import holding as room
from agent.cluster.objects import SERVICE, Namespace, Service
from agent.control.folder import DECISION, QUARANTINE, Folder
from agent.control.quarantine import Decision, HeldDocument
from agent.holding import Holding
from agent.snapshot.guard import Limits
from tests.snapshot.clusters import stored
from tests.snapshot.test_publisher import Bench


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(room, "LOOK_S", 0.01)


class Life:
    """A publisher with thirty Services, and what keeps its quarantine on disk."""

    def __init__(self, state_dir: Path, **limits: object) -> None:
        self.bench = Bench(limits=Limits(**limits))
        self.publisher = self.bench.publisher
        self.holding = Holding(str(state_dir), self.publisher, lambda event, /, **_: self.bench.log.append((event, _)))
        self.state_dir = state_dir

    async def fill(self) -> None:
        self.bench.full(Namespace("shop"), *(Service("shop", f"s{n}", cluster_ips=(bytes(4),)) for n in range(30)))
        await self.publisher.idle()

    async def empty(self) -> None:
        self.publisher.replace(SERVICE, [], "20")
        await self.publisher.idle()

    def document(self) -> HeldDocument | None:
        path = self.state_dir / "control" / QUARANTINE
        if not path.exists():
            return None
        with Folder(str(self.state_dir)) as folder:
            return folder.read(QUARANTINE, HeldDocument)

    def decide(self, quarantine: str, *, accept: bool = True) -> None:
        with Folder(str(self.state_dir), make=True) as folder:
            folder.write(DECISION, Decision(id=quarantine, accept=accept, reason="a test"))

    def told(self, event: str) -> int:
        return [each for each, _ in self.bench.log].count(event)

    @asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.holding.run())
        try:
            yield
        finally:
            assert not task.done(), task.exception()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.01)


async def test_what_is_held_lies_on_disk_for_as_long_as_it_is_held(tmp_path):
    life = Life(tmp_path)
    await life.fill()
    async with life.running():
        await life.empty()
        await until(life.document)
        shown = life.document()
        assert (shown.objects, shown.size) == (30, 30)
        assert shown.applied_unix_s == pytest.approx(shown.since_unix_s + 600)
        assert shown.changes[0].what == "would go"
        assert life.publisher.freshness.held == f"{shown.id} held=30"
        life.decide(shown.id)
        await until(lambda: life.document() is None)
        await until(lambda: not (tmp_path / "control" / DECISION).exists())
        assert life.publisher.store.count(SERVICE) == 0
        assert life.publisher.freshness.held == ""


async def test_a_decision_about_another_quarantine_is_told_and_not_followed(tmp_path):
    life = Life(tmp_path)
    await life.fill()
    async with life.running():
        await life.empty()
        life.decide("1")
        await until(lambda: life.told("decision_void"))
        await until(lambda: not (tmp_path / "control" / DECISION).exists())
    assert life.publisher.store.count(SERVICE) == 30
    assert life.told("decision_void") == 1


async def test_a_decision_that_can_not_be_read_is_told_once_and_changes_nothing(tmp_path):
    life = Life(tmp_path)
    await life.fill()
    async with life.running():
        await life.empty()
        await until(life.document)
        path = tmp_path / "control" / DECISION
        path.write_text(f'{{"id": "{life.document().id}", "accept": true, "reason": ""}}')
        path.chmod(0o600)
        await until(lambda: life.told("order_refused"))
        await asyncio.sleep(0.1)
    assert life.told("order_refused") == 1
    assert life.publisher.store.count(SERVICE) == 30


async def test_the_clock_ends_it(tmp_path):
    life = Life(tmp_path, hold_for_s=0.2)
    await life.fill()
    async with life.running():
        await life.empty()
        assert life.publisher.store.count(SERVICE) == 30
        await until(lambda: life.told("quarantine_expired"))
    assert life.publisher.store.count(SERVICE) == 0


async def test_the_next_life_goes_on_with_its_clock_and_follows_what_was_decided_meanwhile(tmp_path):
    first = Life(tmp_path)
    await first.fill()
    async with first.running():
        await first.empty()
        await until(first.document)
    shown = first.document()
    first.decide(shown.id, accept=False)
    second = Life(tmp_path)
    second.holding.restore()
    assert second.holding.shown == shown
    await second.fill()
    async with second.running():
        await asyncio.sleep(0.1)
        assert (tmp_path / "control" / DECISION).exists(), "it waits for the change to come again"
        await second.empty()
        assert second.publisher.quarantine.hold.id == shown.id
        await until(lambda: second.told("quarantine_rejected"))
        await until(lambda: second.document() is None)
    assert second.publisher.store.count(SERVICE) == 30


async def test_a_clock_that_lies_in_the_future_is_not_waited_for(tmp_path):
    since_s = time.time() + 1e6
    future = HeldDocument(
        id="7", since_unix_s=since_s, applied_unix_s=0.0, size=30, objects=30, differences=(), changes=()
    )
    with Folder(str(tmp_path), make=True) as folder:
        folder.write(QUARANTINE, future)
    life = Life(tmp_path)
    life.holding.restore()
    await life.fill()
    await life.empty()
    assert abs(life.publisher.quarantine.hold.since_s - time.monotonic()) < 10


async def test_a_document_that_others_could_have_written_is_not_believed(tmp_path):
    with Folder(str(tmp_path), make=True) as folder:
        folder.write(QUARANTINE, Decision(id="7", accept=True, reason="no such document"))
    life = Life(tmp_path)
    life.holding.restore()
    assert life.publisher.quarantine.carried is None
    assert life.told("order_refused") == 1


async def test_without_a_disk_it_is_held_all_the_same_and_told_once(tmp_path):
    life = Life(tmp_path / "gone")
    await life.fill()
    async with life.running():
        await life.empty()
        await until(lambda: life.holding.problem)
        await asyncio.sleep(0.1)
        assert life.told("quarantine_not_written") == 1
        assert life.publisher.store.count(SERVICE) == 30
        (tmp_path / "gone").mkdir(mode=0o700)
        await until(lambda: not life.holding.problem)
        assert life.document()


async def test_the_position_on_disk_waits_and_goes_on_with_the_decision(tmp_path):
    life = Life(tmp_path)
    await life.fill()
    await life.empty()
    assert life.publisher.positions[SERVICE] == "20"
    assert life.publisher.kept_positions[SERVICE] == "10"
    life.publisher.apply(SERVICE, [("shop/new", stored(Service("shop", "new", cluster_ips=(bytes(4),))))], "21")
    await life.publisher.idle()
    assert life.bench.recorder.steps[-1].positions[SERVICE] == "10"
    life.publisher.decide("rejected")
    await life.publisher.idle()
    assert life.publisher.kept_positions[SERVICE] == "21"
    last = life.bench.recorder.steps[-1]
    assert (last.positions[SERVICE], last.moves_on) == ("21", True)

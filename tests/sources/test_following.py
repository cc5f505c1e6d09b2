"""What the sink is told when kinds come and go."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from agent.sources.following import MAX_REASONS, REPEAT_S, Following
from tests.sources.mirror import Mirror

KINDS = ("Namespace", "Service", "EndpointSlice")


class SteppedClock:
    """Time moves when told, and whoever slept long enough wakes up."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now_s + seconds, waiter))
        await waiter

    async def step(self, seconds: float) -> None:
        self.now_s += seconds
        for at_s, waiter in self._sleepers:
            if at_s <= self.now_s and not waiter.done():
                waiter.set_result(None)
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
def mirror():
    return Mirror()


@asynccontextmanager
async def reporting(mirror: Mirror, *, is_connected: bool = True):
    clock = SteppedClock()
    following = Following(KINDS, mirror, clock, 5.0)
    task = asyncio.create_task(following.report())
    if is_connected:
        for kind in KINDS:
            following.gained(kind)
        mirror.said.clear()
    await clock.step(0.0)
    yield following, clock
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_connected_is_said_once_when_every_kind_is_there(mirror):
    async with reporting(mirror, is_connected=False) as (following, _):
        for kind in (*KINDS, *KINDS):
            following.gained(kind)
    assert mirror.said == [("connected",)]


async def test_before_the_first_connection_trouble_is_said_at_once(mirror):
    async with reporting(mirror, is_connected=False) as (following, _):
        following.missed("Service", "403")
    assert mirror.said == [("lost", "403")]


async def test_a_return_within_the_grace_says_nothing(mirror):
    async with reporting(mirror) as (following, clock):
        following.missed("Service", "ended")
        await clock.step(4.9)
        following.gained("Service")
        await clock.step(10.0)
    assert mirror.said == []


async def test_beyond_the_grace_it_is_lost_and_then_connected_again(mirror):
    async with reporting(mirror) as (following, clock):
        following.missed("Service", "refused")
        await clock.step(5.0)
        assert mirror.said == [("lost", "refused")]
        following.gained("Service")
    assert mirror.said == [("lost", "refused"), ("connected",)]


async def test_each_absence_has_its_own_grace(mirror):
    async with reporting(mirror) as (following, clock):
        following.missed("Service", "ended")
        await clock.step(4.0)
        following.gained("Service")
        following.missed("EndpointSlice", "ended")
        await clock.step(2.0)
        assert mirror.said == []
        await clock.step(3.0)
    assert mirror.said == [("lost", "ended")]


async def test_trying_again_does_not_renew_the_grace(mirror):
    async with reporting(mirror) as (following, clock):
        for _ in range(5):
            following.missed("Service", "refused")
            await clock.step(1.0)
    assert mirror.said == [("lost", "refused")]


async def test_the_latest_reason_counts(mirror):
    async with reporting(mirror) as (following, clock):
        following.missed("Service", "broke off")
        following.missed("Namespace", "connection refused")
        await clock.step(5.0)
        following.missed("Service", "403 for a moment")
        await clock.step(5.0)
        following.missed("Service", "403")
    assert mirror.of("lost") == [("connection refused",), ("403",)]


async def test_reasons_that_take_turns_are_said_once_a_minute(mirror):
    async with reporting(mirror, is_connected=False) as (following, clock):
        for _ in range(10):
            following.missed("Service", "403 services")
            await clock.step(2.5)
            following.missed("EndpointSlice", "403 slices")
            await clock.step(2.5)
        assert mirror.of("lost") == [("403 services",), ("403 slices",)]
        await clock.step(REPEAT_S)
        following.missed("Service", "403 services")
        assert len(mirror.of("lost")) == 3


async def test_reasons_remembered_are_bounded(mirror):
    async with reporting(mirror, is_connected=False) as (following, clock):
        for number in range(MAX_REASONS * 3):
            following.missed("Service", f"behind {number}")
            await clock.step(5.0)
        assert len(mirror.of("lost")) == MAX_REASONS * 3
        assert len(following._said_at_s) <= MAX_REASONS

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import NodensError
from agent.lifecycle import supervisor as module
from agent.lifecycle.supervisor import Clock, Supervisor, backoff_s


class FakeTime:
    """A clock that waits by jumping; after `limit` waits it waits for real, so that a test can end."""

    def __init__(self, limit: int) -> None:
        self.now_s = 0.0
        self.waits: list[float] = []
        self.limit = limit
        self.enough = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds
        if len(self.waits) >= self.limit:
            self.enough.set()
            await asyncio.Event().wait()

    def clock(self) -> Clock:
        return Clock(lambda: self.now_s, self.sleep, lambda: 1.0)


async def nothing_ends() -> None:
    await asyncio.Event().wait()


async def test_a_task_that_raises_is_logged_counted_and_started_again(caplog):
    time, runs = FakeTime(3), []

    async def broken() -> None:
        runs.append(1)
        raise ValueError("no luck")

    owner = Supervisor(lambda reason: None, time.clock())
    with caplog.at_level(logging.ERROR):
        owner.start("lottery", broken)
        await time.enough.wait()
    assert len(runs) == 3
    assert owner.failures == {"lottery": 3}
    assert owner.last_error["lottery"] == "ValueError: no luck"
    assert "lottery failed, starts again in 0.1 s: ValueError: no luck" in caplog.text
    await owner.stop(1)


async def test_a_task_that_ends_is_an_error_too():
    time = FakeTime(1)

    async def lazy() -> None:
        return

    owner = Supervisor(lambda reason: None, time.clock())
    owner.start("lazy", lazy)
    await time.enough.wait()
    assert owner.last_error["lazy"] == "ended, and it never should"
    await owner.stop(1)


async def test_backoff_doubles_to_a_cap_and_starts_anew_after_a_long_life():
    time = FakeTime(14)
    lives = iter([0.0] * 12 + [module.SETTLED_AFTER_S, 0.0])

    async def broken() -> None:
        time.now_s += next(lives)
        raise RuntimeError

    owner = Supervisor(lambda reason: None, time.clock())
    owner.start("x", broken)
    await time.enough.wait()
    assert time.waits[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert time.waits[11] == module.LONGEST_BACKOFF_S
    assert time.waits[12:] == pytest.approx([0.1, 0.2])
    await owner.stop(1)


async def test_a_critical_task_is_not_started_again_but_ends_the_process():
    told, runs = [], []

    async def broken() -> None:
        runs.append(1)
        raise OSError("socket gone")

    owner = Supervisor(told.append, FakeTime(1).clock())
    owner.start("udp", broken, critical=True)
    await asyncio.sleep(0.01)
    assert told == ["udp: OSError: socket gone"]
    assert len(runs) == 1
    assert owner.failures["udp"] == 1
    await owner.stop(1)


async def test_a_cancellation_from_within_is_a_failure_one_from_without_an_end():
    time = FakeTime(1)

    async def cancels_itself() -> None:
        inner = asyncio.get_running_loop().create_future()
        inner.cancel()
        await inner

    owner = Supervisor(lambda reason: None, time.clock())
    owner.start("odd", cancels_itself)
    owner.start("good", nothing_ends)
    await time.enough.wait()
    assert owner.last_error == {"odd": "cancelled from within"}
    assert await owner.stop(1) == []
    assert owner.failures == {"odd": 1, "good": 0}


async def test_stop_names_tasks_that_do_not_end(caplog):
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    owner = Supervisor(lambda reason: None)
    owner.start("stubborn", stubborn)
    owner.start("good", nothing_ends)
    await asyncio.sleep(0)
    assert await owner.stop(0.05) == ["stubborn"]
    assert "did not end within 0.05 s: stubborn" in caplog.text
    release.set()
    await asyncio.sleep(0.01)


async def test_tasks_end_in_reverse_order():
    ended = []

    def work(name):
        async def run() -> None:
            try:
                await nothing_ends()
            finally:
                ended.append(name)

        return run

    owner = Supervisor(lambda reason: None)
    for name in "abc":
        owner.start(name, work(name))
    await asyncio.sleep(0)
    await owner.stop(1)
    assert ended == ["c", "b", "a"]


async def test_names_are_unique_and_tasks_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_TASKS", 2)
    owner = Supervisor(lambda reason: None)
    owner.start("a", nothing_ends)
    with pytest.raises(NodensError):
        owner.start("a", nothing_ends)
    owner.start("b", nothing_ends)
    with pytest.raises(NodensError):
        owner.start("c", nothing_ends)
    await owner.stop(1)


async def test_stopping_without_tasks_is_fine():
    assert await Supervisor(lambda reason: None).stop(1) == []


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_backoff_stays_in_bounds(attempt, chance):
    assert module.FIRST_BACKOFF_S / 2 <= backoff_s(attempt, chance) <= module.LONGEST_BACKOFF_S

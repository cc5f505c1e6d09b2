"""Waiting for the end and going through it, without a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from agent.lifecycle import signals as signals_module
from agent.lifecycle.readiness import Readiness
from agent.lifecycle.signals import FAILED, RELOAD, STOP, Wishes
from agent.lifecycle.stop import Deadlines, Ending, stop, until_stopped
from agent.lifecycle.systemd import Notifier


@pytest.fixture
def restored_signals():
    before = {number: signal.getsignal(number) for number in signals_module.HANDLED}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


async def test_failure_goes_before_stop_before_reload(restored_signals):
    wishes = Wishes()
    wishes.ask_to_reload()
    wishes.ask_to_reload()
    assert await wishes.next() == RELOAD
    wishes.ask_to_reload()
    wishes.ask_to_stop(signal.SIGTERM)
    assert await wishes.next() == STOP
    wishes.fail("first")
    wishes.fail("second")
    assert await wishes.next() == FAILED
    assert (wishes.failed, wishes.stopped_by) == ("first", "SIGTERM")


async def test_signals_wait_until_they_are_listened_to(restored_signals):
    signals_module.block()
    os.kill(os.getpid(), signal.SIGHUP)
    wishes = Wishes()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wishes.next(), 0.05)
    wishes.listen()
    assert await asyncio.wait_for(wishes.next(), 1) == RELOAD
    for number in signals_module.HANDLED:
        asyncio.get_running_loop().remove_signal_handler(number)


async def test_a_failure_means_exit_code_1_and_a_stop_0(restored_signals):
    reloads = []

    async def reload() -> None:
        reloads.append(1)
        wishes.fail("broken") if len(reloads) == 2 else wishes.ask_to_reload()

    wishes = Wishes()
    wishes.ask_to_reload()
    assert await until_stopped(wishes, reload) == 1
    assert len(reloads) == 2

    wishes = Wishes()
    wishes.ask_to_stop(signal.SIGINT)
    assert await until_stopped(wishes, reload) == 0


async def test_the_end_is_gone_through_even_if_every_step_is_broken(caplog):
    steps = []

    def close() -> None:
        steps.append("close")
        raise OSError("close broke")

    async def drain() -> None:
        steps.append("drain")
        await asyncio.sleep(60)

    def write():
        steps.append("write")
        raise OSError("write broke")

    readiness = Readiness()
    started = time.monotonic()
    await stop(Ending(close, drain, write), Deadlines(0.05, 0.05), readiness, Notifier({}))
    assert time.monotonic() - started < 10
    assert steps == ["close", "drain", "write"]
    assert readiness.reasons == {"draining": "the agent is stopping"}
    assert all(
        words in caplog.text for words in ("closing failed", "drain took longer than 0.05 s", "last write failed")
    )


async def test_not_ready_comes_before_lameduck_and_closing_after_it():
    readiness, seen = Readiness(), []

    async def nothing() -> None:
        return

    ending = Ending(lambda: seen.append("closed"), nothing, nothing)
    task = asyncio.ensure_future(stop(ending, Deadlines(0.1, 1), readiness, Notifier({})))
    await asyncio.sleep(0.03)
    assert not readiness.ready
    assert seen == []
    await task
    assert seen == ["closed"]

"""The end of a life, and the wait for it.

Law: not ready first, answering to the last: readiness goes, queries are served through `lameduck`, then nothing new
is accepted, open queries are drained to a deadline, what is held is written, exit 0. Each step is bounded; a step
that fails or runs out of time is said and the next one follows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from agent.lifecycle.readiness import Readiness
from agent.lifecycle.signals import FAILED, STOP, Wishes
from agent.lifecycle.systemd import Notifier

log = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_FAILURE = 1
LEAST_WRITE_S = 1.0


class Ending(NamedTuple):
    """What the rooms do at the end, in this order.

    Attributes:
        close: stop accepting queries; returns at once.
        drain: wait for queries that are being answered.
        write: bring what is held to disk.
    """

    close: Callable[[], None]
    drain: Callable[[], Awaitable[object]]
    write: Callable[[], Awaitable[object]]


class Deadlines(NamedTuple):
    """Seconds for each step."""

    lameduck_s: float
    drain_s: float


async def until_stopped(wishes: Wishes, reload: Callable[[], Awaitable[object]]) -> int:
    """Wait for the end, reloading on the way; gives the exit code that it means."""
    while True:
        wish = await wishes.next()
        if wish == FAILED:
            log.critical("stopping: %s", wishes.failed)
            return EXIT_FAILURE
        if wish == STOP:
            log.info("stopping: %s", wishes.stopped_by)
            return EXIT_OK
        await reload()


async def stop(ending: Ending, deadlines: Deadlines, readiness: Readiness, notifier: Notifier) -> None:
    """Go through the steps of the end."""
    started = time.monotonic()
    readiness.hold("draining", "the agent is stopping")
    notifier.stopping()
    if deadlines.lameduck_s:
        await asyncio.sleep(deadlines.lameduck_s)
    try:
        ending.close()
    except Exception:
        log.exception("closing failed")
    await _bounded("drain", ending.drain, deadlines.drain_s)
    await _bounded("last write", ending.write, max(deadlines.drain_s, LEAST_WRITE_S))
    log.info("stopped after %.1f s", time.monotonic() - started)


async def _bounded(step: str, work: Callable[[], Awaitable[object]], deadline_s: float) -> None:
    try:
        await asyncio.wait_for(work(), deadline_s)
    except TimeoutError:
        log.warning("%s took longer than %g s and was left", step, deadline_s)
    except Exception:
        log.exception("%s failed", step)

"""Owner of every eternal task.

Law: a task given to the supervisor never ends. One that ends or raises is an error: logged once, counted, started
again after a bounded, jittered back-off. A critical one is not started again: its failure is the end of the process
(exit code 1), because whoever started the process starts it better. Nobody else creates tasks.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from agent.errors import NodensError

log = logging.getLogger(__name__)

Work = Callable[[], Awaitable[object]]

FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 30.0
SETTLED_AFTER_S = 60.0
"""A task that lived this long starts its back-off anew."""
MAX_TASKS = 64


class Clock(NamedTuple):
    """What a test replaces: time, waiting, chance."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    chance: Callable[[], float] = random.random


class Supervisor:
    """Starts eternal tasks, restarts them, ends them.

    Args:
        on_fatal: told in a sentence that a critical task has failed (`Wishes.fail`).
        clock: for tests.

    Attributes:
        failures: name → how often it ended although it must not.
        last_error: name → why, the last time.
    """

    def __init__(self, on_fatal: Callable[[str], None], clock: Clock | None = None) -> None:
        self.failures: dict[str, int] = {}
        self.last_error: dict[str, str] = {}
        self._on_fatal = on_fatal
        self._clock = clock or Clock()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, work: Work, *, critical: bool = False) -> None:
        """Own one task from now on.

        Args:
            name: unique, a label of `nodens_task_failures_total`.
            work: makes the coroutine; called again for each restart.
            critical: its failure ends the process.
        """
        if name in self._tasks or len(self._tasks) >= MAX_TASKS:
            raise NodensError(f"task {name!r} is there already, or there are {MAX_TASKS}")
        self.failures[name] = 0
        self._tasks[name] = asyncio.create_task(self._keep(name, work, critical=critical), name=name)

    async def stop(self, deadline_s: float) -> list[str]:
        """Cancel every task, the last started first, and wait for them; gives the names of those that did not end."""
        tasks = dict(reversed(self._tasks.items()))
        for task in tasks.values():
            task.cancel()
        if tasks:
            await asyncio.wait(tasks.values(), timeout=deadline_s)
        left = [name for name, task in tasks.items() if not task.done()]
        if left:
            log.error("tasks did not end within %g s: %s", deadline_s, ", ".join(left))
        self._tasks.clear()
        return left

    async def _keep(self, name: str, work: Work, *, critical: bool) -> None:
        attempt = -1
        while True:
            started = self._clock.now()
            reason, error = await self._once(work)
            self.failures[name] += 1
            self.last_error[name] = reason
            if critical:
                log.critical("%s failed, and nothing works without it: %s", name, reason, exc_info=error)
                self._on_fatal(f"{name}: {reason}")
                return
            attempt = 0 if self._clock.now() - started >= SETTLED_AFTER_S else attempt + 1
            wait_s = backoff_s(attempt, self._clock.chance())
            log.error("%s failed, starts again in %.1f s: %s", name, wait_s, reason, exc_info=error)
            await self._clock.sleep(wait_s)

    async def _once(self, work: Work) -> tuple[str, BaseException | None]:
        try:
            await work()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return "cancelled from within", error
        except Exception as error:  # noqa: BLE001  # the edge of the process: whatever it was, it is told and counted
            return f"{type(error).__name__}: {error}", error
        return "ended, and it never should", None


def backoff_s(attempt: int, chance: float) -> float:
    """Give the wait before restart number `attempt` (from 0): doubled each time, capped, half of it jitter."""
    return min(FIRST_BACKOFF_S * (1 << min(attempt, 30)), LONGEST_BACKOFF_S) * (0.5 + chance / 2)

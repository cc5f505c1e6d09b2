"""A process that lives by the rooms of agent.lifecycle and writes down what happens, one word a line.

`python life.py CONFIG WORK` where WORK is one of: calm, drains, hangs, spins, dies, breaks.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import time

from agent.config import again, load
from agent.lifecycle import signals
from agent.lifecycle.readiness import Readiness
from agent.lifecycle.reload import Reloader
from agent.lifecycle.stop import Deadlines, Ending, stop, until_stopped
from agent.lifecycle.supervisor import Supervisor
from agent.lifecycle.systemd import Notifier


def say(*words: object) -> None:
    """Write one line at once."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Life:
    """One life; `work` says what goes wrong in it."""

    def __init__(self, config, work: str) -> None:
        self.work = work
        self.config = config
        self.readiness = Readiness()
        self.notifier = Notifier(os.environ)

    async def live(self) -> int:
        wishes = signals.Wishes()
        supervisor = Supervisor(wishes.fail)
        supervisor.start("eternal", self.eternal, critical=self.work == "dies")
        reloader = Reloader(self.config, functools.partial(again, self.config), [self.part], self.notifier)
        say("starting")
        if self.work == "slow":
            time.sleep(0.5)
        wishes.listen()
        self.notifier.ready()
        say("ready", self.readiness.ready)
        code = await until_stopped(wishes, functools.partial(self.reload, reloader))
        if self.work == "spins":
            say("spinning")
            time.sleep(20)
        ending = Ending(functools.partial(say, "close"), self.drain, self.write)
        await stop(ending, Deadlines(self.config.lameduck_s, self.config.drain_s), self.readiness, self.notifier)
        await supervisor.stop(1)
        return code

    async def eternal(self) -> None:
        await asyncio.sleep(0.05 if self.work == "dies" else 3600)
        raise OSError("the socket is gone")

    async def reload(self, reloader: Reloader) -> None:
        outcome = await reloader.reload()
        say("reload", ",".join(outcome.changed) or "-", outcome.refused.split("\n")[0] or "-")

    def part(self, config):
        return functools.partial(say, "commit", config.log_level)

    async def drain(self) -> None:
        say("drain", self.readiness.ready)
        if self.work == "breaks":
            raise OSError("drain broke")
        await asyncio.sleep({"drains": 0.1, "hangs": 60}.get(self.work, 0))

    async def write(self) -> None:
        say("write")


def main() -> int:
    signals.block()
    say("blocked")
    config = load({}, {}, sys.argv[1])
    return asyncio.run(Life(config, sys.argv[2]).live())


if __name__ == "__main__":
    sys.exit(main())

"""SIGHUP: read everything again, verify all of it, then apply; or keep all and say why.

Law: there is never a mixture. The new configuration is read and checked as a whole; an option that only a restart can
change keeps all the others from changing too; every part prepares before any part commits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

from agent.config.options import Config
from agent.config.slots import Slot, table
from agent.errors import ConfigError, NodensError
from agent.lifecycle.systemd import Notifier

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 10.0
Commit = Callable[[], None]
Part = Callable[[Config], Commit]
"""A part prepares: checks the new configuration, may raise NodensError, changes nothing; its commit can't fail."""


class Outcome(NamedTuple):
    """What a reload did: the keys that changed, or why nothing did."""

    changed: tuple[str, ...]
    refused: str


class Reloader:
    """Holds the configuration in force.

    Args:
        config: the one in force.
        read: reads the same places again; blocking, so it runs on a thread.
        parts: everything that follows a change.
        notifier: tells systemd when a reload begins and ends.

    Attributes:
        config: the one in force now.
        applied, refused: how many reloads ended so.
    """

    def __init__(
        self, config: Config, read: Callable[[], Config], parts: Iterable[Part], notifier: Notifier | None = None
    ) -> None:
        self.config = config
        self.applied = 0
        self.refused = 0
        self._read = read
        self._parts = tuple(parts)
        self._notifier = notifier or Notifier({})

    async def reload(self) -> Outcome:
        """Do one reload; says in one line what came of it."""
        self._notifier.reloading()
        try:
            return await self._reload()
        finally:
            self._notifier.ready()

    async def _reload(self) -> Outcome:
        try:
            config = await asyncio.wait_for(asyncio.to_thread(self._read), READ_TIMEOUT_S)
            changed = self._apply(config)
        except (NodensError, TimeoutError) as error:
            self.refused += 1
            reason = str(error) or f"reading took longer than {READ_TIMEOUT_S:g} s"
            log.error("reload refused, everything stays as it was: %s", reason)  # noqa: TRY400  # no trace of a typo
            return Outcome((), reason)
        self.applied += 1
        log.info("reloaded: %s", ", ".join(changed) or "nothing had changed")
        return Outcome(changed, "")

    def _apply(self, config: Config) -> tuple[str, ...]:
        changed = changes(self.config, config)
        fixed = [slot.key for slot in changed if not slot.option.reload]
        if fixed:
            raise ConfigError(f"{', '.join(fixed)} can't change while running", hint="Restart the agent, or undo it")
        commits = [part(config) for part in self._parts] if changed else []
        for commit in commits:
            commit()
        self.config = config
        return tuple(slot.key for slot in changed)


def changes(old: Config, new: Config) -> list[Slot]:
    """List the options whose values differ."""
    return [slot for slot in table().values() if slot.of(old) != slot.of(new)]

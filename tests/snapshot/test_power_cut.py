"""The power fails at each call that changes the disk, in turn, and takes with it what was not synced.

A model of the least a disk promises: the content of a file is what it was at its last fsync, plus any beginning of
what came after (or zeros in its place); the names of a directory are those of its last fsync, or those of now.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.snapshot.generations import Generations
from tests.snapshot.history import entry, header, sections, state_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.snapshot.journal import JournalWriter

pytestmark = pytest.mark.faults

VARIANTS = (
    "all kept",
    "nothing kept",
    "names kept",
    "names and zeros kept",
    "names and half kept",
    "half a write kept",
)
CHANGING = ("open", "write", "fsync", "rename", "unlink")


class PowerCutError(BaseException):
    """Not an Exception: nothing may catch it."""


class Power:
    """Lets so many changing calls through, then none; remembers what the disk has for sure.

    A process that is killed is cut the same way, but the kernel goes on: `before` is then what it remembers.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, calls: int, before: Power | None) -> None:
        self.folder = folder
        self.left = calls
        self.is_on = True
        self.synced: dict[int, bytes] = {}
        self.names: dict[str, int] = {}
        if before is not None:
            self.synced, self.names = before.synced, before.names
        elif folder.exists():  # what an earlier life left was kept
            self.names = self.inodes()
            self.synced = {(folder / name).stat().st_ino: (folder / name).read_bytes() for name in self.names}
        self.torn = b""
        self.torn_inode = 0
        for call in CHANGING:
            patch.setattr(os, call, self.guarded(getattr(os, call), call))

    def inodes(self) -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in self.folder.iterdir()}

    def guarded(self, real: Callable[..., object], call: str) -> Callable[..., object]:
        def guard(*arguments: object, **named: object) -> object:
            if call == "open" and not int(arguments[1]) & os.O_EXCL:  # type: ignore[call-overload]
                return real(*arguments, **named)
            if not self.is_on:
                raise PowerCutError
            if not self.left:
                self.is_on = False
                if call == "write":
                    self.torn_inode = os.fstat(int(arguments[0])).st_ino  # type: ignore[call-overload]
                    self.torn = bytes(arguments[1])[: len(bytes(arguments[1])) // 2]  # type: ignore[call-overload]
                raise PowerCutError
            self.left -= 1
            if call == "fsync":  # of the model; the real disk need not be asked
                self.note(int(arguments[0]))  # type: ignore[call-overload]
                return None
            done = real(*arguments, **named)
            if call == "open":  # it may have the inode of a file that is gone
                self.synced.pop(os.fstat(int(done)).st_ino, None)  # type: ignore[call-overload]
            return done

        return guard

    def note(self, fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}")
        if path.is_dir():
            self.names = self.inodes()
        else:
            self.synced[path.stat().st_ino] = path.read_bytes()

    def leave(self, variant: str, state_dir: Path) -> None:
        """Lay out what is on the disk after the cut."""
        contents = {path.stat().st_ino: path.read_bytes() for path in self.folder.iterdir()}
        if variant == "half a write kept":
            contents[self.torn_inode] = contents.get(self.torn_inode, b"") + self.torn
        names = self.names if variant == "nothing kept" else self.inodes()
        folder = state_dir / "snapshot"
        folder.mkdir(mode=0o700, parents=True)
        for name, inode in names.items():
            content, synced = contents.get(inode, b""), self.synced.get(inode, b"")
            unsynced = content[len(synced) :]
            kept = {
                "all kept": content,
                "half a write kept": content,
                "names and zeros kept": synced + bytes(len(unsynced)),
                "names and half kept": synced + unsynced[: len(unsynced) // 2],
            }.get(variant, synced)
            (folder / name).write_bytes(kept)
            (folder / name).chmod(0o600)


class Life:
    """An agent's life on disk: what it recovered, what it went on to, what was confirmed to it."""

    def __init__(self, state_dir: Path, confirmed: int = 0) -> None:
        self.generations = Generations(state_dir)
        self.state = self.confirmed = confirmed
        self.journal: JournalWriter | None = None

    def live(self, rolls: int = 2) -> None:
        generations = self.generations
        generations.lock()
        recovered = generations.load()
        self.state = state_of(recovered)
        if recovered is None:
            self.state += 1  # the first full set
        else:
            self.journal = generations.open_journal(recovered)
            if self.journal.anchored:
                self.confirm(self.state)  # what only the kernel had until now, the disk has
            self.go_on(2)
        for _ in range(rolls):
            self.roll()
            self.go_on(2)
        generations.close()

    def roll(self) -> None:
        self.journal = self.generations.rotate()
        frozen = self.state
        self.go_on(1)
        self.generations.write(header(self.journal.generation, frozen), sections(frozen))
        self.confirm(frozen)
        self.generations.prune(keep=2)

    def go_on(self, steps: int) -> None:
        assert self.journal is not None
        for _ in range(steps):
            self.state += 1
            self.journal.append(entry(self.state))
        self.journal.flush()
        if self.journal.sync() == self.journal.sequence:
            self.confirm(self.state)

    def confirm(self, state: int) -> None:
        self.confirmed = max(self.confirmed, state)

    def die(self) -> None:
        """Give back what the kernel would take from a dead process."""
        if self.journal is not None:
            self.journal.close()
        if self.generations._lock >= 0:
            os.close(self.generations._lock)


def cut_life(state_dir: Path, calls: int, before: Power | None = None, confirmed: int = 0) -> tuple[Power, Life, bool]:
    life = Life(state_dir, confirmed)
    with pytest.MonkeyPatch.context() as patch:
        power = Power(state_dir / "snapshot", patch, calls, before)
        try:
            life.live()
        except PowerCutError:
            ended = False
        else:
            ended = True
    if not ended:
        life.die()
    return power, life, ended


def check(state_dir: Path, life: Life) -> None:
    state = state_of(Generations(state_dir).load())
    assert life.confirmed <= state <= life.state, f"{state} is not from {life.confirmed} to {life.state}"


def test_power_cut_at_every_call_of_a_first_and_a_second_life(tmp_path: Path) -> None:
    first = tmp_path / "first"
    whole = Life(first)
    whole.live()
    cuts = 0
    for base in (None, first):
        calls, ended = 0, False
        while not ended:
            place = tmp_path / f"{'second' if base else 'only'}-{calls}"
            if base is not None:
                shutil.copytree(base, place)
            power, life, ended = cut_life(place, calls, None, whole.confirmed if base else 0)
            for variant in VARIANTS:
                left = tmp_path / f"{place.name}-{variant.replace(' ', '-')}"
                power.leave(variant, left)
                check(left, life)
                shutil.rmtree(left)
            shutil.rmtree(place)
            calls += 1
        cuts += calls
    assert cuts > 40  # the lives are as eventful as they are meant to be


def test_power_cut_soon_after_the_restart_of_a_killed_agent(tmp_path: Path) -> None:
    # What the restarted agent found may have been in the kernel's memory alone; what it goes on from must stay.
    calls, ended = 0, False
    while not ended:
        for calls_again in range(4):
            place, left = tmp_path / f"{calls}-{calls_again}", tmp_path / "left"
            killed, life, ended = cut_life(place, calls)
            power, life, _ = cut_life(place, calls_again, killed, life.confirmed)
            power.leave("nothing kept", left)
            check(left, life)
            shutil.rmtree(left)
            shutil.rmtree(place)
        calls += 1


def cut_again_and_again(tmp_path: Path, dice: random.Random, lives: int) -> None:
    """One disk through many lives, each cut short; what one confirmed, every later one must find."""
    place, before, confirmed = tmp_path / "life-0", None, 0
    for number in range(lives):
        before, life, _ = cut_life(place, dice.randrange(25), before, confirmed)
        confirmed = life.confirmed
        if dice.random() < 0.5:  # killed: the kernel still has everything, the disk may not
            check(place, life)
            continue
        after = tmp_path / f"life-{number + 1}"
        before.leave(dice.choice(VARIANTS), after)
        check(after, life)
        shutil.rmtree(place)
        place, before = after, None


def test_power_cuts_through_many_lives(tmp_path: Path) -> None:
    for seed in range(4):
        cut_again_and_again(tmp_path / str(seed), random.Random(seed), lives=25)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_power_cuts_through_very_many_lives(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    for extra in range(10):
        cut_again_and_again(tmp_path / str(extra), random.Random(seed + extra), lives=100)

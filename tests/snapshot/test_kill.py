"""kill -9 at any moment, again and again, on one state directory."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import pytest

from agent.snapshot.generations import Generations
from tests.snapshot.history import state_of

WRITER = Path(__file__).with_name("crash_writer.py")
LONGEST_LIFE_S = 0.05


class Writer:
    """A process that goes on with a history as often as it is killed."""

    def __init__(self, state_dir: Path) -> None:
        command = [sys.executable, str(WRITER), str(state_dir)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def says(self) -> tuple[str, int]:
        assert self.process.stdout is not None
        word, _, number = self.process.stdout.readline().decode().strip().partition(" ")
        assert word, "the writer ended by itself"
        return word, int(number or -1)

    def live_and_die(self, life_s: float) -> tuple[int, int]:
        """Let it live so long; what it recovered (-1: it did not get that far) and the last state confirmed to us."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        said = [self.says()]
        while said[-1][0] != "pid":
            said.append(self.says())
        time.sleep(life_s)
        os.kill(said[-1][1], signal.SIGKILL)
        while said[-1][0] != "dead":
            said.append(self.says())
        recovered = [number for word, number in said if word == "recovered"]
        return max(recovered, default=-1), max((number for word, number in said if word == "confirmed"), default=0)


@pytest.mark.parametrize("kills", [40, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_a_killed_writer_leaves_all_it_confirmed(tmp_path: Path, kills: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    state = generations = torn = 0
    with Writer(tmp_path) as writer:
        for _ in range(kills):
            recovered, confirmed = writer.live_and_die(dice.uniform(0.0, LONGEST_LIFE_S))
            assert recovered in {-1, state}  # what we saw on disk is what the next one goes on from
            reader = Generations(tmp_path)
            found = reader.load()
            found_state = state_of(found)
            assert max(state, confirmed) <= found_state
            state = found_state
            generations = found.generation.header.generation if found else 0
            torn += bool(reader.counts.left_bytes or (found and reader.list().leftovers))
    print(f"{kills} kills, state {state}, generation {generations}, {torn} times something was torn")
    assert state > kills
    assert generations > kills // 4

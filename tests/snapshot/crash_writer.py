"""Writes a history as fast as it can, to be killed at any moment; see test_kill.py.

Run as `python crash_writer.py STATE_DIR`. For each line read from stdin it forks a child that goes on with the history
in STATE_DIR, and says `pid N`, then `confirmed N` for each state that is sure to be found again, and `dead` when the
child was reaped. The fork keeps a kill as cheap as a few milliseconds: everything is imported already.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agent.snapshot.generations import Generations
from tests.snapshot.history import entry, header, sections, state_of

LARGE_BYTES = 300_000
"""Of a generation, so that kills hit the middle of one."""


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def write_for_ever(state_dir: str) -> None:
    dice = random.Random()
    generations = Generations(state_dir)
    generations.lock()
    recovered = generations.load()
    state = state_of(recovered)
    journal = generations.open_journal(recovered) if recovered is not None else generations.rotate()
    say(f"recovered {state}")
    while True:
        if not journal.anchored or journal.sequence > 20:
            journal, frozen = generations.rotate(), state
            for _ in range(dice.randrange(3)):
                state += 1
                journal.append(entry(state, dice.randrange(3000)))
            journal.flush()
            size_bytes = dice.choice((0, LARGE_BYTES))
            generations.write(header(journal.generation, frozen), sections(frozen, size_bytes))
            say(f"confirmed {frozen}")
            generations.prune()
        for _ in range(dice.randrange(1, 4)):
            state += 1
            journal.append(entry(state, dice.choice((0, 0, 100, 20_000))))
        journal.flush()
        if dice.random() < 0.5:
            assert journal.sync() == journal.sequence
            say(f"confirmed {state}")


def main() -> None:
    for _ in sys.stdin:
        pid = os.fork()
        if not pid:
            try:
                write_for_ever(sys.argv[1])
            finally:
                os._exit(1)
        say(f"pid {pid}")
        os.waitpid(pid, 0)
        say("dead")


if __name__ == "__main__":
    main()

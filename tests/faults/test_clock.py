"""The wall clock jumps by a day, forward and back, while the agent runs and between two starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import witness
from tests.faults.stage import WEB, WEB_ADDRESS, Stage
from tests.faults.wall_clock import DAY_S, WallClock


@pytest.mark.slow
@pytest.mark.parametrize("days", [1, -1], ids=["a day forward", "a day back"])
def test_clock_jumps(start_stage: Callable[..., Stage], tmp_path: Path, days: int):
    clock = WallClock(tmp_path)
    stage = start_stage(environ=clock.environ, options={"max_stale": "12h"})
    with stage.asking() as asking:
        before = stage.agent.state()["source"]["last_success_unix_s"]
        clock.set(days * DAY_S)
        jumped = stage.agent.wait_state(
            "the other clock", lambda state: abs(state["source"]["last_success_unix_s"] - before) > DAY_S / 2
        )
        assert (jumped["state"], jumped["source"]["connected"]) == ("fresh", True), "ages are not of the wall clock"
        assert jumped["age_s"] < 60
        stage.all_right()
        stage.follows()
        stage.api.stop()
        stage.sees_lost("refused")
        stage.all_right()
        stage.restart(asking)
        stage.all_right()
        stage.api.start()
        stage.follows()
        witness.NOW.saw("ages of seconds through the jump")


@pytest.mark.parametrize("days", [1, -1], ids=["a day forward", "a day back"])
def test_clock_jumps_between_two_starts_without_the_source(
    start_stage: Callable[..., Stage], tmp_path: Path, days: int
):
    clock = WallClock(tmp_path)
    stage = start_stage(environ=clock.environ)
    with stage.asking() as asking:
        stage.api.stop()
        clock.set(days * DAY_S)
        stage.restart(asking)
        stage.all_right()
        state = stage.agent.wait_state("its age", bool)
        assert stage.ask(WEB).rdata == {WEB_ADDRESS}
        if days > 0:
            assert abs(state["age_s"] - DAY_S) < 600, "it can't know that no day has passed, and says so"
        else:
            assert 0 <= state["age_s"] < 600
        witness.NOW.saw(f"age {state['age_s']:.0f} s")
        clock.set(0)
        stage.api.start()
        stage.follows()
        stage.all_right()

"""What an API server can do to an agent that follows it: nothing that a name would feel.

Each fault is met by a running agent and by one that is killed and started in the middle of it. All the time somebody
asks; when it is over, changes are followed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.control_plane.relay import Relay
from tests.faults.stage import Api, Stage
from tests.scripted_api import Fault

MANY = 1_000_000
Start = Callable[..., Stage]

meets = pytest.mark.parametrize(
    "restarts",
    [pytest.param(False, marks=pytest.mark.slow, id="while it runs"), pytest.param(True, id="restarted in the middle")],
)


@contextmanager
def failing(api: Api, *faults: Fault) -> Iterator[None]:
    """Let every request fail, and the watches that are open end."""
    api.do(lambda script: (script.faults.extend(faults), script.break_watches()))
    yield
    api.do(lambda script: script.faults.clear())


def survives(stage: Stage, fault: Any, told: str, *, restarts: bool) -> None:
    """Play a fault, a context manager: no wrong answer, and what was seen says `told`."""
    with stage.asking() as asking:
        with fault:
            if restarts:
                stage.restart(asking)
            stage.sees_lost(told)
            stage.all_right()
        stage.follows()
        stage.all_right()


@meets
def test_api_server_gone_connections_refused(stage: Stage, restarts: bool):
    @contextmanager
    def gone() -> Iterator[None]:
        stage.api.stop()
        yield
        stage.api.start()

    survives(stage, gone(), "can't be reached: connection refused", restarts=restarts)


@meets
def test_api_server_black_holed_without_a_reset(start_stage: Start, api: Api, restarts: bool):
    with Relay(api.script.port) as relay:
        stage = start_stage(port=relay.port)

        @contextmanager
        def black_hole() -> Iterator[None]:
            relay.holding = True
            yield
            relay.holding = False

        silent = "did not answer within" if restarts else "neither event nor bookmark|did not answer within"
        survives(stage, black_hole(), silent, restarts=restarts)


@meets
def test_api_server_slow_one_octet_a_second(start_stage: Start, api: Api, restarts: bool):
    with Relay(api.script.port) as relay:
        stage = start_stage(port=relay.port)

        @contextmanager
        def slow() -> Iterator[None]:
            relay.pause_s = 1.0
            relay.cut()
            yield
            relay.pause_s = 0.0

        survives(stage, slow(), "did not answer within", restarts=restarts)


@meets
@pytest.mark.parametrize("code", [429, *(pytest.param(code, marks=pytest.mark.slow) for code in (500, 502, 503, 504))])
def test_api_server_overloaded_or_broken(stage: Stage, code: int, restarts: bool):
    refusing = Fault(status=code, retry_after_s=1 if code in {429, 503} else 0, times=MANY, message="too busy")
    survives(stage, failing(stage.api, refusing), f"answered {code} to .*too busy", restarts=restarts)

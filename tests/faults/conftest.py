"""Stages; every test of this room is a fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults.stage import Api, Stage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("faults")


@pytest.fixture
def api() -> Iterator[Api]:
    """A scripted API server."""
    with Api() as running:
        yield running


@pytest.fixture
def start_stage(tmp_path: Path, dig: str, api: Api) -> Iterator[Callable[..., Stage]]:
    """Start an agent on the API server: (**see `Stage`)."""
    with ExitStack() as stack:

        def start(**how: Any) -> Stage:
            stage = stack.enter_context(Stage(tmp_path, dig, how.pop("api", api), **how))
            stage.settle()
            return stage

        yield start


@pytest.fixture
def stage(start_stage: Callable[..., Stage]) -> Stage:
    """An agent that follows the API server and has the cluster on disk."""
    return start_stage()

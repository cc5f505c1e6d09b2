"""Every test of this room runs on both data planes; what they say of one is true of the other."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from tests.server import tables

IS_BUILT = importlib.util.find_spec("agent.wire._fast") is not None
NOT_BUILT = "the compiled data plane is not built (a C compiler and Cython build it)"


@pytest.fixture(params=["python", "compiled"], scope="module", autouse=True)
def build(request: pytest.FixtureRequest) -> Iterator[str]:
    """Choose the data plane that `tables` makes."""
    if request.param == "compiled" and not IS_BUILT:
        pytest.skip(NOT_BUILT)
    tables.BUILD[0] = request.param
    yield request.param
    tables.BUILD[0] = "python"

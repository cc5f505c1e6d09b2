"""The agent with a bug in its Kubernetes source: an event of an object named `poison` raises what nobody foresaw.

Started in the place of `python -m agent`, as `hasty` is, which it goes on with.
"""

from __future__ import annotations

import sys

from agent.sources.events import Events
from tests.faults import hasty

_take = Events.take


async def _stumble(self: Events, chunk: bytes) -> bool:
    if b'"name":"poison"' in chunk:
        raise ZeroDivisionError("a bug")
    return await _take(self, chunk)


if __name__ == "__main__":
    Events.take = _stumble  # type: ignore[method-assign]
    sys.exit(hasty.main())

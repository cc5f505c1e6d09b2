"""Packets: bytes in, bytes out; and the choice of the data plane.

Law: the compiled one is used where it is built; `NODENS_NO_EXT=1` leaves it out, `NODENS_REQUIRE_EXT=1` refuses to
start without it. Both answer alike (a test compares them), so nothing else depends on which one runs.
"""

from __future__ import annotations

import os

from agent.errors import NodensError
from agent.wire.table import AnswerTable, ZoneMeta
from agent.wire.timed import TimedTable


def _is_set(name: str) -> bool:
    return os.environ.get(name, "") not in {"", "0"}


_Table: type[AnswerTable] = AnswerTable
_Timed: type[TimedTable] = TimedTable
IMPLEMENTATION = "python"
"""Which data plane answers: told by `nodens_build_info`, /status and the log."""
if not _is_set("NODENS_NO_EXT"):
    try:
        from agent.wire._fast import AnswerTable as _CompiledTable
        from agent.wire._fast import TimedTable as _CompiledTimed
    except ImportError:
        pass
    else:
        _Table, _Timed = _CompiledTable, _CompiledTimed
        IMPLEMENTATION = "compiled"


def new_table(zones: tuple[ZoneMeta, ...]) -> AnswerTable:
    """Make an empty table of the data plane in use."""
    return _Table(zones)


def new_cache() -> TimedTable:
    """Make an empty table of answers with an age, of the data plane in use."""
    return _Timed()


def check() -> None:
    """See that the data plane in use is the one that is asked for.

    Raises:
        NodensError: it is not.
    """
    if _is_set("NODENS_REQUIRE_EXT") and IMPLEMENTATION != "compiled":
        raise NodensError(
            "NODENS_REQUIRE_EXT is set, and there is no compiled data plane in use",
            hint="install nodens with a C compiler and NODENS_REQUIRE_EXT=1, and without NODENS_NO_EXT",
        )

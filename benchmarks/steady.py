"""The asker at a steady pace: steady.c's command line, and what it prints.

Law: pure; whoever runs it hands the output in. Its latencies are the kernel's word; how well it kept its own pace
(`late_us`) stands beside them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

FIXED_QPS = 20_000
_RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


class SteadyError(Exception):
    """What the asker printed is not its line; the text says what it was."""


class Pace(NamedTuple):
    """What the asker says of one load; latencies in microseconds by percentile: p50, p99, p999 and max.

    Attributes:
        sent: questions asked.
        completed: of them answered.
        seconds: it took.
        rcodes: answers by rcode.
        took_us: from just before a question was sent to its answer in the asker's socket; None without any answer.
        late_us: by how much questions were sent too late.
        nice: priority that the asker ran at; -20 where it may have that.
    """

    sent: int
    completed: int
    seconds: float
    rcodes: dict[str, int]
    took_us: dict[str, float | None]
    late_us: dict[str, float | None]
    nice: int

    @property
    def lost(self) -> int:
        """Questions without an answer."""
        return self.sent - self.completed


def command(program: Path, port: int, questions: Path, *, qps: int, seconds: float) -> list[str]:
    """Return the command of one load."""
    return [str(program), str(port), str(questions), str(qps), f"{seconds:g}"]


def pace(output: str) -> Pace:
    """Read what the asker printed.

    Raises:
        SteadyError: it is something else.
    """
    try:
        said = json.loads(output)
        rcodes = {_RCODES.get(int(rcode), rcode): count for rcode, count in said["rcodes"].items()}
        counts = said["sent"], said["completed"], said["seconds"]
        return Pace(*counts, rcodes, said["took_us"], said["late_us"], said["nice"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SteadyError(f"the asker's output is no figures: {output[-400:].strip() or 'nothing'}") from error

"""The load generator: its command lines, and what it prints.

Law: pure; whoever runs it hands the output in. Figures come from dnsperf's own statistics, latencies from its verbose
lines, one for each query.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers.zone import Question

CLIENTS = 8
OUTSTANDING = 500
FIXED_QPS = 20_000
TIMEOUT_S = 1
PERCENTILES = ((50.0, "p50_ms"), (99.0, "p99_ms"), (99.9, "p999_ms"))
_COUNT = re.compile(r"^\s+(Queries sent|Queries completed|Queries lost):\s+(\d+)", re.MULTILINE)
_SECONDS = re.compile(r"^\s+Run time \(s\):\s+([\d.]+)", re.MULTILINE)
_QPS = re.compile(r"^\s+Queries per second:\s+([\d.]+)", re.MULTILINE)
_RCODES = re.compile(r"^\s+Response codes:\s+(.*)$", re.MULTILINE)
_RCODE = re.compile(r"(\w+) (\d+) \(")
_SIZES = re.compile(r"^\s+Average packet size:\s+request (\d+), response (\d+)", re.MULTILINE)


class DnsperfError(Exception):
    """What dnsperf printed are no statistics; the text says what it was."""


class Statistics(NamedTuple):
    """What dnsperf says of one load."""

    sent: int
    completed: int
    lost: int
    seconds: float
    qps: float
    rcodes: dict[str, int]
    reply_bytes: int


def command(
    questions: Path, port: int, *, seconds: float | None, qps: int | None = None, verbose: bool = False
) -> list[str]:
    """Return the command of one load; without seconds it asks every question once."""
    out = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(questions), "-t", str(TIMEOUT_S)]
    out += ["-O", "suppress=timeouts,unexpected,congestion", "-c", str(CLIENTS)]
    if seconds is None:
        out += ["-q", "64", "-n", "1"]
    else:
        out += ["-q", str(OUTSTANDING), "-l", f"{seconds:g}"]
    if qps is not None:
        out += ["-Q", str(qps)]
    return [*out, "-v"] if verbose else out


def write_questions(path: Path, questions: Iterable[Question]) -> None:
    """Write a file of questions as dnsperf reads it."""
    path.write_text("".join(f"{question.name} {question.type}\n" for question in questions), encoding="ascii")


def statistics(output: str) -> Statistics:
    """Read the statistics at the end of dnsperf's output.

    Raises:
        DnsperfError: there are none.
    """
    counts = {name: int(number) for name, number in _COUNT.findall(output)}
    seconds, qps = _SECONDS.search(output), _QPS.search(output)
    if len(counts) != 3 or seconds is None or qps is None:
        raise DnsperfError(f"no statistics in the output of dnsperf: {output[-400:].strip() or 'nothing'}")
    rcodes, sizes = _RCODES.search(output), _SIZES.search(output)
    return Statistics(
        counts["Queries sent"],
        counts["Queries completed"],
        counts["Queries lost"],
        float(seconds[1]),
        float(qps[1]),
        {name: int(number) for name, number in _RCODE.findall(rcodes[1])} if rcodes else {},
        int(sizes[2]) if sizes else 0,
    )


def latencies_s(lines: Iterable[str]) -> list[float]:
    """Read the latency of each answered query, sorted; a lost one (`> T name type`) has none.

    A line is `> RCODE name type seconds`.
    """
    found = []
    for line in lines:
        if line.startswith("> ") and not line.startswith("> T "):
            words = line.split()
            if len(words) == 5:
                found.append(float(words[4]))
    found.sort()
    return found


def percentile(ordered: Sequence[float], of: float) -> float:
    """Return the smallest value that `of` percent of the values do not exceed (nearest rank)."""
    if not ordered:
        return float("nan")
    rank = -int(-len(ordered) * of // 100)  # rounded up
    return ordered[min(len(ordered), max(1, rank)) - 1]


def percentiles_ms(ordered_s: Sequence[float]) -> dict[str, float]:
    """Return the percentiles of sorted latencies, in milliseconds."""
    return {name: percentile(ordered_s, of) * 1e3 for of, name in PERCENTILES}

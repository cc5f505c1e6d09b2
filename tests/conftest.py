"""What every room shares: programs that may be missing, what was skipped and why, and the witness of each test."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from tests import witness

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

_BEGAN_S = time.monotonic()


@pytest.fixture(scope="session")
def dig() -> str:
    """Path of the real dig."""
    path = shutil.which("dig")
    if path is None:
        pytest.skip("no dig on this machine (apt-get install bind9-dnsutils)")
    return path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let the books of a test begin and end with it."""
    witness.begin()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Close the books of a fault's test."""
    try:
        return (yield)
    finally:
        if item.get_closest_marker("faults"):
            item.user_properties.append(("fault", witness.entry(item.nodeid)))


def faults_seen(terminalreporter: TerminalReporter) -> list[dict[str, object]]:
    """Gather one row for each test of a fault that ran."""
    reports = (report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ()))
    rows = [
        {**row, "outcome": report.outcome, "took_s": round(report.duration, 1)}
        for report in reports
        if report.when == "call"
        for word, row in report.user_properties
        if word == "fault"
    ]
    return sorted(rows, key=lambda row: str(row["fault"]))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print what was seen of faults, and skipped tests by reason: a green run must not hide what it did not ask."""
    if witness.RECORD and (rows := faults_seen(terminalreporter)):
        terminalreporter.section("faults")
        for line in witness.table(rows):
            terminalreporter.write_line(line)
        path = witness.write(rows, time.monotonic() - _BEGAN_S)
        terminalreporter.write_line(f"{len(rows)} faults, recorded in {path}")
    reasons: dict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", ()):
        where = report.longrepr
        reason = where[2] if isinstance(where, tuple) else str(where)
        reasons[reason.removeprefix("Skipped: ")].append(report.nodeid)
    deselected = len(terminalreporter.stats.get("deselected", ()))
    if not reasons and not deselected:
        return
    terminalreporter.section("not run")
    for reason, tests in sorted(reasons.items()):
        shown = ", ".join(tests[:3]) + (f" and {len(tests) - 3} more" if len(tests) > 3 else "")
        terminalreporter.write_line(f"{len(tests)} skipped: {reason}: {shown}")
    if deselected:
        expression = terminalreporter.config.getoption("markexpr") or terminalreporter.config.getoption("keyword")
        terminalreporter.write_line(
            f"{deselected} deselected by {expression!r} (`make test` and `make test-slow` run all)"
        )

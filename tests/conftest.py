"""What every room's tests share: programs that may be missing, and the list of what was skipped and why."""

from __future__ import annotations

import shutil
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter


@pytest.fixture(scope="session")
def dig() -> str:
    """Path of the real dig."""
    path = shutil.which("dig")
    if path is None:
        pytest.skip("no dig on this machine (apt-get install bind9-dnsutils)")
    return path


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print skipped tests grouped by reason: a green run must not hide what it did not ask."""
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

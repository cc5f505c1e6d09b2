"""What every benchmark needs: where it runs, memory and processor time from /proc, and where its record goes.

Law: a record says what machine it is of and when it was made. Every record is kept in .run/bench/ and, when it is
published, in benchmarks/results/, from which `python -m benchmarks.budgets` reads.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
PAGE = HERE / "README.md"
RESULTS = HERE / "results"
UNPUBLISHED = ROOT / ".run" / "bench"
SERVER_CORE = 0
LOAD_CORE = 1
PLANES = {"compiled": {"NODENS_REQUIRE_EXT": "1", "NODENS_NO_EXT": ""}, "pure": {"NODENS_NO_EXT": "1"}}
"""Data plane → variables under which the agent uses that one or does not start."""
IMPLEMENTATIONS = {"compiled": "compiled", "pure": "python"}
"""Data plane → what the agent's /status calls it."""
_TICKS = os.sysconf("SC_CLK_TCK")


def say(text: str) -> None:
    """Tell how far it is, on stderr."""
    print(f"nodens: {text}", file=sys.stderr, flush=True)


# Processes ------------------------------------------------------------------------------------------------------------


def rss_mib(pid: int | str = "self", field: str = "VmRSS") -> float:
    """Resident memory of a process in MiB; `VmHWM` is its highest so far."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_ms(pid: int, *, children: bool = False) -> float:
    """User and system milliseconds of a process and its threads, or of its children that have ended.

    Threads are counted in nanoseconds where the kernel keeps schedstat, else everything in its ticks (10 ms).
    """
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    at = 13 if children else 11
    ticks_ms = (int(fields[at]) + int(fields[at + 1])) * 1000 / _TICKS
    if children:
        return ticks_ms
    threads_ns = [
        int(path.read_text(encoding="ascii").split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
    ]
    return max(ticks_ms, sum(threads_ns) / 1e6)


# The machine ----------------------------------------------------------------------------------------------------------


def cores() -> list[int]:
    """Return the cores this process may use."""
    return sorted(os.sched_getaffinity(0))


def pinned(core: int) -> list[str]:
    """Return the words that start a command on one core; none where there is only one."""
    allowed = cores()
    taskset = shutil.which("taskset")
    return [taskset, "-c", str(allowed[core])] if taskset and len(allowed) > core and len(allowed) > 1 else []


def machine() -> dict[str, Any]:
    """Return what is measured on, and how busy it is now."""
    allowed = cores()
    return {
        "cpu": _cpu_model(),
        "arch": platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "server_core": allowed[SERVER_CORE],
        "load_core": allowed[LOAD_CORE] if pinned(LOAD_CORE) else None,
        "load_average_before": [round(load, 2) for load in os.getloadavg()],
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(("model name", "Model", "CPU part")):
            return line.partition(":")[2].strip()
    return platform.machine()


# Programs in C --------------------------------------------------------------------------------------------------------


def compiler() -> str | None:
    """Return a C compiler's path, or None."""
    return next((path for path in map(shutil.which, ("cc", "gcc", "clang")) if path), None)


def built(name: str, folder: Path) -> Path:
    """Compile benchmarks/NAME.c into a folder, once; needs a compiler."""
    program = folder / name
    if not program.exists():
        source = str(HERE / f"{name}.c")
        command = [str(compiler()), "-O2", "-Wall", "-Wextra", "-o", str(program), source]
        subprocess.run(command, check=True)
    return program


# Records --------------------------------------------------------------------------------------------------------------


def heading() -> dict[str, Any]:
    """Return how every record begins; taken before anything is measured."""
    return {"format": 1, "date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": machine()}


def where(record: dict[str, Any]) -> str:
    """Return when and on what a record was made, and how busy the machine was."""
    machine = record["machine"]
    loads = ", ".join(f"{load:.1f}" for load in machine["load_average_before"])
    return (
        f"{record['date']}, {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, "
        f"Python {machine['python']}; load average before: {loads}"
    )


def keep(record: dict[str, Any], name: str, *, publish: bool, path: Path | None = None) -> list[Path]:
    """Write a record where it belongs; returns where."""
    paths = [path or UNPUBLISHED / f"{name}.json", *([RESULTS / f"{name}.json"] if publish else [])]
    for each in paths:
        each.parent.mkdir(parents=True, exist_ok=True)
        each.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    say(f"record: {', '.join(map(str, paths))}")
    return paths


def into_page(page: str, name: str, text: str) -> str:
    """Return a page with the text between the marks of that name replaced.

    Raises:
        ValueError: the page has no such marks.
    """
    begin_mark, end_mark = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    head, begin, rest = page.partition(begin_mark)
    _, end, tail = rest.partition(end_mark)
    if not begin or not end:
        raise ValueError(f"no {begin_mark} and {end_mark} to write between")
    return f"{head}{begin}\n{text}\n{end}{tail}"


def publish_text(name: str, text: str) -> None:
    """Write between the marks of that name in benchmarks/README.md."""
    PAGE.write_text(into_page(PAGE.read_text(encoding="utf-8"), name, text), encoding="utf-8")


def markdown(head: list[str], rows: list[list[str]], align: str = "") -> str:
    """Return a table; `align` has an l or r for each column, by default words first and figures in the others."""
    marks = ("---:" if each == "r" else "---" for each in align or "l" + "r" * (len(head) - 1))
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(marks) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])

"""Two UDP workers against one.

Law: where the generator needs the workers' cores, capacity is derived from CPU per query, and that is said.
"""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import cores, pinned, say
from benchmarks.peers import dnsperf
from benchmarks.peers.processes import ServerError, usage_between
from benchmarks.peers.servers import extension_missing
from benchmarks.plane.agents import serving
from benchmarks.plane.beside import Bench, Figures

WORKER = "nodens-udp"
"""What worker threads are called."""


def _threads(pid: int, count: int) -> list[int]:
    """Return the workers' threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    found = sorted(int(task.name) for task in tasks if (task / "comm").read_text().strip() == WORKER)
    if len(found) != count:
        raise ServerError(f"{len(found)} threads are called {WORKER}, not {count}")
    return found


def _load(bench: Bench, port: int, on: Sequence[int]) -> tuple[float, int]:
    """Run a generator on each of these cores; gives queries per second and how many there were."""
    command = dnsperf.command(bench.site.questions, port, seconds=bench.seconds)
    words = [[*pinned(cores().index(core)), *command] for core in on]
    started = [subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for each in words]
    try:
        said = [dnsperf.statistics(each.communicate(timeout=bench.seconds + 30)[0]) for each in started]
    finally:
        for each in started:
            if each.poll() is None:
                each.kill()
                each.wait()
    return sum(each.qps for each in said), sum(each.completed for each in said)


def workers(bench: Bench) -> Figures:
    """Measure the capacity of two workers against one."""
    if reason := extension_missing():
        say(f"workers: not measured, {reason}")
        return {}
    allowed = cores()
    is_direct = len(allowed) >= 4
    own, others = (allowed[:2], allowed[2:4]) if is_direct else (allowed[:2], allowed[:2])
    if len(own) < 2:
        say("workers: one core only, nothing to measure")
        return {}
    runs: list[dict[int, Figures]] = []
    for _ in range(bench.runs):
        runs.append({count: _with_workers(bench, count, own, others) for count in (1, 2)})
        one, two = runs[-1][1], runs[-1][2]
        cost, rate = f"{one['cpu_us']:.2f} and {two['cpu_us']:.2f}", f"{one['qps']:,.0f} and {two['qps']:,.0f}"
        say(f"workers, one and two: {cost} µs a query, {rate}/s")
    ratios = [run[2]["qps"] / run[1]["qps"] if is_direct else 2 * run[1]["cpu_us"] / run[2]["cpu_us"] for run in runs]
    how = "queries per second" if is_direct else "derived from CPU per query: the generator needs the cores itself"
    return {"compiled": {"x_capacity": statistics.median(ratios), "how": how, "runs": runs}}


def _with_workers(bench: Bench, count: int, own: Sequence[int], others: Sequence[int]) -> Figures:
    with serving(bench.site, "compiled", core=None, options=("--set", f"workers={count}")) as agent:
        _load(bench, agent.port, others)
        for thread, core in zip(_threads(agent.process.pid, count), own, strict=False):
            os.sched_setaffinity(thread, {core})
        before = agent.process.sample()
        qps, completed = _load(bench, agent.port, others)
        used = usage_between(before, agent.process.sample())
        return {"qps": qps, "completed": completed, "cpu_us": used.cpu_s / completed * 1e6}

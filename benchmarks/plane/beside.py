"""Hits beside something else: relists, a loop that is held up, scrapes.

Law: every window of disturbance stands beside one of the same length without, right before it and of the same agent;
figures are compared inside such a pair alone.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.cluster_generator import Spec, objects
from benchmarks.measure import LOAD_CORE, SERVER_CORE, cpu_ms, say
from benchmarks.peers.processes import Process
from benchmarks.peers.servers import extension_missing
from benchmarks.plane import agents
from benchmarks.plane.agents import Agent, Site, asked, paired, serving, wait_answers, wait_for
from benchmarks.plane.relisting import moved
from benchmarks.plane.report import told_us

LIST_BYTES = 50_000_000
BLOCKED_S = 2.0
SCRAPES = 50
SCRAPE_EVERY_S = 0.1
SCRAPED_S = 5.0
PLACES: dict[str, int | None] = {"alone": SERVER_CORE, "spread": None}
CASES = (("compiled", "alone"), ("compiled", "spread"), ("pure", "alone"))
BLOCKS = ("busy", "held", "decode")
Figures = dict[str, Any]


class Bench(NamedTuple):
    """Where and how often."""

    site: Site
    runs: int
    seconds: float


def tell(name: str, found: Figures) -> None:
    """Tell what was found, on stderr."""
    ratio = "–" if found["x_idle_p999"] is None else f"{found['x_idle_p999']:.2f}"
    idle, disturbed = found["idle"], found["disturbed"]
    say(
        f"{name}: p99.9 {told_us(idle['p999_us'])} → {told_us(disturbed['p999_us'])} ({ratio} ×), "
        f"max {told_us(disturbed['max_us'])}, lost {disturbed['lost']:.2%}"
    )


def cases() -> list[tuple[str, str]]:
    """Return data planes and places that can be measured here."""
    return [case for case in CASES if case[0] == "pure" or not extension_missing()]


def echo(bench: Bench) -> Figures:
    """Measure the asker itself: the same pace against the bare echo."""
    with agents.echoing(bench.site) as port:
        runs = [
            {window: asked(bench.site, port, BLOCKED_S) for window in ("idle", "disturbed")} for _ in range(bench.runs)
        ]
    return paired(runs)


# Relists --------------------------------------------------------------------------------------------------------------


def _relisted(bench: Bench, agent: Agent, relist: Callable[[], None]) -> Figures:
    """Relist again and again, first unasked, to know how long to ask."""
    site, addresses, rss_mib = bench.site, list(bench.site.watched), agent.process.memory_mib()

    def once() -> float:
        nonlocal addresses
        addresses = [(name, site.there(address)) for name, address in addresses]
        began_s = time.monotonic()
        relist()
        wait_answers(agent.port, addresses)
        return time.monotonic() - began_s

    once()
    agent.process.settle()
    seconds = max(once(), 1.0)
    runs = []
    for _ in range(bench.runs):
        agent.process.settle()
        idle = asked(site, agent.port, seconds)
        disturbed = asked(site, agent.port, seconds, once)
        runs.append({"idle": idle, "disturbed": disturbed, "relist_s": disturbed["seconds"] - 2 * agents.BEFORE_S})
    return paired(runs) | {"relist_s": statistics.median(run["relist_s"] for run in runs), "rss_mib": rss_mib}


def relist_file(path: Path) -> None:
    """Move every ClusterIP in a file, whole or not at all."""
    new = path.with_suffix(".new")
    new.write_text(moved(path.read_text(encoding="utf-8")), encoding="utf-8")
    new.replace(path)


def _from_file(bench: Bench, plane: str, core: int | None) -> Figures:
    path = bench.site.cluster
    original = path.read_bytes()
    try:
        with serving(bench.site, plane, core=core) as agent:
            return _relisted(bench, agent, lambda: relist_file(path))
    finally:
        path.write_bytes(original)


def _from_api(bench: Bench, plane: str, core: int | None) -> Figures:
    with tempfile.TemporaryDirectory(dir=bench.site.folder) as folder:
        command = [sys.executable, "-m", "benchmarks.plane.relisting", str(bench.site.cluster), folder]
        with Process(command, bench.site.folder / "api.log", core=LOAD_CORE) as api:
            kubeconfig = Path(folder) / "kubeconfig"

            def is_there() -> bool:
                api.check()
                return kubeconfig.is_file()

            wait_for("the API server", is_there)
            # It lists again and again: what an hour may ask of an API server would be over.
            source = ("--kubeconfig", str(kubeconfig), "--set", "api.burst=100000")
            with serving(bench.site, plane, core=core, source=source) as agent:
                return _relisted(bench, agent, lambda: os.kill(api.pid, signal.SIGUSR2))


def relist(bench: Bench) -> Figures:
    """Measure hits beside relists."""
    out: Figures = {"source": {}}
    for source, measure in (("file", _from_file), ("api", _from_api)):
        for plane, place in cases():
            found = measure(bench, plane, PLACES[place])
            out["source"].setdefault(source, {}).setdefault(plane, {})[place] = found
            tell(f"relist from {source}, {plane}, {place} ({found['relist_s']:.1f} s)", found)
    return out


# A loop that is held up -----------------------------------------------------------------------------------------------


def _list_of(spec: Spec, path: Path) -> None:
    """Write a list of EndpointSlices of `LIST_BYTES`, as an API server sends it."""
    parts, size = [], 0
    for value in objects(spec):
        if value["kind"] == "EndpointSlice":
            parts.append(msgspec.json.encode(value))
            size += len(parts[-1]) + 1
        if size >= LIST_BYTES:
            break
    path.write_bytes(b'{"kind":"EndpointSliceList","items":[' + b",".join(parts) + b"]}")


def blocked(bench: Bench) -> Figures:
    """Measure hits while the loop's thread is held up."""
    folder = bench.site.folder
    orders, told, body = folder / "orders", folder / "told", folder / "list.json"
    _list_of(Spec(services=15_000, endpoints=200_000), body)
    say(f"the list to be decoded has {body.stat().st_size / 1e6:.0f} MB")
    out: Figures = {"list_bytes": body.stat().st_size}
    for plane, place in cases():
        with serving(
            bench.site, plane, core=PLACES[place], launcher=("benchmarks.plane.disturbed", str(orders), str(told))
        ) as agent:
            for kind in BLOCKS:
                orders.write_text(f"{kind} {BLOCKED_S} {body if kind == 'decode' else ''}", encoding="utf-8")
                runs = [_blocked_once(bench, agent, told) for _ in range(bench.runs)]
                found = paired(runs)
                found["blocked_s"] = statistics.median(run["blocked"]["seconds"] for run in runs)
                found["times"] = statistics.median(run["blocked"]["times"] for run in runs)
                out.setdefault(kind, {}).setdefault(plane, {})[place] = found
                tell(f"blocked {kind} {found['blocked_s']:.2f} s, {plane}, {place}", found)
    return out


def _blocked_once(bench: Bench, agent: Agent, told: Path) -> Figures:
    seconds = BLOCKED_S + 2 * agents.BEFORE_S
    told.unlink(missing_ok=True)
    agent.process.settle()
    idle = asked(bench.site, agent.port, seconds)

    def disturb() -> None:
        agent.disturb()
        wait_for("word of the disturbance", told.is_file)

    disturbed = asked(bench.site, agent.port, seconds, disturb)
    return {"idle": idle, "disturbed": disturbed, "blocked": json.loads(told.read_text(encoding="utf-8"))}


# Scrapes --------------------------------------------------------------------------------------------------------------


def scrape(bench: Bench) -> Figures:
    """Measure what /metrics costs, and hits beside it."""
    out: Figures = {}
    for plane in dict(cases()):
        with serving(bench.site, plane) as agent:
            size_bytes, took_ms = len(agent.scrape()), []
            before_ms = cpu_ms(agent.process.pid)
            for _ in range(SCRAPES):
                began_s = time.monotonic()
                agent.scrape()
                took_ms.append((time.monotonic() - began_s) * 1e3)
            used_ms = cpu_ms(agent.process.pid) - before_ms
            runs = []
            for _ in range(bench.runs):
                agent.process.settle()
                idle = asked(bench.site, agent.port, SCRAPED_S)
                disturbed = asked(bench.site, agent.port, SCRAPED_S, partial(_scrape_along, agent))
                runs.append({"idle": idle, "disturbed": disturbed})
        found = paired(runs) | {
            "cpu_ms": used_ms / SCRAPES, "wall_p50_ms": statistics.median(took_ms), "wall_max_ms": max(took_ms),
            "bytes": size_bytes,
        }  # fmt: skip
        out[plane] = {"alone": found}
        tell(f"{plane}: a scrape is {found['cpu_ms']:.1f} ms of CPU, {size_bytes:,} bytes; ten a second", found)
    return out


def _scrape_along(agent: Agent) -> None:
    end_s = time.monotonic() + SCRAPED_S
    while time.monotonic() < end_s:
        due_s = time.monotonic() + SCRAPE_EVERY_S
        agent.scrape()
        time.sleep(max(0.0, due_s - time.monotonic()))

"""The measuring: every server in turn, several times over, one load after the other.

Law: one server runs at a time, on a core of its own, and the load generator on another. A load during which others
worked on the server's core is repeated and the quieter one kept; how much they did is on the record.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.peers import asking, dnsperf
from benchmarks.peers.processes import LOAD_CORE, SERVER_CORE, ServerError, busy_s, cores, pinned, usage_between
from benchmarks.peers.servers import Running, Server, Workplace
from benchmarks.peers.zone import Question

CHECKED = 300
"""Questions asked by hand of every server in the first run."""
MAX_WRONG_TOLD = 5
DISTURBED = 0.2
"""Share of the server's core that others may use before a load is repeated."""
MAX_REPEATS = 8
"""Of loads in one round of all servers: a machine that is never quiet is measured as it is, and that is told."""
LIMIT_S = 570.0
"""A round that would end later than this, going by the one before it, is not begun."""
LATENCY_S = 1.0
"""Length of the load whose only figure is latency at saturation: its generator prints a line for each query."""
_LOAD_LIMIT_S = 60.0


class Load(NamedTuple):
    """One load: a mix at saturation or at a fixed rate."""

    mix: str
    qps: int | None = None
    verbose: bool = False

    @property
    def name(self) -> str:
        """Its key in the record."""
        if self.qps is not None:
            return f"{self.mix}@{self.qps}"
        return f"{self.mix}-latency" if self.verbose else self.mix


LOADS = (
    Load("hit"),
    Load("mix"),
    Load("zipf"),
    Load("hit", dnsperf.FIXED_QPS, verbose=True),
    Load("mix", dnsperf.FIXED_QPS, verbose=True),
    Load("zipf", dnsperf.FIXED_QPS, verbose=True),
    Load("hit", verbose=True),
)


class Plan(NamedTuple):
    """What is measured."""

    servers: Sequence[Server]
    mixes: dict[str, list[Question]]
    runs: int
    seconds: float
    seed: int = 1


def say(text: str) -> None:
    """Tell how far it is, on stderr."""
    print(f"nodens: {text}", file=sys.stderr, flush=True)


class Campaign:
    """A plan carried out at a place.

    Attributes:
        results: one entry for each server and run.
        failed: name of a server → why it could not be measured.
    """

    def __init__(self, plan: Plan, place: Workplace) -> None:
        self.plan = plan
        self.place = place
        self.results: list[dict[str, Any]] = []
        self.failed: dict[str, str] = {}
        self._repeats_left = MAX_REPEATS
        self._files: dict[str, Path] = {}
        for mix, questions in plan.mixes.items():
            self._files[mix] = place.folder / f"{mix}.questions"
            dnsperf.write_questions(self._files[mix], questions)

    def carry_out(self) -> None:
        """Measure every server `runs` times, in turn; every other run backwards, so that slow drift cancels."""
        began, last_s = time.monotonic(), 0.0
        for number in range(1, self.plan.runs + 1):
            round_began = time.monotonic()
            if round_began - began + last_s > LIMIT_S:
                say(
                    f"stopped after {number - 1} of {self.plan.runs} runs: the machine is too slow or too busy for more"
                )
                return
            self._repeats_left = MAX_REPEATS
            order = self.plan.servers if number % 2 else self.plan.servers[::-1]
            for server in order:
                if server.name not in self.failed:
                    self._measure(server, number)
            last_s = time.monotonic() - round_began

    def _measure(self, server: Server, number: int) -> None:
        began = time.monotonic()
        try:
            with server.start(self.place) as running:
                result = self._loads(server, running, number)
        except (ServerError, dnsperf.DnsperfError, subprocess.SubprocessError) as error:
            self.failed[server.name] = f"run {number}: {error}"
            say(f"{server.name} could not be measured, {self.failed[server.name]}")
            return
        self.results.append(result)
        hit = result["loads"]["hit"]
        say(
            f"run {number}/{self.plan.runs} {server.name:12} "
            f"{hit['total_us']:6.2f} µs/query (user {hit['user_us']:.2f}), {hit['qps']:,.0f}/s, "
            f"{result['memory_mib']:.0f} MiB, load {os.getloadavg()[0]:.1f}, "
            f"{time.monotonic() - began:.0f} s"
        )

    def _loads(self, server: Server, running: Running, number: int) -> dict[str, Any]:
        running.process.settle()
        result: dict[str, Any] = {"server": server.name, "run": number, "loads": {}}
        if number == 1 and server.name != "echo":
            result["checked"] = self._check(running)
        warmed: set[str] = set()
        for load in LOADS:
            if load.mix not in warmed:
                self._dnsperf(dnsperf.command(self._files[load.mix], running.port, seconds=None))
                warmed.add(load.mix)
            result["loads"][load.name] = self._quiet(running, load)
        result["memory_mib"] = running.process.memory_mib()
        return result

    def _check(self, running: Running) -> dict[str, Any]:
        questions = asking.sample(self.plan.mixes, CHECKED, self.plan.seed)
        wrong, cut = asking.wrong(running.port, questions)
        told = [
            f"{question.name} {question.type}: {rcode} with {answers}, not {question.rcode} with {question.answers}"
            for question, rcode, answers in wrong[:MAX_WRONG_TOLD]
        ]
        return {"asked": len(questions), "wrong": len(wrong), "truncated": cut, "told": told}

    def _quiet(self, running: Running, load: Load) -> dict[str, Any]:
        found = self._load(running, load)
        if found["others"] > DISTURBED and self._repeats_left > 0:
            self._repeats_left -= 1
            again = self._load(running, load)
            found = min(found, again, key=lambda each: each["others"])
            found["repeated"] = True
        return found

    def _load(self, running: Running, load: Load) -> dict[str, Any]:
        """Carry one load out; figures are per completed query."""
        is_latency_alone = load.verbose and load.qps is None
        seconds = min(LATENCY_S, self.plan.seconds) if is_latency_alone else self.plan.seconds
        command = dnsperf.command(
            self._files[load.mix], running.port, seconds=seconds, qps=load.qps, verbose=load.verbose
        )
        core = cores()[SERVER_CORE]
        before, busy_before, began = running.process.sample(), busy_s(core), time.monotonic()
        output = self._dnsperf(command)
        used = usage_between(before, running.process.sample())
        wall_s, busy = time.monotonic() - began, busy_s(core) - busy_before
        running.process.check()
        said = dnsperf.statistics(output)
        if not said.completed:
            raise ServerError("it completed no query")
        found: dict[str, Any] = {
            "sent": said.sent,
            "completed": said.completed,
            "lost": said.lost,
            "seconds": said.seconds,
            "qps": said.qps,
            "rcodes": said.rcodes,
            "reply_bytes": said.reply_bytes,
            "user_us": used.user_s / said.completed * 1e6,
            "system_us": used.system_s / said.completed * 1e6,
            "total_us": used.cpu_s / said.completed * 1e6,
            "others": max(0.0, busy - used.cpu_s) / wall_s,
            "load_1m": os.getloadavg()[0],
        }
        if load.verbose:
            found |= dnsperf.percentiles_ms(dnsperf.latencies_s(output.splitlines()))
        return found

    def _dnsperf(self, command: Sequence[str]) -> str:
        """Run the generator; its output goes through a file, so that nobody has to read along."""
        path = self.place.folder / "dnsperf.out"
        with path.open("wb") as out:
            subprocess.run(
                [*pinned(LOAD_CORE), *command], stdout=out, stderr=subprocess.STDOUT, check=False, timeout=_LOAD_LIMIT_S
            )
        return path.read_text(encoding="utf-8", errors="replace")

"""The measuring: every server in turn, several times over, one load after the other.

Law: one server runs at a time, on a core of its own, and the load generator on another. A load during which others
worked on the server's core is repeated and the quieter one kept; how much they did is on the record.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import steady
from benchmarks.measure import LOAD_CORE, SERVER_CORE, built, cores, pinned, say
from benchmarks.peers import asking, dnsperf
from benchmarks.peers.processes import ServerError, busy_s, usage_between
from benchmarks.peers.servers import Running, Server, Workplace
from benchmarks.peers.zone import MIXES, Question

CHECKED = 300
"""Questions asked by hand of every server in the first run."""
MAX_WRONG_TOLD = 5
DISTURBED = 0.2
"""Share of the server's core that others may use before a load is repeated."""
MAX_REPEATS = 8
"""Of loads in one round of all servers: a machine that is never quiet is measured as it is, and that is told."""
LIMIT_S = 570.0
"""A round that would end later than this, going by the one before it, is not begun."""
GRACE_S = 15.0
"""dnsperf 2.10 now and then never ends: a load that takes so much longer than it should is ended and done again."""
TRIES = 3


class Load(NamedTuple):
    """One load: a mix at saturation (dnsperf) or at a fixed rate (the asker at a steady pace).

    Attributes:
        mix: of questions.
        qps: None: at saturation.
        times: as long as the others.
    """

    mix: str
    qps: int | None = None
    times: int = 1

    @property
    def name(self) -> str:
        """Its key in the record."""
        return self.mix if self.qps is None else f"{self.mix}@{self.qps}"


LOADS = (
    Load("hit", times=3),  # user and system time are told apart by sampling: that takes a while
    Load("mix"),
    Load("zipf"),
    *(Load(mix, steady.FIXED_QPS) for mix in MIXES),
)


class Plan(NamedTuple):
    """What is measured."""

    servers: Sequence[Server]
    mixes: dict[str, list[Question]]
    runs: int
    seconds: float
    seed: int = 1


class Campaign:
    """A plan carried out at a place.

    Attributes:
        results: one entry for each server and run.
        failed: name of a server → why a run of it could not be measured, the last one's reason.
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
            if number > 1 and round_began - began + last_s > LIMIT_S:
                say(
                    f"stopped after {number - 1} of {self.plan.runs} runs: the machine is too slow or too busy for more"
                )
                return
            self._repeats_left = MAX_REPEATS
            order = self.plan.servers if number % 2 else self.plan.servers[::-1]
            for server in order:
                self._measure(server, number)
            last_s = time.monotonic() - round_began

    def _measure(self, server: Server, number: int) -> None:
        began = time.monotonic()
        try:
            with server.start(self.place) as running:
                result = self._loads(server, running, number)
        except (ServerError, dnsperf.DnsperfError, steady.SteadyError, subprocess.CalledProcessError) as error:
            self.failed[server.name] = f"run {number} failed: {error}"
            say(f"{server.name}: {self.failed[server.name]}")
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
                self._warm(running, load.mix)
                warmed.add(load.mix)
            result["loads"][load.name] = self._quiet(running, load)
        result["memory_mib"] = running.process.memory_mib()
        return result

    def _warm(self, running: Running, mix: str) -> None:
        command = dnsperf.command(self._files[mix], running.port, seconds=None)
        for _ in range(TRIES):
            if self._output(command, GRACE_S):
                return
        raise dnsperf.DnsperfError("the generator did not end, asking every question once")

    def _check(self, running: Running) -> dict[str, Any]:
        questions = asking.sample(self.plan.mixes, CHECKED, self.plan.seed)
        wrong, cut = asking.wrong(running.port, questions)
        told = [
            f"{question.name} {question.type}: {rcode} with {answers}, not {question.rcode} with {question.answers}"
            for question, rcode, answers in wrong[:MAX_WRONG_TOLD]
        ]
        return {"asked": len(questions), "wrong": len(wrong), "truncated": cut, "told": told}

    def _quiet(self, running: Running, load: Load) -> dict[str, Any]:
        found = self._whole(running, load)
        if found["others"] > DISTURBED and self._repeats_left > 0:
            self._repeats_left -= 1
            again = self._whole(running, load)
            found = min(found, again, key=lambda each: each["others"])
            found["repeated"] = True
        return found

    def _whole(self, running: Running, load: Load) -> dict[str, Any]:
        for _ in range(TRIES):
            found = self._load(running, load)
            if found is not None:
                return found
        raise dnsperf.DnsperfError(f"the generator did not end, load {load.name}")

    def _load(self, running: Running, load: Load) -> dict[str, Any] | None:
        """Carry one load out; figures are per completed query. None if the generator did not end by itself."""
        core = cores()[SERVER_CORE]
        before, busy_before, began = running.process.sample(), busy_s(core), time.monotonic()
        output = self._output(self._command(running, load), self.plan.seconds * load.times + GRACE_S)
        if not output:
            return None
        used = usage_between(before, running.process.sample())
        wall_s, busy = time.monotonic() - began, busy_s(core) - busy_before
        running.process.check()
        found = _of_pace(steady.pace(output)) if load.qps else _of_statistics(dnsperf.statistics(output))
        completed = found["completed"]
        if not completed:
            raise ServerError("it completed no query")
        return found | {
            "user_us": used.user_s / completed * 1e6,
            "system_us": used.system_s / completed * 1e6,
            "total_us": used.cpu_s / completed * 1e6,
            "others": max(0.0, busy - used.cpu_s) / wall_s,
            "load_1m": os.getloadavg()[0],
        }

    def _command(self, running: Running, load: Load) -> list[str]:
        questions, seconds = self._files[load.mix], self.plan.seconds * load.times
        if load.qps is None:
            return dnsperf.command(questions, running.port, seconds=seconds)
        program = built("steady", self.place.folder)
        return steady.command(program, running.port, questions, qps=load.qps, seconds=seconds)

    def _output(self, command: Sequence[str], limit_s: float) -> str:
        """Run a generator; returns what it wrote, nothing if it had to be ended.

        Its output goes through a file, so that nobody has to read along.
        """
        path = self.place.folder / "generator.out"
        try:
            with path.open("wb") as out:
                subprocess.run(
                    [*pinned(LOAD_CORE), *command], stdout=out, stderr=subprocess.STDOUT, check=False, timeout=limit_s
                )
        except subprocess.TimeoutExpired:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")


def _of_statistics(said: dnsperf.Statistics) -> dict[str, Any]:
    return said._asdict()


def _of_pace(said: steady.Pace) -> dict[str, Any]:
    latencies = {f"{word}_us": value for word, value in said.took_us.items()}
    late = {f"late_{word}_us": value for word, value in said.late_us.items()}
    counts = {"sent": said.sent, "completed": said.completed, "lost": said.lost, "seconds": said.seconds}
    counts["asker_nice"] = said.nice
    return {**counts, "qps": said.completed / said.seconds, "rcodes": said.rcodes, **latencies, **late}

"""Does ordinary churn trip the guard, and what do bad days cost? Simulated days, real Publisher, Store and guard.

    python -m benchmarks.guard                                  tables for 20, 200, 2,000 and 10,000 Services
    python -m benchmarks.guard --services 200 --days 5 --json out.json
    python -m benchmarks.guard --services 200 --limit max_removed_percent=10    the same under other limits
    python -m benchmarks.guard --publish                        writes the record, and the tables of docs/guard.md

Time is simulated: the event loop's clock is moved by hand, so that a day takes as long as its changes take to apply.
A false positive is a quarantine that ordinary churn began. Of a bad day is told how many names (or endpoints) had gone
for clients at the worst moment, and how many are gone at its end, with what it held not yet decided.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from agent.cluster.objects import KINDS, SERVICE
from agent.records.zone import Profile
from agent.snapshot.compiler import zones_of
from agent.snapshot.freshness import Freshness
from agent.snapshot.guard import Limits
from agent.snapshot.hold import ACCEPTED
from agent.snapshot.publisher import Publisher
from agent.wire.table import AnswerTable
from benchmarks.guard_churn import BAD, ORDINARY, Kind
from benchmarks.guard_cluster import World

SIZES = (20, 200, 2_000, 10_000)
RECORD = Path(__file__).parent / "results" / "guard.json"
PAGE = Path(__file__).parents[1] / "docs" / "guard.md"
BEGIN, END = "<!-- guard: begin -->", "<!-- guard: end -->"
FULL_DAYS_BELOW = 5_000
"""Of a larger cluster one day of each kind is lived through: it takes minutes."""
DECIDED_AFTER_S = 120.0
"""A quarantine on an ordinary day is accepted after this long, so that the day goes on."""


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock is moved by hand."""

    now_s = 1_000_000.0

    def time(self) -> float:
        """Give the simulated time."""
        return self.now_s


class Outcome(NamedTuple):
    """What came of one kind on one day.

    Attributes:
        holds: quarantines that began.
        rules: the rules that were broken.
        worst_names, worst_endpoints: gone for clients at the worst moment.
        end_names, end_endpoints: gone at the end, with what is held not decided.
        names, endpoints: at the start.
        after_s: from the first step until change was first held; -1: never.
    """

    holds: int
    rules: list[str]
    worst_names: int
    worst_endpoints: int
    end_names: int
    end_endpoints: int
    names: int
    endpoints: int
    after_s: float


class Day:
    """A publisher that follows a world."""

    def __init__(self, loop: Loop, world: World, limits: Limits) -> None:
        self.loop, self.world = loop, world
        self.events: list[str] = []
        profile = Profile()
        self.publisher = Publisher(profile, Freshness(60, 0), AnswerTable(zones_of(profile)), self._log, limits=limits)
        self.publisher.compiler.declare_zones()
        self._is_silent = False
        self._version = 1

    def _log(self, event: str, /, **_: object) -> None:
        self.events.append(event)

    async def list(self) -> None:
        """Deliver a full set of every kind."""
        self._version += 1
        self.world.changes.clear()
        for kind in KINDS:
            self.publisher.replace(kind, self.world.everything(kind), str(self._version))
        self.publisher.connected()
        await self._settle()

    async def _settle(self) -> None:
        await self.publisher.idle()
        # Nobody keeps steps here; what was compiled is let go, as the persister would.
        self.publisher.compiler.take_changes()

    async def say(self) -> None:
        """Deliver what was said since the last time, as a watch would."""
        changes, self.world.changes = self.world.changes, []
        for kind, key, stored in changes:
            self._version += 1
            self.publisher.apply(kind, [(key, stored)], str(self._version))
        if changes:
            await self._settle()

    async def live(self, kind: Kind, *, decide: bool) -> Outcome:
        """Live through one kind of day."""
        publisher, store = self.publisher, self.publisher.store
        self.events.clear()
        names, endpoints = store.count(SERVICE), store.ready
        fewest_names, fewest_endpoints = names, endpoints
        before = dict(publisher.quarantine.holds)
        started_s, held_s = self.loop.now_s, -1.0
        is_silent = False
        for pause_s in kind(self.world):
            if pause_s < 0:
                is_silent = True
                continue
            await (self.list() if is_silent else self.say())
            is_silent = False
            store = publisher.store
            fewest_names = min(fewest_names, store.count(SERVICE))
            fewest_endpoints = min(fewest_endpoints, store.ready)
            hold = publisher.quarantine.hold
            if hold is not None and held_s < 0:
                held_s = self.loop.now_s - started_s
            self.loop.now_s += pause_s
            if decide and hold is not None and self.loop.now_s - hold.since_s > DECIDED_AFTER_S:
                publisher.decide(ACCEPTED)
                await self._settle()
        rules = [rule for rule, count in publisher.quarantine.holds.items() if count > before[rule]]
        outcome = Outcome(
            self.events.count("quarantine_began"), rules, names - fewest_names, endpoints - fewest_endpoints,
            names - store.count(SERVICE), endpoints - store.ready, names, endpoints, round(held_s, 1),
        )  # fmt: skip
        publisher.decide(ACCEPTED)
        await self._settle()
        return outcome


async def run(
    loop: Loop, services: int, days: int, kinds: dict[str, Kind], limits: Limits, *, bad: bool
) -> dict[str, list[Outcome]]:
    """Live every kind of day for one size, each from the cluster as it was generated."""
    found: dict[str, list[Outcome]] = {}
    for name, kind in kinds.items():
        for number in range(days):
            day = Day(loop, World(services, number), limits)
            await day.list()
            loop.now_s += 86_400.0
            found.setdefault(name, []).append(await day.live(kind, decide=not bad))
    return found


def in_loop(work: Callable[[Loop], Any]) -> Any:
    """Run a coroutine on a loop with a simulated clock."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Loop)
        return runner.run(work(loop))


def tables(results: dict[str, Any]) -> str:
    """Write both tables in Markdown."""
    sizes = results["sizes"]
    lines = ["| ordinary churn: days with a false hold | " + " | ".join(f"{int(size):,}" for size in sizes) + " |"]
    lines.append("|---|" + "---|" * len(sizes))
    for kind in ORDINARY:
        row = []
        for size in sizes:
            days = [Outcome(**day) for day in results["ordinary"][size][kind]]
            held = [day for day in days if day.holds]
            rules = sorted({rule for day in held for rule in day.rules})
            row.append(f"**{len(held)} of {len(days)}** ({', '.join(rules)})" if held else f"0 of {len(days)}")
        lines.append(f"| {kind} | " + " | ".join(row) + " |")
    lines += [
        "",
        "| bad day: rule; names / endpoints gone at worst → at its end, undecided | "
        + " | ".join(f"{int(size):,}" for size in sizes)
        + " |",
        "|---|" + "---|" * len(sizes),
    ]
    for kind in BAD:
        row = []
        for size in sizes:
            day = Outcome(**results["bad"][size][kind][0])
            what = "not held" if not day.rules else f"**{' + '.join(day.rules)}** after {day.after_s:g} s"
            worst = f"{max(0, day.worst_names):,} / {max(0, day.worst_endpoints):,}"
            end = f"{max(0, day.end_names):,} / {max(0, day.end_endpoints):,}"
            row.append(f"{what}; {worst} → {end}")
        lines.append(f"| {kind} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, action="append", help="cluster sizes (may be repeated)")
    parser.add_argument(
        "--days", type=int, default=5, help="days of each kind, fewer for 10,000 Services (%(default)s)"
    )
    parser.add_argument(
        "--limit", action="append", default=[], metavar="KEY=NUMBER", help="another limit, such as window_s=600"
    )
    parser.add_argument("--json", metavar="FILE", help="write every figure there")
    parser.add_argument("--publish", action="store_true", help="write the record and the page")
    options = parser.parse_args()
    sizes = options.services or list(SIZES)
    results: dict[str, Any] = {"days": options.days, "sizes": [str(size) for size in sizes], "limits": {}}
    others = dict(each.split("=", 1) for each in options.limit)
    limits = Limits()._replace(**{key: int(value) for key, value in others.items()})
    results["limits"] = {**limits._asdict(), "protected": sorted(limits.protected)}
    for word, kinds in (("ordinary", ORDINARY), ("bad", BAD)):
        results[word] = {}
        for size in sizes:
            started_s = time.monotonic()
            days = options.days if word == "ordinary" and size < FULL_DAYS_BELOW else 1
            found = in_loop(lambda loop: run(loop, size, days, kinds, limits, bad=word == "bad"))  # noqa: B023
            results[word][str(size)] = {kind: [day._asdict() for day in out] for kind, out in found.items()}
            print(f"{word}, {size} Services: {time.monotonic() - started_s:.0f} s", file=sys.stderr, flush=True)
    for path in (options.json, str(RECORD) if options.publish else None):
        if path:
            Path(path).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if options.publish:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{tables(results)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    print(tables(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())

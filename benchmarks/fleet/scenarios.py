"""What happens to a fleet: a steady hour, a restart of all, an outage and the return.

Law: every scenario begins with a fleet that has been running; what is told is what the servers counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol

from agent.cluster.objects import Stored
from agent.sources.api_source import ApiSource
from agent.sources.pacing import Timing, reconnect_window_s
from benchmarks.fleet.client_go import Client
from benchmarks.fleet.fast_time import run
from benchmarks.fleet.servers import KINDS, UID, Asked, Servers, Shelf, Way, requests

HOUR_S = 3600.0
SETTLE_S = 300.0
OUTAGE_S = 1800.0
AFTER_S = 900.0
"""How long the return is looked at."""
EVERY_S = 0.5
"""How often it is asked whether all follow again."""


class Member(Protocol):
    """One node's client."""

    @property
    def is_following(self) -> bool:
        """Whether every kind is in sync and watched."""

    async def run(self) -> None:
        """Follow for ever."""


class Agent:
    """A node's source, the real one, with a sink that keeps no objects; it lives on over restarts, as a disk does."""

    def __init__(self, servers: Servers, name: str, fleet_nodes: int) -> None:
        self.is_following = False
        self._servers = servers
        self._name = name
        self._timing = Timing(spread_s=reconnect_window_s(fleet_nodes, 0.0))
        self._positions: dict[str, str] = dict.fromkeys(KINDS.values(), str(servers.revision))

    async def run(self) -> None:
        """Follow for ever, from the positions that are held."""
        source = ApiSource(node_name=self._name, timing=self._timing)
        await source.follow(Way(self._servers), self, dict(self._positions), f"uid:{UID}")

    def identify(self, cluster_id: str) -> None:
        """See `agent.sources.Sink`, as all of these."""

    def replace(self, kind: str, _objects: list[Stored], position: str) -> bool:
        self._positions[kind] = position
        return True

    def apply(self, kind: str, _changes: list[tuple[str, Stored | None]], position: str) -> None:
        self._positions[kind] = position

    def confirm(self, kind: str, position: str) -> None:
        self._positions[kind] = position

    def skipped(self, kind: str, name: str, reason: str) -> None:
        raise AssertionError(f"{kind} {name} was skipped: {reason}")

    def connected(self) -> None:
        self.is_following = True

    def lost(self, _reason: str) -> None:
        self.is_following = False

    def requested(self, verb: str, code: int, size_bytes: int) -> None:
        """Nothing: the servers count."""


class Counted(NamedTuple):
    """What was asked in a span.

    Attributes:
        requests, lists: of all nodes; a page of a list counts as one.
        size_bytes: sent by the servers, without watch events.
        peak_per_s, peak_bytes_per_s: in the busiest second.
        connects: TCP connections that were refused.
        following_s: until the last node followed again.
        per_s: requests in each second; bytes_per_s: the same.
    """

    requests: int
    lists: int
    size_bytes: int
    peak_per_s: int
    peak_bytes_per_s: int
    connects: int
    following_s: float
    per_s: list[int]
    bytes_per_s: list[int]


def counted(asked: Sequence[Asked], from_s: float, until_s: float, following_s: float = 0.0) -> Counted:
    """Add up what was asked from one moment to another."""
    inside = [each for each in asked if from_s <= each.at_s < until_s]
    seconds = range(int(until_s - from_s) + 1)
    number: Counter[int] = Counter(int(each.at_s - from_s) for each in requests(inside))
    size: Counter[int] = Counter()
    for each in inside:
        size[int(each.at_s - from_s)] += each.size_bytes
    what = Counter(each.what for each in inside)
    per_s, bytes_per_s = [number[second] for second in seconds], [size[second] for second in seconds]
    total, peaks = sum(bytes_per_s), (max(per_s), max(bytes_per_s))
    sums = (what["list"] + what["watch"], what["list"], total, *peaks, what["connect"])
    return Counted(*sums, following_s, per_s, bytes_per_s)


class Fleet:
    """Members that run, and can be ended and started again."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start all at the same moment."""
        self._tasks = [asyncio.create_task(member.run()) for member in self._members]

    async def end(self) -> None:
        """End all."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def until_all_follow(self, longest_s: float) -> float:
        """Wait for the last one; gives the seconds."""
        loop = asyncio.get_running_loop()
        from_s = loop.time()
        while not all(member.is_following for member in self._members):
            if loop.time() - from_s > longest_s:
                raise AssertionError(f"not all follow after {longest_s:g} s")
            await asyncio.sleep(EVERY_S)
        return loop.time() - from_s


Recruit = Callable[[Servers, int], Sequence[Member]]


def agents(servers: Servers, number: int) -> Sequence[Member]:
    """Recruit agents that know how many they are."""
    return [Agent(servers, f"node-{place}", number) for place in range(number)]


def agents_at_once(servers: Servers, number: int) -> Sequence[Member]:
    """Recruit agents that have been told of no fleet."""
    return [Agent(servers, f"node-{place}", 0) for place in range(number)]


def clients(servers: Servers, number: int) -> Sequence[Member]:
    """Recruit clients of client-go."""
    return [Client(servers) for _ in range(number)]


async def steady(shelf: Shelf, recruit: Recruit, number: int, hours: int) -> Counted:
    """Count after the first hour, when watches end at random moments; gives the average hour."""
    servers = Servers(shelf)
    fleet = Fleet(recruit(servers, number))
    fleet.start()
    await asyncio.sleep(HOUR_S * (1 + hours))
    await fleet.end()
    return counted(servers.asked, HOUR_S, HOUR_S * (1 + hours))


async def restart(shelf: Shelf, recruit: Recruit, number: int) -> Counted:
    """Restart all nodes' clients at the same moment, the servers being well."""
    servers = Servers(shelf)
    members = recruit(servers, number)
    fleet = Fleet(members)
    fleet.start()
    await asyncio.sleep(SETTLE_S)
    await fleet.end()
    from_s = asyncio.get_running_loop().time()
    # What is held in memory alone is lost: client-go has nothing else.
    fleet = Fleet(members if isinstance(members[0], Agent) else recruit(servers, number))
    fleet.start()
    took_s = await fleet.until_all_follow(AFTER_S)
    await asyncio.sleep(AFTER_S - took_s)
    await fleet.end()
    return counted(servers.asked, from_s, from_s + AFTER_S, took_s)


async def outage(shelf: Shelf, recruit: Recruit, number: int) -> tuple[Counted, Counted]:
    """Let the servers go for half an hour and come back without memory; gives the outage and the return."""
    servers, loop = Servers(shelf), asyncio.get_running_loop()
    fleet = Fleet(recruit(servers, number))
    fleet.start()
    await asyncio.sleep(SETTLE_S)
    from_s = loop.time()
    servers.go()
    await asyncio.sleep(OUTAGE_S)
    back_s = loop.time()
    servers.come_back()
    await asyncio.sleep(EVERY_S)
    took_s = EVERY_S + await fleet.until_all_follow(AFTER_S)
    await asyncio.sleep(max(0.0, back_s + AFTER_S - loop.time()))
    await fleet.end()
    asked = servers.asked
    return counted(asked, from_s, back_s), counted(asked, back_s, back_s + AFTER_S, took_s)


def in_fast_time(scenario: Coroutine[Any, Any, Any], seed: int) -> Any:
    """Run a scenario with the same chances every time."""
    random.seed(seed)
    return run(scenario)

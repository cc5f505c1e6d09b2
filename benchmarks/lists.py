"""What one full list of every kind costs a real API server, by each way of asking for it.

    python -m benchmarks.lists [--services 10000] [--endpoints 100000] [--runs 3] [--json FILE]

One raw client, one list after the other; CPU is user + system of kube-apiserver from /proc less what it takes idle,
bytes are those of the bodies. The last column is what the agent's own decoding takes (process time, all trimmed), for
the ways that it can read. A streamed list is watched for two seconds. Needs `make envtest`.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import ssl
import statistics
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from agent.cluster.objects import KINDS
from agent.cluster.selection import EVERYTHING
from agent.sources import pages
from benchmarks.cluster_generator import Spec, objects
from tests.control_plane import binaries
from tests.control_plane.api_client import path_of
from tests.control_plane.control_plane import READER, ControlPlane

JSON, PROTOBUF = "application/json", "application/vnd.kubernetes.protobuf"
STREAMED = (
    "watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=2"
)
CACHED = "resourceVersion=1&resourceVersionMatch=NotOlderThan"


class Way(NamedTuple):
    """How a list is asked for; limit 0: in one piece, -1: streamed."""

    name: str
    accept: str
    limit: int
    gzip: bool


WAYS = (
    Way("streamed, protobuf, gzip (client-go)", f"{PROTOBUF};stream=watch", -1, gzip=True),
    Way("streamed, JSON, gzip", JSON, -1, gzip=True),
    Way("pages of 500, JSON, gzip", JSON, 500, gzip=True),
    Way("one list, JSON, gzip", JSON, 0, gzip=True),
    Way("pages of 500, protobuf, gzip", PROTOBUF, 500, gzip=True),
    Way("pages of 1,000, protobuf, gzip", PROTOBUF, 1000, gzip=True),
    Way("pages of 500, protobuf", PROTOBUF, 500, gzip=False),
    Way("one list, protobuf, gzip", PROTOBUF, 0, gzip=True),
)


class Body(NamedTuple):
    """An answer."""

    data: bytes
    encoding: str


class Cost(NamedTuple):
    """What one list of every kind took."""

    cpu_s: float
    size_bytes: int
    requests: int
    own_s: float


class Client:
    """One connection, as raw as possible."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._tls = ssl.create_default_context(cafile=str(plane.ca))

    def bodies(self, way: Way, kind: str) -> Iterator[Body]:
        """Ask for a list, and give its pages."""
        connection = http.client.HTTPSConnection("127.0.0.1", self._plane.port, context=self._tls, timeout=60)
        limit = f"limit={way.limit}&" if way.limit > 0 else ""
        query = STREAMED if way.limit < 0 else f"{limit}{CACHED}"
        while query:
            headers = {"Authorization": f"Bearer {READER}", "Accept": way.accept, "User-Agent": "nodens/benchmark"}
            headers |= {"Accept-Encoding": "gzip"} if way.gzip else {}
            connection.request("GET", f"{path_of(kind)}?{query}", headers=headers)
            answer = connection.getresponse()
            body = Body(answer.read(), answer.headers.get("Content-Encoding", ""))
            assert answer.status == 200, body.data[:300]
            yield body
            token = _continue(body, kind) if way.limit > 0 else ""
            query = f"{limit}continue={urllib.parse.quote(token)}" if token else ""
        connection.close()


def _continue(body: Body, kind: str) -> str:
    return pages.cut([body.data], body.encoding, kind).continue_token


def _decoding_s(found: dict[str, list[Body]]) -> float:
    """Measure what the agent takes to make trimmed objects of it."""

    async def read() -> float:
        before_s = time.process_time()
        for kind, bodies in found.items():
            for body in bodies:
                await pages.read([body.data], body.encoding, kind, EVERYTHING)
        return time.process_time() - before_s

    return asyncio.run(read())


def once(plane: ControlPlane, way: Way, idle: float) -> Cost:
    """List every kind one way."""
    api, client = plane.api, Client(plane)
    assert api is not None
    before_s, from_s = api.usage().cpu_s, time.monotonic()
    found = {kind: list(client.bodies(way, kind)) for kind in KINDS}
    time.sleep(0.3)
    cpu_s = api.usage().cpu_s - before_s - idle * (time.monotonic() - from_s)
    bodies = [body for each in found.values() for body in each]
    own_s = 0.0 if way.limit < 0 else _decoding_s(found)
    return Cost(cpu_s, sum(len(body.data) for body in bodies), len(bodies), own_s)


def measure(plane: ControlPlane, runs: int) -> dict[str, list[Cost]]:
    """Go every way, in turn, several times over; the first time only warms up."""
    api = plane.api
    assert api is not None
    time.sleep(5)
    before_s = api.usage().cpu_s
    time.sleep(5)
    idle = (api.usage().cpu_s - before_s) / 5
    costs: dict[str, list[Cost]] = {way.name: [] for way in WAYS}
    for run in range(runs + 1):
        for way in WAYS:
            cost = once(plane, way, idle)
            if run:
                costs[way.name].append(cost)
    return costs


def _parser() -> argparse.ArgumentParser:
    head, _, rest = (__doc__ or "").partition("\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks.lists", description=head, epilog=rest, formatter_class=raw)
    add = parser.add_argument
    add("--services", type=int, default=10_000)
    add("--endpoints", type=int, default=100_000)
    add("--namespaces", type=int, default=200)
    add("--runs", type=int, default=3)
    add("--json", metavar="FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(argv)
    if reason := binaries.missing():
        print(f"can't measure: {reason}", file=sys.stderr)
        return 1
    spec = Spec(services=options.services, endpoints=options.endpoints, namespaces=options.namespaces)
    with tempfile.TemporaryDirectory(prefix="nodens-lists-") as folder, ControlPlane(Path(folder) / "plane") as plane:
        plane.admin.write(objects(spec))
        costs = measure(plane, options.runs)
    first = statistics.median(cost.cpu_s for cost in costs[WAYS[0].name])
    record = {}
    print("| way | API server CPU, s | × client-go | MB | requests | decoding, s |\n|---|---:|---:|---:|---:|---:|")
    for name, found in costs.items():
        cpu_s, own_s = (statistics.median(each) for each in zip(*((c.cpu_s, c.own_s) for c in found), strict=True))
        size_mb, requests = found[-1].size_bytes / 1e6, found[-1].requests
        own = f"{own_s:.2f}" if own_s else ""
        print(f"| {name} | {cpu_s:.2f} | {cpu_s / first:.2f} | {size_mb:.1f} | {requests} | {own} |")
        record[name] = [cost._asdict() for cost in found]
    if options.json:
        Path(options.json).write_text(json.dumps({"options": vars(options), "ways": record}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

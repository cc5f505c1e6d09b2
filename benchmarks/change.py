"""From a watch event's bytes to the changed answer, inside one process; and the bulk compile before it.

    python -m benchmarks.change --services 10000 --endpoints 100000 [--publish]

Measured: `event` is decode_event + publisher.apply + the pump, until the table gives the changed answer, one Service at
a time with the loop idle in between; `burst` is --burst such changes at once; `bulk` is objects to a serving table.
The figures are wall time of this process alone, nothing else may be running for them to mean anything; medians of
--runs such lives. The table is the data plane's in use: the compiled one if it is built, NODENS_NO_EXT=1 for the other.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from agent import wire
from agent.cluster.objects import KINDS, SERVICE, Stored, decode_event, decode_object
from agent.records.names import to_wire
from agent.records.zone import Profile
from agent.snapshot.compiler import zones_of
from agent.snapshot.freshness import Freshness
from agent.snapshot.publisher import Publisher
from agent.wire.table import PackedNodes, pack
from benchmarks.cluster_generator import Spec, objects
from benchmarks.measure import heading, keep, rss_mib, say


def _publisher() -> Publisher:
    profile = Profile(ns_addresses=(b"\x7f\0\0\1",))
    made = Publisher(profile, Freshness(60, 0), wire.new_table(zones_of(profile)), lambda *_, **__: None)
    made.compiler.declare_zones()
    return made


async def bulk(publisher: Publisher, spec: Spec) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Fills a publisher; gives seconds, and the manifests of its ClusterIP Services by key."""
    by_kind: dict[str, list[Stored]] = {kind: [] for kind in KINDS}
    services: dict[str, dict[str, Any]] = {}
    endpoints = 0
    for value in objects(spec):
        stored = decode_object(value)
        if not isinstance(stored, Stored):
            continue
        by_kind[stored.kind].append(stored)
        endpoints += len(value.get("endpoints") or ())
        if stored.kind == SERVICE and value["spec"].get("clusterIPs", ["None"])[0] != "None":
            services[stored.key] = value
    gc.collect()
    started = time.perf_counter()
    for kind in KINDS:
        publisher.replace(kind, by_kind[kind], "1")
    publisher.connected()
    longest, last = 0.0, time.perf_counter()
    done = asyncio.ensure_future(publisher.idle())
    while not done.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    compiled = time.perf_counter()
    publisher.compiler.take_changes()
    publisher.table.freeze()
    *_, section = pack(publisher.table.frozen_items(), publisher.table.names_at_most(), 1)
    assert section is not None
    publisher.table.rebase(PackedNodes(section, 0, len(section)))
    figures = {
        "services": float(len(by_kind[SERVICE])),
        "endpoints": float(endpoints),
        "names": float(publisher.table.names_at_most()),
        "bulk_s": compiled - started,
        "longest_slice_ms": longest * 1e3,
        "pack_s": time.perf_counter() - compiled,
        "answers_mb": len(section) / 1e6,
        "rss_mib": rss_mib(),
    }
    return figures, services


def _event(value: dict[str, Any], address: str, version: int) -> bytes:
    changed = json.loads(json.dumps(value))
    changed["spec"]["clusterIP"] = address
    changed["spec"]["clusterIPs"][0] = address
    changed["metadata"]["resourceVersion"] = str(version)
    return json.dumps({"type": "MODIFIED", "object": changed}).encode()


async def single(publisher: Publisher, services: dict[str, dict[str, Any]], count: int) -> list[float]:
    """Changes one Service at a time; gives milliseconds each."""
    out = []
    keys = random.Random(1).sample(sorted(services), min(count, len(services)))
    for number, key in enumerate(keys):
        line = _event(services[key], f"10.200.{number >> 8}.{number & 255}", 100 + number)
        namespace, _, name = key.partition("/")
        wire = to_wire(f"{name}.{namespace}.svc.cluster.local")
        before = publisher.table.find(wire)
        await asyncio.sleep(0.003)
        started = time.perf_counter()
        event = decode_event(SERVICE, line)
        publisher.apply(SERVICE, [(event.key, event.stored)], event.resource_version)
        while publisher.table.find(wire) == before:  # noqa: ASYNC110 -- the answer itself is what is waited for
            await asyncio.sleep(0)
        out.append((time.perf_counter() - started) * 1e3)
    return out


async def burst(publisher: Publisher, services: dict[str, dict[str, Any]], count: int) -> float:
    """Changes `count` Services at once; gives milliseconds until all of them answer changed."""
    keys = random.Random(2).sample(sorted(services), min(count, len(services)))
    lines = [_event(services[key], f"10.201.{n >> 8}.{n & 255}", 10_000 + n) for n, key in enumerate(keys)]
    await asyncio.sleep(0.1)
    started = time.perf_counter()
    for line in lines:
        event = decode_event(SERVICE, line)
        publisher.apply(SERVICE, [(event.key, event.stored)], event.resource_version)
    await publisher.idle()
    return (time.perf_counter() - started) * 1e3


async def measure(spec: Spec, changes: int, burst_size: int) -> dict[str, float]:
    """Does all of it once."""
    publisher = _publisher()
    say("generating and compiling the cluster ...")
    figures, services = await bulk(publisher, spec)
    say(f"changing {changes} Services one by one ...")
    took = sorted(await single(publisher, services, changes))
    figures["event_p50_ms"] = statistics.median(took)
    figures["event_p99_ms"] = took[int(len(took) * 0.99)]
    figures["event_max_ms"] = took[-1]
    figures["burst_changes"] = float(min(burst_size, len(services)))
    figures["burst_ms"] = await burst(publisher, services, burst_size)
    return figures


def main() -> int:
    """Prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=100_000)
    parser.add_argument("--changes", type=int, default=1_000, help="Services changed one by one")
    parser.add_argument("--burst", type=int, default=1_000, help="Services changed at once")
    parser.add_argument("--runs", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the record goes (.run/bench/change.json)")
    parser.add_argument("--publish", action="store_true", help="put the record into benchmarks/results/")
    options = parser.parse_args()
    record = heading() | {"plane": wire.IMPLEMENTATION, "options": {"runs": options.runs, "changes": options.changes}}
    spec = Spec(services=options.services, endpoints=options.endpoints)
    runs = [asyncio.run(measure(spec, options.changes, options.burst)) for _ in range(options.runs)]
    figures = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    keep(record | {"figures": figures, "runs": runs}, "change", publish=options.publish, path=options.json)
    print(f"data plane: {wire.IMPLEMENTATION}; medians of {options.runs}")
    for name, value in figures.items():
        print(f"{name:20s} {value:12,.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""nodens beside every other server on one machine, in one run, on the same names.

    python -m benchmarks.peers [--only NAME,... ] [--runs N] [--seconds S] [--services N] [--json FILE] [--publish]

Servers: echo (what the kernel alone costs), nodens (compiled), nodens-pure, knot, nsd, unbound, bind, dnsmasq (Debian
packages), coredns (COREDNS_BIN, or what make envtest built) and node-cache (NODE_CACHE_BIN, else CoreDNS with cache
and forward, which is what node-cache is). One that is not there is a line in the report.

Mixes: hit (A of every Service), mix (A, AAAA, search-path NXDOMAIN, SRV, PTR; cached external names are left out,
nobody here forwards), zipf. Each at saturation (8 clients, 500 queries outstanding) and at 20,000 queries/s. Figures:
user and system CPU of all the server's processes per completed query, from /proc; of node-cache only the front one's.

Needs dnsperf. Progress goes to stderr; the table to stdout; record and plot to .run/bench/ (or --json FILE, the plot
beside it); with --publish into benchmarks/README.md and benchmarks/results/. Takes about ten minutes; everything stays
on the loopback and is ended at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks import plot
from benchmarks.cluster_workloads import Spec
from benchmarks.peers import dnsperf, report, zone
from benchmarks.peers.campaign import Campaign, Plan, say
from benchmarks.peers.processes import LOAD_CORE, SERVER_CORE, cores, pinned
from benchmarks.peers.servers import Server, Workplace, servers

HERE = Path(__file__).parents[1]
PAGE = HERE / "README.md"
RESULTS = HERE / "results"
RECORD = HERE.parent / ".run" / "bench" / "peers.json"
FORMAT = 1


def _parser() -> argparse.ArgumentParser:
    head, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        "python -m benchmarks.peers",
        description=head,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--only", metavar="NAME,...", default="", help="these servers (echo and node-cache are what ratios are to)")
    add("--runs", type=int, default=3, metavar="N", help="times each server is measured, in turn (%(default)s)")
    add("--seconds", type=float, default=1.2, metavar="S", help="length of a load (%(default)s)")
    add("--services", type=int, default=10_000, metavar="N", help="Services of the cluster (%(default)s)")
    add("--endpoints", type=int, default=20_000, metavar="N", help="endpoints behind them (%(default)s)")
    add("--json", type=Path, default=RECORD, metavar="FILE", help="where the record goes (.run/bench/peers.json)")
    add("--publish", action="store_true", help="put table, record and plot into benchmarks/")
    return parser


def chosen(only: str) -> list[Server]:
    """Return the servers named, all if none is.

    Raises:
        ValueError: there is none of that name.
    """
    every = servers()
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    unknown = set(wanted) - {server.name for server in every}
    if unknown:
        known = ", ".join(server.name for server in every)
        raise ValueError(f"no server {', '.join(sorted(unknown))}; there are {known}")
    return [server for server in every if not wanted or server.name in wanted]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(("model name", "Model", "CPU part")):
            return line.partition(":")[2].strip()
    return platform.machine()


def machine() -> dict[str, Any]:
    """Return what was measured on."""
    allowed = cores()
    return {
        "cpu": _cpu_model(),
        "arch": platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "server_core": allowed[SERVER_CORE],
        "load_core": allowed[LOAD_CORE] if pinned(LOAD_CORE) else None,
    }


def charts(record: dict[str, Any]) -> list[plot.Chart]:
    """Return what is drawn: total CPU per query, cheapest first."""
    labels = {server["name"]: server["label"].replace("**", "") for server in record["servers"]}
    out = []
    for load, title in (("hit", "A queries that all hit, saturated"), ("mix", "realistic mix, saturated")):
        rows = sorted(record["summary"].items(), key=lambda item: item[1]["loads"][load]["total_us"])
        bars = [
            plot.Bar(
                labels[name], row["loads"][load]["user_us"], row["loads"][load]["system_us"], name.startswith("nodens")
            )
            for name, row in rows
        ]
        out.append(plot.Chart(f"CPU per query: {title}", bars))
    return out


def measure(options: argparse.Namespace, listed: Sequence[Server]) -> dict[str, Any]:
    """Measure and return the record."""
    load_before = os.getloadavg()
    absent = {server.name: server.missing() for server in listed}
    there = [server for server in listed if not absent[server.name]]
    for server in listed:
        if absent[server.name]:
            say(f"{server.name} is left out: {absent[server.name]}")
    if not pinned(LOAD_CORE):
        say("one core only (or no taskset): server and load generator share it")
    spec = Spec(services=options.services, endpoints=options.endpoints, namespaces=max(20, options.services // 50))
    say(f"generating {spec.services} Services with {spec.endpoints} endpoints ...")
    held = list(zone.records(spec))
    mixes = zone.questions(zone.Names(held), spec)
    with tempfile.TemporaryDirectory(prefix="nodens-peers-") as folder:
        campaign = Campaign(Plan(there, mixes, options.runs, options.seconds), Workplace(Path(folder), spec, held))
        campaign.carry_out()
    return {
        "format": FORMAT,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "load_average_before": load_before,
        "options": {
            "runs": max((result["run"] for result in campaign.results), default=0),
            "seconds": options.seconds,
            "fixed_qps": dnsperf.FIXED_QPS,
        },
        "cluster": {"services": spec.services, "endpoints": spec.endpoints, "records": len(held)},
        "servers": [
            {
                "name": server.name,
                "label": server.label,
                "note": server.note,
                "missing": absent[server.name] or campaign.failed.get(server.name, ""),
                "version": "" if absent[server.name] else server.version(),
            }
            for server in listed
        ],
        "summary": report.summary(campaign.results),
        "runs": campaign.results,
    }


def keep(record: dict[str, Any], path: Path) -> Path:
    """Write the record and, beside it, the plot; returns the plot's path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    drawn = path.with_suffix(".svg")
    drawn.write_text(plot.svg(charts(record), "user", "system", "µs a query"), encoding="utf-8")
    return drawn


def publish(record: dict[str, Any]) -> None:
    """Put the record where people read it."""
    keep(record, RESULTS / "peers.json")
    text = "\n\n".join(
        [report.heading(record), "![CPU per query](results/peers.svg)", report.tables(record), _versions(record)]
    )
    PAGE.write_text(report.into_page(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")


def _versions(record: dict[str, Any]) -> str:
    told = (f"{server['name']}: {server['version']}" for server in record["servers"] if server["version"])
    return f"Versions: {'; '.join(told)}."


def _end(number: int, _frame: FrameType | None) -> None:
    """A signal ends the benchmark by way of its finally blocks, which end the servers."""
    sys.exit(128 + number)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(argv)
    try:
        listed = chosen(options.only)
    except ValueError as error:
        print(f"nodens: {error}", file=sys.stderr)
        return 2
    if shutil.which("dnsperf") is None:
        print("nodens: no dnsperf on this machine (apt-get install dnsperf)", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, _end)
    record = measure(options, listed)
    drawn = keep(record, options.json)
    print("\n\n".join([report.heading(record), report.tables(record), _versions(record)]))
    say(f"record {options.json}, plot {drawn}")
    if options.publish:
        publish(record)
        say(f"published in {PAGE.name}")
    return 0 if record["runs"] else 1


if __name__ == "__main__":
    sys.exit(main())

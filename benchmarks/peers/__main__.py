"""nodens beside every other server on one machine, in one run, on the same names.

    python -m benchmarks.peers [--quick] [--only NAME,...] [--runs N] [--seconds S] [--json FILE] [--publish]

Servers: echo (what the kernel alone costs), nodens (compiled), nodens-pure, knot, nsd, unbound, bind, dnsmasq (Debian
packages), coredns (COREDNS_BIN, or what make envtest built) and node-cache (NODE_CACHE_BIN, else CoreDNS with cache
and forward, which is what node-cache is). One that is not there is a line in the report.

Mixes: hit (A of every Service), mix (A, AAAA, search-path NXDOMAIN, SRV, PTR; where cached external names belong, which
wait for the forwarder, stand A questions with several addresses), zipf. Each at saturation (dnsperf: 8 clients, 500
queries outstanding) and at 20,000 queries/s (benchmarks/steady.c, which tells latencies as well). Figures: user and
system CPU of all the server's processes per completed query, from /proc; of node-cache only the front one's.

Needs dnsperf and a C compiler. Progress goes to stderr; tables and budgets to stdout; record and plot to .run/bench/
(or --json FILE, the plot beside it); with --publish into benchmarks/README.md and benchmarks/results/. Takes about ten
minutes, --quick two; everything stays on the loopback and is ended at the end.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks import budgets, plot, steady
from benchmarks.cluster_workloads import Spec
from benchmarks.measure import LOAD_CORE, UNPUBLISHED, compiler, heading, keep, pinned, publish_text, say
from benchmarks.peers import report, zone
from benchmarks.peers.campaign import Campaign, Plan
from benchmarks.peers.servers import Server, Workplace, servers

RECORD = UNPUBLISHED / "peers.json"
QUICK_SECONDS = 0.5


def _parser() -> argparse.ArgumentParser:
    head, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        "python -m benchmarks.peers",
        description=head,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--only", metavar="NAME,...", default="", help="these servers (echo, knot and node-cache: what ratios are to)")
    add("--runs", type=int, default=3, metavar="N", help="times each server is measured, in turn (%(default)s)")
    add("--seconds", type=float, default=1.2, metavar="S", help="length of a load (%(default)s)")
    add("--quick", action="store_true", help=f"one run, {QUICK_SECONDS:g} s a load: to see that all works")
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
    record = heading()
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
    measured = {result["server"] for result in campaign.results}
    return record | {
        "options": {
            "runs": max((result["run"] for result in campaign.results), default=0),
            "seconds": options.seconds,
            "fixed_qps": steady.FIXED_QPS,
        },
        "cluster": {"services": spec.services, "endpoints": spec.endpoints, "records": len(held)},
        "servers": [
            {
                "name": server.name,
                "label": server.label,
                "note": server.note,
                "failed": campaign.failed.get(server.name, ""),
                "missing": absent[server.name] or ("" if server.name in measured else "every run failed"),
                "version": "" if absent[server.name] else server.version(),
            }
            for server in listed
        ],
        "summary": report.summary(campaign.results),
        "runs": campaign.results,
    }


def draw(record: dict[str, Any], path: Path) -> None:
    """Write the plot beside the record."""
    path.with_suffix(".svg").write_text(plot.svg(charts(record), "user", "system", "µs a query"), encoding="utf-8")


def _versions(record: dict[str, Any]) -> str:
    told = (f"{server['name']}: {server['version']}" for server in record["servers"] if server["version"])
    return f"Versions: {'; '.join(told)}."


def _end(number: int, _frame: FrameType | None) -> None:
    """A signal ends the benchmark by way of its finally blocks, which end the servers."""
    sys.exit(128 + number)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(argv)
    if options.quick:
        options.runs, options.seconds = 1, QUICK_SECONDS
    try:
        listed = chosen(options.only)
    except ValueError as error:
        print(f"nodens: {error}", file=sys.stderr)
        return 2
    if shutil.which("dnsperf") is None or compiler() is None:
        print("nodens: dnsperf and a C compiler are needed (apt-get install dnsperf gcc)", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, _end)
    record = measure(options, listed)
    for path in keep(record, "peers", publish=options.publish, path=options.json):
        draw(record, path)
    tables = [report.tables(record), _versions(record)]
    print("\n\n".join([report.heading(record), *tables, budgets.text({"peers": record}, of="peers")]))
    if options.publish:
        publish_text("peers", "\n\n".join([report.heading(record), "![CPU per query](results/peers.svg)", *tables]))
    return 0 if record["runs"] else 1


if __name__ == "__main__":
    sys.exit(main())

"""What a fleet of N nodes costs the API servers: nodens itself beside a model of client-go's reflector.

    python -m benchmarks.fleet [--nodes 10,100,1000] [--publish]

Both ask the same scripted API servers, which count, in fast time (minutes instead of days; 0 sockets). Three scenarios:
  steady   an average hour, watches ending at random moments (hours 1 to 13 after the start)
  restart  every client is restarted at the same moment, the API servers being well: nodens resumes, client-go lists
  outage   the API servers are gone for 30 minutes and come back without memory: 410 for every position

What lists weigh is that of a cluster's pages (10,000 Services, 100,000 endpoints by the generator, JSON and gzip);
a streamed protobuf list of client-go weighs as much more as a real API server sent for results/control_plane.json.
Refused TCP connects are told apart: they are no requests.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.cluster_generator import Spec
from benchmarks.fleet import scenarios
from benchmarks.fleet.plot import Line, Panel, svg
from benchmarks.fleet.scenarios import Counted, Recruit
from benchmarks.fleet.servers import weigh

RESULTS = Path(__file__).parents[1] / "results"
README = Path(__file__).parents[1] / "README.md"
MARKS = ("<!-- fleet: begin -->", "<!-- fleet: end -->")
RECRUITS: dict[str, Recruit] = {"nodens": scenarios.agents, "client-go": scenarios.clients}
STEADY_HOURS = 12
PLOTTED_S = 150


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run every scenario; gives the record."""
    measured = json.loads((RESULTS / "control_plane.json").read_text())["figures"]["full sync: bytes"]
    shelf = weigh(
        Spec(services=options.services, endpoints=options.endpoints, namespaces=options.namespaces),
        measured["coredns"] / measured["nodens"],
    )
    found: dict[str, Any] = {}
    for number in options.nodes:
        for which, recruit in RECRUITS.items():
            started_s = time.monotonic()
            runs = (
                scenarios.steady(shelf, recruit, number, STEADY_HOURS),
                scenarios.restart(shelf, recruit, number),
                scenarios.outage(shelf, recruit, number),
            )
            steady, restart, (away, back) = (scenarios.in_fast_time(each, options.seed) for each in runs)
            found[f"{which} {number}"] = {
                "steady": _kept(steady),
                "restart": _kept(restart),
                "away": _kept(away),
                "return": _kept(back, with_seconds=True),
            }
            print(f"{which}, {number} nodes: {time.monotonic() - started_s:.0f} s", file=sys.stderr, flush=True)
    spec = {"services": options.services, "endpoints": options.endpoints, "namespaces": options.namespaces}
    sizes = {"pages": {kind: sizes[500] for kind, sizes in shelf.pages.items()}, "streamed": shelf.streamed}
    return {"spec": spec, "seed": options.seed, "steady_hours": STEADY_HOURS, "list bytes": sizes, "runs": found}


def _kept(counted: Counted, *, with_seconds: bool = False) -> dict[str, Any]:
    values = counted._asdict()
    if with_seconds:
        values["per_s"] = counted.per_s[: PLOTTED_S + 1]
        values["bytes_per_s"] = counted.bytes_per_s[: PLOTTED_S + 1]
    else:
        del values["per_s"], values["bytes_per_s"]
    return values


def table(record: dict[str, Any], nodes: list[int]) -> Iterator[str]:
    """Write the record as a table."""
    yield "| | " + " | ".join(f"{which}, {number:,} nodes" for number in nodes for which in RECRUITS) + " |"
    yield "|---|" + "---:|" * (len(nodes) * len(RECRUITS))
    hours = record["steady_hours"]
    rows: dict[str, tuple[str, str, float, str]] = {
        "steady: requests per node and hour": ("steady", "requests", hours, "node"),
        "steady: requests in the busiest second": ("steady", "peak_per_s", 1, ""),
        "restart of all: requests": ("restart", "requests", 1, ""),
        "restart of all: in the busiest second": ("restart", "peak_per_s", 1, ""),
        "restart of all: MB": ("restart", "size_bytes", 1e6, ""),
        "restart of all: MB in the busiest second": ("restart", "peak_bytes_per_s", 1e6, ""),
        "outage: requests": ("away", "requests", 1, ""),
        "outage: refused TCP connects per node and minute": ("away", "connects", 30, "node"),
        "return: requests": ("return", "requests", 1, ""),
        "return: in the busiest second": ("return", "peak_per_s", 1, ""),
        "return: full lists in the busiest second, by bytes": ("return", "peak_bytes_per_s", 0, "list"),
        "return: MB": ("return", "size_bytes", 1e6, ""),
        "return: MB in the busiest second": ("return", "peak_bytes_per_s", 1e6, ""),
        "return: all follow again after, s": ("return", "following_s", 1, ""),
    }
    sync_bytes = {
        "nodens": sum(map(sum, record["list bytes"]["pages"].values())),
        "client-go": sum(record["list bytes"]["streamed"].values()),
    }
    for title, (scenario, field, by, per) in rows.items():
        cells = []
        for number in nodes:
            for which in RECRUITS:
                value = record["runs"][f"{which} {number}"][scenario][field]
                value /= {"node": number * by, "list": sync_bytes[which]}.get(per, by)
                cells.append(f"{value:,.1f}" if value < 100 and value != int(value) else f"{value:,.0f}")
        yield f"| {title} | " + " | ".join(cells) + " |"


def plot(record: dict[str, Any], number: int) -> str:
    """Draw the return of the largest fleet."""
    found = {which: record["runs"][f"{which} {number}"]["return"] for which in RECRUITS}
    asked = [Line(which, values["per_s"], which == "nodens") for which, values in found.items()]
    sent = [Line(which, [v / 1e6 for v in values["bytes_per_s"]], which == "nodens") for which, values in found.items()]
    title = f"after the return of the API servers, {number:,} nodes"
    return svg([Panel(f"MB per second {title}", sent), Panel(f"requests per second {title}", asked)], PLOTTED_S)


def publish(record: dict[str, Any], nodes: list[int]) -> None:
    """Put record, plot and table where they are shown."""
    (RESULTS / "fleet.json").write_text(json.dumps(record, indent=1) + "\n")
    (RESULTS / "fleet.svg").write_text(plot(record, nodes[-1]))
    before, _, rest = README.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    README.write_text(f"{before}{MARKS[0]}\n" + "\n".join(table(record, nodes)) + f"\n{MARKS[1]}{after}")


def _parser() -> argparse.ArgumentParser:
    head, _, rest = (__doc__ or "").partition("\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks.fleet", description=head, epilog=rest, formatter_class=raw)
    add = parser.add_argument
    add("--nodes", type=lambda text: sorted(int(part) for part in text.split(",")), default=[10, 100, 1000])
    add("--services", type=int, default=10_000)
    add("--endpoints", type=int, default=100_000)
    add("--namespaces", type=int, default=200)
    add("--seed", type=int, default=1)
    add("--publish", action="store_true", help="write results/fleet.json, results/fleet.svg and the table in README.md")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(argv)
    record = measure(options)
    print("\n".join(table(record, options.nodes)))
    if options.publish:
        publish(record, options.nodes)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a data plane does while something else goes on: relists, a loop that is held up, scrapes; and two workers.

    python -m benchmarks.plane [relist] [blocked] [scrape] [workers] [--quick] [--publish]

Hits (A of every Service) are asked at 5,000 queries/s by steady.c from one core, first with nothing else going on,
then with it, for as long; a figure is the second over the first. The agent runs `alone` on another core, all of its
threads and children with it, or `spread` over all cores, the asker's too. The bare echo is asked the same way: its
percentiles are the asker's own.

  relist   every ClusterIP of 10,000 Services changes at once, and all is listed and compiled again: from a file, which
           a child reads, and from an API server that has forgotten all positions (the scripted one of the tests)
  blocked  the loop's thread is held up for 2 s: busy in Python, holding the interpreter lock, decoding a list of 50 MB
           again and again in one call each; by a harness around the agent (benchmarks/plane/disturbed.py)
  scrape   what /metrics costs at 10,000 Services, and what ten scrapes a second do to hits
  workers  capacity of two UDP workers against one. With four cores or more it is what dnsperf gets; with fewer the
           generator needs the cores itself, and capacity is cores over CPU per query, with one worker bound to each
           core: that shows what they cost each other, not that they run at once

Three runs each, medians, both planes (without the extension the pure one alone). Needs dnsperf and a C compiler. Takes
about ten minutes, --quick four.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import budgets
from benchmarks.cluster_generator import Spec
from benchmarks.measure import compiler, heading, keep, publish_text, say
from benchmarks.peers.dnsperf import DnsperfError
from benchmarks.peers.processes import ServerError
from benchmarks.plane.agents import QPS, Site
from benchmarks.plane.beside import Bench, Figures, blocked, echo, relist, scrape, tell
from benchmarks.plane.report import table
from benchmarks.plane.workers import workers
from benchmarks.steady import SteadyError

PARTS: dict[str, Callable[[Bench], Figures]] = {
    "relist": relist, "blocked": blocked, "scrape": scrape, "workers": workers,
}  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    head, _, rest = (__doc__ or "").partition("\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks.plane", description=head, epilog=rest, formatter_class=raw)
    add = parser.add_argument
    add("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (all)")
    add("--runs", type=int, default=3, metavar="N", help="(%(default)s)")
    add("--seconds", type=float, default=2.0, metavar="S", help="length of a load of `workers` (%(default)s)")
    add("--services", type=int, default=10_000, metavar="N", help="(%(default)s)")
    add("--endpoints", type=int, default=20_000, metavar="N", help="(%(default)s)")
    add("--quick", action="store_true", help="one run: to see that all works")
    add("--json", type=Path, metavar="FILE", help="where the record goes (.run/bench/plane.json)")
    add("--publish", action="store_true", help="put table and record into benchmarks/")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(argv)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        print(f"nodens: no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    if options.parts and options.publish:
        print("nodens: only the whole is published: leave out the PARTs", file=sys.stderr)
        return 2
    if shutil.which("dnsperf") is None or compiler() is None:
        print("nodens: dnsperf and a C compiler are needed (apt-get install dnsperf gcc)", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    runs = 1 if options.quick else options.runs
    record = heading() | {
        "options": {"runs": runs, "services": options.services, "endpoints": options.endpoints, "qps": QPS}
    }
    spec = Spec(services=options.services, endpoints=options.endpoints, namespaces=max(20, options.services // 50))
    with tempfile.TemporaryDirectory(prefix="nodens-plane-") as folder:
        say(f"generating {spec.services} Services with {spec.endpoints} endpoints ...")
        bench = Bench(Site(Path(folder), spec), runs, options.seconds)
        figures: Figures = {"echo": echo(bench)}
        tell("the asker alone, against the bare echo", figures["echo"])
        failed = {}
        for part in options.parts or PARTS:
            try:
                figures[part] = PARTS[part](bench)
            except (ServerError, DnsperfError, SteadyError, subprocess.TimeoutExpired) as error:
                failed[part] = str(error)
                say(f"{part} failed: {error}")
    record |= {"figures": figures, "failed": failed}
    keep(record, "plane", publish=options.publish, path=options.json)
    text = table(record)
    print("\n\n".join([text, budgets.text({"plane": record}, of="plane")]))
    if options.publish:
        publish_text("plane", text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

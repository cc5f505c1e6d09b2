"""The outage of 11 December 2024 in small, as a story in a terminal, and measured while it is told.

    make demo                    two minutes and a half, to be watched
    make demo SPEED=2            told faster; what has to be waited for is waited for
    make demo ARGS=--fast        for CI: fewer names, shorter waits, no pauses
    python -m benchmarks.demo [--fast] [--speed N] [--services N] [--json FILE] [--publish]

Real agent, real kube-apiserver and etcd, real CoreDNS (`make envtest` builds them; COREDNS_BIN and KUBEBUILDER_ASSETS
name others); where there are none a file takes the API server's place, and that is said. Beside nodens stand CoreDNS
(plugin kubernetes, ttl 5) and two CoreDNS configured as node-cache is shipped (cache success 30 s) in front of it, one
of them with serve_stale 1h. All are asked the same names in the same seconds. Everything listens on the loopback, lies
in a temporary folder, and is ended by its own pid, also after Ctrl-C. Exit code 0: nodens gave every answer, and no
wrong one; 1: it did not; 3: a program did not come up.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path

from agent import __version__
from benchmarks.cluster_generator import Spec
from benchmarks.demo import table
from benchmarks.demo.clusters import cluster
from benchmarks.demo.columns import columns, stand_in
from benchmarks.demo.stage import Stage
from benchmarks.demo.story import Story, Times

LONGEST_S = 420
"""After this long it ends itself, whatever hangs."""
FAST = Times(settle_s=7.0, later_s=8.0, return_s=45.0, stale_after_s=5.0, names=15)
ROOT = Path(__file__).resolve().parents[2]
TRANSCRIPT, README = ROOT / "docs" / "demo.md", ROOT / "README.md"


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    head, _, _ = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.demo", description=head, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=__doc__.partition("\n\n")[2],
    )  # fmt: skip
    parser.add_argument("--fast", action="store_true", help="for CI: fewer names, shorter waits, no pauses")
    speed = float(os.environ.get("SPEED") or 1)
    parser.add_argument("--speed", type=float, default=speed, help="2 is twice as fast to read, 0 without pauses")
    parser.add_argument(
        "--services", type=int, default=0, help="Services of the cluster; default: 1000, with --fast 150"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    parser.add_argument(
        "--publish", action="store_true", help=f"write {TRANSCRIPT.name}, and the table of {README.name}"
    )
    return parser.parse_args(words)


def main() -> int:
    """Tell it once."""
    options = arguments()
    services = options.services or (150 if options.fast else 1000)
    stage = Stage(0.0 if options.fast else max(0.0, options.speed))
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LONGEST_S)
    try:
        with tempfile.TemporaryDirectory(prefix="nodens-demo-") as folder:
            return play(stage, Path(folder), Spec(services=services, endpoints=2 * services), options)
    except KeyboardInterrupt:
        print("\ninterrupted; everything that was started has been ended", file=sys.stderr)
        return 130
    except AssertionError as error:
        print(f"the demo can't go on: {error}", file=sys.stderr)
        return 3


def play(stage: Stage, root: Path, spec: Spec, options: argparse.Namespace) -> int:
    """Start everybody, tell the story, show the table."""
    started = time.monotonic()
    stage.say("The outage of 11 December 2024 in small: a cluster, its control plane gone, and who still finds whom.")
    if reason := stand_in():
        stage.show(reason, "warn")
    stage.show("Starting a control plane and who is compared ...", "dim", pause=False)
    times = FAST if options.fast else Times()
    with cluster(root, spec) as origin, columns(root, origin, times.stale_after_s) as compared:
        stage.say(
            f"{spec.services:,} Services ({origin.written:,} objects) on {origin.origin}, "
            f"written in {origin.write_s:.1f} s; all in sync after {time.monotonic() - started:.0f} s."
        )
        stage.say(
            f"nodens marks answers as stale when its source is lost for {times.stale_after_s:g} s (default: 60 s)."
        )
        story = Story(stage, origin, compared, times)
        story.tell()
        lines = table.cells(compared, story.rows, story.recovery)
        stage.act(f"What was measured just now, in {time.monotonic() - started:.0f} s")
        stage.show(table.LEGEND, pause=False)
        for line in table.as_text(lines):
            stage.show(line, pause=False)
        record = table.as_record(compared, story.rows, story.recovery)
        ours = [row.cells[-1] for row in story.rows]
    is_right = all(cell.known.percent == cell.new.percent == 100 for cell in ours) and not record["wrong"][-1]
    stage.say("" if is_right else "nodens did not give every answer.")
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine(), "services": spec.services, **record}, indent=2) + "\n"
        )
    if options.publish:
        publish(stage, f"{table.LEGEND}\n\n{table.as_markdown(lines)}", spec)
    return 0 if is_right and story.recovery[-1].follows_s is not None else 1


def machine() -> str:
    """Name the machine."""
    return (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, nodens {__version__}"
    )


def publish(stage: Stage, block: str, spec: Spec) -> None:
    """Write the transcript and the table of the README."""
    day = time.strftime("%Y-%m-%d", time.gmtime())
    text = "\n".join(line.rstrip() for line in stage.transcript).strip()
    TRANSCRIPT.write_text(
        "# The outage in small\n\n"
        "What `make demo` shows, from a real run: it can be watched in two minutes and a half, and measures itself.\n"
        "How it is done stands in `python -m benchmarks.demo --help`.\n\n"
        f"{block}\n\n"
        f"{day}, {machine()}; {spec.services:,} Services.\n\n"
        f"```\n{text}\n```\n"
    )
    README.write_text(table.replaced(README.read_text(), block))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _too_long(*_: object) -> None:
    raise AssertionError(f"it took longer than {LONGEST_S} s")


if __name__ == "__main__":
    sys.exit(main())

"""The budgets, row by row, beside what was measured: met, missed, or not measured and why.

    python -m benchmarks.budgets [--from FOLDER] [--publish]

Reads the records that the benchmarks have left (benchmarks/results/; --from .run/bench for what was measured last and
not published), so every figure is one that a command made. A row whose record or figure is missing says which command
makes it. --publish writes the table into benchmarks/README.md. Exit code 0 whatever is missed: it is a report.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import RESULTS, markdown, publish_text

Record = Mapping[str, Any]
HEAD = ["what", "budget", "measured", "", "from"]
COMMANDS = {
    "peers": "make bench",
    "plane": "python -m benchmarks.plane",
    "life": "python -m benchmarks.life",
    "change": "python -m benchmarks.change",
    "control_plane": "python -m benchmarks.control_plane",
    "fleet": "python -m benchmarks.fleet",
}
"""Record → what makes it."""
SERVICES = 10_000
LARGE_ENDPOINTS = 100_000
"""Sizes that the budgets are about: figures of a smaller cluster are not taken for them."""


class Budget(NamedTuple):
    """One row.

    Attributes:
        what: is measured.
        limit: what it may be.
        unit: of both.
        record: the figure is in.
        figure: takes it out; None or a LookupError: it is not there.
        at_least: the limit is the least, not the most.
        why_not: reason why nothing measures it yet; empty: `record`'s command does.
    """

    what: str
    limit: float
    unit: str
    record: str
    figure: Callable[[Record], float | None]
    at_least: bool = False
    why_not: str = ""


def _peers(server: str, load: str, key: str) -> Callable[[Record], float | None]:
    def figure(record: Record) -> float | None:
        found: float | None = record["summary"][server]["loads"][load].get(key)
        return found if record["cluster"]["services"] >= SERVICES else None

    return figure


def _figure(*path: str) -> Callable[[Record], float | None]:
    def figure(record: Record) -> float | None:
        found: Any = record["figures"]
        for word in path:
            found = found[word]
        return None if found is None else float(found)

    return figure


def _relist(source: str, place: str, key: str = "x_idle_p999") -> Callable[[Record], float | None]:
    figure = _figure("relist", "source", source, "compiled", place, key)
    return lambda record: figure(record) if record["options"]["services"] >= SERVICES else None


def _change(key: str) -> Callable[[Record], float | None]:
    def figure(record: Record) -> float | None:
        figures = record["figures"]
        is_whole = figures["services"] >= SERVICES and figures["endpoints"] >= LARGE_ENDPOINTS
        return float(figures[key]) if is_whole else None

    return figure


def _life(key: str, *, large: bool) -> Callable[[Record], float | None]:
    def figure(record: Record) -> float | None:
        lives = [life for life in record["lives"] if (life["endpoints"] > LARGE_ENDPOINTS) == large]
        return lives[0][key] if lives and lives[0]["services"] >= SERVICES else None

    return figure


def _beside_coredns(key: str, *, is_ratio: bool) -> Callable[[Record], float | None]:
    def figure(record: Record) -> float | None:
        if record["options"]["services"] < SERVICES:
            return None
        found = record["figures"][key]
        return found["nodens"] / found["coredns"] if is_ratio else found["nodens"]

    return figure


def _requests_per_node_and_hour(record: Record) -> float | None:
    found = [
        runs["steady"]["requests"] / int(name.rpartition(" ")[2]) / record["steady_hours"]
        for name, runs in record["runs"].items()
        if name.startswith("nodens ")
    ]
    return max(found) if found else None


_FORWARDER = "nothing forwards yet"

BUDGETS = (
    Budget("hit, compiled, saturated: user CPU", 0.7, "µs", "peers", _peers("nodens", "hit", "user_us")),
    Budget("… realistic mix", 0.7, "µs", "peers", _peers("nodens", "mix", "user_us")),
    Budget("hit, compiled: total CPU against the bare echo", 1.15, "×", "peers", _peers("nodens", "hit", "x_echo")),
    Budget("… realistic mix", 1.15, "×", "peers", _peers("nodens", "mix", "x_echo")),
    Budget("hit, compiled: against node-cache", 0.25, "×", "peers", _peers("nodens", "hit", "x_node_cache")),
    Budget("… realistic mix", 0.25, "×", "peers", _peers("nodens", "mix", "x_node_cache")),
    Budget("… hit at 20,000 queries/s", 0.4, "×", "peers", _peers("nodens", "hit@20000", "x_node_cache")),
    Budget("hit, compiled: against Knot", 1.0, "×", "peers", _peers("nodens", "hit", "x_knot")),
    Budget("… realistic mix", 1.0, "×", "peers", _peers("nodens", "mix", "x_knot")),
    Budget("hit, pure Python: against node-cache", 0.5, "×", "peers", _peers("nodens-pure", "hit", "x_node_cache")),
    Budget("… realistic mix", 0.5, "×", "peers", _peers("nodens-pure", "mix", "x_node_cache")),
    Budget(
        "two UDP workers: capacity of one", 1.7, "×", "plane", _figure("workers", "compiled", "x_capacity"),
        at_least=True,
    ),
    Budget(
        "p99.9 of hits, compiled, while 10,000 Services are relisted, against idle: file, all on one core", 2.0, "×",
        "plane", _relist("file", "alone"),
    ),
    Budget("… file, on all cores", 2.0, "×", "plane", _relist("file", "spread")),
    Budget("… API server, all on one core", 2.0, "×", "plane", _relist("api", "alone")),
    Budget("… API server, on all cores", 2.0, "×", "plane", _relist("api", "spread")),
    Budget("exec → first right answer, 10,000 Services", 250, "ms", "life", _life("start_wall_ms", large=False)),
    Budget("… + 150,000 endpoints", 500, "ms", "life", _life("start_wall_ms", large=True)),
    Budget("snapshot load inside that", 50, "ms", "life", _life("restore_ms", large=False)),
    Budget("… + 150,000 endpoints", 150, "ms", "life", _life("restore_ms", large=True)),
    Budget("event read → changed answer, p50", 1.5, "ms", "change", _change("event_p50_ms")),
    Budget("… p99", 5, "ms", "change", _change("event_p99_ms")),
    Budget("… a burst of 1,000 changes", 250, "ms", "change", _change("burst_ms")),
    Budget(
        "PATCH sent → changed answer: beyond CoreDNS's", 1, "ms", "control_plane",
        _beside_coredns("nodens minus CoreDNS, same PATCH, median", is_ratio=False),
    ),
    Budget("10,000 Services + 150,000 endpoints, JSON → serving", 5, "s", "life", _life("bulk_wall_s", large=True)),
    Budget("RSS from a file, 10,000 Services", 64, "MiB", "life", _life("rss_bulk_mib", large=False)),
    Budget("… + 150,000 endpoints", 160, "MiB", "life", _life("rss_bulk_mib", large=True)),
    Budget(
        "RSS, Kubernetes source, 10,000 Services + 20,000 endpoints", 80, "MiB", "plane",
        _relist("api", "alone", "rss_mib"),
    ),
    Budget("forwarded miss: CPU", 60, "µs", "", lambda _: None, why_not=_FORWARDER),
    Budget(
        "a full sync: CPU of the API server against CoreDNS's", 0.85, "×", "control_plane",
        _beside_coredns("full sync: API server CPU", is_ratio=True),
    ),
    Budget("… bytes", 0.15, "×", "control_plane", _beside_coredns("full sync: bytes", is_ratio=True)),
    Budget(
        "API server back → following again", 5, "s", "control_plane",
        _beside_coredns("API server ready again to following (30.0 s outage)", is_ratio=False),
    ),
    Budget("API requests a node and hour, steady", 20, "", "fleet", _requests_per_node_and_hour),
)  # fmt: skip


def row(budget: Budget, records: Mapping[str, Record]) -> list[str]:
    """Return one row as words."""
    limit = f"{'≥' if budget.at_least else '≤'} {budget.limit:g} {budget.unit}".strip()
    if budget.why_not:
        return [budget.what, limit, "–", "not measured", budget.why_not]
    record = records.get(budget.record)
    value = None
    if record is not None:
        try:
            value = budget.figure(record)
        except (LookupError, TypeError, AttributeError, ZeroDivisionError):
            value = None
    if record is None or value is None:
        return [budget.what, limit, "–", "not measured", f"`{COMMANDS[budget.record]}`"]
    is_met = value >= budget.limit if budget.at_least else value <= budget.limit
    digits = 0 if value >= 100 else 1 if value >= 20 else 2
    measured = f"{value:.{digits}f} {budget.unit}".strip()
    source = ", ".join(filter(None, (budget.record, record.get("date", ""), record.get("plane", ""), _runs(record))))
    return [budget.what, limit, measured, "met" if is_met else "**missed**", source]


def _runs(record: Record) -> str:
    runs = record.get("options", {}).get("runs")
    return f"{runs} run{'' if runs == 1 else 's'}" if isinstance(runs, int) else ""


def rows(records: Mapping[str, Record], of: str = "") -> Iterator[list[str]]:
    """Give all rows, or those of one record."""
    for budget in BUDGETS:
        if not of or budget.record == of:
            yield row(budget, records)


def text(records: Mapping[str, Record], of: str = "") -> str:
    """Return the table."""
    return markdown(HEAD, list(rows(records, of)), "lrrll")


def read(folder: Path) -> dict[str, Record]:
    """Read what records a folder has; one that is damaged counts as missing, and that is said."""
    found: dict[str, Record] = {}
    for name in COMMANDS:
        path = folder / f"{name}.json"
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            print(f"nodens: {path} is left out: {error}", file=sys.stderr)
            continue
        if isinstance(value, dict):
            found[name] = value
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    head, _, rest = (__doc__ or "").partition("\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks.budgets", description=head, epilog=rest, formatter_class=raw)
    parser.add_argument("--from", dest="folder", type=Path, default=RESULTS, metavar="FOLDER", help="(%(default)s)")
    parser.add_argument("--publish", action="store_true", help="put the table into benchmarks/README.md")
    options = parser.parse_args(argv)
    table = text(read(options.folder))
    print(table)
    if options.publish:
        publish_text("budgets", table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

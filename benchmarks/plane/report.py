"""What was seen beside disturbances, for people.

Law: pure.
"""

from __future__ import annotations

from typing import Any

from benchmarks.measure import markdown, where

Figures = dict[str, Any]


def told_us(value: float | None) -> str:
    """Write a latency."""
    return "–" if value is None else f"{value:,.0f} µs"


def rows(figures: Figures) -> list[list[str]]:
    """Return what was seen as rows of words."""
    out = []

    def row(what: str, plane: str, place: str, found: Figures) -> None:
        idle, disturbed = found["idle"], found["disturbed"]
        ratio = "–" if found["x_idle_p999"] is None else f"{found['x_idle_p999']:.2f}"
        cells = [told_us(window[word]) for window in (idle, disturbed) for word in ("p50_us", "p999_us")]
        lost = f"{disturbed['lost']:.2%}".replace("%", " %") if disturbed["lost"] else "0"
        out.append([what, plane, place, *cells, ratio, told_us(disturbed["max_us"]), lost])

    if "echo" in figures:
        row("nothing, twice", "bare echo", "alone", figures["echo"])
    for source, planes in figures.get("relist", {}).get("source", {}).items():
        for plane, places in planes.items():
            for place, found in places.items():
                row(f"relist from {source}, {found['relist_s']:.1f} s", plane, place, found)
    for kind in ("busy", "held", "decode"):
        for plane, places in figures.get("blocked", {}).get(kind, {}).items():
            for place, found in places.items():
                row(f"loop {kind}, {found['blocked_s']:.2f} s", plane, place, found)
    for plane, places in figures.get("scrape", {}).items():
        row("ten scrapes a second", plane, "alone", places["alone"])
    return out


def table(record: Figures) -> str:
    """Return the record as Markdown."""
    figures = record["figures"]
    head = ["meanwhile", "plane", "cores", "idle: p50", "p99.9", "meanwhile: p50", "p99.9", "× idle", "max", "lost"]
    options = record["options"]
    head_line = (
        f"{where(record)}. {options['services']:,} Services; {options['qps']:,} hits a second; "
        f"{options['runs']} runs, medians."
    )
    parts = [head_line, markdown(head, rows(figures), "lll" + "r" * 7)]
    notes = []
    for source, planes in figures.get("relist", {}).get("source", {}).items():
        told = ", ".join(
            f"{plane} {places['alone']['rss_mib']:.0f}" for plane, places in planes.items() if "alone" in places
        )
        notes.append(f"- RSS in MiB, following the {source}, before any relist: {told}.")
    for plane, places in figures.get("scrape", {}).items():
        found = places["alone"]
        notes.append(
            f"- A scrape, {plane}: {found['cpu_ms']:.1f} ms of CPU, {found['wall_p50_ms']:.1f} ms until it is read "
            f"(at most {found['wall_max_ms']:.1f}), {found['bytes']:,} bytes."
        )
    for plane, found in figures.get("workers", {}).items():
        notes.append(f"- Two UDP workers, {plane}: {found['x_capacity']:.2f} × the capacity of one, {found['how']}.")
    notes += [f"- {part}: {reason}." for part, reason in record.get("failed", {}).items()]
    return "\n\n".join(filter(None, [*parts, "\n".join(notes)]))

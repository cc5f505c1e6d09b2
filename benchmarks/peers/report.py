"""What a campaign found: medians, ratios, a table for people.

Law: pure. A ratio is taken inside a run, between two servers measured minutes apart; of the runs' ratios the median is
shown. Absolute figures are medians too, and belong to one machine.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.measure import markdown, where

REFERENCES = (("echo", "x_echo"), ("node-cache", "x_node_cache"), ("knot", "x_knot"))
_FIGURES = ("qps", "p50_us", "p99_us", "p999_us", "late_p999_us")

Results = Sequence[dict[str, Any]]
Row = dict[str, Any]


def summary(results: Results) -> dict[str, Row]:
    """Return for each server its medians by load, ratios to the references, memory, and share of lost queries."""
    by_run = {(result["server"], result["run"]): result for result in results}
    out: dict[str, Row] = {}
    for name in dict.fromkeys(result["server"] for result in results):
        own = [result for result in results if result["server"] == name]
        loads = {load: _load([result["loads"][load] for result in own]) for load in own[0]["loads"]}
        for load, row in loads.items():
            for reference, key in REFERENCES:
                ratios = [
                    result["loads"][load]["total_us"] / other["loads"][load]["total_us"]
                    for result in own
                    if (other := by_run.get((reference, result["run"]))) is not None
                ]
                if ratios:
                    row[key] = statistics.median(ratios)
        out[name] = {"memory_mib": statistics.median(result["memory_mib"] for result in own), "loads": loads}
    return out


def _load(found: Sequence[dict[str, Any]]) -> Row:
    # The kernel splits time by sampling at its tick: the share is that of all runs, so that parts add up.
    total_us = statistics.median(float(each["total_us"]) for each in found)
    share = sum(each["user_us"] for each in found) / (sum(each["total_us"] for each in found) or 1.0)
    row: Row = {"user_us": total_us * share, "system_us": total_us * (1 - share), "total_us": total_us}
    for key in _FIGURES:
        values = [each[key] for each in found if each.get(key) is not None]
        if values:
            row[key] = statistics.median(values)
    row["lost"] = sum(each["lost"] for each in found) / max(1, sum(each["sent"] for each in found))
    row["others"] = max(each["others"] for each in found)
    return row


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None or value != value else f"{value:,.{digits}f}"  # noqa: PLR0124 -- not a number


def _share(lost: float) -> str:
    return "0" if lost == 0 else "<0.01 %" if lost < 0.0001 else f"{lost:.2%}".replace("%", " %")


def tables(record: dict[str, Any]) -> str:
    """Return the record as Markdown: processor time, then throughput and latency, then what is missing or wrong."""
    labels = {server["name"]: server["label"] for server in record["servers"]}
    found, fixed = record["summary"], record["options"]["fixed_qps"]

    def cost(load: str, key: str = "total_us", digits: int = 2) -> Callable[[Row], str]:
        return lambda row: _number(row["loads"].get(load, {}).get(key), digits)

    fixed_k = f"{fixed // 1000}k/s"

    def rows(columns: Sequence[Callable[[Row], str]]) -> list[list[str]]:
        return [[labels[name], *(column(found[name]) for column in columns)] for name in labels if name in found]

    processor = markdown(
        ["CPU µs/query", "hit: user", "system", "total", "× echo", "× Knot", "× node-cache", "mix", "× node-cache",
         "zipf", "× node-cache", f"hit at {fixed_k}", "× node-cache", "RSS MiB"],
        rows([
            cost("hit", "user_us"), cost("hit", "system_us"), cost("hit"), cost("hit", "x_echo"),
            cost("hit", "x_knot"), cost("hit", "x_node_cache"), cost("mix"), cost("mix", "x_node_cache"),
            cost("zipf"), cost("zipf", "x_node_cache"), cost(f"hit@{fixed}", digits=1),
            cost(f"hit@{fixed}", "x_node_cache"), lambda row: _number(row["memory_mib"], 0),
        ]),
    )  # fmt: skip
    latency = [cost(f"{mix}@{fixed}", key, 0) for mix in ("hit", "mix") for key in ("p50_us", "p99_us", "p999_us")]
    throughput = markdown(
        ["queries/s, latency µs", "hit q/s", "mix q/s", "zipf q/s", f"hit at {fixed_k}: p50", "p99", "p99.9",
         f"mix at {fixed_k}: p50", "p99", "p99.9", "asker late p99.9", "lost, saturated", f"lost, {fixed_k}"],
        rows([
            *(cost(load, "qps", 0) for load in ("hit", "mix", "zipf")), *latency,
            cost(f"hit@{fixed}", "late_p999_us", 0),
            *(lambda row, load=load: _share(row["loads"][load]["lost"]) for load in ("hit", f"hit@{fixed}")),
        ]),
    )  # fmt: skip
    return "\n\n".join([processor, throughput, "\n".join(_remarks(record))])


def _remarks(record: dict[str, Any]) -> list[str]:
    out = []
    for server in record["servers"]:
        label = server["label"].replace("**", "")
        if server.get("failed"):
            out.append(f"- {label}: {server['failed']}.")
        if server["missing"]:
            out.append(f"- {label}: not measured, {server['missing']}.")
            continue
        if server["note"]:
            out.append(f"- {label}: {server['note']}.")
    for result in record["runs"]:
        checked = result.get("checked")
        if checked and checked["wrong"]:
            told = "; ".join(checked["told"])
            out.append(f"- {result['server']}: {checked['wrong']} of {checked['asked']} answers wrong: {told}.")
    checked = [result["checked"] for result in record["runs"] if "checked" in result]
    if checked:
        least = min(each["asked"] for each in checked)
        right = sum(not each["wrong"] for each in checked)
        out.append(f"- Right answers to {least} questions asked by hand first: {right} of {len(checked)} servers.")
    others = [load["others"] for result in record["runs"] for load in result["loads"].values()]
    if others:
        told = f"{statistics.median(others):.0%} of the server's core in the median load, {max(others):.0%} at most"
        out.append(f"- The machine's other users took {told.replace('%', ' %')}.")
    return out


def heading(record: dict[str, Any]) -> str:
    """Return where, when and on what it was measured, in a paragraph."""
    machine, options, cluster = record["machine"], record["options"], record["cluster"]
    pinning = (
        f"server on core {machine['server_core']}, load on core {machine['load_core']}"
        if machine["load_core"] is not None
        else "**one core only: server and load share it, figures of different machines can't be compared**"
    )
    return (
        f"{where(record)}. {cluster['services']:,} Services, {cluster['endpoints']:,} endpoints, "
        f"{cluster['records']:,} records; {pinning}; {options['runs']} run{'' if options['runs'] == 1 else 's'} of "
        f"{options['seconds']:g} s a load in turn, medians."
    )

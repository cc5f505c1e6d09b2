"""What a campaign found: medians, ratios, a table for people.

Law: pure. A ratio is taken inside a run, between two servers measured minutes apart; of the runs' ratios the median is
shown. Absolute figures are medians too, and belong to one machine.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

REFERENCES = (("echo", "x_echo"), ("node-cache", "x_node_cache"))
BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
_FIGURES = ("user_us", "system_us", "total_us", "qps", "reply_bytes", "p50_ms", "p99_ms", "p999_ms")

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
    row = {key: statistics.median(each[key] for each in found) for key in _FIGURES if key in found[0]}
    row["lost"] = sum(each["lost"] for each in found) / max(1, sum(each["sent"] for each in found))
    row["others"] = max(each["others"] for each in found)
    return row


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None or value != value else f"{value:,.{digits}f}"  # noqa: PLR0124 -- not a number


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _share(lost: float) -> str:
    return "0" if lost == 0 else "<0.01 %" if lost < 0.0001 else f"{lost:.2%}".replace("%", " %")


def tables(record: dict[str, Any]) -> str:
    """Return the record as Markdown: processor time, then throughput and latency, then what is missing or wrong."""
    labels = {server["name"]: server["label"] for server in record["servers"]}
    found, fixed = record["summary"], record["options"]["fixed_qps"]

    def cost(load: str, key: str = "total_us", digits: int = 2) -> Callable[[Row], str]:
        return lambda row: _number(row["loads"].get(load, {}).get(key), digits)

    def rows(columns: Sequence[Callable[[Row], str]]) -> list[list[str]]:
        return [[labels[name], *(column(found[name]) for column in columns)] for name in labels if name in found]

    processor = _markdown(
        ["CPU µs/query", "hit: user", "system", "total", "× echo", "× node-cache", "mix", "× node-cache", "zipf",
         "× node-cache", f"hit at {fixed // 1000}k/s", "× node-cache", "RSS MiB"],
        rows([
            cost("hit", "user_us"), cost("hit", "system_us"), cost("hit"), cost("hit", "x_echo"),
            cost("hit", "x_node_cache"), cost("mix"), cost("mix", "x_node_cache"), cost("zipf"),
            cost("zipf", "x_node_cache"), cost(f"hit@{fixed}", digits=1), cost(f"hit@{fixed}", "x_node_cache"),
            lambda row: _number(row["memory_mib"], 0),
        ]),
    )  # fmt: skip
    latency = [
        cost(load, key, 2 if key == "p50_ms" else 1)
        for load in (f"hit@{fixed}", "hit-latency")
        for key in ("p50_ms", "p99_ms", "p999_ms")
    ]
    throughput = _markdown(
        ["queries/s, latency ms", "hit q/s", "mix q/s", "zipf q/s", f"{fixed // 1000}k/s: p50", "p99", "p99.9",
         "saturated: p50", "p99", "p99.9", "lost, saturated", f"lost, {fixed // 1000}k/s"],
        rows([
            *(cost(load, "qps", 0) for load in ("hit", "mix", "zipf")), *latency,
            *(lambda row, load=load: _share(row["loads"][load]["lost"]) for load in ("hit", f"hit@{fixed}")),
        ]),
    )  # fmt: skip
    return "\n\n".join([processor, throughput, "\n".join(_remarks(record))])


def _remarks(record: dict[str, Any]) -> list[str]:
    out = []
    for server in record["servers"]:
        label = server["label"].replace("**", "")
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
    worst = max((load["others"] for result in record["runs"] for load in result["loads"].values()), default=0.0)
    out.append(f"- Others used at most {worst:.0%} of the server's core during a load that counts.".replace("%", " %"))
    return out


def heading(record: dict[str, Any]) -> str:
    """Return where, when and on what it was measured, in a paragraph."""
    machine, options, cluster = record["machine"], record["options"], record["cluster"]
    load = ", ".join(f"{number:.1f}" for number in record["load_average_before"])
    pinning = (
        f"server on core {machine['server_core']}, dnsperf on core {machine['load_core']}"
        if machine["load_core"] is not None
        else "**one core only: server and dnsperf share it, figures of different machines can't be compared**"
    )
    return (
        f"{record['date']}, {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, "
        f"Python {machine['python']}; load average before: {load}. "
        f"{cluster['services']:,} Services, {cluster['endpoints']:,} endpoints, {cluster['records']:,} records; "
        f"{pinning}; {options['runs']} runs of {options['seconds']:g} s a load in turn, medians."
    )


def into_page(page: str, text: str) -> str:
    """Return a page with the text between its marks replaced.

    Raises:
        ValueError: the page has no such marks.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} and {END} to write between")
    return f"{head}{begin}\n{text}\n{end}{tail}"

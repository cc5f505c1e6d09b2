"""The page for people: state, age, source, counters, in one look.

Law: one self-contained document without scripts or outside resources; every value is escaped. It reloads itself.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterable, Mapping
from html import escape

from agent.observe.http import DEFAULT_POLICY
from agent.observe.notes import Note, headline, notes
from agent.observe.status import Status
from agent.observe.words import access_in_words, age, amount, count

REFRESH_S = 5
_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--dim:#667085;--paper:#f6f7f9;--card:#fff;--line:#e3e6eb;--good:#1a7f4b;
--warn:#b25e09;--bad:#c02b2b}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--dim:#98a2b3;--paper:#12161c;--card:#1b212a;--line:#2c343f;
--good:#4cc38a;--warn:#f0a04b;--bad:#ff7b72}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:72rem;margin:0 auto;padding:1.5rem 1rem 3rem}
h1{font-size:1.05rem;margin:0;font-weight:600}
header{display:flex;justify-content:space-between;gap:1rem;flex-wrap:wrap;color:var(--dim);margin-bottom:1rem}
header h1{color:var(--ink)}
.state{background:var(--card);border:1px solid var(--line);border-left:.5rem solid var(--dim);border-radius:.5rem;
padding:1rem 1.25rem;margin-bottom:1rem}
.state strong{font-size:1.6rem;line-height:1.2;display:block}
.state p{margin:.25rem 0 0;color:var(--dim)}
.good{border-left-color:var(--good)}.good strong{color:var(--good)}
.warn{border-left-color:var(--warn)}.warn strong{color:var(--warn)}
.bad{border-left-color:var(--bad)}.bad strong{color:var(--bad)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(20rem,1fr));gap:1rem}
section{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:1rem 1.25rem}
h2{font-size:.8rem;text-transform:uppercase;letter-spacing:.06em;color:var(--dim);margin:0 0 .5rem}
dl{display:grid;grid-template-columns:auto 1fr;gap:.15rem 1rem;margin:0}
dt{color:var(--dim)}dd{margin:0;text-align:right;font-variant-numeric:tabular-nums;overflow-wrap:break-word;min-width:0}
.wide{grid-column:1/-1}.wide dd{text-align:left}.note{border-left:.5rem solid var(--line)}
.note.warn{border-left-color:var(--warn)}.note.bad{border-left-color:var(--bad)}
footer{margin-top:1rem;color:var(--dim)}a{color:inherit}
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = f"{DEFAULT_POLICY}; style-src 'sha256-{_HASH}'"
Rows = Iterable[tuple[str, object]]


def render(status: Status) -> str:
    """Write the page for a status."""
    process, traffic, snapshot = status.process, status.traffic, status.snapshot
    others = notes(status)
    first = headline(status, others)
    remedy = f"<p>Do: {escape(first.do)}</p>" if first.do else ""
    cards = [
        *([_card("To know", map(_note_row, others), f"wide note {others[0].severity}")] if others else ()),
        _card("Source", _source_rows(status)),
        _card("Snapshot", _snapshot_rows(status)),
        _card("Queries", [
            ("rate", f"{traffic.queries_per_s:,.1f} / s"),
            *_counts(traffic.queries),
            *((f"{name} answers", count(value)) for name, value in traffic.answers.items()),
            ("TCP connections", count(traffic.tcp_connections)),
        ]),
        _card("Responses", [*_counts(traffic.responses), *_counts(traffic.dropped, "dropped: ")]),
        _card("Process", [
            ("uptime", age(process.uptime_s)),
            ("answered after", f"{process.first_answer_s * 1000:,.0f} ms"),
            ("listens on", ", ".join(process.listen)),
            ("zones", ", ".join(process.zones)),
            ("data plane", process.wire),
            ("loop lag", f"{process.loop_lag_s * 1000:.1f} ms"),
        ]),
    ]  # fmt: skip
    if snapshot.skipped:
        rows = [(f"{each.kind} {each.name}", each.reason) for each in snapshot.skipped[-10:]]
        cards.append(_card("Objects skipped last", rows, "wide"))
    return (
        "<!doctype html>"
        f'<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{REFRESH_S}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(first.title)} · nodens {escape(process.identity)}</title>"
        f"<style>{_STYLE}</style></head><body><main>"
        f"<header><h1>nodens · {escape(process.identity)}</h1>"
        f"<span>{escape(process.version)} · {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())}</span></header>"
        f'<div class="state {first.severity}"><strong>{escape(first.title)}</strong>'
        f"{escape(first.sentence)}{remedy}</div>"
        f'<div class="cards">{"".join(cards)}</div>'
        '<footer><a href="status">status</a> · <a href="metrics">metrics</a> · <a href="readyz">readyz</a></footer>'
        "</main></body></html>"
    )


def _source_rows(status: Status) -> Rows:
    source = status.source
    yield "kind", source.name or "none"
    yield "state", "followed" if source.connected else source.note or "not followed"
    yield "last confirmed", _ago(source.last_success_unix_s)
    if source.cluster:
        yield "cluster", source.cluster
    if source.name == "kubernetes":
        yield "API requests, last hour", f"{count(source.api_requests_last_hour)}{access_in_words(source)}"


def _snapshot_rows(status: Status) -> Rows:
    snapshot = status.snapshot
    yield "generation", count(snapshot.generation)
    yield "names", count(snapshot.records)
    yield from _counts(snapshot.objects)
    for kind, skipped in snapshot.skipped_total.items():
        if skipped:
            yield f"{kind} skipped", count(skipped)
    yield "on disk", amount(snapshot.disk_bytes)
    yield "written", _ago(snapshot.written_unix_s)
    yield "journal", amount(snapshot.journal_bytes)


def _note_row(note: Note) -> tuple[str, object]:
    return note.title, str(note)


def _card(title: str, rows: Rows, style: str = "") -> str:
    inner = "".join(f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in rows)
    return f'<section class="{style}"><h2>{escape(title)}</h2><dl>{inner}</dl></section>'


def _counts(values: Mapping[str, int], prefix: str = "") -> Rows:
    return ((prefix + name, count(value)) for name, value in values.items())


def _ago(unix_s: float) -> str:
    return f"{age(time.time() - unix_s)} ago" if unix_s else "never"

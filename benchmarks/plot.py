"""Bars as SVG, with nothing but text: what a page on a forge shows, in light and dark.

Law: pure; the same figures give the same octets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

ROW_PX, BAR_PX, LABEL_PX, CHART_PX, VALUE_PX, HEAD_PX = 26, 16, 250, 400, 120, 52
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 14px }
.note { fill: #57606a; font-size: 12px }
.first { fill: #2f6fb2 } .second { fill: #a9c8e8 } .own.first { fill: #c2571a } .own.second { fill: #f0b58c }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .note { fill: #9198a1 } }
""".strip()


class Bar(NamedTuple):
    """One row: two parts that add up; `own` rows stand out."""

    label: str
    first: float
    second: float
    own: bool = False


class Chart(NamedTuple):
    """Bars under a title."""

    title: str
    bars: Sequence[Bar]


def svg(charts: Sequence[Chart], first: str, second: str, unit: str) -> str:
    """Draw charts below each other, each with a scale of its own.

    Args:
        charts: what to draw; empty ones are left out.
        first: what the bars' first part is.
        second: what the second part is.
        unit: of both.
    """
    charts = [chart for chart in charts if chart.bars]
    width = LABEL_PX + CHART_PX + VALUE_PX
    height = sum(HEAD_PX + ROW_PX * len(chart.bars) for chart in charts) + 16
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><style>{_STYLE}</style>']
    top = 0
    for chart in charts:
        out += _chart(chart, top, f"{first} (dark) + {second} (light), {unit}")
        top += HEAD_PX + ROW_PX * len(chart.bars)
    return "\n".join([*out, "</svg>", ""])


def _chart(chart: Chart, top: int, legend: str) -> list[str]:
    scale = CHART_PX / (max(bar.first + bar.second for bar in chart.bars) or 1.0)
    out = [
        f'<text class="title" x="8" y="{top + 22}">{escape(chart.title)}</text>',
        f'<text class="note" x="8" y="{top + 39}">{escape(legend)}</text>',
    ]
    for number, bar in enumerate(chart.bars):
        y = top + HEAD_PX + number * ROW_PX
        own = " own" if bar.own else ""
        first_px, second_px = bar.first * scale, bar.second * scale
        value = f"{bar.first + bar.second:.2f} ({bar.first:.2f} + {bar.second:.2f})"
        out += [
            f'<text x="{LABEL_PX - 8}" y="{y + 13}" text-anchor="end">{escape(bar.label)}</text>',
            _rect(f"first{own}", LABEL_PX, y, first_px),
            _rect(f"second{own}", LABEL_PX + first_px, y, second_px),
            f'<text x="{LABEL_PX + first_px + second_px + 6:.1f}" y="{y + 13}">{value}</text>',
        ]
    return out


def _rect(style: str, x: float, y: float, width: float) -> str:
    return f'<rect class="{style}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR_PX}"/>'

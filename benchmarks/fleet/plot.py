"""Lines over time as SVG, in the manner of benchmarks.plot.

Law: pure; the same figures give the same octets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

LEFT_PX, CHART_PX, RIGHT_PX, HEAD_PX, PANEL_PX, FOOT_PX = 70, 640, 20, 44, 170, 40
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 14px } .note { fill: #57606a; font-size: 12px }
.axis { stroke: #8c959f; stroke-width: 1 } path { fill: none; stroke-width: 1.6 }
.own { stroke: #c2571a } .peer { stroke: #2f6fb2 } rect.own { fill: #c2571a } rect.peer { fill: #2f6fb2 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .note { fill: #9198a1 } }
""".strip()


class Line(NamedTuple):
    """A value a second; `own` lines stand out."""

    label: str
    values: Sequence[float]
    own: bool = False


class Panel(NamedTuple):
    """Lines that share an axis."""

    title: str
    lines: Sequence[Line]


def svg(panels: Sequence[Panel], seconds: int) -> str:
    """Draw panels below each other, each with a scale of its own, from second 0 to `seconds`."""
    width = LEFT_PX + CHART_PX + RIGHT_PX
    height = len(panels) * (HEAD_PX + PANEL_PX + FOOT_PX)
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><style>{_STYLE}</style>']
    for number, panel in enumerate(panels):
        out += _panel(panel, number * (HEAD_PX + PANEL_PX + FOOT_PX), seconds)
    return "\n".join([*out, "</svg>", ""])


def _panel(panel: Panel, top: int, seconds: int) -> list[str]:
    highest = max([max(line.values[: seconds + 1], default=0.0) for line in panel.lines] + [1e-9])
    bottom = top + HEAD_PX + PANEL_PX
    out = [
        f'<text class="title" x="8" y="{top + 20}">{escape(panel.title)}</text>',
        f'<line class="axis" x1="{LEFT_PX}" y1="{bottom}" x2="{LEFT_PX + CHART_PX}" y2="{bottom}"/>',
        f'<line class="axis" x1="{LEFT_PX}" y1="{top + HEAD_PX}" x2="{LEFT_PX}" y2="{bottom}"/>',
        f'<text class="note" x="{LEFT_PX - 6}" y="{top + HEAD_PX + 5}" text-anchor="end">{highest:,.0f}</text>',
        f'<text class="note" x="{LEFT_PX - 6}" y="{bottom + 4}" text-anchor="end">0</text>',
    ]
    for tick in range(0, seconds + 1, max(1, seconds // 6)):
        x = LEFT_PX + CHART_PX * tick / seconds
        out.append(f'<text class="note" x="{x:.0f}" y="{bottom + 18}" text-anchor="middle">{tick} s</text>')
    for number, line in enumerate(panel.lines):
        style = "own" if line.own else "peer"
        points = [
            f"{LEFT_PX + CHART_PX * second / seconds:.1f},{bottom - PANEL_PX * value / highest:.1f}"
            for second, value in enumerate(line.values[: seconds + 1])
        ]
        x, y = LEFT_PX + CHART_PX - 190, top + HEAD_PX + 4 + 18 * number
        out += [
            f'<path class="{style}" d="M{" L".join(points)}"/>',
            f'<rect class="{style}" x="{x}" y="{y}" width="10" height="10"/>',
            f'<text class="note" x="{x + 16}" y="{y + 10}">{escape(line.label)}</text>',
        ]
    return out

"""What was measured, as a table for the terminal, for Markdown, and as a record for machines.

Law: pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.demo.columns import Column
from benchmarks.demo.story import AFTER, Reading, Recovery, Row, seconds

BEGIN, END = "<!-- demo: begin -->", "<!-- demo: end -->"
LEGEND = (
    "Right answers in %: names asked in the minute before / names never asked before."
    " Times count from when the API server was ready."
)


def cells(columns: Sequence[Column], rows: Sequence[Row], recovery: Sequence[Recovery]) -> list[list[str]]:
    """Give head and lines of the table."""
    lines = [["", *(column.short for column in columns)]]
    lines += [[row.label, *map(str, row.cells)] for row in rows if row.label != AFTER]
    lines.append(["API server back: right again", *(seconds(each.right_s) for each in recovery)])
    lines.append(["a Service created then is answered", *(seconds(each.follows_s) for each in recovery)])
    lines += [["and then, all names", *map(str, row.cells)] for row in rows if row.label == AFTER]
    lines.append(["wrong answers in all", *(f"{column.wrong} of {column.asked:,}" for column in columns)])
    return lines


def as_text(lines: Sequence[Sequence[str]]) -> list[str]:
    """Set the table for a terminal."""
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    set_ = ["  ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return [set_[0], "─" * len(set_[0]), *set_[1:]]


def as_markdown(lines: Sequence[Sequence[str]]) -> str:
    """Set the table for a document."""
    written = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([written[0], "|---" * len(lines[0]) + "|", *written[1:]])


def as_record(columns: Sequence[Column], rows: Sequence[Row], recovery: Sequence[Recovery]) -> dict[str, Any]:
    """Give everything for machines."""
    return {
        "columns": [column.name for column in columns],
        "rows": [{"label": row.label, "cells": [_record(cell) for cell in row.cells]} for row in rows],
        "recovery": [each._asdict() for each in recovery],
        "wrong": [column.wrong for column in columns],
        "asked": [column.asked for column in columns],
    }


def _record(cell: Reading) -> dict[str, Any]:
    return {"known": cell.known._asdict(), "new": cell.new._asdict()}


def replaced(document: str, block: str) -> str:
    """Put a block between the marks of a document.

    Raises:
        ValueError: the marks are not there.
    """
    head, begin, rest = document.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} … {END}")
    return f"{head}{BEGIN}\n{block}\n{END}{tail}"

"""How the value of an option is read: one small reader per type.

Law: pure; a reader takes what YAML, an environment variable or an argument gives (a number, a flag, text, a list)
and returns the value, or raises UnfitError whose text goes on from "OPTION ": "must be ...". Nothing is guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
Reader = Callable[[object], T]


class UnfitError(ValueError):
    """A value that an option can't take; the text goes on from the option's name."""


MAX_ITEMS = 256
"""Bound of every option that is a list."""
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_BYTES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_SIZE = re.compile(r"(\d+)\s*([KMG]i?B|B|)")
_TRUE = frozenset(("true", "yes", "on", "1"))
_FALSE = frozenset(("false", "no", "off", "0"))


def text(pattern: str = "", meaning: str = "text") -> Reader[str]:
    """Read text; with a pattern, text that matches it wholly (`meaning` says what that is)."""
    compiled = re.compile(pattern) if pattern else None

    def read(value: object) -> str:
        if not isinstance(value, str) or "\0" in value or (compiled and not compiled.fullmatch(value)):
            raise UnfitError(f"must be {meaning}, not {value!r}")
        return value

    return read


def whole(low: int, high: int) -> Reader[int]:
    """Read a whole number from `low` to `high`."""

    def read(value: object) -> int:
        number = int(value) if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value) else value
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            raise UnfitError(f"must be a whole number from {low} to {high}, not {value!r}")
        return number

    return read


def duration(low_s: float, high_s: float) -> Reader[float]:
    """Read seconds: a number, or text such as `200ms`, `5s`, `2m`, `1h30m`, `3d`."""

    def read(value: object) -> float:
        seconds = _seconds(value)
        if seconds is None:
            raise UnfitError(f"must be a duration such as 5s, 2m or 1h30m, not {value!r}")
        if not low_s <= seconds <= high_s:
            raise UnfitError(f"must be from {show(low_s)} to {show(high_s)}, not {value!r}")
        return seconds

    return read


def whole_seconds(low_s: int, high_s: int) -> Reader[int]:
    """Read a duration that goes on the wire, so whole seconds."""
    inner = duration(low_s, high_s)

    def read(value: object) -> int:
        seconds = inner(value)
        if seconds != int(seconds):
            raise UnfitError(f"must be whole seconds, not {value!r}")
        return int(seconds)

    return read


def size(low_bytes: int, high_bytes: int) -> Reader[int]:
    """Read bytes: a number, or text such as `64KiB`, `512MiB`, `1GiB`."""

    def read(value: object) -> int:
        match = _SIZE.fullmatch(str(value)) if isinstance(value, (int, str)) and value is not True else None
        amount = int(match[1]) * _BYTES[match[2]] if match else -1
        if amount < 0:
            raise UnfitError(f"must be a size such as 512MiB or 1GiB, not {value!r}")
        if not low_bytes <= amount <= high_bytes:
            raise UnfitError(f"must be from {show_bytes(low_bytes)} to {show_bytes(high_bytes)}, not {value!r}")
        return amount

    return read


def flag(value: object) -> bool:
    """Read true or false (also yes, no, on, off, 1, 0)."""
    if isinstance(value, bool):
        return value
    word = str(value).lower() if isinstance(value, (str, int)) else ""
    if word not in _TRUE | _FALSE:
        raise UnfitError(f"must be true or false, not {value!r}")
    return word in _TRUE


def choice(*words: str) -> Reader[str]:
    """Read one of some words."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise UnfitError(f"must be {' or '.join(words)}, not {value!r}")
        return value

    return read


def listed(item: Reader[T], *, least: int = 0) -> Reader[tuple[T, ...]]:
    """Read a list: of YAML, or text separated by commas (environment). Doubles are errors."""

    def read(value: object) -> tuple[T, ...]:
        parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple)):
            raise UnfitError(f"must be a list, not {value!r}")
        if not least <= len(parts) <= MAX_ITEMS:
            raise UnfitError(f"must have {least} to {MAX_ITEMS} entries, not {len(parts)}")
        out: list[T] = []
        for part in parts:
            got = item(part)
            if got in out:
                raise UnfitError(f"names {part!r} twice")
            out.append(got)
        return tuple(out)

    return read


def show(seconds: float) -> str:
    """Write a duration as a person would: 90 → `1m30s`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms" if seconds else "0s"
    left_s, out = seconds, ""
    for word in ("d", "h", "m"):
        count, left_s = divmod(left_s, _SECONDS[word])
        out += f"{int(count)}{word}" if count else ""
    return out + (f"{left_s:g}s" if left_s else "")


def show_bytes(amount: int) -> str:
    """Write a size as a person would: 1536 → `1.5 KiB`."""
    for word, unit in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if amount >= unit:
            return f"{amount / unit:.1f}".removesuffix(".0") + f" {word}"
    return f"{amount} B"


def _seconds(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value) if math.isfinite(value) else None
    if not isinstance(value, str):
        return None
    if re.fullmatch(r"\d{1,12}(\.\d{1,6})?", value):
        return float(value)
    if not _DURATION.fullmatch(value) or len(value) > 40:
        return None
    return math.fsum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value))

"""Numbers and states as people read them.

Law: pure text; the same words on the page and in `nodens status`.
"""

from __future__ import annotations

import time

from agent.observe.status import Quarantine, Source, Status


def age(seconds: float) -> str:
    """Write a time span with its two largest units: 1843 → `30m 43s`."""
    left_s = max(0, int(seconds))
    parts: list[str] = []
    for word, unit_s in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        amount_of, left_s = divmod(left_s, unit_s)
        if amount_of or (word == "s" and not parts):
            parts.append(f"{amount_of}{word}")
        elif parts:
            break
    return " ".join(parts[:2])


def moment(unix_s: float) -> str:
    """Write a wall time to the second: `2026-11-24T18:00:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))


def count(number: float) -> str:
    """Write a number with thousands set apart: `12,345`."""
    return f"{number:,.0f}"


def amount(size_bytes: int) -> str:
    """Write a size: 1536 → `1.5 KiB`."""
    for word, unit in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f} {word}"
    return f"{size_bytes} B"


def access_in_words(source: Source) -> str:
    """Say what may still be asked of the API servers, to be added to a count."""
    access = source.access
    return f", {count(access.budget_left)} of {count(access.budget_burst)} left at once" if access is not None else ""


def state_in_words(status: Status) -> tuple[str, str]:
    """Give a headline and what it means for queries."""
    old = age(status.age_s)
    pin = status.orders.pin
    if pin is not None and status.state == "stale":
        until = f"until {moment(pin.until_unix_s)}" if pin.until_unix_s else "until it is unpinned"
        return (
            f"Pinned to generation {pin.generation}",
            f"A person has ordered it, {until}; it was last confirmed {old} ago and is marked as stale (EDE 3).",
        )
    if status.state == "fresh" and status.source.connected:
        return "Fresh", "The source is being followed; answers are up to date."
    if status.state == "fresh":
        return "Fresh, source lost", f"Answering from the snapshot; the source last confirmed it {old} ago."
    if status.state == "stale":
        return f"Stale for {old}", "The source is lost. The last good state goes on answering, marked as stale (EDE 3)."
    if status.state == "expired":
        return f"Expired, {old} old", "Older than max_stale: own names are answered SERVFAIL."
    return "Not ready", "No valid snapshot yet: own names are answered SERVFAIL (EDE 14) until the source is read once."


def orders_in_words(status: Status) -> list[tuple[str, str]]:
    """Give what people have ordered: a word or two, and a sentence."""
    orders, pin = status.orders, status.orders.pin
    rows = []
    if pin is not None:
        until = moment(pin.until_unix_s) if pin.until_unix_s else "nodens snapshot unpin"
        rows.append(("pinned", f"generation {pin.generation} until {until}, by {pin.who}: {pin.reason}"))
    for each in orders.overrides:
        ends = f"{moment(each.until_unix_s)} ({age(each.left_s)} left)"
        rows.append(("override", f"{each.name} is {each.answers} until {ends}, by {each.who}: {each.reason}"))
    return rows


def held_in_words(held: Quarantine) -> str:
    """Say what is held, since when, when that ends by itself, and why."""
    ends = f"applied by itself at {moment(held.applied_unix_s)}" if held.applied_unix_s else "until somebody decides"
    objects = f"{count(held.objects)} object{'s' * (held.objects != 1)} held since {moment(held.since_unix_s)}, {ends}"
    unwritten = f"; quarantine.json can't be written: {held.problem}" if held.problem else ""
    return f"{objects}: it {'; it '.join(held.differences)}{unwritten}"

"""`nodens snapshot diff`: what changed from one state to another, in words.

Law: compares what a user would see (names and their records) and what it comes from (objects); bookkeeping, order and
empty non-terminals are no difference. What is cut from the output is counted.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from agent.cluster.objects import KINDS, SERVICE, Stored
from agent.commands.held import Held, load, state_dir_of
from agent.commands.manifests import facts
from agent.commands.presentation import Row, one_line, rows_of, to_json
from agent.errors import SnapshotError, WireError
from agent.observe.words import count
from agent.records.names import to_text
from agent.wire import node as nodes

EXIT_OK = 0
LIMIT = 40
MAX_NAMESPACES = 10
K = TypeVar("K")
V = TypeVar("V")


class Change(NamedTuple):
    """What one name or object lost and gained, in words."""

    lost: list[str]
    gained: list[str]


class Difference(NamedTuple):
    """Differences by name: added, removed (each with what stands or stood there) and changed."""

    added: dict[str, list[str]]
    removed: dict[str, list[str]]
    changed: dict[str, Change]

    def counts(self) -> str:
        """Count them in words."""
        parts = ((len(self.added), "added"), (len(self.removed), "removed"), (len(self.changed), "changed"))
        return ", ".join(f"{count(number)} {word}" for number, word in parts)

    def as_json(self) -> dict[str, Any]:
        """Give all of it for machines."""
        changed = {name: {"lost": change.lost, "gained": change.gained} for name, change in self.changed.items()}
        return {"added": self.added, "removed": self.removed, "changed": changed}


def run(args: argparse.Namespace) -> int:
    """Compare two states."""
    state_dir = state_dir_of(args)
    before, after = load(state_dir, args.before), load(state_dir, args.after)
    names = compare_names(before, after)
    old, new = before.objects(), after.objects()
    objects = {kind: compare_objects(_of_kind(old, kind), _of_kind(new, kind)) for kind in KINDS}
    if args.json:
        shown = {
            "before": _described(before),
            "after": _described(after),
            "names": names.as_json(),
            "objects": {kind: difference.as_json() for kind, difference in objects.items()},
        }
        print(to_json(shown))
        return EXIT_OK
    lines = [f"From {before.label} to {after.label}", *_options(before, after)]
    lines += [f"note: {note}" for held in (before, after) for note in held.notes]
    lines.append(f"names: {names.counts()} (of {count(_names(before))} before, {count(_names(after))} after)")
    lines += [f"{kind} objects: {difference.counts()}" for kind, difference in objects.items()]
    lines += _namespaces(old, objects[SERVICE])
    for kind, difference in objects.items():
        lines += _listed(f"{kind} objects", difference, args.limit)
    lines += _listed("names", names, args.limit)
    print("\n".join(one_line(line) for line in lines))
    return EXIT_OK


def compare_names(before: Held, after: Held) -> Difference:
    """Compare names by their records; what is the same in both is never held twice.

    Raises:
        SnapshotError: a node is damaged.
    """
    old = {key: node for key, node in before.names() if after.table.find(key) != node}
    new = {key: node for key, node in after.names() if before.table.find(key) != node}
    return _compare(old, new, _name_in_words, to_text)


def compare_objects(before: Mapping[str, Stored], after: Mapping[str, Stored]) -> Difference:
    """Compare the objects of one kind.

    Raises:
        SnapshotError: one can't be read.
    """
    return _compare(before, after, lambda _, stored: facts(stored), str)


def _compare(
    before: Mapping[K, V], after: Mapping[K, V], in_words: Callable[[K, V], list[str]], to_name: Callable[[K], str]
) -> Difference:
    found = Difference({}, {}, {})
    different = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    for key in sorted(different, key=to_name):
        old, new = before.get(key), after.get(key)
        # No words: a name without records, which is there for what is below it alone.
        lost = in_words(key, old) if old is not None else []
        gained = in_words(key, new) if new is not None else []
        _note(found, to_name(key), lost, gained)
    return found


def _note(found: Difference, name: str, lost: list[str], gained: list[str]) -> None:
    here, there = Counter(lost), Counter(gained)
    if gained and not lost:
        found.added[name] = gained
    elif lost and not gained:
        found.removed[name] = lost
    elif here != there:
        found.changed[name] = Change(sorted((here - there).elements()), sorted((there - here).elements()))


def _name_in_words(key: bytes, node: bytes) -> list[str]:
    return [f"{row.type} {row.value} (TTL {row.ttl_s})" for row in _readable(key, node)]


def _readable(key: bytes, node: bytes) -> list[Row]:
    try:
        return rows_of(key, node)
    except WireError as error:
        raise SnapshotError(error.message) from None


def _of_kind(objects: Mapping[tuple[str, str], Stored], kind: str) -> dict[str, Stored]:
    return {key: stored for (each, key), stored in objects.items() if each == kind}


def _names(held: Held) -> int:
    return sum(1 for _, node in held.names() if nodes.head(node)[1])


def _described(held: Held) -> dict[str, Any]:
    return {
        "where": held.where,
        "generation": held.number,
        "journal_changes": held.changes,
        "confirmed_unix_s": held.recovered.confirmed_unix_s,
        "cluster": held.recovered.identity,
        "notes": list(held.notes),
    }


def _options(before: Held, after: Held) -> list[str]:
    """Tell what else than objects differs: it changes names too."""
    out = []
    if before.recovered.identity != after.recovered.identity:
        out.append(
            f"ANOTHER CLUSTER: {before.recovered.identity or '?'} before, {after.recovered.identity or '?'} after"
        )
    old, new = (msgspec.structs.asdict(held.profile) for held in (before, after))
    out += [f"option {word}: {old[word]!r} before, {new[word]!r} after" for word in old if old[word] != new[word]]
    return out


def _namespaces(old: Mapping[tuple[str, str], Stored], services: Difference) -> list[str]:
    """Tell which namespaces lost most: what an outage looks like."""
    before = Counter(key.partition("/")[0] for kind, key in old if kind == SERVICE)
    lost = Counter(key.partition("/")[0] for key in services.removed)
    return [
        f"namespace {name} lost {count(number)} of {count(before[name])} Services ({number * 100 // before[name]} %)"
        for name, number in lost.most_common(MAX_NAMESPACES)
    ]


def _listed(title: str, found: Difference, limit: int) -> list[str]:
    """Write a part line by line: - what is gone, + what came, ~ what is different."""
    lines = [f"- {name}{_all(words)}" for name, words in found.removed.items()]
    lines += [f"+ {name}{_all(words)}" for name, words in found.added.items()]
    for name, (lost, gained) in found.changed.items():
        words = [*(f"-{word}" for word in lost), *(f"+{word}" for word in gained)]
        lines.append(f"~ {name}{_all(words)}")
    if not lines:
        return []
    left = len(lines) - limit if limit else 0
    more = [f"  … and {count(left)} more (--limit 0 shows all)"] if left > 0 else []
    return ["", f"{title}:", *(lines[:limit] if limit else lines), *more]


def _all(words: Iterable[str]) -> str:
    told = "; ".join(words)
    return f": {told}" if told else ""

"""What is held, in words: what would happen to answers if it were applied.

Law: pure; a sentence names numbers, the place where most of it is, and a few examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from agent.cluster.objects import ENDPOINT_SLICE, SERVICE
from agent.cluster.store import Store
from agent.snapshot.guard import ENDPOINTS, NAMES, NAMESPACE_NAMES, PROTECTED, Reason

if TYPE_CHECKING:
    from agent.snapshot.hold import Held

EXAMPLES = 3
"""Names in one sentence."""


def sentence(reason: Reason, weight: int, held: Mapping[tuple[str, str], Held], store: Store) -> str:
    """Say what the changes held for one broken rule would do.

    Args:
        reason: the rule.
        weight: how much is held for it.
        held: everything held.
        store: what answers.
    """
    rows = [(kind, key) for (kind, key), each in held.items() if each.reason == reason]
    share = 100 * weight // reason.base if reason.base else 0
    examples = _examples(rows, held, store)
    if reason.rule == NAMES:
        namespaces = Counter(key.partition("/")[0] for kind, key in rows if kind == SERVICE)
        where = "".join(
            f"; most of them in namespace {name} ({count} of its {store.names_in.get(name, count)})"
            for name, count in namespaces.most_common(1)
        )
        return f"would remove {share} % of all names ({weight} of {reason.base}){where}{examples}"
    if reason.rule == NAMESPACE_NAMES:
        return f"would remove {share} % of the names of namespace {reason.scope} ({weight} of {reason.base}){examples}"
    if reason.rule == ENDPOINTS:
        return f"would take away {share} % of all ready endpoints ({weight} of {reason.base}){examples}"
    if reason.rule == PROTECTED:
        what = "remove" if (SERVICE, reason.scope) in held else "take the last endpoint from"
        return f"would {what} the protected name {_name(reason.scope)}"
    return f"would add {weight} objects of kind {reason.scope} to the {reason.base} that there are{examples}"


def _examples(rows: list[tuple[str, str]], held: Mapping[tuple[str, str], Held], store: Store) -> str:
    names: dict[str, None] = {}
    for kind, key in rows:
        before = store.held(kind, key) or held[kind, key].stored
        owner = before.owner if before is not None and kind == ENDPOINT_SLICE else key
        names[_name(owner)] = None
        if len(names) == EXAMPLES:
            break
    return f", for example {', '.join(names)}" if names else ""


def _name(key: str) -> str:
    """Write a Service as people ask for it: `default/kubernetes` → `kubernetes.default`."""
    namespace, slash, name = key.partition("/")
    return f"{name}.{namespace}" if slash else namespace

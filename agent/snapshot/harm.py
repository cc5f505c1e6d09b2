"""What a change takes away, and which broken rule it falls under.

Law: functions of the store and the change; `put` alone changes anything. A change that takes nothing away is harmless,
whatever it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from agent.cluster.objects import (
    ENDPOINT_SLICE,
    NAMESPACE,
    SERVICE,
    Stored,
    unpack_service,
    unpack_slice,
)
from agent.cluster.outline import count_endpoints
from agent.cluster.store import Store
from agent.snapshot.guard import ENDPOINTS, NAMES, PROTECTED, SIZE, Reason

Harmful = dict[str, tuple[Stored | None, int]]
"""Key → the new version (None: gone) and how much it takes away."""


def harm(protected: Collection[str], store: Store, kind: str, key: str, new: Stored | None) -> int | None:
    """Weigh what a change takes away; None: nothing."""
    if kind == SERVICE:
        if new is None:
            return 1 if has(store, kind, key) else None
        is_blanked = key in protected and has(store, kind, key) and _is_blank(new)
        return 1 if is_blanked else None
    if kind == NAMESPACE:
        if new is not None or not has(store, kind, key):
            return None
        return store.names_in.get(key, 0) if store.needs_namespace else 0
    held = store.held(kind, key)
    if held is None or (new is not None and new.blob == held.blob):
        return None
    less = count_endpoints(held.blob) - (count_endpoints(new.blob) if new is not None else 0)
    return less if less > 0 else None


def emptied(protected: Collection[str], store: Store, kind: str, harmful: Harmful) -> list[Reason]:
    """Find protected Services that would go, or lose their last endpoint."""
    if kind == SERVICE:
        return [Reason(PROTECTED, key, 1, 0) for key in harmful if key in protected]
    if kind == NAMESPACE:
        return []
    losses: dict[str, int] = {}
    for key, (_, weight) in harmful.items():
        held = store.held(kind, key)
        if held is not None and held.owner in protected:
            losses[held.owner] = losses.get(held.owner, 0) + weight
    return [Reason(PROTECTED, owner, 1, 0) for owner, loss in losses.items() if loss >= _ready_of(store, owner)]


def is_about(protected: Collection[str], store: Store, kind: str, key: str) -> bool:
    """Tell whether an object is a protected Service, belongs to one, or is the namespace of one."""
    if kind == NAMESPACE:
        return any(name.startswith(f"{key}/") for name in protected)
    held = store.held(kind, key)
    return (held.owner if held is not None else key) in protected


def has(store: Store, kind: str, key: str) -> bool:
    """Tell whether an object is held in the store."""
    return store.held(kind, key) is not None


def _is_blank(service: Stored) -> bool:
    shape = unpack_service(service.blob)
    return not shape.cluster_ips and not shape.headless and not shape.external_name


def brings_new(before: Stored, new: Stored | None) -> bool:
    """Tell whether a slice has an endpoint that it had not: somebody who is alive wrote it."""
    if new is None:
        return False
    known = {endpoint.addresses for endpoint in unpack_slice(before.blob).endpoints}
    return any(endpoint.addresses not in known for endpoint in unpack_slice(new.blob).endpoints)


def covers(reason: Reason, kind: str, key: str, new: Stored | None, before: Stored | None) -> bool:
    """Tell whether a broken rule is about a harmful change."""
    if reason.rule == PROTECTED:
        return (before.owner if before is not None else key) == reason.scope
    if reason.rule == SIZE:
        return kind == reason.scope and new is not None and before is None
    if reason.rule == ENDPOINTS:
        return kind == ENDPOINT_SLICE and before is not None and not brings_new(before, new)
    is_loss = kind != ENDPOINT_SLICE and new is None
    return is_loss and (reason.rule == NAMES or _namespace(key) == reason.scope)


def names(store: Store, kind: str, harmful: Harmful) -> set[str]:
    """List the names that would go with some objects."""
    if kind == SERVICE:
        return {key for key, (new, _) in harmful.items() if new is None}
    if kind == NAMESPACE and store.needs_namespace:
        return {name for key in harmful for name in store.names_of(key)}
    return set()


def _namespace(key: str) -> str:
    return key.partition("/")[0]


def _ready_of(store: Store, owner: str) -> int:
    return sum(count_endpoints(stored.blob) for stored in store.slices_of(owner))


def weight_in(kind: str, reason: Reason, weight: int) -> int:
    """Weigh a held change for its rule: slices that follow their Service weigh nothing."""
    if kind == ENDPOINT_SLICE and reason.rule not in {ENDPOINTS, PROTECTED, SIZE}:
        return 0
    return weight


def weight_of(store: Store, before: Stored, now: Stored | None, reason: Reason) -> int:
    """Weigh a loss that is taken back."""
    if before.kind == ENDPOINT_SLICE:
        less = count_endpoints(before.blob) - (count_endpoints(now.blob) if now is not None else 0)
        return weight_in(before.kind, reason, max(0, less))
    if before.kind == NAMESPACE:
        return store.names_in.get(before.key, 0) if store.needs_namespace else 0
    return 1


def listed(objects: list[Stored], missing: list[str]) -> Iterator[tuple[str, Stored | None]]:
    """Give a full set as changes: what it has, then what it lacks."""
    for stored in objects:
        yield stored.key, stored
    for key in missing:
        yield key, None


def put(store: Store, kind: str, key: str, new: Stored | None) -> bool:
    """Bring a change to the store; tell whether anything changed."""
    return store.delete(kind, key) if new is None else store.upsert(new)

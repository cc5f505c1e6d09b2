"""The cluster's state as held: trimmed objects, by owner.

Law: objects are immutable blobs; equal blobs change nothing. Every change marks its owner dirty together with
what the owner was made of when its records were last compiled, so that the compiler sees before and after
and never the steps between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from agent.cluster.objects import ENDPOINT_SLICE, NAMESPACE, SERVICE, Stored
from agent.cluster.outline import count_endpoints

MAX_OBJECTS = 2_000_000
"""Bound of each kind; objects beyond it are refused and counted."""


class OwnerState(NamedTuple):
    """What an owner's records are made of.

    Attributes:
        service: blob of the Service, None if there is none (its slices alone make no records).
        slices: blobs of its EndpointSlices in the order of their names.
    """

    service: bytes | None
    slices: tuple[bytes, ...]


ABSENT = OwnerState(None, ())


class Store:
    """Objects by kind and key, and which owners changed.

    Args:
        needs_namespace: a Service makes records only while its Namespace is held (with `namespace_labels`).

    Attributes:
        overflowed: objects refused because there were too many.
        ready: ready endpoints of all slices.
        names_in: namespace → Services held in it.
    """

    def __init__(self, *, needs_namespace: bool = False) -> None:
        self.needs_namespace = needs_namespace
        self.overflowed = 0
        self.ready = 0
        self.names_in: dict[str, int] = {}
        self._namespaces: dict[str, bytes] = {}
        self._services: dict[str, bytes] = {}
        self._slices: dict[str, dict[str, bytes]] = {}
        self._slice_owner: dict[str, str] = {}
        self._dirty: dict[str, OwnerState] = {}
        self._dirty_namespaces: dict[str, bool] = {}
        self._touched: dict[tuple[str, str], tuple[str, bytes | None]] = {}

    def _keys(self, kind: str) -> dict[str, bytes] | dict[str, str]:
        if kind == NAMESPACE:
            return self._namespaces
        return self._services if kind == SERVICE else self._slice_owner

    def keys(self, kind: str) -> Iterator[str]:
        """Walk the keys held of one kind; nothing may change meanwhile."""
        return iter(self._keys(kind))

    def slices_of(self, owner: str) -> list[Stored]:
        """Give the EndpointSlices of a Service as they are held."""
        return [Stored(ENDPOINT_SLICE, key, owner, blob) for key, blob in self._slices.get(owner, {}).items()]

    @property
    def owners(self) -> int:
        """Services that have EndpointSlices."""
        return len(self._slices)

    def names_of(self, namespace: str) -> list[str]:
        """List the Services held in a namespace."""
        prefix = namespace + "/"
        return [key for key in self._services if key.startswith(prefix)]

    def count(self, kind: str) -> int:
        """Count the objects held of one kind."""
        return len(self._keys(kind))

    def held(self, kind: str, key: str) -> Stored | None:
        """Give an object as it is held."""
        if kind == ENDPOINT_SLICE:
            owner = self._slice_owner.get(key)
            return None if owner is None else Stored(kind, key, owner, self._slices[owner][key])
        blob = (self._namespaces if kind == NAMESPACE else self._services).get(key)
        return None if blob is None else Stored(kind, key, key, blob)

    def upsert(self, stored: Stored) -> bool:
        """Hold an object; tell whether anything changed."""
        kind, key, owner, blob = stored
        if kind == NAMESPACE:
            if self._namespaces.get(key) == blob:
                return False
            if key not in self._namespaces:
                self._mark_namespace(key)
            self._namespaces[key] = blob
            self._touched[NAMESPACE, key] = (owner, blob)
            return True
        if kind == SERVICE:
            if self._services.get(key) == blob:
                return False
            if key not in self._services and self._is_full(self._services):
                return False
            self._mark(key)
            if key not in self._services:
                self._count_name(key, 1)
            self._services[key] = blob
            self._touched[SERVICE, key] = (owner, blob)
            return True
        return self._upsert_slice(key, owner, blob)

    def _upsert_slice(self, key: str, owner: str, blob: bytes) -> bool:
        previous = self._slice_owner.get(key)
        if previous == owner and self._slices[owner][key] == blob:
            return False
        if previous is None and self._is_full(self._slice_owner):
            return False
        if previous is not None and previous != owner:
            self.delete(ENDPOINT_SLICE, key)
        self._mark(owner)
        held = self._slices.setdefault(owner, {})
        self.ready += count_endpoints(blob) - (count_endpoints(held[key]) if key in held else 0)
        held[key] = blob
        self._slice_owner[key] = owner
        self._touched[ENDPOINT_SLICE, key] = (owner, blob)
        return True

    def _count_name(self, key: str, step: int) -> None:
        namespace = key.partition("/")[0]
        count = self.names_in.get(namespace, 0) + step
        if count:
            self.names_in[namespace] = count
        else:
            del self.names_in[namespace]

    def _is_full(self, held: dict[str, bytes] | dict[str, str]) -> bool:
        if len(held) < MAX_OBJECTS:
            return False
        self.overflowed += 1
        return True

    def delete(self, kind: str, key: str) -> bool:
        """Let go of an object; tell whether it was held."""
        if kind == NAMESPACE:
            if key not in self._namespaces:
                return False
            self._mark_namespace(key)
            del self._namespaces[key]
            self._touched[NAMESPACE, key] = (key, None)
            return True
        if kind == SERVICE:
            if key not in self._services:
                return False
            self._mark(key)
            self._count_name(key, -1)
            del self._services[key]
            self._touched[SERVICE, key] = (key, None)
            return True
        owner = self._slice_owner.get(key)
        if owner is None:
            return False
        self._mark(owner)
        del self._slice_owner[key]
        self._touched[ENDPOINT_SLICE, key] = (owner, None)
        held = self._slices[owner]
        self.ready -= count_endpoints(held.pop(key))
        if not held:
            del self._slices[owner]
        return True

    def replace(self, kind: str, objects: Iterable[Stored]) -> Iterator[int]:
        """Make the set of one kind exactly `objects`, in steps; yields the number of changes so far."""
        seen: set[str] = set()
        changes = 0
        for at, stored in enumerate(objects):
            seen.add(stored.key)
            changes += self.upsert(stored)
            if not at % 256:
                yield changes
        gone = [key for key in self._keys(kind) if key not in seen]
        for at, key in enumerate(gone):
            changes += self.delete(kind, key)
            if not at % 256:
                yield changes
        yield changes

    def _mark(self, owner: str) -> None:
        if owner not in self._dirty:
            self._dirty[owner] = self.state(owner)

    def _mark_namespace(self, name: str) -> None:
        self._dirty_namespaces.setdefault(name, name in self._namespaces)
        if self.needs_namespace:
            prefix = name + "/"
            for owner in [key for key in self._services if key.startswith(prefix)]:
                self._mark(owner)

    def state(self, owner: str) -> OwnerState:
        """Give what an owner's records are made of now."""
        service = self._services.get(owner)
        if service is None:
            return ABSENT
        if self.needs_namespace and owner.partition("/")[0] not in self._namespaces:
            return ABSENT
        slices = self._slices.get(owner)
        if not slices:
            return OwnerState(service, ())
        return OwnerState(service, tuple(slices[key] for key in sorted(slices)))

    @property
    def dirty(self) -> int:
        """Owners and namespaces that wait for the compiler."""
        return len(self._dirty) + len(self._dirty_namespaces)

    def take_dirty_namespace(self) -> tuple[str, bool] | None:
        """Take one changed namespace: (name, exists now); None when there is none."""
        while self._dirty_namespaces:
            name, before = self._dirty_namespaces.popitem()
            if (name in self._namespaces) != before:
                return name, not before
        return None

    def take_dirty(self) -> tuple[str, OwnerState, OwnerState] | None:
        """Take one dirty owner, oldest first: (owner, before, after); None when there is none."""
        while self._dirty:
            owner = next(iter(self._dirty))
            before, after = self._dirty.pop(owner), self.state(owner)
            if before != after:
                return owner, before, after
        return None

    def take_touched(self) -> list[tuple[str, str, str, bytes | None]]:
        """Hand over the objects that changed since the last call: (kind, key, owner, blob or None)."""
        touched, self._touched = self._touched, {}
        return [(kind, key, owner, blob) for (kind, key), (owner, blob) in touched.items()]

    def forget_dirty(self) -> None:
        """Take what is held as compiled already (it was just loaded together with its answers)."""
        self._dirty.clear()
        self._dirty_namespaces.clear()
        self._touched.clear()

    def objects(self) -> list[Stored]:
        """Copy out every object: Namespaces, Services, EndpointSlices."""
        out = [Stored(NAMESPACE, key, key, blob) for key, blob in self._namespaces.items()]
        out += [Stored(SERVICE, key, key, blob) for key, blob in self._services.items()]
        out += [
            Stored(ENDPOINT_SLICE, key, owner, blob)
            for owner, slices in self._slices.items()
            for key, blob in slices.items()
        ]
        return out

"""What happens in a cluster: roll-outs, scaling, new and deleted services, previews that come and go.

Law: changes start where `cluster_generator.objects` left off and are consistent: whoever applies them in order to those
objects holds, after each one, what the API server would hold. The fixed services (kube-dns, namespace `shop`) stay.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import cluster_manifests as manifests
from benchmarks.cluster_workloads import (
    FIRST_CLUSTER_IP,
    SLICE_LIMIT,
    Pod,
    Port,
    Spec,
    Workload,
    chunk,
    fixed,
    suffix,
    workloads,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST_VERSION = 10_000_000
"""resourceVersion of the first change."""


class Change(NamedTuple):
    """One change, in the words of a watch: ADDED, MODIFIED or DELETED, and the whole object."""

    type: str
    object: dict[str, Any]


class _Cluster:
    """The mutable half: what has changed since the generated beginning."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.rng = random.Random(f"{spec.seed}/churn")
        keep = len(list(fixed(spec)))
        everything = list(workloads(spec))
        self.previews: dict[str, list[Workload]] = {}
        self.living = everything[keep:]
        self.next_pod = max((pod.offset for w in everything for pod in w.pods), default=0) + 1
        self.next_ip = FIRST_CLUSTER_IP + spec.services
        self.version = FIRST_VERSION
        self.serial = 0

    def stamp(self) -> int:
        self.version += 1
        return self.version

    def pod(self, workload: Workload, *, ready: bool = True) -> Pod:
        self.next_pod += 1
        return Pod(f"{workload.name}-{suffix(self.next_pod, length=9)}-{suffix(self.next_pod)}", self.next_pod, ready)

    def pick(self) -> int | None:
        """Choose a workload with pods that were not given stable names."""
        for _ in range(50):
            index = self.rng.randrange(len(self.living)) if self.living else 0
            if self.living and self.living[index].kind != "external" and self.living[index].pods:
                return index
        return None

    def created(self, workload: Workload) -> Iterator[Change]:
        yield Change("ADDED", manifests.service(self.spec, workload, self.stamp()))
        for each in manifests.slices(self.spec, workload, self.stamp()):
            yield Change("ADDED", each)

    def deleted(self, workload: Workload) -> Iterator[Change]:
        yield Change("DELETED", manifests.service(self.spec, workload, self.stamp()))
        for each in manifests.slices(self.spec, workload, self.stamp()):
            yield Change("DELETED", each)

    def moved(self, before: Workload, after: Workload) -> Iterator[Change]:
        """Give the slice changes that lead from one state of a workload to the next."""
        known = {(number, family) for number, family, _ in manifests.slice_names(before)}
        for number, family, name in manifests.slice_names(after):
            if (number, family) not in known:
                kind = "ADDED"
            elif before.slices[number] != after.slices[number]:
                kind = "MODIFIED"
            else:
                continue
            shape = manifests.endpoint_slice(self.spec, after, number, family, name, self.stamp())
            yield Change(kind, shape)
        for number, family, name in manifests.slice_names(before):
            if number >= len(after.slices):
                shape = manifests.endpoint_slice(self.spec, before, number, family, name, self.stamp())
                yield Change("DELETED", shape)

    def with_pods(self, index: int, slices: list[list[Pod]]) -> Iterator[Change]:
        before = self.living[index]
        while len(slices) > 1 and not slices[-1]:
            slices.pop()
        after = replace(before, slices=tuple(tuple(s) for s in slices))
        self.living[index] = after
        yield from self.moved(before, after)


def _add(slices: list[list[Pod]], pod: Pod) -> None:
    room = next((s for s in slices if len(s) < SLICE_LIMIT), None)
    if room is None:
        slices.append([pod])
    else:
        room.append(pod)


def _roll_out(cluster: _Cluster) -> Iterator[Change]:
    """Replace pods: a new one appears unready, becomes ready, an old one goes; a stateful one comes back elsewhere."""
    index = cluster.pick()
    if index is None:
        return
    for _ in range(min(3, len(cluster.living[index].pods))):
        workload = cluster.living[index]
        where = cluster.rng.choice([i for i, s in enumerate(workload.slices) if s])
        slices = [list(s) for s in workload.slices]
        old = slices[where][0]
        if workload.stateful:
            cluster.next_pod += 1
            slices[where][0] = replace(old, ready=False)
            yield from cluster.with_pods(index, slices)
            slices[where][0] = replace(old, ready=True, offset=cluster.next_pod)
            yield from cluster.with_pods(index, slices)
            continue
        new = cluster.pod(workload, ready=False)
        _add(slices, new)
        yield from cluster.with_pods(index, slices)
        slices = [[replace(p, ready=True) if p == new else p for p in s] for s in slices]
        slices = [[replace(p, terminating=True) if p == old else p for p in s] for s in slices]
        yield from cluster.with_pods(index, slices)
        slices = [[p for p in s if p.name != old.name] for s in slices]
        yield from cluster.with_pods(index, slices)


def _scale(cluster: _Cluster) -> Iterator[Change]:
    index = cluster.pick()
    if index is None:
        return
    workload = cluster.living[index]
    slices = [list(s) for s in workload.slices]
    for _ in range(cluster.rng.randint(1, 4)):
        if cluster.rng.random() < 0.5:
            pod = cluster.pod(workload)
            number = len([p for s in slices for p in s])
            if workload.stateful:
                pod = replace(pod, name=f"{workload.name}-{number}", hostname=f"{workload.name}-{number}")
            _add(slices, pod)
        elif sum(map(len, slices)) > 1:
            next(s for s in reversed(slices) if s).pop()
    yield from cluster.with_pods(index, slices)


def _flap(cluster: _Cluster) -> Iterator[Change]:
    """Fail a readiness probe once, and recover."""
    index = cluster.pick()
    if index is None:
        return
    where = cluster.rng.choice([i for i, s in enumerate(cluster.living[index].slices) if s])
    for _ in range(2):
        slices = [list(s) for s in cluster.living[index].slices]
        slices[where][0] = replace(slices[where][0], ready=not slices[where][0].ready)
        yield from cluster.with_pods(index, slices)


def _fresh(cluster: _Cluster, namespace: str) -> Workload:
    cluster.serial += 1
    cluster.next_ip += 1
    workload = Workload(
        namespace,
        f"canary-{cluster.serial}",
        offset=cluster.next_ip,
        ports=(Port("http", 80, target=8080), Port("metrics", 9090)),
    )
    return replace(workload, slices=chunk([cluster.pod(workload) for _ in range(cluster.rng.randint(0, 6))]))


def _new_service(cluster: _Cluster) -> Iterator[Change]:
    if not cluster.living:
        return
    workload = _fresh(cluster, cluster.rng.choice(cluster.living).namespace)
    cluster.living.append(workload)
    yield from cluster.created(workload)


def _delete_service(cluster: _Cluster) -> Iterator[Change]:
    if len(cluster.living) > 10:
        yield from cluster.deleted(cluster.living.pop(cluster.rng.randrange(len(cluster.living))))


def _preview(cluster: _Cluster) -> Iterator[Change]:
    """Open a preview environment (a namespace of its own), or take one down with all that is in it."""
    if len(cluster.previews) > 2:
        name = cluster.rng.choice(sorted(cluster.previews))
        for workload in cluster.previews.pop(name):
            yield from cluster.deleted(workload)
        yield Change("DELETED", manifests.namespace(cluster.spec, name, cluster.stamp()))
        return
    cluster.serial += 1
    name = f"preview-{cluster.serial}"
    yield Change("ADDED", manifests.namespace(cluster.spec, name, cluster.stamp()))
    cluster.previews[name] = [_fresh(cluster, name) for _ in range(cluster.rng.randint(2, 5))]
    for workload in cluster.previews[name]:
        yield from cluster.created(workload)


_EVENTS: tuple[tuple[Callable[[_Cluster], Iterator[Change]], int], ...] = (
    (_roll_out, 40),
    (_scale, 28),
    (_flap, 14),
    (_new_service, 8),
    (_delete_service, 6),
    (_preview, 4),
)


def churn(spec: Spec, changes: int) -> Iterator[Change]:
    """Stream the first `changes` object changes that follow `cluster_generator.objects(spec)`."""
    cluster = _Cluster(spec)
    kinds, weights = [kind for kind, _ in _EVENTS], [weight for _, weight in _EVENTS]
    sent = 0
    while sent < changes:
        for change in cluster.rng.choices(kinds, weights)[0](cluster):
            yield change
            sent += 1
            if sent == changes:
                return

"""A cluster in motion for `benchmarks.guard`: Services, their ready endpoints, and nodes that these run on.

Law: what is said is what an API server would say after each step, in an order in which it could say it; time stands
still inside a step.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from agent.cluster.objects import (
    ENDPOINT_SLICE,
    NAMESPACE,
    SERVICE,
    Endpoint,
    EndpointSlice,
    Namespace,
    Service,
    Stored,
    decode_object,
    unpack_service,
    unpack_slice,
)
from benchmarks.cluster_generator import Spec, objects

SLICE_LIMIT = 100
PODS_OF_A_NODE = 30
Change = tuple[str, str, Stored | None]
Life = Iterator[float]
"""Something that happens: each step is said, then so many seconds pass."""


@dataclass
class App:
    """A Service and its ready pods: (address, node)."""

    namespace: str
    name: str
    service: Stored
    pods: list[tuple[int, int]]
    said: dict[str, Stored] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


class World:
    """Every Service by key, and what was said since the last look.

    Args:
        services: how many there are at first.
        seed: of the generator and of what happens.
    """

    def __init__(self, services: int, seed: int) -> None:
        self.rng = random.Random(f"{services}/{seed}")
        namespaces = max(4, min(services // 8, 150))
        spec = Spec(services=services, endpoints=services * (10 if services <= 2000 else 5), namespaces=namespaces)
        self.nodes = max(3, spec.endpoints // PODS_OF_A_NODE)
        self.apps: dict[str, App] = {}
        self.namespaces: dict[str, Stored] = {}
        self.changes: list[Change] = []
        self._next = 1
        self._fill(spec)
        self.changes.clear()

    def _fill(self, spec: Spec) -> None:
        pods: dict[str, int] = {}
        for value in objects(spec):
            stored = decode_object(value)
            if not isinstance(stored, Stored):
                continue
            if stored.kind == NAMESPACE:
                self.namespaces[stored.key] = stored
            elif stored.kind == SERVICE:
                shape = unpack_service(stored.blob)
                self.apps[stored.key] = App(shape.namespace, shape.name, stored, [])
            else:
                pods[stored.owner] = pods.get(stored.owner, 0) + len(unpack_slice(stored.blob).endpoints)
        for key, app in self.apps.items():
            app.pods = [self.pod() for _ in range(pods.get(key, 0))]
            if key == "default/kubernetes":
                app.pods = [(at, -1) for at, _ in app.pods]  # API servers are no pods of these nodes
            self.say(app)

    def pod(self, *, away_from: int = -1) -> tuple[int, int]:
        """Start a pod on some node."""
        self._next += 1
        node = self.rng.randrange(self.nodes)
        return self._next, (node + 1) % self.nodes if node == away_from else node

    def say(self, app: App) -> None:
        """Say what became of an app's slices."""
        now: dict[str, Stored] = {}
        for number, start in enumerate(range(0, max(1, len(app.pods)), SLICE_LIMIT)):
            endpoints = tuple(Endpoint((at.to_bytes(4, "big"),)) for at, _ in app.pods[start : start + SLICE_LIMIT])
            made = EndpointSlice(app.namespace, f"{app.name}-{number}", app.name, (), endpoints)
            key = f"{app.namespace}/{made.name}"
            now[key] = Stored(ENDPOINT_SLICE, key, app.key, msgspec.msgpack.encode(made))
        for key, stored in now.items():
            if app.said.get(key) != stored:
                self.changes.append((ENDPOINT_SLICE, key, stored))
        self.changes += [(ENDPOINT_SLICE, key, None) for key in app.said if key not in now]
        app.said = now

    def create(self, namespace: str, name: str, pods: int) -> App:
        """Make a Service with pods, and its namespace if there is none."""
        if namespace not in self.namespaces:
            blob = msgspec.msgpack.encode(Namespace(namespace))
            self.namespaces[namespace] = Stored(NAMESPACE, namespace, namespace, blob)
            self.changes.append((NAMESPACE, namespace, self.namespaces[namespace]))
        self._next += 1
        shape = Service(namespace, name, cluster_ips=(b"\x0a" + self._next.to_bytes(3, "big"),))
        key = f"{namespace}/{name}"
        app = App(namespace, name, Stored(SERVICE, key, key, msgspec.msgpack.encode(shape)), [])
        self.apps[key] = app
        self.changes.append((SERVICE, key, app.service))
        app.pods = [self.pod() for _ in range(pods)]
        self.say(app)
        return app

    def delete(self, app: App) -> None:
        """Delete a Service; its slices follow."""
        if self.apps.pop(app.key, None) is None:
            return
        self.changes.append((SERVICE, app.key, None))
        self.changes += [(ENDPOINT_SLICE, key, None) for key in app.said]
        app.said = {}

    def close(self, namespace: str) -> None:
        """Let go of an empty namespace."""
        if self.namespaces.pop(namespace, None) is not None:
            self.changes.append((NAMESPACE, namespace, None))

    def everything(self, kind: str) -> list[Stored]:
        """Give the full set of a kind."""
        if kind == NAMESPACE:
            return list(self.namespaces.values())
        if kind == SERVICE:
            return [app.service for app in self.apps.values()]
        return [stored for app in self.apps.values() for stored in app.said.values()]

    def some(self, share: float) -> list[App]:
        """Draw some apps with pods; never the API server's own."""
        able = [app for app in self.apps.values() if app.pods and app.key != "default/kubernetes"]
        return self.rng.sample(able, min(len(able), max(1, round(len(able) * share))))

    def of(self, namespace: str) -> list[App]:
        """List the apps of a namespace."""
        return [app for app in self.apps.values() if app.namespace == namespace]

    def sizes(self) -> dict[str, int]:
        """Count Services by namespace, without those that nobody deletes."""
        counts: dict[str, int] = {}
        for app in self.apps.values():
            if app.namespace not in {"default", "kube-system"}:
                counts[app.namespace] = counts.get(app.namespace, 0) + 1
        return counts


def together(lives: Iterable[tuple[float, Life]]) -> Life:
    """Let several things happen at once, each from its own moment on."""
    heap = [(at_s, number, life) for number, (at_s, life) in enumerate(lives)]
    heapq.heapify(heap)
    now_s = 0.0
    while heap:
        at_s, number, life = heapq.heappop(heap)
        if at_s > now_s:
            yield at_s - now_s
            now_s = at_s
        pause_s = next(life, None)
        if pause_s is not None:
            heapq.heappush(heap, (now_s + pause_s, number, life))


def roll_out(world: World, app: App) -> Life:
    """Replace pods as a Deployment does by default: a quarter more, a quarter fewer at most."""
    step = max(1, len(app.pods) // 4)
    for start in range(0, len(app.pods), step):
        if app.key not in world.apps:
            return
        fresh = [world.pod() for _ in app.pods[start : start + step]]
        app.pods += fresh
        world.say(app)
        yield world.rng.uniform(1, 4)
        app.pods = app.pods[len(fresh) :]
        world.say(app)
        yield world.rng.uniform(5, 30)


def recreate(world: World, app: App) -> Life:
    """Replace all pods of an app at once: strategy Recreate, or a crash of all of them."""
    count, app.pods = len(app.pods), []
    world.say(app)
    yield world.rng.uniform(20, 90)
    app.pods = [world.pod() for _ in range(count)]
    world.say(app)
    yield 1.0


def scale(world: World, app: App, count: int) -> Life:
    """Set the number of pods."""
    while len(app.pods) < count:
        app.pods.append(world.pod())
    del app.pods[count:]
    world.say(app)
    yield 1.0


def delete_namespace(world: World, namespace: str, per_s: float = 20.0) -> Life:
    """Delete a namespace as its controller does: pods go, then Services, so many objects a second."""
    apps = world.of(namespace)
    for app in apps:
        app.pods = []
        world.say(app)
        yield 1.0 / per_s
    for app in apps:
        world.delete(app)
        yield 1.0 / per_s
    world.close(namespace)
    yield 1.0


def lose_nodes(world: World, nodes: set[int], back_after_s: Callable[[], float]) -> Life:
    """Lose nodes at once: their pods are not ready, and start elsewhere after a while."""
    hit = [(app, [pod for pod in app.pods if pod[1] in nodes]) for app in world.apps.values()]
    hit = [(app, gone) for app, gone in hit if gone]
    for app, gone in hit:
        app.pods = [pod for pod in app.pods if pod not in gone]
        world.say(app)
    yield 1.0
    yield from together((back_after_s(), _start(world, app, len(gone))) for app, gone in hit)


def _start(world: World, app: App, count: int) -> Life:
    if app.key in world.apps:
        app.pods += [world.pod() for _ in range(count)]
        world.say(app)
    yield 0.1

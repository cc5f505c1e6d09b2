"""A sink that remembers what a source says, and lets a test wait for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from agent.cluster.objects import KINDS, Stored
from agent.sources.file import FileLimits, FileSource

QUICK = FileLimits(poll_s=0.05, debounce_s=0.03)


class RecordingSink:
    """Implements `agent.sources.Sink`."""

    def __init__(self) -> None:
        self.said: list[tuple] = []
        self.held: dict[str, dict[str, Stored]] = {kind: {} for kind in KINDS}
        self.positions: dict[str, str] = {}
        self.refuses = False
        self._changed = asyncio.Event()

    def _say(self, *what) -> None:
        self.said.append(what)
        self._changed.set()

    def identify(self, cluster_id):
        self._say("identify", cluster_id)

    def replace(self, kind, objects, position):
        if self.refuses:
            return False
        self.held[kind] = {stored.key: stored for stored in objects}
        self.positions[kind] = position
        self._say("replace", kind, len(objects))
        return True

    def apply(self, kind, changes, position):
        self._say("apply", kind)

    def confirm(self, kind, position):
        self.positions[kind] = position
        self._say("confirm", kind)

    def skipped(self, kind, name, reason):
        self._say("skipped", kind, name, reason)

    def connected(self):
        self._say("connected")

    def lost(self, reason):
        self._say("lost", reason)

    def requested(self, verb, code, size_bytes):
        self._say("requested", verb)

    def of(self, word: str) -> list[tuple]:
        return [what[1:] for what in self.said if what[0] == word]

    def words(self, *without: str) -> list[str]:
        return [what[0] for what in self.said if what[0] not in without]

    def keys(self, kind: str = "Service") -> list[str]:
        return sorted(self.held[kind])

    async def until(self, true: Callable[[], bool], timeout_s: float = 20) -> None:
        async with asyncio.timeout(timeout_s):
            while not true():
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def following(path: Path, sink: RecordingSink, resume=None, identity="", **options):
    """Run a file source for as long as the block lasts."""
    options.setdefault("limits", QUICK)
    source = FileSource(path, **options)
    task = asyncio.create_task(source.run(sink, resume or {}, identity))
    try:
        yield source
        assert not task.done(), task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def service(name="web", namespace="shop", ip="10.96.0.1", **meta):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, **meta},
        "spec": {"clusterIP": ip, "ports": [{"name": "http", "port": 80}]},
    }


def endpoint_slice(name="web-1", service="web", namespace="shop", addresses=("10.128.0.1",)):
    return {
        "addressType": "IPv4",
        "apiVersion": "discovery.k8s.io/v1",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "kind": "EndpointSlice",
        "metadata": {"labels": {"kubernetes.io/service-name": service}, "name": name, "namespace": namespace},
        "ports": [{"name": "http", "port": 8080}],
    }


def namespace(name="shop", uid=""):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "uid": uid}}


def listed(*items, kind="List") -> str:
    version = "discovery.k8s.io/v1" if kind.startswith("EndpointSlice") else "v1"
    body = {"apiVersion": version, "items": list(items), "kind": kind, "metadata": {"resourceVersion": ""}}
    return json.dumps(body, indent=4)

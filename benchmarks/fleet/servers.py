"""API servers that count: what is asked, what it would weigh, and when.

Law: they answer as kube-apiserver 1.37 does where it matters to what is asked (docs/decisions/0010): pages with
`limit` and `continue`, bookmarks every 60 s, 410 as an event for a position from before a restart. A page that is sent
is empty, but counts with the size it has in the cluster at hand, so that a thousand nodes can list in a minute.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from agent.cluster.objects import ENDPOINT_SLICE, NAMESPACE, SERVICE
from agent.sources.api import Query, UnreachableError
from benchmarks.cluster_generator import Spec, objects

LATENCY_S = 0.01
BOOKMARK_S = 60.0
KINDS = {"namespaces": NAMESPACE, "services": SERVICE, "endpointslices": ENDPOINT_SLICE}
UID = "11111111-2222-3333-4444-555555555555"
HEAD_BYTES = 350
"""Of an answer without a list: status line, headers and TLS records."""


class Shelf(NamedTuple):
    """What lists weigh.

    Attributes:
        pages: kind → limit → bytes of each page, JSON and gzip.
        streamed: kind → bytes of a streamed protobuf list.
    """

    pages: dict[str, dict[int, list[int]]]
    streamed: dict[str, int]


def weigh(spec: Spec, streamed_ratio: float) -> Shelf:
    """Make the pages of a cluster once, as the API server would send them, and keep their sizes.

    Args:
        spec: the cluster.
        streamed_ratio: bytes of client-go's streamed list for each byte of our pages, as measured on a real one.
    """
    texts: dict[str, list[bytes]] = {kind: [] for kind in KINDS.values()}
    for value in objects(spec):
        texts[value["kind"]].append(json.dumps(value, separators=(",", ":")).encode())
    pages = {kind: {limit: _sizes(found, limit) for limit in (500, 1000)} for kind, found in texts.items()}
    return Shelf(pages, {kind: round(sum(sizes[500]) * streamed_ratio) for kind, sizes in pages.items()})


def _sizes(texts: list[bytes], limit: int) -> list[int]:
    found = []
    for start in range(0, max(1, len(texts)), limit):
        body = b'{"items":[' + b",".join(texts[start : start + limit]) + b"]}"
        found.append(len(body) if len(body) < 128 * 1024 else len(gzip.compress(body, 1)))
    return found


class Asked(NamedTuple):
    """One thing that was asked of the API servers; a connect is no request."""

    at_s: float
    what: str
    size_bytes: int


class Servers:
    """The API servers of one cluster.

    Attributes:
        asked: everything, in order.
    """

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.asked: list[Asked] = []
        self.revision = 100_000
        self.floor = 0
        self.is_up = True
        self.broken = asyncio.Event()
        self._tokens = itertools.count()

    def count(self, what: str, size_bytes: int = 0) -> None:
        """Account for something."""
        self.asked.append(Asked(asyncio.get_running_loop().time(), what, size_bytes))

    def go(self) -> None:
        """Be gone: watches break, connections are refused."""
        self.is_up = False
        self.broken.set()

    def come_back(self) -> None:
        """Be there again, with no memory of any position."""
        self.revision += 1000
        self.floor = self.revision
        self.is_up = True
        self.broken = asyncio.Event()

    async def connect(self) -> None:
        """Make a TCP connection."""
        await asyncio.sleep(LATENCY_S / 10)
        if not self.is_up:
            self.count("connect")
            raise UnreachableError("connection refused")

    async def answer(self) -> None:
        """Take the time that an answer takes."""
        await self.connect()
        await asyncio.sleep(LATENCY_S)


class Way:
    """One agent's way to the servers: implements `agent.sources.api.Api`."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    async def probe(self) -> None:
        """See `Api.probe`."""
        await self._servers.connect()

    def distrust(self) -> None:
        """See `Api.distrust`: there are no credentials here."""

    async def get(self, path: str, query: Query, *, is_watch: bool) -> Body | Watch:
        """See `Api.get`."""
        servers, asked = self._servers, dict(query)
        await servers.answer()
        kind = KINDS[path.rpartition("/")[2]]
        if is_watch:
            servers.count("watch", HEAD_BYTES)
            return Watch(servers, kind, int(asked["resourceVersion"]), float(asked["timeoutSeconds"]))
        if "fieldSelector" in asked:
            servers.count("list", HEAD_BYTES)
            return Body(_list(servers.revision, [{"metadata": {"name": "kube-system", "uid": UID}}]))
        number, limit = (int(part) for part in asked["continue"].split("/")) if "continue" in asked else (0, 0)
        limit = limit or int(asked["limit"])
        sizes = servers.shelf.pages[kind][limit]
        servers.count("list", sizes[number] + HEAD_BYTES)
        token = f"{number + 1}/{limit}" if number + 1 < len(sizes) else ""
        return Body(_list(servers.revision, [], token))


def _list(revision: int, items: list[Any], token: str = "") -> bytes:
    return json.dumps({"items": items, "metadata": {"resourceVersion": str(revision), "continue": token}}).encode()


class Body:
    """An answer with a body: implements `agent.sources.api.Answer`."""

    status = 200
    encoding = ""
    retry_after_s = 0.0

    def __init__(self, body: bytes) -> None:
        self._pieces = [body, b""]

    async def chunk(self) -> bytes:
        """See `Answer.chunk`."""
        return self._pieces.pop(0)

    def close(self) -> None:
        """See `Answer.close`."""


class Watch:
    """A watch without events, but with bookmarks: implements `agent.sources.api.Answer`."""

    status = 200
    encoding = ""
    retry_after_s = 0.0

    def __init__(self, servers: Servers, kind: str, position: int, timeout_s: float) -> None:
        self._servers = servers
        self._kind = kind
        self._broken = servers.broken
        self._is_gone = position < servers.floor
        self._has_ended = False
        now_s = asyncio.get_running_loop().time()
        self._ends_s = now_s + timeout_s
        self._bookmark_s = now_s + BOOKMARK_S

    async def chunk(self) -> bytes:
        """See `Answer.chunk`."""
        if self._has_ended:
            return b""
        if self._is_gone:
            self._has_ended = True
            return _line("ERROR", {"code": 410, "message": "too old resource version"})
        until_s = min(self._bookmark_s, self._ends_s)
        try:
            async with asyncio.timeout_at(until_s):
                await self._broken.wait()
        except TimeoutError:
            if until_s == self._ends_s:
                return b""
            self._bookmark_s += BOOKMARK_S
            line = _line("BOOKMARK", {"metadata": {"resourceVersion": str(self._servers.revision)}})
            self._servers.count("bookmark", len(line))
            return line
        return b""

    def close(self) -> None:
        """See `Answer.close`."""


def _line(kind: str, value: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": value}).encode() + b"\n"


def requests(asked: Iterable[Asked]) -> list[Asked]:
    """Leave out what is no request."""
    return [each for each in asked if each.what in {"list", "watch"}]

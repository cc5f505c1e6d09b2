"""A Kubernetes API server that plays a script: the faults that a real one can't be made to show.

    async with ScriptedApi() as api:
        api.put(service("shop", "web", "10.0.0.1"))
        api.fail(Fault("LIST", "Service", status=429, retry_after_s=1))
        source = KubernetesSource(Origin(str(api.kubeconfig(tmp_path))))
        ...
        assert [seen.verb for seen in api.seen] == [...]

    python -m tests.scripted_api --services 1000 --endpoints 10000 --churn-s 0.5     # stand-alone: prints a kubeconfig

Law: without a fault it answers as kube-apiserver 1.37 does (docs/decisions/0010): lists in key order with `limit`,
`continue`, `resourceVersion` and `NotOlderThan`, JSON or protobuf as asked for, gzip from 128 KiB; watches with
bookmarks, `timeoutSeconds` and a 410 as an ERROR event. One revision counts for all kinds, as in etcd.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import random
import ssl
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from aiohttp import web

from agent.cluster.selection import Selection, parse_selector
from tests import protobuf_objects

KINDS = {"namespaces": "Namespace", "services": "Service", "endpointslices": "EndpointSlice"}
GROUPS = {"Namespace": "v1", "Service": "v1", "EndpointSlice": "discovery.k8s.io/v1"}
GZIP_FROM_BYTES = 128 * 1024
REASONS = {401: "Unauthorized", 403: "Forbidden", 410: "Expired", 429: "TooManyRequests", 504: "Timeout"}
MAX_SNAPSHOTS = 200
KUBE_SYSTEM_UID = "11111111-2222-3333-4444-555555555555"


def namespace(name: str, *, uid: str = "", labels: dict[str, str] | None = None) -> dict[str, Any]:
    labels = {"kubernetes.io/metadata.name": name, **(labels or {})}
    return {"kind": "Namespace", "metadata": {"name": name, "uid": uid or f"uid-of-{name}", "labels": labels}}


def service(place: str, name: str, ip: str = "10.0.0.1", *, labels: dict[str, str] | None = None) -> dict[str, Any]:
    spec = {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ports": [{"name": "http", "port": 80}]}
    return {"kind": "Service", "metadata": {"name": name, "namespace": place, "labels": labels or {}}, "spec": spec}


def endpoint_slice(place: str, name: str, addresses: list[str], *, of: str = "") -> dict[str, Any]:
    return {
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": place, "labels": {"kubernetes.io/service-name": of or name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
    }


class Seen(NamedTuple):
    """One request as it came in, and what it got: `code` 0 means no answer."""

    verb: str
    kind: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    code: int
    size_bytes: int


@dataclass
class Fault:
    """What goes wrong with the next `times` requests that match.

    Attributes:
        verb: LIST, CONTINUE (a further page), WATCH, CREATE (an Event), or "" for any.
        kind: of the objects, or "" for any.
        status: answer this instead, with a Status object and `retry_after_s`.
        body: answer these bytes with status 200 instead of a list, or as the whole of a watch.
        change: gets the list as it would be sent, as a parsed object, and may change it.
        cut_bytes: break the connection after so many bytes of the body.
        drip: send the body in pieces of this many bytes, with so many seconds between them.
        hangs: never answer.
    """

    verb: str = ""
    kind: str = ""
    times: int = 1
    status: int = 0
    retry_after_s: int = 0
    message: str = "scripted"
    body: bytes | None = None
    change: Callable[[dict[str, Any]], None] | None = None
    cut_bytes: int | None = None
    drip: tuple[int, float] | None = None
    hangs: bool = False


@dataclass(eq=False)
class _Watcher:
    kind: str
    position: int
    wanted: Callable[[dict[str, Any] | None], bool]
    lines: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    transport: asyncio.BaseTransport | None = None


class _Happened(NamedTuple):
    revision: int
    kind: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class ScriptedApi:
    """The server; every method acts at once.

    Args:
        folder: TLS is on if given: certificates are made there by openssl.
        bookmark_s: sends bookmarks by itself this often, as a real one does every 60 s; 0: only when told.
    """

    def __init__(self, *, folder: Path | None = None, bookmark_s: float = 0.0) -> None:
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.tokens: set[str] = set()
        self.events: list[dict[str, Any]] = []
        self.port = 0
        self.revision = 1000
        self._floor = 0
        self._held: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in GROUPS}
        self._history: deque[_Happened] = deque(maxlen=100_000)
        self._watchers: list[_Watcher] = []
        self._snapshots: dict[str, tuple[int, list[dict[str, Any]]]] = {}
        self._folder = folder
        self._bookmark_s = bookmark_s
        self._runner: web.AppRunner | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._thawed = asyncio.Event()
        self._thawed.set()
        self.put(namespace("kube-system", uid=KUBE_SYSTEM_UID))

    # Life -----------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        app = web.Application()
        for prefix in ("/api/v1", "/apis/discovery.k8s.io/v1"):
            app.router.add_get(prefix + "/{resource}", self._answer)
            app.router.add_get(prefix + "/namespaces/{place}/{resource}", self._answer)
        app.router.add_post("/api/v1/namespaces/{place}/events", self._create)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls(), reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]
        if self._bookmark_s:
            self._ticking = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """Be gone: connections break, new ones are refused. History and objects stay."""
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        self.break_watches()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def restart(self) -> None:
        """Stop, forget the history as a restarted API server's watch cache has, and start."""
        await self.stop()
        self.advance()
        self.forget()
        await self.start()

    def freeze(self) -> None:
        """Become a black hole: connections are accepted, nothing is answered, watches fall silent."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Answer again, also what came in meanwhile."""
        self._thawed.set()

    def _tls(self) -> ssl.SSLContext | None:
        if self._folder is None:
            return None
        if not (self._folder / "tls.crt").exists():
            make_certificates(self._folder)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._folder / "tls.crt", self._folder / "tls.key")
        return context

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'http' if self._folder is None else 'https'}://127.0.0.1:{self.port}"

    def kubeconfig(self, folder: Path, **user: Any) -> Path:
        """Write a kubeconfig for it; `user` is the user's section, with - as _."""
        cluster: dict[str, Any] = {"server": self.url}
        if self._folder is not None:
            cluster["certificate-authority"] = str(self._folder / "ca.crt")
        config = {
            "current-context": "scripted",
            "contexts": [{"name": "scripted", "context": {"cluster": "scripted", "user": "tester"}}],
            "clusters": [{"name": "scripted", "cluster": cluster}],
            "users": [{"name": "tester", "user": {key.replace("_", "-"): value for key, value in user.items()}}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(config))
        return path

    # The cluster ----------------------------------------------------------------------------------------------------

    def put(self, value: dict[str, Any], *, silently: bool = False) -> str:
        """Create or change an object; gives its resourceVersion. Silently: no watch will ever tell."""
        kind, key = value["kind"], _key(value)
        before = self._held[kind].get(key)
        self.revision += 1
        after = {**value, "apiVersion": GROUPS[kind]}
        after["metadata"] = {**value["metadata"], "resourceVersion": str(self.revision)}
        self._held[kind][key] = after
        if not silently:
            self._happen(_Happened(self.revision, kind, before, after))
        return str(self.revision)

    def delete(self, kind: str, key: str, *, silently: bool = False) -> str:
        """Delete an object."""
        before = self._held[kind].pop(key)
        self.revision += 1
        if not silently:
            self._happen(_Happened(self.revision, kind, before, None))
        return str(self.revision)

    def keys(self, kind: str) -> list[str]:
        """Name the objects of a kind, in order."""
        return sorted(self._held[kind])

    def advance(self, by: int = 1) -> None:
        """Let something else in the cluster change."""
        self.revision += by

    def rewind(self, by: int) -> None:
        """Go back in time, as a cluster restored from a backup does."""
        self.revision -= by
        self._history.clear()

    def _happen(self, happened: _Happened) -> None:
        self._history.append(happened)
        for watcher in self._watchers:
            self._tell(watcher, happened)

    def _tell(self, watcher: _Watcher, happened: _Happened) -> None:
        if happened.kind != watcher.kind or happened.revision <= watcher.position:
            return
        had, has = watcher.wanted(happened.before), watcher.wanted(happened.after)
        if has:
            watcher.lines.put_nowait(_line("MODIFIED" if had else "ADDED", happened.after))
        elif had:
            gone = happened.after or happened.before or {}
            gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(happened.revision)}}
            watcher.lines.put_nowait(_line("DELETED", gone))

    # The script -----------------------------------------------------------------------------------------------------

    def fail(self, fault: Fault) -> Fault:
        """Let the next matching requests go wrong; the first fault that matches counts."""
        self.faults.append(fault)
        return fault

    def forget(self) -> None:
        """Answer 410 to every position before now, also in the middle of a list."""
        self._floor = self.revision
        self._history.clear()
        self._snapshots.clear()

    def bookmark(self, kind: str = "", *, position: int = 0) -> None:
        """Send a bookmark to every watch; a watch from the future gets none, unless one is forced on it."""
        for watcher in self._of(kind):
            if not position and self.revision < watcher.position:
                continue
            meta = {"resourceVersion": str(position or self.revision)}
            watcher.lines.put_nowait(
                _line("BOOKMARK", {"kind": watcher.kind, "apiVersion": GROUPS[watcher.kind], "metadata": meta})
            )

    def send(self, kind: str, line: bytes) -> None:
        """Send any bytes to every watch of a kind."""
        for watcher in self._of(kind):
            watcher.lines.put_nowait(line)

    def end_watches(self, kind: str = "") -> None:
        """End every watch as agreed, as after `timeoutSeconds`."""
        for watcher in self._of(kind):
            watcher.lines.put_nowait(None)

    def break_watches(self, kind: str = "") -> None:
        """Break the connection of every watch."""
        for watcher in self._of(kind):
            if isinstance(watcher.transport, asyncio.Transport):
                watcher.transport.abort()

    def watchers(self, kind: str = "") -> int:
        """Count the watches."""
        return len(self._of(kind))

    def count(self, verb: str = "", kind: str = "") -> int:
        """Count the requests seen."""
        return sum(1 for seen in self.seen if verb in {"", seen.verb} and kind in {"", seen.kind})

    def _of(self, kind: str) -> list[_Watcher]:
        return [watcher for watcher in self._watchers if kind in {"", watcher.kind}]

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._bookmark_s)
            if self._thawed.is_set():
                self.bookmark()

    # Answers --------------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        kind = KINDS.get(request.match_info["resource"])
        if kind is None:
            raise web.HTTPNotFound
        query = dict(request.query)
        verb = "WATCH" if query.get("watch") == "true" else "CONTINUE" if "continue" in query else "LIST"
        fault = self._fault(verb, kind)
        await self._thawed.wait()
        if fault.hangs:
            self._saw(request, verb, kind, 0, 0)
            await asyncio.Event().wait()
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if self.tokens and not (scheme.lower() == "bearer" and token in self.tokens):
            return await self._say(request, verb, kind, 401, Fault(message="Unauthorized"))
        if fault.status:
            return await self._say(request, verb, kind, fault.status, fault)
        if verb == "WATCH":
            return await self._watch(request, kind, fault)
        return await self._list(request, verb, kind, fault)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        """Take an Event; one whose name is there already is refused, as any object."""
        fault = self._fault("CREATE", "Event")
        value = await request.json()
        await self._thawed.wait()
        if fault.cut_bytes is not None:
            self.events.append(value)
            _abort(request)
            return web.Response()
        if fault.status:
            return await self._say(request, "CREATE", "Event", fault.status, fault)
        if any(held["metadata"]["name"] == value["metadata"]["name"] for held in self.events):
            return await self._say(request, "CREATE", "Event", 409, Fault(message="already exists"))
        self.events.append(value)
        self._saw(request, "CREATE", "Event", 201, 0)
        return web.json_response(value, status=201)

    def _fault(self, verb: str, kind: str) -> Fault:
        for fault in self.faults:
            if fault.times and fault.verb in {"", verb} and fault.kind in {"", kind}:
                fault.times -= 1
                return fault
        return Fault()

    def _saw(self, request: web.Request, verb: str, kind: str, code: int, size_bytes: int) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(verb, kind, request.path, dict(request.query), headers, code, size_bytes))

    async def _say(self, request: web.Request, verb: str, kind: str, code: int, fault: Fault) -> web.Response:
        details: dict[str, Any] = {}
        if fault.message.startswith("Too large resource version"):
            details = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}
        status = {
            "kind": "Status",
            "status": "Failure",
            "message": fault.message,
            "reason": REASONS.get(code, "InternalError"),
            "code": code,
            "details": details,
        }
        headers = {"Retry-After": str(fault.retry_after_s)} if fault.retry_after_s else {}
        body = json.dumps(status).encode()
        if protobuf_objects.MEDIA_TYPE in request.headers.get("Accept", ""):
            body = protobuf_objects.enveloped("Status", protobuf_objects.encode("Status", status))
        self._saw(request, verb, kind, code, len(body))
        return web.Response(status=code, body=body, headers=headers, content_type=_media_type(body))

    async def _list(self, request: web.Request, verb: str, kind: str, fault: Fault) -> web.StreamResponse:
        query = dict(request.query)
        position = query.get("resourceVersion", "")
        if position.isdigit() and int(position) > self.revision:
            late = f"Too large resource version: {position}, current: {self.revision}"
            return await self._say(request, verb, kind, 504, Fault(message=late, retry_after_s=1))
        token = query.get("continue", "")
        if token:
            if token not in self._snapshots:
                gone = "The provided continue parameter is too old"
                return await self._say(request, verb, kind, 410, Fault(message=gone))
            revision, items = self._snapshots[token]
        else:
            wanted = _wanted(request)
            revision = self.revision
            items = [value for _, value in sorted(self._held[kind].items()) if wanted(value)]
        limit = 0 if position == "0" else int(query.get("limit", "0"))
        meta: dict[str, Any] = {"resourceVersion": str(revision)}
        if limit and len(items) > limit:
            meta |= {"continue": self._keep(revision, items[limit:]), "remainingItemCount": len(items) - limit}
            items = items[:limit]
        page = {"kind": f"{kind}List", "apiVersion": GROUPS[kind], "metadata": meta, "items": items}
        if fault.change is not None:
            fault.change(page)
        body = _encoded(request, page) if fault.body is None else fault.body
        return await self._send_list(request, verb, kind, body, fault)

    def _keep(self, revision: int, items: list[dict[str, Any]]) -> str:
        token = f"token-{revision}-{len(items)}-{random.randrange(1 << 60)}="
        self._snapshots[token] = (revision, items)
        while len(self._snapshots) > MAX_SNAPSHOTS:
            del self._snapshots[next(iter(self._snapshots))]
        return token

    async def _send_list(
        self, request: web.Request, verb: str, kind: str, body: bytes, fault: Fault
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": _media_type(body)})
        if "gzip" in request.headers.get("Accept-Encoding", "") and len(body) >= GZIP_FROM_BYTES:
            body = await asyncio.to_thread(gzip.compress, body, 1)
            response.headers["Content-Encoding"] = "gzip"
        self._saw(request, verb, kind, 200, len(body))
        response.content_length = len(body)
        await response.prepare(request)
        if fault.cut_bytes is not None:
            await response.write(body[: fault.cut_bytes])
            await asyncio.sleep(0.02)
            _abort(request)
            return response
        size_bytes, pause_s = fault.drip or (len(body) or 1, 0.0)
        for at in range(0, len(body), size_bytes):
            await response.write(body[at : at + size_bytes])
            if pause_s:
                await asyncio.sleep(pause_s)
        return response

    async def _watch(self, request: web.Request, kind: str, fault: Fault) -> web.StreamResponse:
        self._saw(request, "WATCH", kind, 200, 0)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        if fault.body is not None:
            await response.write(fault.body)
        if fault.cut_bytes is not None:
            _abort(request)
        if fault.body is not None or fault.cut_bytes is not None:
            return response
        position = int(request.query.get("resourceVersion") or self.revision)
        if position < self._floor:
            gone = {"kind": "Status", "code": 410, "reason": "Expired"}
            gone["message"] = f"too old resource version: {position} ({self._floor})"
            await response.write(_line("ERROR", gone))
            return response
        watcher = _Watcher(kind, position, _wanted(request), transport=request.transport)
        for happened in self._history:
            self._tell(watcher, happened)
        self._watchers.append(watcher)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(float(request.query.get("timeoutSeconds", "1800"))):
                    await self._stream(watcher, response, fault)
        finally:
            self._watchers.remove(watcher)
        return response

    async def _stream(self, watcher: _Watcher, response: web.StreamResponse, fault: Fault) -> None:
        size_bytes, pause_s = fault.drip or (1 << 30, 0.0)
        while (line := await watcher.lines.get()) is not None:
            await self._thawed.wait()
            while not watcher.lines.empty() and len(line) < 1 << 20:
                more = watcher.lines.get_nowait()
                if more is None:
                    await response.write(line)
                    return
                line += more
            for at in range(0, len(line), size_bytes):
                await response.write(line[at : at + size_bytes])
                if pause_s:
                    await asyncio.sleep(pause_s)


def _encoded(request: web.Request, page: dict[str, Any]) -> bytes:
    """Encode a list as it was asked for; what protobuf can't hold comes as JSON, for whoever scripts it."""
    if protobuf_objects.MEDIA_TYPE in request.headers.get("Accept", ""):
        with suppress(TypeError, AttributeError, ValueError, LookupError):
            return protobuf_objects.listed(page)
    return json.dumps(page, separators=(",", ":")).encode()


def _media_type(body: bytes) -> str:
    return protobuf_objects.MEDIA_TYPE if body.startswith(protobuf_objects.MAGIC) else "application/json"


def _key(value: dict[str, Any]) -> str:
    meta = value["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else meta["name"]


def _line(kind: str, value: dict[str, Any] | None) -> bytes:
    return json.dumps({"type": kind, "object": value}, separators=(",", ":")).encode() + b"\n"


def _abort(request: web.Request) -> None:
    if isinstance(request.transport, asyncio.Transport):
        request.transport.abort()


def _wanted(request: web.Request) -> Callable[[dict[str, Any] | None], bool]:
    place = request.match_info.get("place", "")
    labels = Selection(labels=parse_selector(request.query.get("labelSelector", "")))
    fields = dict(part.split("=") for part in request.query.get("fieldSelector", "").split(",") if part)

    def is_wanted(value: dict[str, Any] | None) -> bool:
        if value is None:
            return False
        meta = value["metadata"]
        if place not in {"", meta.get("namespace")} or not labels.takes_labels(meta.get("labels", {})):
            return False
        return all(meta.get(field.removeprefix("metadata.")) == wanted for field, wanted in fields.items())

    return is_wanted


def make_certificates(folder: Path) -> None:
    """Make an authority and a certificate for 127.0.0.1, by openssl: ca.crt, tls.crt, tls.key."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    signing = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=ca", *signing)
    openssl("req", *curve, "-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=api")
    (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1\n")
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions")
    openssl("x509", "-req", "-in", "tls.csr", "-out", "tls.crt", *signed)


async def _serve(options: argparse.Namespace) -> None:
    from benchmarks.cluster_generator import Spec, churn, objects

    spec = Spec(services=options.services, endpoints=options.endpoints)
    api = ScriptedApi(bookmark_s=60.0)
    api.port = options.port
    for value in objects(spec):
        api.put(value)
    async with api:
        with tempfile.TemporaryDirectory() as folder:
            path = api.kubeconfig(Path(folder))
            print(f"listening at {api.url}; KUBECONFIG={path}", flush=True)
            if not options.churn_s:
                await asyncio.Event().wait()
            for change in churn(spec, 1 << 60):
                await asyncio.sleep(options.churn_s)
                if change.type == "DELETED":
                    api.delete(change.object["kind"], _key(change.object))
                else:
                    api.put(change.object)


def main() -> None:
    """Serve a generated cluster until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.scripted_api", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--services", type=int, default=100)
    parser.add_argument("--endpoints", type=int, default=1000)
    parser.add_argument("--churn-s", type=float, default=0.0, help="seconds between two changes; 0: none")
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()

"""The admin endpoint: /healthz, /readyz, /metrics, /status and a page for people, on TCP or a unix socket.

Law: it only tells. Nothing here changes or delays an answer; if its address can't be had, DNS goes on and it tries
again. Ready means "can answer", not "the source is there" (outage.md rule 1).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from agent.observe import http, page, status
from agent.observe.http import TEXT, HttpServer, Page, Request
from agent.observe.status import Status

log = logging.getLogger(__name__)

FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 5.0
BACKLOG = 64
UNIX_MODE = 0o600


class Renderer(Protocol):
    """What makes the body of /metrics (`observe.metrics.Metrics`)."""

    def render(self, status: Status, accept: str) -> tuple[str, bytes]:
        """Give content type and body; may block."""
        ...


class Admin:
    """Serves the admin endpoint.

    Args:
        address: (host, port), or the path of a unix socket.
        read: reads the status now; called on the loop.
        load_metrics: makes the renderer, once, with the first scrape; called on a thread, for it imports.

    Attributes:
        bound: where it listens, as a URL; empty while it doesn't.
        bind_failures: how often its address could not be had.
        http: counts requests.
    """

    def __init__(
        self, address: tuple[str, int] | str, read: Callable[[], Status], load_metrics: Callable[[], Renderer]
    ) -> None:
        self.bound = ""
        self.bind_failures = 0
        self.http = HttpServer(
            {
                "/": self._front,
                "/healthz": self._healthz,
                "/readyz": self._readyz,
                "/metrics": self._metrics,
                "/status": self._status,
            }
        )
        self._address = address
        self._read = read
        self._load_metrics = load_metrics
        self._renderer: Renderer | None = None
        self._loading = asyncio.Lock()

    async def run(self) -> None:
        """Listen and serve for ever."""
        server = await self._listen()
        log.info("admin endpoint on %s", self.bound)
        try:
            await server.serve_forever()
        finally:
            self.bound = ""
            server.close()
            self.http.abort()

    async def _listen(self) -> asyncio.Server:
        wait_s = FIRST_RETRY_S
        while True:
            try:
                sock = self._socket()
                # Not serving yet, so that nothing is awaited between having the socket and owning the server.
                server = await asyncio.start_server(
                    self.http.serve, sock=sock, limit=http.MAX_HEAD_BYTES, start_serving=False
                )
                self.bound = _url(sock)
                return server
            except OSError as error:
                self.bind_failures += 1
                level = logging.WARNING if self.bind_failures == 1 else logging.DEBUG
                log.log(level, "admin endpoint can't listen on %s, tries again: %s", self._address, error)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_RETRY_S)

    def _socket(self) -> socket.socket:
        unix = isinstance(self._address, str)
        family = socket.AF_UNIX if unix else socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if isinstance(self._address, str):
                os.fchmod(sock.fileno(), UNIX_MODE)  # before bind: the file is made with this mode
                _remove_dead(self._address)
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(self._address)
            sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
        return sock

    async def _healthz(self, _request: Request) -> Page:
        return Page(200, TEXT, b"ok\n")

    async def _readyz(self, _request: Request) -> Page:
        now = self._read()
        if now.ready:
            return Page(200, TEXT, b"ready\n")
        reasons = "".join(f"{name}: {reason}\n" for name, reason in now.not_ready.items())
        return Page(503, TEXT, f"not ready\n{reasons}".encode())

    async def _metrics(self, request: Request) -> Page:
        async with self._loading:
            if self._renderer is None:
                self._renderer = await asyncio.to_thread(self._load_metrics)
        accept = request.headers.get("accept", "")
        content_type, body = await asyncio.to_thread(self._renderer.render, self._read(), accept)
        return Page(200, content_type, body)

    async def _status(self, _request: Request) -> Page:
        return Page(200, "application/json", status.encode(self._read()))

    async def _front(self, _request: Request) -> Page:
        return Page(200, "text/html; charset=utf-8", page.render(self._read()).encode(), page.POLICY)


def _remove_dead(path: str) -> None:
    """Remove a socket file that nobody listens on any more (its owner was killed)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(path)
    if code == errno.ECONNREFUSED:
        Path(path).unlink()


def _url(sock: socket.socket) -> str:
    name = sock.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}/"

"""The smallest HTTP/1.1 server that probes, scrapers and browsers are content with (RFC 9112).

Law: one request, one response, one closed connection; GET and HEAD only; no request body is ever read. Head, headers,
time and connections are bounded, and whatever is over a bound or malformed is refused and counted. Why not
aiohttp.web: it costs 12 MiB and holds the loop for 0.2 s while it is imported, on every node, for five pages.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 32
MAX_HEAD_BYTES = 8192
MAX_HEADERS = 64
REQUEST_TIMEOUT_S = 5.0
WRITE_TIMEOUT_S = 10.0
LINGER_S = 1.0
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[\x21-\x7e]{0,2047}) HTTP/1\.([01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t\x80-\xff]*)")
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_ALWAYS = (
    "Connection: close\r\n"
    "Cache-Control: no-store\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "X-Frame-Options: DENY\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
)
DEFAULT_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
TEXT = "text/plain; charset=utf-8"


class Page(NamedTuple):
    """A response: status code, content type, body, and the policy a browser gets with it."""

    code: int
    content_type: str
    body: bytes
    policy: str = DEFAULT_POLICY


class Request(NamedTuple):
    """What is kept of a request; header names are lower-cased."""

    method: str
    path: str
    headers: Mapping[str, str]


class RefusedError(Exception):
    """A request that gets `page` and nothing else."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.page = Page(code, TEXT, f"{text}\n".encode())


Handler = Callable[[Request], Awaitable[Page]]


class HttpServer:
    """Answers requests by path.

    Args:
        routes: path → handler.

    Attributes:
        requests: answered so far, by status code.
        turned_away: connections closed at once because there were too many.
    """

    def __init__(self, routes: Mapping[str, Handler]) -> None:
        self.requests: dict[int, int] = {}
        self.turned_away = 0
        self._routes = routes
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection (the callback of asyncio's start_server, with limit MAX_HEAD_BYTES)."""
        if len(self._open) >= MAX_CONNECTIONS:
            self.turned_away += 1
            writer.transport.abort()
            return
        self._open.add(writer)
        try:
            await self._exchange(reader, writer)
        except (OSError, TimeoutError):
            writer.transport.abort()
        finally:
            self._open.discard(writer)
            writer.close()

    def abort(self) -> None:
        """Break every open connection."""
        for writer in self._open:
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method = "GET"
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
            request = parse(head)
            method = request.method
            page = await self._page(request)
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError:
            page = RefusedError(431, f"request head over {MAX_HEAD_BYTES} bytes").page
        except TimeoutError:
            page = RefusedError(408, "no whole request came in time").page
        except RefusedError as refused:
            page = refused.page
        self.requests[page.code] = self.requests.get(page.code, 0) + 1
        writer.write(_response(page, with_body=method != "HEAD"))
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await writer.drain()
            writer.write_eof()
        # Closing at once would reset the connection if anything of the request is still unread, response and all.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await reader.read(MAX_HEAD_BYTES)

    async def _page(self, request: Request) -> Page:
        handler = self._routes.get(request.path)
        if handler is None:
            raise RefusedError(404, f"nothing here; there is {', '.join(self._routes)}")
        try:
            return await handler(request)
        except Exception:
            log.exception("page %s failed", request.path)
            raise RefusedError(500, "this page failed, see the log") from None


def parse(head: bytes) -> Request:
    """Read the head of a request, up to and with the empty line.

    Raises:
        RefusedError: with the response it deserves.
    """
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise RefusedError(400, "malformed request line")
    if len(lines) > MAX_HEADERS:
        raise RefusedError(431, f"more than {MAX_HEADERS} header fields")
    headers: dict[str, str] = {}
    for field in lines:
        match = _HEADER.fullmatch(field)
        if match is None:
            raise RefusedError(400, "malformed header field")
        headers[match[1].decode().lower()] = match[2].decode("latin-1").strip()
    method = line[1].decode()
    if method not in {"GET", "HEAD"}:
        raise RefusedError(405, "only GET and HEAD are answered")
    if line[3] == b"1" and "host" not in headers:
        raise RefusedError(400, "no Host header field")
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise RefusedError(400, "no request body is taken")
    return Request(method, line[2].decode().partition("?")[0], headers)


def _response(page: Page, *, with_body: bool) -> bytes:
    allow = "Allow: GET, HEAD\r\n" if page.code == 405 else ""
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
    head = (
        f"HTTP/1.1 {page.code} {_REASONS[page.code]}\r\nDate: {date}\r\nContent-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\nContent-Security-Policy: {page.policy}\r\n{allow}{_ALWAYS}\r\n"
    )
    return head.encode() + (page.body if with_body else b"")

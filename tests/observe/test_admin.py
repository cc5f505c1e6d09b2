from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from urllib.parse import urlsplit

import aiohttp
import pytest
from blockbuster import blockbuster_ctx
from hypothesis import given
from hypothesis import strategies as st

from agent.observe import admin as admin_module
from agent.observe import http as http_module
from agent.observe.admin import Admin
from agent.observe.http import MAX_CONNECTIONS, RefusedError, parse
from agent.observe.metrics import Metrics
from agent.observe.status import Status, decode

from .statuses import full


class Running:
    """An admin endpoint on a free port, and what it reads."""

    def __init__(self, address=("127.0.0.1", 0)) -> None:
        self.status = full()
        self.loads = 0
        self.admin = Admin(address, lambda: self.status, self.load)

    def load(self):
        self.loads += 1
        return Metrics(lambda: False)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.admin.run())
        while not self.admin.bound:
            await asyncio.sleep(0.005)
        parts = urlsplit(self.admin.bound)
        self.port = parts.port if parts.scheme == "http" else 0
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def raw(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return answer

    async def get(self, path, method="GET", **headers):
        url = f"http://127.0.0.1:{self.port}{path}"
        async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers) as response:
            return response.status, response.headers, await response.text()


async def broken(reading) -> bool:
    """Tell whether a connection ended without a byte."""
    try:
        return await reading == b""
    except ConnectionError:
        return True


async def test_healthz_says_that_the_loop_turns():
    async with Running() as running:
        running.status = Status()
        assert (await running.get("/healthz"))[::2] == (200, "ok\n")


async def test_ready_means_can_answer_even_while_the_source_is_lost():
    async with Running() as running:
        assert running.status.source.connected is False
        assert (await running.get("/readyz"))[::2] == (200, "ready\n")
        running.status = full(ready=False, not_ready={"draining": "the agent is stopping"})
        assert (await running.get("/readyz"))[::2] == (503, "not ready\ndraining: the agent is stopping\n")


async def test_status_is_the_whole_status_as_json():
    async with Running() as running:
        code, headers, body = await running.get("/status")
        assert (code, headers["content-type"]) == (200, "application/json")
        assert decode(body.encode()) == full()
        assert json.loads(body)["snapshot"]["generation"] == 812


async def test_metrics_are_loaded_with_the_first_scrape_only():
    async with Running() as running:
        assert running.loads == 0
        code, headers, body = await running.get("/metrics")
        assert code == 200
        assert headers["content-type"].startswith("text/plain; version=")
        assert "nodens_snapshot_generation 812.0" in body
        _, headers, body = await running.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert headers["content-type"].startswith("application/openmetrics-text")
        assert running.loads == 1


async def test_the_page_is_self_contained_and_escapes_what_it_shows():
    async with Running() as running:
        code, headers, body = await running.get("/")
    assert code == 200
    assert "Stale for 30m 43s" in body
    assert "&lt;b&gt;bad&lt;/b&gt;" in body
    assert "<b>bad" not in body
    assert "(812 of 864)" in body
    assert "<i>payments" not in body
    assert not any(word in body for word in ("<script", "http://", "https://", "@import", "url("))
    assert "style-src 'sha256-" in headers["content-security-policy"]


@pytest.mark.parametrize("status", [Status(), full(ready=False, not_ready={"a": "b"}), full(state="expired")])
async def test_the_page_shows_every_state(status):
    async with Running() as running:
        running.status = status
        code, _, body = await running.get("/")
    assert code == 200
    assert body.count("<section") == body.count("</section>")


async def test_every_response_carries_the_headers_that_keep_browsers_honest():
    async with Running() as running:
        for path in ("/", "/status", "/nothing"):
            _, headers, _ = await running.get(path)
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert headers["x-frame-options"] == "DENY"
            assert headers["content-security-policy"].startswith("default-src 'none'")


async def test_head_has_no_body_and_the_length_of_gets():
    async with Running() as running:
        raw = await running.raw(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.endswith(b"\r\n\r\n")
        assert b"Content-Length: 3\r\n" in raw


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_only_get_and_head_are_answered(method):
    async with Running() as running:
        code, headers, _ = await running.get("/status", method)
        assert (code, headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
        (b"GET /healthz?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://a/healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 70 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: " + b"a" * 20_000, 431),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
    ],
)
async def test_requests_are_read_strictly(request_bytes, code):
    async with Running() as running:
        answer = await running.raw(request_bytes)
        assert answer.startswith(b"HTTP/1.1 %d " % code)
        assert running.admin.http.requests == {code: 1}


async def test_a_second_request_on_a_connection_is_not_answered():
    async with Running() as running:
        answer = await running.raw(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"Connection: close" in answer


async def test_a_client_that_says_nothing_is_sent_away_in_time(monkeypatch):
    monkeypatch.setattr(http_module, "REQUEST_TIMEOUT_S", 0.05)
    async with Running() as running:
        assert (await running.raw(b"GET / HTT")).startswith(b"HTTP/1.1 408 ")


async def test_connections_are_bounded_and_the_rest_is_turned_away_and_counted():
    async with Running() as running:
        idle = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(MAX_CONNECTIONS)]
        await asyncio.sleep(0.05)
        assert await broken(running.raw(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"))
        assert running.admin.http.turned_away == 1
        for _, writer in idle:
            writer.close()
        await asyncio.sleep(0.05)
        assert (await running.get("/healthz"))[0] == 200


async def test_a_page_that_fails_is_a_500_and_a_log_line(caplog):
    async with Running() as running:
        running.admin._read = lambda: 1 / 0
        code, _, body = await running.get("/status")
        assert (code, body) == (500, "this page failed, see the log\n")
        assert (await running.get("/healthz"))[0] == 200
    assert "page /status failed" in caplog.text


async def test_a_unix_socket_serves_is_private_and_takes_a_dead_ones_place(tmp_path):
    path = str(tmp_path / "admin.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    async with Running(path) as running:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        connector = aiohttp.UnixConnector(path)
        async with aiohttp.ClientSession(connector=connector) as session, session.get("http://x/healthz") as response:
            assert response.status == 200
        assert running.admin.bound == f"unix:{path}"


async def test_a_living_ones_socket_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(admin_module, "FIRST_RETRY_S", 0.01)
    path = str(tmp_path / "admin.sock")
    async with Running(path):
        second = Admin(path, full, lambda: None)
        task = asyncio.create_task(second.run())
        while not second.bind_failures:
            await asyncio.sleep(0.005)
        task.cancel()
        assert second.bound == ""


async def test_an_address_that_is_taken_is_tried_again_until_it_is_free(monkeypatch, caplog):
    monkeypatch.setattr(admin_module, "FIRST_RETRY_S", 0.01)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        admin = Admin(taken.getsockname(), full, lambda: None)
        task = asyncio.create_task(admin.run())
        while admin.bind_failures < 2:
            await asyncio.sleep(0.005)
        assert admin.bound == ""
    async with asyncio.timeout(5):
        while not admin.bound:
            await asyncio.sleep(0.01)
    task.cancel()
    assert [r.levelname for r in caplog.records if "can't listen" in r.message] == ["WARNING"]


async def test_nothing_blocks_the_loop():
    async with Running() as running:
        await running.get("/metrics")
        with blockbuster_ctx():
            for path in ("/", "/healthz", "/readyz", "/status", "/metrics"):
                raw = await running.raw(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
                assert raw.startswith(b"HTTP/1.1 200"), raw


async def test_ending_breaks_open_connections_and_frees_the_port():
    async with Running() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        await asyncio.sleep(0.02)
    assert await broken(asyncio.wait_for(reader.read(), 1))
    writer.close()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", running.port))


@given(st.binary(max_size=300))
def test_any_head_is_read_or_refused(head):
    try:
        request = parse(head + b"\r\n\r\n")
    except RefusedError as refused:
        code = refused.page.code
    else:
        assert request.path.startswith("/")
        code = 200
    assert code in {200, 400, 405, 431}

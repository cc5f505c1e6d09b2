"""Clients that cost: too many connections, slow ones, floods of garbage; and no descriptor left for anybody."""

from __future__ import annotations

import os
import random
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests import witness
from tests.control_plane.dns_client import Question, encode
from tests.control_plane.processes import wait_until
from tests.faults.stage import WEB, WEB_ADDRESS, Stage
from tests.faults.syscalls import open_files

pytestmark = pytest.mark.slow
IDLE_CLIENTS = 10_000


@contextmanager
def may_open(files: int) -> Iterator[None]:
    """Let this process have so many descriptors; skips where it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < files:
        pytest.skip(f"only {hard} descriptors are permitted here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, files), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(stack: ExitStack, port: int, number: int) -> socket.socket:
    """Connect from a client address of its own: 50 connections each."""
    client = stack.enter_context(socket.socket())
    client.bind((f"127.1.{number // 50 >> 8}.{number // 50 & 255}", 0))
    client.setblocking(False)
    client.connect_ex(("127.0.0.1", port))
    return client


def test_10_000_idle_tcp_clients(stage: Stage):
    before = stage.agent.child.usage().rss_bytes
    with may_open(IDLE_CLIENTS + 2000), stage.asking(), ExitStack() as stack:
        for number in range(IDLE_CLIENTS):
            connect(stack, stage.agent.port, number)
            if number % 500 == 499:
                time.sleep(0.05)
        state = stage.agent.wait_state("the bound", lambda state: state["events"]["tcp"]["too_many"] >= 1)
        assert state["traffic"]["tcp_connections"] <= 1024
        assert stage.ask(WEB, "+notcp").rdata == {WEB_ADDRESS}
        assert stage.agent.get("/readyz")[0] == 200
        grown = stage.agent.child.usage().rss_bytes - before
        assert grown < 100 << 20
        witness.NOW.saw(f"events: tcp/too_many; {grown >> 20} MiB more")
        wait_until("room again, as the idle are closed", lambda: _answers_over_tcp(stage), timeout_s=30, every_s=0.5)
        stage.follows()
    assert stage.agent.state()["events"]["tcp"]["idle"] >= 1


def _answers_over_tcp(stage: Stage) -> bool:
    return WEB_ADDRESS in stage.ask.text(WEB, "+tcp", "+tries=1")


def test_slow_writers_and_slow_readers(stage: Stage):
    """Some send a question octet by octet, some ask for ever and read nothing; others feel nothing of it."""
    question = encode(Question("catalog.shop.svc.cluster.local", "SRV"), 7)
    framed = struct.pack(">H", len(question)) + question
    with stage.asking(), ExitStack() as stack:
        writers = [connect(stack, stage.agent.port, number) for number in range(300)]
        readers = [connect(stack, stage.agent.port, 300 + number) for number in range(100)]
        for client in readers:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        end = time.monotonic() + 5
        at = 0
        while time.monotonic() < end:
            for client in writers:
                _send(client, framed[at % len(framed) : at % len(framed) + 1])
            for client in readers:
                _send(client, framed * 20)
            at += 1
            assert _answers_over_tcp(stage)
            time.sleep(0.1)
        stage.all_right()
        stage.follows()
        state = stage.agent.state()
        assert state["process"]["loop_lag_s"] < 5
        witness.NOW.saw(f"{state['traffic']['tcp_connections']} connections open, others answered")
    assert stage.agent.child.usage().rss_bytes < 400 << 20


def _send(client: socket.socket, octets: bytes) -> None:
    with suppress(BlockingIOError, ConnectionError):  # full, or closed by the server: both are what is wanted here
        client.send(octets)


@pytest.mark.parametrize("environ", [{}, {"NODENS_NO_EXT": "1"}], ids=["compiled", "python"])
def test_udp_flood_of_garbage(start_stage, environ: dict[str, str]):
    stage = start_stage(environ=environ)
    ended = threading.Event()
    sent = 0

    def flood() -> None:
        nonlocal sent
        rng = random.Random(7)
        good = encode(Question(WEB, "A"), 1)
        made = [rng.randbytes(rng.randrange(1, 600)) for _ in range(200)]
        made += [good[: rng.randrange(1, len(good))] for _ in range(100)]
        made += [bytes(b ^ (rng.random() < 0.05) * rng.randrange(256) for b in good) for _ in range(200)]
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            while not ended.wait(0.002):
                for packet in rng.sample(made, 50):
                    try:
                        peer.sendto(packet, ("127.0.0.1", stage.agent.port))
                    except ConnectionError:
                        continue  # an ICMP error of an earlier packet
                    sent += 1

    thread = threading.Thread(target=flood)
    with stage.asking():
        thread.start()
        try:
            time.sleep(4)
            stage.follows()
            stage.all_right()
        finally:
            ended.set()
            thread.join()
        state = stage.agent.state()
    counted = {**state["traffic"]["dropped"], **state["events"]["query"]}
    assert sum(counted.values()) > 100, counted
    assert sum(state["process"]["task_failures"].values()) == 0
    witness.NOW.saw(f"{sent} packets of garbage; dropped and faults by reason in status and metrics")


def test_no_descriptor_left(stage: Stage):
    """RLIMIT_NOFILE is reached while it runs: nothing new can be opened, what is open goes on."""
    pid = stage.agent.child.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with stage.asking():
        with ExitStack() as stack:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_files(pid) + 3, hard))
            for number in range(40):
                connect(stack, stage.agent.port, number)
            stage.api.do(lambda script: script.break_watches())
            lost = stage.agent.child
            wait_until(
                "trouble told", lambda: "Too many open files" in lost.text() or "out of system resource" in lost.text()
            )
            assert stage.ask(WEB, "+notcp").rdata == {WEB_ADDRESS}
            time.sleep(3)
            lost.check()
            assert stage.ask(WEB, "+notcp").rdata == {WEB_ADDRESS}
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        stage.follows()
        wait_until("TCP again", lambda: _answers_over_tcp(stage), every_s=0.5)
        stage.all_right()
        witness.NOW.saw("the log says: too many open files")


def test_started_with_few_descriptors(stage: Stage):
    stage.agent.kill()
    stage.agent.launcher = ["prlimit", "--nofile=24:24", *stage.agent.launcher]
    with stage.asking() as asking:
        stage.restart(asking)
        stage.follows()
        stage.all_right()
    assert os.path.exists(f"/proc/{stage.agent.child.pid}")

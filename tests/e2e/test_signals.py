"""SIGHUP verifies everything and then applies it, or nothing; SIGTERM drains, a second one leaves at once."""

from __future__ import annotations

import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.message
import pytest

from tests.agent_process import Agent
from tests.control_plane.dns_client import Question, ask_many, encode, rdata, try_ask
from tests.control_plane.processes import wait_until
from tests.e2e.conftest import QUICK
from tests.e2e.dig import Dig

WEB = "web.shop.svc.cluster.local"


def reloaded(agent: Agent, options: dict[str, Any] | str) -> dict[str, Any]:
    """Write the configuration, send SIGHUP, and wait for what came of it; returns /status."""

    def count() -> int:
        process = agent.state()["process"]
        return int(process["reloads_applied"] + process["reloads_refused"])

    before = count()
    if isinstance(options, str):
        agent.config.write_text(options)
    else:
        agent.configure({**QUICK, **options})
    agent.child.signal(signal.SIGHUP)
    wait_until("the reload", lambda: count() > before)
    return agent.state()["process"]


def test_a_reload_applies_what_can_change_while_running(agent: Agent, ask: Dig):
    assert "udp: 1232" in ask(WEB).text
    told = reloaded(
        agent, {"edns_udp_size": 1400, "identity": "node-b", "chaos": {"version": "refuse"}, "special_names": False}
    )
    assert (told["reloads_applied"], told["reloads_refused"]) == (1, 0)
    said = ask(WEB, "+nsid")
    assert "udp: 1400" in said.text
    assert '("node-b")' in said.text
    assert ask("version.bind", "TXT", "CH").status == "REFUSED"
    assert ask("id.server", "TXT", "CH").rdata == {'"node-b"'}
    assert ask("localhost").status == "REFUSED"
    assert said.rdata == {"10.96.10.80"}
    agent.wait_told("reloaded: ")
    assert "edns_udp_size" in agent.child.text().partition("reloaded: ")[2]


def test_a_reload_that_shortens_stale_after_counts_from_the_same_age(agent: Agent, cluster: Path, ask: Dig):
    reloaded(agent, {"stale_after": "1h"})
    cluster.unlink()
    agent.wait_state("an age", lambda state: state["age_s"] >= 2)
    assert ask(WEB).extended_error == ""
    reloaded(agent, {"stale_after": "1s"})
    wait_until("stale", lambda: ask(WEB).extended_error.startswith("3 (Stale Answer)"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"edns_udp_size": 100_000}, "edns_udp_size"),
        ({"edns_udp_sise": 1400}, "did you mean 'edns_udp_size'"),
        ("edns_udp_size: [1400", "nodens.yaml:1: while parsing a flow sequence"),
        ({"edns_udp_size": 1400, "ttl": 60}, "ttl can't change while running"),
        ({"edns_udp_size": 1400, "zones": ["other.example"]}, "zones can't change while running"),
    ],
    ids=["value out of range", "unknown option", "broken file", "ttl is fixed", "zones are fixed"],
)
def test_a_reload_that_is_wrong_in_one_point_changes_nothing(agent: Agent, ask: Dig, options, words: str):
    told = reloaded(agent, options)
    assert (told["reloads_applied"], told["reloads_refused"]) == (0, 1)
    agent.wait_told("reload refused, everything stays as it was")
    agent.wait_told(words)
    said = ask(WEB)
    assert (said.rdata, said.answer[0].ttl_s) == ({"10.96.10.80"}, 5)
    assert "udp: 1232" in said.text
    assert reloaded(agent, {"edns_udp_size": 1300})["reloads_applied"] == 1
    assert "udp: 1300" in ask(WEB).text


def test_no_question_is_lost_while_reloads_happen(agent: Agent):
    ended = threading.Event()

    def reload_again_and_again() -> None:
        size = 1232
        while not ended.wait(0.03):
            size += 1
            agent.configure({**QUICK, "edns_udp_size": size})
            agent.child.signal(signal.SIGHUP)

    thread = threading.Thread(target=reload_again_and_again)
    thread.start()
    try:
        for _, packet in ask_many(agent.port, [Question(WEB, "A")] * 3000):
            assert packet, "no answer to the third try either"
            assert rdata(dns.message.from_wire(packet)) == {"A 10.96.10.80"}
    finally:
        ended.set()
        thread.join()
    assert agent.state()["process"]["reloads_refused"] == 0


@pytest.fixture
def connection(agent: Agent) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", agent.port), timeout=5) as peer:
        yield peer


def answers(peer: socket.socket) -> list[bytes]:
    """Read framed messages up to the end of the connection."""
    stream = peer.makefile("rb").read()
    found = []
    while stream:
        (size,) = struct.unpack_from(">H", stream)
        found.append(stream[2 : 2 + size])
        stream = stream[2 + size :]
    return found


def test_sigterm_answers_what_has_arrived_then_ends_with_0(agent: Agent, connection: socket.socket):
    packet = encode(Question(WEB, "A"), 7)
    framed = struct.pack(">H", len(packet)) + packet
    connection.sendall(framed)
    assert connection.recv(2, socket.MSG_WAITALL | socket.MSG_PEEK)
    connection.sendall(framed * 50 + framed[:5])
    started = time.monotonic()
    agent.child.signal(signal.SIGTERM)
    came = answers(connection)
    assert len(came) == 51
    assert all(rdata(dns.message.from_wire(each)) == {"A 10.96.10.80"} for each in came)
    assert agent.child.wait() == 0
    assert time.monotonic() - started < 3, "nothing was left to wait for"
    assert "Traceback" not in agent.child.text()


def test_an_idle_connection_does_not_hold_up_the_end(agent: Agent, connection: socket.socket):
    wait_until("the connection", lambda: agent.state()["traffic"]["tcp_connections"] == 1)
    started = time.monotonic()
    agent.child.signal(signal.SIGTERM)
    assert connection.recv(1) == b""
    assert agent.child.wait() == 0
    assert time.monotonic() - started < 3


def send_until_stuck(peer: socket.socket, piece: bytes) -> None:
    """Send for as long as the other end takes it."""
    for _ in range(100_000):
        try:
            peer.send(piece)
        except TimeoutError:
            return
    raise AssertionError("the agent takes questions for ever and sends no answer")


def test_a_client_that_reads_nothing_holds_up_the_end_for_drain_and_no_longer(
    start_agent: Callable[..., Agent], cluster: Path
):
    agent = start_agent(cluster, drain="1s")
    agent.wait_connected()
    packet = encode(Question("catalog.shop.svc.cluster.local", "SRV"), 7)
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", agent.port))
        peer.settimeout(0.5)
        send_until_stuck(peer, (struct.pack(">H", len(packet)) + packet) * 1000)
        started = time.monotonic()
        agent.child.signal(signal.SIGTERM)
        assert agent.child.wait() == 0
        assert 0.5 < time.monotonic() - started < 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_lameduck_is_not_ready_but_answers(start_agent: Callable[..., Agent], cluster: Path, dig: str, number: int):
    agent = start_agent(cluster, lameduck="2500ms")
    agent.wait_connected()
    started = time.monotonic()
    agent.child.signal(number)
    if number == signal.SIGTERM:
        assert wait_until("not ready", lambda: agent.get("/readyz")[0] == 503)
        assert agent.get("/healthz")[0] == 200
        assert Dig(dig, agent.port)(WEB).rdata == {"10.96.10.80"}
    assert agent.child.wait() == 0
    waited_s = time.monotonic() - started
    assert (waited_s >= 2.5) == (number == signal.SIGTERM), "a person at the terminal is not kept waiting"


def test_a_second_sigterm_leaves_at_once(start_agent: Callable[..., Agent], cluster: Path):
    agent = start_agent(cluster, lameduck="60s")
    agent.wait_connected()
    agent.child.signal(signal.SIGTERM)
    wait_until("not ready", lambda: agent.get("/readyz")[0] == 503)
    assert try_ask(agent.port, WEB) is not None
    started = time.monotonic()
    agent.child.signal(signal.SIGTERM)
    assert agent.child.wait() == 1
    assert time.monotonic() - started < 2
    assert "nodens: SIGTERM again, leaving at once" in agent.child.text()


def test_what_was_learnt_last_is_on_disk_after_sigterm(agent: Agent, cluster: Path, ask: Dig):
    cluster.write_text(cluster.read_text().replace("10.96.10.80", "10.96.99.1"))
    wait_until("the change", lambda: ask(WEB).rdata == {"10.96.99.1"})
    assert agent.stop() == 0
    cluster.unlink()
    agent.start()
    agent.wait_answering()
    assert ask(WEB).rdata == {"10.96.99.1"}


def test_sigterm_that_comes_before_it_answers_is_obeyed(agent: Agent, cluster: Path):
    """Whenever it comes: before Python runs, the kernel ends the process; afterwards the agent does, with 0."""
    assert agent.stop() == 0
    for wait_s in (0.05, 0.15, 0.25, 0.4):
        agent.start()
        time.sleep(wait_s)
        assert agent.stop() in {0, -signal.SIGTERM}
    assert "Traceback" not in agent.child.text()

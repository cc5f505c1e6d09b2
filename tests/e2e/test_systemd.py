"""What a service manager sees and passes: sd_notify messages on a real socket, a watchdog, listening sockets."""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import dns.message
import pytest

from tests.agent_process import Agent
from tests.control_plane.dns_client import Question, encode, rdata, try_ask
from tests.control_plane.processes import wait_until
from tests.e2e.dig import Dig

WEB = "web.shop.svc.cluster.local"
# As systemd does it: descriptors from 3 on, and the variables of exactly this process.
PASS_SOCKETS = """
import fcntl, os, sys
own = [int(number) for number in sys.argv[1].split(",")]
for at, number in enumerate([fcntl.fcntl(number, fcntl.F_DUPFD, 100) for number in own]):
    os.dup2(number, 3 + at)
os.environ.update(LISTEN_FDS=str(len(own)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
"""


class ServiceManager:
    """The end of NOTIFY_SOCKET that systemd holds."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.messages: list[str] = []
        self._heard: list[str] = []

    def close(self) -> None:
        self._socket.close()

    def hear(self, for_s: float) -> list[str]:
        """Listen for a while; returns what came in it."""
        heard: list[str] = []
        end = time.monotonic() + for_s
        while (left_s := end - time.monotonic()) > 0:
            self._socket.settimeout(left_s)
            try:
                heard.append(self._socket.recv(4096).decode())
            except TimeoutError:
                break
        self.messages += heard
        return heard

    def wait_for(self, start: str) -> str:
        """Listen until a message begins so, and return it; those before it are passed over."""

        def found() -> str:
            self._heard += self.hear(0.02)
            while self._heard:
                first = self._heard.pop(0)
                if first.startswith(start):
                    return first
            return ""

        return wait_until(f"{start} (came: {self.messages})", found, timeout_s=15)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    managing = ServiceManager(tmp_path / "notify")
    yield managing
    managing.close()


def test_ready_means_answering_and_stopping_comes_before_the_end(
    start_agent: Callable[..., Agent], cluster: Path, tmp_path: Path, manager: ServiceManager
):
    agent = start_agent(cluster, environ={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    manager.wait_for("READY=1")
    assert try_ask(agent.port, WEB) is not None
    assert manager.wait_for("STATUS=fresh, generation")
    cluster.unlink()
    assert manager.wait_for("STATUS=stale, generation")
    assert agent.stop() == 0
    manager.hear(0.2)
    assert manager.messages[-1] == "STOPPING=1"


def test_a_reload_is_announced_and_ended(
    start_agent: Callable[..., Agent], cluster: Path, tmp_path: Path, manager: ServiceManager
):
    agent = start_agent(cluster, environ={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    manager.wait_for("READY=1")
    agent.wait_connected()
    manager.hear(0.1)
    for good in (True, False):
        agent.config.write_text("{}" if good else "{")
        agent.child.signal(signal.SIGHUP)
        heard = manager.wait_for("RELOADING=1")
        assert abs(int(heard.partition("MONOTONIC_USEC=")[2]) / 1e6 - time.monotonic()) < 5
        assert manager.wait_for("READY=1"), "systemd waits for it, also when nothing was changed"


def test_the_watchdog_is_fed_after_real_answers_and_starves_when_the_loop_is_stuck(
    start_agent: Callable[..., Agent], cluster: Path, tmp_path: Path, manager: ServiceManager
):
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
    agent = start_agent(cluster, environ=environ)
    manager.wait_for("WATCHDOG=1")
    assert manager.hear(1.5).count("WATCHDOG=1") >= 2
    agent.child.pause()
    manager.hear(0.3)
    assert manager.hear(1.0) == []
    agent.child.resume()
    manager.wait_for("WATCHDOG=1")
    assert agent.state()["traffic"]["queries"]["udp"] >= 4, "it is fed by questions to itself"


class Sockets:
    """A UDP and a TCP socket as a socket unit opens them."""

    def __init__(self, stack: ExitStack) -> None:
        self.udp = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        self.tcp = stack.enter_context(socket.socket())
        self.other = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        self.other.bind(("127.0.0.1", 0))

    def bind(self, port: int) -> None:
        self.udp.bind(("127.0.0.1", port))
        self.tcp.bind(("127.0.0.1", port))
        self.tcp.listen()

    @property
    def launcher(self) -> list[str]:
        numbers = ",".join(str(each.fileno()) for each in (self.udp, self.tcp, self.other))
        return [sys.executable, "-c", PASS_SOCKETS, numbers, "dns-udp:dns-tcp:stray"]


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    with ExitStack() as stack:
        yield Sockets(stack)


def test_inherited_sockets_are_served_and_questions_that_waited_in_them_are_answered(
    start_agent: Callable[..., Agent], cluster: Path, dig: str, sockets: Sockets
):
    agent = start_agent(cluster)
    agent.wait_connected()
    agent.wait_state("generation 1", lambda state: state["snapshot"]["generation_writes"] >= 1)
    assert agent.stop() == 0
    cluster.unlink()
    sockets.bind(agent.port)
    agent.launcher = sockets.launcher
    agent.pass_fds = tuple(each.fileno() for each in (sockets.udp, sockets.tcp, sockets.other))
    with socket.socket(type=socket.SOCK_DGRAM) as early:
        early.settimeout(10)
        early.connect(("127.0.0.1", agent.port))
        early.send(encode(Question(WEB, "A"), 1))
        agent.start()
        assert rdata(dns.message.from_wire(early.recv(4096))) == {"A 10.96.10.80"}
        agent.kill()
        early.send(encode(Question(WEB, "A"), 2))
        agent.start()
        assert rdata(dns.message.from_wire(early.recv(4096))) == {"A 10.96.10.80"}, "asked while it was down"
    ask = Dig(dig, agent.port)
    assert ask(WEB, "+tcp").rdata == {"10.96.10.80"}
    agent.wait_told("inherited socket 'stray' fits no listen address and is closed")
    assert agent.stop() == 0
    assert sockets.udp.getsockname()[1] == agent.port, "the service manager's own is left alone"

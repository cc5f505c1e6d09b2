"""Who is compared: nodens, CoreDNS, and the node cache in front of it, as shipped and with serve_stale.

Law: each is the real program, each can be restarted as its operator would, and each is asked by the same questions.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype

from benchmarks.demo.clusters import ZONE, Cluster, RealCluster, Truth
from tests.agent_process import Agent, ReservedPort
from tests.control_plane import binaries
from tests.control_plane.coredns import CoreDNS
from tests.control_plane.dns_client import Question, ask_many, status, try_ask
from tests.control_plane.processes import Child, wait_until

UDP_BYTES = 1232


class Score(NamedTuple):
    """What came of a round of questions: right answers, wrong ones (NXDOMAIN for a live name too), and no answer."""

    asked: int = 0
    right: int = 0
    wrong: int = 0

    @property
    def percent(self) -> int:
        """Right answers, rounded down: 100 is all of them."""
        return 100 * self.right // self.asked if self.asked else 0


def ask_all(port: int, names: list[str], truth: Truth) -> Score:
    """Ask a server for A records; what is lost is asked three times, as a resolver does."""
    right = wrong = 0
    for question, packet in ask_many(port, [Question(name, "A", UDP_BYTES) for name in names]):
        verdict = _is_right(packet, truth[question.name])
        right += verdict is True
        wrong += verdict is False
    return Score(len(names), right, wrong)


def _is_right(packet: bytes, expected: frozenset[str]) -> bool | None:
    """Tell right from wrong; None is no answer (SERVFAIL, REFUSED, silence), which a client can see for itself."""
    try:
        reply = dns.message.from_wire(packet)
    except dns.exception.DNSException:
        return None
    if reply.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        return None
    found = {item.to_text() for rrset in reply.answer if rrset.rdtype == dns.rdatatype.A for item in rrset}
    return found == expected


class Column:
    """One of those who are compared.

    Attributes:
        name: who it is.
        short: the same, at the head of a column.
        port: where it is asked.
        is_node_agent: it runs on every node, and is restarted with the node's agents.
        wrong: wrong answers it gave so far.
    """

    def __init__(self, name: str, port: int, *, is_node_agent: bool, short: str = "") -> None:
        self.name = name
        self.short = short or name
        self.port = port
        self.is_node_agent = is_node_agent
        self.wrong = self.asked = 0

    def ask(self, names: list[str], truth: Truth) -> Score:
        """Ask it, and keep count of what was wrong."""
        score = ask_all(self.port, names, truth)
        self.wrong += score.wrong
        self.asked += score.asked
        return score

    def restart(self) -> None:
        """Kill it, and start it again."""
        raise NotImplementedError


class ClusterDns(Column):
    """CoreDNS with its kubernetes plugin."""

    def __init__(self, server: CoreDNS) -> None:
        super().__init__("CoreDNS", server.port, is_node_agent=False)
        self.server = server

    def restart(self) -> None:
        """See `Column.restart`."""
        self.server.restart()


class NodeCache(Column):
    """node-cache, or CoreDNS configured as it is: `cache` with success 30 s, forwarding over TCP."""

    def __init__(self, name: str, root: Path, upstream: int, more: str = "") -> None:
        root.mkdir(parents=True)
        self._held = ReservedPort()
        super().__init__(name, self._held.number, is_node_agent=True, short="+ serve_stale" if more else "node-cache")
        self._log = root / "node-cache.log"
        self._corefile = root / "Corefile"
        self._corefile.write_text(
            f"{ZONE}:{self.port} in-addr.arpa:{self.port} ip6.arpa:{self.port} {{\n    bind 127.0.0.1\n    errors\n"
            f"    cache {{\n        success 9984 30\n        denial 9984 5\n{more}    }}\n"
            f"    forward . 127.0.0.1:{upstream} {{\n        force_tcp\n    }}\n}}\n"
        )
        self.child = self._start()

    def _start(self) -> Child:
        return Child([str(binaries.coredns()), "-conf", str(self._corefile)], self._log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.child.stop()
        self._held.close()

    def restart(self) -> None:
        """See `Column.restart`; it is back when it gives any answer."""
        self.child.kill()
        self.child = self._start()
        wait_until(self.name, lambda: try_ask(self.port, f"no.such.svc.{ZONE}", timeout_s=3) is not None)


class Ours(Column):
    """nodens; without its snapshot it stands in for a cache where there is no CoreDNS.

    Attributes:
        restart_s: from starting the process to its first answer, the last time.
    """

    def __init__(self, name: str, agent: Agent, *, keeps_snapshot: bool = True) -> None:
        super().__init__(name, agent.port, is_node_agent=True)
        self.agent = agent
        self.restart_s = 0.0
        self._keeps_snapshot = keeps_snapshot

    def restart(self) -> None:
        """See `Column.restart`."""
        self.agent.kill()
        if not self._keeps_snapshot:
            shutil.rmtree(self.agent.state_dir)
        self.agent.start()
        started = time.monotonic()
        wait_until(self.name, lambda: try_ask(self.port, f"no.such.svc.{ZONE}", timeout_s=0.2), timeout_s=20)
        self.restart_s = time.monotonic() - started


@contextlib.contextmanager
def columns(root: Path, cluster: Cluster, stale_after_s: float) -> Iterator[list[Column]]:
    """Start everybody and wait until each is in sync; nodens is the last one.

    Args:
        root: a folder for what they need.
        cluster: which they follow.
        stale_after_s: from when nodens marks its answers as stale.
    """
    with contextlib.ExitStack() as stack:
        found: list[Column] = []
        if isinstance(cluster, RealCluster) and binaries.coredns():
            server = stack.enter_context(CoreDNS(root / "coredns", cluster.peer_kubeconfig))
            found.append(ClusterDns(server))
            cache = ("node-cache as shipped", root / "node-cache", server.port)
            found.append(stack.enter_context(NodeCache(*cache)))
            stale = ("node-cache + serve_stale 1h", root / "node-cache-stale", server.port, "        serve_stale 1h\n")
            found.append(stack.enter_context(NodeCache(*stale)))
        options = {"stale_after": stale_after_s, **cluster.options}
        if not found:
            without = stack.enter_context(Agent(root / "without", cluster.source, options))
            found.append(Ours("without snapshot", without, keeps_snapshot=False))
        ours = Ours("nodens", stack.enter_context(Agent(root / "nodens", cluster.source, options)))
        found.append(ours)
        for column in found:
            if isinstance(column, ClusterDns):
                column.server.wait_ready(60)
            elif isinstance(column, Ours):
                column.agent.wait_connected(60)
        for column in found:
            wait_until(column.name, lambda port=column.port: in_sync(port), timeout_s=30)
        yield found


def in_sync(port: int) -> bool:
    """Tell whether what doesn't exist is known not to."""
    return status(try_ask(port, f"no.such.svc.{ZONE}", timeout_s=1)) == "NXDOMAIN"


def stand_in() -> str:
    """Say what is not real here, or nothing."""
    if binaries.missing():
        return f"There is {binaries.missing()}. So a file takes the API server's place."
    if not binaries.coredns():
        return f"There is {binaries.coredns_missing()}. So an agent that loses its disk stands in for a cache."
    return ""

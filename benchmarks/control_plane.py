"""What nodens costs and how fast it follows, against a real API server, CoreDNS beside it in the same run.

    python -m benchmarks.control_plane [--services N] [--endpoints N] [--json FILE] [PART ...]

Parts (all of them unless named):
  sync      API server CPU and bytes of one full sync: each client starts with nothing, alone, several times in turn;
            bytes are counted by a relay in front of the API server (TLS included), CPU is user+system of the API
            server from /proc less what it spends idle in the same time
  patch     from sending the PATCH of a slice to the changed answer, both servers asked in the same loop
  burst     from the first of N Services created one after another until the last one answers
  recovery  from the API server's return to the first followed change; the outage lasts --outage seconds
  restart   agent restarted with the API server gone: exec to the first right answer; and requests of a resume

Needs etcd, kube-apiserver and CoreDNS (`make envtest`). Prints a table, writes a record, with --publish into
benchmarks/results/ as well.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import select
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.cluster_generator import Spec, objects
from benchmarks.measure import heading, keep
from tests.control_plane import binaries
from tests.control_plane.agent_process import Nodens
from tests.control_plane.api_client import MERGE, path_of
from tests.control_plane.control_plane import PEER, READER, ControlPlane
from tests.control_plane.coredns import CoreDNS
from tests.control_plane.dns_client import Question, addresses, encode
from tests.control_plane.nasty_cases import endpoint, port, service, slice_
from tests.control_plane.processes import wait_until
from tests.control_plane.relay import Relay

POLL_S = 0.0003
LOST_S = 0.1
WARM_UP = 10
PLACE = "bench"


class Bench:
    """A control plane with a cluster on it, and the figures collected so far."""

    def __init__(self, plane: ControlPlane, root: Path, options: argparse.Namespace) -> None:
        self.plane, self.root, self.options = plane, root, options
        self.figures: dict[str, Any] = {}
        self._started = 0

    @contextlib.contextmanager
    def client(self, which: str, port_: int | None = None) -> Iterator[Nodens | CoreDNS]:
        """Start CoreDNS or nodens with nothing known and wait until it is in sync."""
        self._started += 1
        root = self.root / f"{which}-{self._started}"
        token = PEER if which == "CoreDNS" else READER
        config = self.plane.kubeconfig(token, port_)
        with CoreDNS(root, config) if which == "CoreDNS" else Nodens(root, config) as client:
            if isinstance(client, CoreDNS):
                client.wait_ready(120)
            else:
                client.wait_connected(120)
            yield client

    def note(self, name: str, nodens: float, coredns: float | None, unit: str) -> None:
        """Keep one row of the table; CoreDNS may have no part in it."""
        self.figures[name] = {"nodens": nodens, "coredns": coredns, "unit": unit}
        theirs = "-" if coredns is None else f"{coredns:.2f}"
        print(f"{name:<58}{nodens:>12.2f}{theirs:>12}  {unit}", flush=True)


def sync(bench: Bench) -> None:
    """Measure one full sync of each client, several times in turn."""
    found: dict[str, list[tuple[float, float, float, float]]] = {"nodens": [], "CoreDNS": []}
    for _ in range(bench.options.runs):
        for which, results in found.items():
            time.sleep(2)
            api = bench.plane.api
            idle_from, idle_at = api.usage().cpu_s, time.monotonic()
            time.sleep(3)
            idle = (api.usage().cpu_s - idle_from) / (time.monotonic() - idle_at)
            with Relay(bench.plane.port) as relay:
                before, at = api.usage().cpu_s, time.monotonic()
                with bench.client(which, relay.port) as client:
                    took = time.monotonic() - at
                    time.sleep(1)  # what the API server does after the last byte
                    spent = api.usage().cpu_s - before - idle * (time.monotonic() - at)
                    results.append((spent, relay.to_client_bytes / 1e6, took, client.child.usage().rss_bytes / 2**20))
    for index, (name, unit) in enumerate(
        [
            ("full sync: API server CPU", "s"),
            ("full sync: bytes", "MB"),
            ("start to in sync", "s"),
            ("RSS after it", "MiB"),
        ]
    ):
        bench.note(name, *(statistics.median(run[index] for run in found[which]) for which in found), unit)


class Poll:
    """One question asked of one server over and over: a pause after each reply, and again if a reply is lost."""

    def __init__(self, port_: int, packet: bytes) -> None:
        self._peer = socket.socket(type=socket.SOCK_DGRAM)
        self._peer.connect(("127.0.0.1", port_))
        self._peer.setblocking(False)
        self._packet = packet
        self.due = 0.0

    def fileno(self) -> int:
        return self._peer.fileno()

    def ask(self, now: float) -> None:
        """Ask if it is time to."""
        if now >= self.due:
            self._peer.send(self._packet)
            self.due = now + LOST_S

    def reply(self, now: float) -> bytes:
        """Take a reply, empty if there is none."""
        try:
            packet = self._peer.recv(4096)
        except BlockingIOError:
            return b""
        self.due = now + POLL_S
        return packet

    def close(self) -> None:
        self._peer.close()


class Watching:
    """Asks servers one question, each at its own pace, until each gives the wanted address."""

    def __init__(self, ports: dict[str, int], name: str) -> None:
        packet = encode(Question(name, "A"), 7)
        self._polls = {which: Poll(number, packet) for which, number in ports.items()}

    def close(self) -> None:
        for poll in self._polls.values():
            poll.close()

    def until(self, address: str, started: float, timeout_s: float = 20) -> dict[str, float]:
        """Return the seconds after `started` at which each server first answered `address`."""
        wanted = socket.inet_aton(address)
        left, seen = dict(self._polls), {}
        while left:
            now = time.perf_counter()
            if now - started > timeout_s:
                raise AssertionError(f"{sorted(left)} did not follow within {timeout_s} s")
            for poll in left.values():
                poll.ask(now)
            pause_s = max(0.0, min(poll.due for poll in left.values()) - time.perf_counter())
            ready, _, _ = select.select(list(left.values()), [], [], pause_s)
            now = time.perf_counter()
            for which in [which for which, poll in left.items() if poll in ready]:
                if wanted in left[which].reply(now)[12:]:
                    seen[which] = now - started
                    del left[which]
        return seen


def patch(bench: Bench) -> None:
    """Measure from sending a PATCH to the changed answer, for both servers in one loop."""
    plane, found = bench.plane, {"nodens": [], "CoreDNS": []}
    plane.admin.ensure({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLACE}})
    plane.admin.ensure(service("probe", port("http", 80), namespace=PLACE))
    plane.admin.ensure(slice_("probe", 1, [port("http", 80)], endpoint("10.210.0.1"), namespace=PLACE))
    path = path_of("EndpointSlice", PLACE, "probe-1")
    name = f"probe.{PLACE}.svc.cluster.local"
    with bench.client("nodens") as ours, bench.client("CoreDNS") as theirs:
        watching = Watching({"nodens": ours.port, "CoreDNS": theirs.port}, name)
        for number in range(WARM_UP + bench.options.patches):
            address = f"10.210.{number // 250 + 1}.{number % 250 + 1}"
            body = {"endpoints": [endpoint(address)]}
            started = time.perf_counter()
            plane.admin.send("PATCH", path, body, MERGE)
            seen = watching.until(address, started)
            for which, seconds in seen.items() if number >= WARM_UP else ():
                found[which].append(seconds * 1000)
            code, answer = plane.admin.receive()
            assert code == 200, answer
            time.sleep(0.02)
        watching.close()
    for name, of in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)):
        bench.note(f"PATCH sent to changed answer, {name}", *(_quantile(found[which], of) for which in found), "ms")
    both = sorted(ours - theirs for ours, theirs in zip(found["nodens"], found["CoreDNS"], strict=True))
    bench.note("nodens minus CoreDNS, same PATCH, median", statistics.median(both), 0.0, "ms")


def _quantile(values: list[float], of: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(of * len(ordered)))]


def burst(bench: Bench) -> None:
    """Measure how long after the last of many writes the last name answers."""
    plane, count = bench.plane, bench.options.burst
    plane.admin.ensure({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLACE}})
    with bench.client("nodens") as ours, bench.client("CoreDNS") as theirs:
        name = f"burst-{count - 1}.{PLACE}.svc.cluster.local"
        services = [
            service(f"burst-{i}", port("http", 80), ips=(f"10.104.{i // 250}.{i % 250 + 1}",), namespace=PLACE)
            for i in range(count)
        ]
        plane.admin.write(services[:-1])
        watching = Watching({"nodens": ours.port, "CoreDNS": theirs.port}, name)
        started = time.perf_counter()
        plane.admin.create(services[-1])
        seen = watching.until(services[-1]["spec"]["clusterIP"], started)
        watching.close()
        for each in services:
            plane.admin.delete("Service", PLACE, each["metadata"]["name"])
    bench.note(
        f"last of {count} Services created at once: sent to answered",
        seen["nodens"] * 1000,
        seen["CoreDNS"] * 1000,
        "ms",
    )


def recovery(bench: Bench) -> None:
    """Measure from the API server being ready again to the first change that is followed."""
    plane, found = bench.plane, {"nodens": [], "CoreDNS": []}
    plane.admin.ensure({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLACE}})
    for number in range(bench.options.recoveries):
        with bench.client("nodens") as ours, bench.client("CoreDNS") as theirs:
            plane.kill_api()
            time.sleep(bench.options.outage)
            assert addresses(ours.port, "kube-dns.kube-system.svc.cluster.local")
            plane.start_api()
            started = time.perf_counter()
            address, name = f"10.105.0.{number + 1}", f"back-{number}"
            plane.admin.create(service(name, port("http", 80), ips=(address,), namespace=PLACE))
            watching = Watching({"nodens": ours.port, "CoreDNS": theirs.port}, f"{name}.{PLACE}.svc.cluster.local")
            for which, seconds in watching.until(address, started, 180).items():
                found[which].append(seconds)
            watching.close()
    title = f"API server ready again to following ({bench.options.outage} s outage)"
    bench.note(title, *(statistics.median(found[which]) for which in found), "s")
    bench.figures[title]["runs"] = found


def restart(bench: Bench) -> None:
    """Measure a restart without the API server, and what a resume asks of it."""
    with bench.client("nodens") as agent:
        assert isinstance(agent, Nodens)
        agent.stop()
        mark = bench.plane.audit_mark()
        agent.start()
        agent.wait_connected(60)
        requests = bench.plane.counts(since=mark)
        bench.plane.kill_api()
        took = []
        for _ in range(3):
            agent.kill()
            agent.start()
            wait_until("the first right answer", lambda: _answers(agent.port), timeout_s=30, every_s=0.002)
            took.append((time.monotonic() - agent.child.started_s) * 1000)
        rss = agent.child.usage().rss_bytes / 2**20
        bench.plane.start_api()
    bench.note("exec to first right answer, API server gone", statistics.median(took), None, "ms")
    bench.note("RSS then", rss, None, "MiB")
    bench.note("API requests of a restart", sum(requests.values()), None, "requests")
    bench.figures["API requests of a restart"]["by kind"] = dict(requests)


def _answers(number: int) -> bool:
    """Ask once; only a short wait, since a port without a listener answers nothing."""
    packet = encode(Question("kube-dns.kube-system.svc.cluster.local", "A"), 9)
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.connect(("127.0.0.1", number))
        peer.settimeout(0.05)
        with contextlib.suppress(OSError):
            peer.send(packet)
            answer = peer.recv(4096)
            return struct.unpack_from(">H", answer, 6)[0] > 0
    return False


PARTS: dict[str, Callable[[Bench], None]] = {
    "sync": sync,
    "patch": patch,
    "burst": burst,
    "recovery": recovery,
    "restart": restart,
}


def _parser() -> argparse.ArgumentParser:
    head, _, rest = (__doc__ or "").partition("\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m benchmarks.control_plane", description=head, epilog=rest, formatter_class=raw
    )
    add = parser.add_argument
    add("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    add("--services", type=int, default=10_000)
    add("--endpoints", type=int, default=100_000)
    add("--namespaces", type=int, default=200)
    add("--runs", type=int, default=3, help="full syncs of each client (%(default)s)")
    add("--patches", type=int, default=300)
    add("--burst", type=int, default=1000)
    add("--recoveries", type=int, default=1)
    add("--outage", type=float, default=30.0)
    add("--json", type=Path, metavar="FILE", help="where the record goes (.run/bench/control_plane.json)")
    add("--publish", action="store_true", help="put the record into benchmarks/results/")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(argv)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        print(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    if reason := binaries.missing() or binaries.coredns_missing():
        print(f"can't measure: {reason}", file=sys.stderr)
        return 1
    head = heading()
    spec = Spec(services=options.services, endpoints=options.endpoints, namespaces=options.namespaces)
    with tempfile.TemporaryDirectory(prefix="nodens-bench-") as folder, ControlPlane(Path(folder) / "plane") as plane:
        written, took = plane.admin.write(objects(spec))
        print(f"{written} objects written in {took:.0f} s; {os.cpu_count()} cores, {platform.machine()}")
        print(f"{'':<58}{'nodens':>12}{'CoreDNS':>12}")
        bench = Bench(plane, Path(folder), options)
        for part in options.parts or PARTS:
            PARTS[part](bench)
        chosen = {key: value for key, value in vars(options).items() if key not in {"json", "publish"}}
        record = {**head, "options": chosen, "figures": bench.figures}
        keep(record, "control_plane", publish=options.publish, path=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

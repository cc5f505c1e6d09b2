"""Forty nodes at once on a real API server: first syncs, and the return of everything after the API server died.

    python -m benchmarks.herd [--nodes 40] [--services 2000] [--endpoints 20000] [--publish]

Real agents and real CoreDNS processes, on real etcd and kube-apiserver, in turn; each time the API server is new:
  nodens             with a reconnect window for as many nodes (api.fleet_nodes)
  nodens, no window  the herd
  CoreDNS            plugin kubernetes: client-go's streamed protobuf lists
What is told: CPU and peak memory of the API server from /proc, less what it takes with nobody there; bytes it sent, by
the kernel's own counters of its connections; and how long after its return a new Service was answered by each node.
Bounded to ten minutes or so. Needs `make envtest`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks.cluster_generator import Spec, objects
from tests.control_plane import binaries
from tests.control_plane.agent_process import Nodens
from tests.control_plane.control_plane import PEER, ControlPlane
from tests.control_plane.coredns import CoreDNS
from tests.control_plane.dns_client import addresses
from tests.control_plane.nasty_cases import port, service

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
MARKS = ("<!-- herd: begin -->", "<!-- herd: end -->")
PLACE = "herd"
AFTER_S = 2.0
"""What the API server does after the last byte."""
LONGEST_S = 150.0
SAMPLE_S = 0.25
_SENT = re.compile(r"bytes_sent:(\d+)")


class Cost(NamedTuple):
    """What the API server spent."""

    cpu_s: float
    peak_bytes: int
    sent_bytes: int
    took_s: float


class Meter:
    """Adds up the bytes on the API server's connections while something happens; its CPU and memory in the end."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._sent: dict[str, int] = {}
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._from_s = time.monotonic()
        self._old = dict(self._connections())
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._has_ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._has_ended.wait(SAMPLE_S):
            self._look()

    def _look(self) -> None:
        for peer, sent in self._connections():
            self._sent[peer] = max(self._sent.get(peer, 0), sent - self._old.get(peer, 0))

    def _connections(self) -> Iterator[tuple[str, int]]:
        command = ["ss", "-tinHO", "state", "established", "sport", "=", f":{self._plane.port}"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for line in text.splitlines():
            found = _SENT.search(line)
            if found:
                yield line.split()[3], int(found[1])

    def cost(self) -> Cost:
        """Give what this life of the API server has cost so far, and the bytes since the meter began."""
        self._look()
        api = self._plane.api
        assert api is not None
        usage = api.usage()
        return Cost(usage.cpu_s, usage.peak_rss_bytes, sum(self._sent.values()), time.monotonic() - self._from_s)


class Nobody:
    """What the API server costs with no client."""

    name = "nobody"

    def __init__(self, plane: ControlPlane, root: Path, nodes: int) -> None:
        self.ports: list[int] = []

    def start(self, stack: ExitStack) -> None:
        """Start nothing."""

    def wait(self) -> None:
        """Wait for nothing."""


class Agents(Nobody):
    """Agents that know how many they are."""

    name = "nodens"
    is_told = True

    def __init__(self, plane: ControlPlane, root: Path, nodes: int) -> None:
        super().__init__(plane, root, nodes)
        self._config = plane.kubeconfig()
        self._root, self._nodes = root, nodes
        self._agents: list[Nodens] = []

    def start(self, stack: ExitStack) -> None:
        """Start all of them."""
        api = {"fleet_nodes": self._nodes if self.is_told else 0}
        for number in range(self._nodes):
            options = {"api": api, "identity": f"node-{number}", "log_level": "warning"}
            agent = stack.enter_context(Nodens(self._root / f"{self.name}-{number}", self._config, options))
            self._agents.append(agent)
        self.ports = [agent.port for agent in self._agents]

    def wait(self) -> None:
        """Wait until all of them follow."""
        for agent in self._agents:
            agent.wait_connected(LONGEST_S)


class AgentsAtOnce(Agents):
    """Agents that have been told of no fleet."""

    name = "nodens, no window"
    is_told = False


class Peers(Nobody):
    """CoreDNS."""

    name = "CoreDNS"

    def __init__(self, plane: ControlPlane, root: Path, nodes: int) -> None:
        super().__init__(plane, root, nodes)
        self._config = plane.kubeconfig(PEER)
        self._root, self._nodes = root, nodes
        self._servers: list[CoreDNS] = []

    def start(self, stack: ExitStack) -> None:
        """Start all of them."""
        for number in range(self._nodes):
            self._servers.append(stack.enter_context(CoreDNS(self._root / f"coredns-{number}", self._config)))
        self.ports = [server.port for server in self._servers]

    def wait(self) -> None:
        """Wait until all of them are in sync."""
        for server in self._servers:
            server.wait_ready(LONGEST_S)


def first_sync(plane: ControlPlane, crowd: Nobody, stack: ExitStack) -> Cost:
    """Start all of a kind with nothing held."""
    api = plane.api
    assert api is not None
    before_s = api.usage().cpu_s
    with Meter(plane) as meter:
        crowd.start(stack)
        crowd.wait()
        time.sleep(AFTER_S)
        cost = meter.cost()
    return cost._replace(cpu_s=cost.cpu_s - before_s)


def comeback(plane: ControlPlane, crowd: Nobody, outage_s: float, at_least_s: float) -> tuple[Cost, list[float]]:
    """Kill the API server and start it again; gives what that life has cost, and when each node followed (s)."""
    plane.kill_api()
    time.sleep(outage_s)
    address = f"10.106.0.{len(crowd.ports) % 250 + 1}"
    name = f"after-{re.sub('[^a-z]', '', crowd.name.lower())}"
    with Meter(plane) as meter:
        # Clients come as soon as the port opens, some seconds before it is ready.
        plane.start_api()
        ready_s = time.monotonic()
        plane.admin.create(service(name, port("http", 80), ips=(address,), namespace=PLACE))
        left, seen = set(crowd.ports), []
        while left and time.monotonic() - ready_s < LONGEST_S:
            for each in sorted(left):
                if addresses(each, f"{name}.{PLACE}.svc.cluster.local"):
                    left.discard(each)
                    seen.append(time.monotonic() - ready_s)
            time.sleep(0.1)
        if left:
            raise AssertionError(f"{len(left)} of {crowd.name} did not follow within {LONGEST_S:g} s")
        time.sleep(max(AFTER_S, ready_s + at_least_s - time.monotonic()))
        cost = meter.cost()
    plane.admin.delete("Service", PLACE, name)
    return cost, seen


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run all of it; gives the record."""
    spec = Spec(services=options.services, endpoints=options.endpoints, namespaces=options.namespaces)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="nodens-herd-") as folder, ControlPlane(Path(folder) / "plane") as plane:
        written, took_s = plane.admin.write(objects(spec))
        print(f"{written} objects written in {took_s:.0f} s", file=sys.stderr, flush=True)
        plane.admin.ensure({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLACE}})
        for kind in (Nobody, Agents, AgentsAtOnce, Peers):
            plane.kill_api()
            plane.start_api()
            time.sleep(3)
            crowd = kind(plane, Path(folder), options.nodes)
            with ExitStack() as stack:
                start = first_sync(plane, crowd, stack)
                back, seen = comeback(plane, crowd, options.outage, options.least)
            found[crowd.name] = {"start": start._asdict(), "return": back._asdict(), "seen_s": seen}
            print(f"{crowd.name}: {found[crowd.name]}", file=sys.stderr, flush=True)
    machine = {"cores": os.cpu_count(), "load": os.getloadavg(), "date": time.strftime("%Y-%m-%d")}
    return {"machine": machine, "options": vars(options), "objects": written, "runs": found}


def table(record: dict[str, Any]) -> Iterator[str]:
    """Write the record as a table."""
    runs = record["runs"]
    nobody, names = runs["nobody"], [name for name in runs if name != "nobody"]
    options = record["options"]
    yield (
        f"{record['machine']['date']}, {record['machine']['cores']} cores, {options['nodes']} nodes at once, "
        f"{options['services']:,} Services, {options['endpoints']:,} endpoints, outage of {options['outage']:g} s."
    )
    yield ""
    yield "| | " + " | ".join(names) + " |"
    yield "|---|" + "---:|" * len(names)
    # With nobody there the start lasts a moment only: its CPU is idle time, and not worth taking off.
    rows = {
        "first sync of all: API server CPU, s": lambda run: run["start"]["cpu_s"],
        "… sent, MB": lambda run: run["start"]["sent_bytes"] / 1e6,
        "… peak RSS of the API server, MiB": lambda run: run["start"]["peak_bytes"] / 2**20,
        "return: API server CPU beyond that with nobody, s": (
            lambda run: run["return"]["cpu_s"] - nobody["return"]["cpu_s"]
        ),
        "… sent meanwhile beyond that with nobody, MB": (
            lambda run: (run["return"]["sent_bytes"] - nobody["return"]["sent_bytes"]) / 1e6
        ),
        "… peak RSS of the API server beyond that with nobody, MiB": (
            lambda run: (run["return"]["peak_bytes"] - nobody["return"]["peak_bytes"]) / 2**20
        ),
        "… a new Service is answered after, median, s": lambda run: statistics.median(run["seen_s"]),
        "… by the last node after, s": lambda run: max(run["seen_s"]),
    }
    for title, of in rows.items():
        yield f"| {title} | " + " | ".join(f"{of(runs[name]):,.1f}" for name in names) + " |"
    yield ""
    yield (
        f"With nobody there the API server takes {nobody['return']['cpu_s']:.1f} s of CPU time and "
        f"{nobody['return']['peak_bytes'] / 2**20:.0f} MiB from its start to {options['least']:g} s after it is ready."
    )


def _parser() -> argparse.ArgumentParser:
    head, _, rest = (__doc__ or "").partition("\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks.herd", description=head, epilog=rest, formatter_class=raw)
    add = parser.add_argument
    add("--nodes", type=int, default=40)
    add("--services", type=int, default=2_000)
    add("--endpoints", type=int, default=20_000)
    add("--namespaces", type=int, default=80)
    add("--outage", type=float, default=15.0)
    add("--least", type=float, default=20.0, help="seconds after the return that are looked at in any case")
    add("--publish", action="store_true", help="write results/herd.json and the table in README.md")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(argv)
    if reason := binaries.missing() or binaries.coredns_missing():
        print(f"can't measure: {reason}", file=sys.stderr)
        return 1
    record = measure(options)
    text = "\n".join(table(record))
    print(text)
    if options.publish:
        (RESULTS / "herd.json").write_text(json.dumps(record, indent=1) + "\n")
        before, _, rest = README.read_text().partition(MARKS[0])
        _, _, after = rest.partition(MARKS[1])
        README.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

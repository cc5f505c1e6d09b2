"""The agent as the benchmarks of a data plane start it: on a generated cluster, one plane or the other, asked steadily.

Law: which plane answers is asked of the agent itself, never taken for granted. Everything is below one folder and ends
with the context it was started in.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import steady
from benchmarks.asking import connected, is_right, received, send
from benchmarks.cluster_generator import Spec, write
from benchmarks.measure import IMPLEMENTATIONS, LOAD_CORE, PLANES, SERVER_CORE, built, pinned
from benchmarks.peers import dnsperf, zone
from benchmarks.peers.asking import encode, is_answering, is_echoing
from benchmarks.peers.processes import Process, ServerError, free_port
from benchmarks.plane.relisting import NETWORKS

QPS = 5_000
BEFORE_S = 0.1
"""The asker is at work so long before anything is done to the agent, and after it."""
_WITHIN_S = 120.0


class Site:
    """What every part of a benchmark shares: a folder, the cluster in it, questions that all hit.

    Attributes:
        watched: ClusterIP Services, with their address before anything changed.
    """

    def __init__(self, folder: Path, spec: Spec) -> None:
        self.folder, self.spec = folder, spec
        self.cluster, self.questions = folder / "cluster.json", folder / "hit.questions"
        write(spec, self.cluster, indent=0)
        held = list(zone.records(spec))
        dnsperf.write_questions(self.questions, zone.questions(zone.Names(held), spec)["hit"])
        network = NETWORKS[0].strip('"')
        services = [(record.name, record.value) for record in held if record.type == "A"]
        own = [each for each in services if each[1].startswith(network)]
        self.watched = random.Random(1).sample(own, min(5, len(own)))

    def there(self, address: str) -> str:
        """Return what an address is after all of them moved."""
        here, there = (network.strip('"') for network in NETWORKS)
        return address.replace(here, there, 1) if address.startswith(here) else address.replace(there, here, 1)


class Agent(NamedTuple):
    """A running agent."""

    process: Process
    port: int
    admin_port: int

    def status(self) -> dict[str, Any]:
        """Return /status."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/status", timeout=5) as answer:
            return dict(json.load(answer))

    def scrape(self) -> bytes:
        """Return /metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=30) as answer:
            return bytes(answer.read())

    def disturb(self) -> None:
        """Have its orders carried out, if it is `benchmarks.plane.disturbed`."""
        self.process.check()
        os.kill(self.process.pid, signal.SIGUSR2)


def wait_for(what: str, test: Callable[[], bool], every_s: float = 0.02) -> None:
    """Wait until something is so."""
    end_s = time.monotonic() + _WITHIN_S
    while True:
        with contextlib.suppress(OSError):
            if test():
                return
        if time.monotonic() > end_s:
            raise ServerError(f"{what}: not within {_WITHIN_S:.0f} s")
        time.sleep(every_s)


@contextlib.contextmanager
def serving(
    site: Site,
    plane: str,
    *,
    core: int | None = SERVER_CORE,
    source: Sequence[str] = (),
    launcher: Sequence[str] = ("agent",),
    options: Sequence[str] = (),
) -> Iterator[Agent]:
    """Run an agent that follows its source and is idle.

    Args:
        site: where.
        plane: compiled or pure.
        core: it runs on; None: on any.
        source: arguments in the place of the site's own file.
        launcher: module and its arguments in the place of the agent.
        options: further arguments.
    """
    port, admin_port = free_port(), free_port()
    command = [
        sys.executable, "-m", *launcher, "serve", *(source or ("--source", f"file:{site.cluster}")),
        "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin_port}", "--log-level", "warning",
        "--state-dir", str(site.folder / f"state-{port}"), *options,
    ]  # fmt: skip
    with Process(command, site.folder / "agent.log", core=core, environ=PLANES[plane]) as process:
        agent = Agent(process, port, admin_port)

        def follows() -> bool:
            process.check()
            return is_answering(port) and bool(agent.status()["source"]["connected"])

        wait_for("an agent that follows its source", follows)
        found = agent.status()["process"]["wire"]
        if found != IMPLEMENTATIONS[plane]:
            raise ServerError(f"the data plane is {found}, not {IMPLEMENTATIONS[plane]}")
        agent.scrape()
        process.settle()
        yield agent


@contextlib.contextmanager
def echoing(site: Site) -> Iterator[int]:
    """Run the bare echo; gives its port."""
    port = free_port()
    with Process([str(built("echo", site.folder)), str(port)], site.folder / "echo.log"):
        wait_for("the echo", lambda: is_echoing(port))
        yield port


def wait_answers(port: int, addresses: Sequence[tuple[str, str]]) -> None:
    """Wait until all names have these addresses; asks little."""
    for name, address in addresses:
        packet = encode(name, "A", 7)
        with connected(port) as peer:

            def is_there(packet: bytes = packet, address: str = address, peer: Any = peer) -> bool:
                send(peer, packet)
                time.sleep(0.005)
                return any(is_right(reply, address) for reply in iter(lambda: received(peer), b""))

            wait_for(f"{name} at {address}", is_there)


def asked(site: Site, port: int, seconds: float, during: Callable[[], object] | None = None) -> dict[str, Any]:
    """Ask steadily for so long, or as long as something takes that is done meanwhile, and a little before and after.

    Args:
        site: where the questions are.
        port: of the server.
        seconds: how long, without `during`.
        during: what is done; the asker ends with it.
    """
    program = built("steady", site.folder)
    command = steady.command(program, port, site.questions, qps=QPS, seconds=_WITHIN_S if during else seconds)
    with subprocess.Popen([*pinned(LOAD_CORE), *command], stdout=subprocess.PIPE, text=True) as asker:
        try:
            if during is not None:
                time.sleep(BEFORE_S)
                during()
                time.sleep(BEFORE_S)
                asker.terminate()
            output, _ = asker.communicate(timeout=seconds + 30)
        except BaseException:
            asker.kill()
            raise
    pace = steady.pace(output)
    return {
        "seconds": pace.seconds,
        "sent": pace.sent,
        "lost": pace.lost,
        "asker_nice": pace.nice,
        **{f"{word}_us": value for word, value in pace.took_us.items()},
        **{f"late_{word}_us": value for word, value in pace.late_us.items()},
    }


def paired(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sum runs up, each with an `idle` and a `disturbed` window: medians, and of the runs' own ratios the median."""
    words = ("p50_us", "p99_us", "p999_us", "max_us", "late_p999_us")
    out: dict[str, Any] = {"runs": list(runs)}
    for window in ("idle", "disturbed"):
        out[window] = {
            word: statistics.median(values)
            if (values := [run[window][word] for run in runs if run[window][word]])
            else None
            for word in words
        }
        out[window]["lost"] = sum(run[window]["lost"] for run in runs) / sum(run[window]["sent"] for run in runs)
    ratios = [
        run["disturbed"]["p999_us"] / run["idle"]["p999_us"]
        for run in runs
        if run["disturbed"]["p999_us"] and run["idle"]["p999_us"]
    ]
    out["x_idle_p999"] = statistics.median(ratios) if ratios else None
    return out

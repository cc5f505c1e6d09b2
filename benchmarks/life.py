"""One life of the agent at the size that counts: filled from a file, killed, started without it, changed.

    python -m benchmarks.life --services 10000 --endpoints 0 150000 [--plane pure] [--publish]

For each number of endpoints: the agent starts with an empty state directory on a generated cluster, as kubectl would
have printed it, and is asked every millisecond meanwhile; when generation 1 is on disk it is killed (SIGKILL), the
source is moved away, and it is started --starts times, each time until its first right answer; then the source comes
back and one Service in it changes, --changes times. Times are wall time and, because other work on the machine adds to
that, also processor time of the process (user + system, all threads). Even that grows with what else runs, so each
start stands beside a bare interpreter that imports asyncio. What was read is in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.asking import connected, is_right, question, received, send
from benchmarks.cluster_generator import Spec, objects, write
from benchmarks.measure import IMPLEMENTATIONS, PLANES, ROOT, cpu_ms, heading, keep, publish_text, rss_mib, say, where
from tests.agent_process import ReservedPort

NAME, ADDRESS = "web.shop.svc.cluster.local", "10.96.10.80"
SMALL_ENDPOINTS = 10_000
"""Up to here the budgets of 10,000 Services alone count."""


class Budget(NamedTuple):
    """A row of the table: what is measured, its unit, and what it may be with few and with 150,000 endpoints."""

    key: str
    title: str
    unit: str
    small: float | None = None
    large: float | None = None


BUDGETS = (
    Budget("start_wall_ms", "exec to first right answer, wall (median)", "ms", 250, 500),
    Budget("start_wall_min_ms", "  the same, fastest", "ms", 250, 500),
    Budget("start_wall_max_ms", "  the same, slowest", "ms"),
    Budget("start_cpu_ms", "  the same, processor time (median)", "ms", 250, 500),
    Budget("start_cpu_min_ms", "  the same, processor time (least)", "ms", 250, 500),
    Budget("asyncio_cpu_ms", "  beside it: `python -c 'import asyncio'`, processor time", "ms"),
    Budget("restore_ms", "snapshot load inside that (median)", "ms", 50, 150),
    Budget("bulk_wall_s", "JSON file to a serving table, wall", "s", None, 5),
    Budget("bulk_agent_cpu_s", "  processor time of the agent", "s"),
    Budget("bulk_reader_cpu_s", "  processor time of its reading child", "s"),
    Budget("start_gap_ms", "  longest time without an answer in its first second (imports)", "ms"),
    Budget("bulk_gap_ms", "  longest after that, to the generation on disk", "ms"),
    Budget("bulk_own_gap_ms", "  of which the asker itself may explain", "ms"),
    Budget("write_s", "generation 1 from its consistent point to the disk's word", "s"),
    Budget("generation_mb", "  its size", "MB"),
    Budget("source_mb", "  the file it came from", "MB"),
    Budget("rss_bulk_mib", "RSS after filling from JSON", "MiB", 64, 160),
    Budget("rss_bulk_peak_mib", "  its peak (VmHWM)", "MiB"),
    Budget("rss_restored_mib", "RSS 5 s after a start from disk", "MiB", 64, 160),
    Budget("rss_followed_mib", "RSS when the source is followed again after that", "MiB", 64, 160),
    Budget("change_wall_ms", "one Service in the file to changed answer (median)", "ms"),
)


class Agent:
    """The agent as a child process."""

    plane = "compiled"

    def __init__(self, root: Path, port: int, admin_port: int) -> None:
        self.port, self._admin_port = port, admin_port
        self._log = (root / "agent.log").open("ab")
        command = [
            sys.executable, "-m", "agent", "serve", "--upstream", "none", "--source", f"file:{root / 'cluster.json'}",
            "--listen", f"127.0.0.1:{port}", "--state-dir", str(root / "state"), "--admin", f"127.0.0.1:{admin_port}",
        ]  # fmt: skip
        environ = {key: value for key, value in os.environ.items() if not key.startswith("NODENS_")}
        environ |= PLANES[self.plane]
        self.started_s = time.monotonic()
        self._process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=self._log, stderr=self._log)
        self.pid = self._process.pid

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def state(self) -> dict[str, Any]:
        """Return /status, empty while it is not there."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the agent ended with {self._process.returncode}, see {self._log.name}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._admin_port}/status", timeout=5) as answer:
                return dict(json.load(answer))
        except OSError:
            return {}

    def wait_for(self, what: str, test: Callable[[dict[str, Any]], bool], timeout_s: float = 120) -> dict[str, Any]:
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            state = self.state()
            if state and test(state):
                return state
            time.sleep(0.05)
        raise RuntimeError(f"{what}: not within {timeout_s} s, see {self._log.name}")

    def wait_answer(self, address: str, timeout_s: float = 120) -> float:
        """Ask every millisecond until the answer is this address; returns when that was."""
        body, end_s, number = question(NAME), time.monotonic() + timeout_s, 0
        with connected(self.port) as peer:
            while time.monotonic() < end_s:
                number = (number + 1) & 0xFFFF
                send(peer, struct.pack(">H", number) + body)
                due_s = time.monotonic() + 0.001
                while time.monotonic() < due_s:
                    packet = received(peer)
                    if packet and is_right(packet, address):
                        return time.monotonic()
                    time.sleep(0.0001)
        raise RuntimeError(f"no right answer within {timeout_s} s, see {self._log.name}")


@contextmanager
def running(root: Path, ports: tuple[int, int]) -> Iterator[Agent]:
    """Run an agent and kill it at the end."""
    agent = Agent(root, *ports)
    try:
        yield agent
    finally:
        agent.kill()


@contextmanager
def asked_every_ms(port: int) -> Iterator[dict[str, Any]]:
    """Have another process ask; its figures are there at the end."""
    figures: dict[str, Any] = {}
    command = [sys.executable, "-m", "benchmarks.asking", str(port), NAME, ADDRESS]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asker:
        try:
            yield figures
        finally:
            out, _ = asker.communicate("")
        figures.update(json.loads(out))


def fill(root: Path, ports: tuple[int, int]) -> dict[str, float]:
    """Start with nothing on disk, and ask meanwhile until generation 1 is there."""
    with asked_every_ms(ports[0]) as asked:
        time.sleep(0.3)
        with running(root, ports) as agent:
            agent.wait_answer(ADDRESS)
            served = cpu_ms(agent.pid), cpu_ms(agent.pid, children=True)
            state = agent.wait_for("generation 1", lambda state: state["snapshot"]["generation_writes"] >= 1)
            if state["process"]["wire"] != IMPLEMENTATIONS[agent.plane]:
                raise RuntimeError(f"the data plane is {state['process']['wire']}, not {agent.plane}")
            time.sleep(1)
            rss, peak = rss_mib(agent.pid), rss_mib(agent.pid, "VmHWM")
            started_s = agent.started_s
    snapshot = state["snapshot"]
    settled_s = asked["first_answer_s"] + 1
    return {
        "names": snapshot["records"],
        "bulk_wall_s": asked["first_right_s"] - started_s,
        "bulk_agent_cpu_s": served[0] / 1e3,
        "bulk_reader_cpu_s": served[1] / 1e3,
        "start_gap_ms": max((gap["ms"] for gap in asked["gaps"] if gap["at_s"] < settled_s), default=0.0),
        "bulk_gap_ms": max((gap["ms"] for gap in asked["gaps"] if gap["at_s"] >= settled_s), default=0.0),
        "bulk_own_gap_ms": asked["own_gap_ms"],
        "bulk_latency_p50_ms": asked["latency_ms"]["p50"],
        "bulk_latency_p99_ms": asked["latency_ms"]["p99"],
        "bulk_latency_p999_ms": asked["latency_ms"]["p99.9"],
        "write_s": snapshot["write_s"],
        "generation_mb": snapshot["disk_bytes"] / 1e6,
        "rss_bulk_mib": rss,
        "rss_bulk_peak_mib": peak,
    }


def bare_cpu_ms() -> float:
    """Measure what the interpreter and asyncio take alone: it tells how fast this machine is at this moment."""
    child = subprocess.Popen([sys.executable, "-c", "import asyncio"], cwd=ROOT)
    _, _, usage = os.wait4(child.pid, 0)
    child.returncode = 0
    return (usage.ru_utime + usage.ru_stime) * 1e3


def starts(root: Path, ports: tuple[int, int], count: int) -> dict[str, Any]:
    """Start from disk alone, again and again."""
    rows = []
    for number in range(count + 1):
        with running(root, ports) as agent:
            wall_ms = (agent.wait_answer(ADDRESS) - agent.started_s) * 1e3
            row = {"wall_ms": wall_ms, "cpu_ms": cpu_ms(agent.pid), "load": os.getloadavg()[0]}
            row["asyncio_cpu_ms"] = bare_cpu_ms()
            state = agent.wait_for("its admin endpoint", lambda state: state["state"] != "not_ready")
            row["restore_ms"] = state["snapshot"]["restore_s"] * 1e3
            row["first_answer_ms"] = state["process"]["first_answer_s"] * 1e3
            if number == count:
                time.sleep(max(0.0, 5 - wall_ms / 1e3))
                rss = rss_mib(agent.pid)
        if number:  # the first one fills the page cache and compiles what Python has not compiled yet
            rows.append(row)
    walls = [row["wall_ms"] for row in rows]
    return {
        "starts": rows,
        "start_wall_ms": statistics.median(walls),
        "start_wall_min_ms": min(walls),
        "start_wall_max_ms": max(walls),
        "start_cpu_ms": statistics.median(row["cpu_ms"] for row in rows),
        "start_cpu_min_ms": min(row["cpu_ms"] for row in rows),
        "asyncio_cpu_ms": statistics.median(row["asyncio_cpu_ms"] for row in rows),
        "restore_ms": statistics.median(row["restore_ms"] for row in rows),
        "first_answer_ms": statistics.median(row["first_answer_ms"] for row in rows),
        "rss_restored_mib": rss,
    }


def changes(root: Path, ports: tuple[int, int], count: int) -> dict[str, Any]:
    """Follow the source again, and change one Service in it."""
    path, new = root / "cluster.json", root / "cluster.json.new"
    took_ms = []
    with running(root, ports) as agent:
        agent.wait_for("the source followed", lambda state: bool(state["source"]["connected"]))
        time.sleep(2)
        rss = rss_mib(agent.pid)
        before = ADDRESS
        for number in range(count):
            after = f"10.96.200.{number + 1}"
            new.write_bytes(path.read_bytes().replace(f'"{before}"'.encode(), f'"{after}"'.encode()))
            new.replace(path)
            began_s = time.monotonic()
            took_ms.append((agent.wait_answer(after) - began_s) * 1e3)
            time.sleep(3 + took_ms[-1] / 250)  # the file source rests for some time after each reading
            before = after
    return {"changes_ms": took_ms, "change_wall_ms": statistics.median(took_ms), "rss_followed_mib": rss}


def measure(services: int, endpoints: int, options: argparse.Namespace) -> dict[str, Any]:
    """Go through one life."""
    root = Path(tempfile.mkdtemp(prefix="nodens-life-", dir=options.folder))
    reserved = ReservedPort(), ReservedPort()
    try:
        ports, spec = (reserved[0].number, reserved[1].number), Spec(services=services, endpoints=endpoints)
        source = root / "cluster.json"
        say(f"{services:,} Services, {endpoints:,} endpoints: generating the cluster ...")
        count = write(spec, source)
        record: dict[str, Any] = {"services": services, "endpoints": endpoints, "objects": count}
        record["endpoints_generated"] = sum(
            len(value.get("endpoints") or ()) for value in objects(spec) if value["kind"] == "EndpointSlice"
        )
        record["source_mb"] = source.stat().st_size / 1e6
        say("filling an agent from it ...")
        record |= fill(root, ports)
        source.rename(root / "away.json")
        say(f"{options.starts} starts without the source ...")
        record |= starts(root, ports, options.starts)
        (root / "away.json").rename(source)
        say(f"{options.changes} changes of one Service in the file ...")
        return record | changes(root, ports, options.changes)
    finally:
        for port in reserved:
            port.close()
        if options.keep:
            say(f"kept: {root}")
        else:
            shutil.rmtree(root)


def table(records: list[dict[str, Any]]) -> Iterator[str]:
    """Write the figures beside their budgets."""
    for record in records:
        large = record["endpoints"] > SMALL_ENDPOINTS
        yield (
            f"{record['services']:,} Services, {record['endpoints_generated']:,} endpoints in slices, "
            f"{record['names']:,} names"
        )
        for row in BUDGETS:
            budget = row.large if large else row.small
            value = record[row.key]
            verdict = "" if budget is None else f"{'ok' if value <= budget else 'MISSED':>8s}  <= {budget:g}"
            yield f"  {row.title:58s}{value:10,.1f} {row.unit:4s}{verdict}"
        yield ""


def told(record: dict[str, Any]) -> str:
    """Write the whole record for people."""
    after = ", ".join(f"{load:.1f}" for load in record["load_after"])
    head = f"data plane: {record['plane']}; {record['options']['starts']} starts each"
    return "\n".join([f"{where(record)}, after: {after}", head, "", *table(record["lives"])])


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, nargs="+", default=[0, 150_000], help="one life for each")
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--changes", type=int, default=5)
    parser.add_argument("--plane", choices=PLANES, default="compiled", help="which data plane lives (%(default)s)")
    parser.add_argument("--folder", help="where cluster and state lie meanwhile (default: the system's)")
    parser.add_argument("--keep", action="store_true", help="leave them there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the record goes (.run/bench/life.json)")
    parser.add_argument("--publish", action="store_true", help="put table and record into benchmarks/")
    options = parser.parse_args()
    Agent.plane = options.plane
    record = heading() | {
        "plane": options.plane,
        "options": {"starts": options.starts, "changes": options.changes},
        "lives": [measure(options.services, endpoints, options) for endpoints in options.endpoints],
        "load_after": [round(load, 2) for load in os.getloadavg()],
    }
    keep(record, "life", publish=options.publish, path=options.json)
    text = told(record)
    print(text)
    if options.publish:
        publish_text("life", f"```\n{text.rstrip()}\n```")
    return 0


if __name__ == "__main__":
    sys.exit(main())

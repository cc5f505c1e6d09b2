"""Hits against the kernel's own limit: CPU per query of both data planes, of a bare echo and of Knot, in one run.

    python -m benchmarks.hits --services 10000 --seconds 5 --runs 3

Server on core 0, dnsperf on core 1, the same questions for all. CPU is user + system of the server's process from
/proc, over the queries dnsperf completed: steadier than queries per second, which a shared machine disturbs.
Needs dnsperf and a C compiler; without knotd it is left out, and said so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cluster_generator import Spec, objects

TICKS = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """CPU microseconds per query, queries per second, resident MiB."""

    user_us: float
    system_us: float
    per_s: float
    rss_mib: float

    @property
    def total_us(self) -> float:
        return self.user_us + self.system_us


def free_port() -> int:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def ticks(pid: int) -> tuple[int, int]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def rss_mib(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def load(port: int, questions: Path, seconds: float, limit_per_s: int) -> tuple[int, float]:
    """Runs dnsperf; gives queries completed and per second."""
    command = ["taskset", "-c", "1", "dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(questions)]
    command += ["-l", str(seconds), "-c", "8", "-q", "500"]
    command += ["-Q", str(limit_per_s)] if limit_per_s else []
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    done = re.search(r"Queries completed:\s+(\d+)", out)
    per_s = re.search(r"Queries per second:\s+([\d.]+)", out)
    assert done, out
    assert per_s, out
    return int(done[1]), float(per_s[1])


def wait_for(port: int, question: bytes) -> None:
    for _ in range(600):
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.2)
            sock.connect(("127.0.0.1", port))
            try:
                sock.send(question)
                if sock.recv(4096)[3] & 0xF in {0, 5}:
                    return
            except OSError:
                pass
        time.sleep(0.1)
    raise SystemExit(f"nothing answers on port {port}")


def measure(command: list[str], port: int, questions: Path, args: argparse.Namespace, **environ: str) -> Cost:
    """Starts a server, asks it, ends it."""
    first = questions.read_text().split()[0]
    name = b"".join(b"%c%b" % (len(part), part.encode()) for part in first.rstrip(".").split(".")) + b"\0"
    with subprocess.Popen(
        ["taskset", "-c", "0", *command], env={**os.environ, **environ}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:  # fmt: skip
        try:
            wait_for(port, b"\0\1\1\0\0\1\0\0\0\0\0\0" + name + b"\0\1\0\1")
            time.sleep(args.settle)
            load(port, questions, 1, args.rate)
            before = ticks(server.pid)
            done, per_s = load(port, questions, args.seconds, args.rate)
            after = ticks(server.pid)
            user, system = ((b - a) / TICKS / done * 1e6 for a, b in zip(before, after, strict=True))
            return Cost(user, system, per_s, rss_mib(server.pid))
        finally:
            server.terminate()


def knot(folder: Path, port: int, addresses: dict[str, str]) -> list[str] | None:
    """Writes Knot's zone and configuration; gives its command, None if there is no Knot."""
    binary = shutil.which("knotd") or ("/usr/sbin/knotd" if Path("/usr/sbin/knotd").exists() else None)
    if binary is None:
        return None
    zone = ["$TTL 5", "@ SOA ns.dns hostmaster 1 7200 1800 86400 5", "@ NS ns.dns", "ns.dns A 127.0.0.1"]
    zone += [f"{name}. A {address}" for name, address in addresses.items()]
    (folder / "cluster.zone").write_text("$ORIGIN cluster.local.\n" + "\n".join(zone) + "\n")
    (folder / "knot.conf").write_text(
        f"server:\n  rundir: {folder}\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n"
        f"  background-workers: 1\ndatabase:\n  storage: {folder}\n"
        f"zone:\n  - domain: cluster.local\n    storage: {folder}\n    file: cluster.zone\n    zonefile-load: whole\n"
    )
    return [binary, "-c", str(folder / "knot.conf")]


def prepare(folder: Path, services: int) -> tuple[Path, Path, dict[str, str]]:
    """Writes source file and questions; gives them and the addresses of the names."""
    items: list[dict[str, Any]] = list(objects(Spec(services=services, endpoints=services * 2)))
    cluster, questions = folder / "cluster.json", folder / "questions"
    cluster.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    addresses = {}
    for item in items:
        spec, meta = item.get("spec") or {}, item["metadata"]
        if item["kind"] == "Service" and "." in spec.get("clusterIP", ""):
            addresses[f"{meta['name']}.{meta['namespace']}.svc.cluster.local"] = spec["clusterIP"]
    questions.write_text("".join(f"{name}. A\n" for name in addresses))
    return cluster, questions, addresses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rate", type=int, default=0, help="queries per second; 0 is as many as go through")
    parser.add_argument("--settle", type=float, default=8, help="seconds between the first answer and the measurement")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cluster, questions, addresses = prepare(folder, args.services)
        subprocess.run(["cc", "-O3", "-o", str(folder / "echo"), "benchmarks/echo.c"], check=True)
        costs: dict[str, list[Cost]] = {}
        for run in range(args.runs):
            for server in ("echo", "compiled", "python", "knot"):
                port = free_port()
                serve = [sys.executable, "-m", "agent", "serve", "--source", f"file:{cluster}", "--admin", "off"]
                serve += ["--listen", f"127.0.0.1:{port}", "--state-dir", str(folder / f"state-{server}")]
                command = {
                    "echo": [str(folder / "echo"), str(port)],
                    "knot": knot(folder, port, addresses) if server == "knot" else None,
                }.get(server, serve)
                if command is None:
                    print("knot: not on this machine")
                    continue
                wish = {"compiled": {"NODENS_REQUIRE_EXT": "1"}, "python": {"NODENS_NO_EXT": "1"}}.get(server, {})
                cost = measure(command, port, questions, args, **wish)
                costs.setdefault(server, []).append(cost)
                print(f"run {run + 1}: {server:9} {cost.user_us:.2f} + {cost.system_us:.2f} us, {cost.per_s:.0f}/s")
    base = statistics.median(cost.total_us for cost in costs["echo"])
    for server, found in costs.items():
        middle = [statistics.median(values) for values in zip(*found, strict=True)]
        total = statistics.median(cost.total_us for cost in found)
        print(json.dumps({
            "server": server, "user_us": round(middle[0], 2), "system_us": round(middle[1], 2),
            "total_us": round(total, 2), "times_echo": round(total / base, 2), "per_s": round(middle[2]),
            "rss_mib": round(middle[3], 1), "services": args.services, "rate": args.rate, "runs": len(found),
        }))  # fmt: skip


if __name__ == "__main__":
    main()

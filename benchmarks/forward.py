"""Names of other zones: CPU per query of a miss and of a hit, beside unbound and CoreDNS (as node-cache is one).

    python -m benchmarks.forward --seconds 5 --runs 3

Server on core 0, dnsperf and the upstream (NSD) on core 1, the same questions for all, at a fixed rate. A miss is a
name that nobody has asked before; the hits are a thousand names asked over and over. CPU is user + system of the
server's process from /proc, over the queries dnsperf completed. Needs dnsperf and nsd; a peer that is missing is left
out, and said so (CoreDNS: COREDNS_BIN, else the one that `make envtest` built).
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
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ZONE = "bench.example"
HITS = 1000
_NSD = """
server:
  ip-address: 127.0.0.1@{port}
  username: ""
  chroot: ""
  zonesdir: "{folder}"
  database: ""
  pidfile: ""
  xfrdfile: "{folder}/xfrd.state"
  zonelistfile: "{folder}/zone.list"
  server-count: 1
remote-control:
  control-enable: no
zone:
  name: {zone}
  zonefile: zone
"""
_UNBOUND = """
server:
  directory: "{folder}"
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  num-threads: 1
  do-daemonize: no
  interface: 127.0.0.1@{port}
  do-not-query-localhost: no
  module-config: "iterator"
  msg-cache-size: 64m
  rrset-cache-size: 64m
stub-zone:
  name: {zone}
  stub-addr: 127.0.0.1@{upstream}
remote-control:
  control-enable: no
"""
_COREDNS = """.:{port} {{
  bind 127.0.0.1
  cache 3600 {{
    success 300000
  }}
  forward . 127.0.0.1:{upstream}
}}
"""
TICKS = os.sysconf("SC_CLK_TCK")
_EMPTY = {"apiVersion": "v1", "kind": "List", "items": []}


def free_port() -> int:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def ticks(pid: int) -> tuple[int, int]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


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


class Peer(NamedTuple):
    """A server: its name, command and environment."""

    name: str
    command: list[str]
    environ: dict[str, str]
    port: int


def upstream(folder: Path) -> tuple[list[str], int]:
    """Writes NSD's files; gives its command and port."""
    port = free_port()
    lines = [f"$ORIGIN {ZONE}.", "$TTL 3600", "@ SOA ns host 1 7200 1800 86400 60", "@ NS ns", "*.m A 192.0.2.1"]
    lines += [f"h{number} A 192.0.2.{number % 250}" for number in range(HITS)]
    (folder / "zone").write_text("\n".join(lines) + "\n")
    (folder / "nsd.conf").write_text(_NSD.format(port=port, folder=folder, zone=ZONE))
    binary = shutil.which("nsd") or "/usr/sbin/nsd"
    return ["taskset", "-c", "1", binary, "-d", "-c", str(folder / "nsd.conf")], port


def peers(folder: Path, asked: int) -> Iterator[Peer]:
    """Writes configurations; gives every server that is there."""
    (folder / "empty.json").write_text(json.dumps(_EMPTY))
    for name, environ in (("nodens", {}), ("nodens-pure", {"NODENS_NO_EXT": "1"})):
        port = free_port()
        command = [
            sys.executable,
            "-m",
            "agent",
            "serve",
            "--source",
            f"file:{folder / 'empty.json'}",
            "--admin",
            "off",
        ]
        command += [
            "--admin",
            "off",
            "--listen",
            f"127.0.0.1:{port}",
            "--state-dir",
            str(folder / f"state-{name}{port}"),
        ]
        command += ["--upstream", f"127.0.0.1:{asked}", "--set", "cache.max_entries=1000000"]
        command += ["--set", "cache.max_bytes=2GiB", "--set", "forward.max_per_client=4096"]
        yield Peer(name, command, environ, port)
    port = free_port()
    binary = shutil.which("unbound") or shutil.which("unbound", path="/usr/sbin")
    (folder / "unbound.conf").write_text(_UNBOUND.format(folder=folder, port=port, upstream=asked, zone=ZONE))
    if binary is not None:
        yield Peer("unbound", [binary, "-d", "-c", str(folder / "unbound.conf")], {}, port)
    else:
        print("unbound: not here", file=sys.stderr)
    port = free_port()
    coredns = os.environ.get("COREDNS_BIN", str(Path("~/.cache/nodens/envtest/coredns").expanduser()))
    (folder / "Corefile").write_text(_COREDNS.format(port=port, upstream=asked))
    if Path(coredns).exists():
        yield Peer("coredns", [coredns, "-conf", str(folder / "Corefile"), "-quiet"], {"GOMAXPROCS": "1"}, port)
    else:
        print("coredns: not here", file=sys.stderr)


def questions(folder: Path, first: int, count: int) -> tuple[Path, Path]:
    """Writes a thousand names that are hit, and names that nobody has asked."""
    hits, misses = folder / "hits", folder / f"misses-{first}"
    hits.write_text("".join(f"h{number}.{ZONE} A\n" for number in range(HITS)))
    misses.write_text("".join(f"q{first + number}.m.{ZONE} A\n" for number in range(count)))
    return hits, misses


def cost_us(pid: int, port: int, asked: Path, seconds: float, rate: int) -> float:
    """Gives CPU microseconds per query."""
    before = ticks(pid)
    done, _ = load(port, asked, seconds, rate)
    after = ticks(pid)
    return sum(b - a for a, b in zip(before, after, strict=True)) / TICKS / done * 1e6


def measure(peer: Peer, folder: Path, args: argparse.Namespace) -> tuple[float, float]:
    """Starts a server; gives the cost of a miss and of a hit."""
    with subprocess.Popen(
        ["taskset", "-c", "0", *peer.command], env={**os.environ, **peer.environ}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:  # fmt: skip
        try:
            wait_for(peer.port, b"\0\1\1\0\0\1\0\0\0\0\0\0\x02h0\x05bench\x07example\0\0\1\0\1")
            time.sleep(args.settle)
            count = int(args.miss_rate * args.seconds * 1.2)
            hits, warm = questions(folder, 0, count)
            _, misses = questions(folder, count, count)
            load(peer.port, warm, 1, args.miss_rate)
            miss = cost_us(server.pid, peer.port, misses, args.seconds, args.miss_rate)
            load(peer.port, hits, 1, args.hit_rate)
            hit = cost_us(server.pid, peer.port, hits, args.seconds, args.hit_rate)
            return miss, hit
        finally:
            server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--miss-rate", type=int, default=3000, help="queries per second")
    parser.add_argument("--hit-rate", type=int, default=20_000, help="queries per second")
    parser.add_argument("--settle", type=float, default=3, help="seconds between the first answer and the measurement")
    parser.add_argument("--only", default="", help="servers, separated by commas")
    args = parser.parse_args()
    wanted = set(filter(None, args.only.split(",")))
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(args.runs):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            command, port = upstream(folder)
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as nsd:
                try:
                    wait_for(port, b"\0\1\1\0\0\1\0\0\0\0\0\0\x02h0\x05bench\x07example\0\0\1\0\1")
                    for peer in peers(folder, port):
                        if not wanted or peer.name in wanted:
                            found.setdefault(peer.name, []).append(measure(peer, folder, args))
                finally:
                    nsd.terminate()
    table = {
        name: {"miss_us": statistics.median(m for m, _ in rows), "hit_us": statistics.median(h for _, h in rows)}
        for name, rows in found.items()
    }
    print(
        json.dumps({"runs": args.runs, "rates": [args.miss_rate, args.hit_rate], "cpu_us_per_query": table}, indent=1)
    )


if __name__ == "__main__":
    main()

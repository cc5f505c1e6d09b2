"""Every server of the comparison: where it is, which version, how it is started on the common names.

Law: a server that can't be had is a reason in words, never silence. All of them listen on 127.0.0.1 only and write
below one folder.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.cluster_generator import Spec, write
from benchmarks.measure import PLANES, built, compiler
from benchmarks.peers import asking, configs
from benchmarks.peers.processes import Process, ServerError, free_port
from benchmarks.peers.zone import TTL_S, ZONES, Record

_STARTS_WITHIN_S = 60.0
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class Running(NamedTuple):
    """A started server: the one that is measured, and its port."""

    process: Process
    port: int


Start = Callable[["Workplace"], contextlib.AbstractContextManager[Running]]


class Server(NamedTuple):
    """One row of the comparison.

    Attributes:
        name: for --only and the record.
        label: for people.
        start: a context in which it runs and answers.
        missing: why it can't be started here, empty if it can.
        version: what it says of itself.
        note: what a reader of its figures must know.
    """

    name: str
    label: str
    start: Start
    missing: Callable[[], str]
    version: Callable[[], str]
    note: str = ""


class Workplace:
    """A folder with what all servers serve: the cluster, its records, zone files, an agent's snapshot."""

    def __init__(self, folder: Path, spec: Spec, held: Sequence[Record]) -> None:
        self.folder = folder
        self.records = held
        self.cluster = folder / "cluster.json"
        self.zone_files: dict[str, str] = {}
        write(spec, self.cluster, indent=0)
        for zone, text in configs.zone_files(held).items():
            path = folder / f"{zone}.zone"
            path.write_text(text, encoding="ascii")
            self.zone_files[zone] = str(path)

    def file(self, name: str, text: str) -> str:
        """Write a configuration file; returns its path."""
        path = self.folder / name
        path.write_text(text, encoding="ascii")
        return str(path)

    def place(self, name: str) -> str:
        """Return a folder of a server's own."""
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return str(path)


def program(name: str) -> str | None:
    """Return the path of an installed program; servers live in folders that are not on everybody's PATH."""
    return shutil.which(name) or next((f"{folder}/{name}" for folder in _SBIN if Path(folder, name).is_file()), None)


def said(command: Sequence[str]) -> str:
    """Return the first line a program prints, or nothing."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        return next((line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()), "")
    return ""


def _wait(process: Process, port: int) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while not asking.is_answering(port):
        process.check()
        if time.monotonic() > deadline:
            raise ServerError(f"no answer within {_STARTS_WITHIN_S:.0f} s")
        time.sleep(0.05)


@contextlib.contextmanager
def _running(place: Workplace, name: str, port: int, command: Sequence[str], **more: str) -> Iterator[Running]:
    with Process(command, place.folder / f"{name}.log", environ=more or None) as process:
        _wait(process, port)
        yield Running(process, port)


# The echo, and nodens -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _echo(place: Workplace) -> Iterator[Running]:
    port = free_port()
    with Process([str(built("echo", place.folder)), str(port)], place.folder / "echo.log") as process:
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not asking.is_echoing(port):
            process.check()
            if time.monotonic() > deadline:
                raise ServerError("the echo does not answer")
            time.sleep(0.02)
        yield Running(process, port)


def _nodens(name: str, **environ: str) -> Start:
    @contextlib.contextmanager
    def start(place: Workplace) -> Iterator[Running]:
        port, admin_port = free_port(), free_port()
        command = [
            sys.executable, "-m", "agent", "serve", "--upstream", "none", "--source", f"file:{place.cluster}",
            "--zone", ZONES[0],
            "--listen", f"127.0.0.1:{port}", "--state-dir", str(place.folder / "state"),
            "--admin", f"127.0.0.1:{admin_port}", "--set", f"ttl={TTL_S}", "--log-level", "warning",
        ]  # fmt: skip
        with _running(place, name, port, command, **environ) as running:
            deadline = time.monotonic() + _STARTS_WITHIN_S
            # Scraped once, as it is on a node: what that loads is part of its memory.
            while asking.metric(admin_port, "nodens_source_connected") != 1.0:
                running.process.check()
                if time.monotonic() > deadline:
                    raise ServerError("it does not follow its file")
                time.sleep(0.1)
            yield running

    return start


def extension_missing() -> str:
    """Return why the compiled data plane can't be measured; empty if it is there."""
    with contextlib.suppress(ImportError):
        if importlib.util.find_spec("agent.wire._fast") is not None:
            return ""
    return "the extension agent.wire._fast is not built here"


def _agent_version() -> str:
    return f"{said([sys.executable, '-m', 'agent', '--version'])}, Python {platform.python_version()}"


# Name servers of Debian -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _knot(place: Workplace) -> Iterator[Running]:
    port = free_port()
    config = place.file("knot.conf", configs.knot(port, place.place("knot"), place.zone_files))
    with _running(place, "knot", port, [str(program("knotd")), "-c", config]) as running:
        yield running


@contextlib.contextmanager
def _nsd(place: Workplace) -> Iterator[Running]:
    port = free_port()
    config = place.file("nsd.conf", configs.nsd(port, place.place("nsd"), place.zone_files))
    with _running(place, "nsd", port, [str(program("nsd")), "-d", "-c", config]) as running:
        yield running


@contextlib.contextmanager
def _unbound(place: Workplace) -> Iterator[Running]:
    port = free_port()
    config = place.file("unbound.conf", configs.unbound(port, place.place("unbound"), place.records))
    with _running(place, "unbound", port, [str(program("unbound")), "-d", "-c", config]) as running:
        yield running


@contextlib.contextmanager
def _dnsmasq(place: Workplace) -> Iterator[Running]:
    port = free_port()
    hosts = place.file("dnsmasq.hosts", configs.dnsmasq_hosts(place.records))
    config = place.file("dnsmasq.conf", configs.dnsmasq(port, place.place("dnsmasq"), hosts))
    command = [str(program("dnsmasq")), "--keep-in-foreground", f"--conf-file={config}"]
    with _running(place, "dnsmasq", port, command) as running:
        yield running


@contextlib.contextmanager
def _bind(place: Workplace) -> Iterator[Running]:
    port = free_port()
    config = place.file("named.conf", configs.bind(port, place.place("bind"), place.zone_files))
    with _running(place, "bind", port, [str(program("named")), "-f", "-n", "1", "-c", config]) as running:
        yield running


# CoreDNS, and node-cache ----------------------------------------------------------------------------------------------


def coredns_path() -> str | None:
    """Return CoreDNS: $COREDNS_BIN, else what `make envtest` built, else what is on the PATH."""
    named = os.environ.get("COREDNS_BIN")
    if named:
        return named if os.access(named, os.X_OK) else None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built = cache / "nodens" / "envtest" / "coredns"
    return str(built) if os.access(built, os.X_OK) else shutil.which("coredns")


def _coredns_missing() -> str:
    return "" if coredns_path() else "no CoreDNS (set COREDNS_BIN, or make envtest)"


@contextlib.contextmanager
def _coredns(place: Workplace, name: str = "coredns") -> Iterator[Running]:
    port = free_port()
    config = place.file(f"{name}.corefile", configs.coredns(port, free_port(), place.zone_files))
    with _running(place, name, port, [str(coredns_path()), "-conf", config]) as running:
        yield running


@contextlib.contextmanager
def _node_cache(place: Workplace) -> Iterator[Running]:
    named = os.environ.get("NODE_CACHE_BIN")
    with _coredns(place, "coredns-behind") as behind:
        port, metrics_port = free_port(), free_port()
        text = configs.node_cache(port, metrics_port, behind.port)
        config = place.file("node-cache.corefile", text)
        command = [str(named or coredns_path()), "-conf", config]
        if named:
            # It renders the second file into the first, and must leave the machine's network alone.
            base = place.file("node-cache.base", text)
            command += [
                "-basecorefile", base, "-localip", "127.0.0.1", "-dns.port", str(port), "-setupinterface=false",
                "-setupiptables=false", "-skipteardown=true", "-metrics-listen-address", f"127.0.0.1:{free_port()}",
            ]  # fmt: skip
        with _running(place, "node-cache", port, command) as running:
            yield running


def _debian_server(name: str, label: str, start: Start, packaged: tuple[str, str, str], note: str = "") -> Server:
    """Return the row of a Debian package; `packaged` is its program, its package and how the program is asked for its
    version."""
    binary, package, flag = packaged

    def missing() -> str:
        return "" if program(binary) else f"no {binary} on this machine (apt-get install {package})"

    return Server(name, label, start, missing, lambda: said([str(program(binary)), flag]), note)


def _coredns_rows() -> list[Server]:
    named = os.environ.get("NODE_CACHE_BIN")
    label, note = "node-cache", ""
    if not named:
        label += " (CoreDNS: cache + forward)"
        note = "CoreDNS with node-cache's stock plugins in front of another CoreDNS; only the front one is counted"

    def version(path: str | None) -> Callable[[], str]:
        return lambda: said([str(path), "-version"])

    return [
        Server("coredns", "CoreDNS, file + cache", _coredns, _coredns_missing, version(coredns_path())),
        Server("node-cache", label, _node_cache, _coredns_missing, version(named or coredns_path()), note),
    ]


def servers() -> list[Server]:
    """Return every row, in the order of the table."""
    compiled, pure = _nodens("nodens", **PLANES["compiled"]), _nodens("nodens-pure", **PLANES["pure"])
    no_srv = "without SRV records, which it can only search one by one: its answers to those questions are wrong"
    return [
        Server("echo", "bare C echo", _echo, _nothing, lambda: said([str(compiler()), "--version"])),
        Server("nodens", "**nodens**, compiled", compiled, extension_missing, _agent_version),
        Server("nodens-pure", "**nodens**, pure Python", pure, _nothing, _agent_version),
        _debian_server("knot", "Knot DNS", _knot, ("knotd", "knot", "--version")),
        _debian_server("nsd", "NSD", _nsd, ("nsd", "nsd", "-v")),
        _debian_server("unbound", "unbound, local-data", _unbound, ("unbound", "unbound", "-V")),
        _debian_server("bind", "BIND", _bind, ("named", "bind9", "-v")),
        _debian_server("dnsmasq", "dnsmasq, hosts file", _dnsmasq, ("dnsmasq", "dnsmasq-base", "-v"), no_srv),
        *_coredns_rows(),
    ]


def _nothing() -> str:
    return ""

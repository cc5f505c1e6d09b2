"""Real upstreams from Debian: unbound (resolves, here from local data) and NSD (authoritative), on loopback ports."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pytest

from tests.control_plane.dns_client import try_ask
from tests.control_plane.processes import Child, free_port, wait_until

_UNBOUND = """
server:
  directory: "{folder}"
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  num-threads: 1
  interface: {address}@{port}
  {tls}
  do-daemonize: no
  access-control: 127.0.0.0/8 allow
{data}
remote-control:
  control-enable: no
"""
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
{zones}
"""
SOA = "SOA ns.{zone}. host.{zone}. 1 7200 1800 86400 60"


class _Server:
    """A server as a child process; a context manager. It may be stopped and started again on its port."""

    program = ""
    known = ""

    def __init__(self, root: Path, config: str, port: int) -> None:
        self.port = port
        self._log = root / f"{self.program}.log"
        self._config = root / f"{self.program}.conf"
        self._config.write_text(config)
        self.child: Child | None = None

    def start(self) -> None:
        program = shutil.which(self.program) or shutil.which(self.program, path="/usr/sbin")
        if program is None:
            pytest.skip(f"no {self.program} on this machine (apt-get install {self.program})")
        self.child = Child([program, "-d", "-c", str(self._config)], self._log)
        wait_until(f"{self.program} answering (log: {self._log})", self._is_answering)

    def _is_answering(self) -> bool:
        assert self.child is not None
        self.child.check()
        return try_ask(self.port, self.known, timeout_s=0.5) is not None

    def stop(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Unbound(_Server):
    """Answers `records` (zone file lines) in `zones`; everything else there is NXDOMAIN."""

    program = "unbound"
    known = "www.example.com"

    def __init__(
        self, root: Path, records: list[str], zones: tuple[str, ...] = ("example.com",), tls: str = ""
    ) -> None:
        port = free_port()
        lines = [f'  local-zone: "{zone}." static' for zone in zones]
        lines += [f'  local-data: "{zone}. 300 IN {SOA.format(zone=zone)}"' for zone in zones]
        lines += [f"  local-data: '{record}'" for record in records]
        text = _UNBOUND.format(
            folder=root, address="127.0.0.1", port=port, data="\n".join(lines), tls=tls.format(port=port)
        )
        super().__init__(root, text, port)


class Nsd(_Server):
    """Serves zone files."""

    program = "nsd"
    known = "corp.example"

    def __init__(self, root: Path, zones: Mapping[str, list[str]]) -> None:
        port = free_port()
        blocks = []
        for zone, records in zones.items():
            lines = [f"$ORIGIN {zone}.", f"@ 300 IN {SOA.format(zone=zone)}", f"@ 300 IN NS ns.{zone}.", *records]
            (root / f"{zone}.zone").write_text("\n".join(lines) + "\n")
            blocks.append(f"zone:\n  name: {zone}\n  zonefile: {zone}.zone")
        super().__init__(root, _NSD.format(folder=root, port=port, zones="\n".join(blocks)), port)


def certificate(root: Path, name: str) -> tuple[Path, Path]:
    """Make a self-signed certificate and its key."""
    key, cert = root / "key.pem", root / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", str(key)]
    command += ["-out", str(cert), "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key

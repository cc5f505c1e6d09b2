"""A real CoreDNS (plugin kubernetes) beside nodens, on the same API server."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from tests.control_plane import binaries
from tests.control_plane.dns_client import status, try_ask
from tests.control_plane.processes import Child, free_port, wait_until

ZONES = ("cluster.local", "in-addr.arpa", "ip6.arpa")


class CoreDNS:
    """CoreDNS on a free port; `options` are lines of the kubernetes block. A context manager."""

    def __init__(
        self, root: Path, kubeconfig: Path, options: tuple[str, ...] = (), zones: tuple[str, ...] = ZONES
    ) -> None:
        self.port = free_port()
        self._root = root
        root.mkdir(parents=True, exist_ok=True)
        lines = "\n".join(f"        {line}" for line in (f"kubeconfig {kubeconfig}", "ttl 5", *options))
        self._corefile = root / "Corefile"
        self._corefile.write_text(
            f".:{self.port} {{\n    bind 127.0.0.1\n    kubernetes {' '.join(zones)} {{\n{lines}\n    }}\n}}\n"
        )
        self._zone = zones[0]
        self.child = self._start()

    def _start(self) -> Child:
        return Child([str(binaries.coredns()), "-conf", str(self._corefile)], self._root / "coredns.log")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.child.stop(timeout_s=8)

    def wait_ready(self, timeout_s: float = 30) -> None:
        """Wait until it is in sync: what doesn't exist is NXDOMAIN, not SERVFAIL."""

        def ready() -> bool:
            self.child.check()
            return status(try_ask(self.port, f"no.such.svc.{self._zone}", timeout_s=1)) == "NXDOMAIN"

        wait_until("CoreDNS in sync", ready, timeout_s=timeout_s)

    def restart(self) -> None:
        """Start it again on the same port."""
        self.child.kill()
        self.child = self._start()

"""The real agent: `python -m agent serve` as a process, its log, its admin endpoint."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.control_plane.dns_client import status, try_ask
from tests.control_plane.processes import Child, free_port, wait_until


class Nodens:
    """The agent on free ports with its state below `root`; a context manager. It may be killed and started again."""

    def __init__(
        self, root: Path, kubeconfig: Path, options: Mapping[str, Any] | None = None, zone: str = "cluster.local"
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.port, self.admin_port = free_port(), free_port()
        self._zone = zone
        self._kubeconfig = kubeconfig
        self._config = root / "nodens.yaml"
        self._config.write_text(json.dumps({"kubeconfig": str(kubeconfig), **(options or {})}))
        self.child = self._start()

    @property
    def state_dir(self) -> Path:
        return self.root / "state"

    def _start(self) -> Child:
        command = [
            sys.executable, "-m", "agent", "serve", "--config", str(self._config), "--source", "kubernetes",
            "--state-dir", str(self.state_dir), "--listen", f"127.0.0.1:{self.port}",
            "--admin", f"127.0.0.1:{self.admin_port}",
        ]  # fmt: skip
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("NODENS_", "KUBE"))}
        return Child(command, self.root / "nodens.log", {**environment, "NODE_NAME": "test-node"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.child.stop()

    def stop(self) -> int:
        """End it politely; returns its exit status."""
        return self.child.stop(timeout_s=15)

    def kill(self) -> None:
        self.child.kill()

    def start(self) -> None:
        """Start it again on the same ports with the same state."""
        self.child = self._start()

    def _get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=3) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def state(self) -> dict[str, Any]:
        """Return /status, empty while the admin endpoint is not there."""
        code, body = self._get("/status")
        return json.loads(body) if code == 200 else {}

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels; 0 if it isn't there."""
        total = 0.0
        for line in self._get("/metrics")[1].decode().splitlines():
            if line.startswith((name + " ", name + "{")):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def wait_answering(self, timeout_s: float = 20) -> None:
        """Wait until it can answer: from disk or from the source."""

        def answering() -> bool:
            self.child.check()
            return status(try_ask(self.port, f"no.such.svc.{self._zone}", timeout_s=0.5)) == "NXDOMAIN"

        wait_until(f"nodens answering (log: {self.child.log})", answering, timeout_s=timeout_s)

    def wait_connected(self, timeout_s: float = 30) -> None:
        """Wait until it follows the API server."""

        def connected() -> bool:
            self.child.check()
            return bool(self.metric("nodens_source_connected"))

        self.wait_answering(timeout_s)
        wait_until(f"nodens following its source (log: {self.child.log})", connected, timeout_s=timeout_s)

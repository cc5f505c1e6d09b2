"""The real agent: `python -m agent serve` as a process, its log, its admin endpoint.

Law: an agent is ended by its own pid on every way out. Its port stays reserved while it is down, so that no client of
this very test is given it meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.control_plane.dns_client import status, try_ask
from tests.control_plane.processes import Child, wait_until

_BESIDE = "127.0.0.2"


class ReservedPort:
    """A port that is free for UDP and TCP on 127.0.0.1 until it is used there, and given to nobody else by the kernel.

    It is bound on another loopback address: the kernel gives no client a port that is bound anywhere.
    """

    def __init__(self) -> None:
        while True:
            self._tcp, self._udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
            try:
                self._tcp.bind((_BESIDE, 0))
                self.number: int = self._tcp.getsockname()[1]
                self._udp.bind((_BESIDE, self.number))
                with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
                    tcp.bind(("127.0.0.1", self.number))
                    udp.bind(("127.0.0.1", self.number))
            except OSError:
                self.close()
            else:
                return

    def close(self) -> None:
        self._tcp.close()
        self._udp.close()


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without what would configure an agent, and with `more`."""
    words = ("NODENS_", "KUBE", "LISTEN_", "NOTIFY_", "WATCHDOG_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(words)}
    return {**kept, "NODE_NAME": "test-node", **(more or {})}


class Agent:
    """The agent on a port of its own, its state below `root`; a context manager. It may be killed and started again.

    Args:
        root: folder for state, configuration and log.
        source: as for --source.
        options: the configuration file's content.
        environ: more variables.
        launcher: command that starts the agent in its place.
        state_dir: instead of the one below `root`.
        pass_fds: descriptors that it inherits.
        zone: own zone that is asked to see whether it answers.
    """

    def __init__(
        self,
        root: Path,
        source: str,
        options: Mapping[str, Any] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        launcher: Sequence[str] = (),
        state_dir: Path | None = None,
        pass_fds: Sequence[int] = (),
        zone: str = "cluster.local",
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.source = source
        self.environ = dict(environ or {})
        self.launcher = list(launcher)
        self.pass_fds = tuple(pass_fds)
        self.state_dir = state_dir or root / "state"
        self.config = root / "nodens.yaml"
        self.log = root / "nodens.log"
        self._zone = zone
        self._ports = ReservedPort(), ReservedPort()
        self.configure(options or {})
        self.child = self._start()

    @property
    def port(self) -> int:
        return self._ports[0].number

    @property
    def admin_port(self) -> int:
        return self._ports[1].number

    def configure(self, options: Mapping[str, Any]) -> None:
        """Write the configuration file; it counts at the next start or reload.

        Nothing is forwarded unless a test says where to: this machine's resolver is none of its business.
        """
        self.config.write_text(json.dumps({"upstream": "none", **options}))

    def _start(self) -> Child:
        command = [
            *self.launcher, sys.executable, "-m", "agent", "serve", "--config", str(self.config),
            "--source", self.source, "--state-dir", str(self.state_dir), "--listen", f"127.0.0.1:{self.port}",
            "--admin", f"127.0.0.1:{self.admin_port}",
        ]  # fmt: skip
        return Child(command, self.log, environment(self.environ), pass_fds=self.pass_fds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.child.stop()
        for port in self._ports:
            port.close()

    def stop(self) -> int:
        """End it politely; returns its exit status."""
        return self.child.stop(timeout_s=15)

    def kill(self) -> None:
        self.child.kill()

    def start(self) -> None:
        """Start it again on the same ports with the same state."""
        self.child = self._start()

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask the admin endpoint; code 0 while it is not there."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=3) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError:
            return 0, b""

    def state(self) -> dict[str, Any]:
        """Return /status, empty while the admin endpoint is not there."""
        code, body = self.get("/status")
        return json.loads(body) if code == 200 else {}

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels; 0 if it isn't there."""
        total = 0.0
        for line in self.get("/metrics")[1].decode().splitlines():
            if line.startswith((name + " ", name + "{")):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def wait_answering(self, timeout_s: float = 20) -> None:
        """Wait until it can answer: from disk or from the source."""

        def answering() -> bool:
            self.child.check()
            return status(try_ask(self.port, f"no.such.svc.{self._zone}", timeout_s=0.5)) == "NXDOMAIN"

        wait_until(f"nodens answering (log: {self.log})", answering, timeout_s=timeout_s)

    def wait_listening(self, timeout_s: float = 20) -> None:
        """Wait until it gives any answer, SERVFAIL too."""

        def listening() -> bool:
            self.child.check()
            return try_ask(self.port, f"no.such.svc.{self._zone}", timeout_s=0.5) is not None

        wait_until(f"nodens listening (log: {self.log})", listening, timeout_s=timeout_s)

    def wait_connected(self, timeout_s: float = 30) -> None:
        """Wait until it follows its source."""

        def connected() -> bool:
            self.child.check()
            return bool(self.metric("nodens_source_connected"))

        self.wait_answering(timeout_s)
        wait_until(f"nodens following its source (log: {self.log})", connected, timeout_s=timeout_s)

    def wait_told(self, words: str, timeout_s: float = 10) -> None:
        """Wait until words stand in its log, which is written by a thread of its own."""
        wait_until(f"{words!r} (log: {self.log})", lambda: words in self.child.text(), timeout_s=timeout_s)

    def wait_state(self, what: str, test: Any, timeout_s: float = 10) -> dict[str, Any]:
        """Wait until /status passes a test; returns it."""

        def passes() -> dict[str, Any]:
            state = self.state()
            with contextlib.suppress(LookupError):
                if state and test(state):
                    return state
            return {}

        return wait_until(f"{what} (log: {self.log})", passes, timeout_s=timeout_s)

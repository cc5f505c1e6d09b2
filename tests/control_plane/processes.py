"""Child processes with a log, an end, and figures from /proc.

Law: whoever starts one ends it, by its own pid, on every way out.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

_CLOCK_HZ = os.sysconf("SC_CLK_TCK")
_T = TypeVar("_T")


class Usage(NamedTuple):
    """What a process has used so far."""

    user_s: float
    system_s: float
    rss_bytes: int
    peak_rss_bytes: int

    @property
    def cpu_s(self) -> float:
        return self.user_s + self.system_s


def free_port() -> int:
    """Return a port that is free for TCP and UDP on 127.0.0.1 at this moment."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            with contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", port))
                return port


def wait_until(what: str, ask: Callable[[], _T], *, timeout_s: float = 30, every_s: float = 0.02) -> _T:
    """Ask until the answer is true and return it; AssertionError names `what` never came."""
    end = time.monotonic() + timeout_s
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {timeout_s} s")
        time.sleep(every_s)


class Child:
    """A program run in the background, its output in a file; use it as a context manager or end it with `stop`."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        env: Mapping[str, str] | None = None,
        *,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                cwd=Path(__file__).parents[2],
                start_new_session=True,
                pass_fds=tuple(pass_fds),
            )
        self.pid = self._process.pid
        self.started_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def text(self) -> str:
        """Return what it has printed so far."""
        return self.log.read_text(errors="replace")

    def check(self) -> None:
        """Raise with the end of the log if it has ended by itself."""
        if not self.running:
            raise AssertionError(f"{self.log.name} ended with {self._process.returncode}:\n{self.text()[-3000:]}")

    def signal(self, number: int) -> None:
        if self.running:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it without a word (SIGKILL)."""
        self._process.kill()
        self._process.wait()

    def wait(self, timeout_s: float = 10) -> int:
        """Wait for its end, which comes by itself or from a signal; return its exit status."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.log.name} did not end within {timeout_s} s") from None

    def stop(self, timeout_s: float = 10) -> int:
        """End it politely, then for good; return its exit status."""
        if self.running:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.returncode

    def pause(self) -> None:
        """Make a black hole of it: connections stay, nothing answers."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def usage(self) -> Usage:
        """Return CPU time and memory from /proc, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{self.pid}/status").read_text()
        sizes = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.startswith("Vm")}
        return Usage(
            int(fields[11]) / _CLOCK_HZ,
            int(fields[12]) / _CLOCK_HZ,
            int(sizes["VmRSS"]) * 1024,
            int(sizes["VmHWM"]) * 1024,
        )

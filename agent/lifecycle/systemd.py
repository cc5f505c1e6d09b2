"""What systemd is told (sd_notify(3)): ready, reloading, stopping, status, still alive.

Law: without NOTIFY_SOCKET every call does nothing. A message that can't be sent is counted and never hinders the
agent; sending never blocks. Addresses: a path, or `@name` for an abstract socket.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

log = logging.getLogger(__name__)


class Notifier:
    """Speaks to the service manager.

    Args:
        environ: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are read from it.

    Attributes:
        watchdog_s: time within which systemd wants a sign of life; 0 if it wants none.
        failures: messages that could not be sent.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.failures = 0
        self.watchdog_s = _watchdog_s(environ)
        self._status = ""
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        if address and address[0] not in "/@":
            log.warning("NOTIFY_SOCKET %r is neither a path nor an abstract name; systemd is told nothing", address)
            self._address = ""

    def ready(self) -> None:
        """Queries are answered."""
        self._send("READY=1")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it (Type=notify-reload wants the time)."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`; the same line is sent once."""
        line = " ".join(text.split())
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
                sock.sendto(message.encode(), self._address)
        except OSError as error:
            self.failures += 1
            if self.failures == 1:
                log.warning("systemd can't be told %r: %s", message.partition("\n")[0], error)


def _watchdog_s(environ: Mapping[str, str]) -> float:
    micros, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not micros.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(micros) / 1e6

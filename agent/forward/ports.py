"""Source ports and ids that nobody can guess.

Law: every UDP query has a socket of its own, bound to a port drawn from the kernel's own range by a CSPRNG and
connected, so that the kernel lets nothing in but what says that it comes from the very address and port that was asked.
"""

from __future__ import annotations

import os
import secrets
import socket

MAX_DRAWS = 8
"""Ports tried; after that the kernel chooses."""
_RANGE_FILE = "/proc/sys/net/ipv4/ip_local_port_range"
_DEFAULT_RANGE = (32_768, 60_999)


def local_range() -> tuple[int, int]:
    """Read which ports this node gives to clients (ip(7)): first and last."""
    try:
        fd = os.open(_RANGE_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return _DEFAULT_RANGE
    try:
        words = os.read(fd, 64).split()
        first, last = int(words[0]), int(words[1])
    except (OSError, ValueError, IndexError):
        return _DEFAULT_RANGE
    finally:
        os.close(fd)
    return (first, last) if 0 < first <= last <= 0xFFFF else _DEFAULT_RANGE


def draw_id() -> int:
    """Draw a message id."""
    return int.from_bytes(secrets.token_bytes(2), "big")


class Ports:
    """Opens sockets at ports nobody can guess.

    Attributes:
        first, last: the range.
        busy: draws that hit a port in use.
    """

    def __init__(self, between: tuple[int, int] | None = None) -> None:
        self.first, self.last = between or local_range()
        self.busy = 0

    def connect(self, address: tuple[str, int]) -> socket.socket:
        """Open a non-blocking UDP socket that is connected to an address.

        Raises:
            OSError: there is no descriptor, or no way there.
        """
        is_6 = ":" in address[0]
        family, wildcard = (socket.AF_INET6, "::") if is_6 else (socket.AF_INET, "0.0.0.0")  # noqa: S104  # a client
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._bind(sock, wildcard)
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        return sock

    def _bind(self, sock: socket.socket, wildcard: str) -> None:
        span = self.last - self.first + 1
        for _ in range(MAX_DRAWS):
            try:
                sock.bind((wildcard, self.first + secrets.randbelow(span)))
            except OSError:
                self.busy += 1
            else:
                return
        sock.bind((wildcard, 0))

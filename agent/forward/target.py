"""Where an upstream is, as it is written in a configuration.

Law: pure and light: the configuration is read by this on the way of every command.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

UDP, TCP, TLS = "udp", "tcp", "tls"
PORT, TLS_PORT = 53, 853
MAX_NAMESERVERS = 8
"""Name servers taken from a resolv.conf."""
_WRITTEN = re.compile(
    r"(?:(udp|tcp|tls)://)?(\[[^]]+\]|[^:#\[\]]+|[0-9a-fA-F:.%]+)(?::(\d{1,5}))?(?:#([\w.-]{1,253}))?"
)


class Target(NamedTuple):
    """One upstream: `via` is UDP (and TCP where needed), TCP or TLS; `name` is what its certificate must say.

    An empty name: the certificate must name its address.
    """

    host: str
    port: int
    via: str = UDP
    name: str = ""

    def __str__(self) -> str:
        where = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        return where if self.via == UDP else f"{self.via}://{where}" + (f"#{self.name}" if self.name else "")


def read_target(text: str) -> Target | None:
    """Read ADDR, ADDR:PORT, [ADDR]:PORT, tcp://…, tls://…#NAME; None: it is none of them."""
    bare = text.removeprefix("udp://")
    if _is_address(bare):
        return Target(bare, PORT)
    match = _WRITTEN.fullmatch(text)
    if match is None:
        return None
    via, host = match[1] or UDP, match[2].strip("[]")
    port = int(match[3]) if match[3] else TLS_PORT if via == TLS else PORT
    if not _is_address(host) or not 0 < port <= 0xFFFF or (match[4] and via != TLS):
        return None
    return Target(host, port, via, match[4] or "")


def nameservers(text: str) -> list[Target]:
    """Read the name servers of a resolv.conf (resolv.conf(5)); what is no address is passed over."""
    found: list[Target] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver" and _is_address(words[1]):
            target = Target(words[1], PORT)
            if target not in found and len(found) < MAX_NAMESERVERS:
                found.append(target)
    return found


def _is_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not address.is_unspecified and not address.is_multicast

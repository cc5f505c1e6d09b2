"""Readers of addresses, networks, zones and what else names a place; same law as `values`."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from agent.cluster.selection import parse_selector
from agent.config.values import UnfitError, listed
from agent.errors import NodensError
from agent.forward.target import Target, read_target
from agent.records.names import is_label, to_wire

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DNS_PORT = 53
MAX_UNIX_PATH_BYTES = 107
"""`sun_path` of unix(7) has 108, one of them the final zero."""


class SocketAddress(NamedTuple):
    """An address literal and a port; names are not taken, for who would resolve them?"""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class UnixPath(NamedTuple):
    """A unix socket in the file system."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


class UpstreamChoice(NamedTuple):
    """Who answers names of no own zone: the name servers of a file, or these (none: nobody)."""

    file: str = ""
    targets: tuple[Target, ...] = ()

    def __str__(self) -> str:
        return self.file or ",".join(map(str, self.targets)) or "none"


class Stub(NamedTuple):
    """A zone, and one of those who answer for it."""

    zone: str
    target: Target

    def __str__(self) -> str:
        return f"{self.zone}={self.target}"


class SourceChoice(NamedTuple):
    """Where cluster state is to come from: `auto`, `kubernetes` or `file` with its path."""

    kind: str
    path: str = ""

    def __str__(self) -> str:
        return f"file:{self.path}" if self.kind == "file" else self.kind


def address(value: object) -> SocketAddress:
    """Read ADDR:PORT, [ADDR]:PORT or ADDR (port 53)."""
    if not isinstance(value, str):
        raise UnfitError(f"must be ADDR:PORT, not {value!r}")
    host, port = value, str(DNS_PORT)
    if match := re.fullmatch(r"\[([^]]+)\](?::(\d+))?|([^:]+):(\d+)", value):
        host, port = match[1] or match[3], match[2] or match[4] or port
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise UnfitError(f"must be ADDR:PORT with an IP address (IPv6 in brackets), not {value!r}") from None
    if len(port) > 5 or int(port) > 65_535:
        raise UnfitError(f"has a port over 65535: {value!r}")
    return SocketAddress(host, int(port))


def admin(value: object) -> SocketAddress | UnixPath | None:
    """Read ADDR:PORT, unix:PATH, or off (None)."""
    if value == "off":
        return None
    if isinstance(value, str) and value.startswith("unix:"):
        path = value.removeprefix("unix:")
        if not path.startswith("/") or len(path.encode()) > MAX_UNIX_PATH_BYTES or "\0" in path:
            raise UnfitError(f"must name a unix socket by an absolute path of at most 107 bytes, not {path!r}")
        return UnixPath(path)
    try:
        return address(value)
    except ValueError:
        raise UnfitError(f"must be ADDR:PORT, unix:PATH or off, not {value!r}") from None


def ip(value: object) -> str:
    """Read one IP address literal."""
    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError:
        raise UnfitError(f"must be an IP address, not {value!r}") from None


def network(value: object) -> Network:
    """Read a CIDR network or one address."""
    try:
        return ipaddress.ip_network(str(value))
    except ValueError as error:
        raise UnfitError(f"must be a network such as 10.0.0.0/8, not {value!r} ({error})") from None


def publishable(host: str) -> bytes:
    """Pack an address that others can use; empty for a wildcard."""
    parsed = ipaddress.ip_address(host)
    return b"" if parsed.is_unspecified else parsed.packed


def reachable(host: str) -> str:
    """Give the address at which a listener on this node is asked: the loopback for a wildcard."""
    parsed = ipaddress.ip_address(host)
    if not parsed.is_unspecified:
        return host
    return "127.0.0.1" if parsed.version == 4 else "::1"


def zone(value: object) -> str:
    """Read a zone name; gives it lower-cased and without the final dot."""
    name = value.rstrip(".").lower() if isinstance(value, str) else ""
    try:
        wire = to_wire(name)
    except (NodensError, ValueError):
        wire = b""
    if len(wire) < 2:
        raise UnfitError(f"must be a zone such as cluster.local, not {value!r}")
    return name


def namespace(value: object) -> str:
    """Read the name of a namespace (RFC 1123 label)."""
    if not isinstance(value, str) or not is_label(value):
        raise UnfitError(f"must be the name of a namespace, not {value!r}")
    return value


def service(value: object) -> str:
    """Read the name of a Service as people ask for it: SERVICE.NAMESPACE."""
    parts = value.lower().split(".") if isinstance(value, str) else []
    if len(parts) != 2 or not all(is_label(part) for part in parts):
        raise UnfitError(f"must be a Service such as kubernetes.default, not {value!r}")
    return ".".join(parts)


def selector(value: object) -> str:
    """Read a label selector as for kubectl -l; gives the text, checked."""
    if not isinstance(value, str):
        raise UnfitError(f"must be a label selector such as app=web, not {value!r}")
    try:
        parse_selector(value)
    except NodensError as error:
        raise UnfitError(f"can't be used: {error}") from None
    return value


def target(value: object) -> Target:
    """Read an upstream."""
    read = read_target(value) if isinstance(value, str) else None
    if read is None:
        raise UnfitError(f"must be ADDR, ADDR:PORT, tcp://ADDR or tls://ADDR#NAME (addresses alone), not {value!r}")
    return read


def upstreams(value: object) -> UpstreamChoice:
    """Read a list of upstreams, the path of a resolv.conf, or none."""
    if isinstance(value, UpstreamChoice):
        return value
    parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)):
        raise UnfitError(f"must be a list, the path of a resolv.conf or none, not {value!r}")
    if list(parts) in (["none"], []):
        return UpstreamChoice()
    if len(parts) == 1 and isinstance(parts[0], str) and parts[0].startswith("/") and "\0" not in parts[0]:
        return UpstreamChoice(parts[0])
    return UpstreamChoice("", listed(target, least=1)(list(parts)))


def stub(value: object) -> Stub:
    """Read ZONE=ADDR."""
    name, equals, where = value.partition("=") if isinstance(value, str) else ("", "", "")
    if not equals:
        raise UnfitError(f"must be ZONE=ADDR such as corp.example=10.0.0.53, not {value!r}")
    return Stub(zone(name.strip()), target(where.strip()))


def source(value: object) -> SourceChoice:
    """Read auto, kubernetes or file:PATH."""
    if value in ("auto", "kubernetes"):
        return SourceChoice(str(value))
    if isinstance(value, str) and value.startswith("file:") and len(value) > 5 and "\0" not in value:
        return SourceChoice("file", value.removeprefix("file:"))
    raise UnfitError(f"must be kubernetes, file:PATH or auto, not {value!r}")


def folder(value: object) -> str:
    """Read an absolute path, or a relative one from the working directory."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise UnfitError(f"must be a path, not {value!r}")
    return value

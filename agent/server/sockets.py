"""Sockets for DNS: bound here, or inherited from systemd (sd_listen_fds(3)).

Law: one UDP and one TCP socket for each address, IPv4 and IPv6 never mixed in one. An error says which address,
and what to do about it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, MutableMapping
from typing import NamedTuple

from agent.errors import NodensError

RECEIVE_BUFFER_BYTES = 1 << 20
"""Asked of the kernel for a UDP socket: room for some 2,700 usual queries, what arrives while the loop (or a worker's
core) is busy elsewhere. With CAP_NET_ADMIN it is had; without, at most net.core.rmem_max is, often a fifth of it."""
PORT_TRIES = 16
"""Attempts to find one port that is free for UDP and TCP, where the kernel is to choose."""
MAX_INHERITED = 256
_FIRST_INHERITED = 3
_LISTEN_WORDS = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")

# Linux, absent from the socket module: asm-generic/socket.h, linux/in.h, linux/in6.h.
_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("=9I")
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78
_HINTS = {
    errno.EADDRINUSE: "Something else holds it: look with `ss -lnup` and `ss -lntp`, or listen elsewhere",
    errno.EACCES: "A port below 1024 needs CAP_NET_BIND_SERVICE (or net.ipv4.ip_unprivileged_port_start): "
    "grant it, or listen on another port",
    errno.EADDRNOTAVAIL: "No interface has this address: add it, or bind it before it exists with freebind",
}

Address = tuple[str, int]


class Pair(NamedTuple):
    """The sockets of one address; `address` has the port that was really bound."""

    address: Address
    udp: socket.socket
    tcp: socket.socket


class Inherited(NamedTuple):
    """A socket from systemd, with its name from LISTEN_FDNAMES."""

    name: str
    sock: socket.socket


def inherit(environ: MutableMapping[str, str], pid: int, first: int = _FIRST_INHERITED) -> list[Inherited]:
    """Take the sockets systemd passed to this very process, and the words that named them out of the environment.

    Args:
        environ: the process's environment.
        pid: the process.
        first: number of the first descriptor.

    Raises:
        NodensError: the words can't be read, or a descriptor is not a socket.
    """
    words = {word: environ.pop(word, "") for word in _LISTEN_WORDS}
    if words["LISTEN_PID"] != str(pid):
        return []
    count = int(words["LISTEN_FDS"]) if words["LISTEN_FDS"].isdecimal() else -1
    if not 0 <= count <= MAX_INHERITED:
        raise NodensError(
            f"LISTEN_FDS={words['LISTEN_FDS']!r} is no number of sockets", hint="Start it by a systemd socket unit"
        )
    names = words["LISTEN_FDNAMES"].split(":")
    found = []
    for number in range(count):
        try:
            os.set_inheritable(first + number, False)
            sock = socket.socket(fileno=first + number)
        except OSError as error:
            raise NodensError(f"inherited descriptor {first + number} is no socket: {error}") from error
        found.append(Inherited(names[number] if number < len(names) else "", sock))
    return found


def open_pairs(
    addresses: Iterable[Address], inherited: Iterable[Inherited] = (), *, freebind: bool = False
) -> tuple[list[Pair], list[Inherited]]:
    """Get the sockets of every address: inherited ones where they match, bound ones otherwise.

    Args:
        addresses: numeric host and port; port 0 lets the kernel choose one for both protocols.
        inherited: what systemd passed.
        freebind: an address may be bound that no interface has yet.

    Returns:
        A pair for each address, and the inherited sockets that fit none of them.

    Raises:
        NodensError: an address can't be bound; what was opened before is closed.
    """
    left = list(inherited)
    pairs: list[Pair] = []
    try:
        for address in addresses:
            udp = _take(left, address, socket.SOCK_DGRAM)
            tcp = _take(left, address, socket.SOCK_STREAM)
            pairs.append(_pair(address, udp, tcp, freebind=freebind))
    except NodensError:
        for pair in pairs:
            pair.udp.close()
            pair.tcp.close()
        raise
    return pairs, left


def _pair(address: Address, udp: socket.socket | None, tcp: socket.socket | None, *, freebind: bool) -> Pair:
    host, port = address
    if port or udp or tcp:
        udp = udp or _bind(address, socket.SOCK_DGRAM, freebind=freebind)
        try:
            tcp = tcp or _bind(address, socket.SOCK_STREAM, freebind=freebind)
        except NodensError:
            udp.close()
            raise
        return Pair(_name(udp), udp, tcp)
    failure: NodensError | None = None
    for _ in range(PORT_TRIES):
        udp = _bind(address, socket.SOCK_DGRAM, freebind=freebind)
        try:
            return Pair(_name(udp), udp, _bind(_name(udp), socket.SOCK_STREAM, freebind=freebind))
        except NodensError as error:
            udp.close()
            failure = error
    raise NodensError(f"no port of {host} is free for both UDP and TCP") from failure


def _bind(address: Address, kind: socket.SocketKind, *, freebind: bool) -> socket.socket:
    """Bind one socket.

    SO_REUSEPORT lets a new agent bind while the old one still answers (an upgrade without loss).
    """
    host, port = address
    protocol = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
    try:
        family, _, _, _, target = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_NUMERICHOST)[0]
        sock = socket.socket(family, kind)
    except OSError as error:
        raise _failure(protocol, address, error) from error
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if freebind:
            is_6 = family == socket.AF_INET6
            level, option = (socket.IPPROTO_IPV6, _IPV6_FREEBIND) if is_6 else (socket.IPPROTO_IP, _IP_FREEBIND)
            sock.setsockopt(level, option, 1)
        if kind == socket.SOCK_DGRAM:
            _widen(sock)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(target)
    except OSError as error:
        sock.close()
        raise _failure(protocol, address, error) from error
    return sock


def _widen(sock: socket.socket) -> None:
    """Ask for the receive buffer, beyond net.core.rmem_max where that is allowed (socket(7))."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)


def lost(sock: socket.socket) -> int:
    """Give how many datagrams the kernel had no room for since the socket was opened, modulo 2**32; 0: it won't say."""
    try:
        return int(_MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[8])
    except (OSError, struct.error):
        return 0


def another(sock: socket.socket) -> socket.socket:
    """Bind a second UDP socket to the address of one, so that the kernel spreads queries over both (SO_REUSEPORT).

    Returns:
        The new one; the same one if that can't be had (it was inherited without the option).
    """
    try:
        return _bind(_scoped(sock), socket.SOCK_DGRAM, freebind=True)
    except NodensError:
        return sock


def _failure(protocol: str, address: Address, error: OSError) -> NodensError:
    host, port = address
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    number = error.errno or 0
    words = os.strerror(number) if number in errno.errorcode else str(error)
    return NodensError(f"can't serve {protocol} on {where}: {words}", hint=_HINTS.get(number, ""))


def _name(sock: socket.socket) -> Address:
    host, port = sock.getsockname()[:2]
    return host, port


def _scoped(sock: socket.socket) -> Address:
    """Name a socket's address with its interface: a link-local one means nothing without."""
    return socket.getnameinfo(sock.getsockname(), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0], _name(sock)[1]


def _take(left: list[Inherited], address: Address, kind: socket.SocketKind) -> socket.socket | None:
    """Take the inherited socket of an address and kind out of the list."""
    for number, inherited in enumerate(left):
        sock = inherited.sock
        if sock.family not in {socket.AF_INET, socket.AF_INET6} or sock.type != kind:
            continue
        if _same(_name(sock), address):
            del left[number]
            sock.setblocking(False)
            return sock
    return None


def _same(bound: Address, wanted: Address) -> bool:
    try:
        wanted_host = socket.getaddrinfo(wanted[0], wanted[1], flags=socket.AI_NUMERICHOST)[0][4][0]
    except OSError:
        return False
    return (bound[0], bound[1]) == (wanted_host, wanted[1])

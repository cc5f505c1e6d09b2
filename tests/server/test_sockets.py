"""Sockets: bound with what DNS needs, inherited where systemd passed them, refused in words that help."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from agent.errors import NodensError
from agent.server import sockets
from agent.server.sockets import Inherited, inherit, open_pairs


@pytest.fixture
def opened():
    """A list whose sockets are closed behind the test."""
    held: list[socket.socket] = []
    yield held
    for sock in held:
        sock.close()


def pairs_of(opened, addresses, inherited=(), **options):
    pairs, left = open_pairs(addresses, inherited, **options)
    for pair in pairs:
        opened += [pair.udp, pair.tcp]
    return pairs, left


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_one_port_for_both_protocols(opened, host: str):
    pairs, left = pairs_of(opened, [(host, 0)])
    (pair,) = pairs
    assert left == []
    assert pair.address[0] == host
    assert pair.address[1] == pair.udp.getsockname()[1] == pair.tcp.getsockname()[1] > 0
    assert (pair.udp.type, pair.tcp.type) == (socket.SOCK_DGRAM, socket.SOCK_STREAM)
    for sock in (pair.udp, pair.tcp):
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        assert not sock.getblocking()
        if ":" in host:
            assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_both_wildcards_share_a_port(opened):
    (first,), _ = pairs_of(opened, [("0.0.0.0", 0)])
    (second,), _ = pairs_of(opened, [("::", first.address[1])])
    assert second.address == ("::", first.address[1])


def test_a_second_agent_may_bind_while_the_first_still_answers(opened):
    (first,), _ = pairs_of(opened, [("127.0.0.1", 0)])
    (second,), _ = pairs_of(opened, [first.address])
    assert second.address == first.address


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_an_address_in_use_says_what_to_do_and_leaves_nothing_open(opened, kind: socket.SocketKind):
    holder = socket.socket(socket.AF_INET, kind)
    opened.append(holder)
    holder.bind(("127.0.0.1", 0))
    if kind == socket.SOCK_STREAM:
        holder.listen()
    port = holder.getsockname()[1]
    protocol = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NodensError, match=rf"can't serve {protocol} on 127\.0\.0\.1:{port}: .* in use.*ss -lnup"):
        open_pairs([("127.0.0.1", 0), ("127.0.0.1", port)])
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (("192.0.2.1", 0), r"on 192\.0\.2\.1:0: .*freebind"),
        (("2001:db8::1", 0), r"on \[2001:db8::1\]:0: .*freebind"),
        (("localhost", 53), "on localhost:53"),
    ],
)
def test_an_address_that_is_not_here(address, words: str):
    with pytest.raises(NodensError, match=words):
        open_pairs([address])


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_freebind_binds_an_address_before_it_exists(opened, host: str):
    (pair,), _ = pairs_of(opened, [(host, 0)], freebind=True)
    assert pair.address[0] == host


def test_a_port_that_needs_a_capability_says_so(monkeypatch: pytest.MonkeyPatch):
    class Refusing(socket.socket):
        def bind(self, address):
            raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(NodensError, match=r"127\.0\.0\.1:53: Permission denied.*CAP_NET_BIND_SERVICE"):
        open_pairs([("127.0.0.1", 53)])


def test_a_port_free_for_one_protocol_only_is_tried_again_and_given_up(monkeypatch: pytest.MonkeyPatch):
    tries = []
    bind = sockets._bind

    def one_protocol(address, kind, *, freebind):
        tries.append(kind)
        if kind == socket.SOCK_STREAM:
            raise NodensError("taken")
        return bind(address, kind, freebind=freebind)

    monkeypatch.setattr(sockets, "_bind", one_protocol)
    with pytest.raises(NodensError, match="is free for both UDP and TCP"):
        open_pairs([("127.0.0.1", 0)])
    assert len(tries) == 2 * sockets.PORT_TRIES


# ── systemd ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def bound(family=socket.AF_INET, kind=socket.SOCK_DGRAM, address=("127.0.0.1", 0)) -> socket.socket:
    sock = socket.socket(family, kind)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(address)
    return sock


def test_inherited_sockets_are_used_where_they_match(opened, tmp_path):
    udp = bound()
    address = udp.getsockname()
    tcp = bound(kind=socket.SOCK_STREAM, address=address)
    other = bound()
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    unix.bind(str(tmp_path / "socket"))
    opened += [udp, tcp, other, unix]
    passed = [Inherited("unix", unix), Inherited("other", other), Inherited("dns", udp), Inherited("dns-tcp", tcp)]
    (pair,), left = open_pairs([address], passed)
    assert pair == (address, udp, tcp)
    assert not udp.getblocking()
    assert [each.name for each in left] == ["unix", "other"]


def test_what_was_not_passed_is_bound_beside_what_was(opened):
    udp = bound(family=socket.AF_INET6, address=("::1", 0))
    udp_address = udp.getsockname()[:2]
    (pair,), left = pairs_of(opened, [("0:0::1", udp_address[1])], [Inherited("", udp)])
    assert left == []
    assert pair.udp is udp
    assert pair.tcp.getsockname()[:2] == udp_address


def test_an_inherited_socket_matches_no_address_that_is_none(opened):
    udp = bound()
    opened.append(udp)
    with pytest.raises(NodensError, match="nowhere"):
        open_pairs([("nowhere", udp.getsockname()[1])], [Inherited("", udp)])


def passed_at(number: int, sock: socket.socket) -> None:
    os.dup2(sock.fileno(), number, inheritable=True)


FIRST = 240
"""A descriptor number nobody else uses, in the place of systemd's 3."""


def test_descriptors_of_this_process_are_taken_and_their_words_removed(opened):
    sock = bound()
    opened.append(sock)
    for number in range(2):
        passed_at(FIRST + number, sock)
    environ = {"LISTEN_PID": "77", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "dns", "HOME": "/"}
    found = inherit(environ, 77, FIRST)
    opened += [each.sock for each in found]
    assert environ == {"HOME": "/"}
    assert [each.name for each in found] == ["dns", ""]
    assert [each.sock.fileno() for each in found] == [FIRST, FIRST + 1]
    assert [each.sock.getsockname() for each in found] == [sock.getsockname()] * 2
    assert not any(os.get_inheritable(each.sock.fileno()) for each in found)


@pytest.mark.parametrize("environ", [{}, {"LISTEN_PID": "78", "LISTEN_FDS": "1"}, {"LISTEN_FDS": "1"}])
def test_descriptors_of_another_process_are_left_alone(environ: dict[str, str]):
    assert inherit(dict(environ), 77) == []


@pytest.mark.parametrize("count", ["", "x", "-1", "100000", "1.5"])
def test_a_number_that_is_none_is_an_error(count: str):
    with pytest.raises(NodensError, match="LISTEN_FDS"):
        inherit({"LISTEN_PID": "77", "LISTEN_FDS": count}, 77)


def test_a_descriptor_that_is_no_socket_is_an_error(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    number = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(NodensError, match=f"descriptor {number} is no socket"):
            inherit({"LISTEN_PID": "77", "LISTEN_FDS": "1"}, 77, number)
    finally:
        os.close(number)


def test_a_descriptor_that_is_closed_is_an_error():
    with pytest.raises(NodensError, match=f"descriptor {FIRST + 9} is no socket"):
        inherit({"LISTEN_PID": "77", "LISTEN_FDS": "1"}, 77, FIRST + 9)

"""Asking a DNS server over UDP or TCP: one question, or very many at once."""

from __future__ import annotations

import itertools
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

WINDOW = 48
"""Questions in flight; small enough that no socket buffer overflows."""


class Question(NamedTuple):
    """What to ask. `udp_size` 0 means no EDNS."""

    name: str
    type: str
    udp_size: int = 4096
    tcp: bool = False


def encode(question: Question, number: int) -> bytes:
    """Return the packet of a question, the name's letter case kept."""
    labels = [label.encode("latin-1") for label in question.name.rstrip(".").split(".")] if question.name != "." else []
    name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    type_ = int(question.type[4:]) if question.type.startswith("TYPE") else dns.rdatatype.from_text(question.type)
    extra = struct.pack(">BHHIH", 0, 41, question.udp_size, 0, 0) if question.udp_size else b""
    flags = 0x0100
    return struct.pack(">6H", number, flags, 1, 0, 0, 1 if extra else 0) + name + struct.pack(">HH", type_, 1) + extra


def _send_framed(peer: socket.socket, packet: bytes) -> None:
    peer.sendall(struct.pack(">H", len(packet)) + packet)


def _exactly(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = peer.recv(count - len(data))
        if not piece:
            raise ConnectionError("the server closed the connection")
        data += piece
    return data


def ask_raw(port: int, question: Question, *, timeout_s: float = 2, host: str = "127.0.0.1") -> bytes:
    """Ask one question and return the packet that answers it; OSError (a timeout too) if none comes."""
    packet = encode(question, time.monotonic_ns() & 0xFFFF)
    kind = socket.SOCK_STREAM if question.tcp else socket.SOCK_DGRAM
    with socket.socket(type=kind) as peer:
        peer.settimeout(timeout_s)
        peer.connect((host, port))
        if question.tcp:
            _send_framed(peer, packet)
            return _exactly(peer, struct.unpack(">H", _exactly(peer, 2))[0])
        peer.send(packet)
        while True:
            answer = peer.recv(65535)
            if answer[:2] == packet[:2]:
                return answer


def ask(port: int, name: str, type_: str = "A", **options: object) -> dns.message.Message:
    """Ask one question and parse the answer."""
    timeout_s = float(options.pop("timeout_s", 2))  # type: ignore[arg-type]
    return dns.message.from_wire(ask_raw(port, Question(name, type_, **options), timeout_s=timeout_s))  # type: ignore[arg-type]


def try_ask(port: int, name: str, type_: str = "A", **options: object) -> dns.message.Message | None:
    """Ask one question; None if nothing comes back."""
    try:
        return ask(port, name, type_, **options)
    except OSError:
        return None


def rdata(message: dns.message.Message | None) -> set[str]:
    """Return the answer section as `TYPE rdata` texts."""
    if message is None:
        return set()
    return {f"{dns.rdatatype.to_text(rrset.rdtype)} {record.to_text()}" for rrset in message.answer for record in rrset}


def addresses(port: int, name: str, type_: str = "A") -> set[str]:
    """Return the addresses a name has right now, empty if there is no answer."""
    return {text.split(" ", 1)[1] for text in rdata(try_ask(port, name, type_)) if text.startswith(type_ + " ")}


def status(message: dns.message.Message | None) -> str:
    """Return NOERROR, NODATA, NXDOMAIN, ... or `no answer`."""
    if message is None:
        return "no answer"
    code = dns.rcode.to_text(message.rcode())
    return "NODATA" if code == "NOERROR" and not message.answer else code


def ask_many(port: int, questions: Sequence[Question], *, timeout_s: float = 2) -> Iterator[tuple[Question, bytes]]:
    """Ask many questions with `WINDOW` in flight; each is repeated twice if lost. Gives them in any order.

    A question that stays without an answer comes with an empty packet.
    """
    streams = [question for question in questions if question.tcp]
    datagrams = [question for question in questions if not question.tcp]
    yield from _over_tcp(port, streams, timeout_s)
    lost = datagrams
    for _ in range(3):
        left: list[Question] = []
        yield from _over_udp(port, lost, timeout_s, left)
        lost = left
    yield from ((question, b"") for question in lost)


def _numbers(last: int) -> Iterator[int]:
    """Give message numbers after the last one; who stays silent keeps its own, so some may be taken."""
    return ((last + step) & 0xFFFF for step in itertools.count(1))


def _over_udp(
    port: int, questions: list[Question], timeout_s: float, lost: list[Question]
) -> Iterator[tuple[Question, bytes]]:
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        peer.connect(("127.0.0.1", port))
        peer.setblocking(False)
        ready = select.poll()  # select() knows no descriptor above 1023
        ready.register(peer, select.POLLIN)
        waiting: dict[int, Question] = {}
        coming, number = iter(questions), 0
        while True:
            for question in itertools.islice(coming, WINDOW - len(waiting)):
                number = next(free for free in _numbers(number) if free not in waiting)
                waiting[number] = question
                peer.send(encode(question, number))
            if not waiting:
                return
            if not ready.poll(timeout_s * 1000):
                lost.extend(waiting.values())
                waiting.clear()
                continue
            for answer in _drain(peer):
                question = waiting.pop(struct.unpack_from(">H", answer)[0], None)
                if question is not None:
                    yield question, answer


def _drain(peer: socket.socket) -> Iterable[bytes]:
    answers = []
    while True:
        try:
            answers.append(peer.recv(65535))
        except BlockingIOError:
            return answers


def _over_tcp(port: int, questions: list[Question], timeout_s: float) -> Iterator[tuple[Question, bytes]]:
    left = list(enumerate(questions))
    while left:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as peer:
            batch, left = left[:100], left[100:]
            for at, (number, question) in enumerate(batch):
                try:
                    _send_framed(peer, encode(question, number & 0xFFFF))
                    answer = _exactly(peer, struct.unpack(">H", _exactly(peer, 2))[0])
                except TimeoutError:
                    yield question, b""
                    left = batch[at + 1 :] + left  # an answer that comes late must not be taken for another's
                    break
                yield question, answer

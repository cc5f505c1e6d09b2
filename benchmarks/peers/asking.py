"""Asking a server by hand: is it there, and is it right?

Law: standard library only; every question has a time limit. What a server answers is compared with what the records
say: rcode, and number of records in the answer section.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from benchmarks.peers.zone import ZONE, Question

TYPES = {"A": 1, "PTR": 12, "AAAA": 28, "SRV": 33}
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
_WAIT_S = 1.0
_TC = 0x02


class Wrong(NamedTuple):
    """An answer that is not the expected one."""

    question: Question
    rcode: str
    answers: int


def encode(name: str, type_: str, number: int) -> bytes:
    """Return the packet of a question without EDNS (RFC 1035 section 4)."""
    labels = b"".join(bytes((len(label),)) + label.encode("ascii") for label in name.split("."))
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", TYPES[type_], 1)


@contextlib.contextmanager
def _socket(port: int, wait_s: float) -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(wait_s)
        sock.connect(("127.0.0.1", port))
        yield sock


def _ask(sock: socket.socket, packet: bytes) -> bytes:
    """Return the answer to a packet, empty if none came. A late one to an earlier packet is passed over."""
    try:
        sock.send(packet)
        while True:
            reply = sock.recv(65_535)
            if len(reply) >= 12 and reply[:2] == packet[:2]:
                return reply
    except OSError:
        return b""


def is_echoing(port: int) -> bool:
    """Return whether anything comes back."""
    with _socket(port, 0.1) as sock:
        return bool(_ask(sock, encode("a." + ZONE, "A", random.getrandbits(16))))


def is_answering(port: int) -> bool:
    """Return whether a server has its records: the name of the zone's own name server exists, another one does not."""
    with _socket(port, 0.3) as sock:
        there = _ask(sock, encode(f"ns.dns.{ZONE}", "A", random.getrandbits(16)))
        gone = _ask(sock, encode(f"no-such.{ZONE}", "A", random.getrandbits(16)))
    return bool(there and gone) and there[3] & 0xF == 0 and there[7] == 1 and gone[3] & 0xF == 3


def wrong(port: int, questions: Iterable[Question]) -> tuple[list[Wrong], int]:
    """Ask, one after the other; returns wrong answers, and how many were cut (TC), which are none."""
    out, cut = [], 0
    with _socket(port, _WAIT_S) as sock:
        for number, question in enumerate(questions):
            packet = encode(question.name, question.type, number & 0xFFFF)
            reply = _ask(sock, packet) or _ask(sock, packet)
            if not reply:
                out.append(Wrong(question, "no answer", 0))
            elif reply[2] & _TC:
                cut += 1
            else:
                rcode = RCODES.get(reply[3] & 0xF, str(reply[3] & 0xF))
                (count,) = struct.unpack_from(">H", reply, 6)
                if (rcode, count) != (question.rcode, question.answers):
                    out.append(Wrong(question, rcode, count))
    return out, cut


def sample(mixes: dict[str, list[Question]], count: int, seed: int) -> list[Question]:
    """Draw questions of all mixes."""
    rng = random.Random(seed)
    every: Sequence[Question] = [question for asked in mixes.values() for question in asked]
    return rng.sample(every, min(count, len(every)))


def metric(port: int, name: str) -> float | None:
    """Return a metric of an admin endpoint, None while it is not there."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=3) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith((name + " ", name + "{")):
                return float(line.rsplit(" ", 1)[1])
    return None

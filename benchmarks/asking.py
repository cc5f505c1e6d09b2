"""Asks one question every millisecond until its standard input ends, then prints what it saw as one line of JSON.

    python -m benchmarks.asking PORT NAME ADDRESS < /dev/null

Times are CLOCK_MONOTONIC seconds. `longest_gap_ms` is the longest time without any answer once there was one; the asker
itself may have been kept from running, `own_gap_ms` is the longest time it was. `latency_ms` is of answered questions.
"""

from __future__ import annotations

import ipaddress
import json
import select
import socket
import struct
import sys
import time
from typing import Any

EVERY_S = 0.001


def question(name: str, type_: int = 1) -> bytes:
    """Return a query's bytes behind its id."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return struct.pack(">5H", 0x0100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, type_, 1)


def is_right(packet: bytes, address: str) -> bool:
    """Tell whether a reply is NOERROR and holds the address."""
    return not packet[3] & 15 and ipaddress.ip_address(address).packed in packet[12:]


def connected(port: int) -> socket.socket:
    """Return a UDP socket that talks to a port of the loopback."""
    peer = socket.socket(type=socket.SOCK_DGRAM)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    peer.connect(("127.0.0.1", port))
    peer.setblocking(False)
    return peer


def received(peer: socket.socket) -> bytes:
    """Return a datagram, empty if there is none or nobody listens."""
    try:
        return peer.recv(4096)
    except (BlockingIOError, ConnectionRefusedError):
        return b""


def send(peer: socket.socket, packet: bytes) -> None:
    """Send a datagram; one that nobody takes is lost."""
    try:
        peer.send(packet)
    except (BlockingIOError, ConnectionRefusedError):
        return


class Seen:
    """What came back."""

    def __init__(self) -> None:
        self.first_answer_s = 0.0
        self.first_right_s = 0.0
        self.longest_gap_s = 0.0
        self.longest_gap_at_s = 0.0
        self.own_gap_s = 0.0
        self.asked = 0
        self.latencies_s: list[float] = []
        self._last_answer_s = 0.0

    def answered(self, now_s: float, sent_s: float, *, right: bool) -> None:
        if self._last_answer_s and now_s - self._last_answer_s > self.longest_gap_s:
            self.longest_gap_s, self.longest_gap_at_s = now_s - self._last_answer_s, self._last_answer_s
        self._last_answer_s = now_s
        self.first_answer_s = self.first_answer_s or now_s
        if right:
            self.first_right_s = self.first_right_s or now_s
        self.latencies_s.append(now_s - sent_s)

    def figures(self) -> dict[str, Any]:
        ordered = sorted(self.latencies_s) or [0.0]
        shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
        return {
            "first_answer_s": self.first_answer_s,
            "first_right_s": self.first_right_s,
            "asked": self.asked,
            "answered": len(self.latencies_s),
            "longest_gap_ms": self.longest_gap_s * 1e3,
            "longest_gap_at_s": self.longest_gap_at_s,
            "own_gap_ms": self.own_gap_s * 1e3,
            "latency_ms": {
                word: ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3 for word, share in shares.items()
            },
        }


def watch(port: int, name: str, address: str) -> dict[str, Any]:
    """Ask until standard input ends."""
    body, seen, sent_s = question(name), Seen(), [0.0] * 65536
    with connected(port) as peer:
        number, due_s, last_s = 0, time.monotonic(), time.monotonic()
        while sys.stdin not in select.select([sys.stdin], [], [], 0)[0]:
            now_s = time.monotonic()
            seen.own_gap_s, last_s = max(seen.own_gap_s, now_s - last_s), now_s
            if now_s >= due_s:
                number = (number + 1) & 0xFFFF
                sent_s[number] = now_s
                send(peer, struct.pack(">H", number) + body)
                seen.asked += 1
                due_s = max(due_s + EVERY_S, now_s)
            select.select([peer], [], [], max(0.0, due_s - time.monotonic()))
            while packet := received(peer):
                id_ = struct.unpack_from(">H", packet)[0]
                seen.answered(time.monotonic(), sent_s[id_], right=is_right(packet, address))
    return seen.figures()


if __name__ == "__main__":
    print(json.dumps(watch(int(sys.argv[1]), sys.argv[2], sys.argv[3])))

"""DNS cookies: what proves that a client receives at the address it sends from (RFC 7873, RFC 9018).

Law: pure; the clock is an argument. Server cookies are version 1 of RFC 9018, so that every agent that shares a
secret accepts the others' cookies.
"""

from __future__ import annotations

import ipaddress
import struct
from hmac import compare_digest

VERSION = 1
SECRET_BYTES = 16
CLIENT_BYTES = 8
MAX_AGE_S = 3600
MAX_AHEAD_S = 300
RENEW_AFTER_S = 1800
"""Life of a server cookie (RFC 9018 section 4.3)."""

_BITS = 0xFFFFFFFFFFFFFFFF
_WORD = struct.Struct("<Q")
_STAMP = struct.Struct(">I")


def _rotate(word: int, by: int) -> int:
    return (word << by | word >> (64 - by)) & _BITS


def siphash24(secret: bytes, message: bytes) -> bytes:
    """Hash with SipHash-2-4 (Aumasson and Bernstein), 8 octets, little endian as RFC 9018 section 4.4 has it."""
    k0, k1 = struct.unpack("<QQ", secret)
    v0, v1 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D
    v2, v3 = k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573
    tail = len(message) & ~7
    words = [_WORD.unpack_from(message, at)[0] for at in range(0, tail, 8)]
    words.append(int.from_bytes(message[tail:], "little") | (len(message) & 0xFF) << 56)
    rounds = [(word, 2) for word in words]
    for word, count in [*rounds, (0, 4)]:
        v3 ^= word
        if count == 4:
            v2 ^= 0xFF
        for _ in range(count):
            v0 = (v0 + v1) & _BITS
            v1 = _rotate(v1, 13) ^ v0
            v0 = _rotate(v0, 32)
            v2 = (v2 + v3) & _BITS
            v3 = _rotate(v3, 16) ^ v2
            v0 = (v0 + v3) & _BITS
            v3 = _rotate(v3, 21) ^ v0
            v2 = (v2 + v1) & _BITS
            v1 = _rotate(v1, 17) ^ v2
            v2 = _rotate(v2, 32)
        v0 ^= word
    return _WORD.pack(v0 ^ v1 ^ v2 ^ v3)


def _hash(client: bytes, head: bytes, address: str, secret: bytes) -> bytes:
    return siphash24(secret, client + head + ipaddress.ip_address(address).packed)


def make(client: bytes, address: str, now_s: int, secret: bytes) -> bytes:
    """Give client cookie and a new server cookie, the value of a COOKIE option (RFC 9018 section 4).

    Args:
        client: client cookie, 8 octets.
        address: of the client, in text.
        now_s: Unix time.
        secret: 16 octets.
    """
    head = bytes((VERSION, 0, 0, 0)) + _STAMP.pack(now_s & 0xFFFFFFFF)
    return client + head + _hash(client, head, address, secret)


def is_valid(cookie: bytes, address: str, now_s: int, secrets: tuple[bytes, ...]) -> bool:
    """Tell whether a COOKIE option holds a server cookie made for this client with one of the secrets, not too old."""
    age_s = age(cookie, now_s)
    if age_s is None or not -MAX_AHEAD_S <= age_s <= MAX_AGE_S:
        return False
    client, head, hashed = cookie[:8], cookie[8:16], cookie[16:]
    return any(compare_digest(_hash(client, head, address, secret), hashed) for secret in secrets)


def age(cookie: bytes, now_s: int) -> int | None:
    """Give the seconds since a server cookie was made, by serial arithmetic (RFC 1982); None without one of ours."""
    if len(cookie) != 24 or cookie[8] != VERSION:
        return None
    since_s = (now_s - int.from_bytes(cookie[12:16], "big")) & 0xFFFFFFFF
    return since_s - (1 << 32) if since_s >= 1 << 31 else since_s


def answer(cookie: bytes, address: str, now_s: int, secrets: tuple[bytes, ...]) -> tuple[bytes, bool]:
    """Give the COOKIE option to reply with, and whether the client's server cookie was valid.

    A valid one of the first secret is kept until it is half an hour old, then replaced.
    """
    age_s = age(cookie, now_s)
    if age_s is not None and age_s <= RENEW_AFTER_S and is_valid(cookie, address, now_s, secrets[:1]):
        return cookie, True
    return make(cookie[:CLIENT_BYTES], address, now_s, secrets[0]), is_valid(cookie, address, now_s, secrets)

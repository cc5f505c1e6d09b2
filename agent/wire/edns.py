"""EDNS: the OPT record and its options (RFC 6891, 5001, 7828, 7873, 8914).

Law: reading never raises; what is wrong with an OPT is named by a word, beside whatever of it could be read, so
that the error can be answered with an OPT. Unknown options and flags are passed over (RFC 6891 section 6.1.2).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from agent.wire.codes import COOKIE, EDE, KEEPALIVE, NSID, OPT

MAX_OPTIONS = 16
"""Bound of the options read in one OPT; one with more is malformed to us."""
MIN_UDP_BYTES = 512
"""What every client takes, with or without EDNS (RFC 1035 section 4.2.1, RFC 6891 section 6.2.3)."""
DO = 0x8000

MALFORMED = "opt_malformed"
COOKIE_LENGTH = "cookie_length"
TOO_MANY_OPTIONS = "too_many_options"

_OPTION = struct.Struct(">HH")
_RECORD = struct.Struct(">BHHBBHH")


class Opt(NamedTuple):
    """What a client said in its OPT.

    Attributes:
        size_bytes: largest UDP reply it takes, as sent; below 512 means 512.
        version: EDNS version.
        do: DNSSEC OK.
        nsid: it asks for the server's identity.
        keepalive: it asks how long an idle TCP connection lives.
        cookie: COOKIE option (8 or 16-40 octets), empty without one.
    """

    size_bytes: int
    version: int
    do: bool
    nsid: bool
    keepalive: bool
    cookie: bytes


def read(size_bytes: int, ttl: int, rdata: bytes) -> tuple[Opt, str]:
    """Read an OPT record.

    Args:
        size_bytes: its class field.
        ttl: its TTL field: extended rcode, version, flags.
        rdata: its options.

    Returns:
        What was read, and a word for what is wrong with it (empty if nothing is).
    """
    version, do = ttl >> 16 & 0xFF, bool(ttl & DO)
    if not rdata:
        return Opt(size_bytes, version, do, nsid=False, keepalive=False, cookie=b""), ""
    nsid = keepalive = False
    cookie: bytes | None = None
    fault, at, count = "", 0, 0
    while at < len(rdata) and not fault:
        if at + 4 > len(rdata):
            fault = MALFORMED
            break
        code, length = _OPTION.unpack_from(rdata, at)
        value = rdata[at + 4 : at + 4 + length]
        at += 4 + length
        count += 1
        if at > len(rdata):
            fault = MALFORMED
        elif count > MAX_OPTIONS:
            fault = TOO_MANY_OPTIONS
        elif code == NSID:
            nsid = True
        elif code == KEEPALIVE:
            keepalive = True
        elif code == COOKIE and cookie is None:
            # Only the first COOKIE option counts (RFC 7873 section 5.2).
            cookie = value
            if length != 8 and not 16 <= length <= 40:
                fault, cookie = COOKIE_LENGTH, b""
    return Opt(size_bytes, version, do, nsid, keepalive, cookie or b""), fault


def option(code: int, value: bytes) -> bytes:
    """Lay out one option."""
    return _OPTION.pack(code, len(value)) + value


def extended_error(code: int, text: str) -> bytes:
    """Lay out an extended DNS error with its EXTRA-TEXT (RFC 8914 section 2)."""
    return option(EDE, code.to_bytes(2, "big") + text.encode())


def keepalive(timeout_ms: int) -> bytes:
    """Lay out an edns-tcp-keepalive option; the wire counts in units of 100 ms (RFC 7828 section 3.1)."""
    return option(KEEPALIVE, min(timeout_ms // 100, 0xFFFF).to_bytes(2, "big"))


def write(size_bytes: int, rcode: int, *, do: bool, options: bytes = b"") -> bytes:
    """Lay out our OPT record: version 0, the upper eight bits of the rcode, DO as it was asked."""
    return _RECORD.pack(0, OPT, size_bytes, rcode >> 4, 0, DO if do else 0, len(options)) + options

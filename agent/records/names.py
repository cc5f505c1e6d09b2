"""Domain names: text, wire form, reverse names.

Law: a name is `bytes` in uncompressed wire form (RFC 1035 section 3.1), lower-cased, root byte included;
that is also its key in every table. Nothing here reads a packet.
"""

from __future__ import annotations

import ipaddress
import re

from agent.errors import WireError

MAX_NAME_BYTES = 255
MAX_LABEL_BYTES = 63

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_ESCAPE = re.compile(rb"\\(?:(\d{3})|(.))", re.ASCII | re.DOTALL)
_OCTETS = tuple(b"%c%d" % (len(str(octet)), octet) for octet in range(256))
_DECIMAL = {str(octet): octet for octet in range(256)}
IN_ADDR_ARPA = b"\x07in-addr\x04arpa\x00"
IP6_ARPA = b"\x03ip6\x04arpa\x00"


def is_label(text: str) -> bool:
    """Tell whether `text` is one lower-case host label (RFC 1123 section 2.1, underscores allowed)."""
    return _LABEL.fullmatch(text) is not None


def label(text: str) -> bytes:
    """Encode one label, at most 63 octets.

    Raises:
        WireError: it is empty or too long.
    """
    raw = text.encode("ascii", "strict") if text.isascii() else b""
    if not 0 < len(raw) <= MAX_LABEL_BYTES:
        raise WireError(f"label {text!r} is empty, longer than 63 octets or not ASCII")
    return bytes((len(raw),)) + raw.lower()


def to_wire(text: str) -> bytes:
    r"""Encode a name in presentation form (RFC 1035 section 5.1, `\.` and `\DDD` escapes), made absolute.

    Raises:
        WireError: an empty label, one over 63 octets, or a name over 255.
    """
    if text in {"", "."}:
        return b"\x00"
    if not text.isascii():
        raise WireError(f"name {text!r} is not ASCII", hint="Write an internationalised name in its xn-- form")
    out = bytearray()
    for part in _split(text.encode("ascii")):
        if not 0 < len(part) <= MAX_LABEL_BYTES:
            raise WireError(f"name {text!r} has an empty label or one over 63 octets")
        out.append(len(part))
        out += part.lower()
    out.append(0)
    if len(out) > MAX_NAME_BYTES:
        raise WireError(f"name {text!r} is longer than 255 octets")
    return bytes(out)


def _split(raw: bytes) -> list[bytes]:
    if b"\\" not in raw:
        return raw.removesuffix(b".").split(b".")
    labels, current, i = [], bytearray(), 0
    while i < len(raw):
        if raw[i : i + 1] == b"\\":
            match = _ESCAPE.match(raw, i)
            if match is None or (match[1] and int(match[1]) > MAX_NAME_BYTES):
                raise WireError(f"name {raw!r} has a broken escape")
            current += bytes((int(match[1]),)) if match[1] else match[2]
            i = match.end()
        elif raw[i : i + 1] == b".":
            labels.append(bytes(current))
            current = bytearray()
            i += 1
        else:
            current.append(raw[i])
            i += 1
    if current:
        labels.append(bytes(current))
    return labels


def to_text(wire: bytes) -> str:
    r"""Write a wire name in presentation form with its final dot; odd octets become `\.`, `\\` or `\DDD`."""
    if wire == b"\x00":
        return "."
    parts, i = [], 0
    while i < len(wire) and wire[i]:
        raw = wire[i + 1 : i + 1 + wire[i]]
        parts.append("".join(_printable(octet) for octet in raw))
        i += 1 + wire[i]
    return ".".join(parts) + "."


def _printable(octet: int) -> str:
    char = chr(octet)
    if char in {".", "\\"}:
        return "\\" + char
    return char if 0x21 <= octet <= 0x7E else f"\\{octet:03d}"


def parent(wire: bytes) -> bytes:
    """Give the name one label up; the root's parent is empty."""
    return wire[wire[0] + 1 :] if wire[0] else b""


def reverse(packed: bytes) -> bytes:
    """Give the reverse name of a packed address: 4 octets in in-addr.arpa, 16 in ip6.arpa (RFC 1035, 3596)."""
    if len(packed) == 4:
        a, b, c, d = packed
        return _OCTETS[d] + _OCTETS[c] + _OCTETS[b] + _OCTETS[a] + IN_ADDR_ARPA
    nibbles = packed.hex()[::-1].encode()
    return b"".join(b"\x01%c" % nibble for nibble in nibbles) + IP6_ARPA


def packed(text: str) -> bytes | None:
    """Pack an address written in text (no zone index): 4 or 16 octets, None if it isn't one."""
    try:
        # Canonical IPv4, by far the most common: a fifth of the time that ipaddress takes.
        a, b, c, d = text.split(".")
        return bytes((_DECIMAL[a], _DECIMAL[b], _DECIMAL[c], _DECIMAL[d]))
    except (ValueError, KeyError):
        pass
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return None if "%" in text else address.packed


def dashed(packed_address: bytes) -> str:
    """Write an address as one label: 10-1-2-3; IPv6 compressed with dashes for colons, fd00--1.

    A final dash is followed by a zero (fd00:: is fd00--0), as in CoreDNS.
    """
    if len(packed_address) == 4:
        return "-".join(map(str, packed_address))
    text = str(ipaddress.IPv6Address(packed_address)).replace(":", "-")
    return text + "0" if text.endswith("-") else text


def undashed(text: str) -> bytes | None:
    """Read a dashed address label back: 10-1-2-3 or fd00--1; None if it isn't one."""
    if text.count("-") == 3 and "--" not in text:
        address = packed(text.replace("-", "."))
        if address is not None:
            return address
    return packed(text.replace("-", ":"))

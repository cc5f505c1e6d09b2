"""Numbers of the protocol, by their registered names (IANA "Domain Name System (DNS) Parameters").

Law: numbers only; whoever needs one imports it from here.
"""

from __future__ import annotations

NOERROR = 0
FORMERR = 1
SERVFAIL = 2
NXDOMAIN = 3
NOTIMP = 4
REFUSED = 5
BADVERS = 16
BADCOOKIE = 23
RCODES = {
    NOERROR: "NOERROR",
    FORMERR: "FORMERR",
    SERVFAIL: "SERVFAIL",
    NXDOMAIN: "NXDOMAIN",
    NOTIMP: "NOTIMP",
    REFUSED: "REFUSED",
    BADVERS: "BADVERS",
    BADCOOKIE: "BADCOOKIE",
}
"""Every rcode nodens sends, with its mnemonic."""

A = 1
NS = 2
CNAME = 5
SOA = 6
PTR = 12
HINFO = 13
MX = 15
TXT = 16
AAAA = 28
SRV = 33
OPT = 41
SVCB = 64
HTTPS = 65
RRSIG = 46
NSEC = 47
NSEC3 = 50
DNAME = 39
IXFR = 251
AXFR = 252
ANY = 255

IN = 1
CH = 3

QR = 0x80
OPCODE_BITS = 0x78
AA = 0x04
TC = 0x02
RD = 0x01
"""Bits of the first flag octet (RFC 1035 section 4.1.1)."""
RA = 0x80
AD = 0x20
CD = 0x10
"""Bits of the second one, above the rcode (RFC 4035 section 3); answers of own zones have none of them."""

NSID = 3
COOKIE = 10
KEEPALIVE = 11
EDE = 15
"""EDNS options: RFC 5001, 7873, 7828, 8914."""

EDE_OTHER = 0
EDE_STALE = 3
EDE_FORGED = 4
EDE_NOT_READY = 14
EDE_PROHIBITED = 18
EDE_STALE_NXDOMAIN = 19
EDE_NOT_AUTHORITATIVE = 20
EDE_NOT_SUPPORTED = 21
EDE_NO_REACHABLE_AUTHORITY = 22
EDE_NETWORK_ERROR = 23
"""Info codes of extended DNS errors (RFC 8914 section 4)."""

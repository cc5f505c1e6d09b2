"""Options of the responder, as values: what the configuration says, read and checked by then."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import NamedTuple

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ResponderOptions(NamedTuple):
    """How the responder answers.

    Attributes:
        ttl_s: TTL of cluster records; bounds the SOA's, and is that of pod records made on the fly.
        pods: `insecure` makes pod records from their names; for `disabled` and `verified` the table is all there is.
        fallthrough: own zones (lower-cased wire names) whose unknown names are not theirs; None: the reverse trees.
        udp_size_bytes: bound of a UDP reply, 512-4096.
        nsid: identity sent to clients that ask by EDNS (RFC 5001), at most `MAX_NSID_BYTES`; empty: not sent.
        version: CH TXT version.bind. and version.server.; empty: refused.
        identity: CH TXT id.server. and hostname.bind.; empty: refused.
        status: CH TXT status.nodens. is answered.
        special_names: names (lower-cased wire form) → answered here; what is not named is.
        allow: networks that may ask; empty: everybody.
        drop_others: others get no reply instead of REFUSED.
        cookie_secrets: DNS cookies (RFC 7873): the first secret signs, all verify, 16 octets each; empty: off.
        search_shortcut: the first question of a search path is answered with the end of the walk.
        tcp_idle_timeout_ms: what edns-tcp-keepalive promises (RFC 7828).
    """

    ttl_s: int = 5
    pods: str = "disabled"
    fallthrough: frozenset[bytes] | None = None
    udp_size_bytes: int = 1232
    nsid: bytes = b""
    version: str = ""
    identity: str = ""
    status: bool = True
    special_names: Mapping[bytes, bool] = {}
    allow: tuple[Network, ...] = ()
    drop_others: bool = False
    cookie_secrets: tuple[bytes, ...] = ()
    search_shortcut: bool = False
    tcp_idle_timeout_ms: int = 10_000


MAX_NSID_BYTES = 128

"""What each peer is configured with: one worker, the same records, nothing that costs and is not needed.

Law: pure; text in, text out. Every writer's docstring says what is not stock, and why.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence

from benchmarks.peers.zone import TTL_S, ZONE, ZONES, Record

SOA_VALUE = f"ns.dns.{ZONE}. hostmaster.{ZONE}. 1 7200 1800 86400 {TTL_S}"
CACHE_NAMES = 65_536
_NAMES_IN_VALUE = frozenset({"CNAME", "PTR", "SRV"})


def presented(record: Record) -> str:
    """Return a record's value with the last dot that makes its name absolute."""
    return record.value + "." if record.type in _NAMES_IN_VALUE else record.value


def zone_of(name: str) -> str:
    """Return the zone of `ZONES` a name lies in."""
    return next(zone for zone in ZONES if name == zone or name.endswith("." + zone))


def zone_files(held: Iterable[Record]) -> dict[str, str]:
    """Return a zone file for each of `ZONES`, by zone (RFC 1035 section 5)."""
    lines = {zone: [f"$TTL {TTL_S}", f"{zone}. SOA {SOA_VALUE}", f"{zone}. NS ns.dns.{ZONE}."] for zone in ZONES}
    for record in held:
        lines[zone_of(record.name)].append(f"{record.name}. {record.type} {presented(record)}")
    return {zone: "\n".join(text) + "\n" for zone, text in lines.items()}


def knot(port: int, folder: str, files: dict[str, str]) -> str:
    """Knot DNS: one UDP worker, no journal."""
    zones = "\n".join(
        f"  - domain: {zone}\n    file: {path}\n    journal-content: none\n    zonefile-load: whole\n"
        f"    zonefile-sync: -1\n    semantic-checks: off"
        for zone, path in files.items()
    )
    return f"""server:
    rundir: {folder}
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: {folder}
log:
  - target: stderr
    any: warning
zone:
{zones}
"""


def nsd(port: int, folder: str, files: dict[str, str]) -> str:
    """NSD: one server process, rate limiting off (it would drop a load from one address)."""
    zones = "".join(f"zone:\n    name: {zone}\n    zonefile: {path}\n" for zone, path in files.items())
    return f"""server:
    server-count: 1
    ip-address: 127.0.0.1@{port}
    username: ""
    chroot: ""
    zonesdir: {folder}
    database: ""
    pidfile: {folder}/nsd.pid
    xfrdfile: {folder}/xfrd.state
    xfrdir: {folder}
    zonelistfile: {folder}/zone.list
    rrl-ratelimit: 0
    rrl-whitelist-ratelimit: 0
remote-control:
    control-enable: no
{zones}"""


def unbound(port: int, folder: str, held: Iterable[Record]) -> str:
    """unbound: one thread, everything as local-data, no validation."""
    zones = (ZONE, "10.in-addr.arpa", "0.0.d.f.ip6.arpa")
    head = [
        "server:",
        f'    directory: "{folder}"',
        '    chroot: ""',
        '    username: ""',
        f'    pidfile: "{folder}/unbound.pid"',
        "    do-daemonize: no",
        "    use-syslog: no",
        "    num-threads: 1",
        f"    interface: 127.0.0.1@{port}",
        "    access-control: 127.0.0.0/8 allow",
        '    module-config: "iterator"',
    ]
    for zone in zones:
        head.append(f'    local-zone: "{zone}." static')
        head.append(f'    local-data: "{zone}. {TTL_S} SOA {SOA_VALUE}"')
    body = (f'    local-data: "{record.name}. {TTL_S} {record.type} {presented(record)}"' for record in held)
    return "\n".join([*head, *body, "remote-control:", "    control-enable: no", ""])


def dnsmasq_hosts(held: Sequence[Record]) -> str:
    """dnsmasq's hosts file. The first name of an address is its PTR record, so names that are one come first."""
    first = {(record.value, record.name) for record in held if record.type == "PTR"}
    lines: Iterator[tuple[bool, str, str]] = (
        ((record.name, ipaddress.ip_address(record.value).reverse_pointer) not in first, record.value, record.name)
        for record in held
        if record.type in {"A", "AAAA"}
    )
    return "".join(f"{address} {name}\n" for _, address, name in sorted(lines))


def dnsmasq(port: int, folder: str, hosts: str) -> str:
    """dnsmasq: no upstream. Without CNAMEs, which nobody asks, and without SRV records, which are asked.

    It holds the latter in a list that it walks for every question, of whatever type: 18,000 of them make an A query
    cost 0.5 ms.
    """
    lines = [
        f"port={port}",
        "listen-address=127.0.0.1",
        "bind-interfaces",
        "no-resolv",
        "no-hosts",
        "no-poll",
        "user=root",
        f"pid-file={folder}/dnsmasq.pid",
        f"addn-hosts={hosts}",
        f"local-ttl={TTL_S}",
        *(f"local=/{zone}/" for zone in ZONES),
    ]
    return "\n".join(lines) + "\n"


def bind(port: int, folder: str, files: dict[str, str]) -> str:
    """BIND: authoritative, minimal responses as the other name servers, the empty zones off that would hide ours."""
    zones = "".join(f'zone "{zone}" {{ type primary; file "{path}"; }};\n' for zone, path in files.items())
    return f"""options {{
    directory "{folder}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    pid-file none;
    session-keyfile none;
    recursion no;
    notify no;
    empty-zones-enable no;
    minimal-responses yes;
    dnssec-validation no;
}};
controls {{ }};
{zones}"""


def coredns(port: int, metrics_port: int, files: dict[str, str]) -> str:
    """CoreDNS with the plugins of kubeadm's Corefile, `file` in the place of `kubernetes`.

    The cache is made large and slow to expire, so that every answer but the first comes from it.
    """
    zones = "\n".join(f"    file {path} {zone} {{\n        reload 0\n    }}" for zone, path in files.items())
    return f""".:{port} {{
    bind 127.0.0.1
    errors
    prometheus 127.0.0.1:{metrics_port}
{_cache()}
    loadbalance
{zones}
}}
"""


def node_cache(port: int, metrics_port: int, upstream_port: int) -> str:
    """node-cache with the plugins of its stock Corefile, less `reload`, `loop` and `health`, which do no work.

    The cache is made large and slow to expire as with CoreDNS: this is node-cache at its best.
    """
    return f""".:{port} {{
    bind 127.0.0.1
    errors
{_cache()}
    forward . 127.0.0.1:{upstream_port} {{
        force_tcp
    }}
    prometheus 127.0.0.1:{metrics_port}
}}
"""


def _cache() -> str:
    return f"    cache {TTL_S} {{\n        success {CACHE_NAMES} {TTL_S}\n        denial {CACHE_NAMES} {TTL_S}\n    }}"

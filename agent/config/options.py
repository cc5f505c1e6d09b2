"""Every option once: name, type, default, help, and whether a reload (SIGHUP) may change it.

Law: the structs are the configuration file: same words, same nesting. A field's name is the option's word; a
trailing `_s` is its unit in the program and no part of the word. What is not marked `reload` is fixed for the life of
the process, because sockets, the shape of the records or the state directory hang on it.
"""

# No `from __future__ import annotations` here: annotations are read as objects, 4 ms cheaper than evaluating text.

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import msgspec

from agent.config import addresses, values
from agent.config.addresses import Network, SocketAddress, SourceChoice, Stub, UnixPath, UpstreamChoice
from agent.config.values import Reader

MIB = 1 << 20
DEFAULT_FILE = "/etc/nodens/nodens.yaml"


class Option(NamedTuple):
    """What is known of an option besides its name, type and default.

    Attributes:
        help: one sentence for people.
        read: reads and checks a value.
        reload: SIGHUP may change it.
    """

    help: str
    read: Reader[Any]
    reload: bool = False


def word(field: str) -> str:
    """Give the option's word for a field."""
    return field.removesuffix("_s")


class Group(msgspec.Struct, frozen=True, kw_only=True, rename=word):
    """A level of the configuration."""


class Chaos(Group, frozen=True, kw_only=True, rename=word):
    """Names of class CHAOS that dig can ask for introspection (dns.md section 2)."""

    version: Annotated[
        str, Option("version.bind and version.server: answer or refuse", values.choice("answer", "refuse"), reload=True)
    ] = "answer"
    identity: Annotated[
        str, Option("id.server and hostname.bind: answer or refuse", values.choice("answer", "refuse"), reload=True)
    ] = "answer"
    status: Annotated[
        str, Option("status.nodens: answer or refuse", values.choice("answer", "refuse"), reload=True)
    ] = "answer"


class Tcp(Group, frozen=True, kw_only=True, rename=word):
    """Bounds of DNS over TCP (RFC 7766)."""

    max_connections: Annotated[
        int,
        Option("connections in total", values.whole(1, 65_536), reload=True),
    ] = 1024
    max_per_client: Annotated[
        int, Option("connections of one client address", values.whole(1, 65_536), reload=True)
    ] = 64
    idle_timeout_s: Annotated[
        float,
        Option("a connection without a whole query for this long is closed", values.duration(0.1, 3600), reload=True),
    ] = 10.0
    max_queries: Annotated[
        int,
        Option("queries on one connection before it is closed; 0 is unlimited", values.whole(0, 10**9), reload=True),
    ] = 0


class File(Group, frozen=True, kw_only=True, rename=word):
    """How a file source is read."""

    poll_s: Annotated[float, Option("how often the file or folder is looked at", values.duration(0.05, 3600))] = 0.5
    debounce_s: Annotated[
        float, Option("a change must have stood still for this long before it is read", values.duration(0, 60))
    ] = 0.2
    max_bytes: Annotated[int, Option("files larger than this together are refused", values.size(1024, 1 << 34))] = (
        512 * MIB
    )
    max_files: Annotated[int, Option("most files of a folder", values.whole(1, 100_000))] = 1_000
    max_memory_bytes: Annotated[
        int, Option("memory of the process that reads them", values.size(64 * MIB, 1 << 36))
    ] = 2048 * MIB
    timeout_s: Annotated[float, Option("longest time of one reading", values.duration(1, 3600))] = 120.0


class Api(Group, frozen=True, kw_only=True, rename=word):
    """What one node may cost the API servers."""

    requests_per_hour: Annotated[
        int, Option("requests in the long run, whatever happens", values.whole(10, 100_000))
    ] = 240
    burst: Annotated[int, Option("requests that may be spent at once", values.whole(10, 100_000))] = 600
    fleet_nodes: Annotated[
        int,
        Option(
            "about how many nodes run an agent; after an outage they come back spread over a tenth of a second each",
            values.whole(0, 100_000),
        ),
    ] = 10
    reconnect_window_s: Annotated[
        float, Option("the same as a span: they are spread over this at least", values.duration(0, 86_400))
    ] = 0.0
    relist_every_s: Annotated[
        float, Option("every kind is listed again this often, to heal a silent gap", values.duration(600, 864_000))
    ] = 21_600.0


class Forward(Group, frozen=True, kw_only=True, rename=word):
    """How names of no own zone are asked of upstreams."""

    policy: Annotated[
        str,
        Option(
            "which upstream is asked first: random, round_robin or sequential",
            values.choice("random", "round_robin", "sequential"),
            reload=True,
        ),
    ] = "random"
    timeout_s: Annotated[
        float, Option("longest wait of a client for an upstream's answer", values.duration(0.1, 60), reload=True)
    ] = 4.0
    max_in_flight: Annotated[int, Option("questions to upstreams at a time", values.whole(1, 65_536), reload=True)] = (
        1024
    )
    max_per_upstream: Annotated[
        int, Option("questions to one upstream at a time", values.whole(1, 65_536), reload=True)
    ] = 512
    max_waiting: Annotated[
        int, Option("queries that may wait for upstreams", values.whole(1, 1_000_000), reload=True)
    ] = 4096
    max_per_client: Annotated[
        int, Option("of these, queries of one client address", values.whole(1, 1_000_000), reload=True)
    ] = 256


class Cache(Group, frozen=True, kw_only=True, rename=word):
    """What is kept of upstreams' answers, in memory and in the state directory."""

    max_entries: Annotated[int, Option("answers held", values.whole(1, 10_000_000), reload=True)] = 20_000
    max_bytes: Annotated[int, Option("memory for them", values.size(65_536, 1 << 34), reload=True)] = 32 * MIB
    max_ttl_s: Annotated[int, Option("highest TTL of an answer", values.whole_seconds(1, 86_400), reload=True)] = 3600
    max_negative_ttl_s: Annotated[
        int, Option("highest TTL of an answer that there is nothing", values.whole_seconds(1, 86_400), reload=True)
    ] = 1800
    stale: Annotated[
        str,
        Option(
            "what is past its TTL is answered immediate (at once, while renewed), timeout (after stale_wait) or off",
            values.choice("immediate", "timeout", "off"),
            reload=True,
        ),
    ] = "immediate"
    stale_wait_s: Annotated[
        float, Option("with stale: timeout, how long upstreams have", values.duration(0, 60), reload=True)
    ] = 1.8
    max_stale_s: Annotated[
        float, Option("an answer is kept this long past its TTL", values.duration(0, 3.2e7), reload=True)
    ] = 259_200.0
    prefetch: Annotated[bool, Option("names in use are renewed before they expire", values.flag, reload=True)] = True
    persist: Annotated[bool, Option("answers are kept on disk, for the next start", values.flag)] = True
    save_every_s: Annotated[
        float, Option("how often they are written, if they have changed", values.duration(1, 86_400), reload=True)
    ] = 300.0


class Snapshot(Group, frozen=True, kw_only=True, rename=word):
    """Generations and journal in the state directory."""

    keep: Annotated[int, Option("generations kept on disk", values.whole(1, 100), reload=True)] = 3
    rewrite_churn_percent: Annotated[
        int,
        Option(
            "a new generation is written when this share of the names has changed", values.whole(1, 100), reload=True
        ),
    ] = 10
    rewrite_after_s: Annotated[
        float, Option("a new generation is written once changes are this old", values.duration(1, 86_400), reload=True)
    ] = 60.0
    sync_every_s: Annotated[
        float, Option("the journal is forced to disk at most this often", values.duration(0.05, 60), reload=True)
    ] = 1.0
    max_bytes: Annotated[int, Option("a generation file over this is not read", values.size(MIB, 1 << 34))] = 1024 * MIB
    max_journal_bytes: Annotated[
        int, Option("a journal over this is closed by a new generation", values.size(4096, 1 << 34), reload=True)
    ] = 64 * MIB


class Guard(Group, frozen=True, kw_only=True, rename=word):
    """Which change is held instead of applied (docs/guard.md)."""

    enabled: Annotated[
        bool, Option("suspicious change is held; the previous state goes on answering", values.flag, reload=True)
    ] = True
    hold_for_s: Annotated[
        float,
        Option(
            "what is held is applied after this long, unless decided before; 0 is never",
            values.duration(0, 864_000),
            reload=True,
        ),
    ] = 600.0
    max_removed_percent: Annotated[
        int, Option("share of all names that may go within window", values.whole(1, 100), reload=True)
    ] = 20
    min_names: Annotated[
        int, Option("fewer names than this are never too many to go", values.whole(1, 1_000_000), reload=True)
    ] = 10
    namespace_names: Annotated[
        int,
        Option(
            "a namespace of as many names is not taken away as a whole; 0: it may",
            values.whole(0, 1_000_000),
            reload=True,
        ),
    ] = 50
    window_s: Annotated[
        float, Option("names that go are counted over this", values.duration(1, 86_400), reload=True)
    ] = 600.0
    max_unready_percent: Annotated[
        int, Option("share of all ready endpoints that may go within unready_window", values.whole(1, 100), reload=True)
    ] = 50
    min_endpoints: Annotated[
        int, Option("fewer endpoints than this are never too many to go", values.whole(1, 1_000_000), reload=True)
    ] = 20
    unready_window_s: Annotated[
        float, Option("endpoints that go are counted over this", values.duration(1, 86_400), reload=True)
    ] = 60.0
    max_growth: Annotated[
        int,
        Option(
            "a full set this many times as large as what is held is too large", values.whole(2, 1_000_000), reload=True
        ),
    ] = 10
    protected: Annotated[
        tuple[str, ...],
        Option(
            "Services that neither go nor lose their last endpoint before somebody says so",
            values.listed(addresses.service),
            reload=True,
        ),
    ] = ("kubernetes.default",)


class Metrics(Group, frozen=True, kw_only=True, rename=word):
    """What /metrics shows."""

    coredns_names: Annotated[
        bool, Option("also export what CoreDNS has under CoreDNS's names", values.flag, reload=True)
    ] = False


class Given(NamedTuple):
    """What the process was told besides the environment, kept so that a reload reads the same places."""

    options: Mapping[str, object]
    file: str | None


class Config(Group, frozen=True, kw_only=True, rename=word):
    """The whole configuration. `given` is no option: it is where a reload reads again."""

    source: Annotated[
        SourceChoice,
        Option("kubernetes, file:PATH, or auto (in-cluster, else kubeconfig)", addresses.source),
    ] = SourceChoice("auto")
    kubeconfig: Annotated[str, Option("kubeconfig to use instead of KUBECONFIG or ~/.kube/config", values.text())] = ""
    context: Annotated[str, Option("context of the kubeconfig; empty is its current one", values.text())] = ""
    cluster_id: Annotated[
        str,
        Option(
            "identity the held snapshot must have, for sources that can't tell (default: what the source says)",
            values.text(r"[\x21-\x7e]{0,128}", "at most 128 printable characters without spaces"),
        ),
    ] = ""

    zones: Annotated[
        tuple[str, ...], Option("cluster zones; PTR records name the first", values.listed(addresses.zone, least=1))
    ] = ("cluster.local",)
    listen: Annotated[
        tuple[SocketAddress, ...], Option("where DNS is served, UDP and TCP", values.listed(addresses.address, least=1))
    ] = (SocketAddress("127.0.0.1", addresses.DNS_PORT),)
    freebind: Annotated[bool, Option("listen addresses may be bound before an interface has them", values.flag)] = False
    state_dir: Annotated[str, Option("folder of the snapshot, mode 0700", addresses.folder)] = "/var/lib/nodens"
    admin: Annotated[
        SocketAddress | UnixPath | None, Option("admin endpoint: ADDR:PORT, unix:PATH or off", addresses.admin)
    ] = SocketAddress("127.0.0.1", 9353)
    log_level: Annotated[
        str, Option("debug, info, warning or error", values.choice("debug", "info", "warning", "error"), reload=True)
    ] = "info"
    log_format: Annotated[str, Option("text or json", values.choice("text", "json"), reload=True)] = "text"

    ttl_s: Annotated[int, Option("TTL of cluster records", values.whole_seconds(0, 3600))] = 5
    pods: Annotated[str, Option("records of pods", values.choice("disabled", "insecure", "verified"))] = "disabled"
    endpoint_pod_names: Annotated[
        bool, Option("endpoints without a hostname are named after their pod", values.flag)
    ] = False
    noendpoints: Annotated[bool, Option("no records from EndpointSlices", values.flag)] = False
    ignore_empty_service: Annotated[
        bool, Option("a ClusterIP service without ready endpoints does not exist", values.flag)
    ] = False
    fallthrough: Annotated[
        tuple[str, ...], Option("own zones whose unknown names may be forwarded", values.listed(addresses.zone))
    ] = ("in-addr.arpa", "ip6.arpa")
    namespaces: Annotated[
        tuple[str, ...], Option("only these namespaces; empty is all", values.listed(addresses.namespace))
    ] = ()
    labels: Annotated[str, Option("only Services and EndpointSlices with these labels", addresses.selector)] = ""
    namespace_labels: Annotated[str, Option("only namespaces with these labels", addresses.selector)] = ""
    ns_addresses: Annotated[
        tuple[str, ...],
        Option("addresses published for ns.dns.ZONE; empty is the listen addresses", values.listed(addresses.ip)),
    ] = ()

    stale_after_s: Annotated[
        float,
        Option(
            "answers are marked stale when the source was lost for this long", values.duration(1, 86_400), reload=True
        ),
    ] = 60.0
    max_stale_s: Annotated[
        float,
        Option(
            "after this long without the source own zones give SERVFAIL; 0 is never",
            values.duration(0, 3.2e8),
            reload=True,
        ),
    ] = 0.0

    events: Annotated[
        bool, Option("a Kubernetes Event on the Node when answers go stale and are fresh again", values.flag)
    ] = True

    workers: Annotated[
        int, Option("UDP threads of the compiled data plane; 0 is one for every 4 cores", values.whole(0, 32))
    ] = 0
    edns_udp_size: Annotated[int, Option("largest UDP reply, bytes", values.whole(512, 4096), reload=True)] = 1232
    identity: Annotated[
        str,
        Option(
            "NSID and id.server; empty is NODE_NAME, else the hostname",
            values.text(r"[\x20-\x7e]{0,128}", "at most 128 printable characters"),
            reload=True,
        ),
    ] = ""
    chaos: Chaos = Chaos()
    cookies: Annotated[bool, Option("DNS cookies (RFC 7873)", values.flag, reload=True)] = False
    special_names: Annotated[
        bool, Option("answer localhost, invalid, test, onion, home.arpa and the like here", values.flag, reload=True)
    ] = True
    special_names_off: Annotated[
        tuple[str, ...], Option("special names not to be answered here", values.listed(addresses.zone), reload=True)
    ] = ()
    allow: Annotated[
        tuple[Network, ...],
        Option(
            "networks that may ask; empty is everybody, this node always may",
            values.listed(addresses.network),
            reload=True,
        ),
    ] = ()
    allow_action: Annotated[
        str, Option("what others get: refuse (REFUSED + EDE 18) or drop", values.choice("refuse", "drop"), reload=True)
    ] = "refuse"
    tcp: Tcp = Tcp()

    upstream: Annotated[
        UpstreamChoice,
        Option(
            "who answers all other names: ADDR[:PORT], tcp://ADDR, tls://ADDR#NAME, the path of a resolv.conf, or none",
            addresses.upstreams,
            reload=True,
        ),
    ] = UpstreamChoice("/etc/resolv.conf")
    stub_domains: Annotated[
        tuple[Stub, ...],
        Option("zones that others answer, each ZONE=ADDR as for upstream", values.listed(addresses.stub), reload=True),
    ] = ()
    search_shortcut: Annotated[
        bool,
        Option("the first question of a pod's search path gets the end of the walk", values.flag, reload=True),
    ] = False
    forward: Forward = Forward()
    cache: Cache = Cache()

    lameduck_s: Annotated[
        float, Option("after SIGTERM, not ready but serving for this long", values.duration(0, 600), reload=True)
    ] = 0.0
    drain_s: Annotated[
        float, Option("after that, longest wait for open queries and writes", values.duration(0, 600), reload=True)
    ] = 5.0

    file: File = File()
    api: Api = Api()
    snapshot: Snapshot = Snapshot()
    guard: Guard = Guard()
    metrics: Metrics = Metrics()

    given: Given = Given({}, None)

    @property
    def askers(self) -> tuple[Network, ...]:
        """Networks that may ask: `allow` and this node's listen addresses; empty is everybody."""
        own = (addresses.network(address.host.partition("%")[0]) for address in self.listen)
        return (*self.allow, *own) if self.allow else ()

    @property
    def published(self) -> tuple[bytes, ...]:
        """Packed addresses of ns.dns.ZONE: `ns_addresses`, else the listen addresses but wildcards."""
        hosts = self.ns_addresses or tuple(dict.fromkeys(address.host for address in self.listen))
        return tuple(packed for packed in map(addresses.publishable, hosts) if packed)

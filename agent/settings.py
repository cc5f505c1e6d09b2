"""From the configuration to the few values each room takes.

Law: pure; what can't be built from a checked configuration is a ConfigError here, before anything was started.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from agent import __version__
from agent.cluster.selection import Selection, parse_selector
from agent.config.options import Config
from agent.records.names import to_wire
from agent.records.zone import Profile
from agent.server import special
from agent.server.options import ResponderOptions
from agent.server.tcp import TcpOptions
from agent.snapshot.guard import Limits as GuardLimits
from agent.snapshot.persister import Pace
from agent.snapshot.recovery import Limits

if TYPE_CHECKING:
    from agent.sources.file import FileLimits

COOKIE_SECRET = os.urandom(16)
"""Drawn once a process: a cookie of an earlier life is answered with a new one (RFC 7873 section 5.2.4)."""


def profile_of(config: Config) -> Profile:
    """What decides the records."""
    return Profile(
        zones=tuple(config.zones),
        ttl_s=config.ttl_s,
        pods=config.pods,
        endpoint_pod_names=config.endpoint_pod_names,
        noendpoints=config.noendpoints,
        ignore_empty_service=config.ignore_empty_service,
        ns_addresses=config.published,
        selection=selection_text(config),
    )


def selection_text(config: Config) -> str:
    """Text that tells two selections of objects apart; empty: all of them."""
    parts = (",".join(sorted(config.namespaces)), config.labels.strip(), config.namespace_labels.strip())
    return "|".join(parts) if any(parts) else ""


def selection_of(config: Config) -> Selection:
    """Which objects count."""
    return Selection(
        frozenset(config.namespaces), parse_selector(config.labels), parse_selector(config.namespace_labels)
    )


def responder_options(config: Config, identity: str) -> ResponderOptions:
    """How the responder answers."""
    off = map(to_wire, config.special_names_off) if config.special_names else special.ZONES
    return ResponderOptions(
        ttl_s=config.ttl_s,
        pods=config.pods,
        fallthrough=frozenset(to_wire(zone) for zone in config.fallthrough),
        udp_size_bytes=config.edns_udp_size,
        nsid=identity.encode(),
        version=f"nodens {__version__}" if config.chaos.version == "answer" else "",
        identity=identity if config.chaos.identity == "answer" else "",
        status=config.chaos.status == "answer",
        special_names=dict.fromkeys(off, False),
        allow=config.askers,
        drop_others=config.allow_action == "drop",
        cookie_secrets=(COOKIE_SECRET,) if config.cookies else (),
        search_shortcut=config.search_shortcut,
        tcp_idle_timeout_ms=round(config.tcp.idle_timeout_s * 1000),
    )


def tcp_options(config: Config) -> TcpOptions:
    """Bounds of DNS over TCP."""
    tcp = config.tcp
    return TcpOptions(tcp.max_connections, tcp.max_per_client, tcp.max_queries, round(tcp.idle_timeout_s * 1000))


def workers_of(config: Config) -> int:
    """UDP threads of the compiled data plane."""
    return config.workers or max(1, len(os.sched_getaffinity(0)) // 4)


def limits_of(config: Config) -> Limits:
    """Bounds of files in the state directory."""
    return Limits(generation_bytes=config.snapshot.max_bytes, journal_bytes=config.snapshot.max_journal_bytes)


def pace_of(config: Config) -> Pace:
    """When the persister writes."""
    snapshot = config.snapshot
    return Pace(
        keep=snapshot.keep,
        rewrite_churn_percent=snapshot.rewrite_churn_percent,
        rewrite_after_s=snapshot.rewrite_after_s,
        sync_every_s=snapshot.sync_every_s,
    )


def guard_of(config: Config) -> GuardLimits:
    """Which change is held."""
    guard = config.guard
    return GuardLimits(
        enabled=guard.enabled,
        max_removed_percent=guard.max_removed_percent,
        min_names=guard.min_names,
        namespace_names=guard.namespace_names,
        window_s=guard.window_s,
        max_unready_percent=guard.max_unready_percent,
        min_endpoints=guard.min_endpoints,
        unready_window_s=guard.unready_window_s,
        max_growth=guard.max_growth,
        hold_for_s=guard.hold_for_s,
        protected=frozenset("/".join(reversed(name.split("."))) for name in guard.protected),
    )


def file_limits(config: Config) -> FileLimits:
    """Bounds of the file source, which is imported when the agent answers."""
    from agent.sources.file import FileLimits

    file = config.file
    return FileLimits(
        poll_s=file.poll_s,
        debounce_s=file.debounce_s,
        max_bytes=file.max_bytes,
        max_files=file.max_files,
        max_memory_bytes=file.max_memory_bytes,
        timeout_s=file.timeout_s,
    )


def file_path(config: Config) -> Path:
    """The path of a file source."""
    return Path(config.source.path)

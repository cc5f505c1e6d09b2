"""A status with something in every field."""

from __future__ import annotations

from agent.observe.status import (
    Access,
    Cache,
    Durations,
    Forward,
    Process,
    Quarantine,
    Skipped,
    Snapshot,
    Source,
    Status,
    Traffic,
    Upstream,
)

HELD = Quarantine(
    active=True,
    id="1700000500",
    since_unix_s=1_700_000_500.0,
    applied_unix_s=1_700_001_100.0,
    objects=1731,
    differences=("would remove 94 % of the names of namespace <i>payments</i> (812 of 864)",),
    holds={"names": 0, "namespace": 1, "endpoints": 0, "protected": 0, "size": 0},
    outcomes={"accepted": 0, "rejected": 2, "expired": 0, "mended": 0},
)


def full(**changes) -> Status:
    """Make one; the changes replace top-level fields."""
    values = {
        "state": "stale",
        "age_s": 1843.2,
        "ready": True,
        "source": Source(
            name="kubernetes",
            connected=False,
            note="connection refused",
            cluster="uid:6a1f",
            last_success_unix_s=1_700_000_000.0,
            last_error="dial 10.0.0.1:6443: refused",
            last_error_unix_s=1_700_000_900.0,
            api_requests_last_hour=17,
            api_requests={"list": {"200": 3, "429": 1}, "watch": {"200": 9, "0": 4}},
            api_bytes=12_345,
            access=Access(
                circuit="open",
                next_try_s=41.2,
                budget_left=588,
                budget_burst=600,
                budget_per_hour=240,
                slot_s=3.5,
                window_s=10.0,
            ),
        ),
        "snapshot": Snapshot(
            generation=812,
            records=45_210,
            objects={"Namespace": 40, "Service": 10_000, "EndpointSlice": 10_400},
            skipped_total={"Namespace": 0, "Service": 2, "EndpointSlice": 0},
            skipped=(Skipped("Service", "shop/<b>bad</b>", "clusterIPs: not an address"),),
            disk_bytes=9_000_000,
            journal_bytes=2048,
            generation_writes=5,
            persist_failures=1,
            written_unix_s=1_700_000_100.0,
            persist_error="No space left on device",
            refused=("gen-811.nds: section answers is cut",),
        ),
        "quarantine": HELD,
        **_outward(),
        "events": {"query": {"damaged_nodes": 2}, "source": {"waited": 0}},
        "traffic": Traffic(
            queries={"udp": 1_000_000, "tcp": 12},
            responses={"NOERROR": 900_000, "NXDOMAIN": 100_000},
            answers={"fresh": 990_000, "stale": 10_000, "override": 0},
            dropped={"short": 3, "not_allowed": 0},
            queries_per_s=1234.5,
            tcp_connections=2,
            durations=Durations(bounds_s=(0.001, 0.01), counts=(5, 3, 1), sum_s=0.5),
            truncated=4,
        ),
        "process": Process(
            version="0.1.0",
            wire="python",
            identity="node-7",
            pid=1,
            started_unix_s=1_699_990_000.0,
            uptime_s=90_061.0,
            listen=("169.254.20.10:53",),
            zones=("cluster.local",),
            loop_lag_s=0.0123,
            task_failures={"source": 1, "admin": 0},
            reloads_applied=1,
        ),
    }
    return Status(**{**values, **changes})


def _outward() -> dict[str, object]:
    return {
        "forward": Forward(
            upstreams=(
                Upstream(
                    address="10.0.0.53:53",
                    tries=1200,
                    replies={"NOERROR": 1000, "NXDOMAIN": 150},
                    failures={"timeout": 50},
                    mismatches=3,
                    latency_s=2.3,
                ),
                Upstream(address="10.9.0.53:53", zone="corp.example.", state="lost", tries=7, losses=1),
            ),
            questions=5000,
            joined=40,
            refreshes={"stale": 12, "prefetch": 90},
            failures=6,
            over={"per_client": 2},
            in_flight=1,
            waiting=3,
            durations=Durations(bounds_s=(0.001, 0.01), counts=(700, 400, 51), sum_s=3.2),
        ),
        "cache": Cache(
            entries={"positive": 900, "negative": 80},
            bytes=700_000,
            hits={"fresh": 3700, "stale": 150},
            misses=1150,
            stored={"positive": 1000, "negative": 150},
            evicted=4,
            aged=1,
            restored=300,
            disk_bytes=90_000,
            writes=9,
        ),
    }

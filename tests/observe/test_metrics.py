from __future__ import annotations

import shutil
import subprocess

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.observe.metrics import Metrics
from agent.observe.status import CIRCUITS, Snapshot, Status, decode, encode

from .statuses import full


def scrape(status: Status, *, coredns=False, accept=""):
    content_type, body = Metrics(lambda: coredns).render(status, accept)
    return content_type, body.decode()


def samples(status, **how):
    families = text_string_to_metric_families(scrape(status, **how)[1])
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def test_every_metric_that_operations_names_is_there():
    names = {name for name, *_ in samples(full())}
    wanted = """nodens_snapshot_age_seconds nodens_snapshot_records nodens_snapshot_generation nodens_source_connected
        nodens_source_last_success_timestamp_seconds nodens_api_requests_total nodens_answers_total nodens_queries_total
        nodens_responses_total nodens_request_duration_seconds_bucket nodens_request_duration_seconds_sum
        nodens_dropped_total nodens_event_loop_lag_seconds nodens_persist_failures_total nodens_objects
        nodens_objects_skipped_total nodens_journal_bytes nodens_generation_writes_total nodens_tcp_connections
        nodens_task_failures_total nodens_api_budget_left nodens_api_circuit nodens_api_next_try_seconds
        nodens_api_reconnect_slot_seconds nodens_build_info process_resident_memory_bytes process_cpu_seconds_total"""
    assert set(wanted.split()) <= names
    assert not {name for name in names if name.startswith("coredns")}


def test_values_come_from_the_status():
    got = samples(full())
    assert got["nodens_snapshot_age_seconds",] == 1843.2
    assert got["nodens_api_requests_total", ("code", "0"), ("verb", "watch")] == 4
    assert got["nodens_answers_total", ("freshness", "stale")] == 10_000
    assert got["nodens_build_info", ("version", "0.1.0"), ("wire", "python")] == 1
    assert got["nodens_objects", ("kind", "Service")] == 10_000
    assert got["nodens_source_connected",] == 0
    assert got["nodens_api_budget_left",] == 588
    assert {state: got["nodens_api_circuit", ("state", state)] for state in CIRCUITS} == {
        **dict.fromkeys(CIRCUITS, 0),
        "open": 1,
    }
    assert got["nodens_events_total", ("event", "damaged_nodes"), ("room", "query")] == 2


def test_histogram_buckets_are_cumulative():
    got = samples(full())
    name = "nodens_request_duration_seconds"
    assert [got[f"{name}_bucket", ("le", bound)] for bound in ("0.001", "0.01", "+Inf")] == [5, 8, 9]
    assert (got[f"{name}_count",], got[f"{name}_sum",]) == (9, 0.5)


def test_answers_and_rcodes_start_at_zero_so_that_rates_work_from_the_first_one():
    got = samples(Status())
    assert got["nodens_answers_total", ("freshness", "stale")] == 0
    assert got["nodens_responses_total", ("rcode", "SERVFAIL")] == 0


def test_without_a_snapshot_there_is_no_age():
    assert ("nodens_snapshot_age_seconds",) not in samples(Status())


def test_corednss_names_are_exported_on_request():
    got = samples(full(), coredns=True)
    assert got["coredns_dns_requests_total", ("proto", "udp")] == 1_000_000
    assert got["coredns_dns_responses_total", ("rcode", "NXDOMAIN")] == 100_000
    assert got["coredns_dns_request_duration_seconds_count",] == 9


def test_openmetrics_is_spoken_to_those_who_ask():
    content_type, body = scrape(full(), accept="application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")
    assert "nodens_queries_total{" in body


@pytest.mark.parametrize("coredns", [False, True])
@pytest.mark.parametrize("status", [Status(), full()], ids=["empty", "full"])
def test_promtool_has_nothing_to_say(status, coredns):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on this machine (apt-get install prometheus)")
    body = scrape(status, coredns=coredns)[1]
    ours = "\n".join(line for line in body.splitlines() if "process_" not in line) + "\n"
    done = subprocess.run([promtool, "check", "metrics"], input=ours, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_status_survives_its_json():
    assert decode(encode(full())) == full()
    assert decode(encode(Status())) == Status()


def test_fields_of_a_newer_agent_are_left_out_and_of_an_older_one_defaulted():
    assert decode(b'{"state":"fresh","age_s":1,"invented":[1],"snapshot":{"records":5,"new":1}}') == Status(
        state="fresh", age_s=1.0, snapshot=Snapshot(records=5)
    )
    with pytest.raises(msgspec.DecodeError):
        decode(b"[]")


def test_the_json_shape_is_stable():
    shape = msgspec.json.decode(encode(full()))
    words = "schema state age_s ready not_ready source snapshot orders traffic process forward cache events quarantine"
    assert " ".join(shape) == words
    assert shape["schema"] == 1
    assert {"generation", "records", "objects", "skipped_total", "disk_bytes", "journal_bytes"} <= set(
        shape["snapshot"]
    )

"""Events reach the API server, when it can be reached and wants them; nothing else suffers for it."""

from __future__ import annotations

import asyncio
import time

import pytest

from agent.sources.delivery import BURST
from agent.sources.reports import Reports
from tests.scripted_api import Fault, ScriptedApi, namespace, service
from tests.sources.mirror import PATIENT, QUICK, Mirror, ScaledClock, following


@pytest.fixture
async def api():
    async with ScriptedApi() as server:
        server.put(namespace("shop"))
        server.put(service("shop", "web", "10.0.0.1"))
        yield server


@pytest.fixture
def mirror():
    return Mirror()


def tell(reports: Reports, reason: str = "DNSStale", at: float | None = None) -> None:
    reports.add(reason, "a test", is_trouble=True, now_unix_s=time.time() if at is None else at)


def reasons(api: ScriptedApi) -> list[str]:
    return [value["reason"] for value in api.events]


async def test_an_event_is_created_once_and_counted_as_a_request(api, mirror, tmp_path):
    reports = Reports()
    tell(reports)
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT, reports=reports) as source:
        before = source.governor.left
        await mirror.until(lambda: reports.counts["sent"] == 1)
        await mirror.until(lambda: ("CREATE", 201, 0) in [(*what[:2], 0) for what in mirror.of("requested")])
        assert source.governor.left < before
    assert reasons(api) == ["DNSStale"]
    assert api.events[0]["involvedObject"]["name"] == "node-1"


async def test_what_happened_while_nobody_was_there_comes_after_with_its_own_time(api, mirror, tmp_path):
    reports = Reports()
    async with following(api.kubeconfig(tmp_path), mirror, reports=reports):
        await mirror.until(lambda: mirror.is_connected)
        await api.stop()
        await mirror.until(lambda: not mirror.is_connected)
        tell(reports, at=1_700_000_000)
        tell(reports, at=1_700_000_060)
        await asyncio.sleep(0.2)
        assert reports.counts["sent"] == 0
        await api.start()
        await mirror.until(lambda: reports.counts["sent"] == 1)
    (event,) = api.events
    assert (event["firstTimestamp"], event["lastTimestamp"]) == ("2023-11-14T22:13:20Z", "2023-11-14T22:14:20Z")
    assert event["count"] == 2


async def test_who_may_not_create_them_finds_out_twice_and_stops(api, mirror, tmp_path, caplog):
    reports = Reports()
    refused = api.fail(Fault("CREATE", status=403, times=100, message="events is forbidden"))
    tell(reports)
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT, reports=reports):
        await mirror.until(lambda: not reports.enabled)
        tell(reports)
        await asyncio.sleep(0.1)
        assert mirror.is_connected
    assert refused.times == 98
    told = [record.getMessage() for record in caplog.records if "Events are off" in record.getMessage()]
    assert len(told) == 1
    assert "Grant the verb create on events" in told[0]


async def test_a_server_that_has_not_read_the_roles_yet_is_asked_again(api, mirror, tmp_path):
    reports = Reports()
    api.fail(Fault("CREATE", status=403))
    tell(reports)
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT, reports=reports):
        await mirror.until(lambda: reports.counts["sent"] == 1)
    assert reports.enabled
    assert reasons(api) == ["DNSStale"]


async def test_an_answer_that_is_lost_does_not_make_two_of_it(api, mirror, tmp_path):
    reports = Reports()
    api.fail(Fault("CREATE", cut_bytes=0))
    tell(reports)
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT, reports=reports):
        await mirror.until(lambda: reports.counts["sent"] == 1)
    assert reasons(api) == ["DNSStale"]
    assert [seen.code for seen in api.seen if seen.verb == "CREATE"] == [409]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_overloaded_server_gets_it_later(status, api, mirror, tmp_path):
    reports = Reports()
    api.fail(Fault("CREATE", status=status, times=2))
    tell(reports)
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT, reports=reports):
        await mirror.until(lambda: reports.counts["sent"] == 1)
    assert reasons(api) == ["DNSStale"]


async def test_one_that_is_not_taken_is_let_go_and_the_next_one_comes(api, mirror, tmp_path):
    reports = Reports()
    api.fail(Fault("CREATE", status=422))
    tell(reports, "Odd")
    tell(reports, "DNSFresh")
    async with following(api.kubeconfig(tmp_path), mirror, timing=PATIENT, reports=reports):
        await mirror.until(lambda: reports.counts["sent"] == 1)
        assert mirror.is_connected
    assert reasons(api) == ["DNSFresh"]
    assert reports.counts["refused"] == 1
    assert not mirror.of("lost"), "an Event that is refused says nothing about the source"


async def test_there_are_never_more_than_so_many_in_an_hour(api, mirror, tmp_path):
    reports = Reports()
    clock = ScaledClock(1.0)
    async with following(api.kubeconfig(tmp_path), mirror, timing=QUICK, clock=clock, reports=reports):
        for number in range(BURST + 4):
            tell(reports, f"R{number}")
        await mirror.until(lambda: reports.counts["sent"] == BURST)
        await mirror.until(lambda: max(clock.waits) > 200)
        assert reports.counts["sent"] == BURST
    assert len(api.events) == BURST

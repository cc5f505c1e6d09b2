"""What is kept to be told: bounded, merged by reason, with its own times."""

from __future__ import annotations

import asyncio

import pytest

from agent.sources.delivery import event
from agent.sources.reports import MAX_HELD, MAX_MESSAGE, Report, Reports


def stale(reports: Reports, at: float, message: str = "stale") -> None:
    reports.add("DNSStale", message, is_trouble=True, now_unix_s=at)


def test_reports_go_in_the_order_they_came():
    reports = Reports()
    stale(reports, 10)
    reports.add("DNSFresh", "fresh", is_trouble=False, now_unix_s=20)
    assert [reports.take().reason, reports.take().reason, reports.take()] == ["DNSStale", "DNSFresh", None]


def test_what_happens_again_while_it_waits_is_one_report_with_both_times():
    reports = Reports()
    stale(reports, 10, "first")
    reports.add("DNSFresh", "fresh", is_trouble=False, now_unix_s=20)
    stale(reports, 30, "second")
    assert [each.reason for each in (reports.take(), reports.take())] == ["DNSFresh", "DNSStale"]
    assert reports.counts == {"made": 3, "merged": 1, "sent": 0, "refused": 0, "dropped": 0}


def test_what_could_not_be_sent_goes_first_or_into_its_newer_self():
    reports = Reports()
    stale(reports, 10)
    reports.add("DNSFresh", "fresh", is_trouble=False, now_unix_s=20)
    reports.put_back(reports.take())
    first = reports.take()
    assert first.reason == "DNSStale"
    stale(reports, 40, "again")
    reports.put_back(first)
    reports.take()
    assert reports.take() == Report("DNSStale", "again", is_trouble=True, first_unix_s=10, last_unix_s=40, times=2)


def test_no_more_are_held_than_the_bound_and_the_oldest_go():
    reports = Reports()
    for number in range(MAX_HELD + 3):
        reports.add(f"R{number}", "x" * 5000, is_trouble=False, now_unix_s=number)
    first = reports.take()
    assert (first.reason, len(first.message)) == ("R3", MAX_MESSAGE)
    assert reports.counts["dropped"] == 3


async def test_waiting_ends_when_there_is_something_and_only_then():
    reports = Reports()
    waiting = asyncio.create_task(reports.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    stale(reports, 1)
    await waiting
    reports.take()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reports.wait(), 0.01)


def test_switched_off_nothing_is_kept():
    reports = Reports(enabled=False)
    stale(reports, 1)
    assert reports.take() is None
    on = Reports()
    stale(on, 1)
    on.disable()
    stale(on, 2)
    assert on.take() is None
    assert on.counts["dropped"] == 1


def test_the_event_names_the_node_as_the_kubelet_does_and_its_own_times():
    report = Report(
        "DNSStale", "old", is_trouble=True, first_unix_s=1_700_000_000.5, last_unix_s=1_700_000_060, times=3
    )
    made = event(report, "Node_7.example")
    assert made["metadata"] == {"name": "node-7.example.dnsstale.18bcfe569f4", "namespace": "default"}
    assert made["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Node",
        "name": "Node_7.example",
        "uid": "Node_7.example",
    }
    assert (made["type"], made["count"]) == ("Warning", 3)
    assert (made["firstTimestamp"], made["lastTimestamp"]) == ("2023-11-14T22:13:20Z", "2023-11-14T22:14:20Z")
    assert event(report, "Node_7.example") == made, "sent twice it is the same object"


@pytest.mark.parametrize("node", ["", "---", "é", "n" * 300])
def test_whatever_a_host_is_called_its_event_has_a_name(node):
    name = event(Report("R", "m", is_trouble=False, first_unix_s=0, last_unix_s=0), node)["metadata"]["name"]
    assert 0 < len(name) <= 253
    assert name[0].isalnum()
    assert name == name.lower()

"""The gate of a rollout: open only for agents that are known to be well."""

from __future__ import annotations

import json
import time

import msgspec
import pytest

from agent.cli import main
from agent.commands.rollout_gate import Limits, judge
from agent.observe.status import Access, Process, Quarantine, Snapshot, Source, Status, encode
from tests.commands.test_status import Agent

FOLLOWED = Source(name="kubernetes", connected=True, note="following", api_requests_last_hour=17)


def well(name="node-1", **changes) -> Status:
    process = Process(identity=name, started_unix_s=time.time() - 60, uptime_s=60)
    return Status(**{"state": "fresh", "ready": True, "source": FOLLOWED, "process": process, **changes})


def lost(age_s: float, state: str) -> Status:
    source = Source(name="kubernetes", note="connection refused", last_success_unix_s=time.time() - age_s)
    return well(state=state, age_s=age_s, source=source)


LIMITS = Limits()


def reasons(status: Status, limits=LIMITS) -> list[str]:
    return [reason.reason for reason in judge(status, limits, time.time())]


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (well(), []),
        (well(age_s=90.0), []),
        (lost(30, "fresh"), []),
        (lost(90, "fresh"), ["source_lost"]),
        (lost(90, "stale"), ["stale"]),
        (lost(9000, "expired"), ["expired"]),
        (well(state="not_ready", ready=False), ["not_ready"]),
        (well(ready=False, not_ready={"draining": "SIGTERM"}), ["not_ready"]),
        (well(snapshot=Snapshot(persist_failures=2, persist_error="No space left on device")), ["disk"]),
        (well(snapshot=Snapshot(persist_failures=2)), []),
        (well(events={"query": {"damaged_nodes": 1}}), ["damaged"]),
        (well(quarantine=Quarantine(active=True, id="1700000500", differences=("would remove all",))), ["quarantine"]),
        (well(quarantine=Quarantine(holds={"names": 3}, outcomes={"expired": 3})), []),
    ],
)
def test_what_closes_the_gate(status, found):
    assert reasons(status) == found


def test_requests_count_only_against_a_number_that_was_given():
    assert reasons(well(), Limits(max_api_requests=17)) == []
    assert reasons(well(), Limits(max_api_requests=16)) == ["over_budget"]


def test_an_agent_that_has_spent_its_budget_closes_the_gate():
    for left, found in ((1, []), (0, ["over_budget"])):
        access = Access(budget_left=left, budget_burst=600, budget_per_hour=240)
        assert reasons(well(source=msgspec.structs.replace(FOLLOWED, access=access))) == found


def test_a_status_that_was_collected_long_ago_says_nothing_of_now():
    status = well(process=Process(identity="node-1", started_unix_s=time.time() - 900, uptime_s=60))
    assert [reason.reason for reason in judge(status, LIMITS, time.time(), is_collected=True)] == ["old_status"]
    assert reasons(status) == []


@pytest.fixture
def agents():
    running = [Agent(("127.0.0.1", 0)) for _ in range(2)]
    for number, agent in enumerate(running):
        agent.status = well(f"node-{number}")
    yield running
    for agent in running:
        agent.stop()


def test_all_is_well_and_the_rollout_goes_on(agents, capsys):
    assert main(["rollout-gate", "--admin", agents[0].where, "--admin", agents[1].where]) == 0
    assert capsys.readouterr().out == "gate open: 2 asked, oldest state 0s\n"


def test_one_stale_agent_holds_it_up_and_is_named_with_reason_and_time(agents, capsys):
    agents[1].status = lost(1843, "stale")
    assert main(["rollout-gate", "--admin", agents[0].where, "--admin", agents[1].where]) == 1
    row, last = capsys.readouterr().out.splitlines()
    assert row.startswith("node-1  stale ")
    assert "(30m 43s)" in row
    assert row.endswith("its state is stale: connection refused")
    assert last == "gate closed: 1 of 2 fail"


def test_who_can_not_be_asked_fails_unless_allowed_for_by_number(agents, capsys):
    gone = agents.pop()
    gone.stop()
    words = ["rollout-gate", "--admin", agents[0].where, "--admin", gone.where]
    assert main(words) == 1
    assert "unreachable" in capsys.readouterr().out
    assert main([*words, "--allow-unreachable", "1"]) == 0
    assert "1 not to be asked (allowed)" in capsys.readouterr().out


def test_without_an_endpoint_the_configured_one_is_asked(agents, monkeypatch):
    monkeypatch.setenv("NODENS_ADMIN", agents[0].where)
    assert main(["rollout-gate"]) == 0


def test_statuses_of_a_wave_are_read_from_files(tmp_path, capsys):
    (tmp_path / "a.json").write_bytes(encode(well("node-a")))
    (tmp_path / "b.json").write_bytes(encode(lost(90, "stale")))
    (tmp_path / "off.json").write_text('{"running": false, "on_disk": []}')
    (tmp_path / "cut.json").write_bytes(encode(well())[:100])
    files = [str(tmp_path / name) for name in ("a.json", "b.json", "off.json", "cut.json", "missing.json")]
    assert main(["rollout-gate", "--json", "--allow-unreachable", "3", *files]) == 1
    outcome = json.loads(capsys.readouterr().out)
    assert (outcome["open"], outcome["asked"], outcome["unreachable"]) == (False, 5, 3)
    by_reason = [[reason["reason"] for reason in node["reasons"]] for node in outcome["nodes"]]
    assert by_reason == [[], ["stale"], ["unreachable"], ["unreachable"], ["unreachable"]]
    assert main(["rollout-gate", files[0]]) == 0


@pytest.mark.parametrize(
    "words",
    [["--admin", "node-7"], ["--max-age", "soon"], ["--allow-unreachable", "-1"], ["--admin", "off"], ["--bad"]],
)
def test_what_can_not_be_understood_is_neither_open_nor_closed(words, capsys):
    try:
        code = main(["rollout-gate", *words])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert capsys.readouterr().err


def test_foreign_text_stays_on_its_line(tmp_path, capsys):
    bad = msgspec.structs.replace(FOLLOWED, connected=False, note="\x1b[2Jx\ngate open")
    (tmp_path / "a.json").write_bytes(encode(well(state="stale", source=bad)))
    assert main(["rollout-gate", str(tmp_path / "a.json")]) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert len(out.splitlines()) == 2

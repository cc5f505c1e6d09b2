"""A person overrules the agent: the real process, the real commands, dig."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.agent_process import Agent
from tests.control_plane.processes import wait_until
from tests.e2e.dig import Dig, Said

WEB = "web.shop.svc.cluster.local"
OUTSIDE = "api.example.com"
Run = Callable[..., "CompletedProcess[str]"]
PLANES = [pytest.param({"NODENS_NO_EXT": "1"}, id="python"), pytest.param({}, id="compiled")]


@pytest.fixture(params=PLANES)
def either(request: pytest.FixtureRequest, start_agent: Callable[..., Agent], cluster: Path) -> Agent:
    """An agent of either data plane, with a generation on disk."""
    running = start_agent(cluster, environ=request.param)
    running.wait_connected()
    running.wait_state("generation 1 on disk", lambda state: state["snapshot"]["generation_writes"] >= 1)
    return running


def until(ask: Dig, words: tuple[str, ...], test: Callable[[Said], Any], timeout_s: float = 10) -> Said:
    def asked() -> Said | None:
        said = ask(*words)
        return said if test(said) else None

    return wait_until(f"dig {' '.join(words)}", asked, timeout_s=timeout_s)


def ordered(nodens: Run, agent: Agent, *words: object) -> str:
    done = nodens(*words, "--state-dir", agent.state_dir)
    assert done.returncode == 0, done.stderr
    return done.stdout


def move(cluster: Path, before: set[str]) -> None:
    """Have the source say another address for WEB."""
    (address,) = before
    text = cluster.read_text().replace(f'"{address}"', '"10.96.99.99"')
    cluster.with_suffix(".new").write_text(text)
    cluster.with_suffix(".new").rename(cluster)


def audit(agent: Agent) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (agent.state_dir / "control" / "audit.ndj").read_text().splitlines()]


def test_an_override_answers_every_type_marked_and_counted_until_it_is_taken_back(
    either: Agent, nodens: Run, dig: str
) -> None:
    agent, ask = either, Dig(dig, either.port)
    before = ask(WEB).rdata
    ordered(nodens, agent, "override", "set", WEB, "192.0.2.7,192.0.2.8", "--for", "1h", "--reason", "moved by hand")
    said = until(ask, (WEB,), lambda said: said.rdata == {"192.0.2.7", "192.0.2.8"})
    assert "aa" in said.flags
    assert all(record.ttl_s <= 5 for record in said.answer)
    assert said.extended_error.startswith(f"4 (Forged Answer): (override of {WEB}. until 2")
    for qtype in ("AAAA", "SRV", "TXT", "CNAME"):
        other = ask(WEB, qtype)
        assert (other.kind, [row.type for row in other.authority]) == ("NODATA", ["SOA"])
        assert other.extended_error.startswith("4 (Forged Answer)")
    assert ask(f"_http._tcp.{WEB}", "SRV").kind == "NOERROR"
    assert ask(WEB, "+tcp").rdata == {"192.0.2.7", "192.0.2.8"}
    assert ask(WEB.upper()).rdata == {"192.0.2.7", "192.0.2.8"}
    assert " overrides=1 " in ask("CH", "TXT", "status.nodens").answer[0].rdata
    state = agent.wait_state("the override in /status", lambda state: state["orders"]["overrides"])
    assert state["orders"]["overrides"][0]["name"] == f"{WEB}."
    assert state["traffic"]["answers"]["override"] >= 7
    assert agent.metric("nodens_overrides_active") == 1
    assert abs(agent.metric("nodens_override_next_expiry_timestamp_seconds") - time.time() - 3600) < 60
    shown = nodens("status", "--admin", f"127.0.0.1:{agent.admin_port}").stdout
    assert f"{WEB}. is 192.0.2.7, 192.0.2.8 until" in shown
    assert "moved by hand" in shown
    assert "moved by hand" in agent.get("/")[1].decode()

    ordered(nodens, agent, "override", "unset", WEB)
    until(ask, (WEB,), lambda said: said.rdata == before and not said.extended_error)
    assert agent.metric("nodens_overrides_active") == 0
    rows = audit(agent)
    assert [row["what"] for row in rows] == ["override set", "override unset"]
    assert (rows[0]["reason"], rows[0]["answers"]) == ("moved by hand", "192.0.2.7, 192.0.2.8")
    assert "(uid " in rows[0]["who"]
    agent.wait_told("a name is answered by hand from now on")
    agent.wait_told("a name is no longer answered by hand: taken back")


def test_a_name_outside_and_an_alias_into_an_own_zone(either: Agent, nodens: Run, dig: str) -> None:
    agent, ask = either, Dig(dig, either.port)
    web = ask(WEB).rdata
    ordered(nodens, agent, "override", "set", f"{OUTSIDE}.", "fd00::7", "--for", "1h", "--reason", "their DNS is down")
    until(ask, (OUTSIDE, "AAAA"), lambda said: said.rdata == {"fd00::7"})
    nothing = ask(OUTSIDE, "A")
    assert (nothing.kind, nothing.authority) == ("NODATA", [])
    assert ask(f"www.{OUTSIDE}").status == "REFUSED"
    ordered(nodens, agent, "override", "set", f"{OUTSIDE}.", "--cname", WEB, "--for", "1h", "--reason", "use ours")
    said = until(ask, (OUTSIDE, "A"), lambda said: said.answer)
    assert [(row.type, row.name) for row in said.answer] == [("CNAME", OUTSIDE), *[("A", WEB)] * len(web)]
    assert {row.rdata for row in said.answer[1:]} == web
    assert said.extended_error.startswith(f"4 (Forged Answer): (override of {OUTSIDE}. until")


def test_an_override_ends_by_itself(either: Agent, nodens: Run, dig: str) -> None:
    agent, ask = either, Dig(dig, either.port)
    ordered(nodens, agent, "override", "set", WEB, "192.0.2.7", "--for", "3s", "--reason", "short")
    said = until(ask, (WEB,), lambda said: said.rdata == {"192.0.2.7"})
    assert said.answer[0].ttl_s <= 2
    until(ask, (WEB,), lambda said: said.rdata != {"192.0.2.7"})
    agent.wait_told("its time is over")
    assert "No name is overridden" in ordered(nodens, agent, "override", "list")


def test_an_override_survives_kill_9_and_is_given_while_the_agent_is_down(either: Agent, nodens: Run, dig: str) -> None:
    agent, ask = either, Dig(dig, either.port)
    ordered(nodens, agent, "override", "set", WEB, "192.0.2.7", "--for", "1h", "--reason", "first")
    until(ask, (WEB,), lambda said: said.rdata == {"192.0.2.7"})
    agent.kill()
    ordered(
        nodens, agent, "override", "set", "db.shop.svc.cluster.local", "192.0.2.9", "--for", "1h", "--reason", "2nd"
    )
    agent.start()
    agent.wait_answering()
    assert ask(WEB).rdata == {"192.0.2.7"}
    assert ask("db.shop.svc.cluster.local").rdata == {"192.0.2.9"}


def test_an_override_answers_without_any_snapshot(
    start_agent: Callable[..., Agent], nodens: Run, dig: str, tmp_path: Path
):
    agent = start_agent(tmp_path / "not-there.json")
    agent.wait_listening()
    ask = Dig(dig, agent.port)
    assert ask(WEB).status == "SERVFAIL"
    ordered(nodens, agent, "override", "set", f"{WEB}.", "192.0.2.7", "--for", "1h", "--reason", "first aid")
    until(ask, (WEB,), lambda said: said.rdata == {"192.0.2.7"})
    assert ask(f"other.{WEB}").status == "SERVFAIL"


def test_a_damaged_document_ends_no_override_and_is_told(either: Agent, nodens: Run, dig: str) -> None:
    agent, ask = either, Dig(dig, either.port)
    ordered(nodens, agent, "override", "set", WEB, "192.0.2.7", "--for", "1h", "--reason", "first")
    until(ask, (WEB,), lambda said: said.rdata == {"192.0.2.7"})
    path = agent.state_dir / "control" / "overrides.json"
    path.write_text("{")
    state = agent.wait_state("the refusal", lambda state: state["orders"]["problems"])
    assert str(path) in state["orders"]["problems"][0]
    assert state["events"]["orders"]["documents_refused"] == 1
    assert ask(WEB).rdata == {"192.0.2.7"}
    assert agent.metric("nodens_order_problems") == 1
    path.unlink()
    until(ask, (WEB,), lambda said: said.rdata != {"192.0.2.7"})


@pytest.mark.slow
def test_a_generation_is_pinned_over_kill_9_and_changes_until_it_is_unpinned(
    either: Agent, nodens: Run, dig: str, cluster: Path
) -> None:
    agent, ask = either, Dig(dig, either.port)
    before = ask(WEB).rdata
    move(cluster, before)
    until(ask, (WEB,), lambda said: said.rdata == {"10.96.99.99"})
    said = ordered(nodens, agent, "snapshot", "rollback", "1", "--reason", "addresses are wrong", "--for", "1h")
    assert said.startswith("Generation 1, last confirmed ")
    pinned = until(ask, (WEB,), lambda said: said.rdata == before)
    assert pinned.extended_error.startswith("3 (Stale Answer): (age=")
    assert pinned.extended_error.endswith("generation=1 pinned)")
    status = ask("CH", "TXT", "status.nodens").answer[0].rdata
    assert "state=stale pinned=1 source=following" in status
    state = agent.state()
    assert (state["orders"]["pin"]["generation"], state["orders"]["pin"]["reason"]) == (1, "addresses are wrong")
    assert state["source"]["connected"]
    assert agent.metric("nodens_pinned_generation") == 1
    assert "Pinned to generation 1" in nodens("status", "--admin", f"127.0.0.1:{agent.admin_port}").stdout
    agent.kill()
    agent.start()
    agent.wait_answering()
    assert ask(WEB).rdata == before
    agent.wait_connected()
    assert ask(WEB).rdata == before
    ordered(nodens, agent, "snapshot", "unpin")
    until(ask, (WEB,), lambda said: said.rdata == {"10.96.99.99"} and not said.extended_error)
    assert [row["what"] for row in audit(agent)] == ["snapshot rollback", "snapshot unpin"]


@pytest.mark.slow
def test_a_pin_given_while_the_agent_is_down_is_served_at_its_start_and_ends_by_itself(
    either: Agent, nodens: Run, dig: str, cluster: Path
) -> None:
    agent, ask = either, Dig(dig, either.port)
    before = ask(WEB).rdata
    move(cluster, before)
    until(ask, (WEB,), lambda said: said.rdata == {"10.96.99.99"})
    agent.stop()
    ordered(nodens, agent, "snapshot", "rollback", "1", "--reason", "addresses are wrong", "--for", "6s")
    agent.start()
    agent.wait_answering()
    assert ask(WEB).rdata == before
    agent.wait_told("the newest state is served again", timeout_s=20)
    until(ask, (WEB,), lambda said: said.rdata == {"10.96.99.99"})


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((WEB, "192.0.2.7", "--reason", "x"), 2, "required: --for"),
        ((WEB, "192.0.2.7", "--for", "1h"), 2, "required: --reason"),
        ((WEB, "192.0.2.7", "--for", "8d", "--reason", "x"), 2, "from 1s to 7d"),
        ((WEB, "192.0.2.7", "--for", "1h", "--reason", " "), 2, "is empty"),
        ((WEB, "--for", "1h", "--reason", "x"), 1, "neither an address nor a CNAME"),
        ((WEB, "192.0.2.7", "--cname", OUTSIDE, "--for", "1h", "--reason", "x"), 1, "both addresses and a CNAME"),
        ((WEB, "192.0.2", "--for", "1h", "--reason", "x"), 2, "'192.0.2' is no IPv4 or IPv6 address"),
        (("a..b", "192.0.2.7", "--for", "1h", "--reason", "x"), 2, "empty label"),
        (("web.shop", "192.0.2.7", "--for", "1h", "--reason", "x"), 1, "web.shop.svc.cluster.local."),
        ((WEB, "--cname", WEB, "--for", "1h", "--reason", "x"), 1, "alias of itself"),
        (("a.svc.cluster.local", "--cname", WEB, "--for", "1h", "--reason", "x"), 1, "go round in a ring"),
    ],
)
def test_what_can_not_be_ordered_is_said(agent: Agent, nodens: Run, words: tuple[str, ...], code: int, told: str):
    ring = (WEB, "--cname", "a.svc.cluster.local", "--for", "1h", "--reason", "half of a ring")
    ordered(nodens, agent, "override", "set", *ring)
    done = nodens("override", "set", *words, "--state-dir", agent.state_dir)
    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert [row["what"] for row in audit(agent)] == ["override set"]


def test_taking_back_what_is_not_there_is_said(agent: Agent, nodens: Run) -> None:
    for words, told in (
        (("override", "unset", WEB), f"{WEB}. is not overridden"),
        (("snapshot", "unpin"), "no generation is pinned"),
        (("snapshot", "rollback", "77", "--reason", "x"), "gen-77.nds does not exist"),
    ):
        done = nodens(*words, "--state-dir", agent.state_dir)
        assert done.returncode == 1
        assert told in done.stderr

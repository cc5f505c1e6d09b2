"""OpenAI 2024-12: the control plane is gone for hours, agents are restarted in the middle: every name still answers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent_process import Agent
from tests.control_plane.processes import wait_until
from tests.e2e.dig import Dig
from tests.e2e.right_answers import Rightful, right_answers, wrong_answers

pytestmark = pytest.mark.faults

WEB = "web.shop.svc.cluster.local"


def test_killed_and_restarted_without_its_source_every_name_answers_as_before(
    agent: Agent, cluster: Path, rightful: Rightful
):
    assert len(rightful) > 1500
    assert wrong_answers(agent.port, rightful) == {}
    agent.kill()
    cluster.unlink()
    agent.start()
    agent.wait_answering()
    assert wrong_answers(agent.port, rightful) == {}
    state = agent.state()
    assert (state["ready"], state["source"]["connected"]) == (True, False)
    assert agent.get("/readyz")[0] == 200


def test_a_stale_answer_says_so_and_how_old_it_is(agent: Agent, cluster: Path, ask: Dig):
    assert ask(WEB).extended_error == ""
    cluster.unlink()
    agent.kill()
    agent.start()
    agent.wait_answering()
    stale = wait_until("a stale answer", lambda: (said := ask(WEB)).extended_error and said)
    assert (stale.status, stale.rdata) == ("NOERROR", {"10.96.10.80"})
    found = re.fullmatch(r"3 \(Stale Answer\): \(age=(\d+)s generation=1\)", stale.extended_error)
    assert found
    assert int(found[1]) >= 2
    gone = ask("gone.shop.svc.cluster.local")
    assert gone.status == "NXDOMAIN"
    assert re.fullmatch(r"19 \(Stale NXDOMAIN Answer\): \(age=\d+s generation=1\)", gone.extended_error)
    assert ask(WEB, "+noedns").rdata == {"10.96.10.80"}


def test_status_metrics_and_chaos_name_say_stale_and_since_when(agent: Agent, cluster: Path, ask: Dig):
    assert agent.state()["state"] == "fresh"
    cluster.unlink()
    state = agent.wait_state("stale", lambda state: state["state"] == "stale")
    assert state["age_s"] >= 2
    assert state["ready"], "an agent that can answer never withdraws"
    assert "cluster.json" in state["source"]["last_error"]
    assert time.time() - state["source"]["last_success_unix_s"] < 60
    ask(WEB)
    assert agent.metric("nodens_source_connected") == 0
    assert agent.metric("nodens_snapshot_age_seconds") >= 2
    assert agent.metric('nodens_answers_total{freshness="stale"}') >= 1
    (words,) = ask("status.nodens", "TXT", "CH").rdata
    assert re.fullmatch(r'"generation=1 age=\d+s state=stale source=.*"', words)


def test_the_source_comes_back_and_answers_are_fresh_again_and_follow_it(
    agent: Agent, cluster: Path, ask: Dig, rightful: Rightful
):
    text = cluster.read_text()
    cluster.unlink()
    agent.kill()
    agent.start()
    agent.wait_answering()
    agent.wait_state("stale", lambda state: state["state"] == "stale")
    changed = text.replace("10.96.10.80", "10.96.99.99")
    cluster.write_text(changed)
    wait_until("the change", lambda: ask(WEB).rdata == {"10.96.99.99"})
    state = agent.wait_state("fresh", lambda state: state["state"] == "fresh" and state["source"]["connected"])
    assert state["age_s"] < 10
    assert ask(WEB).extended_error == ""
    now_right = right_answers(json.loads(changed)["items"])
    assert now_right[WEB, "A"] != rightful[WEB, "A"]
    assert wrong_answers(agent.port, now_right) == {}


def test_answers_are_capped_at_30_seconds_while_the_source_is_away(start_agent: Callable[..., Agent], cluster, dig):
    agent = start_agent(cluster, ttl=600, stale_after="1h")
    agent.wait_connected()
    ask = Dig(dig, agent.port)
    assert ask(WEB).answer[0].ttl_s == 600
    cluster.unlink()
    wait_until("a lower TTL", lambda: ask(WEB).answer[0].ttl_s == 30)
    assert ask(WEB).extended_error == ""


def test_expired_by_choice_is_servfail_with_its_age_and_ends_when_the_source_is_back(
    start_agent: Callable[..., Agent], cluster, dig
):
    agent = start_agent(cluster, max_stale="3s")
    agent.wait_connected()
    ask, text = Dig(dig, agent.port), cluster.read_text()
    cluster.unlink()
    expired = wait_until("SERVFAIL", lambda: (said := ask(WEB)).status == "SERVFAIL" and said)
    assert re.fullmatch(r"22 \(No Reachable Authority\): \(age=\d+s generation=\d+\)", expired.extended_error)
    assert agent.state()["state"] == "expired"
    cluster.write_text(text)
    wait_until("an answer", lambda: ask(WEB).rdata == {"10.96.10.80"})

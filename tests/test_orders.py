"""Orders as the agent carries them out: clocks that jump, generations made under other options or gone."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from agent.cli import main
from agent.control.span import Now, now
from agent.orders import LOOK_S, Orders
from agent.records.names import to_wire
from agent.records.zone import Profile
from agent.server.options import ResponderOptions
from agent.server.responder import Responder
from agent.snapshot.compiler import Compiler, zones_of
from agent.snapshot.generations import Generations
from agent.wire.posture import FRESH, Posture
from agent.wire.table import AnswerTable
from tests.commands.states import EXAMPLE, PROFILE, States
from tests.server.tables import ask, rdatas

WEB = "web.shop.svc.cluster.local"
NEWEST = Posture(FRESH, connected=True, ttl_cap_s=None, age_s=1, generation=7, note="following")
DAY_S = 86_400.0


class Clock:
    """The clocks of a machine whose wall clock somebody sets."""

    def __init__(self) -> None:
        self.at = now()

    def pass_s(self, s: float, *, set_s: float = 0.0) -> None:
        self.at = Now(self.at.unix_s + s + set_s, self.at.boot_s + s, self.at.boot_id)

    def __call__(self) -> Now:
        return self.at


class Life:
    """An agent's orders and responder, without sockets."""

    def __init__(self, state_dir: Path, clock: Clock, profile: Profile) -> None:
        self.newest = AnswerTable(zones_of(profile))
        self.responder = Responder(self.newest, ResponderOptions())
        self.orders = Orders(Generations(state_dir), profile, clock)
        self.orders.begin()
        self.tick()

    def tick(self) -> None:
        posture = self.orders.posture(NEWEST, time.monotonic())
        self.orders.apply(self.responder, self.newest, posture)

    def web(self) -> list[str]:
        self.tick()
        return rdatas(ask(self.responder, WEB))


@pytest.fixture
def state_dir(tmp_path: Path):
    made = States(tmp_path / "state")
    made.generation(EXAMPLE)
    yield Path(made.path)
    made.close()


def order(state_dir: Path, *words: str) -> None:
    assert main([*words, "--reason", "by hand", "--state-dir", str(state_dir)]) == 0


@pytest.mark.parametrize("set_s", [0.0, DAY_S, -DAY_S])
def test_a_clock_that_is_set_changes_no_end_of_an_override(state_dir: Path, set_s: float):
    order(state_dir, "override", "set", WEB, "192.0.2.7", "--for", "1h")
    clock = Clock()
    life = Life(state_dir, clock, PROFILE)
    assert life.web() == ["192.0.2.7"]
    clock.pass_s(3590, set_s=set_s)
    assert life.web() == ["192.0.2.7"]
    assert Life(state_dir, clock, PROFILE).web() == ["192.0.2.7"], "after a restart"
    clock.pass_s(11)
    assert life.web() == []
    assert Life(state_dir, clock, PROFILE).web() == []
    assert life.orders.ended == 1


def test_a_pinned_generation_made_under_other_options_is_compiled_anew(state_dir: Path):
    order(state_dir, "snapshot", "rollback", "1")
    life = Life(state_dir, Clock(), msgspec.structs.replace(PROFILE, ttl_s=17))
    reply = ask(life.responder, WEB)
    assert (rdatas(reply), reply.answer[0].ttl) == (["10.96.10.80"], 17)
    assert life.responder.posture.pinned
    assert (life.responder.posture.generation, life.responder.posture.state) == (1, "stale")


def test_a_pinned_generation_that_is_gone_takes_nothing_away_and_is_told(state_dir: Path):
    order(state_dir, "snapshot", "rollback", "1")
    (state_dir / "snapshot" / "gen-1.nds").unlink()
    life = Life(state_dir, Clock(), PROFILE)
    assert life.responder.table is life.newest
    assert life.responder.posture == NEWEST
    (problem,) = life.orders.problems.values()
    assert problem.startswith("generation 1 is pinned, and can't be served: ")


def test_a_pinned_generation_that_can_not_be_compiled_stops_no_start(state_dir: Path, monkeypatch: pytest.MonkeyPatch):
    order(state_dir, "snapshot", "rollback", "1")

    def fail(*_: object) -> None:
        raise ValueError("no such record")

    monkeypatch.setattr(Compiler, "owner", fail)
    life = Life(state_dir, Clock(), msgspec.structs.replace(PROFILE, ttl_s=17))
    assert life.responder.table is life.newest
    assert "no such record" in life.orders.problems["pinned generation"]


def test_a_pin_ends_with_its_span_whatever_the_clock_says(state_dir: Path):
    order(state_dir, "snapshot", "rollback", "1", "--for", "1h")
    clock = Clock()
    life = Life(state_dir, clock, PROFILE)
    clock.pass_s(3590, set_s=-DAY_S)
    assert life.web() == ["10.96.10.80"]
    clock.pass_s(11)
    life.tick()
    assert life.responder.table is life.newest
    assert life.responder.posture == NEWEST


async def test_a_pin_is_taken_up_and_let_go_while_the_agent_runs(state_dir: Path):
    life = Life(state_dir, Clock(), PROFILE)
    assert life.web() == []
    order(state_dir, "snapshot", "rollback", "1")
    life.orders._notice(life.orders.look())
    await life.orders._follow_pin()
    assert life.web() == ["10.96.10.80"]
    assert life.orders.spared() == frozenset((1,))
    assert main(["snapshot", "unpin", "--state-dir", str(state_dir)]) == 0
    life.orders._notice(life.orders.look())
    await life.orders._follow_pin()
    assert life.web() == []
    assert life.orders.spared() == frozenset()


def test_an_answer_is_never_kept_for_longer_than_until_the_next_look(state_dir: Path):
    order(state_dir, "override", "set", WEB, "192.0.2.7", "--for", "3s")
    clock = Clock()
    life = Life(state_dir, clock, PROFILE)
    left_s = life.orders.active()[0][1]
    life.tick()
    assert ask(life.responder, WEB).answer[0].ttl <= left_s - LOOK_S
    assert to_wire(WEB) in life.responder.overrides

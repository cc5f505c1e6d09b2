"""What is ordered, as commands show it from disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli import main
from agent.control.folder import Folder
from tests.commands.states import EXAMPLE, States, service

WEB = "web.shop.svc.cluster.local"


@pytest.fixture
def state(tmp_path: Path):
    made = States(tmp_path / "state")
    made.generation(EXAMPLE)
    made.generation([*EXAMPLE[:3], service("web", ips=("10.96.99.99",))])
    yield made
    made.close()


@pytest.fixture
def nodens(state, capsys):
    def run(*words: str) -> tuple[int, str, str]:
        code = main([*words, "--state-dir", str(state.path)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def override(nodens, name: str, *words: str) -> None:
    code, _, err = nodens("override", "set", name, *words, "--for", "1h", "--reason", "by hand")
    assert code == 0, err


def test_resolve_answers_as_an_agent_that_started_now_would(nodens):
    assert "10.96.99.99" in nodens("resolve", WEB)[1]
    nodens("snapshot", "rollback", "1", "--reason", "bad addresses")
    code, out, err = nodens("resolve", WEB)
    assert code == 0
    assert "10.96.10.80" in out
    assert "generation 1 is pinned until nodens snapshot unpin, by " in err
    override(nodens, WEB, "192.0.2.7")
    _, out, _ = nodens("resolve", WEB)
    assert "192.0.2.7" in out
    assert f"; {WEB}. is overridden: 192.0.2.7 until 2" in out
    assert "by hand" in out
    assert "10.96.99.99" in nodens("resolve", WEB, "--generation", "2")[1]
    code, out, _ = nodens("resolve", WEB, "--json")
    assert len(json.loads(out)["orders"]) == 2


def test_resolve_tells_a_pin_that_can_not_be_served(nodens, state):
    nodens("snapshot", "rollback", "1", "--reason", "bad addresses")
    (Path(state.path) / "snapshot" / "gen-1.nds").unlink()
    _, out, err = nodens("resolve", WEB)
    assert "10.96.99.99" in out
    assert "it can't be served: " in err


def test_resolve_answers_names_outside_while_they_are_overridden(nodens):
    override(nodens, "api.example.com.", "--cname", WEB)
    code, out, _ = nodens("resolve", "api.example.com.", "A")
    assert code == 0
    assert "10.96.99.99" in out


def test_the_pinned_generation_is_marked_in_the_list_and_status_tells_orders_without_an_agent(nodens):
    nodens("snapshot", "rollback", "1", "--reason", "bad addresses", "--for", "1h")
    override(nodens, WEB, "192.0.2.7")
    _, out, _ = nodens("snapshot", "list")
    assert next(line for line in out.splitlines() if line.endswith(", PINNED")).split()[0] == "1"
    assert "generation 1 is pinned until 2" in out
    code, out, _ = nodens("status", "--admin", "off")
    assert code == 1
    assert "generation 1 is pinned until 2" in out
    assert f"{WEB}. is overridden: 192.0.2.7 until" in out


def test_a_document_that_can_not_be_believed_is_told_and_stops_no_reading(nodens, state):
    override(nodens, WEB, "192.0.2.7")
    with Folder(str(state.path)) as folder:
        path = Path(folder.path) / "overrides.json"
    path.chmod(0o666)
    code, out, _ = nodens("resolve", WEB)
    assert code == 0
    assert "10.96.99.99" in out
    assert f"{path} can be written by others" in out
    code, _, err = nodens("override", "list")
    assert code == 1
    assert "can be written by others" in err


def test_overrides_are_listed_for_people_and_machines(nodens):
    assert nodens("override", "list")[1] == "No name is overridden.\n"
    override(nodens, WEB, "192.0.2.7,2001:db8::1")
    out = nodens("override", "list")[1]
    assert out.startswith(f"{WEB}. 192.0.2.7, 2001:db8::1\n  until 2")
    (row,) = json.loads(nodens("override", "list", "--json")[1])["overrides"]
    assert (row["name"], row["addresses"], row["reason"]) == (f"{WEB}.", ["192.0.2.7", "2001:db8::1"], "by hand")
    assert 3590 < row["left_s"] <= 3600


def test_an_order_that_fails_after_its_audit_line_is_told_by_a_second_one(nodens, state, monkeypatch):
    from agent.errors import ControlError

    def fail(*_: object) -> None:
        raise ControlError("disk full")

    monkeypatch.setattr(Folder, "write", fail)
    code, _, err = nodens("override", "set", WEB, "192.0.2.7", "--for", "1h", "--reason", "by hand")
    assert (code, "disk full" in err) == (1, True)
    lines = (Path(state.path) / "control" / "audit.ndj").read_text().splitlines()
    assert [json.loads(line)["what"] for line in lines] == ["override set", "override set failed"]

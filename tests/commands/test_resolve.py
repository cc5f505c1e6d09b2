from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time

import msgspec
import pytest

from agent.cli import main
from agent.commands.held import load
from agent.commands.presentation import type_number
from agent.commands.resolve import resolve
from agent.records.zone import Profile
from agent.snapshot.format import SECTION_ANSWERS, SECTION_OBJECTS, SECTION_PROFILE
from benchmarks.cluster_generator import Spec, objects
from tests import view
from tests.commands.states import EXAMPLE, PROFILE, States, endpoint_slice, namespace, service
from tests.snapshot.clusters import random_change


@pytest.fixture
def states(tmp_path):
    made = []

    def make(**options):
        made.append(States(tmp_path / f"state{len(made)}", **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def example(states):
    state = states()
    state.generation(EXAMPLE)
    return state


@pytest.fixture
def ask(capsys):
    def ask(state, *words):
        code = main(["resolve", *words, "--state-dir", str(getattr(state, "path", state))])
        out, err = capsys.readouterr()
        return code, out, err

    return ask


def records(out):
    return [line for line in out.splitlines() if line and not line.startswith(";")]


ANSWERS = {
    "both families": (["web.shop.svc.cluster.local"], ["A 10.96.10.80", "AAAA fd00:10:96::a50"]),
    "one type": (["web.shop.svc.cluster.local", "AAAA"], ["AAAA fd00:10:96::a50"]),
    "type in small letters": (["web.shop.svc.cluster.local", "aaaa"], ["AAAA fd00:10:96::a50"]),
    "type by number": (["web.shop.svc.cluster.local", "TYPE1"], ["A 10.96.10.80"]),
    "capitals": (["WEB.Shop.SVC.cluster.local"], ["A 10.96.10.80", "AAAA fd00:10:96::a50"]),
    "headless": (["db.shop.svc.cluster.local.", "A"], ["A 10.128.0.21", "A 10.128.0.22"]),
    "endpoint": (["db-1.db.shop.svc.cluster.local", "A"], ["A 10.128.0.22"]),
    "alias inside": (
        ["storefront.shop.svc.cluster.local", "A"],
        ["CNAME web.shop.svc.cluster.local.", "A 10.96.10.80"],
    ),
    "alias outside": (["mail.shop.svc.cluster.local", "A"], ["CNAME smtp.example.com."]),
    "address": (["10.96.10.80"], ["PTR web.shop.svc.cluster.local."]),
    "address of an endpoint": (["10.128.0.21"], ["PTR db-0.db.shop.svc.cluster.local."]),
    "IPv6 address": (["fd00:10:96::a50"], ["PTR web.shop.svc.cluster.local."]),
    "reverse name": (["81.10.96.10.in-addr.arpa"], ["PTR web.blog.svc.cluster.local."]),
    "version": (["dns-version.cluster.local", "TXT"], ['TXT "1.1.0"']),
    "apex": (["cluster.local", "NS"], ["NS ns.dns.cluster.local."]),
}


@pytest.mark.parametrize(("words", "wanted"), ANSWERS.values(), ids=ANSWERS.keys())
def test_names_are_answered_from_disk(example, ask, words, wanted):
    code, out, err = ask(example, *words)
    assert code == 0
    assert err == ""
    rows = [line.split(" IN ", 1)[1] for line in records(out) if ";; additional" not in line]
    assert sorted(rows[: len(wanted)]) == sorted(wanted)


def test_ports_are_answered_with_their_addresses(example, ask):
    code, out, _ = ask(example, "_http._tcp.web.shop.svc.cluster.local")
    assert code == 0
    assert out.splitlines()[4:] == [
        ";; _http._tcp.web.shop.svc.cluster.local. SRV: NOERROR, authoritative",
        "_http._tcp.web.shop.svc.cluster.local. 5 IN SRV 0 50 80 web.shop.svc.cluster.local.",
        ";; additional",
        "web.shop.svc.cluster.local. 5 IN A 10.96.10.80",
        "web.shop.svc.cluster.local. 5 IN AAAA fd00:10:96::a50",
    ]


def test_age_generation_and_source_stand_above_the_answer(example, ask):
    _, out, _ = ask(example, "web.shop.svc.cluster.local", "A")
    first, second, third, *rest = out.splitlines()
    assert first == f"; nodens 0.1.0, from disk: generation 1 in {example.path}"
    assert second == "; age=30m 43s generation=1 source=kubernetes cluster=uid:1"
    assert third.startswith("; last confirmed by its source 20")
    assert third.endswith(" UTC")
    assert rest == [
        "",
        ";; web.shop.svc.cluster.local. A: NOERROR, authoritative",
        "web.shop.svc.cluster.local. 5 IN A 10.96.10.80",
    ]


NOT_THERE = {
    "no such service": ("wbe.shop.svc.cluster.local", "NXDOMAIN", "namespace shop has no Service wbe; it has web"),
    "no such namespace": ("web.shp.svc.cluster.local", "NXDOMAIN", "there is no namespace shp; there is shop"),
    "nothing like it": (
        "web.payments.svc.cluster.local",
        "NXDOMAIN",
        "there is no namespace payments in cluster.local",
    ),
    "no such endpoint": ("db-9.db.shop.svc.cluster.local", "NXDOMAIN", "namespace shop has a Service db, which has no"),
    "no data": ("db.shop.svc.cluster.local AAAA", "NOERROR, no data", "namespace shop has a Service db, which has no"),
    "a namespace": ("shop.svc.cluster.local", "NOERROR, no data", "shop is a namespace"),
    "a service alone": ("only", "NXDOMAIN", "only is a Service of namespace blog"),
    "nobody's address": ("10.9.9.9", "NXDOMAIN", ""),
    "another zone": ("example.com.", "REFUSED", "only names of own zones are answered: cluster.local"),
}


@pytest.mark.parametrize(("words", "status", "hint"), NOT_THERE.values(), ids=NOT_THERE.keys())
def test_without_an_answer_it_says_what_there_is(example, ask, words, status, hint):
    code, out, _ = ask(example, *words.split())
    assert code == 1
    assert records(out) == [line for line in records(out) if " SOA " in line]
    assert f": {status}" in out
    assert hint in out.splitlines()[-1]


def test_a_service_alone_that_several_namespaces_have_is_not_guessed(example, ask):
    code, out, _ = ask(example, "web")
    assert code == 1
    assert out.splitlines()[-2:] == ["; web is a Service of namespace blog", "; web is a Service of namespace shop"]


@pytest.mark.parametrize("name", ["web.shop", "web.shop.svc", "db-0.db.shop", "_http._tcp.web.shop"])
def test_short_names_are_completed_and_that_is_said(example, ask, name):
    code, out, _ = ask(example, name)
    assert code == 0
    full = name.removesuffix(".svc") + ".svc.cluster.local."
    assert f"; {name} is no name of an own zone as it stands: looked up as {full}" in out.splitlines()


@pytest.mark.parametrize("name", ["web.shop.svc.cluster.local", "web.shop.svc.cluster.local."])
def test_complete_names_are_not(example, ask, name):
    assert "looked up as" not in ask(example, name)[1]


def test_a_name_with_a_final_dot_is_never_completed(example, ask):
    code, out, _ = ask(example, "web.shop.")
    assert code == 1
    assert "looked up as" not in out
    assert ";; web.shop. A: REFUSED" in out


def test_every_zone_completes(states, ask):
    state = states(profile=Profile(zones=("cluster.local", "cluster.example")))
    state.generation(EXAMPLE)
    assert ask(state, "web.shop.svc.cluster.example", "A")[0] == 0
    assert "looked up as web.shop.svc.cluster.local." in ask(state, "web.shop", "A")[1]


def test_any_shows_every_type(example, ask):
    code, out, _ = ask(example, "web.shop", "ANY")
    assert code == 0
    assert {line.split()[3] for line in records(out)} == {"A", "AAAA", "SRV"}
    assert ask(example, "nothing.shop", "ANY")[0] == 1


def test_pods_are_answered_as_the_agent_would(states, ask):
    state = states(profile=Profile(pods="insecure", ttl_s=7))
    state.generation(EXAMPLE)
    assert records(ask(state, "10-1-2-3.shop.pod.cluster.local", "A")[1]) == [
        "10-1-2-3.shop.pod.cluster.local. 7 IN A 10.1.2.3"
    ]


def test_json_says_the_same_to_machines(example, ask):
    code, out, err = ask(example, "storefront.shop", "A", "--json")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    assert shown["name"] == "storefront.shop"
    assert shown["asked_for"] == "storefront.shop.svc.cluster.local."
    assert shown["completed"] is True
    (asked,) = shown["answers"]
    assert (asked["type"], asked["status"], asked["authoritative"]) == ("A", "NOERROR", True)
    assert asked["answer"] == [
        {
            "name": "storefront.shop.svc.cluster.local.",
            "ttl_s": 5,
            "type": "CNAME",
            "value": "web.shop.svc.cluster.local.",
        },
        {"name": "web.shop.svc.cluster.local.", "ttl_s": 5, "type": "A", "value": "10.96.10.80"},
    ]
    state = shown["state"]
    assert (state["generation"], state["journal_changes"], state["source"], state["cluster"]) == (
        1,
        0,
        "kubernetes",
        "uid:1",
    )
    assert 1843 <= state["age_s"] < 1900
    assert abs(time.time() - state["confirmed_unix_s"] - state["age_s"]) < 5
    code, out, _ = ask(example, "wbe.shop", "--json")
    assert code == 1
    assert json.loads(out)["hints"] == ["namespace shop has no Service wbe; it has web"]


# Which state ---------------------------------------------------------------------------------------------------------


def test_the_journal_counts(example, ask):
    example.change([*EXAMPLE, service("new", ips=("10.96.1.1",))], age_s=60)
    code, out, _ = ask(example, "new.shop", "A")
    assert code == 0
    assert "generation 1 and 1 later change from its journal" in out
    assert "age=1m" in out
    assert ask(example, "new.shop", "A", "--generation", "1")[0] == 1


def test_older_generations_and_copied_files_can_be_asked(example, ask, tmp_path):
    example.generation([namespace(), service("web", ips=("10.96.10.99",))])
    assert records(ask(example, "web.shop", "A")[1])[0].endswith("A 10.96.10.99")
    code, out, _ = ask(example, "web.shop", "A", "--generation", "1")
    assert records(out)[0].endswith("A 10.96.10.80")
    copy = tmp_path / "copy.nds"
    copy.write_bytes(example.file(1).read_bytes())
    copy.chmod(0o600)
    code, out, _ = ask(tmp_path / "nowhere", "web.shop", "A", "--generation", str(copy))
    assert code == 0
    assert f"generation 1 of {copy} in {copy}" in out
    assert records(out)[0].endswith("A 10.96.10.80")


def test_a_copied_file_is_held_to_the_same_rules(example, ask, tmp_path):
    copy = tmp_path / "copy.nds"
    copy.write_bytes(example.file(1).read_bytes()[:-1])
    copy.chmod(0o600)
    assert f"{copy} has" in ask(example, "web.shop", "--generation", str(copy))[2]
    copy.chmod(0o666)
    assert "can be written by others" in ask(example, "web.shop", "--generation", str(copy))[2]


def damage(path, offset=5000):
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def test_a_damaged_generation_is_told_and_the_one_before_it_answers(example, ask):
    example.generation([namespace(), service("web", ips=("10.96.10.99",))])
    damage(example.file(2))
    code, out, err = ask(example, "web.shop", "A")
    assert code == 0
    assert records(out)[0].endswith("A 10.96.10.80")
    assert "gen-2.nds is damaged: the digest of section" in err
    assert json.loads(ask(example, "web.shop", "A", "--json")[1])["state"]["notes"]


def test_without_any_valid_state_every_reason_is_told(example, ask):
    damage(example.file(1))
    code, out, err = ask(example, "web.shop")
    assert (code, out) == (1, "")
    assert err.startswith(f"nodens: there is no valid snapshot in {example.path}/snapshot:\n  ")
    assert "gen-1.nds is damaged" in err


def test_an_empty_place_says_what_to_do(ask, tmp_path):
    code, _, err = ask(tmp_path, "web.shop")
    assert code == 1
    assert "there is no valid snapshot" in err
    assert "Name the agent's state directory with --state-dir" in err


@pytest.mark.parametrize("which", ["7", "/nowhere/gen-1.nds", "gen-1.nds"])
def test_a_state_that_is_not_there_is_a_failure(example, ask, which):
    code, _, err = ask(example, "web.shop", "--generation", which)
    assert code == 1
    assert err.startswith("nodens: ")


def test_a_directory_others_may_write_to_is_not_trusted(example, ask):
    (example.path / "snapshot").chmod(0o777)
    code, _, err = ask(example, "web.shop")
    assert code == 1
    assert "can be written by others" in err
    assert "chmod go-w" in err


def test_answers_of_another_version_are_made_anew_from_the_objects(states, ask):
    state = states()
    section = b"another version." + msgspec.msgpack.encode(PROFILE)
    state.generation(EXAMPLE)
    wanted = ask(state, "db.shop", "A")[1]
    state.generation(EXAMPLE, sections={SECTION_PROFILE: section})
    code, out, err = ask(state, "db.shop", "A")
    assert code == 0
    assert records(out) == records(wanted)
    assert "its answers were made with another version: names were compiled anew" in err


def test_usage_errors_exit_2(example, capsys):
    for words in (["a..b"], ["x" * 64], ["web.shop", "FOO"], ["web", "A", "more"], [], ["web", "--generation", "foo"]):
        with pytest.raises(SystemExit) as ended:
            main(["resolve", *words, "--state-dir", str(example.path)])
        assert ended.value.code == 2
        assert "--help`" in capsys.readouterr().err


def test_the_help_teaches_by_example(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["resolve", "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "examples:\n  nodens resolve web.shop.svc.cluster.local" in out
    assert "Exit code 0 if there was an answer, 1 if not." in out


def test_hostile_names_do_not_leave_their_line(example, ask):
    code, out, _ = ask(example, "a\x1b[2J\nb.shop", "A")
    assert code == 1
    assert "\x1b" not in out
    assert all(line.startswith((";", "cluster.local. ")) or not line for line in out.splitlines())


def test_break_glass_needs_no_right_configuration_and_no_heavy_import(example, tmp_path):
    broken = tmp_path / "nodens.yaml"
    broken.write_text("nonsense: [")
    script = (
        "import json, sys; from agent.cli import main; code = main(sys.argv[1:]);"
        "print(json.dumps([code, sorted(set(sys.modules) & {'aiohttp', 'kubernetes', 'prometheus_client', 'yaml'})]))"
    )
    words = ["resolve", "web.shop", "A", "--config", str(broken), "--state-dir", str(example.path)]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []]


def test_the_state_directory_may_come_from_the_environment(example, monkeypatch, capsys):
    monkeypatch.setenv("NODENS_STATE_DIR", str(example.path))
    assert main(["resolve", "web.shop", "A"]) == 0
    assert records(capsys.readouterr().out)


def test_nothing_is_written(example, ask):
    before = {path: path.stat().st_mtime_ns for path in example.path.rglob("*")}
    ask(example, "web.shop")
    assert {path: path.stat().st_mtime_ns for path in example.path.rglob("*")} == before
    assert os.path.exists(example.path / "lock")


def test_every_name_of_a_realistic_cluster_is_answered_with_what_the_table_holds(states):
    state = states()
    state.generation(objects(Spec(services=60, endpoints=200, namespaces=6)))
    _compare_with_table(load(str(state.path)))


@pytest.mark.parametrize("seed", range(5))
def test_journals_of_random_changes_end_where_the_table_did(states, seed):
    rng, state, held = random.Random(seed), states(), {}
    state.generation([])
    for _ in range(20):
        for kind, key, stored in [random_change(rng) for _ in range(4)]:
            held.pop((kind, key), None)
            if stored is not None:
                held[kind, key] = stored
        state.change(held.values())
    found = load(str(state.path))
    assert found.changes > 10
    assert view.zone(found.table) == view.zone(state._table)
    assert {(kind, key): each.blob for (kind, key), each in found.objects().items()} == {
        name: each.blob for name, each in held.items()
    }
    _compare_with_table(found)


def _compare_with_table(held):
    zone = view.zone(held.table)
    assert len(zone) > 5
    for name, types in zone.items():
        if "CNAME" in types or name == "cluster.local.":
            continue
        for rtype, values in types.items():
            (asked,) = resolve(held, name, [type_number(rtype)]).asked
            assert sorted(row.value for row in asked.reply.answer) == values, name
            assert asked.reply.status == "NOERROR"


def test_options_that_can_not_be_read_are_taken_as_defaults(states, ask):
    state = states()
    state.generation(EXAMPLE, sections={SECTION_PROFILE: b"garbage"})
    code, _, err = ask(state, "web.shop", "A")
    assert code == 0
    assert "its options can't be read: zone cluster.local and defaults are taken" in err


def test_a_name_too_long_to_be_completed_is_looked_up_as_it_is(example, ask):
    name = ".".join(["x" * 50] * 4) + ".shop"
    code, out, _ = ask(example, name + ".svc.cluster.local", "A")
    assert (code, "NXDOMAIN" in out) == (1, True)
    code, out, _ = ask(example, ".".join(["x" * 60] * 4), "A")
    assert (code, "REFUSED" in out) == (1, True)


def test_special_names_are_answered_as_the_agent_would(example, ask):
    assert records(ask(example, "localhost", "A")[1]) == ["localhost. 10800 IN A 127.0.0.1"]


def test_objects_without_answers_are_enough(states, ask):
    state = states()
    state.generation(EXAMPLE, sections={SECTION_ANSWERS: None})
    code, _, err = ask(state, "web.shop", "A")
    assert code == 0
    assert "it has no answers: names were compiled anew" in err


def test_answers_without_objects_are_answered_but_give_no_hints(states, ask):
    state = states()
    state.generation([*EXAMPLE, endpoint_slice("web-1", "web", ["10.1.1.1"])], sections={SECTION_OBJECTS: None})
    assert ask(state, "web.shop", "A")[0] == 0
    code, out, _ = ask(state, "wbe.shop", "A")
    assert code == 1
    assert "there is" not in out

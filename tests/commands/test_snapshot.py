from __future__ import annotations

import json
import os
import random
import struct

import dns.zone
import pytest

from agent.cli import main
from agent.cluster.objects import decode_object
from agent.commands.manifests import manifest
from agent.commands.snapshot import overview
from agent.records.zone import Profile
from agent.snapshot.format import SECTION_ANSWERS, SECTION_OBJECTS, decode
from agent.sources import reader
from agent.sources.exchange import Done, Objects, Order
from agent.wire import node
from agent.wire.table import pack
from benchmarks.cluster_generator import Spec, objects
from tests import view
from tests.commands.states import EXAMPLE, PROFILE, States, endpoint_slice, namespace, service, stored
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
def run(capsys):
    def run(state, *words):
        code = main(["snapshot", *words, "--state-dir", str(getattr(state, "path", state))])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def flip(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


# list ------------------------------------------------------------------------------------------------------------


def test_list_shows_every_file_with_age_size_names_and_verdict(example, run):
    example.change([*EXAMPLE, service("new", ips=("10.96.1.1",))], age_s=65)
    example.generation(EXAMPLE, age_s=30)
    flip(example.file(2), 5000)
    code, out, _ = run(example, "list")
    assert code == 0
    head, *rows = [line.split("  ") for line in out.splitlines()]
    assert [cell.strip() for cell in head if cell] == (
        ["GENERATION", "WRITTEN", "CONFIRMED", "SIZE", "NAMES", "OBJECTS", "SOURCE", "VERDICT"]
    )
    rows = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert rows[0][:3] == ["2", "30s ago", "30s ago"]
    assert "is damaged: the digest of section" in rows[0][-1]
    names = str(len(list(example._table.items())))
    assert rows[1][:3] == ["1", "30m 43s ago", "30m 43s ago"]
    assert rows[1][-4:] == [names, str(len(EXAMPLE)), "kubernetes", "ok"]
    assert rows[2][0] == "journal 2"
    assert rows[3] == ["journal 1", "1m 5s ago", rows[3][2], "2 records", "ok"]


def test_list_as_json(example, run):
    code, out, _ = run(example, "list", "--json")
    shown = json.loads(out)
    (generation,) = shown["generations"]
    assert code == 0
    assert (generation["generation"], generation["valid"], generation["source"]) == (1, True, "kubernetes")
    assert (generation["cluster"], generation["objects"]) == ("uid:1", len(EXAMPLE))
    assert generation["bytes"] == example.file(1).stat().st_size
    assert [part["name"] for part in generation["parts"]] == ["header", "profile", "objects", "answers"]
    assert [journal["journal"] for journal in shown["journals"]] == [1]


def test_an_empty_directory_is_told(run, states):
    code, out, _ = run(states(), "list")
    assert code == 0
    assert "No generation in " in out
    code, _, err = run(states(), "verify")
    assert code == 1
    assert "there is no generation in" in err


def test_a_file_pruned_while_it_is_listed_is_listed_all_the_same(example, run, monkeypatch):
    def describe_and_prune(path, limits, describe=overview.describe):
        seen = describe(path, limits)
        example.file(1).unlink()
        return seen

    monkeypatch.setattr(overview, "describe", describe_and_prune)
    code, out, _ = run(example, "list")
    assert code == 0
    assert out.splitlines()[1].startswith("1 ")


def test_without_a_directory_everything_is_a_failure(run, tmp_path):
    for verb in (["list"], ["show"], ["verify"], ["export"], ["diff", "1", "2"]):
        code, out, err = run(tmp_path / "nowhere", *verb)
        assert (code, out) == (1, "")
        assert err.startswith("nodens: ")
        assert "Traceback" not in err


# verify ----------------------------------------------------------------------------------------------------------


def test_verify_reads_all_and_exits_0(example, run):
    example.change([*EXAMPLE, service("new", ips=("10.96.1.1",))])
    code, out, _ = run(example, "verify")
    assert code == 0
    assert "BAD" not in out
    assert [line.split()[0] for line in out.splitlines()] == ["ok", "header", "profile", "objects", "answers", "ok"]


def test_verify_names_the_section_and_the_bytes_of_every_flipped_byte(example, run):
    layout = decode(example.file(1).read_bytes())
    names = {1: "profile", 2: "objects", 3: "answers"}
    for number, (offset, length) in layout.sections.items():
        for at in (offset, offset + length // 2, offset + length - 1):
            flip(example.file(1), at)
            code, out, _ = run(example, "verify")
            assert code == 1
            assert (
                f"bytes {offset}-{offset + length}: is damaged: the digest of section {number} ({names[number]})" in out
            )
            assert out.startswith(f"BAD {example.file(1)}: is damaged: the digest of section {number}")
            flip(example.file(1), at)
    assert run(example, "verify")[0] == 0


@pytest.mark.parametrize("at", [0, 9, 40, 100, 4000, 4090])
def test_verify_finds_a_flipped_byte_of_the_header(example, run, at):
    flip(example.file(1), at)
    code, out, _ = run(example, "verify", "--json")
    assert code == 1
    shown = json.loads(out)
    assert shown["bad"] == 1
    assert [file["valid"] for file in shown["files"]] == [False, True]


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, -1])
def test_verify_finds_a_cut_file(example, run, length):
    content = example.file(1).read_bytes()
    example.file(1).write_bytes(content[:length])
    code, out, _ = run(example, "verify")
    assert code == 1
    assert "cut" in out


def test_a_journal_that_a_kill_left_unfinished_is_told_but_not_bad(example, run):
    example.change([*EXAMPLE, service("new", ips=("10.96.1.1",))])
    size = example.journal(1).stat().st_size
    with example.journal(1).open("ab") as journal:
        journal.write(b"\1" * 5)
    code, out, _ = run(example, "verify")
    assert code == 0
    assert f"bytes {size}-{size + 5}: stops after record 1, 5 bytes are left behind: the next record is cut" in out


def test_a_damaged_journal_is_bad(example, run):
    example.change([*EXAMPLE, service("new", ips=("10.96.1.1",))])
    flip(example.journal(1), example.journal(1).stat().st_size - 3)
    code, out, _ = run(example, "verify")
    assert code == 1
    assert f"BAD {example.journal(1)}: stops after record 0" in out
    flip(example.journal(1), 3)
    assert run(example, "verify")[0] == 1


def damaged_answers():
    good = node.encode(flags=1)
    return {
        "node cut": [(b"\1a\0", good[:-1])],
        "node lies": [(b"\1a\0", bytes((0, 9)) + good[2:])],
    }


def blob_damaged():
    """Answers whose last name claims to be longer than the section, or whose names are more than there are."""
    section = bytearray(list(pack([(b"\1a\0", node.encode(flags=1))], 1, 7))[-1])
    longer, more = bytearray(section), bytearray(section)
    longer[-16] = 200
    more[16:24] = (5).to_bytes(8, "little")
    return {"longer": bytes(longer), "more": bytes(more)}


@pytest.mark.parametrize("section", blob_damaged().values(), ids=blob_damaged().keys())
def test_answers_damaged_in_spite_of_their_checksums_harm_no_reader(states, run, section):
    state = states()
    state.generation(EXAMPLE)
    state.generation(EXAMPLE, sections={SECTION_ANSWERS: section})
    assert run(state, "verify")[0] == 1
    for words in (["show"], ["export", "--format", "zone"], ["diff", "2", "1"], ["diff", "1", "2"]):
        code, _, err = run(state, *words)
        assert "Traceback" not in err
        assert code in {0, 1}


@pytest.mark.parametrize("items", damaged_answers().values(), ids=damaged_answers().keys())
def test_verify_reads_every_node_though_checksums_are_right(states, run, items):
    state = states()
    state.generation(EXAMPLE, sections={SECTION_ANSWERS: list(pack(items, 1, 7))[-1]})
    code, out, _ = run(state, "verify")
    assert code == 1
    assert "the node of a. is damaged" in out
    assert run(state, "list")[0] == 0


@pytest.mark.parametrize(
    "sections",
    [
        {SECTION_OBJECTS: struct.pack("<QI", 1, 99) + b"x"},
        {SECTION_OBJECTS: struct.pack("<Q", 7)},
        {SECTION_OBJECTS: b""},
        {SECTION_ANSWERS: b""},
        {SECTION_ANSWERS: bytes(32)},
    ],
)
def test_verify_reads_every_object_though_checksums_are_right(states, run, sections):
    state = states()
    state.generation(EXAMPLE, sections=sections)
    code, out, _ = run(state, "verify")
    assert code == 1
    assert out.startswith("BAD ")
    assert "section" in out


def test_single_files_can_be_verified(example, run, tmp_path):
    example.generation(EXAMPLE)
    flip(example.file(2), 5000)
    assert run(example, "verify", "1")[0] == 0
    assert run(example, "verify", "latest")[0] == 1
    assert run(example, "verify", "1", "2")[0] == 1
    copy = tmp_path / "copy.nds"
    copy.write_bytes(example.file(1).read_bytes())
    copy.chmod(0o600)
    assert run(tmp_path, "verify", str(copy))[0] == 0
    code, out, _ = run(example, "verify", "9")
    assert code == 1
    assert "gen-9.nds does not exist" in out


# show ------------------------------------------------------------------------------------------------------------


def test_show_tells_header_sections_and_counts(example, run):
    example.change([*EXAMPLE, service("new", ips=("10.96.1.1",))], age_s=65)
    code, out, _ = run(example, "show")
    assert code == 0
    rows = {line[2:13].strip(): line[13:] for line in out.splitlines()[1:]}
    assert out.splitlines()[0] == f"Generation 1, and 1 later changes from its journal, in {example.path}"
    assert rows["source"] == "kubernetes, cluster uid:1"
    assert rows["confirmed"].endswith(", 1m 5s ago")
    assert rows["written"].endswith(", 30m 43s ago")
    assert rows["positions"] == "EndpointSlice later, Namespace later, Service later"
    assert rows["order"] == "epoch 0, format 1.0"
    assert rows["objects"] == "3 Namespace, 7 Service, 1 EndpointSlice"
    assert "2 CNAME" in rows["records"]
    assert rows["zones"].startswith("cluster.local. ")
    assert rows["options"] == "ttl 5 s, pods disabled"
    assert rows["section"].startswith("3 answers, bytes ")


def test_show_of_a_number_leaves_the_journal_out(example, run):
    example.change([*EXAMPLE, service("new", ips=("10.96.1.1",))])
    shown = json.loads(run(example, "show", "1", "--json")[1])
    assert (shown["journal_changes"], shown["objects"]["Service"]) == (0, 6)
    assert shown["positions"]["Service"] == "7"
    assert json.loads(run(example, "show", "--json")[1])["objects"]["Service"] == 7


def test_show_counts_are_those_of_the_table(example, run):
    shown = json.loads(run(example, "show", "--json")[1])
    zone = view.zone(example._table)
    assert sum(shown["names"].values()) == len(zone)
    wanted = {}
    for types in zone.values():
        for rtype, values in types.items():
            wanted[rtype] = wanted.get(rtype, 0) + len(values)
    assert shown["records"] == wanted
    assert shown["options"]["ns_addresses"] == ["a9fe140a"]


def test_show_tells_options_and_selection(states, run):
    profile = Profile(pods="verified", endpoint_pod_names=True, selection="shop||", ttl_s=9)
    state = states(profile=profile)
    state.generation(EXAMPLE)
    assert "ttl 9 s, pods verified, endpoint_pod_names, selection shop||" in run(state, "show")[1]


def test_one_name_is_shown_with_the_objects_it_comes_from(example, run):
    code, out, _ = run(example, "show", "--name", "db.shop")
    assert code == 0
    assert out.partition("\n\n")[2].splitlines() == [
        "db.shop.svc.cluster.local. 5 IN A 10.128.0.21",
        "db.shop.svc.cluster.local. 5 IN A 10.128.0.22",
        "db.shop.svc.cluster.local. 5 IN SRV 0 50 80 db-0.db.shop.svc.cluster.local.",
        "db.shop.svc.cluster.local. 5 IN SRV 0 50 80 db-1.db.shop.svc.cluster.local.",
        "Service shop/db",
        "  headless",
        "  port http 80/TCP",
        "EndpointSlice shop/db-1",
        "  port http 80/TCP",
        "  of service db",
        "  endpoint 10.128.0.21 (db-0)",
        "  endpoint 10.128.0.22 (db-1)",
    ]
    assert "Service shop/db" in run(example, "show", "--name", "db-0.db.shop")[1]
    shown = json.loads(run(example, "show", "--name", "10.96.10.80", "--json")[1])["name"]
    assert shown["records"][0]["value"] == "web.shop.svc.cluster.local."


def test_a_name_that_is_not_there_exits_1(example, run):
    code, out, _ = run(example, "show", "--name", "wbe.shop")
    assert code == 1
    assert out.splitlines()[-1] == "wbe.shop.svc.cluster.local. does not exist"
    code, out, _ = run(example, "show", "--name", "shop.svc.cluster.local")
    assert code == 1
    assert out.splitlines()[-1] == "shop.svc.cluster.local. has no records"


# export ----------------------------------------------------------------------------------------------------------


def read_back(path):
    messages = []
    end = reader.read(Order(str(path)), messages.append)
    assert isinstance(end, Done)
    assert (end.totals.skipped, end.totals.ignored, end.totals.replaced) == (0, 0, 0)
    return [each for message in messages if isinstance(message, Objects) for each in message.objects]


def test_an_export_read_as_a_source_gives_every_object_back(states, run, tmp_path):
    made = stored(objects(Spec(services=80, endpoints=300, namespaces=8)))
    state = states()
    state.generation(made)
    target = tmp_path / "cluster.json"
    code, out, err = run(state, "export", "--output", str(target))
    assert (code, out) == (0, "")
    assert err == f"{target}: generation 1\n"
    assert sorted(read_back(target)) == sorted(made)
    code, out, _ = run(state, "export")
    assert out == target.read_text()
    assert json.loads(out)["kind"] == "List"


@pytest.mark.parametrize("seed", range(20))
def test_any_object_survives_the_way_through_its_manifest(seed):
    rng = random.Random(seed)
    for _ in range(100):
        _, _, each = random_change(rng)
        if each is not None:
            assert decode_object(json.loads(json.dumps(manifest(each)))) == each


def test_the_journal_is_exported_too(example, run, tmp_path):
    example.change([namespace(), service("new", ips=("10.96.1.1",))])
    run(example, "export", "--output", str(tmp_path / "a.json"))
    assert [each.key for each in read_back(tmp_path / "a.json")] == ["shop", "shop/new"]
    run(example, "export", "1", "--output", str(tmp_path / "b.json"))
    assert len(read_back(tmp_path / "b.json")) == len(EXAMPLE)


def test_an_export_replaces_a_file_as_a_whole_or_not_at_all(states, run, tmp_path):
    state = states()
    state.generation(EXAMPLE)
    bad = [*stored(EXAMPLE), stored([service("zzz")])[0]._replace(blob=b"\xff")]
    state.generation(EXAMPLE, sections={SECTION_OBJECTS: _objects(bad)})
    target = tmp_path / "cluster.json"
    target.write_text("before")
    code, _, err = run(state, "export", "--output", str(target))
    assert code == 1
    assert "the Service shop/zzz can't be read" in err
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["cluster.json"]
    code, _, err = run(state, "export", "1", "--output", str(tmp_path / "no" / "x.json"))
    assert code == 1
    assert "can't be written: No such file or directory" in err


def _objects(items):
    from agent.snapshot.objects import encode_objects

    return list(encode_objects(items))[-1]


def test_a_zone_file_is_the_zone(states, run):
    state = states()
    state.generation(objects(Spec(services=60, endpoints=200, namespaces=6)))
    for origin in ("cluster.local.", "in-addr.arpa.", "ip6.arpa."):
        code, out, err = run(state, "export", "--format", "zone", "--zone", origin)
        assert (code, err) == (0, "")
        read = dns.zone.from_text(out, origin=origin, relativize=False, check_origin=False)
        found = {}
        for name, dataset in read.iterate_rdatasets():
            rtype = dns.rdatatype.to_text(dataset.rdtype)
            if rtype != "SOA":
                found.setdefault(name.to_text(), {})[rtype] = sorted(rdata.to_text() for rdata in dataset)
        wanted = {
            name: types for name, types in view.zone(state._table).items() if types and name.endswith("." + origin)
        }
        wanted |= {name: types for name, types in view.zone(state._table).items() if types and name == origin}
        assert found == wanted
        soa = read.get_soa()
        assert (soa.serial, soa.minimum) == (1, 5)


def test_what_was_refused_is_told_beside_the_export(two, run):
    flip(two.file(2), 5000)
    code, out, err = run(two, "export")
    assert code == 0
    assert len(json.loads(out)["items"]) == len(EXAMPLE)
    assert "gen-2.nds is damaged" in err


def test_hosts_have_every_address_under_every_name_a_pod_may_use(example, run):
    code, out, _ = run(example, "export", "--format", "hosts")
    assert code == 0
    head, *lines = out.splitlines()
    assert head == "# generation 1, zone cluster.local."
    assert "10.96.10.80\tweb.shop.svc.cluster.local web.shop.svc web.shop" in lines
    assert "fd00:10:96::a50\tweb.shop.svc.cluster.local web.shop.svc web.shop" in lines
    assert "10.128.0.22\tdb-1.db.shop.svc.cluster.local db-1.db.shop.svc db-1.db.shop" in lines
    assert "169.254.20.10\tns.dns.cluster.local" in lines
    assert not [line for line in lines if "storefront" in line]


def test_a_zone_that_is_not_ours_is_named_with_those_that_are(example, run):
    code, _, err = run(example, "export", "--format", "zone", "--zone", "example.com")
    assert code == 1
    assert "Those are cluster.local., in-addr.arpa., ip6.arpa." in err


# diff ------------------------------------------------------------------------------------------------------------

AFTER = [
    *[each for each in EXAMPLE if each["metadata"]["name"] not in {"only", "db", "db-1"}],
    service("db", ips=("None",)),
    endpoint_slice("db-1", "db", ["10.128.0.22", "10.128.0.23"], hostnames=["db-1", "db-2"]),
    service("new", ips=("10.96.1.1",), ports=()),
]


@pytest.fixture
def two(example):
    example.generation(AFTER)
    return example


def test_a_difference_is_told_in_words(two, run):
    code, out, _ = run(two, "diff", "1", "2")
    assert code == 0
    before, *names = out.split("\nnames:\n")
    lines = before.splitlines()
    assert lines[0] == "From generation 1 to generation 2"
    assert lines[1].startswith("names: 4 added, 5 removed, ")
    assert "Namespace objects: 0 added, 0 removed, 0 changed" in lines
    assert "Service objects: 1 added, 1 removed, 0 changed" in lines
    assert "namespace blog lost 1 of 2 Services (50 %)" in lines
    assert "- blog/only: cluster IP 10.96.10.82; port http 80/TCP" in lines
    assert "+ shop/new: cluster IP 10.96.1.1" in lines
    assert "~ shop/db-1: -endpoint 10.128.0.21 (db-0); +endpoint 10.128.0.23 (db-2)" in lines
    told = names[0].splitlines()
    assert "+ new.shop.svc.cluster.local.: A 10.96.1.1 (TTL 5)" in told
    assert "- db-0.db.shop.svc.cluster.local.: A 10.128.0.21 (TTL 5)" in told
    changed = next(line for line in told if line.startswith("~ db.shop.svc.cluster.local."))
    assert "-A 10.128.0.21 (TTL 5)" in changed
    assert "+A 10.128.0.23 (TTL 5)" in changed


def test_the_same_is_no_difference(two, run):
    assert run(two, "diff", "2")[1].splitlines()[2:] == [
        "Namespace objects: 0 added, 0 removed, 0 changed",
        "Service objects: 0 added, 0 removed, 0 changed",
        "EndpointSlice objects: 0 added, 0 removed, 0 changed",
    ]


def test_latest_takes_the_journal_in(two, run):
    two.change([*AFTER, service("newer", ips=("10.96.1.2",))])
    out = run(two, "diff", "2")[1]
    assert "From generation 2 to generation 2 and 1 later change from its journal" in out
    assert "+ shop/newer" in out


def test_a_difference_both_ways_is_the_opposite(two, run):
    there, back = (json.loads(run(two, "diff", *way, "--json")[1]) for way in (("1", "2"), ("2", "1")))
    assert there["names"]["added"] == back["names"]["removed"]
    assert there["names"]["removed"] == back["names"]["added"]
    assert {name: change["lost"] for name, change in there["names"]["changed"].items()} == {
        name: change["gained"] for name, change in back["names"]["changed"].items()
    }
    assert there["objects"]["Service"] == {
        "added": {"shop/new": ["cluster IP 10.96.1.1"]},
        "removed": {"blog/only": ["cluster IP 10.96.10.82", "port http 80/TCP"]},
        "changed": {},
    }
    assert (there["before"]["generation"], there["after"]["generation"]) == (1, 2)


@pytest.mark.parametrize("seed", range(5))
def test_a_difference_is_what_differs(states, run, seed):
    rng, state, zones = random.Random(seed), states(), []
    for _ in range(2):
        held = {}
        for kind, key, each in [random_change(rng) for _ in range(30)]:
            if each is not None:
                held[kind, key] = each
        state.generation(held.values())
        zones.append({name: types for name, types in view.zone(state._table).items() if types})
    names = json.loads(run(state, "diff", "1", "2", "--json")[1])["names"]
    before, after = zones
    assert names["added"].keys() == after.keys() - before.keys()
    assert names["removed"].keys() == before.keys() - after.keys()
    assert names["changed"].keys() == {name for name in before.keys() & after.keys() if before[name] != after[name]}


def test_what_is_cut_is_counted(states, run):
    state = states()
    state.generation([namespace()])
    state.generation([namespace(), *(service(f"s{n:02}", ips=(f"10.96.2.{n}",)) for n in range(50))])
    out = run(state, "diff", "1", "2", "--limit", "10")[1]
    assert out.count("+ shop/s") == 10
    assert "  … and 40 more (--limit 0 shows all)" in out
    assert run(state, "diff", "1", "2", "--limit", "0")[1].count("+ shop/s") == 50


def test_other_options_and_another_cluster_are_told(states, run, tmp_path):
    one, other = states(), states(profile=Profile(ttl_s=30, ns_addresses=PROFILE.ns_addresses), identity="uid:2")
    one.generation(EXAMPLE)
    other.generation(EXAMPLE)
    out = run(one, "diff", "1", str(other.file(1)))[1]
    assert "ANOTHER CLUSTER: uid:1 before, uid:2 after" in out
    assert "option ttl_s: 5 before, 30 after" in out
    assert "-A 10.96.10.80 (TTL 5); " in out


def test_a_damaged_node_is_a_failure_of_diff(states, run):
    state = states()
    state.generation(EXAMPLE)
    state.generation(EXAMPLE, sections={SECTION_ANSWERS: list(pack(damaged_answers()["node cut"], 1, 7))[-1]})
    code, _, err = run(state, "diff", "1", "2")
    assert code == 1
    assert "the node of a. is damaged" in err


def test_a_damaged_side_is_a_failure(two, run):
    flip(two.file(1), 5000)
    code, out, err = run(two, "diff", "1", "2")
    assert (code, out) == (1, "")
    assert "gen-1.nds is damaged" in err


# Command line -------------------------------------------------------------------------------------------------------


WRONG = (
    "",
    "frob",
    "show foo",
    "diff",
    "diff 1 2 3",
    "export --format xml",
    "show 9999999999999999999",
    "show --name a..b",
)


@pytest.mark.parametrize("words", WRONG)
def test_wrong_usage_exits_2(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["snapshot", *words.split()])
    assert ended.value.code == 2
    assert "--help`" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["", "list", "show", "verify", "export", "diff"])
def test_help_is_there_for_every_verb(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["snapshot", *([verb] if verb else []), "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "--state-dir DIR" in out if verb else "examples:\n  nodens snapshot list" in out


def test_nothing_is_written_and_no_lock_is_needed(two, run):
    before = {path: path.stat().st_mtime_ns for path in two.path.rglob("*")}
    for words in (["list"], ["verify"], ["show"], ["export"], ["diff", "1", "2"]):
        assert run(two, *words)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in two.path.rglob("*")} == before


def test_links_and_pipes_in_the_directory_harm_nobody(example, run, tmp_path):
    os.mkfifo(example.file(7))
    example.file(8).symlink_to(example.file(1))
    code, out, _ = run(example, "list")
    assert code == 0
    assert "is not a regular file" in out
    assert "is a symbolic link" in out
    assert run(example, "verify")[0] == 1
    assert run(example, "show")[0] == 0


def test_hostile_text_in_a_header_stays_on_its_line(states, run):
    state = states(identity="uid:\x1b[2J\n1\n")
    state.generation(EXAMPLE)
    for words in (["list"], ["show"], ["verify"], ["diff", "1", "1"]):
        out = run(state, *words)[1]
        assert "\x1b" not in out
        assert "\n1\n" not in out

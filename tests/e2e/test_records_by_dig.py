"""Every kind of record and every courtesy of the protocol, as a person with dig sees it, from the example's cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from agent import __version__
from benchmarks.cluster_generator import objects
from tests.agent_process import Agent
from tests.control_plane.nasty_cases import endpoint, port, service, slice_
from tests.e2e.conftest import SPEC
from tests.e2e.dig import Dig, Record

Z = "cluster.local"
SHOP = f"shop.svc.{Z}"
WEB = f"web.{SHOP}"
SOA = re.compile(r"ns\.dns\.cluster\.local\. hostmaster\.cluster\.local\. \d+ 7200 1800 86400 5")


@pytest.fixture(scope="module")
def served(start_shared: Callable[..., Agent], tmp_path_factory: pytest.TempPathFactory) -> Agent:
    """The example, and one headless service of 120 endpoints, more than fits into UDP."""
    http = port("http", 80)
    wide = [endpoint(f"10.250.0.{number}") for number in range(1, 121)]
    more = [service("wide", http, namespace="shop"), slice_("wide", 1, [http], *wide, namespace="shop")]
    path = tmp_path_factory.mktemp("records") / "cluster.json"
    path.write_text(json.dumps({"kind": "List", "items": [*objects(SPEC), *more]}))
    agent = start_shared(path, identity="node-7.example")
    agent.wait_connected()
    return agent


@pytest.fixture
def ask(dig: str, served: Agent) -> Dig:
    return Dig(dig, served.port)


@pytest.mark.parametrize(
    ("words", "rdata"),
    [
        ((WEB, "A"), {"10.96.10.80"}),
        ((WEB, "AAAA"), {"fd00:10:96::a50"}),
        ((f"idle.{SHOP}",), {"10.96.10.83"}),
        ((f"kubernetes.default.svc.{Z}",), {"10.96.0.1"}),
        ((f"db.{SHOP}", "A"), {"10.128.0.21", "10.128.0.22", "10.128.0.23"}),
        ((f"db.{SHOP}", "AAAA"), {"fd00:10:128::15", "fd00:10:128::16", "fd00:10:128::17"}),
        ((f"workers.{SHOP}", "A"), {"10.128.0.24", "10.128.0.25"}),
        ((f"db-1.db.{SHOP}", "A"), {"10.128.0.22"}),
        ((f"db-1.db.{SHOP}", "AAAA"), {"fd00:10:128::16"}),
        ((f"10-128-0-24.workers.{SHOP}", "A"), {"10.128.0.24"}),
        ((f"_http._tcp.{WEB}", "SRV"), {f"0 50 80 {WEB}."}),
        ((f"_dns._udp.kube-dns.kube-system.svc.{Z}", "SRV"), {f"0 100 53 kube-dns.kube-system.svc.{Z}."}),
        ((WEB, "SRV"), {f"0 25 80 {WEB}.", f"0 25 443 {WEB}."}),
        ((f"_grpc._tcp.workers.{SHOP}", "SRV"), {f"0 50 9000 10-128-0-2{n}.workers.{SHOP}." for n in (4, 5)}),
        ((f"mail.{SHOP}", "CNAME"), {"smtp.example.com."}),
        ((f"mail.{SHOP}", "A"), {"smtp.example.com."}),
        ((f"storefront.{SHOP}", "CNAME"), {f"{WEB}."}),
        (("-x", "10.96.10.80"), {f"{WEB}."}),
        (("-x", "fd00:10:96::a50"), {f"{WEB}."}),
        (("-x", "10.128.0.22"), {f"db-1.db.{SHOP}."}),
        (("-x", "fd00:10:128::16"), {f"db-1.db.{SHOP}."}),
        (("-x", "10.128.0.24"), {f"10-128-0-24.workers.{SHOP}."}),
        ((f"dns-version.{Z}", "TXT"), {'"1.1.0"'}),
        ((Z, "NS"), {f"ns.dns.{Z}."}),
        ((f"ns.dns.{Z}", "A"), {"127.0.0.1"}),
        (("localhost", "A"), {"127.0.0.1"}),
        (("db.localhost", "AAAA"), {"::1"}),
        (("-x", "127.0.0.1"), {"localhost."}),
        (("-x", "::1"), {"localhost."}),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_a_name_answers_with_its_records(ask: Dig, words: tuple[str, ...], rdata: set[str]):
    said = ask(*words)
    assert (said.status, said.rdata) == ("NOERROR", rdata)
    assert {"qr", "aa", "rd"} <= said.flags
    assert not {"ra", "ad", "tc"} & said.flags


@pytest.mark.parametrize(
    ("words", "ttl_s"), [((WEB,), 5), ((f"dns-version.{Z}", "TXT"), 28800), (("-x", "10.96.10.80"), 5), ((Z, "SOA"), 5)]
)
def test_ttls(ask: Dig, words: tuple[str, ...], ttl_s: int):
    assert {record.ttl_s for record in ask(*words).answer} == {ttl_s}


def test_srv_brings_the_addresses_of_its_targets(ask: Dig):
    said = ask(f"_postgres._tcp.db.{SHOP}", "SRV")
    assert {record.rdata for record in said.answer} == {f"0 16 5432 db-{n}.db.{SHOP}." for n in range(3)}
    assert {record[:1] + record[2:] for record in said.additional} == {
        *((f"db-{n}.db.{SHOP}", "A", f"10.128.0.2{n + 1}") for n in range(3)),
        *((f"db-{n}.db.{SHOP}", "AAAA", f"fd00:10:128::1{n + 5}") for n in range(3)),
    }


def test_an_alias_inside_the_zone_is_followed_to_its_end(ask: Dig):
    said = ask(f"storefront.{SHOP}", "A")
    assert said.answer == [
        Record(f"storefront.{SHOP}", 5, "CNAME", f"{WEB}."),
        Record(WEB, 5, "A", "10.96.10.80"),
    ]
    nothing = ask(f"storefront.{SHOP}", "TXT")
    assert [record.type for record in nothing.answer] == ["CNAME"]
    assert [record.type for record in nothing.authority] == ["SOA"]


@pytest.mark.parametrize(
    "words",
    [
        (Z, "A"),
        (f"svc.{Z}",),
        (f"shop.svc.{Z}",),
        (f"kube-public.svc.{Z}",),
        (f"_tcp.{WEB}",),
        (f"_tcp.{WEB}", "SRV"),
        (WEB, "TXT"),
        (WEB, "TYPE4711"),
        (WEB, "TYPE65281"),
        (f"cache.{SHOP}", "AAAA"),
        (f"_http._tcp.{WEB}", "A"),
        (f"dns-version.{Z}", "A"),
        (f"dns.{Z}",),
    ],
    ids=" ".join,
)
def test_a_name_without_such_data_exists_all_the_same(ask: Dig, words: tuple[str, ...]):
    said = ask(*words)
    assert said.kind == "NODATA"
    assert [(record.name, record.type, record.ttl_s) for record in said.authority] == [(Z, "SOA", 5)]
    assert SOA.fullmatch(said.authority[0].rdata)


@pytest.mark.parametrize(
    "name",
    [
        f"nowhere.{SHOP}",
        f"web.nowhere.svc.{Z}",
        f"nowhere.svc.{Z}",
        f"nothing.{Z}",
        f"drained.{SHOP}",
        f"_nope._tcp.{WEB}",
        f"_http._udp.{WEB}",
        f"db-3.db.{SHOP}",
        f"10-128-0-26.workers.{SHOP}",
        f"x.db-1.db.{SHOP}",
        f"*.{SHOP}",
        f"10-128-0-24.shop.pod.{Z}",
        f"pod.{Z}",
    ],
)
def test_a_name_that_is_not_there_is_denied_with_the_soa(ask: Dig, name: str):
    said = ask(name)
    assert said.status == "NXDOMAIN"
    assert "aa" in said.flags
    assert [(record.name, record.type) for record in said.authority] == [(Z, "SOA")]


def test_an_unready_endpoint_has_no_reverse_name(ask: Dig):
    assert ask("-x", "10.128.0.26").status == "NXDOMAIN"


def test_serial_of_the_soa_is_the_generation(ask: Dig, served: Agent):
    served.wait_state("a generation", lambda state: state["snapshot"]["generation"] >= 1)
    (soa,) = ask(Z, "SOA").rdata
    assert SOA.fullmatch(soa)
    assert int(soa.split()[2]) == served.state()["snapshot"]["generation"]
    assert ask(f"nothing.{Z}").authority[0].rdata == soa


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("version.bind", "TXT", "CH"), f"nodens {__version__}"),
        (("version.server", "TXT", "CH"), f"nodens {__version__}"),
        (("id.server", "TXT", "CH"), "node-7.example"),
        (("hostname.bind", "TXT", "CH"), "node-7.example"),
    ],
    ids=lambda words: words[0],
)
def test_who_is_it_that_answers(ask: Dig, words: tuple[str, ...], text: str):
    assert ask(*words).rdata == {f'"{text}"'}


def test_the_state_of_the_answers_is_one_question_away(ask: Dig):
    (words,) = ask("status.nodens", "TXT", "CH").rdata
    assert re.fullmatch(r'"generation=\d+ age=\d+s state=fresh source=following"', words)


def test_nsid_is_told_to_those_who_ask(ask: Dig):
    assert '("node-7.example")' in ask(WEB, "+nsid").text
    assert "NSID" not in ask(WEB).text


def test_the_question_comes_back_letter_by_letter_and_case_does_not_count(ask: Dig):
    mixed = "wEb.SHOP.Svc.cLUSTER.LocaL"
    said = ask(mixed, "A")
    assert said.question == (f"{mixed}.", "IN", "A")
    assert said.rdata == {"10.96.10.80"}
    assert [record.name for record in said.answer] == [mixed]


def test_any_gets_one_rrset(ask: Dig):
    said = ask(WEB, "ANY", "+notcp")
    assert len({record.type for record in said.answer}) == 1


def test_a_large_answer_is_cut_over_udp_and_whole_over_tcp(ask: Dig):
    wide = f"wide.{SHOP}"
    everything = {f"10.250.0.{number}" for number in range(1, 121)}
    for words in (("+bufsize=512",), ("+noedns",), ()):
        cut = ask(wide, "A", "+ignore", *words)
        assert ("tc" in cut.flags, cut.answer) == (True, []), words
        again = ask(wide, "A", *words)
        assert "Truncated, retrying in TCP mode" in again.text
        assert again.rdata == everything
    over_tcp = ask(wide, "A", "+tcp")
    assert over_tcp.rdata == everything
    assert "(TCP)" in over_tcp.text


def test_addresses_that_fit_without_their_additional_part_are_not_cut(ask: Dig):
    said = ask(f"_postgres._tcp.db.{SHOP}", "SRV", "+bufsize=512", "+ignore")
    assert len(said.answer) == 3
    assert "tc" not in said.flags


def test_without_edns_there_is_none_in_the_reply(ask: Dig):
    said = ask(WEB, "+noedns")
    assert said.rdata == {"10.96.10.80"}
    assert "EDNS" not in said.text
    assert "EDNS: version: 0, flags:; udp: 1232" in ask(WEB).text
    assert "EDNS: version: 0, flags: do; udp: 1232" in ask(WEB, "+dnssec").text


def test_an_unknown_edns_version_is_told_ours(ask: Dig):
    said = ask(WEB, "+edns=1", "+noednsnegotiation")
    assert said.status == "BADVERS"
    assert said.answer == []


def test_several_questions_on_one_connection(ask: Dig):
    text = ask.text("+tcp", "+keepopen", WEB, "A", "+tcp", f"db-0.db.{SHOP}", "A", "+tcp", f"x.{SHOP}", "A", "+tcp")
    assert re.findall(r"status: (\w+)", text) == ["NOERROR", "NOERROR", "NXDOMAIN"]


def test_addresses_take_turns_at_the_front(ask: Dig):
    firsts = {ask(f"db.{SHOP}", "A").answer[0].rdata for _ in range(12)}
    assert len(firsts) > 1


@pytest.mark.parametrize("name", ["example.com", "smtp.example.com", "com", "local", "8.8.8.8.in-addr.arpa"])
def test_names_that_are_not_ours_are_refused_and_say_why(ask: Dig, name: str):
    said = ask(name, "PTR" if name.endswith("arpa") else "A")
    assert (said.status, said.answer) == ("REFUSED", [])
    assert said.extended_error.startswith("20 (Not Authoritative)")


@pytest.mark.parametrize("name", ["invalid", "x.test", "duckduckgo.onion", "x.alt", "printer.home.arpa", "9.9.168.192.in-addr.arpa"])  # fmt: skip  # noqa: E501
def test_special_names_never_leave_the_node(ask: Dig, name: str):
    said = ask(name)
    assert said.status == "NXDOMAIN"
    assert [record.type for record in said.authority] == ["SOA"]


def test_zone_transfers_are_refused(ask: Dig):
    assert "Transfer failed." in ask.text(Z, "AXFR")


@pytest.fixture(scope="module")
def of_two_zones(start_shared: Callable[..., Agent], tmp_path_factory: pytest.TempPathFactory) -> Agent:
    path = tmp_path_factory.mktemp("zones") / "cluster.json"
    path.write_text(json.dumps({"kind": "List", "items": list(objects(SPEC))}))
    agent = start_shared(path, zones=["cluster.local", "prod.example"], pods="insecure")
    agent.wait_connected()
    return agent


@pytest.mark.parametrize("zone", ["cluster.local", "prod.example"])
def test_each_of_two_zones_has_all_names(of_two_zones: Agent, dig: str, zone: str):
    ask = Dig(dig, of_two_zones.port)
    assert ask(f"web.shop.svc.{zone}").rdata == {"10.96.10.80"}
    (srv,) = ask(f"_http._tcp.web.shop.svc.{zone}", "SRV").rdata
    assert srv.endswith(f" 80 web.shop.svc.{zone}.")
    assert ask(f"shop.svc.{zone}").kind == "NODATA"
    gone = ask(f"gone.shop.svc.{zone}")
    assert (gone.status, gone.authority[0].name) == ("NXDOMAIN", zone)
    assert ask(zone, "NS").rdata == {f"ns.dns.{zone}."}
    assert ask("-x", "10.96.10.80").rdata == {"web.shop.svc.cluster.local."}


def test_insecure_pod_names_are_their_own_address_in_any_namespace_that_exists(of_two_zones: Agent, dig: str):
    ask = Dig(dig, of_two_zones.port)
    assert ask("10-9-8-7.shop.pod.cluster.local").rdata == {"10.9.8.7"}
    assert ask("fd00--1.shop.pod.prod.example", "AAAA").rdata == {"fd00::1"}
    assert ask("10-9-8-7.shop.pod.cluster.local", "AAAA").kind == "NODATA"
    assert ask("10-9-8-7.nowhere.pod.cluster.local").status == "NXDOMAIN"
    assert ask("shop.pod.cluster.local").kind == "NODATA"


def test_verified_pod_names_are_those_of_known_endpoints(start_agent: Callable[..., Agent], cluster, dig: str):
    agent = start_agent(cluster, pods="verified")
    agent.wait_connected()
    ask = Dig(dig, agent.port)
    assert ask("10-128-0-21.shop.pod.cluster.local").rdata == {"10.128.0.21"}
    assert ask("fd00-10-128--15.shop.pod.cluster.local", "AAAA").rdata == {"fd00:10:128::15"}
    assert ask("10-128-0-21.default.pod.cluster.local").status == "NXDOMAIN"
    assert ask("10-9-8-7.shop.pod.cluster.local").status == "NXDOMAIN"

"""The real agent in front of real upstreams, asked with dig: all other names, alive and dead."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.agent_process import Agent
from tests.e2e.dig import Dig
from tests.forward.servers import Nsd, Unbound, certificate

RECORDS = [
    "www.example.com. 60 IN A 192.0.2.1",
    "www.example.com. 60 IN AAAA 2001:db8::1",
    "alias.example.com. 60 IN CNAME www.example.com.",
    "evil.example.com. 60 IN CNAME web.shop.svc.cluster.local.",
    "lost.example.com. 60 IN CNAME gone.shop.svc.cluster.local.",
    *(f"big.example.com. 60 IN A 198.51.100.{n}" for n in range(200)),
]
CLUSTER = """{"kind": "List", "apiVersion": "v1", "items": [
{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
 "spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [{"port": 80, "name": "http"}]}},
{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ext", "namespace": "shop"},
 "spec": {"type": "ExternalName", "externalName": "www.example.com"}},
{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "away", "namespace": "shop"},
 "spec": {"type": "ExternalName", "externalName": "no.example.com"}},
{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "round", "namespace": "shop"},
 "spec": {"type": "ExternalName", "externalName": "evil.example.com"}}]}"""
WEB = "web.shop.svc.cluster.local"
PLANES = pytest.mark.parametrize("plane", ["compiled", "python"])


@pytest.fixture
def unbound(tmp_path: Path):
    root = tmp_path / "unbound"
    root.mkdir()
    with Unbound(root, RECORDS) as running:
        yield running


@pytest.fixture
def start(start_agent: Callable[..., Agent], tmp_path: Path, dig: str):
    """Start an agent that forwards: (plane, **options) → agent and a dig for it."""
    source = tmp_path / "small.json"
    source.write_text(CLUSTER)

    def run(plane: str = "compiled", **options: Any) -> tuple[Agent, Dig]:
        environ = {**options.pop("environ", {}), **({"NODENS_NO_EXT": "1"} if plane == "python" else {})}
        agent = start_agent(source, environ=environ, **options)
        agent.wait_connected()
        return agent, Dig(dig, agent.port)

    return run


def at(*servers: Any) -> list[str]:
    return [f"127.0.0.1:{server.port}" for server in servers]


@PLANES
def test_names_of_no_own_zone_are_answered_by_the_upstream(start, unbound, plane):
    _, ask = start(plane, upstream=at(unbound))
    said = ask("www.example.com")
    assert (said.status, said.rdata) == ("NOERROR", {"192.0.2.1"})
    assert said.flags == {"qr", "rd", "ra"}
    assert ask("WwW.eXaMpLe.CoM").question[0] == "WwW.eXaMpLe.CoM."
    assert ask("www.example.com", "AAAA").rdata == {"2001:db8::1"}
    assert ask("+tcp", "www.example.com").rdata == {"192.0.2.1"}
    assert ask("+noedns", "www.example.com").rdata == {"192.0.2.1"}
    assert [record.type for record in ask("alias.example.com").answer] == ["CNAME", "A"]
    gone = ask("no.example.com")
    assert (gone.status, [record.type for record in gone.authority]) == ("NXDOMAIN", ["SOA"])
    assert ask("www.example.com", "TXT").kind == "NODATA"
    assert len(ask("big.example.com").answer) == 200
    assert ask(WEB).rdata == {"10.96.0.7"}


@PLANES
def test_external_names_lead_out_and_back(start, unbound, plane):
    _, ask = start(plane, upstream=at(unbound))
    said = ask("ext.shop.svc.cluster.local")
    assert [(record.type, record.rdata) for record in said.answer] == [
        ("CNAME", "www.example.com."),
        ("A", "192.0.2.1"),
    ]
    assert "aa" in said.flags
    assert ask("ext.shop.svc.cluster.local", "TXT").kind == "NOERROR"
    away = ask("away.shop.svc.cluster.local")
    assert (away.status, [record.type for record in away.answer]) == ("NXDOMAIN", ["CNAME"])
    back = ask("round.shop.svc.cluster.local")
    assert [record.rdata for record in back.answer] == ["evil.example.com.", f"{WEB}.", "10.96.0.7"]


@PLANES
def test_an_upstream_speaks_for_no_name_of_an_own_zone(start, tmp_path, plane):
    root = tmp_path / "liar"
    root.mkdir()
    liar = Unbound(
        root,
        [*RECORDS, f"{WEB}. 60 IN A 203.0.113.66", "gone.shop.svc.cluster.local. 60 IN A 203.0.113.66"],
        ("example.com", "cluster.local"),
    )
    with liar:
        _, ask = start(plane, upstream=at(liar))
        said = ask("evil.example.com")
        assert [record.rdata for record in said.answer] == [f"{WEB}.", "10.96.0.7"]
        lost = ask("lost.example.com")
        assert (lost.status, [record.type for record in lost.answer]) == ("NXDOMAIN", ["CNAME"])
        assert ask(WEB).rdata == {"10.96.0.7"}
        assert ask("gone.shop.svc.cluster.local").status == "NXDOMAIN"


@PLANES
def test_upstream_dead_then_restarted_without_it(start, unbound, plane):
    agent, ask = start(plane, upstream=at(unbound), cache={"save_every": "1s"}, forward={"timeout": "2s"})
    assert ask("www.example.com").status == "NOERROR"
    assert ask("no.example.com").status == "NXDOMAIN"
    agent.wait_state("the cache on disk", lambda state: state["cache"]["writes"] >= 1, timeout_s=20)
    unbound.stop()
    began_s = time.monotonic()
    never = ask("+tries=1", "+time=8", "never.example.com")
    assert never.status == "SERVFAIL"
    assert never.extended_error.startswith(("22 ", "23 "))
    assert time.monotonic() - began_s < 6
    assert ask(WEB).rdata == {"10.96.0.7"}
    agent.kill()
    agent.start()
    agent.wait_answering()
    agent.wait_state("answers restored", lambda state: state["cache"]["restored"] >= 2)
    said = ask("www.example.com")
    assert said.rdata == {"192.0.2.1"}
    assert ask("+tries=1", "+time=8", "never.example.com").status == "SERVFAIL"


@PLANES
def test_past_its_ttl_it_is_stale_with_ttl_30_and_ede_3(start, unbound, plane):
    agent, ask = start(plane, upstream=at(unbound), cache={"save_every": "1s", "max_ttl": "2s"})
    ask("www.example.com")
    ask("no.example.com")
    agent.wait_state("the cache on disk", lambda state: state["cache"]["writes"] >= 1, timeout_s=20)
    unbound.stop()
    for _ in range(2):
        time.sleep(2.1)
        said = ask("www.example.com")
        assert [(record.ttl_s, record.rdata) for record in said.answer] == [(30, "192.0.2.1")]
        assert said.extended_error.startswith("3 (Stale Answer)")
        agent.kill()
        agent.start()
        agent.wait_answering()


def test_a_stub_domain_goes_to_its_own_server(start, unbound, tmp_path):
    root = tmp_path / "nsd"
    root.mkdir()
    zones = {
        "corp.example": ["db 60 IN A 10.9.9.9", "out 60 IN CNAME www.example.com.", 'deep.sub 60 IN TXT "x"'],
        "10.in-addr.arpa": ["9.9.9 60 IN PTR db.corp.example."],
    }
    with Nsd(root, zones) as nsd:
        stubs = [f"{zone}=127.0.0.1:{nsd.port}" for zone in zones]
        _, ask = start(upstream=at(unbound), stub_domains=stubs)
        assert ask("db.corp.example").rdata == {"10.9.9.9"}
        assert ask("sub.corp.example").kind == "NODATA"
        assert ask("no.corp.example").status == "NXDOMAIN"
        # NSD knows nothing of where its alias leads; the chain is followed by the agent.
        assert [record.rdata for record in ask("out.corp.example").answer] == ["www.example.com.", "192.0.2.1"]
        # A stub domain goes before special names (RFC 6303), an own name before both.
        assert ask("-x", "10.9.9.9").rdata == {"db.corp.example."}
        assert ask("-x", "10.96.0.7").rdata == {f"{WEB}."}


def test_special_names_stay_on_the_node(start, unbound):
    agent, ask = start(upstream=at(unbound))
    assert ask("localhost").rdata == {"127.0.0.1"}
    assert ask("a.test").status == "NXDOMAIN"
    assert ask("-x", "192.168.1.1").status == "NXDOMAIN"
    assert agent.state()["forward"]["questions"] == 0


def test_over_tls_the_certificate_is_checked(start, tmp_path):
    root = tmp_path / "tls"
    root.mkdir()
    cert, key = certificate(root, "dns.example")
    tls = f'tls-service-key: "{key}"\n  tls-service-pem: "{cert}"\n  tls-port: {{port}}\n  do-udp: no'

    class Tls(Unbound):
        def _is_answering(self) -> bool:
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", self.port)) == 0

    with Tls(root, RECORDS, tls=tls) as server:
        target = f"tls://127.0.0.1:{server.port}"
        _, ask = start(upstream=[f"{target}#dns.example"], environ={"SSL_CERT_FILE": str(cert)})
        assert ask("www.example.com").rdata == {"192.0.2.1"}
        _, ask = start(upstream=[f"{target}#other.example"], environ={"SSL_CERT_FILE": str(cert)})
        assert ask("www.example.com").extended_error.startswith("23 ")
        _, ask = start(upstream=[f"{target}#dns.example"])
        assert ask("www.example.com").status == "SERVFAIL"


def test_switched_off_all_other_names_are_refused(start):
    _, ask = start(upstream="none")
    said = ask("www.example.com")
    assert (said.status, said.extended_error[:2]) == ("REFUSED", "20")


def test_a_reload_changes_the_upstream(start, unbound, tmp_path):
    agent, ask = start(upstream="none")
    assert ask("www.example.com").status == "REFUSED"
    agent.configure({**json.loads(agent.config.read_text()), "upstream": at(unbound)})
    agent.child.signal(signal.SIGHUP)
    agent.wait_told("reloaded: upstream")
    assert ask("www.example.com").rdata == {"192.0.2.1"}


def test_the_agent_never_asks_itself(nodens, tmp_path):
    config = tmp_path / "self.yaml"
    config.write_text("listen: [0.0.0.0:5300]\nupstream: [127.0.0.1:5300]\nsource: file:x.json\n")
    refused = nodens("serve", "--config", config, "--state-dir", tmp_path / "s")
    assert refused.returncode == 2
    assert "the agent itself serves on" in refused.stderr


def test_a_loop_through_another_server_is_found_and_refused(start, tmp_path):
    """The upstream forwards to the agent: without a check every question would go round until it times out."""
    root = tmp_path / "loop"
    root.mkdir()
    agent, ask = start(upstream="none")
    with Unbound(root, RECORDS) as unbound:
        text = unbound._config.read_text()
        forward = f'\nforward-zone:\n  name: "."\n  forward-addr: 127.0.0.1@{agent.port}\n'
        text = text.replace("remote-control:", "  do-not-query-localhost: no\nremote-control:") + forward
        unbound.stop()
        unbound._config.write_text(text)
        unbound.start()
        agent.configure({**json.loads(agent.config.read_text()), "upstream": at(unbound)})
        agent.child.signal(signal.SIGHUP)
        agent.wait_told("leads back to this agent")
        said = ask("other.example.org")
        assert said.status == "SERVFAIL"
        assert "leads back" in said.extended_error
        assert agent.state()["forward"]["upstreams"][0]["state"] == "loop"


SEARCH = ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local")


def walk(ask: Dig, name: str, qtype: str) -> tuple[int, str]:
    """Ask as glibc does with ndots:5; gives how many queries that took, and what came of it."""
    for count, full in enumerate([f"{name}.{domain}" for domain in SEARCH] + [name], 1):
        said = ask(full, qtype)
        if said.status == "NOERROR" and said.kind != "NODATA":
            return count, said.status
    return count, said.status


@PLANES
def test_search_path_of_a_pod_before_and_with_the_shortcut(start, unbound, plane):
    """Queries of one lookup of A and AAAA: 8 without, 2 with; questions to the upstream: 2 either way."""
    for shortcut, queries in ((False, 8), (True, 2)):
        agent, ask = start(plane, upstream=at(unbound), search_shortcut=shortcut)
        before = agent.state()
        took = [walk(ask, "www.example.com", qtype) for qtype in ("A", "AAAA")]
        after = agent.state()
        assert sum(count for count, _ in took) == queries
        assert {status for _, status in took} == {"NOERROR"}
        udp = after["traffic"]["queries"]["udp"] - before["traffic"]["queries"]["udp"]
        upstream = after["cache"]["misses"] - before["cache"]["misses"]
        assert (udp, upstream) == (queries, 2)


@PLANES
def test_the_shortcut_answers_what_the_walk_would_have_found(start, unbound, plane):
    _agent, ask = start(plane, upstream=at(unbound), search_shortcut=True)
    said = ask("www.example.com.shop.svc.cluster.local")
    assert [record.rdata for record in said.answer] == ["www.example.com.", "192.0.2.1"]
    assert said.answer[0].name == "www.example.com.shop.svc.cluster.local"
    for name in ("web.shop", "web.shop.svc", "web.shop.svc.cluster.local"):
        said = ask(f"{name}.shop.svc.cluster.local")
        assert [record.rdata for record in said.answer] == [f"{WEB}.", "10.96.0.7"], name
    said = ask("ext.shop.shop.svc.cluster.local")
    assert [record.rdata for record in said.answer] == ["ext.shop.svc.cluster.local.", "www.example.com.", "192.0.2.1"]
    for name in (
        "no.example.com.shop.svc.cluster.local",
        "www.example.com.nowhere.svc.cluster.local",
        f"nobody.{WEB[4:]}",
    ):
        for _ in range(2):
            said = ask(name)
            assert (said.status, said.answer, said.authority[0].name) == ("NXDOMAIN", [], "cluster.local"), name
    assert ask("www.example.com.shop.svc.cluster.local", "TXT").kind == "NOERROR"
    unbound.stop()
    assert ask("+tries=1", "+time=8", "never.example.com.shop.svc.cluster.local").status == "NXDOMAIN"


def test_what_is_cached_is_shown_from_disk_and_forgotten_by_order(start, unbound, nodens):
    agent, ask = start(upstream=at(unbound), cache={"save_every": "1s"})
    state = ("--state-dir", agent.state_dir)
    assert nodens("cache", "show", *state).returncode == 1
    for name in ("www.example.com", "alias.example.com", "no.example.com"):
        ask(name)
    agent.wait_state("the cache on disk", lambda state: state["cache"]["writes"] >= 1, timeout_s=20)
    shown = nodens("cache", "show", *state)
    assert (shown.returncode, shown.stdout.splitlines()[0].split(" (")[0]) == (0, "3 answers")
    rows = nodens("cache", "show", "www.example.com", *state).stdout
    assert "www.example.com. A: NOERROR" in rows
    assert "192.0.2.1" in rows
    assert "alias" not in rows
    found = json.loads(nodens("cache", "show", "--all", "--json", *state).stdout)
    assert {row["name"] for row in found["shown"]} == {"www.example.com.", "alias.example.com.", "no.example.com."}

    ordered = nodens("cache", "flush", "www.example.com", *state)
    assert ordered.returncode == 0, ordered.stderr
    agent.wait_state("one forgotten", lambda state: sum(state["cache"]["entries"].values()) == 2)
    agent.wait_told("forgotten by order: 1 cached answers at and below www.example.com.")
    assert "cache flush" in (agent.state_dir / "control" / "audit.ndj").read_text()
    agent.kill()
    assert nodens("cache", "flush", *state).returncode == 0
    agent.start()
    agent.wait_answering()
    agent.wait_state("none is back", lambda state: sum(state["cache"]["entries"].values()) == 0)
    assert nodens("cache", "flush", "..", *state).returncode == 2


def test_hits_are_answered_by_workers_fresh_and_stale(start, unbound):
    agent, ask = start(upstream=at(unbound), cache={"max_ttl": "3s", "prefetch": False})
    if agent.state()["process"]["wire"] != "compiled":
        pytest.skip("the compiled data plane is not built (a C compiler and Cython build it)")
    ask("www.example.com")
    before = agent.state()
    for _ in range(20):
        assert ask("www.example.com").rdata == {"192.0.2.1"}
    unbound.stop()
    time.sleep(3.1)
    said = ask("www.example.com")
    assert [(record.ttl_s, record.rdata) for record in said.answer] == [(30, "192.0.2.1")]
    assert said.extended_error.startswith("3 (Stale Answer)")
    after = agent.wait_state("a refresh that was reported", lambda state: state["forward"]["refreshes"]["stale"] >= 1)
    assert after["traffic"]["handed_over"] == before["traffic"]["handed_over"]
    assert after["forward"]["questions"] == before["forward"]["questions"]
    assert after["cache"]["hits"]["fresh"] - before["cache"]["hits"]["fresh"] == 20
    assert after["cache"]["hits"]["stale"] == 1


def test_switched_off_by_a_reload_nothing_cached_is_answered(start, unbound):
    agent, ask = start(upstream=at(unbound))
    assert ask("www.example.com").status == "NOERROR"
    agent.configure({**json.loads(agent.config.read_text()), "upstream": "none"})
    agent.child.signal(signal.SIGHUP)
    agent.wait_told("reloaded: upstream")
    assert ask("www.example.com").status == "REFUSED"

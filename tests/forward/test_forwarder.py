"""What a client gets from the forwarder, whatever its upstream does (real sockets on the loopback)."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from agent.forward.cache import Bounds
from agent.forward.target import Target
from agent.forward.terms import Options
from tests.forward.scripted import SOA, Running, Scripted, always, over_tcp, reply, texts

WWW = "www.example.com. 60 A 192.0.2.1"
QUICK = Options(timeout_s=0.5)


async def test_an_answer_is_asked_for_once_and_counts_down():
    async with Scripted(always(WWW)) as upstream, Running([upstream.target]) as running:
        assert texts(await running.ask("www.example.com"), "www.example.com") == ["www.example.com. 60 IN A 192.0.2.1"]
        running.clock.now_s += 25
        assert texts(await running.ask("WWW.example.com".lower()), "www.example.com") == [
            "www.example.com. 35 IN A 192.0.2.1"
        ]
        assert [asked for asked in upstream.asked if "example" in asked[0]] == [("www.example.com.", "A", "udp")]


async def test_a_question_carries_nothing_of_its_client():
    async with Scripted(always(WWW)) as upstream, Running([upstream.target]) as running:
        await running.ask("www.example.com", do=True)
        packet = next(packet for packet in upstream.packets if b"example" in packet)
        # Header with RD and AD, the question, an OPT of 11 octets: no option, so no client subnet and no cookie.
        assert packet[2:4] == b"\x01\x20"
        assert packet[-11:] == b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00"
        assert len(packet) == 12 + 17 + 4 + 11


async def test_one_question_for_all_who_wait():
    release = asyncio.Event()

    async def slow(query, _):
        await release.wait()
        return [reply(query, WWW)]

    async with Scripted(slow) as upstream, Running([upstream.target]) as running:
        waiting = [asyncio.ensure_future(running.ask("www.example.com", client=f"10.0.0.{n}")) for n in range(50)]
        await asyncio.sleep(0.05)
        release.set()
        said = await asyncio.gather(*waiting)
        assert {each.rcode for each in said} == {0}
        assert sum(name == "www.example.com." for name, _, _ in upstream.asked) == 1
        assert running.forwarder.counters.joined == 49
        assert running.forwarder.waiting == 0


async def test_ports_and_ids_differ_from_question_to_question():
    async with (
        Scripted(lambda query, _: [reply(query, rcode=3, soa=SOA)]) as upstream,
        Running([upstream.target]) as run,
    ):
        for number in range(200):
            await run.ask(f"n{number}.example.com")
        ports = {client[1] for client in upstream.clients}
        idents = {packet[:2] for packet in upstream.packets}
        assert len(ports) > 190
        assert len(idents) > 190
        first, last = run.upstreams[0]._ports.first, run.upstreams[0]._ports.last
        assert max(ports) - min(ports) > (last - first) / 2


async def test_truncated_comes_over_tcp():
    lines = [f"big.example.com. 60 A 192.0.2.{n}" for n in range(200)]

    def script(query, proto):
        return [reply(query, tc=True)] if proto == "udp" else [reply(query, *lines)]

    async with Scripted(script) as upstream, Running([upstream.target]) as running:
        said = await running.ask("big.example.com")
        assert len(texts(said, "big.example.com")) == 200
        assert [proto for name, _, proto in upstream.asked if name.startswith("big")] == ["udp", "tcp"]


async def test_an_answer_over_4096_octets_that_nobody_asked_for_comes_over_tcp():
    lines = [f"big.example.com. 60 A 192.0.{n // 250}.{n % 250}" for n in range(400)]
    async with Scripted(always(*lines)) as upstream, Running([upstream.target]) as running:
        assert len(texts(await running.ask("big.example.com"), "big.example.com")) == 400
        assert [proto for name, _, proto in upstream.asked if name.startswith("big")] == ["udp", "tcp"]


async def test_tcp_upstream_answers_many_on_one_connection_and_out_of_order():
    async def script(query, _):
        await asyncio.sleep(0.05 if str(query.question[0].name).startswith("slow") else 0)
        return [reply(query, f"{query.question[0].name} 60 A 192.0.2.7")]

    async with Scripted(script) as upstream, Running([over_tcp(upstream.target)]) as running:
        names = ["slow.example.com"] + [f"n{number}.example.com" for number in range(40)]
        said = await asyncio.gather(*(running.ask(name) for name in names))
        assert all(each.rcode == 0 for each in said)
        assert upstream.connections == 1


async def test_a_connection_that_was_closed_while_idle_is_opened_again():
    async with Scripted(always(WWW)) as upstream, Running([over_tcp(upstream.target)]) as running:
        await running.ask("www.example.com")
        running.upstreams[0]._stream.close()
        assert (await running.ask("www.example.com", "AAAA")).rcode == 0
        assert upstream.connections == 2


class TestWrongReplies:
    """What does not match is dropped and counted, and the right answer is still taken."""

    @pytest.mark.parametrize(
        "wrong",
        [
            pytest.param(lambda q: bytes([q[0] ^ 1]) + q[1:], id="id"),
            pytest.param(lambda q: q[:13] + b"x" + q[14:], id="question"),
            pytest.param(lambda q: q.replace(b"\x03com\x00\x00\x01", b"\x03com\x00\x00\x1c", 1), id="type"),
            pytest.param(
                lambda q: q.replace(b"\x03com\x00\x00\x01\x00\x01", b"\x03com\x00\x00\x01\x00\x03", 1), id="class"
            ),
            pytest.param(lambda q: q[:2] + bytes([q[2] & 0x7F]) + q[3:], id="query"),
            pytest.param(lambda q: q[:2] + bytes([q[2] | 0x28]) + q[3:], id="opcode"),
            pytest.param(lambda q: q[:4] + b"\x00\x00" + q[6:], id="no question"),
            pytest.param(lambda q: q[:11], id="short"),
            pytest.param(lambda q: b"", id="empty"),
            pytest.param(lambda q: os.urandom(400), id="garbage"),
        ],
    )
    async def test_it_is_dropped(self, wrong):
        def script(query, _):
            forged = reply(query, "www.example.com. 60 A 203.0.113.66")
            return [wrong(forged), reply(query, WWW)]

        async with Scripted(script) as upstream, Running([upstream.target]) as running:
            said = await running.ask("www.example.com")
            assert texts(said, "www.example.com") == ["www.example.com. 60 IN A 192.0.2.1"]
            assert running.upstreams[0].counters.mismatches >= 1

    async def test_repeated_ones_turn_the_query_to_tcp(self):
        def script(query, proto):
            if proto == "tcp":
                return [reply(query, WWW)]
            forged = reply(query, "www.example.com. 60 A 203.0.113.66")
            return [bytes([forged[0] ^ n]) + forged[1:] for n in range(1, 20)]

        async with Scripted(script) as upstream, Running([upstream.target]) as running:
            said = await running.ask("www.example.com")
            assert texts(said, "www.example.com") == ["www.example.com. 60 IN A 192.0.2.1"]
            assert ("www.example.com.", "A", "tcp") in upstream.asked

    async def test_from_another_port_or_address_nothing_is_taken(self):
        import socket

        async def script(query, _):
            client = upstream.clients[-1]
            forged = reply(query, "www.example.com. 60 A 203.0.113.66")
            for address in ("127.0.0.1", "127.0.0.2"):
                with socket.socket(type=socket.SOCK_DGRAM) as other:
                    other.bind((address, 0))
                    other.sendto(forged, client)
            await asyncio.sleep(0.05)
            return [reply(query, WWW)]

        async with Scripted(script) as upstream, Running([upstream.target]) as running:
            assert texts(await running.ask("www.example.com"), "www.example.com") == [
                "www.example.com. 60 IN A 192.0.2.1"
            ]

    @pytest.mark.parametrize("cut", range(12, 60, 3))
    async def test_a_reply_that_ends_early_is_no_answer(self, cut):
        async with (
            Scripted(lambda query, _: [reply(query, WWW)[:cut]]) as upstream,
            Running([upstream.target], QUICK) as run,
        ):
            said = await run.ask("www.example.com")
            assert (said.rcode, said.answer) == (2, ())
            assert said.error[0] in {22, 23}

    async def test_another_upstream_is_asked_when_one_talks_nonsense(self):
        async with (
            Scripted(lambda query, _: [reply(query, WWW)[:-3]]) as bad,
            Scripted(always(WWW)) as good,
            Running([bad.target, good.target]) as running,
        ):
            assert (await running.ask("www.example.com")).rcode == 0


class TestPoison:
    """Nothing that was not asked for is kept, and nothing of an own zone is ever believed."""

    async def test_only_the_chain_is_kept(self):
        lines = (
            "www.example.com. 60 CNAME a.example.net.",
            "a.example.net. 60 A 192.0.2.1",
            "victim.example.org. 60 A 203.0.113.66",
            "example.com. 60 NS ns.evil.example.",
        )
        async with Scripted(always(*lines)) as upstream, Running([upstream.target]) as running:
            said = await running.ask("www.example.com")
            assert texts(said, "www.example.com") == [
                "www.example.com. 60 IN CNAME a.example.net.",
                "a.example.net. 60 IN A 192.0.2.1",
            ]
            assert len(running.forwarder.cache) == 1

    async def test_a_chain_into_an_own_zone_ends_there(self):
        lines = (
            "evil.example.com. 60 CNAME web.shop.svc.cluster.local.",
            "web.shop.svc.cluster.local. 60 A 203.0.113.66",
        )
        async with Scripted(always(*lines)) as upstream, Running([upstream.target]) as running:
            said = await running.ask("evil.example.com")
            assert texts(said, "evil.example.com") == ["evil.example.com. 60 IN CNAME web.shop.svc.cluster.local."]
            assert said.end == b"\x03web\x04shop\x03svc\x07cluster\x05local\x00"

    async def test_nxdomain_behind_an_alias_into_an_own_zone_is_not_believed(self):
        lines = ("evil.example.com. 60 CNAME web.shop.svc.cluster.local.",)
        script = always(*lines, rcode=3, soa="local. 300 SOA a. b. 1 2 3 4 60")
        async with Scripted(script) as upstream, Running([upstream.target]) as running:
            said = await running.ask("evil.example.com")
            assert (said.rcode, said.authority) == (0, ())
            assert said.end

    async def test_an_soa_of_another_zone_says_nothing(self):
        soa = "example.org. 300 SOA ns.example.org. host.example.org. 1 7200 1800 86400 60"
        async with Scripted(always(rcode=3, soa=soa)) as upstream, Running([upstream.target]) as running:
            said = await running.ask("www.example.com")
            assert (said.rcode, said.authority) == (3, ())
            assert len(running.forwarder.cache) == 0

    @pytest.mark.parametrize(
        "lines",
        [
            ("a.example.com. 60 CNAME a.example.com.",),
            ("a.example.com. 60 CNAME b.example.com.", "b.example.com. 60 CNAME a.example.com."),
            tuple(f"{chr(97 + n)}.example.com. 60 CNAME {chr(98 + n)}.example.com." for n in range(25)),
        ],
    )
    async def test_a_cname_loop_is_servfail(self, lines):
        async with Scripted(always(*lines)) as upstream, Running([upstream.target], QUICK) as running:
            said = await running.ask("a.example.com")
            assert said.rcode == 2
            assert "CNAME" in said.error[1]

    async def test_a_loop_from_reply_to_reply_is_servfail(self):
        def script(query, _):
            name = query.question[0].name.to_text()
            other = "b.example.com." if name.startswith("a") else "a.example.com."
            return [reply(query, f"{name} 60 CNAME {other}")]

        async with Scripted(script) as upstream, Running([upstream.target], QUICK) as running:
            assert (await running.ask("a.example.com")).rcode == 2
            assert len(upstream.asked) < 12


async def test_a_chain_that_an_upstream_leaves_open_is_followed():
    def script(query, _):
        name = query.question[0].name.to_text()
        if name == "www.example.com.":
            return [reply(query, "www.example.com. 60 CNAME cdn.example.net.")]
        return [reply(query, f"{name} 20 A 192.0.2.1")]

    async with Scripted(script) as upstream, Running([upstream.target]) as running:
        assert texts(await running.ask("www.example.com"), "www.example.com") == [
            "www.example.com. 20 IN CNAME cdn.example.net.",
            "cdn.example.net. 20 IN A 192.0.2.1",
        ]


async def test_a_stub_domain_has_its_own_upstream():
    async with (
        Scripted(always("db.corp.example. 60 A 10.9.9.9")) as stub,
        Scripted(always(WWW)) as rest,
        Running([rest.target], stubs={"corp.example": stub.target}) as running,
    ):
        assert texts(await running.ask("db.corp.example"), "db.corp.example") == ["db.corp.example. 60 IN A 10.9.9.9"]
        assert not any("corp" in name for name, _, _ in rest.asked)
        assert running.forwarder.routes.is_stub(b"\x04corp\x07example\x00")
        assert not running.forwarder.routes.is_stub(b"\x05xcorp\x07example\x00")


class TestTrouble:
    """Upstreams that are slow, silent or say that they can't."""

    async def test_silence_ends_in_time_with_servfail_and_says_why(self):
        async with Scripted(None) as upstream, Running([upstream.target], QUICK) as running:
            began_s = time.monotonic()
            said = await running.ask("www.example.com")
            assert (said.rcode, said.error[0]) == (2, 22)
            assert time.monotonic() - began_s < 5

    async def test_a_closed_port_is_a_network_error_at_once(self):
        async with Scripted(None) as upstream:
            target = upstream.target
        async with Running([target]) as running:
            said = await running.ask("www.example.com")
            assert (said.rcode, said.error[0]) == (2, 23)

    @pytest.mark.parametrize(("rcode", "told"), [(2, 2), (5, 5), (4, 4), (1, 2), (6, 2), (9, 2)])
    async def test_an_upstream_that_can_not_answer_is_not_asked_again_and_the_next_one_is(self, rcode, told):
        async with Scripted(always(rcode=rcode)) as bad, Running([bad.target]) as running:
            assert (await running.ask("www.example.com")).rcode == told
        async with (
            Scripted(always(rcode=rcode)) as bad,
            Scripted(always(WWW)) as good,
            Running([bad.target, good.target]) as running,
        ):
            assert (await running.ask("www.example.com")).rcode == 0

    async def test_a_server_without_edns_is_asked_without(self):
        def script(query, _):
            return (
                [reply(query, WWW)]
                if query.edns < 0
                else [query.to_wire()[:2] + b"\x81\x81\0\1\0\0\0\0\0\0" + query.to_wire()[12:33]]
            )

        async with Scripted(script) as upstream, Running([upstream.target]) as running:
            assert (await running.ask("www.example.com")).rcode == 0
            before = len(upstream.asked)
            await running.ask("www.example.com", "AAAA")
            assert len(upstream.asked) == before + 1

    async def test_a_referral_is_no_answer(self):
        def script(query, _):
            return [reply(query, soa="example.com. 60 NS ns.example.com.")]

        async with Scripted(script) as upstream, Running([upstream.target]) as running:
            said = await running.ask("www.example.com")
            assert said.rcode == 2
            assert "referral" in said.error[1]

    async def test_a_failure_is_held_for_a_while(self):
        async with Scripted(always(rcode=2)) as upstream, Running([upstream.target]) as running:
            for _ in range(20):
                assert (await running.ask("www.example.com")).rcode == 2
            asked = sum(name.startswith("www") for name, _, _ in upstream.asked)
            assert asked == 1
            upstream.script = always(WWW)
            running.clock.now_s += 6
            assert (await running.ask("www.example.com")).rcode == 0

    async def test_a_lost_upstream_is_found_again(self):
        async with (
            Scripted(None) as first,
            Scripted(always(WWW)) as second,
            Running([first.target, second.target], Options(timeout_s=3)) as running,
        ):
            running.upstreams[0].fails = 3
            running.forwarder._health.suspect(running.upstreams[0])
            while not running.upstreams[0].is_lost:
                await asyncio.sleep(0.05)
            asked = len(first.asked)
            assert (await running.ask("www.example.com")).rcode == 0
            assert not any(name.startswith("www") for name, _, _ in first.asked[asked:])
            first.script = always(rcode=5)  # Any reply is a sign of life.
            while running.upstreams[0].is_lost:
                await asyncio.sleep(0.05)
            assert running.forwarder.routes.groups[0].recoveries == 1

    async def test_retries_have_a_budget(self):
        async with Scripted(None) as upstream, Running([upstream.target], Options(timeout_s=0.2)) as running:
            group = running.forwarder.routes.groups[0]
            spent = sum(group.may_retry() for _ in range(100))
            assert spent == 20
            for _ in range(10):
                group.earn()
            assert [group.may_retry() for _ in range(3)] == [True, True, False]


class TestBounds:
    """Every bound is met with an answer, and counted."""

    async def test_of_one_client(self):
        async with (
            Scripted(None) as upstream,
            Running([upstream.target], Options(timeout_s=0.4, max_per_client=5)) as run,
        ):
            asked = [asyncio.ensure_future(run.ask(f"n{n}.example.com", client="10.0.0.1")) for n in range(8)]
            other = asyncio.ensure_future(run.ask("n0.example.com", client="10.0.0.2"))
            await asyncio.sleep(0.05)
            assert sum(each.done() for each in asked) == 3
            assert not other.done()
            assert {each.result().rcode for each in asked if each.done()} == {2}
            await asyncio.gather(*asked, other)
            assert run.forwarder.counters.over["per_client"] == 3
            assert run.forwarder._by_client == {}

    async def test_of_questions_in_flight(self):
        async with (
            Scripted(None) as upstream,
            Running([upstream.target], Options(timeout_s=0.3, max_in_flight=4)) as run,
        ):
            asked = [asyncio.ensure_future(run.ask(f"n{n}.example.com", client=f"10.0.0.{n}")) for n in range(9)]
            await asyncio.sleep(0.05)
            assert run.forwarder.in_flight == 4
            assert sum(each.done() for each in asked) == 5
            await asyncio.gather(*asked)
            assert run.forwarder.counters.over["in_flight"] == 5
            assert run.forwarder.in_flight == 0

    async def test_of_one_upstream(self):
        async with Scripted(None) as up, Running([up.target], Options(timeout_s=0.3), max_per_upstream=3) as run:
            run.upstreams[0].in_flight = 3
            said = await run.ask("www.example.com")
            assert said.rcode == 2
            assert run.upstreams[0].counters.failures["busy"] >= 1

    async def test_of_the_cache(self):
        def script(query, _):
            return [reply(query, f"{query.question[0].name} 60 A 192.0.2.1")]

        async with Scripted(script) as upstream, Running([upstream.target], bounds=Bounds(max_entries=10)) as running:
            for number in range(25):
                await running.ask(f"n{number}.example.com")
                await running.ask("n0.example.com")
            assert len(running.forwarder.cache) == 10
            assert running.forwarder.cache.counters.evicted == 15
            assert sum(name == "n0.example.com." for name, _, _ in upstream.asked) == 1

    async def test_of_its_bytes(self):
        def script(query, _):
            return [reply(query, *(f"{query.question[0].name} 60 A 192.0.2.{n}" for n in range(50)))]

        async with Scripted(script) as upstream, Running([upstream.target], bounds=Bounds(max_bytes=50_000)) as running:
            for number in range(60):
                await running.ask(f"n{number}.example.com")
            cache = running.forwarder.cache
            assert 0 < cache.bytes <= 50_000
            assert cache.counters.evicted + len(cache) == 60
            cache.flush()
            assert (cache.bytes, len(cache)) == (0, 0)


async def test_nobody_waits_for_a_forwarder_that_stops():
    async with Scripted(None) as upstream, Running([upstream.target]) as running:
        asked = asyncio.ensure_future(running.ask("www.example.com"))
        await asyncio.sleep(0.02)
        running.forwarder.finish()
        assert (await asked).rcode == 2


async def test_without_rd_only_the_cache_is_asked():
    async with Scripted(always(WWW)) as upstream, Running([upstream.target]) as running:
        assert (await running.ask("www.example.com", rd=False)).rcode == 5
        assert not any(name.startswith("www") for name, _, _ in upstream.asked)
        await running.ask("www.example.com")
        assert (await running.ask("www.example.com", rd=False)).rcode == 0


async def test_do_and_cd_are_other_questions():
    async with Scripted(always(WWW)) as upstream, Running([upstream.target]) as running:
        for do in (False, True):
            for cd in (False, True):
                await running.ask("www.example.com", do=do, cd=cd)
        assert sum(name.startswith("www") for name, _, _ in upstream.asked) == 4


async def test_a_loop_back_to_us_is_found_and_not_used():
    async with Scripted(None) as upstream, Running([upstream.target]) as running:

        def comes_back(query, _):
            """Ask the agent itself, as a resolver that forwards to it would."""
            if running.forwarder.is_probe(query.question[0].name.to_wire()):
                return [reply(query, rcode=5)]
            return [reply(query, WWW)]

        upstream.script = comes_back
        running.forwarder._health.wake()
        while not running.upstreams[0].is_loop:
            await asyncio.sleep(0.01)
        said = await running.ask("www.example.com")
        assert said.rcode == 2
        assert "leads back" in said.error[1]
        upstream.script = always(WWW)
        running.forwarder._health.wake()
        while running.upstreams[0].is_loop:
            await asyncio.sleep(0.01)
        running.clock.now_s += 10
        assert (await running.ask("www.example.com")).rcode == 0


async def test_the_policy_decides_who_is_asked_first():
    async with Scripted(always(WWW)) as first, Scripted(always(WWW)) as second:
        for policy, least in (("sequential", (6, 0)), ("round_robin", (3, 3)), ("random", (0, 0))):
            first.asked.clear()
            second.asked.clear()
            async with Running([first.target, second.target], policy=policy) as running:
                for number in range(6):
                    await running.ask(f"n{number}.example.com")
            counts = [sum(name.startswith("n") for name, _, _ in each.asked) for each in (first, second)]
            assert sum(counts) == 6
            assert all(count >= at_least for count, at_least in zip(counts, least, strict=True)), (policy, counts)


def test_targets_are_read_as_they_are_written():
    from agent.forward.target import nameservers, read_target

    assert read_target("10.0.0.1") == Target("10.0.0.1", 53)
    assert read_target("10.0.0.1:5353") == Target("10.0.0.1", 5353)
    assert read_target("fd00::1") == Target("fd00::1", 53)
    assert read_target("[fd00::1]:5353") == Target("fd00::1", 5353)
    assert read_target("tcp://10.0.0.1") == Target("10.0.0.1", 53, "tcp")
    assert read_target("tls://1.1.1.1#cloudflare-dns.com") == Target("1.1.1.1", 853, "tls", "cloudflare-dns.com")
    assert read_target("tls://[fd00::1]:8853") == Target("fd00::1", 8853, "tls")
    for wrong in (
        "",
        "example.com",
        "10.0.0.1:0",
        "10.0.0.1:99999",
        "0.0.0.0",
        "udp://10.0.0.1#name",
        "http://1.1.1.1",
    ):
        assert read_target(wrong) is None, wrong
        assert wrong == "" or str(read_target("10.0.0.1")) == "10.0.0.1:53"
    text = "# x\nnameserver 10.0.0.2\nnameserver fd00::2\nsearch a b\nnameserver nonsense\nnameserver 10.0.0.2\n"
    assert nameservers(text) == [Target("10.0.0.2", 53), Target("fd00::2", 53)]

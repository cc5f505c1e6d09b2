"""What is answered once the upstreams are gone (RFC 8767), on a clock that passes when a test says so."""

from __future__ import annotations

import asyncio

from agent.forward.cache import Bounds
from agent.forward.terms import OFF, TIMEOUT, Options
from tests.forward.scripted import SOA, Running, Scripted, always, texts

WWW = "www.example.com. 60 A 192.0.2.1"
QUICK = Options(timeout_s=0.3)
STALE = ["www.example.com. 30 IN A 192.0.2.1"]
HOUR_S = 3600


async def test_a_held_name_is_answered_at_once_with_ttl_30_and_ede_3():
    async with Scripted(always(WWW)) as upstream, Running([upstream.target], QUICK) as running:
        await running.ask("www.example.com")
        upstream.script = None
        running.clock.now_s += HOUR_S
        began_s = asyncio.get_running_loop().time()
        said = await running.ask("www.example.com")
        assert asyncio.get_running_loop().time() - began_s < 0.2, "it waited for the upstream"
        assert (said.rcode, said.error) == (0, (3, f"expired {HOUR_S - 60}s ago"))
        assert texts(said, "www.example.com") == STALE
        never = await running.ask("never.example.com")
        assert (never.rcode, never.error[0]) == (2, 22)


async def test_a_held_denial_is_marked_with_ede_19():
    async with Scripted(always(rcode=3, soa=SOA)) as upstream, Running([upstream.target], QUICK) as running:
        await running.ask("no.example.com")
        upstream.script = None
        running.clock.now_s += HOUR_S
        said = await running.ask("no.example.com")
        assert (said.rcode, said.error[0]) == (3, 19)
        assert texts(said, "no.example.com")[0].startswith("example.com. 30 IN SOA")


async def test_it_is_renewed_behind_the_stale_answer():
    async with Scripted(always(WWW)) as upstream, Running([upstream.target]) as running:
        await running.ask("www.example.com")
        upstream.script = always("www.example.com. 60 A 192.0.2.2")
        running.clock.now_s += HOUR_S
        assert texts(await running.ask("www.example.com"), "www.example.com") == STALE
        await running.settled()
        said = await running.ask("www.example.com")
        assert (said.error, texts(said, "www.example.com")) == (None, ["www.example.com. 60 IN A 192.0.2.2"])


async def test_with_stale_timeout_the_upstream_gets_its_time_first():
    how = Options(timeout_s=1.5, stale=TIMEOUT, stale_wait_s=0.2)
    async with Scripted(always(WWW)) as upstream, Running([upstream.target], how) as running:
        await running.ask("www.example.com")
        upstream.script = always("www.example.com. 60 A 192.0.2.2")
        running.clock.now_s += HOUR_S
        assert texts(await running.ask("www.example.com"), "www.example.com") == ["www.example.com. 60 IN A 192.0.2.2"]
        upstream.script = None
        running.clock.now_s += HOUR_S
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        said = await running.ask("www.example.com")
        assert 0.19 <= loop.time() - began_s < 1.4
        assert (said.error[0], texts(said, "www.example.com")) == (3, ["www.example.com. 30 IN A 192.0.2.2"])
        await running.settled()
        began_s = loop.time()
        assert (await running.ask("www.example.com")).error[0] == 3
        assert loop.time() - began_s < 0.15, "it failed just now: the upstream need not be waited for again"


async def test_with_stale_off_what_is_past_its_ttl_is_gone():
    how = Options(timeout_s=0.3, stale=OFF)
    async with Scripted(always(WWW)) as up, Running([up.target], how, bounds=Bounds(max_stale_s=0)) as running:
        await running.ask("www.example.com")
        up.script = None
        running.clock.now_s += 61
        assert (await running.ask("www.example.com")).rcode == 2


async def test_after_max_stale_it_is_gone():
    async with Scripted(always(WWW)) as upstream, Running([upstream.target], QUICK) as running:
        await running.ask("www.example.com")
        upstream.script = None
        running.clock.now_s += 60 + 3 * 86_400 - 1
        assert (await running.ask("www.example.com")).error[0] == 3
        await running.settled()
        running.clock.now_s += 2
        assert (await running.ask("www.example.com")).rcode == 2
        assert running.forwarder.cache.counters.aged == 1


async def test_an_hour_in_a_black_hole_costs_few_questions():
    """One name in use every second for an hour: rechecks at 30 s, then backed off to 5 minutes."""
    async with Scripted(always(WWW)) as upstream, Running([upstream.target], Options(timeout_s=0.05)) as running:
        await running.ask("www.example.com")
        upstream.script = None
        running.clock.now_s += 61
        before = running.upstreams[0].counters.tries - running.upstreams[0].counters.probes
        refused = 0
        for _ in range(HOUR_S):
            said = await running.ask("www.example.com")
            refused += said.rcode != 0
            await running.settled()
            running.clock.now_s += 1
        asked = running.forwarder.counters.refreshes["stale"]
        assert refused == 0
        assert 12 <= asked <= 20, asked
        assert running.upstreams[0].counters.tries - running.upstreams[0].counters.probes - before <= 3 * asked


async def test_an_upstream_that_comes_back_is_asked_with_the_next_query():
    async with Scripted(always(WWW)) as upstream, Running([upstream.target], Options(timeout_s=0.05)) as running:
        await running.ask("www.example.com")
        upstream.script = None
        for _ in range(8):
            running.clock.now_s += 400
            assert (await running.ask("www.example.com")).error[0] == 3
            await running.settled()
        while not running.upstreams[0].is_lost:
            await asyncio.sleep(0.05)
        running.clock.now_s += 400
        await running.ask("www.example.com")
        await running.settled()
        upstream.script = always("www.example.com. 60 A 192.0.2.2")
        while running.upstreams[0].is_lost:
            await asyncio.sleep(0.05)
        assert (await running.ask("www.example.com")).error[0] == 3
        await running.settled()
        assert texts(await running.ask("www.example.com"), "www.example.com") == ["www.example.com. 60 IN A 192.0.2.2"]


async def test_servfail_leaves_the_old_answer_in_place():
    async with Scripted(always(WWW)) as upstream, Running([upstream.target]) as running:
        await running.ask("www.example.com")
        for rcode in (2, 5):
            upstream.script = always(rcode=rcode)
            running.clock.now_s += HOUR_S
            assert (await running.ask("www.example.com")).rcode == 0
            await running.settled()
            assert texts(await running.ask("www.example.com"), "www.example.com") == STALE


async def test_nxdomain_replaces_it_but_a_stale_one_does_not_hide_it():
    async with Scripted(always(WWW)) as upstream, Running([upstream.target], QUICK) as running:
        await running.ask("www.example.com")
        upstream.script = always(rcode=3, soa=SOA)
        running.clock.now_s += 100
        await running.ask("www.example.com")
        await running.settled()
        assert (await running.ask("www.example.com")).rcode == 3, "what is fresh counts"
        upstream.script = None
        running.clock.now_s += 100
        said = await running.ask("www.example.com")
        assert (said.rcode, said.error[0]) == (0, 3)
        assert texts(said, "www.example.com") == STALE
        await running.settled()
        running.clock.now_s += 3 * 86_400 - 100
        assert (await running.ask("www.example.com")).rcode == 3, "the positive is too old, the denial is not"


async def test_names_in_use_are_renewed_before_they_expire():
    async with Scripted(always(WWW)) as upstream, Running([upstream.target]) as running:
        for _ in range(4):
            await running.ask("www.example.com")
        running.clock.now_s += 56
        await running.ask("www.example.com")
        await running.settled()
        assert running.forwarder.counters.refreshes["prefetch"] == 1
        running.clock.now_s += 30
        said = await running.ask("www.example.com")
        assert (said.error, texts(said, "www.example.com")) == (None, STALE)


async def test_a_name_that_nobody_asks_for_any_more_is_not():
    async with Scripted(always(WWW)) as upstream, Running([upstream.target]) as running:
        for _ in range(4):
            await running.ask("www.example.com")
        running.clock.now_s += 50
        await running.ask("www.example.com")
        assert running.forwarder.counters.refreshes["prefetch"] == 0


async def test_ttl_0_is_never_used_again():
    async with Scripted(always("www.example.com. 0 A 192.0.2.1")) as upstream, Running([upstream.target]) as running:
        for _ in range(3):
            assert texts(await running.ask("www.example.com"), "www.example.com") == [
                "www.example.com. 0 IN A 192.0.2.1"
            ]
        assert sum(name.startswith("www") for name, _, _ in upstream.asked) == 3
        assert len(running.forwarder.cache) == 0


async def test_ttls_are_capped():
    async with (
        Scripted(always("www.example.com. 604800 A 192.0.2.1")) as upstream,
        Running([upstream.target]) as running,
    ):
        assert texts(await running.ask("www.example.com"), "www.example.com") == [
            "www.example.com. 3600 IN A 192.0.2.1"
        ]
        upstream.script = always(rcode=3, soa=SOA.replace(" 300 ", " 86400 ")[:-2] + "86400")
        assert texts(await running.ask("no.example.com"), "no.example.com")[0].startswith("example.com. 1800 IN SOA")
        upstream.script = always("www.example.com. 4294967295 AAAA fd00::1")
        assert texts(await running.ask("www.example.com", "AAAA"), "www.example.com", "AAAA") == [
            "www.example.com. 0 IN AAAA fd00::1"
        ]


async def test_a_denial_lasts_as_long_as_the_less_of_ttl_and_minimum():
    async with Scripted(always(rcode=3, soa=SOA)) as upstream, Running([upstream.target]) as running:
        assert texts(await running.ask("no.example.com"), "no.example.com")[0].startswith("example.com. 60 IN SOA")

"""Forged answers in numbers: everything an attacker who sees nothing can send, and how much of it was believed."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.forward.scripted import Running, Scripted, reply, texts

RIGHT = ["www.example.com. 60 IN A 192.0.2.1"]


async def _flood(rounds: int, forged_each: int) -> tuple[int, int, int]:
    """Forge answers to every question, with random ids, from the upstream's own address and port (the worst case:
    the port is known to the attacker too); gives how many were sent, seen as wrong, and believed."""
    chance = random.Random(7)
    sent = believed = 0

    def script(query, proto):
        nonlocal sent
        name = query.question[0].name.to_text()
        right = reply(query, f"{name} 60 A 192.0.2.1")
        if proto == "tcp" or not name.startswith("n"):
            return [right]
        forged = reply(query, f"{name} 60 A 203.0.113.66")
        sent += forged_each
        idents = (chance.randrange(1 << 16) for _ in range(forged_each))
        wrong = [ident.to_bytes(2, "big") + forged[2:] for ident in idents if ident != query.id]
        return [*wrong, right]

    async with Scripted(script) as upstream, Running([upstream.target]) as running:
        for number in range(rounds):
            said = await running.ask(f"n{number}.example.com")
            believed += "203.0.113.66" in "".join(texts(said, f"n{number}.example.com"))
        return sent, running.upstreams[0].counters.mismatches, believed


async def test_no_forged_answer_is_believed():
    sent, seen, believed = await _flood(rounds=100, forged_each=60)
    print(f"\nforged answers: {sent} sent, {seen} looked at and dropped, {believed} believed")
    assert sent >= 5000
    assert believed == 0
    # After three the question has gone over TCP and its socket is closed: the rest meets no open port.
    assert seen <= 100 * 16


@pytest.mark.slow
async def test_no_forged_answer_is_believed_of_very_many():
    sent, _, believed = await _flood(rounds=5000, forged_each=60)
    print(f"\nforged answers: {sent} sent, {believed} believed")
    assert sent >= 290_000
    assert believed == 0


async def test_a_flood_from_other_ports_neither_gets_in_nor_turns_anything_to_tcp():
    import socket

    with socket.socket(type=socket.SOCK_DGRAM) as attacker:
        attacker.bind(("127.0.0.1", 0))

        async def script(query, _):
            client = upstream.clients[-1]
            forged = reply(query, "www.example.com. 60 A 203.0.113.66")
            for _ in range(200):
                attacker.sendto(forged, client)
            await asyncio.sleep(0.02)
            return [reply(query, "www.example.com. 60 A 192.0.2.1")]

        async with Scripted(script) as upstream, Running([upstream.target]) as running:
            assert texts(await running.ask("www.example.com"), "www.example.com") == RIGHT
            assert running.upstreams[0].counters.mismatches == 0
            assert not any(proto == "tcp" for _, _, proto in upstream.asked)

from __future__ import annotations

import asyncio
import struct

import pytest

from agent.lifecycle import watchdog as module
from agent.lifecycle.watchdog import NOERROR, REFUSED, Watchdog, ask


class Server(asyncio.DatagramProtocol):
    """A DNS server that answers every query with what `reply` makes of it."""

    def __init__(self, reply) -> None:
        self.reply = reply

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, packet, client) -> None:
        for answer in self.reply(packet):
            self.transport.sendto(answer, client)


async def listening(reply, host="127.0.0.1"):
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Server(reply), local_addr=(host, 0))
    return transport, transport.get_extra_info("sockname")[1]


def answer(packet, *, rcode=NOERROR, answers=1, qr=0x80):
    record = b"\xc0\x0c\x00\x10\x00\x03\x00\x00\x00\x00\x00\x03\x02ok" * answers
    return packet[:2] + struct.pack("!BBHHHH", qr, rcode, 1, answers, 0, 0) + packet[12:] + record


@pytest.mark.parametrize(
    ("reply", "expected", "right"),
    [
        (lambda p: [answer(p)], NOERROR, True),
        (lambda p: [answer(p, rcode=REFUSED, answers=0)], REFUSED, True),
        (lambda p: [answer(p, rcode=REFUSED, answers=0)], NOERROR, False),
        (lambda p: [answer(p, rcode=2, answers=0)], NOERROR, False),
        (lambda p: [answer(p, answers=0)], NOERROR, False),
        (lambda p: [answer(p, qr=0)], NOERROR, False),
        (lambda p: [answer(p[:20] + b"x" + p[21:])], NOERROR, False),
        (lambda p: [p[:2]], NOERROR, False),
        (lambda p: [b"\0\0" + answer(p)[2:], answer(p)], NOERROR, True),
        (lambda p: [], NOERROR, False),
    ],
    ids=["right", "refused as configured", "refused", "servfail", "empty", "a query", "other question", "cut",
         "foreign id before", "silence"],
)  # fmt: skip
async def test_only_a_right_answer_counts(reply, expected, right, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.3)
    transport, port = await listening(reply)
    assert await ask("127.0.0.1", port, rcode=expected) is right
    transport.close()


async def test_a_closed_port_is_no_answer_and_no_error():
    transport, port = await listening(lambda p: [])
    transport.close()
    await asyncio.sleep(0)
    assert await ask("127.0.0.1", port) is False


async def test_a_wildcard_is_asked_on_the_loopback():
    transport, port = await listening(lambda p: [answer(p)], "0.0.0.0")
    assert await ask("0.0.0.0", port)
    transport.close()


async def test_ipv6_is_asked_too():
    try:
        transport, port = await listening(lambda p: [answer(p)], "::1")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    assert await ask("::", port)
    transport.close()


class Fed:
    watchdog_s = 0.06

    def __init__(self) -> None:
        self.times = 0

    def alive(self) -> None:
        self.times += 1


def probe(results):
    async def run() -> bool:
        return next(results)

    return run


async def test_fed_while_one_listen_address_answers_and_the_others_are_named_once(caplog):
    caplog.set_level("INFO")
    fed = Fed()
    dog = Watchdog(
        fed, [("a", probe(iter([True, True, True, False]))), ("b", probe(iter([True, False, False, False])))]
    )
    assert [await dog.feed() for _ in range(4)] == [True, True, True, False]
    assert fed.times == 3
    assert [r.getMessage() for r in caplog.records] == [
        "no right answer from the own listen address b",
        "no right answer from the own listen address a",
    ]


async def test_an_address_that_answers_again_is_said(caplog):
    caplog.set_level("INFO")
    dog = Watchdog(Fed(), [("a", probe(iter([False, True])))])
    await dog.feed()
    await dog.feed()
    assert "right answers again from the own listen address a" in caplog.text


async def test_it_feeds_three_times_within_the_time_systemd_gives():
    fed, loop = Fed(), asyncio.get_running_loop()
    dog = Watchdog(fed, [("a", probe(iter([True] * 1000)))])
    started = loop.time()
    task = asyncio.create_task(dog.run())
    async with asyncio.timeout(10):
        while fed.times < 4:
            await asyncio.sleep(0.001)
    task.cancel()
    assert loop.time() - started >= 3 * Fed.watchdog_s / 3 - 0.005

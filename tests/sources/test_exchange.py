from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cluster.objects import KINDS, Skipped, Stored, decode_object
from agent.errors import SourceError
from agent.sources import exchange
from agent.sources.exchange import Changed, Done, Failed, Mark, Objects, Same, Skips, Totals, frame, parse, plain
from tests.sources.recording import endpoint_slice, namespace, service

STORED = [decode_object(value) for value in (service(), endpoint_slice(), namespace())]
MARK = Mark("a.json", 1, 2, 3, 4, 5)
MESSAGES = [
    Objects(STORED),
    Skips([Skipped("Service", "shop/web", "why")]),
    Done("xxh3:1", "uid:1", (MARK,), Totals(objects=3)),
    Same("xxh3:1", (MARK,)),
    Changed("a.json"),
    Failed("reason", "hint"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_arrive_as_they_were_sent(message):
    framed = frame(message)
    assert exchange.frame_length(framed[:4]) == len(framed) - 4
    assert parse(framed[4:]) == message


@pytest.mark.parametrize("length", [0, exchange.MAX_FRAME_BYTES + 1, 0xFFFFFFFF])
def test_a_length_out_of_bounds_is_refused(length):
    with pytest.raises(SourceError, match=f"message of {length} bytes"):
        exchange.frame_length(length.to_bytes(4, "little"))


web = STORED[0]
LYING = {
    "kind unknown": Objects([web._replace(kind="Secret")]),
    "kind of another": Objects([web._replace(kind="EndpointSlice")]),
    "key of another": Objects([web._replace(key="shop/db")]),
    "owner of another": Objects([web._replace(owner="shop/db")]),
    "slice owner of another": Objects([STORED[1]._replace(owner="shop/db")]),
    "blob garbage": Objects([web._replace(blob=b"\xff")]),
    "blob empty": Objects([web._replace(blob=b"")]),
    "key too long": Objects([web._replace(key="x" * (exchange.MAX_KEY_CHARS + 1))]),
    "blob too large": Objects([web._replace(blob=bytes(exchange.MAX_BLOB_BYTES + 1))]),
    "line break in a reason": Skips([Skipped("Service", "a", "b\nc")]),
    "reason too long": Failed("x" * (exchange.MAX_TEXT_CHARS + 1), ""),
    "escape in a hint": Failed("", "\x1b[2J"),
    "line break in a file name": Changed("a\nb"),
    "line break in a mark": Done("d", "i", (MARK._replace(name="\n"),), Totals()),
    "line break in an identity": Done("d", "\n", (MARK,), Totals()),
    "line break in a known mark": Same("d", (MARK._replace(name="\n"),)),
}


@pytest.mark.parametrize("message", LYING.values(), ids=LYING.keys())
def test_a_message_that_lies_is_refused(message):
    with pytest.raises(SourceError, match="sent something that is not a message"):
        parse(frame(message)[4:])


@given(st.binary(max_size=60))
def test_garbage_is_refused_and_nothing_else_happens(payload):
    with suppress(SourceError):
        parse(payload)


@given(st.data())
def test_a_damaged_message_is_refused_or_well_shaped(data):
    payload = bytearray(frame(data.draw(st.sampled_from(MESSAGES)))[4:])
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        message = parse(bytes(payload))
    except SourceError:
        return
    if isinstance(message, Objects):
        assert all(isinstance(stored, Stored) and stored.kind in KINDS for stored in message.objects)


@given(st.text(max_size=30), st.integers(1, 20))
def test_plain_text_fits_a_line(text, limit):
    shown = plain(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    assert shown == text or len(text) > limit or not text.isprintable()


def test_an_order_survives_the_command_line():
    order = exchange.Order("/a b/c.json", known="xxh3:1", timeout_s=1.5)
    assert msgspec.json.decode(msgspec.json.encode(order), type=exchange.Order) == order

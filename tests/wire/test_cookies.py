"""Server cookies: the vectors of RFC 9018 appendix A, and what is not accepted."""

from __future__ import annotations

import pytest

from agent.wire import cookies

SECRET = bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf")
FIRST = bytes.fromhex("2464c4abcf10c957010000005cf79f111f8130c3eee29480")
CLIENT = "198.51.100.100"
MADE_S = 1_559_731_985


def test_siphash_2_4_of_its_authors_vector():
    # Aumasson and Bernstein, SipHash: a fast short-input PRF, appendix A.
    assert cookies.siphash24(bytes(range(16)), bytes(range(15)))[::-1].hex() == "a129ca6149be45e5"


@pytest.mark.parametrize(
    ("secret", "client", "address", "now_s", "expected"),
    [
        (SECRET.hex(), "2464c4abcf10c957", CLIENT, MADE_S, FIRST.hex()),
        (SECRET.hex(), "2464c4abcf10c957", CLIENT, 1_559_734_385, "2464c4abcf10c957010000005cf7a871d4a564a1442aca77"),
        (
            SECRET.hex(),
            "fc93fc62807ddb86",
            "203.0.113.203",
            1_559_734_700,
            "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e",
        ),
        (
            "445536bcd2513298075a5d379663c962",
            "22681ab97d52c298",
            "2001:db8:220:1:59de:d0f4:8769:82b8",
            1_559_741_961,
            "22681ab97d52c298010000005cf7c609a6bb79d16625507a",
        ),
    ],
)
def test_rfc_9018_vectors(secret: str, client: str, address: str, now_s: int, expected: str):
    assert cookies.make(bytes.fromhex(client), address, now_s, bytes.fromhex(secret)).hex() == expected


def test_reserved_octets_are_hashed_as_received():
    sent = bytes.fromhex("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5")
    assert cookies.is_valid(sent, "203.0.113.203", 1_559_727_985, (SECRET,))


def test_a_cookie_of_the_secret_before_is_valid_and_renewed():
    old, new = bytes.fromhex("dd3bdf9344b678b185a6f5cb60fca715"), bytes.fromhex("445536bcd2513298075a5d379663c962")
    sent = bytes.fromhex("22681ab97d52c298010000005cf7c57926556bd0934c72f8")
    address = "2001:db8:220:1:59de:d0f4:8769:82b8"
    reply, is_valid = cookies.answer(sent, address, 1_559_741_961, (new, old))
    assert (reply.hex(), is_valid) == ("22681ab97d52c298010000005cf7c609a6bb79d16625507a", True)


@pytest.mark.parametrize(
    ("after_s", "is_valid", "is_kept"),
    [
        (0, True, True),
        (cookies.RENEW_AFTER_S, True, True),
        (cookies.RENEW_AFTER_S + 1, True, False),
        (cookies.MAX_AGE_S, True, False),
        (cookies.MAX_AGE_S + 1, False, False),
        (-cookies.MAX_AHEAD_S, True, True),
        (-cookies.MAX_AHEAD_S - 1, False, False),
    ],
)
def test_the_life_of_a_cookie(after_s: int, is_valid: bool, is_kept: bool):
    reply, was_valid = cookies.answer(FIRST, CLIENT, MADE_S + after_s, (SECRET,))
    assert (was_valid, reply == FIRST) == (is_valid, is_kept)


def test_the_clock_may_pass_2106():
    made = cookies.make(FIRST[:8], CLIENT, 2**32 - 1, SECRET)
    assert cookies.age(made, 2**32 + 9) == 10
    assert cookies.is_valid(made, CLIENT, 2**32 + 9, (SECRET,))


@pytest.mark.parametrize(
    "sent",
    [
        FIRST[:8],
        FIRST[:-1],
        FIRST + b"x",
        FIRST[:8] + b"\x02" + FIRST[9:],
        FIRST[:-1] + b"\x81",
        b"x" + FIRST[1:],
    ],
)
def test_what_is_no_cookie_of_ours(sent: bytes):
    assert not cookies.is_valid(sent, CLIENT, MADE_S, (SECRET,))
    assert cookies.answer(sent, CLIENT, MADE_S, (SECRET,))[1] is False


def test_a_cookie_is_for_one_address():
    assert not cookies.is_valid(FIRST, "198.51.100.101", MADE_S, (SECRET,))

"""Selectors as text, resource versions in order, and statuses in words."""

from __future__ import annotations

import json

import pytest

from agent.cluster.selection import EVERYTHING, Selection, parse_selector
from agent.errors import SourceError
from agent.sources.api import (
    MAX_MESSAGE,
    BehindError,
    GoneError,
    RejectedError,
    is_older,
    rejection,
    resources,
    selector_text,
)
from agent.sources.pages import TooLargeError, plain


@pytest.mark.parametrize(
    "text",
    ["", "app=web", "app!=web", "app", "!app", "app in (a,b)", "app notin (a,b)", "a=b,c!=d,e in (f,g),!h", "a="],
)
def test_a_selector_survives_the_way_to_the_server(text):
    assert selector_text(parse_selector(text)) == text
    assert parse_selector(selector_text(parse_selector(text))) == parse_selector(text)


def test_everything_is_asked_for_without_selectors():
    assert [(found.path, found.query) for found in resources(EVERYTHING)] == [
        ("/api/v1/namespaces", ()),
        ("/api/v1/services", ()),
        ("/apis/discovery.k8s.io/v1/endpointslices", ()),
    ]


def test_several_namespaces_are_listed_together_and_filtered_here():
    found = resources(Selection(namespaces=frozenset({"a", "b"})))
    assert [each.path for each in found] == [each.path for each in resources(EVERYTHING)]
    assert [each.query for each in found] == [(), (), ()]


@pytest.mark.parametrize(
    ("position", "than", "older"),
    [
        ("9", "10", True),
        ("10", "9", False),
        ("10", "10", False),
        ("", "10", False),
        ("x", "10", False),
        ("9", "", False),
    ],
)
def test_resource_versions_are_numbers(position, than, older):
    assert is_older(position, than) is older


def status(code: int, message: str, **details) -> SourceError:
    body = json.dumps({"kind": "Status", "message": message, "code": code, "details": details}).encode()
    return rejection("LIST", "services", code, 7.0, body)


def test_gone_and_behind_are_told_apart():
    assert isinstance(status(410, "too old"), GoneError)
    too_large = "Timeout: Too large resource version: 130334, current: 30335"
    assert isinstance(status(504, too_large), BehindError)
    assert isinstance(status(504, "x", causes=[{"reason": "ResourceVersionTooLarge"}]), BehindError)
    assert isinstance(status(504, "upstream timed out"), RejectedError)


def test_a_rejection_carries_code_wait_and_advice():
    error = status(403, "services is forbidden")
    assert isinstance(error, RejectedError)
    assert (error.code, error.retry_after_s) == (403, 7.0)
    assert str(error) == (
        "the API server answered 403 to list services: services is forbidden. "
        "Grant the verbs list and watch on services to the account that nodens runs as (RBAC)"
    )


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b"[]", b'{"details":7}', b'{"details":{"causes":null}}'])
def test_any_body_makes_a_readable_error(body):
    error = rejection("WATCH", "services", 500, 0.0, body)
    assert str(error).startswith("the API server answered 500 to watch services: ")


def test_a_long_message_is_cut():
    assert len(str(status(500, "x" * 10_000))) < MAX_MESSAGE + 100


def test_bodies_are_inflated_to_a_bound():
    import gzip

    packed = gzip.compress(b"x" * 1_000_000)
    assert plain(packed, "gzip", 1_000_000) == b"x" * 1_000_000
    assert plain(b"abc", "", 10) == plain(b"abc", "identity", 10) == b"abc"
    with pytest.raises(TooLargeError):
        plain(packed, "gzip", 999_999)
    with pytest.raises(SourceError, match="ends too early"):
        plain(packed[:-9], "gzip", 1_000_000)
    with pytest.raises(SourceError, match="is broken"):
        plain(b"not gzip", "gzip", 10)
    with pytest.raises(SourceError, match="not asked for"):
        plain(b"x", "zstd", 10)

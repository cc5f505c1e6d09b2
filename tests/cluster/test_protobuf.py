"""Protobuf lists: they say what JSON says, and nothing that comes in does more harm than to be refused."""

from __future__ import annotations

import json
import random

import pytest

from agent.cluster import protobuf
from agent.cluster.objects import KINDS, SERVICE, Skipped, Stored, decode_list, decode_protobuf
from benchmarks.cluster_generator import Spec, objects
from tests import protobuf_objects
from tests.protobuf_objects import enveloped, field, listed, varint

CLUSTER = list(objects(Spec(services=120, endpoints=900, namespaces=8)))


def page(kind: str, items: list[dict] | None = None) -> dict:
    items = [each for each in CLUSTER if each["kind"] == kind] if items is None else items
    meta = {"resourceVersion": "4711", "continue": "more", "remainingItemCount": 12}
    return {"kind": f"{kind}List", "metadata": meta, "items": items}


def decode(kind: str, body: bytes) -> list[Stored | Skipped | None]:
    return [decode_protobuf(kind, body, *bounds) for bounds in protobuf.cut(body).items]


def service(**spec) -> dict:
    return {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"clusterIP": "10.0.0.1", **spec}}


@pytest.mark.parametrize("kind", KINDS)
def test_protobuf_gives_what_json_gives(kind):
    wanted = decode_list(kind, json.dumps(page(kind)).encode())
    body = listed(page(kind))
    found = [each for each in decode(kind, body) if each is not None]
    assert found == wanted.objects
    assert len(found) > 5
    sheet = protobuf.cut(body)
    assert (sheet.resource_version, sheet.continue_token, sheet.remaining) == ("4711", "more", 12)


def test_an_empty_list_is_one():
    sheet = protobuf.cut(listed({"kind": "ServiceList", "metadata": {"resourceVersion": "5"}, "items": []}))
    assert (sheet.items, sheet.resource_version, sheet.continue_token, sheet.remaining) == ([], "5", "", None)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (service(clusterIP="10.0.0.256"), "not an IP address"),
        (service(clusterIP=""), "no address has been allocated"),
        (service(ports=[{"name": "http", "port": 70_000}]), "outside 0-65535"),
        (service(ports=[{"name": "http", "port": -1}]), "port -1 is outside"),
        (service(ports=[{"name": "a.b", "port": 1}]), "not a DNS label"),
        ({"metadata": {"name": "web", "namespace": "shop"}}, "no address has been allocated"),
        ({"metadata": {"namespace": "shop"}, "spec": {}}, "metadata.name is missing"),
        ({"spec": {}}, "metadata.name is missing"),
    ],
)
def test_an_object_that_can_t_be_used_is_skipped_by_name_and_its_neighbours_count(value, reason):
    good = service() | {"metadata": {"name": "good", "namespace": "shop"}}
    bad, other = decode(SERVICE, listed(page(SERVICE, [value, good])))
    assert isinstance(bad, Skipped)
    assert reason in bad.reason
    assert isinstance(other, Stored)


def test_text_that_is_not_utf_8_is_one_object_s_trouble():
    body = listed(page(SERVICE, [service(), service()])).replace(b"10.0.0.1", b"10.0\xff0.1", 1)
    bad, other = decode(SERVICE, body)
    assert bad == Skipped(SERVICE, "shop/web", "a text is not UTF-8")
    assert isinstance(other, Stored)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0a" + varint(1 << 62),
        b"\x0b\x00",
        b"\x09\x00",
        b"\x80",
    ],
)
def test_a_list_that_is_none_is_refused(raw):
    with pytest.raises(protobuf.BrokenError):
        protobuf.cut(enveloped("ServiceList", raw))


@pytest.mark.parametrize("body", [b"", b"k8s", b"k8s\0", b"k8s\0\x12\x00", b"{}", b"k8s\0\x12\x05ab"])
def test_an_envelope_that_is_none_is_refused(body):
    with pytest.raises(protobuf.BrokenError):
        protobuf.cut(body)


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_cut_anywhere_is_refused_as_a_whole(kind):
    body = listed(page(kind))
    for end in range(0, len(body) - 4, max(1, len(body) // 400)):  # the last four bytes are two empty fields
        with pytest.raises(protobuf.BrokenError):
            protobuf.cut(body[:end])


@pytest.mark.parametrize("seed", range(4))
def test_changed_bytes_do_no_more_than_skip(seed):
    chance = random.Random(seed)
    for kind in KINDS:
        body = listed(page(kind))
        for _ in range(150):
            broken = bytearray(body)
            for _ in range(chance.randint(1, 8)):
                broken[chance.randrange(4, len(broken))] = chance.randrange(256)
            try:
                found = decode(kind, bytes(broken))
            except protobuf.BrokenError:
                continue
            assert all(isinstance(each, Stored | Skipped | None) for each in found)


def test_many_conditions_are_not_remembered_without_bound():
    known = {}
    for number in range(protobuf.MAX_KNOWN + 500):
        raw = field(2, b"\x20" + varint(number))  # a condition of the future
        protobuf._endpoint(raw, 0, len(raw), known)
    assert len(known) == protobuf.MAX_KNOWN


def test_a_refusal_is_read():
    status = {"message": "no", "reason": "Forbidden", "code": 403}
    found = protobuf.status(enveloped("Status", protobuf_objects.encode("Status", status)))
    assert (found.message, found.reason, found.code) == ("no", "Forbidden", 403)
    with pytest.raises(protobuf.BrokenError):
        protobuf.status(b"k8s\0\x12\x05ab")

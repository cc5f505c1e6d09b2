from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cluster import objects
from agent.cluster.objects import ENDPOINT_SLICE, NAMESPACE, SERVICE, Endpoint, Port, Skipped, Stored
from agent.cluster.selection import Selection, parse_selector
from agent.errors import SourceError


def service(name="web", namespace="shop", **spec):
    spec.setdefault("clusterIP", "10.96.0.1")
    return {"kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def endpoint_slice(*endpoints, ports=(), family="IPv4", service="web", **meta):
    return {
        "kind": "EndpointSlice",
        "metadata": {"name": "web-abc", "namespace": "shop", "labels": {objects.SERVICE_NAME_LABEL: service}, **meta},
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": list(ports),
    }


def page(*items, version="7", **meta):
    return json.dumps({"kind": "List", "metadata": {"resourceVersion": version, **meta}, "items": items}).encode()


def trimmed_service(value):
    stored = objects.decode_object(value)
    assert isinstance(stored, Stored), stored
    return objects.unpack_service(stored.blob)


def trimmed_slice(value):
    stored = objects.decode_object(value)
    assert isinstance(stored, Stored), stored
    return objects.unpack_slice(stored.blob)


def test_a_service_is_trimmed_to_what_names_need():
    value = service(
        clusterIPs=["10.96.0.1", "fd00::1"], ports=[{"name": "http", "port": 80}, {"port": 53, "protocol": "UDP"}]
    )
    trimmed = trimmed_service(value)
    assert (trimmed.namespace, trimmed.name, trimmed.headless, trimmed.external_name) == ("shop", "web", False, "")
    assert trimmed.cluster_ips == (bytes([10, 96, 0, 1]), b"\xfd" + bytes(14) + b"\x01")
    assert trimmed.ports == (Port("http", "TCP", 80), Port("", "UDP", 53))


def test_headless_and_external_services_are_told_apart():
    assert trimmed_service(service(clusterIP="None")).headless
    external = trimmed_service(service(type="ExternalName", externalName="DB.example.com.", clusterIP=""))
    assert external.external_name == "db.example.com"
    assert external.cluster_ips == ()


def test_only_ready_endpoints_are_kept():
    trimmed = trimmed_slice(
        endpoint_slice(
            {"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "hostname": "db-0"},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": False, "serving": True, "terminating": True}},
            {"addresses": ["10.0.0.3"], "conditions": {}, "targetRef": {"kind": "Pod", "name": "web-1"}},
            {"addresses": ["10.0.0.4"], "targetRef": {"kind": "Node", "name": "n1"}},
            ports=[{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "any"}],
        )
    )
    ip = bytes([10, 0, 0])
    assert trimmed.endpoints == (
        Endpoint((ip + b"\x01",), "db-0", ""),
        Endpoint((ip + b"\x03",), "", "web-1"),
        Endpoint((ip + b"\x04",), "", ""),
    )
    assert trimmed.ports == (Port("http", "TCP", 80), Port("any", "TCP", objects.NO_PORT))


def test_a_slice_of_no_service_or_of_names_is_of_no_interest():
    value = endpoint_slice()
    value["metadata"]["labels"] = None
    assert objects.decode_object(value) is None
    assert objects.decode_object(endpoint_slice(family="FQDN")) is None
    assert objects.decode_object({"kind": "Pod"}) is None


def test_equal_objects_make_equal_blobs_whatever_else_changed():
    one, other = service(), service()
    other["metadata"] |= {"resourceVersion": "99", "annotations": {"a": "b"}}
    other["status"] = {"loadBalancer": {}}
    assert objects.decode_object(one) == objects.decode_object(other)


BAD = {
    "not an object": (7, "not an object"),
    "no name": (service(name=""), "metadata.name"),
    "no namespace": (service(namespace=""), "metadata.namespace"),
    "upper case": (service(name="Web"), "DNS label"),
    "dot in name": (service(name="a.b"), "DNS label"),
    "name too long": (service(name="a" * 64), "DNS label"),
    "namespace bad": (service(namespace="../x"), "DNS label"),
    "address bad": (service(clusterIP="10.96.0.999"), "not an IP address"),
    "no address": (service(clusterIP=""), "clusterIP is missing"),
    "ports ill-typed": (service(ports="x"), "ports"),
    "port out of range": (service(ports=[{"port": 70000}]), "0-65535"),
    "port name bad": (service(ports=[{"port": 1, "name": "a.b"}]), "port name"),
    "protocol bad": (service(ports=[{"port": 1, "protocol": "HTTP"}]), "protocol"),
    "external name bad": (service(type="ExternalName", externalName="a b"), "externalName"),
    "external name missing": (service(type="ExternalName"), "externalName"),
    "blank spec": ({"kind": "Service", "metadata": {"name": "a", "namespace": "b"}, "spec": None}, "spec"),
    "metadata ill-typed": ({"kind": "Service", "metadata": [], "spec": {}}, "metadata"),
    "family unknown": (endpoint_slice(family="IPv9"), "addressType"),
    "address of other family": (endpoint_slice({"addresses": ["fd00::1"]}), "not IPv4"),
    "no addresses": (endpoint_slice({"addresses": []}), "missing"),
    "hostname bad": (endpoint_slice({"addresses": ["10.0.0.1"], "hostname": "a.b"}), "hostname"),
    "service label bad": (endpoint_slice(service="a/b"), "service-name"),
    "namespace object bad": ({"kind": "Namespace", "metadata": {"name": "a.b"}}, "DNS label"),
}


@pytest.mark.parametrize("case", BAD)
def test_google_2025_06_a_bad_object_is_skipped_by_name_and_its_neighbours_apply(case):
    bad, words = BAD[case]
    found = objects.decode_object(bad)
    assert isinstance(found, Skipped)
    assert words in found.reason
    if isinstance(bad, dict):
        decoded = objects.decode_list(bad["kind"], page(bad, {**bad, **_good(bad["kind"])}))
        assert [stored.key for stored in decoded.objects] == [_good_key(bad["kind"])]
        assert [skipped.kind for skipped in decoded.skipped] == [bad["kind"]]
        assert words in decoded.skipped[0].reason


def _good(kind):
    return {
        SERVICE: service("good"),
        ENDPOINT_SLICE: endpoint_slice(name="good"),
        NAMESPACE: {"metadata": {"name": "good"}},
    }[kind]


def _good_key(kind):
    return "good" if kind == NAMESPACE else "shop/good"


def test_a_page_carries_where_the_list_stands():
    decoded = objects.decode_list(
        SERVICE, page(service(), version="42", **{"continue": "abc", "remainingItemCount": 9})
    )
    assert (decoded.resource_version, decoded.continue_token, decoded.remaining) == ("42", "abc", 9)
    assert objects.decode_list(SERVICE, b'{"items":null,"metadata":{"resourceVersion":"1"}}').objects == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b"null", b'{"items":7}', b'{"items":[}', b"\xff\xfe", b'{"items":null}']
)
def test_a_body_that_is_no_list_is_refused_as_a_whole(body):
    with pytest.raises(SourceError, match="list of Service"):
        objects.decode_list(SERVICE, body)


def event(kind, value):
    return json.dumps({"type": kind, "object": value}).encode()


def test_events_say_what_changed():
    value = service()
    value["metadata"]["resourceVersion"] = "8"
    added = objects.decode_event(SERVICE, event("ADDED", value))
    assert (added.type, added.key, added.resource_version) == ("ADDED", "shop/web", "8")
    assert added.stored is not None
    deleted = objects.decode_event(SERVICE, event("DELETED", value))
    assert (deleted.key, deleted.stored, deleted.skipped) == ("shop/web", None, None)
    bookmark = objects.decode_event(SERVICE, event("BOOKMARK", {"metadata": {"resourceVersion": "9"}}))
    assert (bookmark.type, bookmark.resource_version) == ("BOOKMARK", "9")
    error = objects.decode_event(SERVICE, event("ERROR", {"code": 410, "reason": "Expired", "message": "too old"}))
    assert (error.type, error.code, error.message) == ("ERROR", 410, "too old")
    bad = objects.decode_event(SERVICE, event("MODIFIED", service(ports="x")))
    assert (bad.key, bad.stored) == ("shop/web", None)
    assert bad.skipped is not None


def test_an_event_outside_the_selection_reads_as_gone():
    selection = Selection(labels=parse_selector("app=web"))
    found = objects.decode_event(SERVICE, event("MODIFIED", service()), selection)
    assert (found.key, found.stored, found.skipped) == ("shop/web", None, None)


@pytest.mark.parametrize("line", [b"", b"x", b"{}", b'{"type":"ADDED"}', b'{"type":"ADDED","object":7}', b"\xff"])
def test_a_line_that_is_no_event_ends_the_watch(line):
    with pytest.raises(SourceError, match="watch event of Service"):
        objects.decode_event(SERVICE, line)


def test_the_selection_applies_to_objects_themselves():
    by_name = Selection(namespaces=frozenset({"other"}))
    assert objects.decode_object(service(), by_name) is None
    assert objects.decode_object({"kind": "Namespace", "metadata": {"name": "shop"}}, by_name) is None
    by_label = Selection(namespace_labels=parse_selector("team=a"))
    labelled = {"kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "a"}, "uid": "u1"}}
    stored = objects.decode_object(labelled, by_label)
    assert isinstance(stored, Stored)
    assert objects.unpack_namespace(stored.blob).uid == "u1"


def test_an_unreadable_name_is_a_question_mark():
    decoded = objects.decode_list(SERVICE, page({"metadata": {"name": 7}}))
    assert decoded.skipped[0].name == "?"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "metadata",
                    "spec",
                    "name",
                    "namespace",
                    "labels",
                    "ports",
                    "port",
                    "clusterIP",
                    "clusterIPs",
                    "endpoints",
                    "addresses",
                    "addressType",
                    "type",
                    "externalName",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(st.lists(JSON, max_size=4), st.sampled_from(objects.KINDS))
def test_whatever_an_api_server_sends_nothing_is_lost_and_nothing_crashes(items, kind):
    decoded = objects.decode_list(kind, page(*items))
    assert len(decoded.objects) + len(decoded.skipped) <= len(items)
    for item in items:
        found = objects.decode_object(item if not isinstance(item, dict) else {**item, "kind": kind})
        assert found is None or isinstance(found, Stored | Skipped)


@given(st.binary(max_size=60))
def test_a_blob_is_read_back_or_refused(blob):
    for unpack in (objects.unpack_service, objects.unpack_slice, objects.unpack_namespace):
        try:
            unpack(blob)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue

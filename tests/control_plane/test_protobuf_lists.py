"""A real API server's lists in protobuf say what its lists in JSON say, for nasty objects too."""

from __future__ import annotations

import pytest

from agent.cluster import protobuf
from agent.cluster.objects import KINDS, decode_list, decode_protobuf
from agent.sources.api import rejection
from benchmarks.cluster_generator import Spec, objects
from tests.control_plane import nasty_cases
from tests.control_plane.api_client import path_of
from tests.control_plane.control_plane import ADMIN, PEER, ControlPlane

pytestmark = [pytest.mark.control_plane, pytest.mark.slow]

PROTOBUF = "application/vnd.kubernetes.protobuf, application/json"


def ask(plane: ControlPlane, path: str, accept: str, token: str = ADMIN) -> tuple[int, bytes]:
    """Send a GET with an Accept header of one's own."""
    connection = plane.admin.connection()
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}", "Accept": accept})
    response = connection.getresponse()
    return response.status, response.read()


@pytest.mark.parametrize("kind", KINDS)
def test_both_encodings_say_the_same(plane: ControlPlane, kind: str):
    plane.admin.write(objects(Spec(services=60, endpoints=700, namespaces=10)))
    plane.admin.write(nasty_cases.objects())
    path = f"{path_of(kind)}?limit=500&resourceVersion=1&resourceVersionMatch=NotOlderThan"
    code, body = ask(plane, path, PROTOBUF)
    assert code == 200
    sheet = protobuf.cut(body)
    wanted = decode_list(kind, ask(plane, path, "application/json")[1])
    found = [decode_protobuf(kind, body, *bounds) for bounds in sheet.items]
    assert [each for each in found if each is not None] == wanted.objects
    assert len(wanted.objects) > 10
    assert (sheet.resource_version, sheet.continue_token) == (wanted.resource_version, wanted.continue_token)


def test_a_page_goes_on_where_it_says(plane: ControlPlane):
    plane.admin.write(objects(Spec(services=40, endpoints=100, namespaces=10)))
    sheet = protobuf.cut(ask(plane, f"{path_of('Service')}?limit=10", PROTOBUF)[1])
    assert len(sheet.items) == 10
    assert sheet.remaining is not None
    assert sheet.remaining >= 30
    rest = protobuf.cut(ask(plane, f"{path_of('Service')}?limit=500&continue={sheet.continue_token}", PROTOBUF)[1])
    assert len(rest.items) == sheet.remaining
    assert rest.continue_token == ""


def test_a_refusal_is_told_in_words(plane: ControlPlane):
    code, body = ask(plane, "/api/v1/secrets", PROTOBUF, PEER)
    assert code == 403
    assert body.startswith(protobuf.MAGIC)
    error = rejection("LIST", "secrets", code, 0.0, body)
    assert 'cannot list resource "secrets"' in str(error)

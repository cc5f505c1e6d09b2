"""The generator's promises: same seed same cluster, kubectl's shape, changes that fit the objects they follow."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from agent.cluster.objects import Stored, decode_object
from benchmarks.cluster_generator import EXAMPLE, Spec, churn, dump, main, objects, write

ROOT = Path(__file__).parents[2]
SPEC = Spec(services=120, endpoints=1500, namespaces=20, seed=7)


def identity(value):
    meta = value["metadata"]
    return value["kind"], meta.get("namespace", ""), meta["name"]


def test_the_same_seed_gives_the_same_cluster_and_another_seed_another():
    assert list(objects(SPEC)) == list(objects(SPEC))
    assert list(objects(SPEC)) != list(objects(Spec(services=120, endpoints=1500, namespaces=20, seed=8)))
    assert list(churn(SPEC, 200)) == list(churn(SPEC, 200))


def test_sizes_are_what_was_asked_for():
    kinds = Counter()
    pods, slices = set(), []
    for value in objects(SPEC):
        kinds[value["kind"]] += 1
        if value["kind"] == "EndpointSlice":
            slices.append(len(value["endpoints"] or ()))
            if value["addressType"] == "IPv4":
                pods.update(endpoint["addresses"][0] for endpoint in value["endpoints"] or ())
    assert kinds["Service"] == 120
    assert kinds["Namespace"] == 20
    assert len(pods) == 1500
    assert max(slices) == 100


def test_no_two_objects_share_a_name_and_versions_rise():
    everything = list(objects(SPEC))
    assert len({identity(value) for value in everything}) == len(everything)
    versions = [int(value["metadata"]["resourceVersion"]) for value in everything]
    assert versions == sorted(set(versions))


@pytest.mark.parametrize("spec", [SPEC, EXAMPLE, Spec(services=60, endpoints=200, bulk=True, demonstration=False)])
def test_every_object_is_one_the_agent_can_use(spec):
    for value in objects(spec):
        assert isinstance(decode_object(value), Stored), identity(value)


def test_addresses_are_given_out_once():
    taken = Counter()
    for value in objects(SPEC):
        if value["kind"] == "Service":
            taken.update(address for address in value["spec"].get("clusterIPs", ()) if address != "None")
        elif value["kind"] == "EndpointSlice":
            taken.update(itertools.chain.from_iterable(e["addresses"] for e in value["endpoints"] or ()))
    assert max(taken.values()) == 1


def test_demonstration_names_are_as_documented():
    found = {identity(value): value for value in objects(EXAMPLE)}
    web = found["Service", "shop", "web"]["spec"]
    assert web["clusterIPs"] == ["10.96.10.80", "fd00:10:96::a50"]
    assert [port["name"] for port in web["ports"]] == ["http", "https"]
    assert found["Service", "shop", "storefront"]["spec"]["externalName"] == "web.shop.svc.cluster.local"
    assert found["Service", "shop", "mail"]["spec"]["externalName"] == "smtp.example.com"
    assert found["Service", "default", "kubernetes"]["spec"]["clusterIP"] == "10.96.0.1"
    assert found["Service", "kube-system", "kube-dns"]["spec"]["clusterIP"] == "10.96.0.10"
    assert found["Namespace", "", "kube-system"]["metadata"]["uid"]
    hostnames = {
        endpoint.get("hostname")
        for key, value in found.items()
        if key[0] == "EndpointSlice" and value["metadata"]["labels"]["kubernetes.io/service-name"] == "db"
        for endpoint in value["endpoints"]
    }
    assert hostnames == {"db-0", "db-1", "db-2"}
    catalog = [v for k, v in found.items() if k[0] == "EndpointSlice" and k[2].startswith("catalog-")]
    assert sorted(len(value["endpoints"]) for value in catalog) == [30, 100, 100]
    workers = next(v for k, v in found.items() if k[0] == "EndpointSlice" and k[2].startswith("workers-"))
    assert "10.128.0.24" in {endpoint["addresses"][0] for endpoint in workers["endpoints"]}


def test_changes_fit_the_objects_they_follow():
    held = {identity(value): value for value in objects(SPEC)}
    types, last = Counter(), 0
    for change in churn(SPEC, 3000):
        key = identity(change.object)
        assert (key in held) == (change.type != "ADDED"), (change.type, key)
        version = int(change.object["metadata"]["resourceVersion"])
        assert version >= last
        last = version
        types[change.type, key[0]] += 1
        if change.type == "DELETED":
            del held[key]
        else:
            held[key] = change.object
        if change.type == "DELETED" and key[0] == "Namespace":
            assert not [other for other in held if other[1] == key[2]]
    assert {kind for _, kind in types} == {"Service", "EndpointSlice", "Namespace"}
    assert {type_ for type_, _ in types} == {"ADDED", "MODIFIED", "DELETED"}


def test_the_printed_list_reads_back(tmp_path):
    path = tmp_path / "cluster.json"
    count = write(EXAMPLE, path)
    value = json.loads(path.read_bytes())
    assert value["kind"] == "List"
    assert value["items"] == list(objects(EXAMPLE))
    assert count == len(value["items"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["cluster.json"]
    compact = io.BytesIO()
    dump(objects(EXAMPLE), compact, indent=0)
    assert json.loads(compact.getvalue()) == value


def test_the_command_prints_a_list_and_a_stream_of_changes(tmp_path):
    command = [sys.executable, "-m", "benchmarks.cluster_generator", "--services", "30", "--endpoints", "300"]
    printed = subprocess.run(command, capture_output=True, check=True, cwd=ROOT).stdout
    assert json.loads(printed)["kind"] == "List"
    output = tmp_path / "changes.jsonl"
    assert main(["--services", "30", "--endpoints", "300", "--churn", "50", "--output", str(output)]) == 0
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(lines) == 50
    assert {line["type"] for line in lines} <= {"ADDED", "MODIFIED", "DELETED"}

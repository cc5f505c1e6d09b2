"""State directories made as the agent makes them, from objects given as manifests."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from agent.cluster.objects import KINDS, Stored, decode_object
from agent.cluster.store import Store
from agent.records.zone import Profile
from agent.snapshot.compiler import Compiler, profile_section, zones_of
from agent.snapshot.entries import Entry
from agent.snapshot.format import SECTION_ANSWERS, SECTION_OBJECTS, SECTION_PROFILE, Header
from agent.snapshot.generations import Generations
from agent.snapshot.objects import encode_objects
from agent.wire.table import AnswerTable, pack

PROFILE = Profile(ns_addresses=(bytes((169, 254, 20, 10)),))
AGE_S = 1843.0


def service(name="web", namespace="shop", ips=("10.96.10.80",), ports=(("http", 80),), **spec) -> dict[str, Any]:
    spec.setdefault("clusterIPs", list(ips))
    return {
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**spec, "ports": [{"name": port, "port": number} for port, number in ports]},
    }


def endpoint_slice(name, service, addresses, namespace="shop", family="IPv4", hostnames=()) -> dict[str, Any]:
    return {
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "addressType": family,
        "endpoints": [
            {"addresses": [address], "hostname": hostname} if hostname else {"addresses": [address]}
            for address, hostname in itertools.zip_longest(addresses, hostnames)
        ],
        "ports": [{"name": "http", "port": 80}],
    }


def namespace(name="shop", uid="") -> dict[str, Any]:
    return {"kind": "Namespace", "metadata": {"name": name, "uid": uid}}


EXAMPLE = [
    namespace("shop"),
    namespace("blog"),
    namespace("kube-system", "1"),
    service("web", ips=("10.96.10.80", "fd00:10:96::a50")),
    service("db", ips=("None",)),
    endpoint_slice("db-1", "db", ["10.128.0.21", "10.128.0.22"], hostnames=["db-0", "db-1"]),
    service("storefront", type="ExternalName", externalName="web.shop.svc.cluster.local", ips=()),
    service("mail", type="ExternalName", externalName="smtp.example.com", ips=()),
    service("web", "blog", ips=("10.96.10.81",)),
    service("only", "blog", ips=("10.96.10.82",)),
]


def stored(manifests: Iterable[Any]) -> list[Stored]:
    found = [each if isinstance(each, Stored) else decode_object(each) for each in manifests]
    assert all(isinstance(each, Stored) for each in found), found
    return found


class States:
    """One state directory, and the history written into it."""

    def __init__(self, path: Path, profile: Profile = PROFILE, identity: str = "uid:1") -> None:
        self.path = path
        self.profile = profile
        self.identity = identity
        self._store = Store()
        self._generations = Generations(path)
        self._generations.lock()
        self._begin()

    def _begin(self) -> None:
        self._table = AnswerTable(zones_of(self.profile))
        self._compiler = Compiler(self.profile, self._table)
        self._compiler.declare_zones()

    def close(self) -> None:
        self._generations.close()

    def file(self, number: int) -> Path:
        return Path(self._generations.path_of(number))

    def journal(self, number: int) -> Path:
        return self.file(number).with_name(f"journal-{number}.ndj")

    def generation(
        self,
        manifests: Iterable[Any],
        *,
        age_s: float = AGE_S,
        sections: Mapping[int, bytes | None] | None = None,
    ) -> int:
        """Write a generation of exactly these objects, with some sections given instead; gives its number."""
        self._replace(stored(manifests))
        self._compiler.take_changes()
        self._journal = self._generations.rotate()
        number = self._journal.generation
        answers = list(self._table.items())
        made = {
            SECTION_PROFILE: profile_section(self.profile),
            SECTION_OBJECTS: list(encode_objects(self._store.objects()))[-1],
            SECTION_ANSWERS: list(pack(answers, len(answers), 7))[-1],
            **(sections or {}),
        }
        self._generations.write(self._header(number, age_s), [(k, v) for k, v in made.items() if v is not None])
        return number

    def change(self, manifests: Iterable[Any], *, age_s: float = AGE_S) -> None:
        """Write one journal step, to exactly these objects."""
        self._replace(stored(manifests))
        self._journal.append(
            Entry(
                positions=dict.fromkeys(KINDS, "later"),
                confirmed_unix_s=time.time() - age_s,
                identity=self.identity,
                objects=self._store.take_touched(),
                nodes=list(self._compiler.take_changes().items()),
            )
        )
        self._journal.sync()

    def _header(self, number: int, age_s: float) -> Header:
        now_s = time.time()
        return Header(
            cluster_identity=self.identity,
            generation=number,
            epoch=0,
            positions=dict.fromkeys(KINDS, "7"),
            confirmed_unix_s=now_s - age_s,
            written_unix_s=now_s - age_s,
            origin="kubernetes",
        )

    def _replace(self, objects: list[Stored]) -> None:
        for kind in KINDS:
            list(self._store.replace(kind, [each for each in objects if each.kind == kind]))
        while (changed := self._store.take_dirty_namespace()) is not None:
            self._compiler.namespace(changed[0], exists=changed[1])
        while (dirty := self._store.take_dirty()) is not None:
            self._compiler.owner(*dirty)

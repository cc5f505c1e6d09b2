"""Where the names come from: a real control plane where there is one, else a file that is taken away.

Law: both can die, come back as they were, and take a new Service; the story is the same.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.cluster_generator import Spec, objects, write
from tests.control_plane import binaries
from tests.control_plane.control_plane import PEER, READER, ControlPlane
from tests.control_plane.nasty_cases import port, service

ZONE = "cluster.local"
SHOWN = f"web.shop.svc.{ZONE}"
"""The name that dig asks; it is none of those that are counted."""
NEW_LABEL, NEW_IP = "after-the-outage", "10.102.0.1"
NEW = f"{NEW_LABEL}.shop.svc.{ZONE}"
NEW_SERVICE = service(NEW_LABEL, port("http", 80), ips=(NEW_IP,), namespace="shop")
Truth = dict[str, frozenset[str]]


def truth_of(items: Iterator[dict[str, Any]]) -> Truth:
    """Give the A records of every Service with a ClusterIP, but of the API server's own and of what dig asks."""
    found: Truth = {}
    for item in items:
        if item["kind"] != "Service" or item["spec"].get("clusterIP", "None") in {"None", ""}:
            continue
        meta = item["metadata"]
        name = f"{meta['name']}.{meta['namespace']}.svc.{ZONE}"
        addresses = frozenset(ip for ip in item["spec"].get("clusterIPs", []) if "." in ip)
        if addresses and name not in {SHOWN, f"kubernetes.default.svc.{ZONE}"}:
            found[name] = addresses
    return found


class RealCluster:
    """etcd and kube-apiserver."""

    words = "the API server is killed (SIGKILL)"
    origin = "kube-apiserver"

    def __init__(self, plane: ControlPlane, spec: Spec) -> None:
        self.plane = plane
        self.truth = truth_of(objects(spec))
        self.written, self.write_s = plane.admin.write(objects(spec))
        self.source = "kubernetes"
        self.options = {"kubeconfig": str(plane.kubeconfig(READER))}
        self.peer_kubeconfig = plane.kubeconfig(PEER)

    def die(self) -> None:
        """Be gone at once."""
        self.plane.kill_api()

    def come_back(self) -> float:
        """Be there again; gives the seconds until it was ready."""
        return self.plane.start_api()

    def add(self) -> None:
        """Create a Service that was not there before."""
        self.plane.admin.create(NEW_SERVICE)


class FileCluster:
    """A file with the cluster, as `kubectl get -o json` prints it."""

    words = "the file with the cluster is removed"
    origin = "a file in place of the API server"

    def __init__(self, root: Path, spec: Spec) -> None:
        self._path, self._away = root / "cluster.json", root / "cluster.json.away"
        self._spec = spec
        self.truth = truth_of(objects(spec))
        started = time.monotonic()
        self.written = write(spec, self._path)
        self.write_s = time.monotonic() - started
        self.source = f"file:{self._path}"
        self.options: dict[str, str] = {}

    def die(self) -> None:
        """Be gone at once."""
        self._path.rename(self._away)

    def come_back(self) -> float:
        """Be there again."""
        self._away.rename(self._path)
        return 0.0

    def add(self) -> None:
        """Write a Service that was not there before into the file."""
        from benchmarks.cluster_generator import dump

        with self._away.open("wb") as out:
            dump([*objects(self._spec), NEW_SERVICE], out)
        self._away.rename(self._path)


Cluster = RealCluster | FileCluster


@contextlib.contextmanager
def cluster(root: Path, spec: Spec) -> Iterator[Cluster]:
    """Start what there is."""
    if binaries.missing():
        yield FileCluster(root, spec)
        return
    with ControlPlane(root / "plane") as plane:
        yield RealCluster(plane, spec)

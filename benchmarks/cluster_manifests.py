"""Workloads as the API server shows them: Service, EndpointSlice and Namespace objects as plain dicts.

Law: what comes out could have come from `kubectl get -o json`, in the API's own shape and with the fields nobody reads.
"""

from __future__ import annotations

import ipaddress
import json
import uuid
from typing import TYPE_CHECKING, Any

from benchmarks.cluster_workloads import (
    CLUSTER_IPV4,
    CLUSTER_IPV6,
    POD_IPV4,
    POD_IPV6,
    Pod,
    Spec,
    Workload,
    suffix,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

EPOCH = "2026-01-12T09:30:00Z"
ZONES = ("eu-west-1a", "eu-west-1b", "eu-west-1c")


def cluster_ip(offset: int, family: str) -> str:
    """Return the ClusterIP `offset` stands for."""
    return str(
        ipaddress.IPv4Address(CLUSTER_IPV4 + offset)
        if family == "IPv4"
        else ipaddress.IPv6Address(CLUSTER_IPV6 + offset)
    )


def pod_ip(offset: int, family: str) -> str:
    """Return the pod address `offset` stands for."""
    return str(
        ipaddress.IPv4Address(POD_IPV4 + offset) if family == "IPv4" else ipaddress.IPv6Address(POD_IPV6 + offset)
    )


def uid(spec: Spec, *parts: object) -> str:
    """Return the UID of an object, the same for the same seed."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, "/".join(map(str, (spec.seed, *parts)))))


def namespace(spec: Spec, name: str, version: int = 1) -> dict[str, Any]:
    """Return a Namespace; that of kube-system has the UID that names the cluster."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "creationTimestamp": EPOCH,
            "labels": {"kubernetes.io/metadata.name": name},
            "name": name,
            "resourceVersion": str(version),
            "uid": uid(spec, "Namespace", name),
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def service(spec: Spec, workload: Workload, version: int = 1) -> dict[str, Any]:
    """Return the Service of a workload."""
    body: dict[str, Any] = {}
    if workload.kind == "external":
        body = {"externalName": workload.external_name, "sessionAffinity": "None", "type": "ExternalName"}
    else:
        headless = workload.kind == "headless"
        addresses = ["None"] if headless else [cluster_ip(workload.offset, family) for family in workload.families]
        body = {
            "clusterIP": addresses[0],
            "clusterIPs": addresses,
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": list(workload.families),
            "ipFamilyPolicy": "RequireDualStack" if len(workload.families) > 1 else "SingleStack",
            "ports": [_service_port(port) for port in workload.ports],
            "sessionAffinity": "None",
            "type": "ClusterIP",
        }
        if workload.selector:
            body["selector"] = {"app.kubernetes.io/name": workload.name}
    result = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(spec, "Service", workload.namespace, workload.name, version, _labels(workload)),
        "spec": body,
        "status": {"loadBalancer": {}},
    }
    return _bulky(result, "kube-apply") if spec.bulk else result


def _service_port(port: Any) -> dict[str, Any]:
    named = {"name": port.name} if port.name else {}
    return {**named, "port": port.port, "protocol": port.protocol, "targetPort": port.target or port.port}


def _labels(workload: Workload) -> dict[str, str]:
    return {"app.kubernetes.io/name": workload.name, "app.kubernetes.io/part-of": workload.namespace, **workload.labels}


def _meta(spec: Spec, kind: str, place: str, name: str, version: int, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "creationTimestamp": EPOCH,
        "labels": labels,
        "name": name,
        "namespace": place,
        "resourceVersion": str(version),
        "uid": uid(spec, kind, place, name),
    }


def slice_names(workload: Workload) -> Iterator[tuple[int, str, str]]:
    """Give (number, family, name) of every slice of a workload."""
    if workload.kind == "external":
        return
    for number in range(len(workload.slices)):
        for family in workload.families:
            tail = suffix(workload.namespace, workload.name, family, number)
            yield number, family, workload.name if workload.name == "kubernetes" else f"{workload.name}-{tail}"


def slices(spec: Spec, workload: Workload, version: int = 1) -> Iterator[dict[str, Any]]:
    """Give the EndpointSlices of a workload, one set for each address family."""
    for number, family, name in slice_names(workload):
        yield endpoint_slice(spec, workload, number, family, name, version)


def endpoint_slice(spec: Spec, workload: Workload, number: int, family: str, name: str, version: int) -> dict[str, Any]:
    """Return slice `number` of one family. An empty one has null lists, as the slice controller leaves it."""
    pods = workload.slices[number]
    labels = {
        **_labels(workload),
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "kubernetes.io/service-name": workload.name,
    }
    if workload.kind == "headless":
        labels["service.kubernetes.io/headless"] = ""
    meta = _meta(spec, "EndpointSlice", workload.namespace, name, version, labels)
    meta["generateName"] = f"{workload.name}-"
    meta["generation"] = 1
    meta["ownerReferences"] = [
        {
            "apiVersion": "v1",
            "blockOwnerDeletion": True,
            "controller": True,
            "kind": "Service",
            "name": workload.name,
            "uid": uid(spec, "Service", workload.namespace, workload.name),
        }
    ]
    result: dict[str, Any] = {
        "addressType": family,
        "apiVersion": "discovery.k8s.io/v1",
        "endpoints": [_endpoint(spec, workload, pod, family) for pod in pods] or None,
        "kind": "EndpointSlice",
        "metadata": meta,
        "ports": [_slice_port(port) for port in workload.ports] if pods else None,
    }
    return _bulky(result, "kube-controller-manager") if spec.bulk else result


def _slice_port(port: Any) -> dict[str, Any]:
    return {"name": port.name, "port": port.target or port.port, "protocol": port.protocol}


def _endpoint(spec: Spec, workload: Workload, pod: Pod, family: str) -> dict[str, Any]:
    ready = pod.ready and not pod.terminating
    result: dict[str, Any] = {
        "addresses": [pod_ip(pod.offset, family)],
        "conditions": {"ready": ready, "serving": pod.ready, "terminating": pod.terminating},
    }
    if pod.hostname:
        result["hostname"] = pod.hostname
    if pod.name:
        result["nodeName"] = f"node-{pod.offset % 97:03}.eu-west-1.compute.internal"
        result["targetRef"] = {
            "kind": "Pod",
            "name": pod.name,
            "namespace": workload.namespace,
            "uid": uid(spec, "Pod", workload.namespace, pod.name),
        }
        result["zone"] = ZONES[pod.offset % len(ZONES)]
    return result


def _bulky(value: dict[str, Any], owner: str) -> dict[str, Any]:
    """Add what a real object drags along: managedFields, and the annotation of `kubectl apply` on a Service."""
    meta = value["metadata"]
    if value["kind"] == "Service":
        applied = {key: value[key] for key in ("apiVersion", "kind", "spec")}
        meta["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(applied) + "\n"}
    fields = {f"f:{key}": {} for key in value.get("spec", value)}
    labels = {f"f:{key}": {} for key in meta["labels"]}
    meta["managedFields"] = [
        {
            "apiVersion": value["apiVersion"],
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": {".": {}, **labels}}, "f:spec": fields},
            "manager": owner,
            "operation": "Update",
            "time": EPOCH,
        }
    ]
    return value

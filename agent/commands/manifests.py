"""Trimmed objects written as Kubernetes objects again, and in words.

Law: what is written here and read by the file source gives the same trimmed object, byte for byte; what had been
trimmed away is not made up.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import msgspec

from agent.cluster.objects import (
    ENDPOINT_SLICE,
    NAMESPACE,
    NO_PORT,
    SERVICE,
    SERVICE_NAME_LABEL,
    Endpoint,
    EndpointSlice,
    Port,
    Service,
    Stored,
    unpack_namespace,
    unpack_service,
    unpack_slice,
)
from agent.errors import SnapshotError

Manifest = dict[str, Any]


def manifest(stored: Stored) -> Manifest:
    """Write an object as `kubectl get -o json` would, as far as it is known.

    Raises:
        SnapshotError: its blob can't be read.
    """
    try:
        if stored.kind == NAMESPACE:
            namespace = unpack_namespace(stored.blob)
            uid = {"uid": namespace.uid} if namespace.uid else {}
            return {"apiVersion": "v1", "kind": NAMESPACE, "metadata": {"name": namespace.name, **uid}}
        if stored.kind == SERVICE:
            return _service(unpack_service(stored.blob))
        return _slice(unpack_slice(stored.blob))
    except msgspec.DecodeError as error:
        raise SnapshotError(f"the {stored.kind} {stored.key} can't be read: {error}") from None


def _service(service: Service) -> Manifest:
    spec: Manifest = {"ports": [_port(port) for port in service.ports]} if service.ports else {}
    if service.external_name:
        spec |= {"type": "ExternalName", "externalName": service.external_name}
    elif service.headless:
        spec |= {"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"]}
    else:
        addresses = [address(each) for each in service.cluster_ips]
        spec |= {"type": "ClusterIP", "clusterIP": addresses[0] if addresses else "", "clusterIPs": addresses}
    metadata = {"name": service.name, "namespace": service.namespace}
    return {"apiVersion": "v1", "kind": SERVICE, "metadata": metadata, "spec": spec}


def _slice(part: EndpointSlice) -> Manifest:
    is_ipv6 = any(len(each) == 16 for endpoint in part.endpoints for each in endpoint.addresses)
    return {
        "addressType": "IPv6" if is_ipv6 else "IPv4",
        "apiVersion": "discovery.k8s.io/v1",
        "endpoints": [_endpoint(endpoint, part.namespace) for endpoint in part.endpoints],
        "kind": ENDPOINT_SLICE,
        "metadata": {
            "labels": {SERVICE_NAME_LABEL: part.service},
            "name": part.name,
            "namespace": part.namespace,
        },
        "ports": [_port(port) for port in part.ports],
    }


def _endpoint(endpoint: Endpoint, namespace: str) -> Manifest:
    out: Manifest = {"addresses": [address(each) for each in endpoint.addresses], "conditions": {"ready": True}}
    if endpoint.hostname:
        out["hostname"] = endpoint.hostname
    if endpoint.pod:
        out["targetRef"] = {"kind": "Pod", "name": endpoint.pod, "namespace": namespace}
    return out


def _port(port: Port) -> Manifest:
    number = {} if port.port == NO_PORT else {"port": port.port}
    return {"name": port.name, **number, "protocol": port.protocol}


def address(packed: bytes) -> str:
    """Write a packed address."""
    return str(ipaddress.ip_address(packed))


def facts(stored: Stored) -> list[str]:
    """Say what an object amounts to, one thing a line, so that two versions of it can be compared.

    Raises:
        SnapshotError: its blob can't be read.
    """
    written = manifest(stored)
    spec = written.get("spec", {})
    found = [f"uid {written['metadata'].get('uid') or 'unknown'}"] if stored.kind == NAMESPACE else []
    found += [f"external name {spec['externalName']}"] if "externalName" in spec else []
    found += ["headless" if each == "None" else f"cluster IP {each}" for each in spec.get("clusterIPs", ())]
    found += [_port_in_words(port) for port in (*spec.get("ports", ()), *written.get("ports", ()))]
    found += [f"of service {label}" for label in written["metadata"].get("labels", {}).values()]
    found += [_endpoint_in_words(endpoint) for endpoint in written.get("endpoints", ())]
    return found


def _port_in_words(port: Manifest) -> str:
    return f"port {port['name'] or '(unnamed)'} {port.get('port', 'any')}/{port['protocol']}"


def _endpoint_in_words(endpoint: Manifest) -> str:
    names = [endpoint[key] for key in ("hostname",) if key in endpoint]
    names += [f"pod {endpoint['targetRef']['name']}"] if "targetRef" in endpoint else []
    return f"endpoint {', '.join(endpoint['addresses'])}" + (f" ({', '.join(names)})" if names else "")

"""Kubernetes objects as an API server encodes them in protobuf, for servers that play one.

Law: knows the field numbers of what names need and of some of what surrounds it; a value that protobuf can't hold is a
TypeError. Independent of the reader in agent/cluster/protobuf.py: it shares no table with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAGIC = b"k8s\0"
MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_VALUES, _MESSAGES = 0, 2
SCHEMAS: dict[str, dict[str, tuple[int, str]]] = {
    "Namespace": {"metadata": (1, "Meta")},
    "Service": {"metadata": (1, "Meta"), "spec": (2, "ServiceSpec")},
    "EndpointSlice": {
        "metadata": (1, "Meta"),
        "endpoints": (2, "Endpoint*"),
        "ports": (3, "Port*"),
        "addressType": (4, "text"),
    },
    "Meta": {
        "name": (1, "text"),
        "namespace": (3, "text"),
        "uid": (5, "text"),
        "resourceVersion": (6, "text"),
        "generation": (7, "number"),
        "labels": (11, "map"),
        "annotations": (12, "map"),
    },
    "ServiceSpec": {
        "ports": (1, "Port*"),
        "selector": (2, "map"),
        "clusterIP": (3, "text"),
        "type": (4, "text"),
        "externalName": (10, "text"),
        "clusterIPs": (18, "text*"),
    },
    "Port": {"name": (1, "text"), "protocol": (2, "text"), "port": (3, "number")},
    "Endpoint": {
        "addresses": (1, "text*"),
        "conditions": (2, "Conditions"),
        "hostname": (3, "text"),
        "targetRef": (4, "Target"),
        "nodeName": (6, "text"),
        "zone": (7, "text"),
    },
    "Conditions": {"ready": (1, "number"), "serving": (2, "number"), "terminating": (3, "number")},
    "Target": {"kind": (1, "text"), "namespace": (2, "text"), "name": (3, "text"), "uid": (4, "text")},
    "ListMeta": {"resourceVersion": (2, "text"), "continue": (3, "text"), "remainingItemCount": (4, "number")},
    "Status": {"status": (2, "text"), "message": (3, "text"), "reason": (4, "text"), "code": (6, "number")},
}


def listed(page: Mapping[str, Any]) -> bytes:
    """Encode a parsed list (`kind`, `metadata`, `items`)."""
    kind = page["kind"].removesuffix("List")
    items = b"".join(field(2, encode(kind, item)) for item in page["items"])
    return enveloped(page["kind"], field(1, encode("ListMeta", page["metadata"])) + items)


def enveloped(kind: str, raw: bytes) -> bytes:
    """Put a message into the envelope that every answer has."""
    about = field(1, b"v1") + field(2, kind.encode())
    return MAGIC + field(1, about) + field(2, raw) + field(3, b"") + field(4, b"")


def encode(schema: str, value: Mapping[str, Any]) -> bytes:
    """Encode a message; what the schema doesn't know is left out."""
    out = bytearray()
    for name, (number, kind) in SCHEMAS[schema].items():
        if value.get(name) is None:
            continue
        many = value[name] if kind.endswith("*") else [value[name]]
        for each in many:
            out += _one(number, kind.removesuffix("*"), each)
    return bytes(out)


def _one(number: int, kind: str, value: Any) -> bytes:
    if kind == "number":
        return varint(number << 3 | _VALUES) + varint(int(value) & (1 << 64) - 1)
    if kind == "text":
        return field(number, _text(value))
    if kind == "map":
        pairs = (field(1, _text(key)) + field(2, _text(each)) for key, each in value.items())
        return b"".join(field(number, pair) for pair in pairs)
    return field(number, encode(kind, value))


def _text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value.encode()


def field(number: int, payload: bytes) -> bytes:
    """Encode a text or message as a field."""
    return varint(number << 3 | _MESSAGES) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    """Encode a number."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)

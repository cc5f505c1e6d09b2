"""Kubernetes objects, trimmed to what names need.

Law: what comes in is hostile until checked: a field that is blank, missing or of the wrong type makes that one
object `Skipped`, by name and reason, and never harms its neighbours. What goes out is a deterministic blob:
equal blobs, equal records.

Sources of the shapes: Kubernetes API v1 Service and Namespace, discovery.k8s.io/v1 EndpointSlice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from agent.cluster import protobuf, shapes
from agent.cluster.selection import EVERYTHING, Selection
from agent.errors import SourceError
from agent.records.names import is_label, packed

NAMESPACE = "Namespace"
SERVICE = "Service"
ENDPOINT_SLICE = "EndpointSlice"
KINDS = (NAMESPACE, SERVICE, ENDPOINT_SLICE)
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
MAX_ENDPOINTS = 5_000
"""Endpoints read of one slice; the API allows 1,000."""
MAX_PORTS = 1_000
MAX_ADDRESSES = 100
PROTOCOLS = frozenset({"TCP", "UDP", "SCTP"})
MAX_PORT = 65_535
NO_PORT = -1
"""Port number of a slice port that means "all ports": it makes no SRV record, but counts in their weight."""


class Port(msgspec.Struct, frozen=True, array_like=True):
    """One port. `name` may be empty (no SRV name then); `protocol` is TCP, UDP or SCTP."""

    name: str
    protocol: str
    port: int


class Namespace(msgspec.Struct, frozen=True, array_like=True):
    """A namespace, and its UID (that of kube-system names the cluster)."""

    name: str
    uid: str = ""


class Service(msgspec.Struct, frozen=True, array_like=True):
    """A Service. `cluster_ips` are packed addresses, empty when headless or ExternalName."""

    namespace: str
    name: str
    headless: bool = False
    cluster_ips: tuple[bytes, ...] = ()
    external_name: str = ""
    ports: tuple[Port, ...] = ()


class Endpoint(msgspec.Struct, frozen=True, array_like=True):
    """A ready endpoint: packed addresses, `hostname` and the pod's name, each possibly empty."""

    addresses: tuple[bytes, ...]
    hostname: str = ""
    pod: str = ""


class EndpointSlice(msgspec.Struct, frozen=True, array_like=True):
    """The ready endpoints of one slice of a Service."""

    namespace: str
    name: str
    service: str
    ports: tuple[Port, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()


class Stored(NamedTuple):
    """A trimmed object as it is held and persisted.

    Attributes:
        kind: one of `KINDS`.
        key: `namespace/name`, or `name` of a Namespace.
        owner: `namespace/service` whose records it takes part in; the name of a Namespace.
        blob: msgpack of the trimmed struct.
    """

    kind: str
    key: str
    owner: str
    blob: bytes


class Skipped(NamedTuple):
    """An object that can't be used: what and why."""

    kind: str
    name: str
    reason: str


class Page(NamedTuple):
    """One page of a list (Kubernetes API concepts, "Retrieving large results sets in chunks")."""

    objects: list[Stored]
    skipped: list[Skipped]
    resource_version: str
    continue_token: str
    remaining: int | None


class Event(NamedTuple):
    """One watch event. `stored` is None for a deletion and for an object that doesn't count (any more)."""

    type: str
    key: str
    stored: Stored | None
    skipped: Skipped | None
    resource_version: str
    code: int = 0
    message: str = ""
    retry_after_s: int = 0


_SHAPES: dict[str, Any] = {
    NAMESPACE: shapes.NamespaceShape,
    SERVICE: shapes.ServiceShape,
    ENDPOINT_SLICE: shapes.SliceShape,
}
_DECODERS = {kind: msgspec.json.Decoder(shape) for kind, shape in _SHAPES.items()}
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading hostile JSON may raise; the last where it is nested deeper than the decoder goes."""
_PROTOBUF_READERS: dict[str, Any] = {
    NAMESPACE: protobuf.namespace,
    SERVICE: protobuf.service,
    ENDPOINT_SLICE: protobuf.endpoint_slice,
}
_NAMED_ONLY = msgspec.json.Decoder(shapes.NamedOnly)
_LIST = msgspec.json.Decoder(shapes.ListShape)
_EVENT = msgspec.json.Decoder(shapes.EventShape)
_STATUS = msgspec.json.Decoder(shapes.StatusShape)
_PACK = msgspec.msgpack.Encoder()
_UNPACKERS: dict[str, Any] = {
    NAMESPACE: msgspec.msgpack.Decoder(Namespace),
    SERVICE: msgspec.msgpack.Decoder(Service),
    ENDPOINT_SLICE: msgspec.msgpack.Decoder(EndpointSlice),
}


class _UnusableError(ValueError):
    """A field can't be used; the text says which and why."""


def unpack_service(blob: bytes) -> Service:
    """Read a stored Service back.

    Raises:
        msgspec.DecodeError: the blob is not one.
    """
    service: Service = _UNPACKERS[SERVICE].decode(blob)
    return service


def unpack_slice(blob: bytes) -> EndpointSlice:
    """Read a stored EndpointSlice back; raises like `unpack_service`."""
    endpoint_slice: EndpointSlice = _UNPACKERS[ENDPOINT_SLICE].decode(blob)
    return endpoint_slice


def unpack_namespace(blob: bytes) -> Namespace:
    """Read a stored Namespace back; raises like `unpack_service`."""
    namespace: Namespace = _UNPACKERS[NAMESPACE].decode(blob)
    return namespace


def decode_list(kind: str, body: bytes, selection: Selection = EVERYTHING) -> Page:
    """Decode one page of a JSON list of `kind`.

    Raises:
        SourceError: the body as a whole is not a list; nothing of it may be used.
    """
    try:
        page = _LIST.decode(body)
    except UNREADABLE as error:
        raise SourceError(f"the list of {kind} objects can't be read: {error}") from None
    if page.items is None and not page.metadata.resourceVersion:
        raise SourceError(f"the list of {kind} objects has no items and no resourceVersion")
    objects, skipped = [], []
    for raw in page.items or ():
        found = _decode(kind, raw, selection)
        if isinstance(found, Stored):
            objects.append(found)
        elif found is not None:
            skipped.append(found)
    meta = page.metadata
    return Page(objects, skipped, meta.resourceVersion, meta.continue_ or "", meta.remainingItemCount)


def decode_protobuf(
    kind: str, data: bytes, start: int, end: int, selection: Selection = EVERYTHING
) -> Stored | Skipped | None:
    """Trim one item of a protobuf list, which stands in `data` from `start` to `end`; see `decode_object`."""
    try:
        return _trim(kind, _PROTOBUF_READERS[kind](data, start, end), selection)
    except (protobuf.BrokenError, _UnusableError) as error:
        try:
            name = _key(kind, protobuf.namespace(data, start, end).metadata)
        except protobuf.BrokenError:
            name = ""
        return Skipped(kind, name or "?", str(error))


def decode_event(kind: str, line: bytes, selection: Selection = EVERYTHING) -> Event:
    """Decode one line of a watch of `kind`.

    Raises:
        SourceError: the line is not an event at all; the watch can't be trusted any further.
    """
    try:
        event = _EVENT.decode(line)
        if event.type == "ERROR":
            status = _STATUS.decode(event.object)
            retry_after_s = max(0, status.details.retryAfterSeconds) if status.details else 0
            message = status.message or status.reason
            return Event("ERROR", "", None, None, "", status.code, message, retry_after_s)
        named = _NAMED_ONLY.decode(event.object)
    except UNREADABLE as error:
        raise SourceError(f"a watch event of {kind} can't be read: {error}") from None
    meta = named.metadata
    key = _key(kind, meta)
    if event.type in {"BOOKMARK", "DELETED"}:
        return Event(event.type, key, None, None, meta.resourceVersion)
    found = _decode(kind, event.object, selection)
    if isinstance(found, Skipped):
        return Event(event.type, key, None, found, meta.resourceVersion)
    return Event(event.type, key, found, None, meta.resourceVersion)


def decode_object(value: Any, selection: Selection = EVERYTHING) -> Stored | Skipped | None:
    """Trim one parsed manifest; None: of no interest, or outside the selection."""
    if not isinstance(value, dict):
        return Skipped("?", "?", f"is a {type(value).__name__}, not an object")
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in _SHAPES:
        return None
    try:
        shape = msgspec.convert(value, _SHAPES[kind])
        return _trim(kind, shape, selection)
    except (msgspec.ValidationError, _UnusableError) as error:
        meta = value.get("metadata")
        meta = meta if isinstance(meta, dict) else {}
        name = "/".join(str(meta[part])[:253] for part in ("namespace", "name") if meta.get(part))
        return Skipped(kind, name or "?", str(error))


def _decode(kind: str, raw: msgspec.Raw, selection: Selection) -> Stored | Skipped | None:
    try:
        return _trim(kind, _DECODERS[kind].decode(raw), selection)
    except (*UNREADABLE, _UnusableError) as error:
        try:
            name = _key(kind, _NAMED_ONLY.decode(raw).metadata)
        except UNREADABLE:
            name = ""
        return Skipped(kind, name or "?", str(error))


def _key(kind: str, meta: shapes.Meta) -> str:
    return meta.name if kind == NAMESPACE else f"{meta.namespace}/{meta.name}"


def _trim(kind: str, shape: Any, selection: Selection) -> Stored | None:
    meta: shapes.Meta = shape.metadata
    if not meta.name:
        raise _UnusableError("metadata.name is missing")
    if kind == NAMESPACE:
        return _trim_namespace(meta, selection)
    if not meta.namespace:
        raise _UnusableError("metadata.namespace is missing")
    _require_label(meta.namespace, "metadata.namespace")
    if not selection.takes_namespace_name(meta.namespace) or not selection.takes_labels(meta.labels or {}):
        return None
    return _trim_service(meta, shape) if kind == SERVICE else _trim_slice(meta, shape)


def _trim_namespace(meta: shapes.Meta, selection: Selection) -> Stored | None:
    _require_label(meta.name, "metadata.name")
    if not selection.takes_namespace(meta.name, meta.labels or {}):
        return None
    return Stored(NAMESPACE, meta.name, meta.name, _PACK.encode(Namespace(meta.name, meta.uid)))


def _trim_service(meta: shapes.Meta, shape: shapes.ServiceShape) -> Stored:
    _require_label(meta.name, "metadata.name")
    spec = shape.spec
    addresses: tuple[bytes, ...] = ()
    external, headless = "", False
    if spec.type == "ExternalName":
        external = _external_name(spec.externalName)
    else:
        texts = spec.clusterIPs or ([spec.clusterIP] if spec.clusterIP else [])
        headless = "None" in texts
        if not texts:
            raise _UnusableError("spec.clusterIP is missing: no address has been allocated")
        if not headless:
            addresses = tuple(_address(text, "spec.clusterIPs") for text in texts[:MAX_ADDRESSES])
    ports = tuple(
        Port(_port_name(p.name), _protocol(p.protocol), _port_number(p.port)) for p in (spec.ports or ())[:MAX_PORTS]
    )
    service = Service(meta.namespace, meta.name, headless, addresses, external, ports)
    key = f"{meta.namespace}/{meta.name}"
    return Stored(SERVICE, key, key, _PACK.encode(service))


def _trim_slice(meta: shapes.Meta, shape: shapes.SliceShape) -> Stored | None:
    service = (meta.labels or {}).get(SERVICE_NAME_LABEL, "")
    if not service or shape.addressType == "FQDN":
        return None
    _require_label(service, f"label {SERVICE_NAME_LABEL}")
    if shape.addressType not in {"IPv4", "IPv6"}:
        raise _UnusableError(f"addressType {shape.addressType!r} is not IPv4, IPv6 or FQDN")
    size = 4 if shape.addressType == "IPv4" else 16
    endpoints = []
    for endpoint in (shape.endpoints or ())[:MAX_ENDPOINTS]:
        if endpoint.conditions is not None and endpoint.conditions.ready is False:
            continue
        addresses = tuple(_address(text, "endpoints.addresses") for text in endpoint.addresses[:MAX_ADDRESSES])
        if not addresses or any(len(address) != size for address in addresses):
            raise _UnusableError(f"an endpoint's addresses are missing or not {shape.addressType}")
        hostname, pod = endpoint.hostname or "", ""
        if hostname:
            _require_label(hostname, "endpoints.hostname")
        target = endpoint.targetRef
        if target is not None and target.kind == "Pod" and target.name and is_label(target.name):
            pod = target.name
        endpoints.append(Endpoint(addresses, hostname, pod))
    ports = tuple(
        Port(_port_name(p.name), _protocol(p.protocol), _port_number(p.port) if p.port is not None else NO_PORT)
        for p in (shape.ports or ())[:MAX_PORTS]
    )
    trimmed = EndpointSlice(meta.namespace, meta.name, service, ports, tuple(endpoints))
    key, owner = f"{meta.namespace}/{meta.name}", f"{meta.namespace}/{service}"
    return Stored(ENDPOINT_SLICE, key, owner, _PACK.encode(trimmed))


def _require_label(text: str, field: str) -> None:
    if not is_label(text):
        raise _UnusableError(f"{field} {text[:80]!r} is not a DNS label")


def _address(text: str, field: str) -> bytes:
    address = packed(text)
    if address is None:
        raise _UnusableError(f"{field} has {text[:80]!r}, which is not an IP address")
    return address


def _external_name(text: str | None) -> str:
    name = (text or "").removesuffix(".").lower()
    parts = name.split(".")
    if not name or len(name) > 253 or not all(is_label(part) for part in parts):
        raise _UnusableError(f"spec.externalName {(text or '')[:80]!r} is not a domain name")
    return name


def _port_name(text: str | None) -> str:
    if text and not is_label(text):
        raise _UnusableError(f"port name {text[:80]!r} is not a DNS label")
    return text or ""


def _protocol(text: str | None) -> str:
    protocol = text or "TCP"
    if protocol not in PROTOCOLS:
        raise _UnusableError(f"protocol {protocol[:20]!r} is not TCP, UDP or SCTP")
    return protocol


def _port_number(number: int) -> int:
    if not 0 <= number <= MAX_PORT:
        raise _UnusableError(f"port {number} is outside 0-65535")
    return number

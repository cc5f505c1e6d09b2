"""Objects and lists in the API servers' protobuf encoding, as far as names need them.

Law: bytes in, the shapes out that JSON gives (`cluster.shapes`), to be judged by the same rules. What comes in is
hostile: every length is checked against its message, depth is fixed by the code, unknown fields are passed over, and
whatever doesn't fit is a `BrokenError`, never an IndexError. Nothing is copied but what is kept.

Source: the Protocol Buffers encoding guide; field numbers from the generated.proto files of Kubernetes (meta/v1,
core/v1, discovery/v1; runtime.Unknown for the envelope), which are an API that never changes.
"""

from __future__ import annotations

from typing import NamedTuple

from agent.cluster import shapes

MAGIC = b"k8s\0"
"""What every protobuf body begins with; JSON never does."""
MAX_VARINT_BYTES = 10
MAX_KNOWN = 1_000
"""Conditions remembered by their bytes: there are a handful, unless somebody makes them up."""
NOTHING = (0, 0)
_SIGN = 1 << 63

Field = tuple[int, int, int]
"""Tag (field number * 8 + wire type), then start and end of its bytes, or its value and 0."""


class BrokenError(ValueError):
    """Bytes that are no such message."""


class Sheet(NamedTuple):
    """A list cut into its items.

    Attributes:
        items: start and end of each in the body.
        resource_version, continue_token, remaining: see ListMeta.
    """

    items: list[tuple[int, int]]
    resource_version: str
    continue_token: str
    remaining: int | None


def scan(data: bytes, at: int, end: int) -> list[Field]:
    """Find the fields of the message that stands from `at` to `end`.

    Raises:
        BrokenError: it is none.
    """
    found: list[Field] = []
    try:
        while at < end:
            tag = data[at]
            at += 1
            if tag >= 0x80:
                tag, at = _varint(data, at - 1)
            wire = tag & 7
            if wire in {0, 2}:
                # Nearly every number is one byte: the call is for the others.
                value = data[at]
                at += 1
                if value >= 0x80:
                    value, at = _varint(data, at - 1)
                if wire == 2:
                    start, at = at, at + value
                    found.append((tag, start, at))
                else:
                    found.append((tag, value, 0))
            elif wire in {1, 5}:
                at += 8 if wire == 1 else 4
            else:
                raise BrokenError(f"wire type {wire} is not used by Kubernetes")
    except IndexError:
        raise BrokenError("a message ends in the middle of a field") from None
    if at != end:
        raise BrokenError("a field is longer than its message")
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for place in range(at, at + MAX_VARINT_BYTES):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise BrokenError("a number has more than ten bytes")


def cut(body: bytes) -> Sheet:
    """Cut a list into items.

    Raises:
        BrokenError: it is none.
    """
    start, end = _last(scan(body, len(MAGIC), len(body)), 0x12) if body.startswith(MAGIC) else (0, 0)
    if not end:
        raise BrokenError("the envelope holds nothing")
    fields = scan(body, start, end)
    meta = _last(fields, 0x0A)
    if meta == NOTHING:
        raise BrokenError("the list has no metadata")
    texts, remaining = {0x12: "", 0x1A: ""}, None
    for tag, a, b in scan(body, *meta):
        if tag in texts:
            texts[tag] = _text(body, a, b)
        elif tag == 0x20:
            remaining = a
    return Sheet([(a, b) for tag, a, b in fields if tag == 0x12], texts[0x12], texts[0x1A], remaining)


def status(body: bytes) -> shapes.StatusShape:
    """Read a Status, which is how a refusal comes.

    Raises:
        BrokenError: it is none.
    """
    start, end = _last(scan(body, len(MAGIC), len(body)), 0x12) if body.startswith(MAGIC) else (0, 0)
    found = shapes.StatusShape()
    for tag, a, b in scan(body, start, end):
        if tag == 0x1A:
            found.message = _text(body, a, b)
        elif tag == 0x22:
            found.reason = _text(body, a, b)
        elif tag == 0x30:
            found.code = a
    return found


def namespace(data: bytes, start: int, end: int) -> shapes.NamespaceShape:
    """Read a Namespace, or any object for its metadata alone.

    Raises:
        BrokenError: it is none.
    """
    return shapes.NamespaceShape(_meta(data, *_last(scan(data, start, end), 0x0A)))


def service(data: bytes, start: int, end: int) -> shapes.ServiceShape:
    """Read a Service; raises like `namespace`."""
    fields = scan(data, start, end)
    return shapes.ServiceShape(_meta(data, *_last(fields, 0x0A)), _spec(data, *_last(fields, 0x12)))


def _meta(data: bytes, start: int, end: int) -> shapes.Meta:
    meta, labels = shapes.Meta(), {}
    for tag, a, b in scan(data, start, end):
        if tag == 0x0A:
            meta.name = _text(data, a, b)
        elif tag == 0x1A:
            meta.namespace = _text(data, a, b)
        elif tag == 0x2A:
            meta.uid = _text(data, a, b)
        elif tag == 0x32:
            meta.resourceVersion = _text(data, a, b)
        elif tag == 0x5A:
            entry = scan(data, a, b)
            labels[_text(data, *_last(entry, 0x0A))] = _text(data, *_last(entry, 0x12))
    meta.labels = labels
    return meta


def _spec(data: bytes, start: int, end: int) -> shapes.ServiceSpec:
    spec, addresses, ports = shapes.ServiceSpec(), [], []
    for tag, a, b in scan(data, start, end):
        if tag == 0x0A:
            name, protocol, number = _port(data, a, b)
            ports.append(shapes.ServicePort(number or 0, name, protocol))
        elif tag == 0x1A:
            spec.clusterIP = _text(data, a, b)
        elif tag == 0x22:
            spec.type = _text(data, a, b)
        elif tag == 0x52:
            spec.externalName = _text(data, a, b)
        elif tag == 0x92:
            addresses.append(_text(data, a, b))
    spec.clusterIPs, spec.ports = addresses or None, ports
    return spec


def _port(data: bytes, start: int, end: int) -> tuple[str | None, str | None, int | None]:
    name = protocol = number = None
    for tag, a, b in scan(data, start, end):
        if tag == 0x0A:
            name = _text(data, a, b)
        elif tag == 0x12:
            protocol = _text(data, a, b)
        elif tag == 0x18:
            number = a - 2 * _SIGN if a >= _SIGN else a
    return name, protocol, number


def endpoint_slice(data: bytes, start: int, end: int) -> shapes.SliceShape:
    """Read an EndpointSlice; raises like `namespace`."""
    endpoints: list[shapes.EndpointShape] = []
    ports: list[shapes.SlicePort] = []
    known: dict[bytes, shapes.Conditions] = {}
    found = shapes.SliceShape(shapes.Meta(), "", endpoints, ports)
    for tag, a, b in scan(data, start, end):
        if tag == 0x12:
            endpoints.append(_endpoint(data, a, b, known))
        elif tag == 0x1A:
            name, protocol, number = _port(data, a, b)
            ports.append(shapes.SlicePort(name, number, protocol))
        elif tag == 0x22:
            found.addressType = _text(data, a, b)
        elif tag == 0x0A:
            found.metadata = _meta(data, a, b)
    return found


def _endpoint(data: bytes, start: int, end: int, known: dict[bytes, shapes.Conditions]) -> shapes.EndpointShape:
    found = shapes.EndpointShape([])
    for tag, a, b in scan(data, start, end):
        if tag == 0x0A:
            found.addresses.append(_text(data, a, b))
        elif tag == 0x12:
            raw = data[a:b]
            found.conditions = known.get(raw) or _conditions(raw, known)
        elif tag == 0x1A:
            found.hostname = _text(data, a, b)
        elif tag == 0x22:
            found.targetRef = _target(data, a, b)
    return found


def _conditions(raw: bytes, known: dict[bytes, shapes.Conditions]) -> shapes.Conditions:
    ready = [a for tag, a, _ in scan(raw, 0, len(raw)) if tag == 0x08]
    found = shapes.Conditions(bool(ready[-1]) if ready else None)
    if len(known) < MAX_KNOWN:
        known[raw] = found
    return found


def _target(data: bytes, start: int, end: int) -> shapes.Target:
    found = shapes.Target()
    for tag, a, b in scan(data, start, end):
        if tag == 0x0A:
            found.kind = _text(data, a, b)
        elif tag == 0x1A:
            found.name = _text(data, a, b)
    return found


def _last(fields: list[Field], tag: int) -> tuple[int, int]:
    """Give the bounds of a message or text; nothing at all if it is absent."""
    bounds = NOTHING
    for each, a, b in fields:
        if each == tag:
            bounds = a, b
    return bounds


def _text(data: bytes, start: int, end: int) -> str:
    try:
        return data[start:end].decode()
    except UnicodeDecodeError:
        raise BrokenError("a text is not UTF-8") from None

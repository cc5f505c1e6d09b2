"""The JSON that API servers send, as far as names need it; unknown fields are skipped by the decoder.

Law: shapes only, named and typed as in the Kubernetes API (v1 Service, Namespace, Status; discovery.k8s.io/v1
EndpointSlice; meta/v1 ListMeta, WatchEvent). Whether values make sense is judged in `objects`.
"""

from __future__ import annotations

import msgspec


class Meta(msgspec.Struct):
    """ObjectMeta, as far as it is used."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    labels: dict[str, str] | None = None


class NamedOnly(msgspec.Struct):
    """Any object, for its name alone."""

    kind: str = ""
    metadata: Meta = msgspec.field(default_factory=Meta)


class ServicePort(msgspec.Struct):
    """ServicePort."""

    port: int
    name: str | None = None
    protocol: str | None = None


class ServiceSpec(msgspec.Struct):
    """ServiceSpec."""

    type: str | None = None
    clusterIP: str | None = None
    clusterIPs: list[str] | None = None
    externalName: str | None = None
    ports: list[ServicePort] | None = None


class ServiceShape(msgspec.Struct):
    """Service."""

    metadata: Meta
    spec: ServiceSpec


class SlicePort(msgspec.Struct):
    """EndpointPort."""

    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class Conditions(msgspec.Struct):
    """EndpointConditions; an absent `ready` counts as ready."""

    ready: bool | None = None


class Target(msgspec.Struct):
    """ObjectReference of an endpoint."""

    kind: str | None = None
    name: str | None = None


class EndpointShape(msgspec.Struct):
    """Endpoint."""

    addresses: list[str]
    conditions: Conditions | None = None
    hostname: str | None = None
    targetRef: Target | None = None


class SliceShape(msgspec.Struct):
    """EndpointSlice."""

    metadata: Meta
    addressType: str
    endpoints: list[EndpointShape] | None = None
    ports: list[SlicePort] | None = None


class NamespaceShape(msgspec.Struct):
    """Namespace."""

    metadata: Meta


class ListMeta(msgspec.Struct):
    """ListMeta."""

    resourceVersion: str = ""
    remainingItemCount: int | None = None
    continue_: str | None = msgspec.field(default=None, name="continue")


class ListShape(msgspec.Struct):
    """A list whose items are decoded one by one, so that a bad one harms nobody."""

    items: list[msgspec.Raw] | None
    metadata: ListMeta = msgspec.field(default_factory=ListMeta)


class StatusDetails(msgspec.Struct):
    """StatusDetails."""

    retryAfterSeconds: int = 0


class StatusShape(msgspec.Struct):
    """Status, as a watch's ERROR event carries it."""

    code: int = 0
    message: str = ""
    reason: str = ""
    details: StatusDetails | None = None


class EventShape(msgspec.Struct):
    """WatchEvent."""

    type: str
    object: msgspec.Raw

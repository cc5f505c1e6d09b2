"""What the reflector needs of an API client, and how its failures are told apart.

Law: an error's text is for people: what was asked, what came back, what to do. Which class it is decides who waits:
unreachable and silent servers hold up every request, a rejection may concern one kind only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from agent.cluster import protobuf
from agent.cluster.objects import ENDPOINT_SLICE, NAMESPACE, SERVICE, UNREADABLE
from agent.cluster.selection import Requirement, Selection
from agent.errors import SourceError

Query = list[tuple[str, str]]

MAX_MESSAGE = 300
"""Characters of a server's message that are passed on."""


class CredentialsError(SourceError):
    """The configuration or the credentials can't be used: nothing was sent."""


class UnreachableError(SourceError):
    """No connection: nothing was asked."""


class SilentError(SourceError):
    """There was a connection, but no answer, or one that broke off."""


class RejectedError(SourceError):
    """The server answered, and the answer is no.

    Args:
        code: HTTP status, or the code of a Status object.
        retry_after_s: how long the server wants to be left alone, 0 if it didn't say.
    """

    def __init__(self, message: str, *, code: int, retry_after_s: float = 0.0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.retry_after_s = retry_after_s


class GoneError(SourceError):
    """The position is older than the server's history (410): a full set is needed."""


class BehindError(SourceError):
    """The server has not reached the position yet, or its history went back.

    Args:
        retry_after_s: how long the server wants to be left alone, 0 if it didn't say.
    """

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ClusterChangedError(SourceError):
    """The server speaks for another cluster than before: no position is worth anything."""


class Answer(Protocol):
    """The head of an HTTP answer, and its body in pieces as they come."""

    status: int
    encoding: str
    retry_after_s: float

    async def chunk(self) -> bytes:
        """Give the next bytes as received (still compressed); b"" at the end.

        Raises:
            SilentError: the connection broke.
        """

    def close(self) -> None:
        """Let go of the connection."""


class Api(Protocol):
    """An authenticated way to the API servers."""

    async def get(self, path: str, query: Query, *, is_watch: bool) -> Answer:
        """Send a request and wait for the head of its answer.

        Raises:
            CredentialsError, UnreachableError: nothing was sent.
            SilentError: nothing came back.
        """

    async def post(self, path: str, value: Mapping[str, Any]) -> Answer:
        """Create an object; raises like `get`."""

    async def probe(self) -> None:
        """Open a TCP connection and close it again.

        Raises:
            UnreachableError: that isn't possible.
        """

    def distrust(self) -> None:
        """Read credentials and certificates again before the next request."""


class Resource(NamedTuple):
    """Objects of one kind that are listed and watched.

    Attributes:
        kind: one of `cluster.objects.KINDS`.
        name: as RBAC knows it, with its API group.
        path: of the collection.
        query: selectors.
    """

    kind: str
    name: str
    path: str
    query: tuple[tuple[str, str], ...]


def resources(selection: Selection) -> tuple[Resource, ...]:
    """Give what to list and watch, in this order; the server filters what it can of the selection."""
    only = next(iter(selection.namespaces)) if len(selection.namespaces) == 1 else ""
    inside = f"/namespaces/{only}" if only else ""
    labels = (("labelSelector", selector_text(selection.labels)),) if selection.labels else ()
    of_namespaces: tuple[tuple[str, str], ...] = ()
    if only:
        of_namespaces += (("fieldSelector", f"metadata.name={only}"),)
    if selection.namespace_labels:
        of_namespaces += (("labelSelector", selector_text(selection.namespace_labels)),)
    slices = f"/apis/discovery.k8s.io/v1{inside}/endpointslices"
    return (
        Resource(NAMESPACE, "namespaces", "/api/v1/namespaces", of_namespaces),
        Resource(SERVICE, "services", f"/api/v1{inside}/services", labels),
        Resource(ENDPOINT_SLICE, "endpointslices.discovery.k8s.io", slices, labels),
    )


def selector_text(requirements: tuple[Requirement, ...]) -> str:
    """Write a parsed label selector the way the API takes it."""
    parts = []
    for key, is_wanted, values in requirements:
        if values is None:
            parts.append(key if is_wanted else f"!{key}")
        elif len(values) == 1:
            parts.append(f"{key}{'=' if is_wanted else '!='}{next(iter(values))}")
        else:
            parts.append(f"{key} {'in' if is_wanted else 'notin'} ({','.join(sorted(values))})")
    return ",".join(parts)


class _Cause(msgspec.Struct):
    reason: str = ""


class _Details(msgspec.Struct):
    causes: list[_Cause] | None = None


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""
    details: _Details | None = None


_STATUS = msgspec.json.Decoder(_Status)


def rejection(verb: str, resource: str, code: int, retry_after_s: float, body: bytes) -> SourceError:
    """Make the error for an answer that is no; `body` is a Status object or anything at all.

    Source: Kubernetes API concepts, "Resource versions" (410, "Too large resource version") and "Response status".
    """
    try:
        if body.startswith(protobuf.MAGIC):
            told = protobuf.status(body)
            status = _Status(told.message, told.reason)
        else:
            status = _STATUS.decode(body)
    except protobuf.BrokenError as error:
        status = _Status(message=f"a Status that can't be read: {error}")
    except UNREADABLE:
        status = _Status(message=body[:MAX_MESSAGE].decode("utf-8", "replace"))
    message = " ".join((status.message or status.reason).split())[:MAX_MESSAGE]
    asked = f"{verb.lower()} {resource}"
    if code == 410:
        return GoneError(f"the API server no longer knows the position to {asked} from: {message}")
    causes = status.details.causes if status.details and status.details.causes else []
    if any(cause.reason == "ResourceVersionTooLarge" for cause in causes) or "Too large resource version" in message:
        return BehindError(f"the API server is behind what is held: {message}", retry_after_s=retry_after_s)
    hint = ""
    if code == 401:
        hint = "Check the token or client certificate: the API server does not accept it"
    elif code == 403:
        verbs = "verb create" if verb == "CREATE" else "verbs list and watch"
        hint = f"Grant the {verbs} on {resource} to the account that nodens runs as (RBAC)"
    elif code == 404:
        hint = "Check that the address is that of a Kubernetes API server"
    return RejectedError(
        f"the API server answered {code} to {asked}: {message or 'no reason given'}",
        code=code,
        retry_after_s=retry_after_s,
        hint=hint,
    )


def is_older(position: str, than: str) -> bool:
    """Compare two resource versions (ordered since KEP-5504); False if either is no number."""
    return position.isdigit() and than.isdigit() and int(position) < int(than)

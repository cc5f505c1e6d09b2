"""Writing to the API server as an administrator does: create, replace, patch, delete, and many objects at once."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

PLURALS = {"Namespace": "namespaces", "Service": "services", "EndpointSlice": "endpointslices"}
_SERVER_FIELDS = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "ownerReferences")
MERGE = "application/merge-patch+json"


class ApiError(AssertionError):
    """The API server said no."""

    def __init__(self, verb: str, path: str, code: int, body: bytes) -> None:
        super().__init__(f"{verb} {path}: {code} {body[:500].decode(errors='replace')}")
        self.code = code


def path_of(kind: str, namespace: str = "", name: str = "") -> str:
    """Return the REST path of a kind, or of one object."""
    base = "/apis/discovery.k8s.io/v1" if kind == "EndpointSlice" else "/api/v1"
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"{base}{place}/{PLURALS[kind]}" + (f"/{name}" if name else "")


def creatable(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object without what only the server may set."""
    meta = {key: part for key, part in value["metadata"].items() if key not in _SERVER_FIELDS}
    return {**{key: part for key, part in value.items() if key != "status"}, "metadata": meta}


class ApiClient:
    """A client with one connection per thread."""

    def __init__(self, host: str, port: int, token: str, ca: str) -> None:
        self._where = (host, port)
        self._token = token
        self._tls = ssl.create_default_context(cafile=ca)
        self._local = threading.local()

    def connection(self) -> http.client.HTTPSConnection:
        """Return this thread's connection."""
        held: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
        if held is None:
            held = http.client.HTTPSConnection(*self._where, context=self._tls, timeout=30)
            self._local.connection = held
        return held

    def close(self) -> None:
        held = getattr(self._local, "connection", None)
        if held is not None:
            held.close()
            self._local.connection = None

    def send(self, verb: str, path: str, body: object = None, content_type: str = "application/json") -> None:
        """Send a request and don't wait for its answer; `receive` must follow."""
        text = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content_type}
        self.connection().request(verb, path, text, headers)

    def receive(self) -> tuple[int, bytes]:
        """Read the answer of what `send` sent: status, body."""
        response = self.connection().getresponse()
        return response.status, response.read()

    def request(self, verb: str, path: str, body: object = None, content_type: str = "application/json") -> Any:
        """Send and wait; returns parsed JSON (or text). A dropped idle connection is opened anew once.

        Raises:
            ApiError: the status is not 2xx.
        """
        for attempt in (0, 1):
            try:
                self.send(verb, path, body, content_type)
                code, answer = self.receive()
                break
            except (http.client.HTTPException, OSError):
                self.close()
                if attempt:
                    raise
        if not 200 <= code < 300:
            raise ApiError(verb, path, code, answer)
        return json.loads(answer) if answer[:1] in {b"{", b"["} else answer.decode()

    def create(self, value: Mapping[str, Any]) -> Any:
        """Create an object of the generator's or of your own."""
        return self.request("POST", path_of(value["kind"], value["metadata"].get("namespace", "")), creatable(value))

    def ensure(self, value: Mapping[str, Any]) -> None:
        """Create an object, or leave the one that is there."""
        try:
            self.create(value)
        except ApiError as error:
            if error.code != 409:
                raise

    def replace(self, value: Mapping[str, Any]) -> Any:
        """Replace an object, whatever its version."""
        meta = value["metadata"]
        return self.request("PUT", path_of(value["kind"], meta.get("namespace", ""), meta["name"]), creatable(value))

    def patch(self, kind: str, namespace: str, name: str, body: object) -> Any:
        """Apply a JSON merge patch."""
        return self.request("PATCH", path_of(kind, namespace, name), body, MERGE)

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete one object; one that isn't there is fine."""
        try:
            self.request("DELETE", path_of(kind, namespace, name))
        except ApiError as error:
            if error.code != 404:
                raise

    def get(self, kind: str, namespace: str = "", name: str = "") -> Any:
        """Read one object, or a list."""
        return self.request("GET", path_of(kind, namespace, name))

    def remove_namespace(self, name: str) -> None:
        """Delete a Namespace for good: no controller runs here, so the finalizer is taken away by hand."""
        self.delete("Namespace", "", name)
        try:
            value = self.get("Namespace", "", name)
            value["spec"]["finalizers"] = []
            self.request("PUT", path_of("Namespace", "", name) + "/finalize", value)
        except ApiError as error:
            if error.code != 404:
                raise

    def apply(self, change: str, value: Mapping[str, Any]) -> None:
        """Carry out one change of the generator: ADDED, MODIFIED or DELETED."""
        meta = value["metadata"]
        if change == "ADDED":
            self.ensure(value)
        elif change == "MODIFIED":
            self.replace(value)
        elif value["kind"] == "Namespace":
            self.remove_namespace(meta["name"])
        else:
            self.delete(value["kind"], meta.get("namespace", ""), meta["name"])

    def write(self, values: Iterable[Mapping[str, Any]], connections: int = 6) -> tuple[int, float]:
        """Create many objects over several connections, namespaces first; returns how many and how long (s)."""
        ordered: dict[str, list[Mapping[str, Any]]] = {"Namespace": [], "Service": [], "EndpointSlice": []}
        for value in values:
            if value["kind"] == "Service" and value["metadata"]["name"] == "kubernetes":
                continue  # the API server's own; its address is taken
            ordered[value["kind"]].append(value)
        started = time.monotonic()
        with ThreadPoolExecutor(connections) as pool:
            for group in ordered.values():
                for future in [pool.submit(self._write_some, group[i::connections]) for i in range(connections)]:
                    future.result()
        return sum(map(len, ordered.values())), time.monotonic() - started

    def _write_some(self, values: list[Mapping[str, Any]]) -> None:
        try:
            for value in values:
                self.ensure(value)
        finally:
            self.close()

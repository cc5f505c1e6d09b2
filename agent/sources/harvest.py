"""What one reading of files yields: objects, what was left out and why, and the counts.

Law: a bad object is left out, named and counted, and never harms its neighbours; of an object given twice the last one
in file order counts. Objects leave in small batches, so what is held does not grow with the files, except for the
names seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agent.cluster.objects import ENDPOINT_SLICE, NAMESPACE, SERVICE, Skipped, Stored, unpack_namespace
from agent.cluster.selection import Selection
from agent.errors import SourceError
from agent.sources.exchange import (
    FRAME_GOAL_BYTES,
    MAX_BLOB_BYTES,
    MAX_KEY_CHARS,
    MAX_OBJECTS,
    MAX_SKIPS_NAMED,
    Message,
    Objects,
    Skips,
    plain,
)

API_VERSIONS = {
    NAMESPACE: frozenset({"", "v1"}),
    SERVICE: frozenset({"", "v1"}),
    ENDPOINT_SLICE: frozenset({"", "discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"}),
}
"""What the kinds are called in full: a Service of serving.knative.dev is none of ours. "" = left out."""
IDENTITY_NAMESPACE = "kube-system"
MAX_UID_CHARS = 64
_STORED_OVERHEAD_BYTES = 24


def wanted(kind: str, api_version: str) -> bool:
    """Tell whether an object of this kind and apiVersion makes names."""
    return api_version in API_VERSIONS.get(kind, ())


class Harvest:
    """Gathers what the documents hold and sends it off in batches.

    Args:
        selection: objects that count.
        send: takes each message; may block.
    """

    def __init__(self, selection: Selection, send: Callable[[Message], None]) -> None:
        self.selection = selection
        self.identity = ""
        self.objects = self.skipped = self.ignored = self.replaced = 0
        self._send = send
        self._file = ""
        self._seen: dict[str, dict[str, str]] = {kind: {} for kind in API_VERSIONS}
        self._batch: list[Stored] = []
        self._batch_bytes = 0
        self._skips: list[Skipped] = []

    def begin(self, file: str) -> None:
        """Say which file the following objects stand in, in words for people."""
        self._file = file

    def take(self, found: Iterable[Stored]) -> None:
        """Take objects that apply."""
        for stored in found:
            if len(stored.blob) > MAX_BLOB_BYTES or len(stored.key) > MAX_KEY_CHARS:
                self.leave_out(Skipped(stored.kind, stored.key, f"takes more than {MAX_BLOB_BYTES} bytes"))
                continue
            self._note_twice(stored)
            self.objects += 1
            if self.objects > MAX_OBJECTS:
                raise SourceError(f"{self._file} brings the objects to more than {MAX_OBJECTS}")
            self._batch.append(stored)
            self._batch_bytes += len(stored.blob) + len(stored.key) + len(stored.owner) + _STORED_OVERHEAD_BYTES
            if self._batch_bytes >= FRAME_GOAL_BYTES:
                self.flush()

    def _note_twice(self, stored: Stored) -> None:
        seen = self._seen[stored.kind]
        before = seen.get(stored.key)
        if before is not None:
            self.replaced += 1
            where = f"twice in {before}" if before == self._file else f"in {before} and again in {self._file}"
            self._name(Skipped(stored.kind, stored.key, f"stands {where}: the last one counts"))
        seen[stored.key] = self._file

    def look_for_identity(self, namespaces: Iterable[Stored]) -> None:
        """Take the cluster's identity from its kube-system Namespace, whether it is selected or not."""
        for stored in namespaces:
            if stored.key == IDENTITY_NAMESPACE:
                uid = unpack_namespace(stored.blob).uid
                usable = 0 < len(uid) <= MAX_UID_CHARS and uid.isascii() and uid.replace("-", "").isalnum()
                self.identity = f"uid:{uid}" if usable else ""

    def leave_out(self, skipped: Skipped) -> None:
        """Name and count an object that can't be used."""
        self.skipped += 1
        self._name(skipped._replace(reason=f"{skipped.reason} (in {self._file})"))

    def _name(self, skipped: Skipped) -> None:
        if self.skipped + self.replaced <= MAX_SKIPS_NAMED:
            kind, name, reason = skipped
            self._skips.append(Skipped(plain(kind, 64), plain(name), plain(reason)))

    def flush(self) -> None:
        """Send what has been gathered."""
        if self._batch:
            self._send(Objects(self._batch))
            self._batch, self._batch_bytes = [], 0
        if self._skips:
            self._send(Skips(self._skips))
            self._skips = []

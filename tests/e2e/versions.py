"""A cluster that exists in numbered versions: three answers that change together, among names that never do.

Law: what was written is known: a version is noted before its file can be seen.
"""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path
from typing import Any, Self

from tests.control_plane.dns_client import addresses
from tests.control_plane.nasty_cases import endpoint, port, service, slice_

HTTP = port("http", 80)
LEFT, RIGHT, POD = (f"{name}.pair.svc.cluster.local" for name in ("left", "right", "pod"))
"""ClusterIP, ClusterIP, and the endpoint of a headless service."""


def _low(version: int) -> str:
    return f"{version >> 8 & 255}.{version & 255}"


def items(version: int) -> list[dict[str, Any]]:
    """Return the objects that tell the version, and some that come and go with it."""
    passing = [
        service(f"passing-{version}-{n}", HTTP, ips=(f"10.123.{version & 255}.{n}",), namespace="pair")
        for n in range(1, 6)
    ]
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "pair"}},
        service("left", HTTP, ips=(f"10.120.{_low(version)}",), namespace="pair"),
        *passing,
        service("right", HTTP, ips=(f"10.121.{_low(version)}",), namespace="pair"),
        service("pod", HTTP, namespace="pair"),
        slice_("pod", 1, [HTTP], endpoint(f"10.122.{_low(version)}"), namespace="pair"),
    ]


def version_of(address: str) -> int:
    """Return the version an address belongs to."""
    _, _, high, low = address.split(".")
    return int(high) << 8 | int(low)


def versions_answered(port: int) -> tuple[int, ...]:
    """Ask for the three; -1 stands for anything but one address."""
    found = [addresses(port, name) for name in (LEFT, RIGHT, POD)]
    return tuple(version_of(next(iter(each))) if len(each) == 1 else -1 for each in found)


class Writer:
    """Writes the versions of a cluster file.

    Args:
        path: of the file.
        base: objects of every version.
    """

    def __init__(self, path: Path, base: list[dict[str, Any]]) -> None:
        self.last = 0
        self._path = path
        self._base = json.dumps(base)[1:-1]

    def write(self, *, in_halves: bool = False) -> None:
        """Write the next version: renamed into place, or over the file in two halves as careless tools do."""
        self.last += 1
        more = json.dumps(items(self.last))[1:-1]
        text = f'{{"apiVersion": "v1", "kind": "List", "items": [{self._base}, {more}]}}'
        if in_halves:
            half = len(text) // 2
            with self._path.open("w") as out:
                out.write(text[:half])
                out.flush()
                time.sleep(0.03)
                out.write(text[half:])
        else:
            new = self._path.with_name(f".{self._path.name}")
            new.write_text(text)
            new.replace(self._path)

    def take_away(self) -> None:
        """Remove the file."""
        self._path.unlink()


class Rewriting:
    """Writes for ever on a thread of its own; a context manager."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rewriting the source")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        rng = random.Random(7)
        while not self._ended.wait(rng.uniform(0.1, 0.5)):
            self._writer.write(in_halves=rng.random() < 0.4)

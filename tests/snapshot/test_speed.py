"""What loading and appending cost, against what nobody can do without, in the same run."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from agent.cluster.objects import Stored
from agent.snapshot.entries import Entry
from agent.snapshot.format import SECTION_ANSWERS, SECTION_OBJECTS
from agent.snapshot.generations import Generations
from agent.snapshot.objects import encode_objects
from tests.snapshot.history import header

if TYPE_CHECKING:
    from collections.abc import Callable

FILE_BYTES = 40_000_000
APPENDS = 2_000
APPEND_GOAL_S = 20e-6


def shortest_s(work: Callable[[], object], times: int = 7) -> float:
    best_s = float("inf")
    for _ in range(times):
        started_s = time.perf_counter()
        kept = work()
        best_s = min(best_s, time.perf_counter() - started_s)
        del kept
    return best_s


def test_loading_costs_reading_and_one_hash(tmp_path: Path) -> None:
    objects = [Stored("Service", f"ns/service-{n}", f"ns/service-{n}", bytes(150)) for n in range(60_000)]
    *_, section = encode_objects(objects)
    assert section is not None
    with Generations(tmp_path) as generations:
        number = generations.rotate().generation
        answers = bytes(FILE_BYTES - len(section))
        size = generations.write(header(number), [(SECTION_OBJECTS, section), (SECTION_ANSWERS, answers)])
    path = Path(generations.path_of(number))

    def bare() -> object:
        with path.open("rb", buffering=0) as file:
            content = file.read(size)
        return content, xxhash.xxh3_128_digest(content)

    bare_s, load_s = shortest_s(bare), shortest_s(Generations(tmp_path).load)
    print(f"{size / 1e6:.0f} MB, {len(objects)} objects: load {load_s * 1e3:.1f} ms, bare {bare_s * 1e3:.1f} ms")
    # Decoding the objects alone would take longer than that.
    assert load_s < 1.5 * bare_s + 0.005


def test_appending_is_cheap(tmp_path: Path) -> None:
    positions = {"Service": "1234567", "EndpointSlice": "1234568", "Namespace": "99"}
    change = ("EndpointSlice", "ns/service-abcde", "ns/service", os.urandom(300))
    names = [(os.urandom(30), os.urandom(100)) for _ in range(4)]
    step = Entry(positions, 1.7e9, "uid:0123", [change], names)
    with Generations(tmp_path) as generations:
        journal = generations.rotate()

        def append() -> None:
            for _ in range(APPENDS):
                journal.append(step)

        append_s = shortest_s(append) / APPENDS
    print(f"append {append_s * 1e6:.1f} µs")
    assert append_s < 2 * APPEND_GOAL_S

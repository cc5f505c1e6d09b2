"""Lines out of any cut of a stream, and never too much of it held."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.sources.lines import HEAD_BYTES, Giant, Lines


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[start:end] for start, end in pairwise(edges)]


@given(
    st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"")), max_size=20),
    st.lists(st.integers(0, 2000), max_size=30),
)
def test_any_cut_gives_the_same_lines(lines, places):
    splitter = Lines(1000)
    stream = b"".join(line + b"\n" for line in lines)
    found = [line for chunk in cut(stream, places) for line in splitter.feed(chunk)]
    assert found == [line for line in lines if line]
    assert splitter.held_bytes == 0


@given(st.lists(st.integers(0, 300), max_size=15), st.integers(1, 100), st.lists(st.integers(0, 5000), max_size=40))
def test_lines_beyond_the_limit_are_giants_and_the_others_are_not(sizes, limit, places):
    splitter = Lines(limit)
    stream = b"".join(b"x" * size + b"\n" for size in sizes)
    found = [line for chunk in cut(stream, places) for line in splitter.feed(chunk)]
    measured = [line.size_bytes if isinstance(line, Giant) else len(line) for line in found]
    assert measured == [size for size in sizes if size]
    assert [isinstance(line, Giant) for line in found] == [size > limit for size in sizes if size]


def test_an_unfinished_line_is_held_and_counted():
    splitter = Lines(100)
    assert list(splitter.feed(b"abc\nde")) == [b"abc"]
    assert splitter.held_bytes == 2
    assert list(splitter.feed(b"f\n")) == [b"def"]
    assert splitter.held_bytes == 0


def test_a_giant_is_named_from_its_head():
    splitter = Lines(200)
    head = b'{"type":"ADDED","object":{"kind":"Service","metadata":{"name":"web","namespace":"shop","x":"'
    found = [line for chunk in (head, b"y" * 5000, b'"}}}\n', b"next\n") for line in splitter.feed(chunk)]
    assert isinstance(found[0], Giant)
    assert found[0].name() == "shop/web"
    assert found[0].size_bytes == len(head) + 5004
    assert found[1:] == [b"next"]


def test_a_giant_without_a_name_is_a_question_mark():
    (found,) = Lines(10).feed(b"z" * 50 + b"\n")
    assert isinstance(found, Giant)
    assert found.name() == "?"


def test_a_giant_costs_no_memory():
    splitter, chunk = Lines(50_000), b"x" * 10_000
    list(splitter.feed(chunk))
    tracemalloc.start()
    for _ in range(2_000):  # 20 MB
        assert list(splitter.feed(chunk)) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000
    (found,) = splitter.feed(b"\n")
    assert isinstance(found, Giant)
    assert len(found.head) == HEAD_BYTES
    assert found.size_bytes == 20_010_000

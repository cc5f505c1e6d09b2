from __future__ import annotations

import subprocess
import sys

import pytest

from agent.lifecycle import memory

BURST = """
from agent.lifecycle import memory
{before}
def rss():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) // 1024
for _ in range(4):
    held = [bytes(20 << 20) + b"x", bytes(24 << 20) + b"x"]
    small = [bytes(200_000) for _ in range(100)]
    del held
    held = bytes(22 << 20) + b"x"
    del small
memory.give_back()
print(rss())
"""


@pytest.mark.skipif(not hasattr(memory._library(), "mallopt"), reason="the C library has no mallopt (musl)")
def test_large_blocks_go_back_to_the_kernel():
    run = subprocess.run(
        [sys.executable, "-c", BURST.format(before="assert memory.bound_heap()")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(run.stdout) < 22 + 30


def test_without_such_a_library_nothing_happens(monkeypatch):
    monkeypatch.setattr(memory, "_library", lambda: None)
    assert not memory.bound_heap()
    assert not memory.give_back()


def test_a_library_that_can_not_be_opened_is_none(monkeypatch):
    def fail(name):
        raise OSError

    monkeypatch.setattr(memory.ctypes, "CDLL", fail)
    assert memory._library() is None

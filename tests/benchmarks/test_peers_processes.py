"""Processes are measured with all that descends from them, and ended with it; questions by hand find wrong answers."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time

import pytest

from benchmarks.measure import compiler, cores, pinned
from benchmarks.peers import asking, servers
from benchmarks.peers.processes import Process, ServerError, busy_s, family, free_port, usage_between
from benchmarks.peers.zone import Question

SPIN = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass\n"
CHILD = SPIN + "time.sleep(60)"
PARENT = f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {CHILD!r}])\ntime.sleep(60)"


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_running(process):
    try:
        process.check()
    except ServerError:
        return False
    return True


def test_children_are_measured_and_ended_with_their_parent(tmp_path):
    with Process([sys.executable, "-c", PARENT], tmp_path / "log") as process:
        deadline = time.monotonic() + 20
        while usage_between({}, process.sample()).cpu_s < 0.2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        pids = family(process.pid)
        assert len(pids) == 2
        assert process.memory_mib() > 1
    deadline = time.monotonic() + 10
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server_that_ends_by_itself_is_an_error_with_its_last_words(tmp_path):
    with Process([sys.executable, "-c", "print('no such zone'); raise SystemExit(3)"], tmp_path / "log") as process:
        deadline = time.monotonic() + 20
        while is_running(process) and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(ServerError, match=r"ended with 3: no such zone"):
            process.check()


def test_time_is_shared_out_between_user_and_system():
    used = usage_between({7: (10, 10, 1_000)}, {7: (40, 20, 500_001_000), 8: (0, 0, 0)})
    assert (used.user_s, used.system_s) == pytest.approx((0.375, 0.125))


def test_without_schedstat_ticks_are_what_there_is():
    ticks = os.sysconf("SC_CLK_TCK")
    assert usage_between({}, {7: (ticks, ticks, 0)}) == pytest.approx((1.0, 1.0))


def test_one_core_pins_nothing():
    words = pinned(0)
    assert (words == []) == (len(cores()) == 1)
    assert pinned(10_000) == []
    assert busy_s(cores()[0]) > 0


class Answering:
    """A DNS server that gives every question the same answer."""

    def __init__(self, rcode, answers, flags=0x8400):
        self._head = struct.pack(">5H", flags | rcode, 1, answers, 0, 0)
        self._sock = socket.socket(type=socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def _serve(self):
        while True:
            packet, client = self._sock.recvfrom(4096)
            if packet == b"end":
                return
            self._sock.sendto(packet[:2] + self._head + packet[12:], client)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.sendto(b"end", ("127.0.0.1", self.port))
        self._thread.join()
        self._sock.close()


def test_an_answer_that_is_not_the_expected_one_is_found():
    right, gone = Question("a.b", "A", "NOERROR", 1), Question("c.d", "A", "NXDOMAIN", 0)
    with Answering(0, 1) as server:
        assert asking.wrong(server.port, [right, gone]) == ([(gone, "NOERROR", 1)], 0)


def test_a_cut_answer_is_no_wrong_one():
    with Answering(0, 0, flags=0x8600) as server:
        assert asking.wrong(server.port, [Question("a.b", "A", "NOERROR", 40)]) == ([], 1)


def test_a_server_is_ready_when_it_tells_names_apart():
    with Answering(3, 0) as denying:
        assert not asking.is_answering(denying.port)
    assert not asking.is_answering(free_port())


@pytest.mark.skipif(compiler() is None, reason="no C compiler")
def test_the_echo_in_c_echoes(tmp_path):
    place = type("Place", (), {"folder": tmp_path})()
    with servers.servers()[0].start(place) as running:
        assert asking.is_echoing(running.port)
        assert running.process.memory_mib() < 20


def test_a_named_coredns_that_is_not_there_is_missing(monkeypatch):
    monkeypatch.setenv("COREDNS_BIN", "/no/such/coredns")
    assert servers.coredns_path() is None
    by_name = {server.name: server for server in servers.servers()}
    assert "set COREDNS_BIN" in by_name["coredns"].missing()
    assert "set COREDNS_BIN" in by_name["node-cache"].missing()

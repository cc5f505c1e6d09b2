from __future__ import annotations

import contextlib
import os
import socket
import time

import pytest

from agent.lifecycle.systemd import Notifier


@contextlib.contextmanager
def service_manager(address: str):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        sock.settimeout(2)
        yield sock


@pytest.fixture(params=["path", "abstract"])
def address(request, tmp_path):
    if request.param == "path":
        return str(tmp_path / "notify"), str(tmp_path / "notify")
    name = f"nodens-test-{os.getpid()}-{time.monotonic_ns()}"
    return f"\0{name}", f"@{name}"


def test_messages_arrive_on_path_and_abstract_sockets(address):
    bound, named = address
    with service_manager(bound) as manager:
        notifier = Notifier({"NOTIFY_SOCKET": named})
        notifier.ready()
        notifier.status("fresh\nand well")
        notifier.status("fresh and well")
        notifier.alive()
        notifier.stopping()
        got = [manager.recv(4096) for _ in range(4)]
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(1)
    assert got == [b"READY=1", b"STATUS=fresh and well", b"WATCHDOG=1", b"STOPPING=1"]


def test_reloading_carries_the_monotonic_time(tmp_path):
    path = str(tmp_path / "notify")
    with service_manager(path) as manager:
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        Notifier({"NOTIFY_SOCKET": path}).reloading()
        first, second = manager.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    name, _, micros = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(micros) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_without_a_service_manager_nothing_happens():
    notifier = Notifier({})
    notifier.ready()
    assert (notifier.failures, notifier.watchdog_s) == (0, 0.0)


def test_a_manager_that_is_gone_or_full_is_counted_and_hinders_nothing(tmp_path, caplog):
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    notifier.ready()
    notifier.alive()
    assert notifier.failures == 2
    assert len(caplog.records) == 1

    path = str(tmp_path / "full")
    with service_manager(path):
        notifier = Notifier({"NOTIFY_SOCKET": path})
        started = time.monotonic()
        for _ in range(5000):
            notifier.alive()
        assert notifier.failures > 0
        assert time.monotonic() - started < 5


def test_an_address_of_another_family_is_refused_in_words(caplog):
    notifier = Notifier({"NOTIFY_SOCKET": "vsock:2:1"})
    notifier.ready()
    assert notifier.failures == 0
    assert "neither a path nor an abstract name" in caplog.text


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "3000000"}, 3),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({"WATCHDOG_USEC": "-5"}, 0),
    ],
)
def test_the_watchdog_is_wanted_of_this_process_only(environ, seconds):
    assert Notifier(environ).watchdog_s == seconds

"""Real signals on a real process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

LIFE = Path(__file__).with_name("life.py")
ROOT = LIFE.parents[2]


class Child:
    """The process of life.py, its lines, its configuration."""

    def __init__(self, tmp_path, work: str, text: str, environ=None) -> None:
        self.config = tmp_path / "nodens.yaml"
        self.config.write_text(text)
        self.errors = tmp_path / "stderr"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})}
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(LIFE), str(self.config), work],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )

    def until(self, word: str) -> list[str]:
        lines = []
        while not lines or not lines[-1].startswith(word):
            line = self.process.stdout.readline()
            assert line, f"ended before {word!r}: {lines}, {self.err}"
            lines.append(line.strip())
        return lines

    def send(self, number) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, list[str]]:
        lines = self.process.stdout.read().split("\n")[:-1]
        return self.process.wait(10), lines

    @property
    def err(self) -> str:
        return self.errors.read_text()


@pytest.fixture
def child(tmp_path):
    children = []

    def start(work="calm", text="drain: 2s\n", environ=None) -> Child:
        children.append(Child(tmp_path, work, text, environ))
        return children[-1]

    yield start
    for each in children:
        if each.process.poll() is None:
            each.process.kill()
        each.process.wait()
        each.process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_life_in_order_with_exit_0(child, number):
    life = child("drains")
    life.until("ready")
    life.send(number)
    assert life.end() == (0, ["close", "drain False", "write"])


def test_lameduck_serves_on_before_closing(child):
    life = child(text="lameduck: 300ms\n")
    life.until("ready")
    life.send(signal.SIGTERM)
    started = time.monotonic()
    life.until("close")
    assert 0.25 < time.monotonic() - started < 10
    assert life.end()[0] == 0


def test_a_drain_that_hangs_is_left_at_its_deadline_and_the_rest_is_done(child):
    life = child("hangs", "drain: 200ms\n")
    life.until("ready")
    life.send(signal.SIGTERM)
    assert life.end() == (0, ["close", "drain False", "write"])
    assert "drain took longer than 0.2 s" in life.err


def test_a_step_that_breaks_is_said_and_the_next_one_follows(child):
    life = child("breaks")
    life.until("ready")
    life.send(signal.SIGTERM)
    assert life.end() == (0, ["close", "drain False", "write"])
    assert "drain broke" in life.err


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("work", ["hangs", "spins"])
def test_a_second_signal_leaves_at_once_even_if_the_loop_hangs(child, work, second):
    life = child(work, "drain: 60s\n")
    life.until("ready")
    life.send(signal.SIGTERM)
    life.until("drain" if work == "hangs" else "spinning")
    started = time.monotonic()
    life.send(second)
    code, _ = life.end()
    assert code == 1
    assert time.monotonic() - started < 10
    assert f"{second.name} again, leaving at once" in life.err


def test_signals_that_come_while_starting_wait_until_it_has_started(child):
    life = child("slow")
    life.until("starting")
    life.send(signal.SIGHUP)
    life.send(signal.SIGTERM)
    lines = life.until("ready")
    code, rest = life.end()
    assert code == 0
    assert [*lines, *rest] == ["ready True", "close", "drain False", "write"]


def test_a_critical_task_that_fails_ends_the_process_with_exit_1(child):
    life = child("dies")
    life.until("ready")
    code, lines = life.end()
    assert (code, lines) == (1, ["close", "drain False", "write"])
    assert "eternal failed, and nothing works without it: OSError: the socket is gone" in life.err


def test_hup_verifies_then_applies_or_keeps_everything(child):
    life = child(text="log_level: info\n")
    life.until("ready")
    life.config.write_text("log_level: debug\n")
    life.send(signal.SIGHUP)
    assert life.until("reload") == ["commit debug", "reload log_level -"]

    life.config.write_text("log_level: error\nttl: 9\n")
    life.send(signal.SIGHUP)
    (line,) = life.until("reload")
    assert line.startswith("reload - ttl can't change while running")

    life.config.write_text("log_level: error\nttl: x\n")
    life.send(signal.SIGHUP)
    (line,) = life.until("reload")
    assert ":2: ttl must be a duration" in line

    life.config.unlink()
    life.send(signal.SIGHUP)
    (line,) = life.until("reload")
    assert "No such file" in line

    life.config.write_text("log_level: error\n")
    life.send(signal.SIGHUP)
    assert life.until("reload") == ["commit error", "reload log_level -"]
    life.send(signal.SIGTERM)
    assert life.end()[0] == 0


def test_systemd_is_told_of_every_step(child, tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(5)
        life = child(environ={"NOTIFY_SOCKET": path})
        life.until("ready")
        life.send(signal.SIGHUP)
        life.until("reload")
        life.send(signal.SIGTERM)
        assert life.end()[0] == 0
        told = [manager.recv(4096).decode().partition("\n")[0] for _ in range(4)]
    assert told == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]

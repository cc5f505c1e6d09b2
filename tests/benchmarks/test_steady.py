"""The asker at a steady pace: its line read, and the real one against a real echo."""

from __future__ import annotations

import socket
import subprocess

import pytest

from benchmarks import steady
from benchmarks.measure import built, compiler
from benchmarks.peers import asking
from benchmarks.peers.processes import Process, free_port

PACE = (
    '{"sent": 20, "completed": 19, "seconds": 1.0, "rcodes": {"0": 18, "3": 1}, "nice": 0, '
    '"took_us": {"p50": 31.5, "p99": 40.0, "p999": 41.0, "max": 41.0}, '
    '"late_us": {"p50": 1.5, "p99": 2.5, "p999": 3.5, "max": 3.5}}\n'
)
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler")


def ask(tmp_path, port, *, qps=1000, seconds=0.3):
    questions = tmp_path / "questions"
    questions.write_text("a.cluster.local A\n_http._tcp.a.cluster.local SRV\nb.cluster.local AAAA\n")
    command = steady.command(built("steady", tmp_path), port, questions, qps=qps, seconds=seconds)
    return steady.pace(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def test_its_line_is_read():
    found = steady.pace(PACE)
    assert (found.sent, found.completed, found.lost, found.rcodes) == (20, 19, 1, {"NOERROR": 18, "NXDOMAIN": 1})
    assert found.took_us["p999"] == 41.0


@pytest.mark.parametrize("output", ["", "steady: no socket\n", "[]", '{"sent": 1}'])
def test_another_output_is_an_error_that_shows_it(output):
    with pytest.raises(steady.SteadyError, match="no figures"):
        steady.pace(output)


@needs_compiler
def test_every_question_is_asked_and_its_answer_timed(tmp_path):
    port = free_port()
    with Process([str(built("echo", tmp_path)), str(port)], tmp_path / "log") as process:
        for _ in range(200):
            process.check()
            if asking.is_echoing(port):
                break
        found = ask(tmp_path, port)
    assert (found.sent, found.completed, found.lost) == (300, 300, 0)
    assert found.rcodes == {"NOERROR": 300}
    assert 0 < found.took_us["p50"] <= found.took_us["p99"] <= found.took_us["p999"] <= found.took_us["max"]
    assert 0 <= found.late_us["p50"] <= found.late_us["max"]


@needs_compiler
def test_it_ends_when_it_is_told_to_and_says_what_it_saw(tmp_path):
    (tmp_path / "questions").write_text("a.cluster.local A\n")
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.settimeout(60)
        port = silent.getsockname()[1]
        command = steady.command(built("steady", tmp_path), port, tmp_path / "questions", qps=100, seconds=600)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as asker:
            silent.recv(512)
            asker.terminate()
            found = steady.pace(asker.communicate(timeout=60)[0])
    assert 0 < found.sent < 60_000
    assert found.seconds < 600


@needs_compiler
def test_what_nobody_answers_is_lost_and_has_no_latency(tmp_path):
    found = ask(tmp_path, free_port(), seconds=0.1)
    assert (found.sent, found.completed, found.lost) == (100, 0, 100)
    assert found.took_us["p999"] is None


@needs_compiler
@pytest.mark.parametrize("words", [(), ("1", "/no/such/file", "10", "1"), ("1", "questions", "0", "1")])
def test_orders_that_make_no_sense_are_refused(tmp_path, words):
    done = subprocess.run([built("steady", tmp_path), *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("steady: ")

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time

import pytest

from agent.cli import main
from agent.commands import status as module
from agent.observe.admin import Admin
from agent.observe.status import Snapshot, Source, Status, decode
from agent.snapshot.format import Header
from agent.snapshot.generations import Generations
from tests.observe.statuses import full


class Agent:
    """An admin endpoint in a thread of its own."""

    def __init__(self, address) -> None:
        self.status = full()
        self.admin = Admin(address, lambda: self.status, lambda: None)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        while not self.admin.bound:
            time.sleep(0.005)
        self.where = self.admin.bound.removeprefix("http://").rstrip("/")

    def run(self) -> None:
        self.task = self.loop.create_task(self.admin.run())
        with pytest.raises(asyncio.CancelledError):
            self.loop.run_until_complete(self.task)
        self.loop.run_until_complete(asyncio.sleep(0.01))
        self.loop.close()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.task.cancel)
        self.thread.join(5)


@pytest.fixture(params=["tcp", "unix"])
def agent(request, tmp_path):
    running = Agent(("127.0.0.1", 0) if request.param == "tcp" else str(tmp_path / "admin.sock"))
    yield running
    running.stop()


def test_a_person_sees_state_age_and_source_first(agent, capsys):
    assert main(["status", "--admin", agent.where]) == 0
    out = capsys.readouterr().out
    first, *rest = out.splitlines()
    assert first.startswith("Stale for 30m 43s, damaged  The source is lost.")
    assert "\x1b" not in out
    rows = {line[2:15].strip(): line[15:] for line in rest}
    assert rows["agent"] == "nodens 0.1.0 (python) on node-7, up 1d 1h"
    assert rows["source"].startswith("kubernetes, connection refused, last confirmed ")
    assert rows["last error"].startswith("dial 10.0.0.1:6443: refused (")
    assert rows["API"] == "17 requests in the last hour, 588 of 600 left at once"
    assert rows["API servers"] == "left alone after failures, asked again in 42 s"
    assert rows["snapshot"] == "generation 812, 45,210 names from 40 Namespace, 10,000 Service, 10,400 EndpointSlice"
    assert rows["on disk"].startswith("8.6 MiB + 2.0 KiB journal, written ")
    assert rows["disk trouble"].startswith("1 failed writes: No space left on device; a restart would come back with")
    assert rows["refused"] == "gen-811.nds: section answers is cut"
    assert rows["answers"] == "990,000 fresh, 10,000 stale, 0 override"
    assert rows["skipped"].startswith("2 Service could not be used")
    assert rows["skipped last"].startswith("Service shop/<b>bad</b>: ")
    assert rows["failed tasks"].startswith("1 source; ")
    assert first.endswith(" Do: mend this: connection refused; a restart is safe.")
    assert rows["change held"].startswith("1,731 objects held since 2023-11-14T22:21:40Z, applied by itself at ")
    assert "it would remove 94 % of the names of namespace <i>payments</i> (812 of 864)" in rows["change held"]
    assert 'Do: nodens quarantine accept 1700000500 --reason "..." if it is right; nodens' in rows["change held"]


def test_a_fresh_agent_needs_few_lines(agent, capsys):
    agent.status = Status(state="fresh", ready=True, source=Source(name="file", connected=True))
    assert main(["status", "--admin", agent.where]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Fresh  ")
    assert len(lines) == 9


def test_trouble_with_the_disk_that_is_over_is_still_counted(agent, capsys):
    agent.status = Status(state="fresh", ready=True, snapshot=Snapshot(persist_failures=3))
    main(["status", "--admin", agent.where])
    assert "  disk trouble 3 failed writes: over by now\n" in capsys.readouterr().out


def test_why_it_is_not_ready_stands_below_the_state(agent, capsys):
    agent.status = Status(not_ready={"snapshot": "no valid snapshot yet"})
    assert main(["status", "--admin", agent.where]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "  not ready    snapshot: no valid snapshot yet"


def test_control_characters_of_others_do_not_reach_the_terminal(agent, capsys):
    agent.status = Status(state="stale", source=Source(note="\x1b[2Jgone\nFresh"))
    main(["status", "--admin", agent.where])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "?[2Jgone?Fresh" in out


def test_json_is_what_the_agent_said(agent, capsys):
    assert main(["status", "--admin", agent.where, "--json"]) == 0
    assert decode(capsys.readouterr().out.encode()) == agent.status


def test_colour_only_where_somebody_looks(agent, capsys, monkeypatch):
    monkeypatch.setattr(module, "_wants_colour", lambda: True)
    main(["status", "--admin", agent.where])
    assert capsys.readouterr().out.startswith("\x1b[1;33mStale for 30m 43s, damaged\x1b[0m")


@pytest.fixture
def state_dir(tmp_path):
    path = tmp_path / "state"
    with Generations(path) as generations:
        header = Header(
            cluster_identity="uid:x",
            generation=generations.rotate().generation,
            epoch=0,
            positions={},
            confirmed_unix_s=time.time() - 120,
            written_unix_s=time.time() - 60,
            origin="file",
        )
        generations.write(header, [(2, b"objects")])
    return path


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_without_an_agent_the_disk_is_shown_and_the_exit_code_is_1(state_dir, capsys):
    assert main(["status", "--admin", f"127.0.0.1:{free_port()}", "--state-dir", str(state_dir)]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("nodens is not running, or does not answer: 127.0.0.1:")
    assert "Connection refused" in err
    assert "generation 1" in out
    assert "valid" in out
    assert "confirmed by its source (file) 2m" in out


def test_a_damaged_generation_is_called_so(state_dir, capsys):
    (path,) = (state_dir / "snapshot").glob("gen-*.nds")
    os.chmod(path, 0o600)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"X")
    main(["status", "--admin", "off", "--state-dir", str(state_dir)])
    assert "refused: " in capsys.readouterr().out


def test_json_without_an_agent_says_so(state_dir, capsys):
    assert main(["status", "--admin", "off", "--state-dir", str(state_dir), "--json"]) == 1
    shape = json.loads(capsys.readouterr().out)
    assert shape["running"] is False
    assert [each["valid"] for each in shape["on_disk"]] == [True]


def test_nothing_anywhere_is_said_too(tmp_path, capsys):
    assert main(["status", "--admin", f"unix:{tmp_path}/none.sock", "--state-dir", str(tmp_path / "none")]) == 1
    err = capsys.readouterr().err
    assert "No such file" in err
    assert "Nothing on disk either" in err


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 404 Not Found\r\n\r\n", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[1,2]", b""],
)
def test_something_else_on_the_port_is_not_taken_for_the_agent(answer, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reply() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        where = f"127.0.0.1:{server.getsockname()[1]}"
        assert main(["status", "--admin", where, "--state-dir", str(tmp_path)]) == 1
        thread.join(5)
    assert "is not running, or does not answer" in capsys.readouterr().err


def test_an_agent_that_hangs_is_given_up(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = f"127.0.0.1:{server.getsockname()[1]}"
        assert main(["status", "--admin", where, "--state-dir", str(tmp_path)]) == 1
    assert "timed out" in capsys.readouterr().err

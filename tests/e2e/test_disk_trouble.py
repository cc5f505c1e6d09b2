"""A disk that is full, read-only, damaged or somebody else's: answers go on, and the trouble is told in words."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agent_process import Agent
from tests.control_plane.processes import wait_until
from tests.e2e.dig import Dig
from tests.e2e.right_answers import Rightful, wrong_answers

pytestmark = pytest.mark.faults

WEB = "web.shop.svc.cluster.local"
EAGER = {"rewrite_churn_percent": 1, "rewrite_after": "1s", "sync_every": "50ms"}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system or giving a file away needs root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB, ended with the test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "nodens-test", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Take all room of a file system."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as out:
        for size in (1 << 16, 1 << 12, 1):
            while True:
                try:
                    out.write(bytes(size))
                except OSError:
                    break
    return path


def change(cluster: Path, last: int) -> str:
    """Give the web service of the generated cluster another address."""
    address = f"10.96.99.{last}"
    text = cluster.read_text()
    new = cluster.with_name(".cluster.json")
    new.write_text(text.replace("10.96.10.80", address).replace(f"10.96.99.{last - 1}", address))
    new.replace(cluster)
    return address


def follows(ask: Dig, address: str) -> None:
    wait_until("the change", lambda: ask(WEB).rdata == {address})


def newest(agent: Agent) -> Path:
    """Return the newest generation's file."""
    return max((agent.state_dir / "snapshot").glob("gen-*.nds"), key=lambda path: int(path.stem[4:]))


def restarted_without_source(agent: Agent, cluster: Path) -> None:
    if agent.child.running:
        agent.kill()
    cluster.unlink(missing_ok=True)
    agent.start()


@as_root
def test_a_full_disk_takes_no_answer_away_and_what_was_missed_is_kept_when_there_is_room(
    start_agent: Callable[..., Agent], cluster: Path, small_disk: Path, dig: str, nodens
):
    agent = start_agent(cluster, state_dir=small_disk / "state", snapshot=EAGER)
    agent.wait_connected()
    agent.wait_state("generation 1", lambda state: state["snapshot"]["generation_writes"] == 1)
    ask, filler = Dig(dig, agent.port), fill(small_disk)
    follows(ask, change(cluster, 1))
    state = agent.wait_state("the failure", lambda state: state["snapshot"]["persist_error"])
    assert state["snapshot"]["persist_failures"] >= 1
    assert "No space left on device" in state["snapshot"]["persist_error"]
    assert (state["state"], state["ready"]) == ("fresh", True)
    assert agent.metric("nodens_persist_failures_total") >= 1
    told = nodens("status", "--admin", f"127.0.0.1:{agent.admin_port}")
    assert told.returncode == 0
    assert "disk trouble" in told.stdout
    assert "Make room on the disk" in told.stdout
    follows(ask, change(cluster, 2))
    filler.unlink()
    agent.wait_state("the end of it", lambda state: not state["snapshot"]["persist_error"], timeout_s=20)
    restarted_without_source(agent, cluster)
    agent.wait_answering()
    assert ask(WEB).rdata == {"10.96.99.2"}


@as_root
def test_a_disk_without_any_room_from_the_start_is_no_hindrance_to_answering(
    start_agent: Callable[..., Agent], cluster: Path, small_disk: Path, rightful: Rightful
):
    fill(small_disk)
    agent = start_agent(cluster, state_dir=small_disk / "state")
    agent.wait_connected()
    assert wrong_answers(agent.port, rightful) == {}
    agent.wait_state("the failure", lambda state: state["snapshot"]["persist_error"])
    assert agent.get("/readyz")[0] == 200
    assert agent.stop() == 0


@as_root
def test_a_disk_that_becomes_read_only_serves_and_is_written_again_when_it_can_be(
    start_agent: Callable[..., Agent], cluster: Path, small_disk: Path, dig: str
):
    agent = start_agent(cluster, state_dir=small_disk / "state", snapshot=EAGER)
    agent.wait_connected()
    agent.wait_state("generation 1", lambda state: state["snapshot"]["generation_writes"] == 1)
    agent.kill()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    agent.start()
    agent.wait_connected()
    ask = Dig(dig, agent.port)
    follows(ask, change(cluster, 1))
    state = agent.wait_state("the failure", lambda state: state["snapshot"]["persist_error"])
    assert "Read-only file system" in state["snapshot"]["persist_error"]
    assert state["ready"]
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    agent.wait_state("the end of it", lambda state: not state["snapshot"]["persist_error"], timeout_s=20)
    restarted_without_source(agent, cluster)
    agent.wait_answering()
    assert ask(WEB).rdata == {"10.96.99.1"}


def test_files_that_must_not_grow_any_more_are_told_and_overcome(
    start_agent: Callable[..., Agent], cluster: Path, dig: str
):
    agent = start_agent(cluster, snapshot=EAGER)
    agent.wait_connected()
    agent.wait_state("generation 1", lambda state: state["snapshot"]["generation_writes"] == 1)
    _, hard = resource.prlimit(agent.child.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(agent.child.pid, resource.RLIMIT_FSIZE, (64 << 10, hard))
    ask = Dig(dig, agent.port)
    text = cluster.read_text()
    cluster.write_text(text.replace("10.96.", "10.97."))
    follows(ask, "10.97.10.80")
    agent.wait_state("the failure", lambda state: "File too large" in state["snapshot"]["persist_error"])
    resource.prlimit(agent.child.pid, resource.RLIMIT_FSIZE, (hard, hard))
    agent.wait_state("the end of it", lambda state: not state["snapshot"]["persist_error"], timeout_s=20)
    restarted_without_source(agent, cluster)
    agent.wait_answering()
    assert ask(WEB).rdata == {"10.97.10.80"}


@pytest.fixture
def of_two_generations(start_agent: Callable[..., Agent], cluster: Path) -> Agent:
    """An agent that has ended with two generations on disk."""
    agent = start_agent(cluster, snapshot=EAGER)
    agent.wait_connected()
    agent.wait_state("a generation", lambda state: state["snapshot"]["generation_writes"] == 1)
    assert agent.stop() == 0
    cluster.write_text(cluster.read_text().replace("10.128.", "10.200."))
    agent.start()
    agent.wait_connected()
    agent.wait_state("another", lambda state: state["snapshot"]["generation_writes"] == 1)
    assert agent.stop() == 0
    assert len(list((agent.state_dir / "snapshot").glob("gen-*.nds"))) == 2
    return agent


@pytest.mark.parametrize("share", [0.0005, 0.3, 0.6, 0.9999], ids=["header", "objects", "answers", "end"])
def test_a_damaged_generation_is_left_for_the_one_before_and_said(
    of_two_generations: Agent, cluster: Path, dig: str, share: float, nodens
):
    agent, damaged = of_two_generations, newest(of_two_generations)
    with damaged.open("r+b") as file:
        file.seek(int(damaged.stat().st_size * share))
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes((byte[0] ^ 0x10,)))
    restarted_without_source(agent, cluster)
    agent.wait_answering()
    ask = Dig(dig, agent.port)
    assert ask(WEB).rdata == {"10.96.10.80"}
    pods = ask("db-0.db.shop.svc.cluster.local").rdata
    assert pods in ({"10.128.0.21"}, {"10.200.0.21"})
    (refused,) = [text for text in agent.wait_state("it", bool)["snapshot"]["refused"] if damaged.name in text]
    assert str(damaged) in refused
    agent.wait_told(str(damaged))
    verified = nodens("snapshot", "verify", "--state-dir", agent.state_dir)
    assert verified.returncode == 1
    assert damaged.name in verified.stdout
    resolved = nodens("resolve", "db-0.db.shop", "--state-dir", agent.state_dir)
    assert resolved.returncode == 0
    assert pods.pop() in resolved.stdout


def test_when_nothing_on_disk_is_whole_it_knows_nothing_and_says_so(
    of_two_generations: Agent, cluster: Path, dig: str, rightful: Rightful
):
    agent, text = of_two_generations, cluster.read_text()
    for path in (agent.state_dir / "snapshot").glob("gen-*.nds"):
        os.truncate(path, path.stat().st_size - 1)
    restarted_without_source(agent, cluster)
    agent.wait_listening()
    ask = Dig(dig, agent.port)
    said = ask(WEB)
    assert (said.status, said.extended_error[:14]) == ("SERVFAIL", "14 (Not Ready)")
    assert len(agent.wait_state("it", bool)["snapshot"]["refused"]) >= 2
    cluster.write_text(text.replace("10.200.", "10.128."))
    agent.wait_answering()
    assert wrong_answers(agent.port, rightful) == {}


@as_root
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda file, _: os.chown(file, 12345, 12345), "belongs to user 12345"),
        (lambda file, _: file.chmod(0o666), "can be written by others (mode 0666)"),
        (lambda _, folder: folder.chmod(0o777), "can be written by others (mode 0777)"),
        (lambda _, folder: os.chown(folder, 12345, 12345), "belongs to user 12345"),
        (
            lambda file, folder: (file.rename(folder.parent / "x"), file.symlink_to(folder.parent / "x")),
            "symbolic link",
        ),
    ],
    ids=["file of another", "file open to all", "folder open to all", "folder of another", "link"],
)
def test_what_others_could_have_written_is_refused_in_words(
    agent: Agent, cluster: Path, dig: str, harm: Callable[[Path, Path], object], words: str
):
    agent.kill()
    folder = agent.state_dir / "snapshot"
    harm(newest(agent), folder)
    restarted_without_source(agent, cluster)
    agent.wait_listening()
    assert Dig(dig, agent.port)(WEB).status == "SERVFAIL"
    (refused,) = agent.wait_state("it", bool)["snapshot"]["refused"]
    assert words in refused
    assert "If its content can be trusted: ch" in refused or "Put the file itself in the place of the link" in refused
    agent.wait_told(words)

"""A disk that says EIO, says no, or says nothing for seconds: answers go on, it is told, the next start has a state.

Full and read-only disks, damaged and foreign files: tests/e2e/test_disk_trouble.py. Every prefix of what is written, by
a model of the disk: tests/snapshot/test_power_cut.py.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import witness
from tests.control_plane.dns_client import addresses
from tests.control_plane.processes import wait_until
from tests.faults.stage import WEB, WEB_ADDRESS, Stage
from tests.faults.syscalls import injected

pytestmark = pytest.mark.slow
EAGER = {"snapshot": {"rewrite_churn_percent": 1, "rewrite_after": "1s", "sync_every": "50ms"}}
Start = Callable[..., Stage]

TROUBLES = {
    "EIO on fsync": (("fsync:error=EIO",), "Input/output error"),
    "no room for the new name": (
        ("rename:error=ENOSPC", "renameat:error=ENOSPC", "renameat2:error=ENOSPC"),
        "No space",
    ),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_disk_says(start_stage: Start, tmp_path: Path, trouble: str):
    rules, told = TROUBLES[trouble]
    stage = start_stage(options=EAGER)
    with stage.asking() as asking:
        with injected(stage.agent.child.pid, *rules, log=tmp_path / "strace.log"):
            stage.follows()
            state = stage.agent.wait_state(
                "the failure", lambda state: told in state["snapshot"]["persist_error"], timeout_s=30
            )
            assert state["ready"]
            assert (state["state"], state["source"]["connected"]) == ("fresh", True)
            assert stage.agent.metric("nodens_persist_failures_total") >= 1
            witness.NOW.saw(
                "persist_error in status, nodens_persist_failures_total", state["snapshot"]["persist_error"][:80]
            )
            stage.follows()
            stage.all_right()
            stage.restart(asking)
            stage.all_right()
        stage.follows()
        stage.agent.wait_state("the end of it", lambda state: not state["snapshot"]["persist_error"], timeout_s=30)
        stage.api.stop()
        stage.restart(asking)
        stage.all_right()
        assert stage.ask("later-3.shop.svc.cluster.local").rdata == {"10.96.200.3"}


def test_disk_hangs_for_seconds(start_stage: Start, tmp_path: Path):
    stage = start_stage(options=EAGER)
    with stage.asking(), injected(stage.agent.child.pid, "fsync:delay_enter=4s", log=tmp_path / "strace.log"):
        began = time.monotonic()
        asked = 0
        while time.monotonic() - began < 6:
            stage.follows()
            asked += 1
        assert asked >= 2, "changes are served while the disk hangs"
        stage.all_right()
        witness.NOW.saw(f"{asked} changes served within 6 s of a disk that takes 4 s for a fsync")


@pytest.mark.parametrize("call", ["fsync", "renameat"])
def test_killed_inside_a_write(start_stage: Start, tmp_path: Path, call: str):
    stage = start_stage(options=EAGER)
    with stage.asking() as asking:
        with injected(stage.agent.child.pid, f"{call}:delay_enter=30s", log=tmp_path / "strace.log"):
            stage.follows()
            if call == "renameat":
                unnamed = stage.agent.state_dir.glob
                wait_until("a generation without its name", lambda: any(unnamed("snapshot/*.tmp")), timeout_s=20)
            else:
                stage.follows()
            asking.expects_silence = True
            stage.agent.kill()
        stage.restart(asking)
        stage.follows()
        stage.all_right()


def _cuts(size_bytes: int) -> list[int]:
    """Places to cut a file: its beginning, its header, the middle, its last octets."""
    return sorted({0, 1, 100, 4095, 4096, 4097, size_bytes // 3, size_bytes // 2, size_bytes - 17, size_bytes - 1})


@pytest.mark.timeout(300)
def test_torn_files_of_a_real_agent(start_stage: Start, tmp_path: Path):
    """Each of the newest files that the agent wrote, cut at many places, as a power cut leaves them."""
    stage = start_stage(options={"snapshot": {"rewrite_after": "1s", "rewrite_churn_percent": 1, "sync_every": "50ms"}})
    stage.follows()
    stage.agent.wait_state("generation 2", lambda state: state["snapshot"]["generation_writes"] >= 2, timeout_s=30)
    stage.follows()
    stage.agent.kill()
    stage.api.stop()
    folder, saved = stage.agent.state_dir / "snapshot", tmp_path / "saved"
    shutil.copytree(folder, saved)
    newest_generation = max(saved.glob("gen-*.nds"), key=lambda path: int(path.stem[4:]))
    newest_journal = max(saved.glob("journal-*.ndj"), key=lambda path: int(path.stem[8:]))
    tried = 0
    for torn in (newest_generation, newest_journal):
        for cut in _cuts(torn.stat().st_size):
            shutil.rmtree(folder)
            shutil.copytree(saved, folder)
            with (folder / torn.name).open("r+b") as file:
                file.truncate(max(0, cut))
            stage.agent.start()
            wait_until("the first right answer", lambda: addresses(stage.agent.port, WEB) == {WEB_ADDRESS})
            witness.NOW.started(time.monotonic() - stage.agent.child.started_s)
            stage.all_right()
            stage.agent.kill()
            tried += 1
    witness.NOW.saw(f"{tried} torn files, each start right")

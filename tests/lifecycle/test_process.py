from __future__ import annotations

import socket
import subprocess
import sys

from agent.lifecycle import process


def test_the_node_is_named_by_its_manifest_else_by_its_host(monkeypatch):
    monkeypatch.setenv("NODE_NAME", "node-7")
    assert process.node_name() == "node-7"
    monkeypatch.setenv("NODE_NAME", "")
    assert process.node_name() == socket.gethostname()


def test_age_counts_from_the_start_of_the_process_not_from_the_import():
    late = "import time; time.sleep(0.3); from agent.lifecycle import process; print(process.age_s())"
    done = subprocess.run([sys.executable, "-c", late], capture_output=True, text=True, check=True)
    assert 0.3 <= float(done.stdout) < 60

"""A network in which packets vanish without a word, made in a namespace of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest


def test_a_peer_that_is_gone_is_noticed_by_tcp_and_costs_no_request(tmp_path):
    unshare = [shutil.which("unshare") or "unshare", "-rn"]
    if not shutil.which("ip") or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no ip and unshare, or no right to make a network namespace")
    command = [*unshare, sys.executable, "-m", "tests.sources.black_hole", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # The watches were waited for 60 s: it was not their silence that told, and they go on without a list.
    assert found["idle"] == 0
    assert found["broken"] >= 1
    assert found["after_s"] < 30
    assert found["lists"] == 3

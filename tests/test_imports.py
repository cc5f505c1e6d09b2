"""Import directions, and what stays out of the way between exec and the first answer from disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# All that `nodens serve` needs to answer from disk.
ANSWERING_FROM_DISK = [
    "agent.cli",
    "agent.app",
    "agent.config",
    "agent.lifecycle.supervisor",
    "agent.snapshot.generations",
    "agent.snapshot.journal",
    "agent.wire.table",
    "agent.server.responder",
    "agent.server.udp",
    "agent.server.tcp",
]
# Hundreds of milliseconds and tens of MiB that come after the first answer (yaml: only when a config file is read).
LATE = ["aiohttp", "kubernetes", "prometheus_client", "yaml", "dnslib", "dns"]


@pytest.mark.timeout(180)
def test_import_contracts_are_kept() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--config", "pyproject.toml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", ANSWERING_FROM_DISK)
def test_answering_from_disk_comes_before_heavy_imports(module: str) -> None:
    script = f"import json, sys, {module}; json.dump(sorted(set({LATE!r}) & set(sys.modules)), sys.stdout)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []

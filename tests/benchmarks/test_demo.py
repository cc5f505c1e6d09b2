"""The story is told from its first act to the table, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.demo import table
from benchmarks.demo.clusters import truth_of
from benchmarks.demo.stage import picked
from tests.control_plane import binaries

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "benchmarks.demo", "--fast", "--services", "60")


def told(tmp_path: Path, **environ: str) -> tuple[str, dict]:
    done = subprocess.run(
        [*COMMAND, "--json", str(tmp_path / "record.json")],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), **environ},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    record = json.loads((tmp_path / "record.json").read_text())
    (tmp_path / "record.json").unlink()
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
    return done.stdout, record


def scores(record: dict, column: int) -> list[tuple[float, float]]:
    cells = [row["cells"][column] for row in record["rows"]]
    return [tuple(cell[part]["right"] / cell[part]["asked"] for part in ("known", "new")) for cell in cells]


@pytest.mark.slow
@pytest.mark.control_plane
@pytest.mark.timeout(400)
def test_openai_2024_12_beside_coredns_and_its_caches(tmp_path: Path):
    if reason := binaries.missing() or binaries.coredns_missing():
        pytest.skip(reason)
    text, record = told(tmp_path)
    assert record["columns"] == ["CoreDNS", "node-cache as shipped", "node-cache + serve_stale 1h", "nodens"]
    assert scores(record, 3) == [(1.0, 1.0)] * 5
    assert scores(record, 0)[0] == (1.0, 1.0)
    assert scores(record, 0)[1] == (0.0, 0.0), "a CoreDNS that restarts without its API server"
    assert scores(record, 2)[3] == (0.0, 0.0), "a cache that restarts in front of it"
    assert record["wrong"][-1] == 0
    assert "EDE: 3 (Stale Answer)" in text
    assert "gate closed: 1 of 1 fail" in text
    assert "\x1b" not in text


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_without_a_control_plane_a_file_takes_its_place_and_that_is_said(tmp_path: Path):
    text, record = told(tmp_path, KUBEBUILDER_ASSETS=str(tmp_path / "none"), COREDNS_BIN="")
    assert "a file takes the API server's place" in text
    assert record["columns"] == ["without snapshot", "nodens"]
    assert scores(record, 1) == [(1.0, 1.0)] * 5
    assert scores(record, 0)[3] == (0.0, 0.0), "restarted with nothing on disk"
    assert record["wrong"][-1] == 0


@pytest.mark.slow
def test_interrupted_it_ends_what_it_started(tmp_path: Path):
    environ = {**os.environ, "TMPDIR": str(tmp_path), "KUBEBUILDER_ASSETS": str(tmp_path / "none")}
    demo = subprocess.Popen(COMMAND, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True)
    while "Everything is well" not in demo.stdout.readline():
        assert demo.poll() is None
    demo.send_signal(signal.SIGINT)
    assert demo.wait(60) == 130
    demo.stdout.close()
    assert list(tmp_path.iterdir()) == []
    marks = str(tmp_path).encode()
    end = time.monotonic() + 10
    while left := [path for path in Path("/proc").glob("[0-9]*/cmdline") if marks in read(path)]:
        assert time.monotonic() < end, left


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_of_what_dig_prints_status_answers_and_extended_errors_are_shown():
    text = (
        ";; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 1\n; EDE: 3 (Stale Answer): (age=7s generation=1)\n"
        ";; ANSWER SECTION:\na.example. 5 IN\tA 10.0.0.1\na.example.\t5\tIN\tA\t10.0.0.2\n\n;; Query time: 0 msec\n"
    )
    assert picked(text) == [
        "NOERROR  a.example. 5 IN A 10.0.0.1  a.example. 5 IN A 10.0.0.2",
        "EDE: 3 (Stale Answer): (age=7s generation=1)",
    ]
    assert picked(";; connection timed out; no servers could be reached") == ["no answer (timed out)"]
    failed = (
        ";; opcode: QUERY, status: SERVFAIL, id: 2\n;; AUTHORITY SECTION:\ncluster.local. 5 IN SOA ns. h. 0 1 1 1 5\n"
    )
    assert picked(failed) == ["SERVFAIL"]


def test_the_table_goes_between_its_marks_and_nowhere_else():
    assert table.replaced(f"a\n{table.BEGIN}\nold\n{table.END}\nb", "new") == f"a\n{table.BEGIN}\nnew\n{table.END}\nb"
    with pytest.raises(ValueError, match="demo: begin"):
        table.replaced("nothing", "new")


def test_the_truth_is_every_cluster_ip_but_headless_ones():
    def service(name, **spec):
        return {"kind": "Service", "metadata": {"name": name, "namespace": "a"}, "spec": spec}

    items = [
        service("one", clusterIP="10.0.0.1", clusterIPs=["10.0.0.1", "fd00::1"]),
        service("headless", clusterIP="None"),
        service("elsewhere", externalName="b.example"),
        {"kind": "Namespace", "metadata": {"name": "a"}},
    ]
    assert truth_of(items) == {"one.a.svc.cluster.local": frozenset({"10.0.0.1"})}

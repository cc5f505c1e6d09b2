from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import asking, life
from benchmarks.peers.servers import extension_missing

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.life", *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "plane",
    ["pure", pytest.param("compiled", marks=pytest.mark.skipif(bool(extension_missing()), reason="no extension"))],
)
def test_a_small_life_gives_every_figure_of_the_table(tmp_path: Path, plane: str):
    words = ("--services", "60", "--endpoints", "400", "--starts", "1", "--changes", "1", "--folder", str(tmp_path))
    kept = tmp_path.parent / f"{tmp_path.name}.json"
    printed = run(*words, "--plane", plane, "--json", str(kept))
    record = json.loads(kept.read_text())
    assert record["plane"] == plane
    assert f"data plane: {plane}" in printed
    (lived,) = record["lives"]
    for row in life.BUDGETS:
        assert lived[row.key] >= 0, row
    assert lived["start_wall_ms"] > lived["restore_ms"] > 0
    assert lived["generation_mb"] < lived["source_mb"]
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
    assert len("\n".join(life.table([lived])).splitlines()) == len(life.BUDGETS) + 1


def test_help_says_what_is_measured():
    assert "killed (SIGKILL)" in run("--help")


def test_gaps_are_counted_from_answer_to_answer():
    seen = asking.Seen()
    for now_s in (10.0, 10.001, 10.051, 10.052, 10.152):
        seen.answered(now_s, now_s - 0.0005, right=now_s > 10.05)
    figures = seen.figures()
    assert [round(gap["ms"]) for gap in figures["gaps"]] == [100, 50]
    assert (figures["first_answer_s"], figures["first_right_s"]) == (10.0, 10.051)
    assert round(figures["latency_ms"]["max"], 3) == 0.5


def test_a_right_answer_is_told_from_others():
    body = asking.question("web.shop.svc.cluster.local")
    reply = b"\0\1\x84\0\0\1\0\1\0\0\0\0" + body[10:] + b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4\x0a\x60\x0a\x50"
    assert asking.is_right(reply, "10.96.10.80")
    assert not asking.is_right(reply, "10.96.10.81")
    assert not asking.is_right(reply[:3] + b"\2" + reply[4:], "10.96.10.80")

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

from agent.sources import confine

MIB = 1024 * 1024


def run(script, **options):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_a_confined_process_may_not_write_files_or_dump_core(tmp_path):
    done = run(
        f"""
        from agent.sources.confine import confine
        import os, resource, signal
        print(confine(1 << 30, 50, os.getppid()) <= 1 << 30)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            with open({str(tmp_path / "out")!r}, "w") as out:
                out.write("x")
        except OSError as error:
            print(error.strerror)
        print(resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_CPU), os.nice(0) >= 10)
        print(open("/proc/self/oom_score_adj").read().strip())
        print([line for line in open("/proc/self/status") if line.startswith("NoNewPrivs")])
        """
    )
    assert done.stdout.splitlines() == [
        "True",
        "File too large",
        "(0, 0) (50, 50) True",
        "1000",
        "['NoNewPrivs:\\t1\\n']",
    ], done.stderr


def test_a_process_that_burns_its_time_is_ended_by_the_kernel():
    done = run("from agent.sources.confine import confine; confine(1 << 30, 1, 0)\nwhile True: pass")
    assert -done.returncode in {signal.SIGXCPU, signal.SIGKILL}


def test_a_confined_process_ends_with_its_parent():
    parent = """
        import os, subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c",
            "import os, time; from agent.sources.confine import confine; confine(1 << 30, 50, os.getppid());"
            "print(os.getpid(), flush=True); time.sleep(60)"], stdout=subprocess.PIPE, text=True)
        print(child.stdout.readline(), end="", flush=True)
        os.kill(os.getpid(), 9)
    """
    child = int(run(parent).stdout)
    for _ in range(200):
        if not _is_alive(child):
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    raise AssertionError("the child outlived its parent")


def _is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_container_limit_leaves_what_is_not_used(tmp_path):
    assert confine.container_room(tmp_path) == []
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.stat").write_text("anon 1\n")
    assert confine.container_room(tmp_path) == []
    (tmp_path / "memory.max").write_text(f"{256 * MIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon {60 * MIB}\nfile {100 * MIB}\nshmem {4 * MIB}\n")
    assert confine.container_room(tmp_path) == [160 * MIB]
    (tmp_path / "memory.stat").write_text(f"anon {250 * MIB}\n")
    assert confine.container_room(tmp_path) == [32 * MIB]
    (tmp_path / "memory.stat").write_text("nonsense\n")
    assert confine.container_room(tmp_path) == []

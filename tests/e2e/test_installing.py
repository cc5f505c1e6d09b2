"""Installing where there is no compiler, and what is in a wheel: real pip, real `make run`, nothing fetched.

The interpreter of a second environment finds the dependencies of this one by a .pth file, so nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.server.tables import query, rdatas, read

ROOT = Path(__file__).parents[2]
LEFT_OUT = (".venv", ".git", ".run", "build", "dist", "*.so", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info")
TOOLS = (
    "sh", "bash", "env", "make", "awk", "grep", "sed", "touch", "rm", "mkdir", "dirname", "basename", "cat", "id",
    "uname",
)  # fmt: skip
"""What a machine without a compiler has."""

pytestmark = pytest.mark.slow


def tree(folder: Path, *, has_packages: bool = True) -> Path:
    """A copy of the sources with an environment of its own."""
    made = folder / "nodens"
    shutil.copytree(ROOT, made, ignore=shutil.ignore_patterns(*LEFT_OUT))
    if has_packages:
        venv = made / ".venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        here = sysconfig.get_path("purelib")
        (venv / "lib" / f"python3.{sys.version_info[1]}" / "site-packages" / "dependencies.pth").write_text(here + "\n")
    return made


def bare(folder: Path) -> dict[str, str]:
    """The environment of a machine without a compiler."""
    tools = folder / "tools"
    tools.mkdir()
    for word in TOOLS:
        found = shutil.which(word)
        if found is not None:
            (tools / word).symlink_to(found)
    (tools / "python3").symlink_to(Path(sys.executable).resolve())
    words = {"PATH": str(tools), "HOME": str(folder), "CC": "cc", "PIP_NO_INDEX": "1", "LANG": "C.UTF-8"}
    assert all(shutil.which(cc, path=str(tools)) is None for cc in ("cc", "gcc", "clang", "c99"))
    return words


def free_port() -> int:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def running(made: Path, words: dict[str, str], port: int, log: Path) -> Iterator[None]:
    """`make run`, ended with everything it started."""
    with log.open("wb") as said:
        command = ["make", "run", f"PORT={port}", "ADMIN=off", "SERVICES=20"]
        process = subprocess.Popen(command, cwd=made, env=words, stdout=said, stderr=said, start_new_session=True)
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def ask(port: int, deadline_s: float) -> list[str]:
    """Ask for the example's web.shop until it is answered."""
    packet = query("web.shop.svc.cluster.local", "A")
    while time.monotonic() < deadline_s:
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.5)
            sock.connect(("127.0.0.1", port))
            try:
                sock.send(packet)
                if found := rdatas(read(sock.recv(512))):
                    return found
            except OSError:
                time.sleep(0.2)
    return []


@pytest.mark.timeout(240)
def test_without_a_compiler_make_run_answers_in_pure_python_and_says_so_once(tmp_path: Path):
    made, words, port, log = tree(tmp_path), bare(tmp_path), free_port(), tmp_path / "log"
    with running(made, words, port, log):
        answered = ask(port, time.monotonic() + 180)
    said = log.read_text()
    assert answered == ["10.96.10.80"], said
    assert said.count("answering in pure Python") == 1, said
    assert "(python)" in said
    assert not list(made.rglob("_fast*.so"))


@pytest.mark.timeout(240)
def test_an_extension_that_is_required_and_can_not_be_built_fails_the_installation_with_a_reason(tmp_path: Path):
    made, words = tree(tmp_path), bare(tmp_path)
    words["NODENS_REQUIRE_EXT"] = "1"
    command = [".venv/bin/python", "-m", "pip", "install", "--no-deps", "--no-build-isolation", "-e", "."]
    done = subprocess.run(command, cwd=made, env=words, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode != 0
    assert "NODENS_REQUIRE_EXT is set and the compiled data plane could not be built" in done.stdout + done.stderr


def run_backend(made: Path, hook: str, out: Path) -> Path:
    """Build by the standard's hook, as pip and `python -m build` do."""
    out.mkdir(exist_ok=True)
    code = f"from setuptools import build_meta; print(build_meta.{hook}({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=made,
        env={**os.environ, "NODENS_REQUIRE_EXT": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_a_source_distribution_builds_a_wheel_that_has_the_extension_and_no_sources_of_it(tmp_path: Path):
    packed = run_backend(tree(tmp_path, has_packages=False), "build_sdist", tmp_path / "sdist")
    with tarfile.open(packed) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path / "unpacked", filter="data")
    sources = {
        str(path.relative_to(ROOT)) for path in (ROOT / "agent/wire").rglob("*.[chp]*") if "cache" not in str(path)
    }
    assert {name for name in sources if not name.endswith(".so")} <= names
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    wheel = run_backend(unpacked, "build_wheel", tmp_path / "wheel")
    held = set(zipfile.ZipFile(wheel).namelist())
    assert any(name.startswith("agent/wire/_fast.") and name.endswith(".so") for name in held)
    assert {"agent/py.typed", "agent/wire/_fast.pyi"} <= held
    assert not [
        name for name in held if name.endswith((".c", ".h", ".pyx")) or name.startswith(("tests", "benchmarks"))
    ]
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "from agent import wire; wire.check(); print(wire.__file__, wire.IMPLEMENTATION)"
    words = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "NODENS_REQUIRE_EXT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=words, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == [str(tmp_path / "site/agent/wire/__init__.py"), "compiled"]

"""Agents as processes on a file source that reacts at once, and dig to ask them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from benchmarks.cluster_generator import Spec, objects, write
from tests.agent_process import Agent, environment
from tests.e2e.dig import Dig
from tests.e2e.right_answers import Rightful, right_answers

ROOT = Path(__file__).resolve().parents[2]
SPEC = Spec(services=60, endpoints=700, namespaces=8)
QUICK = {"file": {"poll": "50ms", "debounce": "20ms"}, "stale_after": "2s", "log_level": "debug"}


@pytest.fixture(scope="session")
def rightful() -> Rightful:
    """What every name of the generated cluster must answer."""
    return right_answers(objects(SPEC))


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """The generated cluster as a file."""
    path = tmp_path / "cluster.json"
    write(SPEC, path, indent=0)
    return path


def _starter(root: Path) -> Iterator[Callable[..., Agent]]:
    with ExitStack() as stack:

        def start(source: Path | str, **options: Any) -> Agent:
            how = {
                word: options.pop(word) for word in ("environ", "launcher", "pass_fds", "state_dir") if word in options
            }
            number = len(list(root.glob("agent-*")))
            agent = Agent(root / f"agent-{number}", f"file:{source}", {**QUICK, **options}, **how)
            return stack.enter_context(agent)

        yield start


@pytest.fixture
def start_agent(tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Start an agent on a file: (path, **configuration)."""
    yield from _starter(tmp_path)


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Agent]]:
    """Start an agent that several tests only ask."""
    yield from _starter(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def agent(start_agent: Callable[..., Agent], cluster: Path) -> Agent:
    """An agent that follows the generated cluster and has written it to disk."""
    running = start_agent(cluster)
    running.wait_connected()
    running.wait_state("generation 1 on disk", lambda state: state["snapshot"]["generation_writes"] >= 1)
    return running


@pytest.fixture
def nodens() -> Callable[..., CompletedProcess[str]]:
    """Run a command of nodens to its end: (*words, environ)."""

    def run(*words: object, environ: dict[str, str] | None = None) -> CompletedProcess[str]:
        command = [sys.executable, "-m", "agent", *map(str, words)]
        return subprocess.run(
            command, cwd=ROOT, env=environment(environ), capture_output=True, text=True, timeout=30, check=False
        )

    return run


@pytest.fixture
def ask(dig: str, agent: Agent) -> Dig:
    """Dig for that agent."""
    return Dig(dig, agent.port)

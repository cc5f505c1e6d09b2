"""A control plane for the session, and one of their own for tests that break it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane import binaries
from tests.control_plane.agent_process import Nodens
from tests.control_plane.control_plane import PEER, ControlPlane
from tests.control_plane.coredns import CoreDNS


@pytest.fixture(scope="session")
def control_plane_programs() -> None:
    """Skip without etcd and kube-apiserver."""
    if reason := binaries.missing():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_plane(control_plane_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One API server for all tests that only add and change objects of their own."""
    with ControlPlane(tmp_path_factory.mktemp("plane")) as plane:
        yield plane


@pytest.fixture
def plane(control_plane_programs: None, tmp_path: Path) -> Iterator[ControlPlane]:
    """An API server of the test's own, to be stopped, frozen, compacted or replaced."""
    with ControlPlane(tmp_path / "plane") as plane:
        yield plane


@pytest.fixture
def start_coredns(tmp_path: Path) -> Iterator[Callable[..., CoreDNS]]:
    """Start CoreDNS on a control plane: (plane, *option lines)."""
    if reason := binaries.coredns_missing():
        pytest.skip(reason)
    with ExitStack() as stack:

        def start(plane: ControlPlane, *options: str, **more: Any) -> CoreDNS:
            number = len(list(tmp_path.glob("coredns-*")))
            peer = stack.enter_context(CoreDNS(tmp_path / f"coredns-{number}", plane.kubeconfig(PEER), options, **more))
            peer.wait_ready()
            return peer

        yield start


@pytest.fixture
def start_nodens(tmp_path: Path) -> Iterator[Callable[..., Nodens]]:
    """Start the agent on a control plane: (plane, **configuration)."""
    with ExitStack() as stack:

        def start(plane: ControlPlane, port: int | None = None, **options: Any) -> Nodens:
            number = len(list(tmp_path.glob("nodens-*")))
            return stack.enter_context(Nodens(tmp_path / f"nodens-{number}", plane.kubeconfig(port=port), options))

        yield start

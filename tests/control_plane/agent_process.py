"""The real agent on a control plane."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.agent_process import Agent


class Nodens(Agent):
    """The agent with the API server of a kubeconfig as its source; see `Agent`."""

    def __init__(
        self, root: Path, kubeconfig: Path, options: Mapping[str, Any] | None = None, zone: str = "cluster.local"
    ) -> None:
        super().__init__(root, "kubernetes", {"kubeconfig": str(kubeconfig), **(options or {})}, zone=zone)

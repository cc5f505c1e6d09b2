"""Where state will come from: which source, named and made by the configuration.

Law: choosing looks at the environment and reads nothing; what a source needs is imported when it is made, after the
agent answers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from agent import settings
from agent.config import Config
from agent.sources import Source
from agent.sources.reports import Reports


class Origin(NamedTuple):
    """The source's name, and how to make it."""

    name: str
    make: Callable[[], Source]


def choose(config: Config, node_name: str, reports: Reports) -> Origin:
    """Choose the source; it is imported and made when the agent answers.

    Args:
        config: verified.
        node_name: of this node.
        reports: what should be told to the cluster.

    Raises:
        ConfigError: none is named, and none can be found.
    """
    selection = settings.selection_of(config)
    if config.source.kind == "file":

        def make_file() -> Source:
            from agent.sources.file import FileSource

            return FileSource(settings.file_path(config), selection, settings.file_limits(config))

        return Origin("file", make_file)
    from agent.sources.origin import detect

    found = detect(os.environ, kubeconfig=config.kubeconfig, context=config.context)

    def make_kubernetes() -> Source:
        from agent.sources.kubernetes import KubernetesSource
        from agent.sources.pacing import Budget, Timing, reconnect_window_s

        window_s = reconnect_window_s(config.api.fleet_nodes, config.api.reconnect_window_s)
        timing = Timing(spread_s=window_s, heal_every_s=config.api.relist_every_s)
        budget = Budget(config.api.burst, config.api.requests_per_hour)
        return KubernetesSource(found, selection, node_name=node_name, timing=timing, budget=budget, reports=reports)

    return Origin("kubernetes", make_kubernetes)

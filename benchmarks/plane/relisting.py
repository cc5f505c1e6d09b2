"""An API server that makes its clients list everything again: the scripted one of the tests, in a process of its own.

    python -m benchmarks.plane.relisting CLUSTER FOLDER

Serves the objects of CLUSTER; its kubeconfig is in FOLDER once it listens. On SIGUSR2 every ClusterIP changes from
10.96.0.0/12 to 10.112.0.0/12 or back without a word to any watch, all positions become too old (410) and connections
break, as after a restart of kube-apiserver: the next thing a client learns is a full list in which all is different.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

from tests.scripted_api import ScriptedApi

NETWORKS = ('"10.96.', '"10.112.')
"""Beginnings of the ClusterIPs of a generated cluster, and of what they change to."""


def moved(text: str) -> str:
    """Move every ClusterIP in a JSON text to the other network."""
    here, there = NETWORKS if NETWORKS[0] in text else NETWORKS[::-1]
    return text.replace(here, there)


async def serve(objects: list[dict[str, Any]], folder: Path) -> None:
    """Serve until ended."""
    async with ScriptedApi(bookmark_s=5) as api:
        held: dict[str, list[dict[str, Any]]] = {"Service": []}
        for value in objects:
            held.setdefault(value["kind"], []).append(value)
            api.put(value, silently=True)

        def relist() -> None:
            held["Service"] = json.loads(moved(json.dumps(held["Service"])))
            for value in held["Service"]:
                api.put(value, silently=True)
            api.forget()
            api.break_watches()

        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, relist)
        api.kubeconfig(folder)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(Path(sys.argv[1]).read_bytes())["items"], Path(sys.argv[2])))

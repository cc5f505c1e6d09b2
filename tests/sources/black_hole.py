"""Follows a scripted API server, then lets every packet vanish: `unshare -rn python -m tests.sources.black_hole DIR`.

Prints what the source counted when it noticed, as JSON. Must run in a network namespace of its own: it takes the
loopback down. The spans of TCP are shortened, their ratio is the real one's.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

from agent.sources import kubernetes
from tests.scripted_api import ScriptedApi
from tests.sources.mirror import PATIENT, Mirror, following


def link(state: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", state], check=True)


async def main(folder: Path) -> None:
    mirror = Mirror()
    async with ScriptedApi() as api, following(api.kubeconfig(folder), mirror, timing=PATIENT) as source:
        await mirror.until(lambda: mirror.is_connected and api.watchers() == 3)
        link("down")
        from_s = time.monotonic()
        await mirror.until(lambda: not mirror.is_connected, timeout_s=30)
        found = {"after_s": time.monotonic() - from_s, "idle": source.counters.idle, "broken": source.counters.broken}
        link("up")
        await mirror.until(lambda: mirror.is_connected, timeout_s=30)
    print(json.dumps({**found, "lists": source.counters.lists}))


if __name__ == "__main__":
    kubernetes.KEEPALIVE = ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3))
    kubernetes.GONE_AFTER_MS = 3_000
    link("up")
    asyncio.run(main(Path(sys.argv[1])))

"""What is left out, refused or given up is counted where an operator looks: no bound is met in silence."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from tests.agent_process import Agent
from tests.control_plane.processes import wait_until


def test_what_was_left_out_or_refused_is_in_status_and_metrics(start_agent: Callable[..., Agent], cluster: Path):
    agent = start_agent(cluster)
    agent.wait_connected()
    before = agent.state()["events"]
    assert before["source"] == {"readings": 1, "readings_failed": 0}
    assert before["state"]["owners_compiled"] > 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        # Two questions in one message (RFC 9619).
        client.sendto(b"\0\1\1\0\0\2" + bytes(6) + b"\0\0\1\0\1" * 2, ("127.0.0.1", agent.port))
    wait_until("the fault", lambda: agent.state()["events"]["query"]["many_questions"] == 1)
    cluster.write_text("{")
    wait_until("the failed reading", lambda: agent.state()["events"]["source"]["readings_failed"] >= 1)
    assert agent.metric("nodens_events_total") > 0

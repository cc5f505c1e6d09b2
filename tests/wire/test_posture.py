"""Before anything is known nothing may be denied."""

from __future__ import annotations

from agent.wire import posture


def test_the_posture_at_the_start_is_not_ready():
    assert posture.START.state == posture.NOT_READY
    assert not posture.START.connected
    assert len({posture.NOT_READY, posture.FRESH, posture.STALE, posture.EXPIRED}) == 4

"""What nobody foresaw happens inside the agent itself: it is seen as a lost source, and answers go on."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests import witness
from tests.faults.stage import Stage
from tests.scripted_api import service


def test_bug_in_the_source_is_seen_as_a_lost_source(start_stage: Callable[..., Stage]):
    stage = start_stage(launcher=(sys.executable, "-m", "tests.faults.buggy"))
    with stage.asking() as asking:
        stage.api.do(lambda script: script.put(service("shop", "poison", "10.96.202.1")))
        stage.sees_lost("nodens failed while it followed its source .*the log says where")
        stage.all_right()
        stage.restart(asking)
        stage.sees_lost("nodens failed while it followed its source")
        stage.all_right()
        failures = stage.agent.metric("nodens_task_failures_total")
        assert failures >= 1
        witness.NOW.saw("nodens_task_failures_total")
        stage.api.do(lambda script: (script.delete("Service", "shop/poison"), script.advance(), script.forget()))
        stage.follows(timeout_s=60)

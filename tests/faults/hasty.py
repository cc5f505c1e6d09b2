"""The agent with the spans of its Kubernetes source shortened, started in the place of `python -m agent`.

    python -m tests.faults.hasty python -m agent serve ...      HASTY='{"idle_s": 1.5}'

Law: spans alone differ. What takes the shipped agent minutes (a watch that fell silent, the list that heals a gap)
takes this one seconds; the code is the same. `heal_s` stands for `relist_every`, which has a lower bound.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial

from agent import cli
from agent.sources import pacing
from agent.sources.pacing import Timing

SPANS = {
    "connect_s": 2.0,
    "answer_s": 1.0,
    "page_s": 2.0,
    "idle_s": 1.5,
    "short_s": 0.2,
    "grace_s": 0.3,
    "probe_min_s": 0.05,
    "probe_max_s": 0.2,
    "backoff_s": 0.05,
    "backoff_max_s": 0.5,
    "silent_max_s": 0.5,
    "distrust_s": 0.2,
}


def main() -> int:
    """Run the agent's own command line, which stands behind `python -m agent`."""
    spans = {**SPANS, **json.loads(os.environ.pop("HASTY", "{}"))}
    heal_s = spans.pop("heal_s", 0.0)
    defaults = dict(zip(Timing._fields, Timing.__new__.__defaults__, strict=True))
    assert spans.keys() <= defaults.keys(), spans.keys() - defaults.keys()
    Timing.__new__.__defaults__ = tuple({**defaults, **spans}.values())
    if heal_s:
        pacing.Timing = partial(_with_heal, heal_s)  # type: ignore[assignment, misc]
    return cli.main(sys.argv[4:])


def _with_heal(heal_s: float, **spans: float) -> Timing:
    return Timing(**{**spans, "heal_every_s": heal_s})


if __name__ == "__main__":
    sys.exit(main())

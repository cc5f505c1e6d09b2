"""The memory of failures: a question that nobody answered is not asked again at once (RFC 9520).

Law: bounded, and short: what failed 5 s ago may work now.
"""

from __future__ import annotations

from agent.forward.fetch import Failure
from agent.forward.question import Question

HELD_S = 5.0
MAX_HELD = 4096


class Failures:
    """Questions that failed, the oldest first.

    Attributes:
        evicted: failures forgotten because there were `MAX_HELD`.
    """

    def __init__(self) -> None:
        self.evicted = 0
        self._held: dict[Question, tuple[float, Failure]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def find(self, question: Question, now_s: float) -> Failure | None:
        """Give the failure of a question, None if there is none that still counts."""
        held = self._held.get(question)
        if held is None:
            return None
        if now_s >= held[0]:
            del self._held[question]
            return None
        return held[1]

    def put(self, question: Question, failure: Failure, now_s: float) -> None:
        """Remember a failure."""
        self._held.pop(question, None)
        if len(self._held) >= MAX_HELD:
            del self._held[next(iter(self._held))]
            self.evicted += 1
        self._held[question] = (now_s + HELD_S, failure)

    def forget(self, question: Question) -> None:
        """It was answered."""
        self._held.pop(question, None)

    def clear(self) -> None:
        """Forget all: other upstreams are asked from now on."""
        self._held.clear()

"""Which change is suspicious (outage.md rule 4): limits, what went lately, and the judgement.

Law: pure, takes `now_s`, and costs the same whatever the cluster's size. A name here is a Service, an endpoint a ready
one. What goes is counted over a window, so that a change that comes in pieces is judged as a whole; what comes back is
taken off again. Nothing is suspicious where nothing was held: a first fill can't lose a name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import NamedTuple

from agent.cluster.objects import SERVICE
from agent.cluster.store import Store

NAMES = "names"
NAMESPACE_NAMES = "namespace"
ENDPOINTS = "endpoints"
PROTECTED = "protected"
SIZE = "size"
RULES = (NAMES, NAMESPACE_NAMES, ENDPOINTS, PROTECTED, SIZE)
MOST_OF_A_NAMESPACE_PERCENT = 80
"""A large namespace that loses this share of its names counts as taken away."""
LEAST_FOR_SIZE = 100
"""Objects of a kind that must be held before a full set can be called too large for it."""
YOUNG_S = 43_200.0
"""A name that came within so many seconds may go again: previews, nightly batches, the blue half of blue/green."""
YOUNG_TO_OLD = 3
"""With more than so many young names to an old one the cluster is being built: all names count as old."""
LEAST_SERVICES = 3
"""Endpoints of fewer Services than this are never too many to go, also where there are few Services at all."""
MAX_NAMES = 200_000
"""Names remembered as young, and as gone; beyond it the oldest is forgotten: it counts as old, or as not gone."""


class Limits(NamedTuple):
    """Options of `guard`.

    Attributes:
        enabled: anything is judged at all.
        max_removed_percent: share of all names that may go within `window_s`.
        min_names: fewer names than this are never too many.
        namespace_names: a namespace of as many names must not be taken away as a whole; 0: it may.
        window_s: over which names that go are counted.
        max_unready_percent: share of all ready endpoints that may go within `unready_window_s`.
        min_endpoints: fewer endpoints than this are never too many.
        unready_window_s: over which endpoints that go are counted.
        max_growth: a full set this many times as large as what is held is too large.
        hold_for_s: after this long what is held is applied; 0: never without a decision.
        protected: Services (`namespace/name`) that must neither go nor lose their last endpoint.
    """

    enabled: bool = True
    max_removed_percent: int = 20
    min_names: int = 10
    namespace_names: int = 50
    window_s: float = 600.0
    max_unready_percent: int = 50
    min_endpoints: int = 20
    unready_window_s: float = 60.0
    max_growth: int = 10
    hold_for_s: float = 600.0
    protected: frozenset[str] = frozenset(("default/kubernetes",))


class Reason(NamedTuple):
    """A rule that a change would break.

    Attributes:
        rule: one of `RULES`.
        scope: the namespace, protected Service or kind that it is about; "" for the whole cluster.
        base: how many there were.
        limit: how many of them may go (or come, for `SIZE`).
    """

    rule: str
    scope: str
    base: int
    limit: int


class Guard:
    """Counts what went lately, and judges what is about to go.

    Args:
        limits: replaced by a reload.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._young = _Lately()
        self._lost = _Lately()
        self._lost_young = _Lately()
        self._peaks: deque[tuple[float, int]] = deque()

    def forget(self) -> None:
        """Begin to count anew: somebody decided, or the state is another one."""
        self._lost.clear()
        self._lost_young.clear()
        self._peaks.clear()

    def start_over(self) -> None:
        """Begin with nothing: every name that comes first is an old one."""
        self.forget()
        self._young.clear()

    def come(self, name: str, now_s: float) -> None:
        """Count a name that was not held before; one that went lately is an old one that is back."""
        if not self.find(name):
            self._young.add(name, now_s)

    def lose(self, name: str, now_s: float) -> None:
        """Count a name that has gone."""
        self.find(name)
        self._young.expire(now_s - YOUNG_S)
        (self._lost if self._young.drop(name) is None else self._lost_young).add(name, now_s)

    def find(self, name: str) -> bool:
        """Take off a name that is there again; tell whether it was an old one that had gone."""
        if self._lost_young.drop(name) is not None:
            return False
        return self._lost.drop(name) is not None

    def sample(self, ready: int, now_s: float) -> None:
        """Note how many endpoints are ready just before a change; one note a second is kept."""
        peaks = self._peaks
        while peaks and peaks[0][0] < now_s - self.limits.unready_window_s:
            peaks.popleft()
        while peaks and peaks[-1][1] <= ready:
            peaks.pop()
        if not peaks or now_s - peaks[-1][0] >= 1.0:
            peaks.append((now_s, ready))

    def judge_endpoints(self, store: Store, endpoints: int, services: int) -> list[Reason]:
        """Say whether the rule of endpoints would be broken.

        Args:
            store: what is held, with all that is about to go.
            endpoints: ready ones about to go.
            services: how many Services lost some lately, or are about to: one of them alone may lose all it has.
        """
        limits = self.limits
        if services < min(limits.min_names, max(LEAST_SERVICES, store.owners // 4)):
            return []
        base = max(self._peaks[0][1] if self._peaks else 0, store.ready)
        gone = base - store.ready + endpoints
        if gone < limits.min_endpoints or gone * 100 <= base * limits.max_unready_percent:
            return []
        allowed = max(limits.min_endpoints - 1, base * limits.max_unready_percent // 100)
        return [Reason(ENDPOINTS, "", base, allowed)]

    def judge_names(self, store: Store, names: Collection[str], now_s: float) -> list[Reason]:
        """Say which rules of names would be broken.

        Args:
            store: what is held, with all that is about to go.
            names: Services about to go.
            now_s: on the clock of `come` and `lose`.
        """
        if not names:
            return []
        limits, young = self.limits, self._young
        young.expire(now_s - YOUNG_S)
        self._lost.expire(now_s - limits.window_s)
        self._lost_young.expire(now_s - limits.window_s)
        total, young_total = store.count(SERVICE), len(young) + len(self._lost_young)
        is_new = young_total > YOUNG_TO_OLD * (total + len(self._lost) - len(young))
        going = [name for name in names if is_new or name not in young]
        if not going:
            return []
        before = len(self._lost) + (len(self._lost_young) if is_new else 0)
        base, gone = total + before - (0 if is_new else len(young)), before + len(going)
        if gone >= limits.min_names and gone * 100 > base * limits.max_removed_percent:
            return [Reason(NAMES, "", base, max(limits.min_names - 1, base * limits.max_removed_percent // 100))]
        return self._judge_namespaces(store, going)

    def _judge_namespaces(self, store: Store, going: list[str]) -> list[Reason]:
        counts: dict[str, int] = {}
        for name in going:
            namespace = name.partition("/")[0]
            counts[namespace] = counts.get(namespace, 0) + 1
        reasons = []
        for namespace, count in counts.items():
            before = self._lost.within.get(namespace, 0)
            base = store.names_in.get(namespace, 0) + before - self._young.within.get(namespace, 0)
            is_large = self.limits.namespace_names and base >= self.limits.namespace_names
            if is_large and (count + before) * 100 >= base * MOST_OF_A_NAMESPACE_PERCENT:
                allowed = base * MOST_OF_A_NAMESPACE_PERCENT // 100
                reasons.append(Reason(NAMESPACE_NAMES, namespace, base, allowed))
        return reasons


class _Lately:
    """Names by when something happened to them, oldest first; `within` counts them by namespace."""

    def __init__(self) -> None:
        self.within: dict[str, int] = {}
        self._at_s: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._at_s)

    def __contains__(self, name: str) -> bool:
        return name in self._at_s

    def add(self, name: str, now_s: float) -> None:
        if len(self._at_s) >= MAX_NAMES:
            self.drop(next(iter(self._at_s)))
        self.drop(name)
        self._at_s[name] = now_s
        namespace = name.partition("/")[0]
        self.within[namespace] = self.within.get(namespace, 0) + 1

    def drop(self, name: str) -> float | None:
        at_s = self._at_s.pop(name, None)
        if at_s is not None:
            namespace = name.partition("/")[0]
            self.within[namespace] -= 1
            if not self.within[namespace]:
                del self.within[namespace]
        return at_s

    def expire(self, before_s: float) -> None:
        while self._at_s:
            name = next(iter(self._at_s))
            if self._at_s[name] >= before_s:
                return
            self.drop(name)

    def clear(self) -> None:
        self._at_s.clear()
        self.within.clear()

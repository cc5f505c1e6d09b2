"""The story in acts, and what was measured in each.

Law: a figure is taken of all who are compared within the same seconds, by the same questions. Names that nobody asked
before are asked once: each act has its own.
"""

from __future__ import annotations

import sys
import time
from typing import Any, NamedTuple

from benchmarks.demo.clusters import NEW, NEW_IP, SHOWN, Cluster, RealCluster
from benchmarks.demo.columns import ClusterDns, Column, Ours, Score, in_sync
from benchmarks.demo.stage import WIDTH, Stage
from tests.control_plane.dns_client import addresses, status, try_ask

LOOK_S = 0.1
PROBES = 10
"""Names that tell whether somebody is right again; they are none of the others, so asking them warms nothing up."""
AFTER = "then"
"""Label of the last row: everybody was right again for some names, and now all are asked."""
NODENS = (sys.executable, "-m", "agent")


class Times(NamedTuple):
    """How long the acts take, seconds.

    Attributes:
        settle_s: after the restart of cluster DNS; CoreDNS waits 5 s for its API server before it answers at all.
        later_s: until every cache of 5 to 30 s has run out.
        return_s: longest wait, after the API server's return, for those who have to come back.
        stale_after_s: from when nodens marks its answers as stale.
        names: asked in the minute before, and never asked, in each act.
    """

    settle_s: float = 8.0
    later_s: float = 40.0
    return_s: float = 60.0
    stale_after_s: float = 20.0
    names: int = 100


class Reading(NamedTuple):
    """One cell: names asked in the minute before, and never asked."""

    known: Score
    new: Score

    def __str__(self) -> str:
        return f"{self.known.percent} / {self.new.percent}"


class Recovery(NamedTuple):
    """After the API server's return: seconds until right again, and until a new Service was answered; None: not yet."""

    right_s: float | None
    follows_s: float | None


class Row(NamedTuple):
    """A line of the table: what had happened, and each column's cell."""

    label: str
    cells: list[Any]


def seconds(value: float | None) -> str:
    """Write a measured time; looking takes `LOOK_S` at least, so less is not told apart."""
    if value is None:
        return "not in the time"
    return f"at once (< {LOOK_S:g} s)" if value < LOOK_S else f"after {value:.1f} s"


class Story:
    """Tells it.

    Args:
        stage: where it is shown.
        cluster: where the names come from.
        columns: who is compared; nodens is the last.
        times: how long it takes.
    """

    def __init__(self, stage: Stage, cluster: Cluster, columns: list[Column], times: Times) -> None:
        self.rows: list[Row] = []
        self.recovery: list[Recovery] = []
        self._stage = stage
        self._cluster = cluster
        self._columns = columns
        self._times = times
        names = list(cluster.truth)
        count = min(times.names, (len(names) - PROBES) // 6)
        self._known, self._never = names[:count], names[count + PROBES :]
        self._probes = names[count : count + PROBES]
        self._count = count
        last = columns[-1]
        assert isinstance(last, Ours)
        self._ours = last
        self._lost_s = 0.0

    def tell(self) -> None:
        """Play every act."""
        self._well()
        self._lost()
        self._cluster_dns_restarts()
        self._later()
        self._agents_restart()
        self._back()

    # Acts -----------------------------------------------------------------------------------------------------------

    def _well(self) -> None:
        stage = self._stage
        stage.act("15:11  Everything is well")
        for column in self._columns:
            stage.dig(column.name, column.port, SHOWN)
        for column in self._columns:
            column.ask(self._known, self._cluster.truth)
        stage.say(f'Each was asked {len(self._known)} names; these are "asked in the minute before" from here on.')

    def _lost(self) -> None:
        stage = self._stage
        stage.act(f"15:12  A rollout overloads the control plane: {self._cluster.words}")
        self._cluster.die()
        self._lost_s = time.monotonic()
        self._measure("API server dead, nothing restarted")
        stage.say(
            "Nobody notices. In December 2024 that took 20 minutes, long enough for the rollout to reach everything."
        )

    def _cluster_dns_restarts(self) -> None:
        stage, settle_s = self._stage, self._times.settle_s
        stage.act("15:30  Cluster DNS is restarted: a drained node, an OOM kill, somebody in doubt")
        servers = [column for column in self._columns if isinstance(column, ClusterDns)]
        if not servers:
            stage.say("No CoreDNS plays here: nothing to restart.")
        for server in servers:
            server.restart()
        self._watch(settle_s)
        self._measure(f"cluster DNS restarted ({settle_s:g} s)")
        if servers:
            stage.dig("CoreDNS", servers[0].port, SHOWN)
            stage.dig("nodens", self._ours.port, SHOWN)

    def _later(self) -> None:
        stage, later_s = self._stage, self._times.later_s
        stage.act(f"15:35  {later_s:g} s later: what caches held runs out")
        self._watch(later_s)
        self._measure(f"{later_s:g} s later")
        admin = f"127.0.0.1:{self._ours.agent.admin_port}"
        stage.say("This is seen, and holds up the next wave of the rollout:")
        stage.run(f"nodens rollout-gate --admin {admin}", [*NODENS, "rollout-gate", "--admin", admin], lines=2)

    def _agents_restart(self) -> None:
        stage, ours = self._stage, self._ours
        stage.act("15:50  Node agents are restarted: killed (SIGKILL), and started with what is on their disk")
        for column in self._columns:
            if column.is_node_agent:
                column.restart()
        stage.say(
            f"nodens gave its first answer {ours.restart_s:.2f} s after its start, with no API server to be reached."
        )
        self._measure("node agents restarted")
        for column in self._columns:
            stage.dig(column.name, column.port, SHOWN)
        ours.agent.wait_state("its admin endpoint", lambda state: state["ready"])
        admin = f"127.0.0.1:{ours.agent.admin_port}"
        stage.run(f"nodens status --admin {admin}", [*NODENS, "status", "--admin", admin], lines=1)

    def _back(self) -> None:
        stage = self._stage
        stage.act("19:38  The API server comes back, and a Service is created at once")
        ready_s = self._cluster.come_back()
        started = time.monotonic()
        self._cluster.add()
        if isinstance(self._cluster, RealCluster):
            stage.show(f"{'':>{WIDTH}} kube-apiserver is ready, {ready_s:.1f} s after its start", pause=False)
        self.recovery = self._recover(started)
        self._measure(AFTER)
        stage.dig("nodens", self._ours.port, NEW)

    # What the acts are made of --------------------------------------------------------------------------------------

    def _measure(self, label: str) -> None:
        fresh, self._never = self._never[: self._count], self._never[self._count :]
        truth = self._cluster.truth
        cells = [Reading(column.ask(self._known, truth), column.ask(fresh, truth)) for column in self._columns]
        self.rows.append(Row(label, cells))
        self._stage.show(
            f"{'right answers in %':>{WIDTH}}   asked in the minute before / never asked", "dim", pause=False
        )
        for column, cell in zip(self._columns, cells, strict=True):
            style = "good" if cell.known.percent == cell.new.percent == 100 else "bad"
            self._stage.show(f"{column.name:>{WIDTH}}   {cell}", style, pause=False)
        self._stage.show(pause=False)

    def _watch(self, span_s: float) -> None:
        """Ask everybody the same name now and then, and show how it goes."""
        started = time.monotonic()
        every_s = max(2.0, span_s / 5)
        self._strip("dig, now and then", [column.short for column in self._columns])
        while (passed_s := time.monotonic() - started) < span_s:
            self._strip(f"+{passed_s:.0f} s", [self._word(column) for column in self._columns])
            left_s = span_s - (time.monotonic() - started)
            time.sleep(max(0.0, min(every_s, left_s)))

    def _strip(self, label: str, words: list[str]) -> None:
        self._stage.show(f"{label:>{WIDTH}}   " + "".join(f"{word:16}" for word in words).rstrip(), "dim", pause=False)

    def _word(self, column: Column) -> str:
        reply = try_ask(column.port, SHOWN, timeout_s=0.5)
        word = status(reply)
        return "answers" if word == "NOERROR" else word

    def _recover(self, started: float) -> list[Recovery]:
        """Look until everybody is right again and follows changes, or for `return_s`.

        What is looked at are names of their own: those that were asked all the time are asked once, after it.
        """
        right: dict[str, float] = {}
        follows: dict[str, float] = {}
        while time.monotonic() - started < self._times.return_s:
            for column in self._columns:
                name = column.name
                if name not in right and in_sync(column.port):
                    score = column.ask(self._probes, self._cluster.truth)
                    if score.right == score.asked:
                        right[name] = time.monotonic() - started
                        self._stage.show(f"{name:>{WIDTH}}   right again {seconds(right[name])}", pause=False)
                if name in right and name not in follows and addresses(column.port, NEW) == {NEW_IP}:
                    follows[name] = time.monotonic() - started
                    self._stage.show(f"{name:>{WIDTH}}   follows changes {seconds(follows[name])}", pause=False)
            if len(follows) == len(self._columns):
                break
            time.sleep(LOOK_S)
        return [Recovery(right.get(column.name), follows.get(column.name)) for column in self._columns]

"""The composition root: creates the rooms and wires them; nobody else creates anything.

     source ─► publisher ─► store, compiler ─► table ◄─ responder ◄─ UDP, TCP
                   │                          upstreams ◄─► forwarder, cache
                   └─ consistent step ─► persister ─► disk ─► (next start) table

Law: first the sockets, then the newest state on disk, then answers; only after that is anything heavy imported, are
objects loaded behind their names, and is the source started. What is lost later takes no answer away.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from agent import settings, wire
from agent.config import Config, SocketAddress, UnixPath, again
from agent.errors import SnapshotError
from agent.holding import Holding
from agent.lifecycle import process, signals
from agent.lifecycle.readiness import Readiness
from agent.lifecycle.reload import Commit, Part, Reloader
from agent.lifecycle.stop import Deadlines, Ending, stop, until_stopped
from agent.lifecycle.supervisor import Supervisor
from agent.lifecycle.systemd import Notifier
from agent.lifecycle.watchdog import Watchdog, ask
from agent.observe.announcements import announcement
from agent.observe.lag import LoopLag
from agent.observe.logs import Logs
from agent.observe.transitions import transition
from agent.orders import Orders
from agent.origin import Origin, choose
from agent.outward import Outward
from agent.server.counters import Counters
from agent.server.responder import Responder
from agent.server.sockets import Pair, inherit, open_pairs
from agent.server.tcp import Connections, TcpEndpoint
from agent.server.udp import UdpEndpoint
from agent.snapshot.compiler import zones_of
from agent.snapshot.freshness import Freshness
from agent.snapshot.generations import Generations
from agent.snapshot.persister import Persister
from agent.snapshot.publisher import Publisher
from agent.snapshot.recovery import Recovered
from agent.snapshot.restore import Restored, objects, restore
from agent.sources import Source, follow
from agent.sources.reports import Reports
from agent.wire.codes import NOERROR, REFUSED
from agent.wire.posture import EXPIRED, NOT_READY, STALE
from agent.wire.table import AnswerTable

if TYPE_CHECKING:
    from agent.observe.admin import Renderer
    from agent.server.native import NativeEndpoint
    from agent.survey import Survey

log = logging.getLogger(__name__)

TICK_S = 1.0
NOT_RESTORED = Restored(is_compiled=True, keeps_positions=False, reason="nothing to restore")


class Doors(NamedTuple):
    """Where queries come in."""

    udp: list[UdpEndpoint | NativeEndpoint]
    tcp: list[TcpEndpoint]


def serve(config: Config) -> int:
    """Live one life; gives the exit code.

    Raises:
        NodensError: the compiled data plane is required and not there.
    """
    wire.check()
    signals.block()
    logs = Logs(config.log_level, config.log_format, environ=os.environ)
    try:
        return asyncio.run(App(config, logs).live())
    finally:
        logs.finish()


class App:
    """One agent.

    Args:
        config: verified.
        logs: for reloads.
    """

    def __init__(self, config: Config, logs: Logs) -> None:
        self.config = config
        self.name = config.identity or process.node_name()
        self.logs = logs
        self.notifier = Notifier(os.environ)
        self.readiness = Readiness()
        self.freshness = Freshness(config.stale_after_s, config.max_stale_s)
        profile = settings.profile_of(config)
        self.table = wire.new_table(zones_of(profile))
        self.outward = Outward(config, self._is_ours)
        self.responder = self._new_responder(config)
        self.reports = Reports(enabled=config.events and config.source.kind != "file")
        needs, limits = bool(config.namespace_labels.strip()), settings.guard_of(config)
        self.publisher = Publisher(
            profile, self.freshness, self.table, self._transition, needs_namespace=needs, limits=limits
        )
        self.holding = Holding(config.state_dir, self.publisher, transition)
        self.generations = Generations(config.state_dir, settings.limits_of(config))
        self.orders = Orders(self.generations, profile)
        self.generations.spared = self.orders.spared
        self.restored = NOT_RESTORED
        self.doors = Doors([], [])
        self._state = ""
        self._source: Source | None = None
        self._changed = asyncio.Event()
        self._refused: tuple[str, ...] = ()
        self._guard = self.readiness.hold("snapshot", "no valid snapshot yet, and the source has not been read")

    def _is_ours(self, key: bytes) -> bool:
        return self.responder.zones.is_ours(key)

    def _new_responder(
        self, config: Config, counters: Counters | None = None, table: AnswerTable | None = None
    ) -> Responder:
        return Responder(
            table if table is not None else self.table,
            settings.responder_options(config, self.name),
            counters=counters,
            forwarder=self.outward.in_use,
            cache=self.outward.table,
        )

    async def live(self) -> int:
        """Go through a life."""
        wishes = signals.Wishes()
        pairs, left = open_pairs(
            [(address.host, address.port) for address in self.config.listen],
            inherit(os.environ, os.getpid()),
            freebind=self.config.freebind,
        )
        for inherited in left:
            log.warning("inherited socket %r fits no listen address and is closed", inherited.name)
            inherited.sock.close()
        origin = choose(self.config, process.node_name(), self.reports)
        persister = Persister(self.generations, self.publisher, origin.name, settings.pace_of(self.config), transition)
        self.publisher.recorder = persister
        started_s = time.perf_counter()
        recovered = self._restore(persister)
        self.orders.begin()
        self.holding.restore()
        self.outward.restore()
        restore_s = time.perf_counter() - started_s
        self._tick(persister)
        await self._open(pairs)
        gc.freeze()
        wishes.listen()
        self.notifier.ready()
        from agent.survey import Identity, Rooms, Survey

        supervisor = Supervisor(wishes.fail)
        reloader = Reloader(
            self.config, lambda: again(self.config, os.environ), (self._prepare(persister),), self.notifier
        )
        lag = LoopLag()
        rooms = Rooms(
            self.publisher,
            persister,
            lambda: self.responder,
            self.readiness,
            supervisor,
            reloader,
            lag,
            self.logs,
            lambda: self._source,
            self.reports,
            self.orders,
            self.holding,
            self.outward.forwarder,
            self.outward.keeper,
        )
        listen = tuple(str(SocketAddress(*pair.address)) for pair in pairs)
        identity = Identity(self.name, origin.name, listen, tuple(self.config.zones), self.config.state_dir)
        survey = Survey(identity, rooms, self._refused)
        survey.restore_s, survey.started_s = restore_s, process.age_s()
        log.info(
            "answering on %s, %.3f s after the start (%s)", ", ".join(listen), survey.started_s, wire.IMPLEMENTATION
        )
        supervisor.start("tick", lambda: self._tick_for_ever(survey, persister), critical=True)
        supervisor.start("orders", lambda: self.orders.follow(self._changed.set))
        supervisor.start("quarantine", self.holding.run)
        self.outward.start(supervisor)
        supervisor.start("loop lag", lag.run)
        if self.notifier.watchdog_s:
            supervisor.start("watchdog", Watchdog(self.notifier, self._probes(pairs)).run)
        supervisor.start("follow", lambda: self._follow(recovered, origin, persister, supervisor))
        if self.config.admin is not None:
            supervisor.start("admin", partial(self._serve_admin, self.config.admin, survey, reloader))
        code = await until_stopped(wishes, reloader.reload)
        ending = Ending(self._close, self._drain, lambda: self._last_write(supervisor, persister))
        # A person at the terminal is not kept waiting for load balancers to look away.
        lameduck_s = 0.0 if wishes.stopped_by == "SIGINT" else reloader.config.lameduck_s
        deadlines = Deadlines(lameduck_s, reloader.config.drain_s)
        await stop(ending, deadlines, self.readiness, self.notifier)
        return code

    # From disk --------------------------------------------------------------------------------------------------

    def _restore(self, persister: Persister) -> Recovered | None:
        recovered = self.generations.load()
        self._refused = tuple(map(str, self.generations.refused))
        for refused in self._refused:
            transition("restore_refused", reason=refused)
        wanted = self.config.cluster_id
        if recovered is not None and wanted and recovered.identity != wanted:
            transition("restore_refused", reason=f"it is of cluster {recovered.identity!r}, cluster_id is {wanted!r}")
            recovered = None
        if recovered is None:
            transition("nothing_restored", state_dir=self.config.state_dir)
            self.publisher.compiler.declare_zones()
            return None
        self.restored = restore(recovered, self.table, self.publisher.profile)
        positions = recovered.positions if self.restored.keeps_positions else {}
        if not self.restored.keeps_positions:
            self.publisher.quarantine.trust()  # other objects are wanted now: what goes, goes on purpose
        self.publisher.resume(positions, recovered.identity, recovered.generation.header.epoch)
        persister.restored(recovered, compiled=self.restored.is_compiled)
        if self.restored.is_compiled:
            self._take_age(recovered)
        else:
            transition("restore_recompiles", reason=self.restored.reason)
        return recovered

    def _take_age(self, recovered: Recovered) -> None:
        age_s = time.time() - recovered.confirmed_unix_s
        self.freshness.restored(age_s, time.monotonic())
        transition(
            "restored",
            generation=recovered.generation.header.generation,
            age_s=round(age_s, 1),
            names=self.table.names_at_most(),
        )

    async def _load(self, recovered: Recovered) -> None:
        try:
            await self.publisher.load(objects(recovered), compiled=self.restored.is_compiled)
        except SnapshotError as error:
            transition("objects_lost", reason=str(error))
            self.publisher.start_over()
            return
        if not self.restored.is_compiled:
            self._take_age(recovered)

    # From the source --------------------------------------------------------------------------------------------

    async def _follow(
        self, recovered: Recovered | None, origin: Origin, persister: Persister, supervisor: Supervisor
    ) -> None:
        """Load the objects behind their names, then start what keeps them right; started once."""
        from agent.lifecycle.memory import bound_heap, give_back

        bound_heap()
        persister.after_write = give_back
        if recovered is not None:
            await self._load(recovered)
        publisher, source = self.publisher, origin.make()
        self._source = source
        supervisor.start("persister", persister.run)
        supervisor.start("source", lambda: follow(source, publisher, dict(publisher.positions), publisher.identity))
        await asyncio.Event().wait()

    def _transition(self, event: str, /, **fields: object) -> None:
        transition(event, **fields)
        if (found := announcement(event, fields)) is not None:
            self.reports.add(found.reason, found.message, is_trouble=found.is_trouble, now_unix_s=time.time())
        self._changed.set()

    # Posture ------------------------------------------------------------------------------------------------------

    def _tick(self, persister: Persister) -> None:
        now_s = time.monotonic()
        posture = self.orders.posture(self.freshness.posture(persister.generation, now_s), now_s)
        self.orders.apply(self.responder, self.table, posture)
        if posture.state != self._state:
            if self._state or posture.state in {STALE, EXPIRED}:
                told = {"now": posture.state, "age_s": posture.age_s, "source": posture.note}
                self._transition("posture", before=self._state or "start", **told)
            self._state = posture.state
            self.notifier.status(f"{posture.state}, generation {posture.generation}, {posture.note}")
        if posture.state != NOT_READY:
            self._guard.drop()

    async def _tick_for_ever(self, survey: Survey, persister: Persister) -> None:
        """Renew the posture once a second, and at once when the source is lost or found."""
        while True:
            self._tick(persister)
            survey.sample()
            try:
                async with asyncio.timeout(TICK_S):
                    await self._changed.wait()
            except TimeoutError:
                continue
            self._changed.clear()

    # Doors --------------------------------------------------------------------------------------------------------

    async def _open(self, pairs: list[Pair]) -> None:
        loop = asyncio.get_running_loop()
        connections = Connections()
        options = settings.tcp_options(self.config)
        for pair in pairs:
            self.doors.tcp.append(TcpEndpoint(pair.tcp, self.responder, options, connections))
            if wire.IMPLEMENTATION == "python":
                self.doors.udp.append(UdpEndpoint(pair.udp, self.responder, loop))
        if wire.IMPLEMENTATION == "compiled":
            from agent.server.native import NativeEndpoint

            socks, workers = [pair.udp for pair in pairs], settings.workers_of(self.config)
            self.doors.udp.append(NativeEndpoint(socks, self.responder, loop, workers))
        for udp in self.doors.udp:
            udp.start()
        for tcp in self.doors.tcp:
            await tcp.start()

    def _probes(self, pairs: list[Pair]) -> list[tuple[str, Callable[[], Awaitable[bool]]]]:
        rcode = NOERROR if self.config.chaos.status == "answer" else REFUSED
        return [(str(SocketAddress(*pair.address)), partial(ask, *pair.address, rcode=rcode)) for pair in pairs]

    async def _serve_admin(self, where: SocketAddress | UnixPath, survey: Survey, reloader: Reloader) -> None:
        from agent.observe.admin import Admin

        def load_metrics() -> Renderer:
            from agent.observe.metrics import Metrics

            return Metrics(lambda: reloader.config.metrics.coredns_names)

        address = where.path if isinstance(where, UnixPath) else (where.host, where.port)
        await Admin(address, survey.read, load_metrics).run()

    # Reload and end -------------------------------------------------------------------------------------------------

    def _prepare(self, persister: Persister) -> Part:
        """Make the one part of a reload: everything is built before anything is put in place."""

        def prepare(config: Config) -> Commit:
            name = config.identity or process.node_name()
            go_out = self.outward.prepare(config)
            tcp, pace = settings.tcp_options(config), settings.pace_of(config)

            def commit() -> None:
                go_out()
                self.name = name
                responder = self._new_responder(config, self.responder.counters, self.responder.table)
                responder.overrides = self.responder.overrides
                responder.posture = self.responder.posture
                old, self.responder = self.responder, responder
                for udp in self.doors.udp:
                    udp.responder = responder
                for endpoint in self.doors.tcp:
                    endpoint.responder, endpoint.options = responder, tcp
                old.settle()
                persister.pace = pace
                self.publisher.quarantine.guard.limits = settings.guard_of(config)
                self.freshness.stale_after_s, self.freshness.max_stale_s = config.stale_after_s, config.max_stale_s
                self.logs.configure(config.log_level, config.log_format)

            return commit

        return prepare

    def _close(self) -> None:
        self.outward.forwarder.finish()
        for udp in self.doors.udp:
            udp.close()

    async def _drain(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for tcp in self.doors.tcp:
                tasks.create_task(tcp.stop(self.config.drain_s))

    async def _last_write(self, supervisor: Supervisor, persister: Persister) -> None:
        await supervisor.stop(1.0)
        await self.outward.last_write()
        await persister.finish()

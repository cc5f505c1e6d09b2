"""The way out, put together: upstreams, forwarder, cache and what keeps it on disk, from a configuration.

Law: part of the composition root, beside `app`. Changes nothing while it prepares; what can't be built from a checked
configuration is a ConfigError. Beside the configuration only the resolv.conf it names is read, and the kernel asked
which addresses are this node's: the agent never asks itself.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path

from agent import wire
from agent.config import addresses
from agent.config.options import Config
from agent.control.folder import FLUSH
from agent.control.watch import CHANGED, REFUSED, Watch
from agent.errors import ConfigError
from agent.forward.cache import Bounds, Cache
from agent.forward.entry import Caps
from agent.forward.flush import Flushes, FlushOrder
from agent.forward.forwarder import Forwarder
from agent.forward.keeper import Keeper
from agent.forward.ports import Ports
from agent.forward.routes import Group, Route, Routes
from agent.forward.shown import Shown, asked
from agent.forward.stream import tls_context
from agent.forward.target import TLS, Target, nameservers
from agent.forward.terms import IMMEDIATE, Options
from agent.forward.upstream import Upstream
from agent.lifecycle.supervisor import Supervisor
from agent.records.names import to_wire

log = logging.getLogger(__name__)

MAX_RESOLV_CONF_CHARS = 65_536
LOOK_EVERY_S = 1.0
ORDER_MARGIN_S = 5.0
"""An order may have been given, and not followed yet, when the cache was last written."""


class Outward:
    """Everything that answers names of no own zone.

    Args:
        config: verified.
        is_ours: tells whether a name is for an own zone to answer.

    Attributes:
        forwarder, keeper: as they are.
        table: what of the cache the data plane answers by itself.

    Raises:
        ConfigError: an upstream is the agent itself.
    """

    def __init__(self, config: Config, is_ours: Callable[[bytes], bool]) -> None:
        routes, words = routes_of(config)
        _warn(words)
        self._config = config
        self._routed = routes, config.forward
        self._persists = config.cache.persist
        cache = Cache(cache_bounds(config))
        self.forwarder = Forwarder(_routes(routes, config), cache, forward_options(config), is_ours, time.monotonic)
        self.table = wire.new_cache()
        self.table.report = lambda key: self.forwarder.renew(asked(key))
        self._orders = Watch(config.state_dir, FLUSH, FlushOrder)
        self._flushes = Flushes(cache)
        self.keeper = Keeper(cache, config.state_dir, config.cache.save_every_s, time.monotonic)

    @property
    def in_use(self) -> Forwarder | None:
        """The forwarder, if there is anybody to ask."""
        return self.forwarder if self.forwarder.routes.groups else None

    def restore(self) -> None:
        """Read what was held in the last life, but what was ordered to be forgotten since."""
        if self._persists:
            self.keeper.restore()
        self._look()
        self._forget(self.keeper.restored_unix_s - ORDER_MARGIN_S)
        self._show(self._config)

    def _show(self, config: Config) -> None:
        """Show what is held to the data plane, as long as there is anybody to ask."""
        shown = Shown(self.table)
        shown.prefetch = config.cache.prefetch
        shown.stale_s = config.cache.max_stale_s if config.cache.stale == IMMEDIATE else 0.0
        self.table.max_entries, self.table.max_bytes = config.cache.max_entries, config.cache.max_bytes
        self.forwarder.cache.show(shown if self.in_use is not None else None, time.monotonic())

    def start(self, supervisor: Supervisor) -> None:
        """Begin to ask, and to write."""
        supervisor.start("forward", self.forwarder.run)
        supervisor.start("cache orders", self._follow_orders)
        if self._persists:
            self.forwarder.on_lost = self.keeper.want
            supervisor.start("cache", self.keeper.run)

    def prepare(self, config: Config) -> Callable[[], None]:
        """Make what a reload puts in place; gives what does so.

        Raises:
            ConfigError: an upstream is the agent itself.
        """
        routes, words = routes_of(config)
        routed = routes, config.forward
        made = _routes(routes, config) if routed != self._routed else None
        options, bounds = forward_options(config), cache_bounds(config)

        def commit() -> None:
            self.forwarder.options, self.forwarder.cache.bounds = options, bounds
            self.keeper.every_s = config.cache.save_every_s
            if made is not None:
                _warn(words)
                for zone in _changed(self._routed[0], routes):
                    self.forwarder.cache.flush(zone)
                self._routed = routed
                self.forwarder.use(made)
            self._show(config)

        return commit

    async def _follow_orders(self) -> None:
        """Look for orders once a second; never returns."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if await asyncio.to_thread(self._look):
                self._forget(0.0)

    def _look(self) -> bool:
        """Look for orders; tells whether they have changed."""
        word = self._orders.look()
        if word == REFUSED:
            log.warning("an order to forget cached answers is refused: %s", self._orders.problem)
        return word == CHANGED

    def _forget(self, since_unix_s: float) -> None:
        for zone, count in self._flushes.follow(self._orders.order, since_unix_s):
            log.info("forgotten by order: %d cached answers at and below %s", count, zone)
            self.forwarder.failures.clear()
            self.keeper.want()

    async def last_write(self) -> None:
        """Bring what is held to disk: the end."""
        if self._persists:
            await self.keeper.write()


def _changed(before: list[Route], now: list[Route]) -> set[bytes]:
    """Name the stub domains that others answer for now; what is held of them is of somebody else."""
    return {route.zone for route in set(before) ^ set(now) if len(route.zone) > 1}


def _warn(words: list[str]) -> None:
    for line in words:
        log.warning("%s", line)


def forward_options(config: Config) -> Options:
    """How names of no own zone are asked for."""
    forward, cache = config.forward, config.cache
    return Options(
        timeout_s=forward.timeout_s,
        stale=cache.stale,
        stale_wait_s=cache.stale_wait_s,
        caps=Caps(cache.max_ttl_s, cache.max_negative_ttl_s),
        prefetch=cache.prefetch,
        max_in_flight=forward.max_in_flight,
        max_waiting=forward.max_waiting,
        max_per_client=forward.max_per_client,
    )


def cache_bounds(config: Config) -> Bounds:
    """What the cache may hold."""
    cache = config.cache
    return Bounds(cache.max_entries, cache.max_bytes, 0.0 if cache.stale == "off" else cache.max_stale_s)


def routes_of(config: Config) -> tuple[list[Route], list[str]]:
    """Who answers for which zone, and what is to be said about it.

    Raises:
        ConfigError: the agent would ask itself, or a resolv.conf that is not the default can't be read.
    """
    words: list[str] = []
    zones: dict[str, list[Target]] = {}
    for stub in config.stub_domains:
        zones.setdefault(stub.zone, []).append(stub.target)
    routes = [Route(to_wire(zone), tuple(targets)) for zone, targets in zones.items()]
    found = _from_file(config, words) if config.upstream.file else list(config.upstream.targets)
    if found:
        routes.append(Route(b"\x00", tuple(found)))
    for route in routes:
        for target in route.targets:
            if _is_self(target, config):
                raise ConfigError(
                    f"upstream {target} is an address of this node that the agent itself serves on",
                    hint="Name another server, or listen on single addresses instead of all",
                )
    return routes, words


def _from_file(config: Config, words: list[str]) -> list[Target]:
    path = config.upstream.file
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            found = nameservers(file.read(MAX_RESOLV_CONF_CHARS))
    except OSError as error:
        if path != Config().upstream.file:
            raise ConfigError(f"upstream: {path} can't be read: {error.strerror}") from None
        words.append(f"{path} can't be read ({error.strerror}): names of no own zone are refused")
        return []
    others = [target for target in found if not _is_self(target, config)]
    words += [
        f"name server {target} of {path} is this agent itself and is not asked"
        for target in found
        if target not in others
    ]
    if not others:
        words.append(f"no upstream: {path} names none but this agent; names of no own zone are refused")
    return others


def _is_self(target: Target, config: Config) -> bool:
    """Tell whether an upstream is one of the agent's own doors: that address, or any of this node's by a wildcard."""
    for address in config.listen:
        if address.port != target.port:
            continue
        if address.host == target.host:
            return True
        if not addresses.publishable(address.host) and is_local(target.host):
            return True
    return False


def is_local(host: str) -> bool:
    """Tell whether an address is one of this node's: the kernel lets only those be bound."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.bind((host, 0))
    except OSError:
        return False
    else:
        return True
    finally:
        sock.close()


def _routes(routes: list[Route], config: Config) -> Routes:
    """Make the upstreams of routes; one that several zones name is one."""
    ports, made = Ports(), {}
    tls = tls_context() if any(target.via == TLS for route in routes for target in route.targets) else None
    for target in dict.fromkeys(target for route in routes for target in route.targets):
        made[target] = Upstream(target, ports, tls, config.forward.max_per_upstream)
    return Routes([Group(zone, [made[each] for each in targets], config.forward.policy) for zone, targets in routes])

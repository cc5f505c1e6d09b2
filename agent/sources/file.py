"""A file or folder as the source of cluster state: what `kubectl get … -o json|yaml` printed, or manifests.

Law: the last good state stays until files that can be used as a whole replace it. The agent itself never opens the
files: it looks at them from a thread (agent.sources.sightings), has them read by a process of its own
(agent.sources.reading) when they stood still (agent.sources.watch), and takes nothing but checked objects.

The position is a digest of the files' content: after a restart with the same content nothing is delivered again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from agent.cluster.objects import KINDS
from agent.cluster.selection import EVERYTHING, Selection
from agent.errors import ConfigError, SourceError
from agent.sources import Resume, Sink
from agent.sources.exchange import MAX_SKIPS_NAMED, Done, Marks, Order, Same, plain
from agent.sources.reading import ChangedWhileReadError, Reading, read
from agent.sources.sightings import look
from agent.sources.watch import RESTLESS_S, Step, Watch

CONFIRM_S = 1.0
"""An unchanged file is confirmed at most this often."""
LOOK_S = 5.0
"""A look that takes longer means a file system that hangs."""
SHORTEST_DEBOUNCE_S = 0.02
"""Kernels count a file's times in steps of up to 10 ms."""
SKIPS_AT_ONCE = 50
_log = logging.getLogger("nodens.source.file")


class FileLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the file source.

    Attributes:
        poll_s: seconds between two looks.
        debounce_s: seconds that files must have been the same before they are read.
        max_bytes: of all files together.
        max_files: of a folder.
        max_memory_bytes: address space of the process that reads.
        timeout_s: seconds one reading may take.
    """

    poll_s: float = 0.5
    debounce_s: float = 0.2
    max_bytes: int = 512 * 1024 * 1024
    max_files: int = 1_000
    max_memory_bytes: int = 2 * 1024 * 1024 * 1024
    timeout_s: float = 120.0


class FileSource:
    """Follows a file or folder.

    Args:
        path: of the file or folder.
        selection: objects that count.
        limits: bounds and pace.

    Raises:
        ConfigError: the path can't be one.
    """

    name = "file"

    def __init__(self, path: Path, selection: Selection = EVERYTHING, limits: FileLimits | None = None) -> None:
        self._path = str(path)
        if "\0" in self._path or not _is_utf8(self._path):
            raise ConfigError(f"the path {plain(self._path)} is not text in UTF-8")
        self._limits = limits or FileLimits()
        self._order = Order(
            self._path,
            selection,
            max_bytes=self._limits.max_bytes,
            max_files=self._limits.max_files,
            max_memory_bytes=self._limits.max_memory_bytes,
            timeout_s=self._limits.timeout_s,
        )
        self._rest_s = max(self._limits.debounce_s, SHORTEST_DEBOUNCE_S)
        self._watch = Watch(self._rest_s)
        self._looking: asyncio.Future[Marks | SourceError] | None = None
        self.last: Done | Same | None = None
        """End of the last reading that was used: its counts, for people."""
        self._readings = self._readings_failed = 0

    @staticmethod
    def access() -> None:
        """See `Source.access`: it asks no API servers."""

    def counts(self) -> dict[str, int]:
        """See `Source.counts`; how often the files were read, and could not be."""
        return {"readings": self._readings, "readings_failed": self._readings_failed}

    async def run(self, sink: Sink, resume: Resume, known_identity: str) -> None:
        """Follow the files for ever (see `agent.sources.Source`)."""
        following = _Following(sink, resume, known_identity)
        while True:
            try:
                pause_s = await self._once(following)
            except SourceError as error:
                following.lost(str(error))
                pause_s = self._limits.poll_s
            await asyncio.sleep(pause_s)

    async def _once(self, following: _Following) -> float:
        """Look once, act on it, and give the seconds until the next look."""
        try:
            marks = await self._look()
        except SourceError:
            self._watch.vanished()
            raise
        match self._watch.saw(marks, time.monotonic(), time.time_ns()):
            case Step.SAME:
                following.in_sync(time.monotonic())
            case Step.READ:
                await self._read(following)
            case Step.RESTLESS:
                raise self._restless()
            case Step.REST:
                pass
            case Step.WAIT:
                return self._rest_s
        return self._limits.poll_s

    async def _read(self, following: _Following) -> None:
        started, started_ns = time.monotonic(), time.time_ns()
        self._readings += 1
        try:
            reading = await read(msgspec.structs.replace(self._order, known=following.position))
        except ChangedWhileReadError:
            reading = None
        except SourceError:
            self._readings_failed += 1
            self._watch.failed(time.monotonic(), time.monotonic() - started)
            raise
        now = time.monotonic()
        if reading is None or reading.end is None or not self._watch.accepts(reading.end.marks, started_ns):
            self._watch.discarded(now, now - started)
            if self._watch.is_restless(now):
                raise self._restless()
            return
        try:
            await self._deliver(reading, reading.end, following, now - started)
        except SourceError:
            self._watch.failed(now, now - started)
            raise
        self._watch.succeeded(reading.end.marks, now, now - started)
        following.in_sync(time.monotonic())

    async def _deliver(self, reading: Reading, end: Done | Same, following: _Following, took_s: float) -> None:
        self.last = end
        if isinstance(end, Same):
            following.resumed()
            return
        await following.replace(reading, end)
        counts = end.totals
        _log.info(
            "read %s: %d objects, %d skipped, %d given twice, %d of other kinds, %d bytes, %.2f s",
            *(plain(self._path), counts.objects - counts.replaced, counts.skipped, counts.replaced, counts.ignored),
            *(counts.size_bytes, took_s),
        )
        if not counts.objects:
            _log.warning(
                "%s holds no Service, EndpointSlice or Namespace that counts (%d other objects)",
                *(plain(self._path), counts.ignored + counts.skipped),
            )

    def _restless(self) -> SourceError:
        return SourceError(
            f"{plain(self._path)} keeps changing and can't be read (for {RESTLESS_S:g} s or more)",
            hint="Write to another file beside it, then rename it over this one",
        )

    async def _look(self) -> Marks:
        """Look from a thread that nobody has to wait for: on a dead network mount a stat may never return."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_future()
            threading.Thread(
                target=_look_for, args=(self._path, self._limits.max_files, self._looking), daemon=True
            ).start()
        try:
            async with asyncio.timeout(LOOK_S):
                seen = await asyncio.shield(self._looking)
        except TimeoutError:
            raise SourceError(
                f"looking at {plain(self._path)} takes more than {LOOK_S:g} s: does its disk hang?"
            ) from None
        self._looking = None
        if isinstance(seen, SourceError):
            raise seen
        return seen


class _Following:
    """What the sink has been told."""

    def __init__(self, sink: Sink, resume: Resume, known_identity: str) -> None:
        self._sink = sink
        positions = {resume.get(kind, "") for kind in KINDS}
        self.position = positions.pop() if len(positions) == 1 else ""
        self._identity = known_identity
        self._identified = False
        self._connected = False
        self._reason = ""
        self._confirmed_at = float("-inf")

    def lost(self, reason: str) -> None:
        """Report trouble, once as long as it is the same."""
        if self._connected or reason != self._reason:
            self._connected, self._reason = False, reason
            self._sink.lost(reason)

    def resumed(self) -> None:
        """Note that the state held is the files' state."""
        if not self._identified:
            self._identified = True
            self._sink.identify(self._identity)

    async def replace(self, reading: Reading, end: Done) -> None:
        """Deliver full sets, without a pause between the kinds: they are one state, and are kept as one.

        Raises:
            SourceError: the sink refused one.
        """
        self.position = ""
        self._identified, self._identity = True, end.identity
        self._sink.identify(end.identity)
        await self._name_skipped(reading, end)
        for kind in KINDS:
            if not self._sink.replace(kind, list(reading.objects[kind].values()), end.digest):
                raise SourceError(f"the {kind} objects were refused as older than those held")
        self.position = end.digest
        self._confirmed_at = time.monotonic()

    async def _name_skipped(self, reading: Reading, end: Done) -> None:
        for number, (kind, name, reason) in enumerate(reading.skipped, 1):
            self._sink.skipped(kind, name, reason)
            if not number % SKIPS_AT_ONCE:
                await asyncio.sleep(0)
        unnamed = end.totals.skipped + end.totals.replaced - len(reading.skipped)
        if unnamed > 0:
            self._sink.skipped("?", f"{unnamed} more", f"only the first {MAX_SKIPS_NAMED} are named")

    def in_sync(self, now: float) -> None:
        """Confirm what is held, at most once a second."""
        if now - self._confirmed_at >= CONFIRM_S or not self._connected:
            self._confirmed_at = now
            for kind in KINDS:
                self._sink.confirm(kind, self.position)
        if not self._connected:
            self._connected, self._reason = True, ""
            self._sink.connected()


def _look_for(path: str, max_files: int, looking: asyncio.Future[Marks | SourceError]) -> None:
    seen: Marks | SourceError
    try:
        seen = look(path, max_files)
    except SourceError as error:
        seen = error
    with suppress(RuntimeError):  # the loop is closed: nobody asks any more
        looking.get_loop().call_soon_threadsafe(_settle, looking, seen)


def _settle(looking: asyncio.Future[Marks | SourceError], seen: Marks | SourceError) -> None:
    if not looking.done():
        looking.set_result(seen)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

"""Generations on disk: load, write, number, prune.

Law: all blocking calls of persistence live here and below, for one thread to make. Loading reads and never writes,
needs no lock and raises for nothing that lies on the disk. Writing needs the lock. A number is used once: the next one
is above every number in any file name, good or bad. Journal n is begun at the moment generation n is frozen from, so
that the two are one history whichever of them is lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Self

from agent.errors import SnapshotError
from agent.snapshot.entries import NOWHERE, Head, Place
from agent.snapshot.files import (
    DIRECTORY_MODE,
    AbsentError,
    Directory,
    Listing,
    failure,
    generation_name,
    journal_name,
)
from agent.snapshot.format import MAX_NUMBER, Generation, Header, encode
from agent.snapshot.journal import Counts, JournalWriter
from agent.snapshot.lock import take_lock
from agent.snapshot.recovery import DEFAULT_LIMITS, Limits, Recovered, read_generation, recover

SNAPSHOT_DIRECTORY = "snapshot"
KEEP = 3
"""Valid generations kept."""
MAX_JOURNALS_ROOM = 4
"""All journals since the last generation may take this many times the bound of one."""


class Generations:
    """The snapshot directory below a state directory.

    Args:
        state_dir: path; `STATE/snapshot` and `STATE/lock` are used.
        limits: bounds of files.
        offline: a person reads; see `files.Directory`.

    Attributes:
        path: of the snapshot directory.
        counts: what was done.
        refused: what the last `load` did not use, and why.
        spared: called before files are removed: generations that must stay, however old.
    """

    def __init__(
        self, state_dir: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS, *, offline: bool = False
    ) -> None:
        self.state_dir = os.fspath(state_dir)
        self.path = os.path.join(self.state_dir, SNAPSHOT_DIRECTORY)
        self.limits = limits
        self.counts = Counts()
        self.refused: tuple[str, ...] = ()
        self.spared: Callable[[], frozenset[int]] = frozenset
        self._is_offline = offline
        self._lock = -1
        self._journal: JournalWriter | None = None
        self._highest = 0
        self._journal_bytes = 0
        self._valid: dict[int, tuple[int, int, int, int]] = {}

    def __enter__(self) -> Self:
        self.lock()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Reading: no lock, nothing written ----------------------------------------------------------------------------

    def list(self) -> Listing:
        """List the files.

        Raises:
            AbsentError: there is no snapshot directory.
            SnapshotError: it can't be read, or others could have written to it.
        """
        with self._open() as directory:
            return directory.list()

    def path_of(self, number: int) -> str:
        """Path of a generation's file."""
        return f"{self.path}/{generation_name(number)}"

    def load(self) -> Recovered | None:
        """Find the newest state that can be trusted; None if there is none. Raises nothing: see `refused`."""
        recovered: Recovered | None = None
        self.refused = ()
        try:
            with self._open() as directory:
                recovered, self.refused = recover(directory, self.limits)
        except AbsentError:
            return None
        except SnapshotError as error:
            self.refused = (str(error),)
        self.counts.refused += len(self.refused)
        if recovered is not None:
            self.counts.left_bytes += recovered.left_bytes
        return recovered

    def read(self, number: int) -> Generation:
        """Read and verify one generation, whatever newer ones there are.

        Raises:
            AbsentError: there is none of this number.
            SnapshotError: it must not be used.
        """
        with self._open() as directory:
            return read_generation(directory, number, self.limits)

    # Writing: under the lock --------------------------------------------------------------------------------------

    def lock(self) -> None:
        """Make the directories if there are none, and take them for this process.

        Raises:
            SnapshotError: another process has them (the message names it), or they can't be used.
        """
        try:
            os.makedirs(self.path, DIRECTORY_MODE, exist_ok=True)
        except OSError as error:
            raise failure(self.path, "can't be made", error) from None
        with self._open():
            self._lock = take_lock(self.state_dir)

    def close(self) -> None:
        """Seal the journal and give the directory back."""
        if self._journal is not None:
            with suppress(SnapshotError):  # counted; there is nothing left to try
                self._journal.seal()
            self._journal = None
        if self._lock >= 0:
            lock, self._lock = self._lock, -1
            os.close(lock)

    def open_journal(self, recovered: Recovered) -> JournalWriter:
        """Go on with the history of a state that was loaded, in a new journal.

        The journal is `anchored` unless a generation has been written since by another process; then it counts from
        the next generation on, which is due at once.

        Raises:
            SnapshotError: the directory can't be used.
        """
        with self._locked() as directory:
            listing = directory.list()
            trail = recovered.trail
            anchored = trail.generation >= max(listing.generations, default=0) and self._settle(
                directory, listing, trail
            )
            self._journal_bytes = recovered.journal_bytes
            return self._begin(max(listing.highest, self._highest) + 1, trail, anchored=anchored)

    def rotate(self) -> JournalWriter:
        """End the journal and begin the next: at the moment from which a generation of its number is frozen.

        Whatever the disk does, it gives a journal: one that is `broken` or not `anchored` counts for nothing until its
        generation has been written.

        Raises:
            SnapshotError: the directory can't be used.
        """
        with self._locked() as directory:
            number = max(directory.list().highest, self._highest) + 1
        follows, anchored = NOWHERE, False
        old = self._journal
        if old is not None:
            with suppress(SnapshotError):  # counted, and said by `broken`
                old.seal()
                follows = Place(old.generation, old.sequence) if old.created else old.head.follows
                anchored = old.anchored
            self._journal_bytes += old.size_bytes
        journal = self._begin(number, follows, anchored=anchored)
        with suppress(SnapshotError):  # the same
            journal.create()
        return journal

    def write(self, header: Header, sections: Sequence[tuple[int, bytes]]) -> int:
        """Write a generation; gives its size in bytes.

        Args:
            header: its number is that of the journal given by the last `rotate`.
            sections: (id, bytes).

        Raises:
            SnapshotError: it was not written. Never try the same number again: rotate.
        """
        try:
            size_bytes = self._write(header, encode(header, sections))
        except SnapshotError:
            self.counts.failures += 1
            raise
        self.counts.generations += 1
        self.counts.generation_bytes += size_bytes
        self._journal_bytes = 0
        if self._journal is not None:
            self._journal.anchor(self._room_bytes())
        return size_bytes

    def _write(self, header: Header, pieces: Sequence[bytes]) -> int:
        number, size_bytes = header.generation, sum(map(len, pieces))
        path = self.path_of(number)
        if self._journal is not None and self._journal.generation != number:
            raise SnapshotError(f"{path} is not the generation that journal {self._journal.generation} goes on from")
        if size_bytes > self.limits.generation_bytes:
            raise SnapshotError(
                f"{path} would have {size_bytes} bytes, more than the {self.limits.generation_bytes} allowed",
                hint="Raise snapshot.max_bytes if the cluster has grown that large",
            )
        with self._locked() as directory:
            listing = directory.list()
            if number <= max(listing.generations, default=0):
                raise SnapshotError(f"{path} would not be the newest generation: {listing.generations[0]} is there")
            self._highest = max(self._highest, number)
            directory.write_once(generation_name(number), pieces)
        return size_bytes

    def prune(self, keep: int = KEEP) -> Sequence[str]:
        """Remove what no recovery needs any more; gives the names removed.

        The `keep` newest valid generations stay, with every journal from the oldest of them on. Of the refused ones the
        `keep` newest stay for people to look at, as far as they are newer than that. `spared` ones stay, without their
        journals: what was pinned is the generation itself. Unfinished files go.

        Raises:
            SnapshotError: the directory can't be used.
        """
        with self._locked() as directory:
            listing = directory.list()
            valid: list[int] = []
            refused: list[int] = []
            for number in listing.generations:
                if len(valid) < keep:
                    (valid if self._is_valid(directory, number) else refused).append(number)
            names = [*listing.leftovers]
            if valid:
                wanted = {*valid, *refused[:keep], *self.spared()}
                names += [generation_name(number) for number in listing.generations if number not in wanted]
                names += [journal_name(number) for number in listing.journals if number < valid[-1]]
            removed = tuple(name for name in names if directory.remove(name))
        self._valid = {number: self._valid[number] for number in valid}
        self.counts.removed += len(removed)
        return removed

    def _is_valid(self, directory: Directory, number: int) -> bool:
        """Verify a generation; one that was found valid is not read again while it stays the same file."""
        try:
            fd, status = directory.open(generation_name(number), self.limits.generation_bytes)
        except SnapshotError:
            return False
        from agent.snapshot.inspection import examine

        try:
            same = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if self._valid.get(number) != same:
                if examine(self.path_of(number), fd, status.st_size).reason:
                    return False
                self._valid[number] = same
        finally:
            os.close(fd)
        return True

    def _settle(self, directory: Directory, listing: Listing, trail: Place) -> bool:
        """Make sure that what a new journal goes on from stays; tell whether it does.

        A process that was killed may have left its last records in the kernel's cache alone.
        """
        try:
            if trail.generation in listing.journals:
                fd, _ = directory.open(journal_name(trail.generation), self.limits.journal_bytes_to_read)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
            os.fsync(directory.fd)
        except (OSError, SnapshotError):
            self.counts.failures += 1
            return False
        return True

    def _begin(self, number: int, follows: Place, *, anchored: bool) -> JournalWriter:
        if number > MAX_NUMBER:
            raise SnapshotError(
                f"{self.path} has a file with number {number - 1}, so that none is left for the next",
                hint="Remove that file, if it was not written by nodens",
            )
        head = Head(number, follows)
        self._highest = max(self._highest, number)
        self._journal = JournalWriter(self.path, head, self._room_bytes(), self.counts, anchored=anchored)
        return self._journal

    def _room_bytes(self) -> int:
        bound = self.limits.journal_bytes
        return min(bound, MAX_JOURNALS_ROOM * bound - self._journal_bytes)

    def _open(self) -> Directory:
        return Directory(self.path, offline=self._is_offline)

    def _locked(self) -> Directory:
        if self._lock < 0:
            raise SnapshotError(f"{self.state_dir} is not locked by this process, so nothing is written to it")
        return self._open()

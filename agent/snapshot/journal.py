"""Writing a journal.

Law: a journal that could not take a record takes no other, because a hole in the middle would look like a state that
never was; only a new generation goes on from there. A failed write or fsync is never tried again on the same file.
What `confirmed` names is found again whatever happens to the process or the power.
"""

from __future__ import annotations

import os
from contextlib import suppress

import msgspec

from agent.errors import SnapshotError
from agent.snapshot.entries import (
    HEAD_BYTES,
    MAX_RECORD_BYTES,
    RECORD_BYTES,
    Entry,
    Head,
    Place,
    encode_head,
    encode_record,
)
from agent.snapshot.files import Directory, failure, journal_name, write_all

_ENCODE = msgspec.msgpack.Encoder()
_SEAL = _ENCODE.encode(Entry(sealed=True))
_SEAL_BYTES = RECORD_BYTES + len(_SEAL)
_WRITE_GENERATION = "Nothing is lost while the agent runs; the next generation that can be written mends it"


class Counts:
    """What the disk layer did, as plain integers for a collector.

    Attributes:
        records: journal records appended.
        journal_bytes: bytes of journals written.
        syncs: fsyncs of journals that succeeded.
        dropped: records that a broken journal did not take.
        generations: generation files written.
        generation_bytes: bytes of generation files written.
        failures: journals that broke and generations that could not be written.
        refused: files that were not used when loading.
        left_bytes: bytes of journals left behind when loading.
        removed: files pruned.
    """

    def __init__(self) -> None:
        self.records = 0
        self.journal_bytes = 0
        self.syncs = 0
        self.dropped = 0
        self.generations = 0
        self.generation_bytes = 0
        self.failures = 0
        self.refused = 0
        self.left_bytes = 0
        self.removed = 0


class JournalWriter:
    """Writes one journal; used by one thread at a time. The file is made by `create` or by the first flush.

    Args:
        directory: path of the snapshot directory.
        head: number, and where the history goes on from.
        room_bytes: bound of the file.
        counts: what is done is counted here.
        anchored: what the journal follows is on disk for good. If it isn't, the journal counts from the moment its own
            generation is written (`anchor`), and nothing is confirmed before.

    Attributes:
        head: see above.
        broken: why it takes no more records, "" while it does.
        created: there was a file, be it broken.
        anchored: see above.
        sequence: of the last record appended.
        confirmed: of the last record that is sure to be found again.
        size_bytes: of the file, buffered records included.
    """

    def __init__(self, directory: str, head: Head, room_bytes: int, counts: Counts, *, anchored: bool) -> None:
        self.head = head
        self.broken = ""
        self.created = False
        self.anchored = anchored
        self.sequence = 0
        self.confirmed = 0
        self.size_bytes = HEAD_BYTES
        self._directory = directory
        self._name = journal_name(head.generation)
        self._path = f"{directory}/{self._name}"
        self._room_bytes = room_bytes
        self._counts = counts
        self._buffer: list[bytes] = []
        self._fd = -1
        self._synced = 0
        self._is_listed = False

    @property
    def generation(self) -> int:
        """Number of the journal, and of the generation it goes on from."""
        return self.head.generation

    def append(self, entry: Entry) -> None:
        """Put a record into the buffer.

        Raises:
            SnapshotError: there is no room for it, or there was none for an earlier one; a generation is due.
        """
        if self.broken:
            self._counts.dropped += 1
        self._require_whole()
        payload = _ENCODE.encode(entry)
        size = RECORD_BYTES + len(payload)
        if len(payload) > MAX_RECORD_BYTES:
            why = f"{self._path} can't take a record of {len(payload)} bytes, more than {MAX_RECORD_BYTES}"
        elif self.size_bytes + size + _SEAL_BYTES > self._room_bytes:
            why = f"{self._path} is full: {self.size_bytes} of {self._room_bytes} bytes are taken"
        else:
            self._push(payload)
            return
        self._counts.dropped += 1
        raise self._break(SnapshotError(why, hint=_WRITE_GENERATION))

    def create(self) -> None:
        """Make the file, with its head alone.

        Raises:
            SnapshotError: it could not be made; the journal is broken.
        """
        self._require_whole()
        try:
            with Directory(self._directory) as directory:
                self._fd = directory.create(self._name)
            self.created = True
            self._write(encode_head(self.head))
        except OSError as error:
            raise self._break(failure(self._path, "can't be made", error)) from None
        except SnapshotError as error:
            raise self._break(error) from None

    def flush(self) -> None:
        """Hand the buffer to the kernel: from here on it survives this process, but not yet a loss of power.

        Raises:
            SnapshotError: it could not be written; the journal is broken.
        """
        self._require_whole()
        if not self._buffer:
            return
        if not self.created:
            self.create()
        records, self._buffer = b"".join(self._buffer), []
        try:
            self._write(records)
        except OSError as error:
            raise self._break(failure(self._path, "can't be written", error)) from None

    def sync(self) -> int:
        """Flush, and wait until the disk has it.

        Returns:
            `confirmed`.

        Raises:
            SnapshotError: it is not sure to be there; the journal is broken.
        """
        self.flush()
        if self._synced != self.sequence:
            try:
                os.fsync(self._fd)
                if not self._is_listed:
                    with Directory(self._directory) as directory:
                        os.fsync(directory.fd)
            except OSError as error:
                raise self._break(failure(self._path, "can't be synced", error)) from None
            except SnapshotError as error:
                raise self._break(error) from None
            self._is_listed = True
            self._synced = self.sequence
            self._counts.syncs += 1
        if self.anchored:
            self.confirmed = self._synced
        return self.confirmed

    def anchor(self, room_bytes: int) -> None:
        """Take note that the generation of this number is on disk for good, and of the room that gives."""
        self.anchored = True
        self.confirmed = self._synced
        self._room_bytes = room_bytes

    def seal(self) -> None:
        """End the journal on purpose: seal, sync and close it, if there is one.

        Raises:
            SnapshotError: as `sync`.
        """
        self._require_whole()
        if self.sequence or self.created:
            self._push(_SEAL)
            self.sync()
        self.close()

    def close(self) -> None:
        """Close the file; what was not flushed is lost."""
        self.broken = self.broken or "it is closed"
        self._buffer.clear()
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            # Nothing hangs on its answer: what was confirmed was synced.
            with suppress(OSError):
                os.close(fd)

    def _push(self, payload: bytes) -> None:
        self.sequence += 1
        self.size_bytes += RECORD_BYTES + len(payload)
        self._counts.records += 1
        self._buffer.append(encode_record(payload, Place(self.head.generation, self.sequence)))

    def _write(self, piece: bytes) -> None:
        write_all(self._fd, (piece,))
        self._counts.journal_bytes += len(piece)

    def _require_whole(self) -> None:
        if self.broken:
            raise SnapshotError(f"{self._path} takes no more records: {self.broken}", hint=_WRITE_GENERATION)

    def _break(self, error: SnapshotError) -> SnapshotError:
        self.broken = error.message
        self._counts.failures += 1
        self.close()
        return error

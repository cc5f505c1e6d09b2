"""The process that reads files: `python -m agent.sources.reader ORDER`, or `nodens _read-source ORDER` when frozen.

Law: it reads what the order names, writes frames (agent.sources.exchange) to its standard output, and nothing else.
Whatever the files hold ends in one last frame in words, or in the death of this process alone: a parser that runs
wild here can neither stall nor bloat the agent.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import xxhash

from agent import __version__
from agent.errors import SourceError
from agent.sources.confine import confine
from agent.sources.exchange import (
    Changed,
    Done,
    Failed,
    Mark,
    Message,
    Order,
    Same,
    Totals,
    frame,
    plain,
)
from agent.sources.harvest import Harvest
from agent.sources.json_documents import read_json
from agent.sources.sightings import in_words, look, mark, require_regular

FORMAT = 1
"""Counted up when the same files would give other objects."""
FRAMES_DESCRIPTOR = 1
_BOM = b"\xef\xbb\xbf"
_FOREIGN = (
    (b"\xff\xfe", "is text in UTF-16", "Save it in UTF-8 (in PowerShell: | Out-File -Encoding utf8)"),
    (b"\xfe\xff", "is text in UTF-16", "Save it in UTF-8"),
    (b"\x1f\x8b", "is compressed by gzip", "Unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd", "Unpack it first"),
    (b"PK\x03\x04", "is a zip archive", "Unpack it first"),
)
_MIB = 1024 * 1024


class _ChangedError(Exception):
    """A file changed while it was read; the argument is its name."""


class _Text(NamedTuple):
    name: str
    mark: Mark
    body: bytes


def main(argv: Sequence[str]) -> int:
    """Obey one order.

    Args:
        argv: the order as JSON, alone.

    Returns:
        0 if the last frame was written, whatever it says; 2 for an order that can't be read.
    """
    try:
        order = msgspec.json.decode(argv[0] if len(argv) == 1 else "", type=Order)
    except msgspec.DecodeError as error:
        sys.stderr.write(f"_read-source is for nodens itself: it takes one order as JSON ({error})\n")
        return 2
    # Nothing here makes cycles, memory is bounded anyhow, and a pass over every object costs a tenth of the time.
    gc.disable()
    try:
        _send(_obey(order))
    except BrokenPipeError:
        return 1
    return 0


def _obey(order: Order) -> Message:
    memory = order.max_memory_bytes
    try:
        memory = confine(memory, order.timeout_s, order.parent)
        return read(order, _send)
    except _ChangedError as error:
        return Changed(plain(str(error)))
    except SourceError as error:
        return Failed(plain(error.message), plain(error.hint))
    except MemoryError:
        reason = f"{plain(order.path, 300)} takes more than {memory // _MIB} MiB of memory to read"
        return Failed(reason, "Use JSON, split it into several files, or raise max_memory_bytes")


def _send(message: Message) -> None:
    view = memoryview(frame(message))
    while view:
        view = view[os.write(FRAMES_DESCRIPTOR, view) :]


def read(order: Order, send: Callable[[Message], None]) -> Done | Same:
    """Read the files of an order, sending `Objects` and `Skips` on the way; returns the last message.

    Raises:
        SourceError: they can't be used.
        _ChangedError: they changed meanwhile.
    """
    if order.known:
        digest = _Digest(order)
        marks = tuple(digest.add(text) for text in _texts(order))
        if digest.text() == order.known:
            return Same(order.known, marks)
    harvest = Harvest(order.selection, send)
    digest, read_marks = _Digest(order), []
    for text in _texts(order):
        read_marks.append(digest.add(text))
        harvest.begin(text.name)
        read_text(text.body, text.name, harvest)
    harvest.flush()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    totals = Totals(
        files=len(read_marks),
        size_bytes=sum(each.size for each in read_marks),
        objects=harvest.objects,
        skipped=harvest.skipped,
        ignored=harvest.ignored,
        replaced=harvest.replaced,
        cpu_ms=int((usage.ru_utime + usage.ru_stime) * 1000),
        peak_rss_kib=usage.ru_maxrss,
    )
    return Done(digest.text(), harvest.identity, tuple(read_marks), totals)


class _Digest:
    """The position token: what the files hold, and everything else that decides which objects they give."""

    def __init__(self, order: Order) -> None:
        selection = msgspec.json.encode(order.selection, order="deterministic")
        self._hash = xxhash.xxh3_128(b"nodens file %d %b " % (FORMAT, __version__.encode()) + selection)

    def add(self, text: _Text) -> Mark:
        self._hash.update(
            msgspec.json.encode((text.mark.name.encode("utf-8", "surrogateescape").hex(), len(text.body)))
        )
        self._hash.update(text.body)
        return text.mark

    def text(self) -> str:
        return f"xxh3:{self._hash.hexdigest()}"


def _texts(order: Order) -> Iterator[_Text]:
    """Read file by file; afterwards everything must still be as it was.

    One file is known by its descriptor, so that a rename over it does no harm; of a folder also the names must stay,
    as a mounted ConfigMap swaps all its files at once.
    """
    folder = Path(order.path).is_dir()
    seen: list[Mark] = []
    left = order.max_bytes
    for name in [each.name for each in look(order.path, order.max_files)] if folder else [""]:
        text = _read_file(str(Path(order.path) / name) if folder else order.path, name, left, order)
        left -= len(text.body)
        seen.append(text.mark)
        yield text
    if folder and look(order.path, order.max_files) != tuple(seen):
        raise _ChangedError(plain(order.path))


def _read_file(path: str, name: str, left: int, order: Order) -> _Text:
    with _opened(path) as descriptor:
        before = os.fstat(descriptor)
        require_regular(path, before.st_mode)
        if before.st_size > left:
            raise SourceError(
                f"{plain(path)} has {before.st_size} bytes; {order.max_bytes} bytes may be read in all",
                hint="Raise max_bytes if that is right",
            )
        body = os.read(descriptor, before.st_size + 1)
        while 0 < len(body) < before.st_size and (more := os.read(descriptor, before.st_size + 1 - len(body))):
            body += more
        after = os.fstat(descriptor)
    if (len(body), after.st_size, after.st_mtime_ns) != (before.st_size, before.st_size, before.st_mtime_ns):
        raise _ChangedError(plain(path))
    return _Text(plain(path), mark(name, before), body)


@contextmanager
def _opened(path: str) -> Iterator[int]:
    # O_NONBLOCK: what was a file at the last look may be a pipe by now, whose opening would wait for ever.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise in_words(path, error) from None
    try:
        yield descriptor
    except OSError as error:
        raise in_words(path, error) from None
    finally:
        os.close(descriptor)


def read_text(body: bytes, name: str, harvest: Harvest) -> None:
    """Take all objects of one file, JSON or YAML by its content.

    Raises:
        SourceError: it can't be used; says where it breaks and what to do.
    """
    for magic, problem, advice in _FOREIGN:
        if body.startswith(magic):
            raise SourceError(f"{name} {problem}", hint=advice)
    body = body.removeprefix(_BOM)
    start = body[:4096].lstrip()[:1] or body.lstrip()[:1]
    if not start:
        raise SourceError(
            f"{name} is empty ({len(body)} bytes)",
            hint="A failed kubectl get leaves that behind: write to another file, rename it when kubectl succeeded",
        )
    if start not in {b"{", b"["}:
        _read_yaml(body, name, harvest)
        return
    try:
        read_json(body, name, harvest)
    except SourceError as error:
        if not name.endswith((".yaml", ".yml")):
            raise
        # YAML may begin with a brace too; if it is neither, JSON is what it looks like.
        try:
            _read_yaml(body, name, harvest)
        except SourceError:
            raise error from None


def _read_yaml(body: bytes, name: str, harvest: Harvest) -> None:
    from agent.sources.yaml_documents import read_yaml  # 20 ms that JSON doesn't need

    read_yaml(body, name, harvest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

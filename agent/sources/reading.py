"""One reading of files by a process of its own, seen from the agent.

Law: nothing the reader does harms the agent: its time is bounded here, each of its messages is checked, its end is
waited for, and every way it can fail is one SourceError in words.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from pathlib import Path

import msgspec

import agent
from agent.cluster.objects import KINDS, Skipped, Stored
from agent.errors import SourceError
from agent.sources.exchange import (
    LENGTH_BYTES,
    MAX_SKIPS_NAMED,
    Changed,
    Done,
    Failed,
    Objects,
    Order,
    Same,
    Skips,
    frame_length,
    parse,
)

PIPE_BYTES = 256 * 1024
"""Read ahead of what has been checked."""
END_S = 5.0
"""Time a reader gets to end, by itself or killed; one that hangs in the kernel is left behind."""
DELIVERED_PER_FILE_BYTE = 4
DELIVERED_AT_LEAST_BYTES = 1024 * 1024
"""Trimmed objects are smaller than their text; a reader that sends more than this says things the files don't."""
_ROOT = str(Path(agent.__file__).resolve().parent.parent)


class ChangedWhileReadError(SourceError):
    """The files changed while they were read."""


class Reading:
    """What one reading gave.

    Attributes:
        objects: kind → key → object, the last one of each key.
        skipped: named objects that don't apply, or apply in place of an earlier one.
        end: `Done`, or `Same` if the content is the known one (and the rest empty).
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Stored]] = {kind: {} for kind in KINDS}
        self.skipped: list[Skipped] = []
        self.received = 0
        self.received_bytes = 0
        self.end: Done | Same | None = None


def command(order: Order) -> list[str]:
    """Give the command line of the reader for an order."""
    text = msgspec.json.encode(order).decode()
    if getattr(sys, "frozen", False):
        return [sys.executable, "_read-source", text]
    return [sys.executable, "-P", "-m", "agent.sources.reader", text]


def environment() -> dict[str, str]:
    """Give the reader the modules of this process, and nothing of its environment that it has no use for."""
    if getattr(sys, "frozen", False):
        return dict(os.environ)
    roots = [
        _ROOT,
        *(path for path in sys.path if Path(path).is_absolute()),
    ]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(roots)), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}


async def read(order: Order) -> Reading:
    """Let a reader obey an order.

    Raises:
        ChangedWhileReadError: the files changed meanwhile; try again.
        SourceError: nothing of this reading may be used, and why.
    """
    order = msgspec.structs.replace(order, parent=os.getpid())
    try:
        process = await asyncio.create_subprocess_exec(
            *command(order), stdin=DEVNULL, stdout=PIPE, env=environment(), limit=PIPE_BYTES
        )
    except OSError as error:
        raise SourceError(f"the reader of {order.path} can't be started: {error}") from None
    try:
        async with asyncio.timeout(order.timeout_s):
            reading = await _receive(process, order)
            await process.wait()
    except TimeoutError:
        raise SourceError(
            f"{order.path} was not read within {order.timeout_s:g} s", hint="JSON is read ten times as fast as YAML"
        ) from None
    finally:
        await _end(process)
    if process.returncode:
        raise SourceError(f"the reader of {order.path} ended {_ending(process.returncode)} after its last message")
    return reading


async def _receive(process: Process, order: Order) -> Reading:
    if process.stdout is None:  # it was asked for
        raise SourceError("the reader has no output")
    reading = Reading()
    while reading.end is None:
        try:
            head = await process.stdout.readexactly(LENGTH_BYTES)
            payload = await process.stdout.readexactly(frame_length(head))
        except asyncio.IncompleteReadError as error:
            raise SourceError(f"{await _died(process, order)} after {len(error.partial)} bytes of a message") from None
        _accept(payload, reading, order)
        await asyncio.sleep(0)
    if await process.stdout.read(1):
        raise SourceError("the reader went on after its last message")
    return reading


def _accept(payload: bytes, reading: Reading, order: Order) -> None:
    message = parse(payload)
    if isinstance(message, Objects):
        reading.received += len(message.objects)
        reading.received_bytes += len(payload)
        if reading.received_bytes > DELIVERED_AT_LEAST_BYTES + DELIVERED_PER_FILE_BYTE * order.max_bytes:
            raise SourceError("the reader sent more than the files can hold")
        for stored in message.objects:
            reading.objects[stored.kind][stored.key] = stored
    elif isinstance(message, Skips):
        reading.skipped += message.skipped
        if len(reading.skipped) > MAX_SKIPS_NAMED:
            raise SourceError("the reader named more objects than it may")
    elif isinstance(message, Failed):
        raise SourceError(message.reason, hint=message.hint)
    elif isinstance(message, Changed):
        raise ChangedWhileReadError(f"{message.name} changed while it was read")
    else:
        _check_end(message, reading, order)
        reading.end = message


def _check_end(end: Done | Same, reading: Reading, order: Order) -> None:
    if isinstance(end, Same):
        wrong = end.digest != order.known or reading.received or reading.skipped
    else:
        wrong = end.totals.objects != reading.received or not end.digest
    if wrong or not end.marks:
        raise SourceError("the reader's last message doesn't fit what it sent")


async def _died(process: Process, order: Order) -> str:
    with suppress(TimeoutError):
        async with asyncio.timeout(END_S):
            await process.wait()
    return f"the reader of {order.path} ended {_ending(process.returncode)}"


def _ending(code: int | None) -> str:
    if code is None:
        return "its output"
    if code >= 0:
        return f"with exit status {code}"
    with suppress(ValueError):
        return f"by {signal.Signals(-code).name}"
    return f"by signal {-code}"


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        if process.returncode is None:
            process.kill()
    with suppress(TimeoutError):
        async with asyncio.timeout(END_S):
            # What is left in the pipe must be taken out, or its end is never seen.
            while process.stdout is not None and await process.stdout.read(PIPE_BYTES):
                pass
            await process.wait()

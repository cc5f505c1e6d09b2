"""Logs: one line per event on stderr, as text or JSON.

Law: writing never blocks the loop: lines go through a bounded queue to one thread, and what does not fit is dropped
and counted. A message that repeats is written a few times a minute and then counted. Nothing is logged per query.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

MAX_QUEUED_LINES = 4096
MAX_KNOWN_MESSAGES = 256
BURST = 5
PER_S = 60.0
MAX_LINE_CHARS = 8192
STDERR = 2
_PLAIN = frozenset((*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"))
_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class Damper(logging.Filter):
    """Lets the same message through a few times a minute; the next one let through says how many were held.

    Args:
        now: monotonic clock, seconds.

    Attributes:
        held: lines held back so far.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.held = 0
        self._now = now
        self._known: OrderedDict[tuple[str, int, str], _Window] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide about one line; messages are the same if logger, level and text before formatting are."""
        key = (record.name, record.levelno, str(record.msg))
        now_s = self._now()
        window = self._known.pop(key, None) or _Window(now_s)
        self._known[key] = window
        if len(self._known) > MAX_KNOWN_MESSAGES:
            self._known.popitem(last=False)
        if now_s - window.started_s >= PER_S:
            window.started_s, window.written = now_s, 0
        if window.written >= BURST:
            window.held += 1
            self.held += 1
            return False
        window.written += 1
        if window.held:
            record.__dict__["repeated"] = window.held
            window.held = 0
        return True


class _Window:
    __slots__ = ("held", "started_s", "written")

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self.written = 0
        self.held = 0


class TextLines(logging.Formatter):
    """`2026-11-22T03:06:12.345Z INFO source lost reason="..."`, one line, whatever the message holds."""

    def __init__(self, *, priorities: bool = False) -> None:
        super().__init__()
        self._priorities = priorities

    def format(self, record: logging.LogRecord) -> str:
        """Write one record; with priorities, the journal's <N> stands in front instead of the time."""
        fields = "".join(f" {key}={_text(value)}" for key, value in _fields(record).items())
        line = f"{record.levelname.lower():8}{record.getMessage()}{fields}{_trace(record)}"
        line = line.replace("\r", "\\r").replace("\n", "\\n")[:MAX_LINE_CHARS]
        if not line.isprintable():
            line = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in line)
        if self._priorities:
            return f"<{_PRIORITY.get(record.levelno, 6)}>{line}"
        return f"{_time(record)} {line}"


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, then the fields; `error` holds a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:MAX_LINE_CHARS],
        }
        line.update((key, value) for key, value in _fields(record).items() if key not in line)
        if trace := _trace(record).strip():
            line["error"] = trace
        return json.dumps(line, default=str, ensure_ascii=False)


class Background(logging.Handler):
    """Hands lines to a thread that writes them to a descriptor.

    Attributes:
        dropped: lines that did not fit into the queue or could not be written.
    """

    def __init__(self, descriptor: int = STDERR) -> None:
        super().__init__()
        self.dropped = 0
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes | None] = queue.Queue(MAX_QUEUED_LINES)
        self._is_finished = False
        self._thread = threading.Thread(target=self._write_lines, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one line; never waits."""
        try:
            self._lines.put_nowait(self.format(record).encode("utf-8", "backslashreplace") + b"\n")
        except queue.Full:
            self.dropped += 1
        except Exception:  # noqa: BLE001  # a line that can't be formatted must not hurt the one who logged it
            self.handleError(record)

    def finish(self, deadline_s: float) -> None:
        """Write what is queued, waiting at most `deadline_s`; the handler takes nothing afterwards."""
        self._is_finished = True
        with contextlib.suppress(queue.Full):  # full: then the thread is busy and looks at the flag
            self._lines.put_nowait(None)
        self._thread.join(deadline_s)

    def _write_lines(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:
                self.dropped += 1
            if self._is_finished and self._lines.empty():
                return


class Logs:
    """Logging of the process: set up once, changed by a reload.

    Args:
        level: debug, info, warning or error.
        form: text or json.
        descriptor: where lines go.
        environ: JOURNAL_STREAM tells that systemd's journal reads the other end.
    """

    def __init__(self, level: str, form: str, *, descriptor: int = STDERR, environ: Mapping[str, str]) -> None:
        self.damper = Damper()
        self.background = Background(descriptor)
        self.background.addFilter(self.damper)
        self._priorities = _is_journal(descriptor, environ.get("JOURNAL_STREAM", ""))
        self._before = (logging.root.handlers[:], logging.root.level)
        self.configure(level, form)
        logging.root.handlers[:] = [self.background]
        logging.captureWarnings(capture=True)

    def configure(self, level: str, form: str) -> None:
        """Take another level or form at once."""
        self.background.setFormatter(JsonLines() if form == "json" else TextLines(priorities=self._priorities))
        logging.root.setLevel(level.upper())
        logging.getLogger("asyncio").setLevel(max(logging.WARNING, logging.root.level))

    def finish(self, deadline_s: float = 1.0) -> None:
        """Write out what is queued and put logging back to what it was."""
        logging.captureWarnings(capture=False)
        logging.root.handlers[:], level = self._before[0], self._before[1]
        logging.root.setLevel(level)
        self.background.finish(deadline_s)


def _is_journal(descriptor: int, journal_stream: str) -> bool:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return journal_stream == f"{status.st_dev}:{status.st_ino}"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in record.__dict__.items() if key not in _PLAIN}


def _text(value: object) -> str:
    text = f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' "=\\\n') else text


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _trace(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    return "\n" + "".join(traceback.format_exception(record.exc_info[1], limit=-8))[-MAX_LINE_CHARS // 2 :]

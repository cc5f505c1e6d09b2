from __future__ import annotations

import json
import logging
import os
import re
import time
import warnings

import pytest

from agent.observe import logs as module
from agent.observe.logs import Background, Damper, JsonLines, Logs, TextLines


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read, write
    for descriptor in (read, write):
        try:
            os.close(descriptor)
        except OSError:
            continue


def record(message="hello", number=logging.INFO, **fields):
    return logging.getLogger("agent.x").makeRecord("agent.x", number, "f", 1, message, (), None, extra=fields)


def test_text_is_one_line_with_time_level_and_fields():
    line = TextLines().format(record("source lost", logging.WARNING, reason="no route", age_s=1.5, empty=""))
    assert re.fullmatch(
        r'\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z warning source lost reason="no route" age_s=1.5 empty=""', line
    )


@pytest.mark.parametrize("nasty", ["a\nb", "a\r\nb", "\x1b[31mred", "\x00", "\u202ereversed", "a\u2028b"])
@pytest.mark.parametrize("lines", [TextLines(), JsonLines()], ids=["text", "json"])
def test_what_comes_from_outside_can_not_forge_a_line_or_steer_a_terminal(nasty, lines):
    line = lines.format(record(f"skipped {nasty}", name_=nasty))
    assert "\n" not in line
    assert "\x1b" not in line
    if isinstance(lines, TextLines):
        assert line.isprintable()


def test_long_messages_are_cut():
    assert len(TextLines().format(record("x" * 100_000))) < 9000


def test_json_holds_every_field_and_a_traceback():
    try:
        raise ValueError("boom")
    except ValueError as error:
        made = record("failed", logging.ERROR, task="source", level="fake")
        made.exc_info = (ValueError, error, error.__traceback__)
    line = json.loads(JsonLines().format(made))
    assert (line["level"], line["message"], line["task"], line["logger"]) == ("error", "failed", "source", "agent.x")
    assert "ValueError: boom" in line["error"]


def test_the_same_message_is_written_five_times_a_minute_and_then_counted():
    now = [0.0]
    damper = Damper(lambda: now[0])
    passed = [damper.filter(record("skipped %s")) for _ in range(20)]
    assert passed == [True] * 5 + [False] * 15
    assert damper.filter(record("another"))
    now[0] = 61
    again = record("skipped %s")
    assert damper.filter(again)
    assert again.repeated == 15
    assert damper.held == 15


def test_the_memory_of_messages_is_bounded():
    damper = Damper()
    for number in range(10_000):
        assert damper.filter(record(f"message {number}"))
    assert len(damper._known) == module.MAX_KNOWN_MESSAGES


def test_lines_reach_the_descriptor_in_order(pipe):
    read, write = pipe
    logs = Logs("info", "json", descriptor=write, environ={})
    try:
        log = logging.getLogger("agent.test")
        log.info("one", extra={"n": 1})
        log.debug("hidden")
        logs.configure("debug", "text")
        log.debug("two")
        logging.getLogger("asyncio").debug("never")
    finally:
        logs.finish()
    first, second = os.read(read, 65_536).decode().splitlines()
    assert json.loads(first)["n"] == 1
    assert second.endswith("debug   two")


def test_a_stuck_reader_blocks_nobody_and_lost_lines_are_counted(pipe, monkeypatch):
    monkeypatch.setattr(module, "MAX_QUEUED_LINES", 50)
    read, write = pipe
    background = Background(write)
    background.setFormatter(TextLines())
    started = time.monotonic()
    for _ in range(500):
        background.handle(record("x" * 4000))
    assert time.monotonic() - started < 5
    assert background.dropped > 400
    started = time.monotonic()
    background.finish(0.05)
    assert time.monotonic() - started < 1
    os.close(read)
    background._thread.join(5)
    assert not background._thread.is_alive()


def test_a_closed_descriptor_is_counted(pipe):
    read, write = pipe
    os.close(read)
    background = Background(write)
    background.setFormatter(TextLines())
    background.handle(record())
    background.finish(1)
    assert background.dropped == 1


def test_the_journal_gets_priorities_instead_of_times(pipe):
    read, write = pipe
    status = os.fstat(write)
    logs = Logs("info", "text", descriptor=write, environ={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
    logging.getLogger("agent").error("bad")
    logging.getLogger("agent").info("good")
    logs.finish()
    assert os.read(read, 4096) == b"<3>error   bad\n<6>info    good\n"


def test_warnings_are_log_lines_and_finish_puts_everything_back(pipe):
    read, write = pipe
    before = logging.root.handlers[:], logging.root.level
    logs = Logs("warning", "text", descriptor=write, environ={})
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    logs.finish()
    assert b"DeprecationWarning: old thing" in os.read(read, 4096)
    assert before == (logging.root.handlers[:], logging.root.level)
    assert not logs.background._thread.is_alive()


def test_formatting_that_fails_hurts_nobody(pipe, capsys):
    read, write = pipe
    logs = Logs("info", "text", descriptor=write, environ={})
    logging.getLogger("agent").info("%d", "no number")
    logging.getLogger("agent").info("next")
    logs.finish()
    assert b"next" in os.read(read, 4096)
    assert "Logging error" in capsys.readouterr().err

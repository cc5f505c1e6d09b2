"""The agent's end of the pipe, with readers that misbehave in every way a process can."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap

import pytest

from agent.cluster.objects import Skipped, decode_object
from agent.errors import SourceError
from agent.sources import exchange, reading
from agent.sources.exchange import Changed, Done, Failed, Mark, Objects, Order, Same, Skips, Totals, frame
from tests.sources.recording import endpoint_slice, listed, namespace, service

WEB = decode_object(service())
MARKS = (Mark("", 1, 2, 3, 4, 5),)
DONE = Done("xxh3:1", "uid:1", MARKS, Totals(objects=1))


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Let a script of the test's own be the reader; `say` writes frames."""

    def install(source, *messages):
        (tmp_path / "frames").write_bytes(b"".join(map(frame, messages)))
        path = tmp_path / "script.py"
        lead = f"import os, sys, time, signal\nframes = open({str(tmp_path / 'frames')!r}, 'rb').read()\n"
        path.write_text(lead + textwrap.dedent(source))
        monkeypatch.setattr(reading, "command", lambda order: [sys.executable, "-S", str(path)])

    return install


async def refusal(**order):
    with pytest.raises(SourceError) as caught:
        await reading.read(Order("/state.json", **order))
    assert str(caught.value).isprintable()
    return str(caught.value)


async def test_a_reading_gives_the_objects_by_kind_and_key(tmp_path):
    path = tmp_path / "state.json"
    path.write_text(
        listed(service(), service("db"), endpoint_slice(), namespace("kube-system", "7"), {"kind": "Service"})
    )
    found = await reading.read(Order(str(path)))
    assert {kind: sorted(objects) for kind, objects in found.objects.items()} == {
        "Namespace": ["kube-system"],
        "Service": ["shop/db", "shop/web"],
        "EndpointSlice": ["shop/web-1"],
    }
    assert found.objects["Service"]["shop/web"] == WEB
    assert [skipped.name for skipped in found.skipped] == ["item 5"]
    assert found.end.identity == "uid:7"
    again = await reading.read(Order(str(path), known=found.end.digest))
    assert again.end == Same(found.end.digest, found.end.marks)


async def test_the_last_of_an_object_given_twice_is_kept(script):
    other = decode_object(service(ip="10.0.0.9"))
    end = Done("d", "", MARKS, Totals(objects=2))
    script("os.write(1, frames)", Objects([WEB, other]), end)
    assert (await reading.read(Order("x"))).objects["Service"]["shop/web"] == other


async def test_the_reader_gets_no_environment_but_what_it_needs(script, monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET", "1")
    script(
        f"open({str(tmp_path / 'names')!r}, 'w').write(' '.join(sorted(os.environ))); os.write(1, frames)",
        Failed("x", ""),
    )
    assert await refusal() == "x"
    assert set((tmp_path / "names").read_text().split()) == {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LC_ALL"}


def test_a_frozen_binary_reads_by_calling_itself(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/opt/nodens")
    monkeypatch.setenv("_PYI_PARENT", "1")
    command = reading.command(Order("/a"))
    assert command[:2] == ["/opt/nodens", "_read-source"]
    assert len(command) == 3
    assert reading.environment()["_PYI_PARENT"] == "1"


FAULTS = {
    "nothing": ("", "ended with exit status 0 after 0 bytes of a message"),
    "a status": ("sys.exit(3)", "ended with exit status 3"),
    "a crash": ("os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
    "a kill": ("os.kill(os.getpid(), signal.SIGKILL)", "ended by SIGKILL"),
    "half a length": ("os.write(1, frames[:2])", "after 2 bytes of a message"),
    "half a message": ("os.write(1, frames[:20])", "after 16 bytes of a message"),
    "a crash in the middle": ("os.write(1, frames[:20]); os.abort()", "ended by SIGABRT after 16 bytes of a message"),
    "garbage": ("os.write(1, b'Traceback (most recent call last)')", "a message of 1667330644 bytes, which can't be"),
    "no msgpack": ("os.write(1, b'\\1\\0\\0\\0\\xc1')", "sent something that is not a message"),
    "more than the end": ("os.write(1, frames + b'x')", "went on after its last message"),
    "an end and a crash": ("os.write(1, frames); os.close(1); sys.exit(4)", "ended with exit status 4 after its last"),
    "a closed pipe": ("os.close(1); time.sleep(60)", "/state.json ended its output after 0 bytes"),
}


@pytest.mark.parametrize(("source", "words"), FAULTS.values(), ids=FAULTS.keys())
async def test_a_reader_that_sends_nonsense_or_dies_is_one_error_in_words(script, monkeypatch, source, words):
    monkeypatch.setattr(reading, "END_S", 0.5)
    script(source, Objects([WEB]), DONE)
    assert words in await refusal()


LIES = {
    "fewer objects than it says": [DONE],
    "more objects than it says": [Objects([WEB, WEB]), DONE],
    "no marks": [Objects([WEB]), Done("d", "", (), Totals(objects=1))],
    "no digest": [Objects([WEB]), Done("", "", MARKS, Totals(objects=1))],
    "the same without being asked": [Same("other", MARKS)],
    "the same after objects": [Objects([WEB]), Same("known", MARKS)],
    "the same after skips": [Skips([Skipped("a", "b", "c")]), Same("known", MARKS)],
    "the same without marks": [Same("known", ())],
}


@pytest.mark.parametrize("messages", LIES.values(), ids=LIES.keys())
async def test_an_end_that_does_not_fit_is_refused(script, messages):
    script("os.write(1, frames)", *messages)
    assert await refusal(known="known") == "the reader's last message doesn't fit what it sent"


async def test_what_may_be_delivered_is_bounded_by_what_the_files_can_hold(script, monkeypatch):
    monkeypatch.setattr(reading, "DELIVERED_AT_LEAST_BYTES", 1000)
    script("\nwhile True: os.write(1, frames)", Objects([WEB] * 10))
    assert await refusal(max_bytes=100) == "the reader sent more than the files can hold"


async def test_what_may_be_named_is_bounded(script):
    script("\nwhile True: os.write(1, frames)", Skips([Skipped("a", "b", "c")] * 400))
    assert await refusal() == "the reader named more objects than it may"


async def test_failures_and_changes_are_passed_on(script):
    script("os.write(1, frames)", Failed("x is broken", "Mend it"))
    assert await refusal() == "x is broken. Mend it"
    script("os.write(1, frames)", Changed("x"))
    with pytest.raises(reading.ChangedWhileReadError, match="x changed while it was read"):
        await reading.read(Order("x"))


HANGS = {
    "silent": "time.sleep(60)",
    "talking": "while True: os.write(1, frames)",
    "stuck": "os.write(1, frames[:6]); time.sleep(60)",
    "deaf": "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)",
}


@pytest.mark.parametrize("source", HANGS.values(), ids=HANGS.keys())
async def test_a_reader_that_does_not_end_in_time_is_ended(script, tmp_path, source):
    script(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n{source}", Objects([]))
    assert "was not read within 0.7 s" in await refusal(timeout_s=0.7)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_a_cancelled_reading_leaves_no_process_behind(script, tmp_path):
    script(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    task = asyncio.create_task(reading.read(Order("x")))
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_a_reader_that_can_not_be_started_is_an_error_in_words(monkeypatch):
    monkeypatch.setattr(reading, "command", lambda order: ["/nowhere/python"])
    assert "the reader of /state.json can't be started" in await refusal()


async def test_large_messages_pass_the_pipe(script):
    end = Done("d", "", MARKS, Totals(objects=20_000))
    script("os.write(1, frames)", *[Objects([WEB] * 10_000)] * 2, end)
    assert max(map(len, (frame(Objects([WEB] * 10_000)),))) > reading.PIPE_BYTES
    assert max(map(len, (frame(Objects([WEB] * 10_000)),))) < exchange.MAX_FRAME_BYTES
    assert (await reading.read(Order("x"))).received == 20_000

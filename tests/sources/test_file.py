from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from agent.cluster.objects import KINDS, decode_object
from agent.cluster.selection import Selection
from agent.errors import ConfigError
from agent.sources import Source, exchange, file, reading
from agent.sources.file import FileLimits, FileSource
from tests.sources.recording import QUICK, RecordingSink, endpoint_slice, following, listed, namespace, service

UID = "8d36542b-1111-2222-3333-62002cd2efdb"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "state.json"
    path.write_text(listed(service(), endpoint_slice(), namespace("kube-system", UID)))
    return path


@pytest.fixture
def sink():
    return RecordingSink()


def write(path, *items):
    """Write as one should: beside it, then rename."""
    new = path.with_name(path.name + ".new")
    new.write_text(listed(*items))
    time.sleep(0.015)  # kernels count a file's times in steps; a real file takes longer to write
    new.rename(path)


def lost(sink, words):
    return lambda: any(words in reason for (reason,) in sink.of("lost"))


async def test_a_full_set_is_delivered_by_kind_then_followed(path, sink):
    async with following(path, sink) as source:
        await sink.until(lambda: sink.of("connected"))
        assert sink.said[:5] == [
            ("identify", f"uid:{UID}"),
            ("replace", "Namespace", 1),
            ("replace", "Service", 1),
            ("replace", "EndpointSlice", 1),
            ("confirm", "Namespace"),
        ]
        assert sink.words("confirm") == ["identify", "replace", "replace", "replace", "connected"]
        assert sink.held["Service"]["shop/web"] == decode_object(service())
        assert len(set(sink.positions.values())) == 1
        assert source.last.totals.objects == 3


async def test_a_change_is_delivered(path, sink):
    async with following(path, sink):
        await sink.until(lambda: sink.of("connected"))
        before = sink.positions["Service"]
        write(path, service("db"))
        await sink.until(lambda: sink.keys() == ["shop/db"])
        assert sink.positions["Service"] != before
        assert sink.of("lost") == []


async def test_an_unchanged_file_is_confirmed_but_not_read_again(path, sink, monkeypatch):
    monkeypatch.setattr(file, "CONFIRM_S", 0.2)
    async with following(path, sink):
        await sink.until(lambda: len(sink.of("confirm")) >= 3 * 4)
        assert len(sink.of("replace")) == 3
        assert len(sink.of("connected")) == 1


async def test_confirmations_come_at_most_once_in_a_while(path, sink):
    async with following(path, sink, limits=FileLimits(poll_s=0.01)):
        await sink.until(lambda: sink.of("connected"))
        await asyncio.sleep(0.5)
        assert len(sink.of("confirm")) == 3


async def test_touching_a_file_delivers_nothing(path, sink):
    async with following(path, sink) as source:
        await sink.until(lambda: sink.of("connected"))
        os.utime(path)
        await sink.until(lambda: isinstance(source.last, exchange.Same))
        assert len(sink.of("replace")) == 3


async def test_a_restart_with_the_same_content_resumes_without_a_full_set(path, sink):
    async with following(path, sink):
        await sink.until(lambda: sink.of("connected"))
    held, again = dict(sink.positions), RecordingSink()
    async with following(path, again, held, f"uid:{UID}"):
        await again.until(lambda: again.of("connected"))
        assert again.words() == ["identify", "confirm", "confirm", "confirm", "connected"]
        assert again.of("identify") == [(f"uid:{UID}",)]
        assert again.positions == held
        write(path, service("db"))
        await again.until(lambda: again.keys() == ["shop/db"])


@pytest.mark.parametrize(
    "resume",
    [
        dict.fromkeys(KINDS, "xxh3:00000000000000000000000000000000"),
        dict.fromkeys(KINDS, "4711"),
        {"Service": "same"},
        "one kind differs",
    ],
)
async def test_a_restart_with_other_content_or_an_incomplete_position_delivers_in_full(path, sink, resume):
    if resume == "one kind differs":
        async with following(path, sink):
            await sink.until(lambda: sink.of("connected"))
        resume, sink = {**sink.positions, "Service": "1"}, RecordingSink()
    async with following(path, sink, resume, "uid:other"):
        await sink.until(lambda: sink.of("connected"))
        assert len(sink.of("replace")) == 3
        assert sink.of("identify") == [(f"uid:{UID}",)]


async def test_another_selection_is_another_position(path, sink):
    async with following(path, sink):
        await sink.until(lambda: sink.of("connected"))
    again = RecordingSink()
    async with following(path, again, sink.positions, selection=Selection(frozenset({"other"}))):
        await again.until(lambda: again.of("connected"))
        assert again.of("replace") == [("Namespace", 0), ("Service", 0), ("EndpointSlice", 0)]


async def test_a_file_without_kube_system_names_no_cluster(path, sink):
    path.write_text(listed(service()))
    async with following(path, sink):
        await sink.until(lambda: sink.of("connected"))
        assert sink.of("identify") == [("",)]


# Trouble: the last good state stays, the reason is told once, and it is over when the file is good again -------------

TROUBLES = {
    "gone": (lambda path: path.unlink(), "state.json is not there"),
    "empty": (lambda path: path.write_text(""), "is empty (0 bytes). A failed kubectl get leaves that behind"),
    "cut": (lambda path: os.truncate(path, 200), "ends after 200 bytes in the middle of its JSON"),
    "garbage": (lambda path: path.write_bytes(os.urandom(5000)), "not"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "holds no *.json, *.yaml or *.yml file"),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "is not a file or a folder"),
    "a loop": (lambda path: (path.unlink(), path.symlink_to(path.name)), "Too many levels of symbolic links"),
    "oversized": (lambda path: path.write_text(" " * 100_000), "has 100000 bytes; 50000 bytes may be read in all"),
    "an api error": (
        lambda path: path.write_text('{"kind":"Status","message":"no"}'),
        "holds an error answer of an API",
    ),
}


@pytest.mark.parametrize(("harm", "words"), TROUBLES.values(), ids=TROUBLES.keys())
async def test_a_file_that_can_not_be_used_leaves_the_last_good_state(path, sink, harm, words):
    limits = FileLimits(poll_s=0.05, debounce_s=0.03, max_bytes=50_000)
    async with following(path, sink, limits=limits):
        await sink.until(lambda: sink.of("connected"))
        harm(path)
        await sink.until(lost(sink, words))
        assert sink.keys() == ["shop/web"]
        assert sink.words("confirm", "identify", "replace", "skipped") == ["connected", "lost"]
        if path.is_dir():
            path.rmdir()
        write(path, service("db"))
        await sink.until(lambda: sink.keys() == ["shop/db"])
        await sink.until(
            lambda: sink.words("confirm", "identify", "replace", "skipped") == ["connected", "lost", "connected"]
        )


async def test_trouble_is_told_once_as_long_as_it_is_the_same(path, sink):
    path.unlink()
    async with following(path, sink, limits=FileLimits(poll_s=0.02)):
        await sink.until(lambda: sink.of("lost"))
        await asyncio.sleep(0.3)
        assert sink.said == [("lost", f"{path} is not there")]
        path.write_text("{")
        await sink.until(lambda: len(sink.of("lost")) == 2)
        path.unlink()
        await sink.until(lambda: len(sink.of("lost")) == 3)
        assert sink.words() == ["lost"] * 3


async def test_the_same_file_put_back_is_in_sync_without_a_new_full_set(path, sink):
    async with following(path, sink):
        await sink.until(lambda: sink.of("connected"))
        path.rename(path.with_suffix(".away"))
        await sink.until(lambda: sink.of("lost"))
        path.with_suffix(".away").rename(path)
        await sink.until(lambda: len(sink.of("connected")) == 2)
        assert len(sink.of("replace")) == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_permission_granted_later_is_noticed(path, sink):
    path.chmod(0)
    async with following(path, sink):
        await sink.until(lost(sink, "may not read"))
        path.chmod(0o600)
        await sink.until(lambda: sink.of("connected"))


async def test_a_folder_with_one_bad_file_keeps_its_last_good_state(tmp_path, sink):
    (tmp_path / "a.json").write_text(listed(service("a")))
    (tmp_path / "b.yaml").write_text(json.dumps(service("b")) + "\n---\n" + json.dumps(service("c")))
    async with following(tmp_path, sink):
        await sink.until(lambda: sink.of("connected"))
        assert sink.keys() == ["shop/a", "shop/b", "shop/c"]
        (tmp_path / "c.json").write_text('{"kind": "List", "items": [')
        await sink.until(lost(sink, "c.json ends after 27 bytes"))
        assert sink.keys() == ["shop/a", "shop/b", "shop/c"]
        (tmp_path / "c.json").unlink()
        await sink.until(lambda: len(sink.of("connected")) == 2)
        (tmp_path / "a.json").unlink()
        await sink.until(lambda: sink.keys() == ["shop/b", "shop/c"])


async def test_a_mounted_config_map_is_followed(tmp_path, sink):
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "all.json").write_text(listed(service(f"v{version}")))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "all.json").symlink_to("..data/all.json")
    async with following(tmp_path, sink):
        await sink.until(lambda: sink.keys() == ["shop/v1"])
        (tmp_path / "..data_tmp").symlink_to("..2")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        await sink.until(lambda: sink.keys() == ["shop/v2"])
        assert sink.of("lost") == []


async def test_bad_and_repeated_objects_are_named_and_the_others_apply(tmp_path, sink):
    (tmp_path / "a.json").write_text(listed(service(ip="10.0.0.1"), service("bad", ip="nonsense")))
    (tmp_path / "b.json").write_text(listed(service(ip="10.0.0.2")))
    async with following(tmp_path, sink):
        await sink.until(lambda: sink.of("connected"))
        assert sink.held["Service"]["shop/web"] == decode_object(service(ip="10.0.0.2"))
        assert sink.keys() == ["shop/web"]
        a, b = tmp_path / "a.json", tmp_path / "b.json"
        assert sink.of("skipped") == [
            ("Service", "shop/bad", f"spec.clusterIPs has 'nonsense', which is not an IP address (in {a})"),
            ("Service", "shop/web", f"stands in {a} and again in {b}: the last one counts"),
        ]


async def test_what_is_not_named_is_counted(path, sink):
    path.write_text(listed(service(), *[{"kind": "Service"}] * 1200))
    async with following(path, sink):
        await sink.until(lambda: sink.of("connected"))
        assert len(sink.of("skipped")) == exchange.MAX_SKIPS_NAMED + 1
        assert sink.of("skipped")[-1] == ("?", "200 more", "only the first 1000 are named")


async def test_a_file_of_nothing_is_delivered_as_it_is_and_noted(path, sink, caplog):
    path.write_text(listed({"kind": "Pod"}))
    async with following(path, sink):
        await sink.until(lambda: sink.of("connected"))
        assert sink.of("replace") == [("Namespace", 0), ("Service", 0), ("EndpointSlice", 0)]
        assert f"{path} holds no Service, EndpointSlice or Namespace that counts (1 other objects)" in caplog.text


async def test_a_refused_set_is_not_followed(path, sink):
    sink.refuses = True
    async with following(path, sink):
        await sink.until(lost(sink, "the Namespace objects were refused as older than those held"))
        assert sink.of("connected") == sink.of("confirm") == []
        sink.refuses = False
        await sink.until(lambda: sink.of("connected"))
        assert sink.keys() == ["shop/web"]


async def test_a_reader_that_crashes_is_tried_again(path, sink, monkeypatch):
    command = reading.command
    monkeypatch.setattr(reading, "command", lambda order: ["/bin/sh", "-c", "kill -SEGV $$"])
    async with following(path, sink):
        await sink.until(lost(sink, "ended by SIGSEGV"))
        monkeypatch.setattr(reading, "command", command)
        await sink.until(lambda: sink.of("connected"))


async def test_a_look_that_hangs_is_reported_and_not_repeated(path, sink, monkeypatch):
    looks, hangs = [], True

    def slow_look(where, max_files, look=file.look):
        looks.append(where)
        while hangs:
            time.sleep(0.01)
        return look(where, max_files)

    monkeypatch.setattr(file, "look", slow_look)
    monkeypatch.setattr(file, "LOOK_S", 0.1)
    async with following(path, sink):
        await sink.until(lost(sink, "takes more than 0.1 s: does its disk hang?"))
        await asyncio.sleep(0.4)
        assert len(looks) == 1
        hangs = False
        await sink.until(lambda: sink.of("connected"))


async def test_a_file_kept_open_by_a_writer_is_reported_when_it_never_rests(path, sink, monkeypatch):
    monkeypatch.setattr("agent.sources.watch.RESTLESS_S", 0.4)
    async with following(path, sink):
        await sink.until(lambda: sink.of("connected"))
        with path.open("a") as out:
            while not sink.of("lost"):
                out.write(" ")
                out.flush()
                await asyncio.sleep(0.01)
        assert "keeps changing and can't be read" in sink.of("lost")[0][0]
        assert "rename it over this one" in sink.of("lost")[0][0]
        await sink.until(lambda: len(sink.of("connected")) == 2)


async def test_a_file_only_ever_replaced_is_followed_though_it_never_rests(path, sink, monkeypatch):
    monkeypatch.setattr("agent.sources.watch.REPLACED_S", 0.2)
    async with following(path, sink):
        await sink.until(lambda: sink.of("connected"))
        number = 0
        while not sink.keys()[0].startswith("shop/s"):
            write(path, service(f"s{number}"))
            number += 1
            await asyncio.sleep(0)
        assert sink.of("lost") == []


async def test_nothing_blocks_the_loop(path, sink):
    with blockbuster_ctx(scanned_modules=["agent"]):
        async with following(path, sink):
            await sink.until(lambda: sink.of("connected"))
            write(path, service("db"))
            await sink.until(lambda: sink.keys() == ["shop/db"])
            path.unlink()
            await sink.until(lambda: sink.of("lost"))


async def test_many_objects_leave_the_loop_its_turns(path, sink):
    path.write_text(listed(*(service(f"s{number}") for number in range(6000))))
    longest_s, at_s = 0.0, time.thread_time()
    async with following(path, sink):
        while not sink.of("connected"):
            await asyncio.sleep(0)
            now_s = time.thread_time()
            longest_s, at_s = max(longest_s, now_s - at_s), now_s
    assert len(sink.keys()) == 6000
    assert longest_s < 0.02  # 1 to 3 ms; the rest is for a loaded machine


@pytest.mark.parametrize("path", ["a\0b", os.fsdecode(b"\xff.json")])
def test_a_path_that_can_not_be_one_is_a_configuration_error(path):
    with pytest.raises(ConfigError, match="is not text in UTF-8"):
        FileSource(Path(path))


def test_it_is_a_source():
    source: Source = FileSource(Path("x"), limits=QUICK)
    assert source.name == "file"

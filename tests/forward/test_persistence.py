"""The cache on disk: what comes back after a restart, and what is never believed."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from agent.errors import SnapshotError
from agent.forward import persistence
from agent.forward.cache import Bounds, Cache
from agent.forward.keeper import Keeper
from tests.forward.scripted import SOA, Clock, Running, Scripted, always, texts

WWW = "www.example.com. 60 A 192.0.2.1"
FILE = "cache/answers.ndc"


async def filled(upstream: Scripted, running: Running) -> None:
    await running.ask("www.example.com")
    await running.ask("www.example.com", do=True)
    upstream.script = always(rcode=3, soa=SOA)
    await running.ask("no.example.com")
    upstream.script = always("evil.example.com. 60 CNAME web.shop.svc.cluster.local.")
    await running.ask("evil.example.com")


@pytest.fixture
async def written(tmp_path: Path) -> Path:
    async with Scripted(always(WWW)) as upstream, Running([upstream.target]) as running:
        await filled(upstream, running)
        answers = persistence.snapshot(running.forwarder.cache, running.clock())
        persistence.write(str(tmp_path), answers, 1_000_000.0)
    return tmp_path


def back(state_dir: Path, now_unix_s: float, bounds: Bounds | None = None) -> Cache:
    cache = Cache(bounds)
    stored = persistence.read(str(state_dir))
    assert stored is not None
    persistence.restore(cache, stored, 50.0, now_unix_s)
    return cache


def test_what_was_held_comes_back_as_old_as_it_is(written):
    cache = back(written, 1_000_020.0)
    assert len(cache) == 4
    held = {question.name: entry for question, entry in cache.items()}
    assert held[b"\x03www\x07example\x03com\x00"].expires_s == pytest.approx(50 + 40)
    assert held[b"\x02no\x07example\x03com\x00"].rcode == 3
    assert held[b"\x04evil\x07example\x03com\x00"].end.startswith(b"\x03web")
    assert {question.do for question, _ in cache.items()} == {False, True}


def test_a_clock_that_was_set_back_makes_nothing_younger(written):
    cache = back(written, 999.0)
    assert all(entry.expires_s <= 50 + 60 for _, entry in cache.items())


def test_what_is_too_old_for_any_use_stays_away(written):
    assert len(back(written, 1_000_000.0 + 4 * 86_400)) == 0
    assert len(back(written, 1_000_061.0, Bounds(max_stale_s=0))) == 0


async def test_an_agent_that_starts_without_upstreams_answers_stale(written):
    async with Scripted(None) as upstream, Running([upstream.target]) as running:
        stored = persistence.read(str(written))
        assert stored is not None
        persistence.restore(running.forwarder.cache, stored, running.clock(), 1_000_000.0 + 3600)
        said = await running.ask("www.example.com")
        assert (said.error[0], texts(said, "www.example.com")) == (3, ["www.example.com. 30 IN A 192.0.2.1"])


async def test_a_positive_beside_a_denial_comes_back_too(tmp_path):
    async with Scripted(always(WWW)) as upstream, Running([upstream.target]) as running:
        await running.ask("www.example.com")
        upstream.script = always(rcode=3, soa=SOA)
        running.clock.now_s += 100
        await running.ask("www.example.com")
        await running.settled()
        persistence.write(str(tmp_path), persistence.snapshot(running.forwarder.cache, running.clock()), 0.0)
    cache = back(tmp_path, 100.0)
    (found,) = [entry for _, entry in cache.items()]
    assert (found.rcode, found.older.rcode) == (3, 0)
    assert cache.bytes == sum(entry.bytes for _, entry in cache.items()) + 17 + 150


def test_no_file_is_no_error(tmp_path):
    assert persistence.read(str(tmp_path)) is None


def test_it_is_closed_to_others(written):
    assert (written / FILE).stat().st_mode & 0o777 == 0o600
    assert (written / "cache").stat().st_mode & 0o777 == 0o700


def test_one_that_others_could_have_written_is_not_believed(written):
    os.chmod(written / FILE, 0o666)
    with pytest.raises(SnapshotError, match="can be written by others"):
        persistence.read(str(written))


@pytest.mark.parametrize("seed", range(40))
def test_one_flipped_bit_is_found(written, seed):
    path = written / FILE
    raw = bytearray(path.read_bytes())
    chance = random.Random(seed)
    at = chance.randrange(len(raw))
    raw[at] ^= 1 << chance.randrange(8)
    path.write_bytes(raw)
    with pytest.raises(SnapshotError):
        persistence.read(str(written))


@pytest.mark.parametrize("size", [0, 10, 47, 48, 60, -1])
def test_one_that_was_cut_is_found(written, size):
    path = written / FILE
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(SnapshotError):
        persistence.read(str(written))


def test_one_with_a_right_checksum_over_nonsense_is_not_believed(written):
    path = written / FILE
    raw = path.read_bytes()
    chance = random.Random(1)
    for _ in range(300):
        body = bytearray(raw[persistence._BODY_AT :])
        for _ in range(3):
            body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
        head = persistence._HEAD.pack(persistence.MAGIC, len(body), 0.0, 4)
        path.write_bytes(head + persistence._digest(head, bytes(body)) + body)
        try:
            stored = persistence.read(str(written))
        except SnapshotError:
            continue
        assert stored is not None
        for held in stored.answers:
            held.entry.shown(7)  # What is believed can be answered.


async def test_the_keeper_tells_of_damage_and_starts_empty(written, caplog):
    (written / FILE).write_bytes(b"nonsense" * 20)
    cache = Cache()
    keeper = Keeper(cache, str(written), 60, Clock())
    keeper.restore()
    assert (len(cache), keeper.restored) == (0, 0)
    assert "not used" in caplog.text
    assert keeper.refused


async def test_a_disk_that_fails_is_told_once_and_takes_nothing(written, caplog):
    clock = Clock()
    cache = Cache()
    keeper = Keeper(cache, str(written), 60, clock)
    keeper.restore()
    held = len(cache)
    (written / FILE).unlink()
    (written / "cache").rmdir()
    (written / "cache").write_text("in the way")
    for _ in range(3):
        cache.version += 1
        await keeper.write()
    assert (keeper.failures, keeper.writes, len(cache)) == (3, 0, held)
    assert caplog.text.count("can't be written") == 1


async def test_it_is_written_only_when_it_has_changed(written):
    keeper = Keeper(Cache(), str(written), 60, Clock())
    keeper.restore()
    await keeper.write()
    assert keeper.writes == 0

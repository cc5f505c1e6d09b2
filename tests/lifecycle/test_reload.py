from __future__ import annotations

import time

import pytest

from agent.config import load
from agent.errors import ConfigError, NodensError
from agent.lifecycle import reload as module
from agent.lifecycle.reload import Reloader


class Scene:
    """A reloader over options given as arguments, and parts that note what they were told."""

    def __init__(self) -> None:
        self.options: dict[str, object] = {}
        self.events: list[str] = []
        self.broken = ""
        self.reloader = Reloader(self.read(), self.read, [self.part("a"), self.part("b")])

    def read(self):
        return load(self.options, {"NODE_NAME": "n"}, None)

    def part(self, name):
        def prepare(config):
            self.events.append(f"prepare {name}")
            if self.broken == name:
                raise NodensError(f"{name} can't")
            return lambda: self.events.append(f"commit {name} {config.log_level}")

        return prepare


async def test_every_part_prepares_before_any_commits():
    scene = Scene()
    scene.options["log_level"] = "debug"
    outcome = await scene.reloader.reload()
    assert outcome == (("log_level",), "")
    assert scene.events == ["prepare a", "prepare b", "commit a debug", "commit b debug"]
    assert scene.reloader.config.log_level == "debug"
    assert (scene.reloader.applied, scene.reloader.refused) == (1, 0)


async def test_an_invalid_configuration_changes_nothing():
    scene = Scene()
    scene.options |= {"log_level": "debug", "lameduck": "long"}
    outcome = await scene.reloader.reload()
    assert outcome.changed == ()
    assert "lameduck must be a duration" in outcome.refused
    assert scene.events == []
    assert scene.reloader.config.log_level == "info"
    assert (scene.reloader.applied, scene.reloader.refused) == (0, 1)


async def test_an_option_that_needs_a_restart_keeps_all_others_from_changing(caplog):
    scene = Scene()
    scene.options |= {"log_level": "debug", "ttl": 9, "listen": ["127.0.0.1:5353"]}
    outcome = await scene.reloader.reload()
    assert outcome.refused.startswith("listen, ttl can't change while running")
    assert scene.events == []
    assert scene.reloader.config.log_level == "info"
    assert "everything stays as it was" in caplog.text


async def test_a_part_that_refuses_keeps_the_ones_before_it_from_committing():
    scene = Scene()
    scene.options["log_level"] = "debug"
    scene.broken = "b"
    outcome = await scene.reloader.reload()
    assert outcome.refused == "b can't"
    assert scene.events == ["prepare a", "prepare b"]
    assert scene.reloader.config.log_level == "info"


async def test_nothing_changed_is_fine_and_said(caplog):
    caplog.set_level("INFO")
    scene = Scene()
    assert await scene.reloader.reload() == ((), "")
    assert scene.events == []
    assert "nothing had changed" in caplog.text


async def test_reading_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(module, "READ_TIMEOUT_S", 0.05)
    scene = Scene()
    scene.reloader = Reloader(scene.read(), lambda: time.sleep(0.3), [])
    outcome = await scene.reloader.reload()
    assert outcome.refused == "reading took longer than 0.05 s"


async def test_reading_the_file_never_runs_on_the_loops_thread():
    import threading

    scene, threads = Scene(), []

    def read():
        threads.append(threading.current_thread())
        raise ConfigError("gone")

    scene.reloader = Reloader(scene.read(), read, [])
    await scene.reloader.reload()
    assert threads != [threading.main_thread()]


@pytest.mark.parametrize("key", ["zones", "listen", "state_dir", "source", "ttl", "pods"])
def test_what_hangs_on_sockets_records_or_the_state_directory_needs_a_restart(key):
    from agent.config import table

    assert not table()[key].option.reload

"""What the agent sees of a document, look by look."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from agent.control.folder import Folder
from agent.control.watch import CHANGED, REFUSED, SAME, Watch


class Wish(msgspec.Struct, forbid_unknown_fields=True):
    text: str


@pytest.fixture
def watch(tmp_path: Path) -> Watch[Wish]:
    return Watch(str(tmp_path), "wish.json", Wish)


def order(watch: Watch[Wish], text: str) -> Path:
    with Folder(watch.state_dir, make=True) as folder:
        folder.write("wish.json", Wish(text))
        return Path(folder.path) / "wish.json"


def test_an_order_is_seen_once_and_gone_when_taken_back(watch: Watch[Wish]) -> None:
    assert watch.look() == SAME
    path = order(watch, "water")
    assert (watch.look(), watch.order) == (CHANGED, Wish("water"))
    assert watch.look() == SAME
    order(watch, "bread")
    assert (watch.look(), watch.order) == (CHANGED, Wish("bread"))
    path.unlink()
    assert (watch.look(), watch.order) == (CHANGED, None)
    assert watch.look() == SAME


def test_a_damaged_order_is_refused_once_and_the_last_good_one_stays(watch: Watch[Wish]) -> None:
    path = order(watch, "water")
    watch.look()
    path.write_bytes(b"{")
    assert (watch.look(), watch.order, watch.refused) == (REFUSED, Wish("water"), 1)
    assert str(path) in watch.problem
    assert (watch.look(), watch.refused) == (SAME, 1)
    path.write_bytes(b"{}")
    assert (watch.look(), watch.refused) == (REFUSED, 2)
    order(watch, "bread")
    assert (watch.look(), watch.order, watch.problem) == (CHANGED, Wish("bread"), "")


def test_a_mode_put_right_is_enough_to_be_believed(watch: Watch[Wish]) -> None:
    path = order(watch, "water")
    path.chmod(0o666)
    assert (watch.look(), watch.order) == (REFUSED, None)
    path.chmod(0o600)
    assert (watch.look(), watch.order) == (CHANGED, Wish("water"))


def test_a_folder_put_right_is_enough_to_be_believed(watch: Watch[Wish]) -> None:
    folder = order(watch, "water").parent
    folder.chmod(0o777)
    assert (watch.look(), watch.order) == (REFUSED, None)
    folder.chmod(0o700)
    assert (watch.look(), watch.order) == (CHANGED, Wish("water"))


def test_a_folder_that_is_a_link_or_a_file_is_refused_and_the_order_stays(watch: Watch[Wish], tmp_path: Path) -> None:
    folder = order(watch, "water").parent
    watch.look()
    os.rename(folder, tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    assert (watch.look(), watch.order) == (REFUSED, Wish("water"))

from __future__ import annotations

import os
import socket

import pytest

from agent.errors import SourceError
from agent.sources.sightings import look


def test_one_file_has_one_mark_without_a_name(tmp_path):
    path = tmp_path / "anything"
    path.write_text("{}")
    (mark,) = look(str(path), 10)
    found = path.stat()
    assert mark == ("", found.st_mtime_ns, found.st_ctime_ns, 2, found.st_ino, found.st_dev)


def test_a_folder_gives_its_files_by_name_and_no_others(tmp_path):
    for name in ("b.yaml", "a.json", "c.yml", "d.txt", ".hidden.json", "e.json~"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "sub.json").mkdir()
    (tmp_path / "sub.json" / "inner.json").write_text("{}")
    assert [mark.name for mark in look(str(tmp_path), 10)] == ["a.json", "b.yaml", "c.yml"]


def test_a_mounted_config_map_changes_its_marks_when_the_link_is_swapped(tmp_path):
    for version in ("..1", "..2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "all.json").write_text("{}")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "all.json").symlink_to("..data/all.json")
    before = look(str(tmp_path), 10)
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    after = look(str(tmp_path), 10)
    assert [mark.name for mark in before] == [mark.name for mark in after] == ["all.json"]
    assert before != after


def refusal(path, max_files=10):
    with pytest.raises(SourceError) as caught:
        look(str(path), max_files)
    return str(caught.value)


def test_troubles_name_the_file_and_say_what_to_do(tmp_path):
    assert refusal(tmp_path / "gone.json") == f"{tmp_path}/gone.json is not there"
    assert "holds no *.json, *.yaml or *.yml file. Put the output of kubectl get" in refusal(tmp_path)
    (tmp_path / "a.json").symlink_to("nowhere")
    assert f"{tmp_path}/a.json points to a file that is gone" in refusal(tmp_path)
    assert "can't be read: Too many levels of symbolic links" in refusal(_loop(tmp_path))
    assert "can't be read: File name too long" in refusal(tmp_path / ("x" * 300))


def _loop(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path / "loop"


def test_too_many_files_are_refused_before_they_are_looked_at(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.json").symlink_to("nowhere")
    assert "holds more than 3 files" in refusal(tmp_path, 3)


def test_pipes_sockets_and_devices_are_refused_and_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    assert "pipe.json is not a file or a folder" in refusal(tmp_path / "pipe.json")
    assert "pipe.json is not a file or a folder" in refusal(tmp_path)
    assert "is not a file or a folder" in refusal("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert "is not a file or a folder" in refusal(tmp_path / "s")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_says_who_may_not(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    assert f"user id {os.geteuid()} may not read" in refusal(tmp_path / "closed" / "a.json")


def test_foreign_names_are_made_fit_for_a_line(tmp_path):
    name = os.fsdecode(b"a\xff\nb.json")
    (tmp_path / name).symlink_to("nowhere")
    assert refusal(tmp_path) == f"{tmp_path}/a??b.json points to a file that is gone"

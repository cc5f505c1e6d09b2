"""What people are told about a file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from agent.snapshot import inspection
from agent.snapshot.entries import Head, Place, encode_head, encode_record
from agent.snapshot.format import PAGE_BYTES, encode
from agent.snapshot.inspection import describe, describe_journal
from agent.snapshot.recovery import Limits
from tests.snapshot.history import entry, header, sections

SECTIONS = [*sections(5, size_bytes=3000), (2, b"objects")]


@pytest.fixture
def generation(tmp_path: Path) -> Path:
    return put(tmp_path / "gen-7.nds", b"".join(encode(header(7, 5), SECTIONS)))


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    record = encode_record(msgspec.msgpack.encode(entry(6)), Place(7, 1))
    return put(tmp_path / "journal-7.ndj", encode_head(Head(7, Place(6, 2))) + record)


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def failing_read(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(os, call, fail)


def test_a_valid_generation(generation: Path) -> None:
    found = describe(str(generation))
    assert (found.path, found.size_bytes) == (str(generation), generation.stat().st_size)
    assert (found.reason, found.hint) == ("", "")
    assert found.layout is not None
    assert found.layout.header == header(7, 5)
    assert [(row.section.name, row.section.length, row.reason) for row in found.sections] == [
        ("unknown", 3000, ""),
        ("profile", 1, ""),
        ("objects", 7, ""),
    ]


def test_any_name_will_do_for_an_export_but_ours_must_be_right(generation: Path) -> None:
    assert describe(str(generation.rename(generation.with_name("export")))).reason == ""
    renamed = describe(str(generation.with_name("export").rename(generation.with_name("gen-8.nds"))))
    assert renamed.reason == "holds number 7"
    assert renamed.layout is not None


def test_a_path_without_a_directory(generation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(generation.parent)
    assert describe(generation.name).reason == ""


def test_each_damaged_section_is_named_and_the_others_are_good(
    generation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "PIECE_BYTES", 1000)
    content = bytearray(generation.read_bytes())
    content[PAGE_BYTES] ^= 1
    content[-1] ^= 1
    generation.write_bytes(content)
    found = describe(str(generation))
    assert found.reason == (
        "is damaged: the digest of section 77 (unknown) differs; is damaged: the digest of section 2 (objects) differs"
    )
    assert [bool(row.reason) for row in found.sections] == [True, False, True]
    content[PAGE_BYTES] ^= 1
    content[-1] ^= 1
    content[PAGE_BYTES + 3001] ^= 1
    generation.write_bytes(content)
    assert describe(str(generation)).reason == "is damaged: bytes stand in front of section 1 (profile)"


def test_a_refused_version_still_shows_its_header(generation: Path) -> None:
    generation.write_bytes(b"".join(encode(header(7, 5, incompat=4), SECTIONS)))
    found = describe(str(generation))
    assert found.layout is not None
    assert found.layout.header.incompat == 4
    assert (found.sections, "incompat bits 0x4" in found.reason) == ((), True)
    assert found.hint.startswith("Run the version of nodens")


def test_a_damaged_header_shows_nothing(generation: Path) -> None:
    put(generation, b"garbage")
    found = describe(str(generation))
    assert (found.layout, found.size_bytes) == (None, 7)
    assert found.reason.startswith("is cut: 7 bytes")


def test_a_file_that_shrinks_while_it_is_read(generation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: b"" if at > PAGE_BYTES + 3010 else real(fd, size, at))
    assert describe(str(generation)).reason == "section 2 (objects) is cut"


def test_trouble_with_the_file_is_told(generation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(generation)
    assert "more than the 10 allowed" in describe(path, Limits(generation_bytes=10)).reason
    generation.chmod(0o666)
    found = describe(path)
    assert (found.size_bytes, found.layout) == (0, None)
    assert "can be written by others" in found.reason
    assert found.hint == f"If its content can be trusted: chmod go-w {path}"
    generation.chmod(0o600)
    assert describe(path + "x").reason.endswith("does not exist")
    assert "can't be found: No such file" in describe("/nowhere/at/all").reason
    failing_read(monkeypatch, "pread")
    assert "can't be read: Input/output error" in describe(path).reason


def test_a_journal(journal: Path) -> None:
    found = describe_journal(str(journal))
    assert (found.reason, found.hint, found.size_bytes) == ("", "", journal.stat().st_size)
    assert found.replay is not None
    assert (found.replay.head, found.replay.sequence) == (Head(7, Place(6, 2)), 1)


def test_a_cut_journal_is_good_up_to_the_cut(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes() + b"torn")
    found = describe_journal(str(journal))
    assert found.reason == ""
    assert found.replay is not None
    assert "stops after record 1, 4 bytes are left behind" in found.replay.reason


def test_trouble_with_a_journal_is_told(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(journal)
    assert "more than the 10 allowed" in describe_journal(path, Limits(journal_bytes=10, read_journal_bytes=0)).reason
    assert describe_journal(path + "x").reason.endswith("does not exist")
    with monkeypatch.context() as patch:
        failing_read(patch, "read")
        found = describe_journal(path)
        assert "can't be read: Input/output error" in found.reason
    assert describe_journal(str(journal.rename(journal.with_name("journal-8.ndj")))).reason == "holds number 7"
    found = describe_journal(str(put(journal, b"garbage")))
    assert (found.replay, found.size_bytes) == (None, 7)
    assert found.reason.startswith("is cut: 7 bytes")

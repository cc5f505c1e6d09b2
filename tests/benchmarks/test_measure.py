"""Records go where they belong, and pages are written between their marks."""

from __future__ import annotations

import json

import pytest

from benchmarks import measure


def test_a_record_is_kept_and_only_published_when_asked_to(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(measure, "UNPUBLISHED", tmp_path / "last")
    record = measure.heading() | {"figures": {"a": 1}}
    measure.keep(record, "plane", publish=False)
    assert json.loads((tmp_path / "last" / "plane.json").read_text())["figures"] == {"a": 1}
    assert not (tmp_path / "results").exists()
    measure.keep(record, "plane", publish=True)
    assert json.loads((tmp_path / "results" / "plane.json").read_text())["machine"]["cores"] >= 1


def test_the_page_is_written_between_its_marks():
    page = "# T\n<!-- a: begin -->\nold\n<!-- a: end -->\nrest\n<!-- b: begin -->\nother\n<!-- b: end -->\n"
    written = measure.into_page(page, "a", "new")
    assert written == page.replace("old", "new")
    with pytest.raises(ValueError, match="to write between"):
        measure.into_page("# T\n", "a", "new")


@pytest.mark.parametrize("name", ["peers", "budgets", "plane", "life"])
def test_the_published_page_has_the_marks(name):
    assert measure.into_page(measure.PAGE.read_text(encoding="utf-8"), name, "x")


def test_a_table_lines_its_columns_up():
    assert measure.markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---:|\n| 1 | 2 |"
    assert measure.markdown(["a", "b"], [], "ll").endswith("|---|---|")

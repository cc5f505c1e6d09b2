"""What a person is told first, in every state an agent can be in."""

from __future__ import annotations

import pytest

from agent.observe.notes import BAD, GOOD, INFO, SEVERITIES, WARN, headline, notes
from agent.observe.page import render
from agent.observe.status import Access, Process, Snapshot, Source, Status

from .statuses import full

FOLLOWED = Source(name="kubernetes", connected=True)
FRESH = Status(state="fresh", ready=True, source=FOLLOWED)


@pytest.mark.parametrize(
    ("status", "severity", "title", "do"),
    [
        (FRESH, GOOD, "Fresh", ""),
        (Status(state="fresh", ready=True, age_s=7), WARN, "Fresh, source lost", "a restart is safe"),
        (Status(state="stale", ready=True, age_s=1843), WARN, "Stale for 30m 43s", "a restart is safe"),
        (Status(state="stale", source=Source(name="file")), WARN, "Stale for 0s", "see the log"),
        (Status(state="expired", age_s=7200), BAD, "Expired, 2h old", "max_stale"),
        (Status(source=Source(note="refused")), BAD, "Not ready", "mend this: refused"),
    ],
    ids=lambda value: value.state if isinstance(value, Status) else "",
)
def test_the_first_line_says_the_state_and_what_to_do(status, severity, title, do):
    first = headline(status, notes(status))
    assert (first.severity, first.title) == (severity, title)
    assert do in first.do
    assert bool(first.do) == (severity != GOOD)


def test_what_keeps_the_source_away_is_not_longer_than_a_line():
    status = Status(state="stale", source=Source(name="kubernetes", note="x" * 500))
    assert len(headline(status, []).do) < 160


def test_while_answers_are_fresh_the_first_line_is_the_worst_note():
    disk = Snapshot(persist_failures=3, persist_error="No space left on device")
    status = Status(state="fresh", ready=True, source=FOLLOWED, snapshot=disk, process=Process(state_dir="/s/d"))
    first = headline(status, notes(status))
    assert first.title == "Fresh, disk trouble"
    assert "No space left on device" in first.sentence
    assert first.do == "df -h /s/d; ls -ld /s/d"


def test_what_is_only_good_to_know_leaves_fresh_alone():
    status = Status(state="fresh", ready=True, source=FOLLOWED, snapshot=Snapshot(refused=("gen-1.nds: cut",)))
    assert [note.severity for note in notes(status)] == [INFO]
    assert headline(status, notes(status)).title == "Fresh"


def test_notes_come_worst_first():
    found = notes(full(not_ready={"snapshot": "no valid snapshot yet"}))
    severities = [SEVERITIES.index(note.severity) for note in found]
    assert severities == sorted(severities, reverse=True)
    assert {note.title for note in found} >= {"not ready", "damaged", "disk trouble", "failed tasks", "refused"}


def test_the_page_says_the_same():
    status = full()
    page = render(status)
    assert f'<div class="state {WARN}"><strong>Stale for 30m 43s, damaged</strong>' in page
    for note in notes(status):
        assert f"<dt>{note.title}</dt>" in page


@pytest.mark.parametrize(("left", "severity"), [(600, None), (61, None), (60, INFO), (1, INFO), (0, WARN)])
def test_a_budget_of_requests_that_runs_out_is_told_before_it_has(left, severity):
    access = Access(budget_left=left, budget_burst=600, budget_per_hour=240)
    status = Status(state="fresh", ready=True, source=Source(name="kubernetes", connected=True, access=access))
    assert [(note.title, note.severity) for note in notes(status)] == ([("API budget", severity)] if severity else [])


@pytest.mark.parametrize("circuit", ["open", "unreachable", "slot"])
def test_when_the_api_servers_are_asked_next_is_told_while_they_are_not(circuit):
    access = Access(circuit=circuit, next_try_s=3.2, budget_left=600, budget_burst=600)
    (note,) = notes(Status(state="stale", ready=True, source=Source(name="kubernetes", access=access)))
    assert (note.title, note.severity) == ("API servers", INFO)
    assert "in 4 s" in note.sentence

from __future__ import annotations

from agent.lifecycle.readiness import Readiness


def test_ready_when_no_guard_is_held():
    readiness = Readiness()
    assert readiness.ready
    sockets = readiness.hold("sockets", "not bound yet")
    snapshot = readiness.hold("snapshot", "no valid snapshot yet")
    assert readiness.reasons == {"sockets": "not bound yet", "snapshot": "no valid snapshot yet"}
    sockets.drop()
    assert not readiness.ready
    snapshot.drop()
    assert readiness.ready


def test_dropping_twice_is_no_error_and_drops_nothing_of_another():
    readiness = Readiness()
    first = readiness.hold("snapshot", "loading")
    first.drop()
    readiness.hold("snapshot", "loading again")
    first.drop()
    assert readiness.reasons == {"snapshot": "loading again"}


def test_a_guard_of_the_same_name_takes_the_others_place():
    readiness = Readiness()
    old = readiness.hold("snapshot", "loading")
    new = readiness.hold("snapshot", "compiling")
    old.drop()
    assert readiness.reasons == {"snapshot": "compiling"}
    new.drop()
    assert readiness.ready


def test_becoming_ready_and_unready_is_one_line_each(caplog):
    caplog.set_level("INFO")
    readiness = Readiness()
    guards = [readiness.hold("a", "first"), readiness.hold("b", "second")]
    for guard in guards:
        guard.drop()
    assert [record.getMessage() for record in caplog.records] == ["not ready: first", "ready: b is done"]

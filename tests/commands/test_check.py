from __future__ import annotations

import pytest

from agent.cli import main


@pytest.fixture
def write(tmp_path):
    path = tmp_path / "nodens.yaml"

    def write_text(text: str) -> str:
        path.write_text(text)
        return str(path)

    return write_text


def test_a_right_file_is_ok(write, capsys):
    path = write("ttl: 9\ntcp:\n  idle_timeout: 5s\n")
    assert main(["check", path]) == 0
    assert capsys.readouterr().out == f"OK: {path}\n"


def test_every_problem_is_told_at_once(write, capsys):
    path = write("tll: 9\npods: some\n")
    assert main(["check", path, "--zone", "a..b"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"{path}:1: no option is called 'tll', did you mean 'ttl'?",
        f"{path}:2: pods must be disabled or insecure or verified, not 'some'",
        "--zone: zones must be a zone such as cluster.local, not 'a..b'",
        "3 problems; nothing would start with this configuration",
    ]


def test_variables_count_as_for_serve(write, monkeypatch, capsys):
    monkeypatch.setenv("NODENS_STALE_AFTR", "5s")
    assert main(["check", write("")]) == 2
    assert "did you mean 'NODENS_STALE_AFTER'?" in capsys.readouterr().err


def test_print_shows_what_is_in_force_and_where_from(write, capsys):
    path = write("# comment\nttl: 9\n")
    assert main(["check", path, "--print"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"# {path}:2" in next(line for line in lines if line.startswith(("ttl: 9s", "ttl: 9 ")))


def test_options_lists_every_option(capsys):
    assert main(["check", "--options"]) == 0
    assert "NODENS_TCP__IDLE_TIMEOUT; changed by reload or restart" in capsys.readouterr().out


def test_without_a_file_the_defaults_are_fine(capsys, monkeypatch):
    monkeypatch.setattr("agent.config.loader.DEFAULT_FILE", "/nowhere/nodens.yaml")
    assert main(["check"]) == 0
    assert capsys.readouterr().out == "OK: no file, defaults\n"

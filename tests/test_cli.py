from __future__ import annotations

import subprocess
import sys
import types

import pytest

from agent import __version__, cli
from agent.cli import main
from agent.errors import ConfigError, SnapshotError


@pytest.fixture
def app(monkeypatch):
    """Stands in for the composition root; keeps what it was given."""
    module = types.ModuleType("agent.app")
    module.configs = []
    module.outcome = 0

    def serve(config):
        module.configs.append(config)
        if isinstance(module.outcome, BaseException):
            raise module.outcome
        return module.outcome

    module.serve = serve
    monkeypatch.setitem(sys.modules, "agent.app", module)
    return module


def fails(words) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code


def test_version_and_help_exit_0(capsys):
    assert fails(["--version"]) == 0
    assert capsys.readouterr().out == f"nodens {__version__}\n"
    assert fails(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in cli.COMMANDS)
    assert cli.READ_SOURCE not in out


@pytest.mark.parametrize("command", ["serve", "check", "status"])
def test_the_help_of_each_command_teaches_by_example(command, capsys):
    assert fails([command, "--help"]) == 0
    assert f"examples:\n  nodens {command}" in capsys.readouterr().out


def test_no_command_shows_the_help_and_is_a_usage_error(capsys):
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["serv"], ["serve", "--frob"], ["check", "--conf", "x"], ["serve", "extra"]])
def test_wrong_usage_exits_2_with_one_message_and_where_to_read_on(words, capsys):
    assert fails(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("nodens: ")
    assert "--help`" in err


def test_serve_hands_the_configuration_over(app):
    words = (
        "serve --source file:/c.json --zone a.b --zone c.d --listen 127.0.0.1:5300 --listen [::1]:5300 --state-dir /s"
    )
    app.outcome = 1
    assert (
        main([*words.split(), "--admin", "off", "--log-format", "json", "--set", "ttl=9", "--set", "tcp.max_queries=5"])
        == 1
    )
    (config,) = app.configs
    assert (config.source.kind, config.source.path, config.zones) == ("file", "/c.json", ("a.b", "c.d"))
    assert [str(address) for address in config.listen] == ["127.0.0.1:5300", "[::1]:5300"]
    assert (config.state_dir, config.admin, config.log_format, config.ttl_s) == ("/s", None, "json", 9)
    assert config.tcp.max_queries == 5


def test_arguments_go_before_variables_before_the_file(app, tmp_path, monkeypatch):
    path = tmp_path / "n.yaml"
    path.write_text("ttl: 1\nlog_level: debug\npods: insecure\n")
    monkeypatch.setenv("NODENS_TTL", "2")
    monkeypatch.setenv("NODENS_LOG_LEVEL", "error")
    assert main(["serve", "--config", str(path), "--log-level", "warning"]) == 0
    (config,) = app.configs
    assert (config.ttl_s, config.log_level, config.pods) == (2, "warning", "insecure")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "/nowhere/x.yaml"], "/nowhere/x.yaml: No such file"),
        (["--set", "ttl"], "--set ttl: no value"),
        (["--set", "tlt=5"], "did you mean 'ttl'?"),
        (["--listen", "localhost:53"], "--listen: listen must be ADDR:PORT"),
        (["--source", "kubernets"], "--source: source must be kubernetes, file:PATH or auto"),
    ],
)
def test_what_is_wrong_with_the_configuration_is_said_and_exits_2(words, message, app, capsys):
    assert main(["serve", *words]) == 2
    assert message in capsys.readouterr().err
    assert app.configs == []


@pytest.mark.parametrize(
    ("error", "code"), [(SnapshotError("disk", hint="Mend it"), 1), (ConfigError("bad"), 2), (KeyboardInterrupt(), 1)]
)
def test_errors_become_exit_codes_and_no_traceback(error, code, app, capsys):
    app.outcome = error
    assert main(["serve"]) == code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    if isinstance(error, SnapshotError):
        assert err == "nodens: disk. Mend it\n"


def test_each_command_imports_its_own_module_alone():
    script = (
        "import sys, agent.cli as c\n"
        "try: c.main(['check', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted(m for m in sys.modules if m.startswith('agent.commands.')), 'http.client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['agent.commands.arguments', 'agent.commands.check'] False"


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "agent", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"nodens {__version__}\n"


def test_a_reader_that_has_enough_is_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-c", "import agent.cli as c, sys; sys.exit(c.main(['check', '--options'] * 1))"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.wait(20) == 1
    assert process.stderr.read() == b""
    process.stderr.close()


def test_the_hidden_reader_gets_the_rest_of_the_line(monkeypatch):
    reader = types.ModuleType("agent.sources.reader")
    reader.main = len
    monkeypatch.setitem(sys.modules, "agent.sources.reader", reader)
    monkeypatch.setattr("agent.sources.reader", reader, raising=False)
    assert main(["_read-source", "a", "b", "c"]) == 3

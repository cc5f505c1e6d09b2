from __future__ import annotations

import re
import subprocess
import sys

import pytest

from agent.config import Config, SocketAddress, again, load, table
from agent.config.loader import inspect
from agent.errors import ConfigError

NOWHERE = {"NODENS_CONFIG": ""}


@pytest.fixture
def write(tmp_path):
    path = tmp_path / "nodens.yaml"

    def write_text(text: str) -> str:
        path.write_text(text)
        return str(path)

    return write_text


def problems(options=None, environ=None, path=None):
    return inspect(options or {}, environ or {}, path).problems


def test_defaults_are_complete_without_anything_given():
    config = load({}, {"NODE_NAME": "node-7"}, None)
    assert config.zones == ("cluster.local",)
    assert config.ttl_s == 5
    assert config.admin == SocketAddress("127.0.0.1", 9353)
    assert config.identity == "node-7"
    assert config.tcp.idle_timeout_s == 10
    assert config.source.kind == "auto"


def test_identity_is_the_option_then_the_node_then_the_host(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "host-1")
    assert load({}, {}, None).identity == "host-1"
    assert load({}, {"NODE_NAME": "n", "NODENS_IDENTITY": "mine"}, None).identity == "mine"


def test_every_default_is_a_value_its_own_reader_takes():
    for slot in table().values():
        default = slot.default
        if isinstance(default, tuple) and not hasattr(default, "_fields"):
            default = [str(item) for item in default]
        elif default is not None and not isinstance(default, (bool, int, float, str)):
            default = str(default)
        assert slot.option.read(default) == slot.default, slot.key


def test_every_option_is_in_the_file_as_in_the_environment_as_on_the_command_line(write):
    path = write("tcp:\n  idle_timeout: 7s\n")
    assert load({}, {}, path).tcp.idle_timeout_s == 7
    assert load({}, {"NODENS_TCP__IDLE_TIMEOUT": "8s"}, path).tcp.idle_timeout_s == 8
    assert load({"tcp.idle_timeout": "9s"}, {"NODENS_TCP__IDLE_TIMEOUT": "8s"}, path).tcp.idle_timeout_s == 9


def test_origins_name_where_each_value_comes_from(write):
    path = write("ttl: 9\nlog_level: debug\nchaos:\n  version: refuse\n")
    loaded = inspect({"log_level": "error"}, {"NODENS_PODS": "verified"}, path)
    assert loaded.origins["ttl"] == f"{path}:1"
    assert loaded.origins["log_level"] == "--log-level"
    assert loaded.origins["pods"] == "NODENS_PODS"
    assert loaded.origins["chaos.version"] == f"{path}:4"
    assert loaded.origins["zones"] == "default"


def test_all_problems_are_told_at_once_with_line_and_nearest_word(write):
    path = write("zone: [a.b]\nttl: 5000\ntcp:\n  idel_timeout: 5s\nmax_connections: 3\nupstream: one.one\n")
    found = problems({"log_level": "loud"}, {"NODENS_TLL": "5"}, path)
    assert found == [
        f"{path}:1: no option is called 'zone', did you mean 'zones'?",
        f"{path}:2: ttl must be from 0s to 1h, not 5000",
        f"{path}:4: no option is called 'tcp.idel_timeout', did you mean 'tcp.idle_timeout'?",
        f"{path}:5: no option is called 'max_connections', did you mean 'tcp.max_connections'?",
        f"{path}:6: upstream must be ADDR, ADDR:PORT, tcp://ADDR or tls://ADDR#NAME (addresses alone), not 'one.one'",
        "NODENS_TLL: no option has this variable, did you mean 'NODENS_TTL'?",
        "--log-level: log_level must be debug or info or warning or error, not 'loud'",
    ]
    with pytest.raises(ConfigError) as error:
        load({"log_level": "loud"}, {"NODENS_TLL": "5"}, path)
    assert all(line in str(error.value) for line in found)


def test_a_group_written_as_a_value_lists_what_is_in_it(write):
    (problem,) = problems(path=write("chaos: refuse\n"))
    assert "it is a group: chaos.version, chaos.identity, chaos.status" in problem


def test_an_option_written_as_a_group_is_named(write):
    (problem,) = problems(path=write("ttl:\n  seconds: 5\n"))
    assert "no option is called 'ttl.seconds'" in problem


def test_words_that_yaml_1_1_turns_into_flags_stay_words(write):
    config = load({}, {}, write("admin: off\nallow_action: drop\ncookies: on\nendpoint_pod_names: yes\n"))
    assert config.admin is None
    assert config.cookies is True
    assert config.endpoint_pod_names is True


def test_sexagesimal_numbers_stay_text(write):
    (problem,) = problems(path=write("ttl: 1:30\n"))
    assert "'1:30'" in problem


def test_empty_files_and_empty_groups_are_fine_empty_options_are_not(write):
    assert load({}, {}, write("")).ttl_s == 5
    assert load({}, {}, write("# nothing\n")).ttl_s == 5
    assert load({}, {}, write("tcp:\n")).ttl_s == 5
    (problem,) = problems(path=write("ttl:\n"))
    assert "ttl has no value" in problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ttl: 5\nttl: 6\n", "line 1"),
        ("- a\n", "not a mapping"),
        ("a: [\n", ":2: "),
        ("a: b\n---\nc: d\n", "another document"),
        ("? [a]\n: b\n", "plain word"),
        ("x: &a\n  <<: *a\n", "plain word|unhashable|found"),
        ("zones: [[a]]\n", "plain values only"),
        ("zones: !!python/object:os.system [a]\n", "could not determine a constructor"),
        ("a:\n b:\n  c:\n   d:\n    e: 1\n", "nested too deep"),
        ("\ta: 1\n", "cannot start any token"),
        ("a: \x01\n", "special characters"),
    ],
)
def test_what_is_no_plain_mapping_is_a_problem_with_its_place(write, text, words):
    found = problems(path=write(text))
    assert len(found) == 1
    assert re.search(words, found[0]), found


def test_a_named_file_must_exist_and_be_a_file_of_bounded_size(tmp_path):
    assert "No such file" in problems(path=str(tmp_path / "none.yaml"))[0]
    assert "Is a directory" in problems(path=str(tmp_path))[0]
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * (1 << 21))
    assert "larger than" in problems(path=str(big))[0]
    assert "No such file" in problems(environ={"NODENS_CONFIG": str(tmp_path / "none.yaml")})[0]
    assert "not a regular file" in problems(path="/dev/null")[0]


def test_variables_of_a_service_called_nodens_are_no_options():
    links = {
        "NODENS_SERVICE_HOST": "10.0.0.1",
        "NODENS_SERVICE_PORT": "53",
        "NODENS_SERVICE_PORT_DNS_TCP": "53",
        "NODENS_PORT": "tcp://10.0.0.1:53",
        "NODENS_PORT_53_TCP": "tcp://10.0.0.1:53",
        "NODENS_PORT_53_TCP_ADDR": "10.0.0.1",
        "NODENS_PORT_53_UDP_PROTO": "udp",
        "NODENS_METRICS_SERVICE_HOST": "10.0.0.2",
        "NODENS_METRICS_PORT_9353_TCP_PORT": "9353",
        "NODENS_NO_EXT": "1",
    }
    assert problems(environ=links) == []
    assert "NODENS_PORTS" in problems(environ={"NODENS_PORTS": "5"})[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_stale": "30s"}, "max_stale is shorter than stale_after"),
        ({"noendpoints": "true", "pods": "verified"}, "pods: verified needs"),
        ({"zones": ["a.b", "c.a.b"]}, "c.a.b lies inside a.b"),
        ({"zones": ["10.in-addr.arpa"]}, "reverse zone"),
        ({"fallthrough": ["x.y"]}, "x.y is no own zone"),
        ({"listen": ["127.0.0.1:9353"]}, "listen address as well"),
    ],
)
def test_contradictions_are_found(options, words):
    (problem,) = problems(options)
    assert words in problem


def test_a_reload_reads_the_same_places_again(write):
    path = write("ttl: 7\n")
    config = load({"log_level": "error"}, {}, path)
    assert again(config, {}) == config
    write("ttl: 8\n")
    new = again(config, {"NODENS_PODS": "insecure"})
    assert (new.ttl_s, new.log_level, new.pods) == (8, "error", "insecure")


def test_yaml_is_not_imported_without_a_file():
    script = (
        "import sys; from agent.config import load; load({}, {}, None); assert not {'yaml', 'difflib'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_table_names_each_option_and_variable_once():
    variables = [slot.variable for slot in table().values()]
    assert len(set(variables)) == len(variables)
    for slot in table().values():
        assert slot.of(Config()) == slot.default
        assert slot.option.help.strip(".") == slot.option.help, "help is a phrase without a full stop"


def test_with_an_allow_list_the_listen_addresses_may_still_ask():
    config = load({"allow": "10.0.0.0/8", "listen": ["169.254.20.10", "[fe80::1%lo]:53"]}, {}, None)
    assert [str(network) for network in config.askers] == ["10.0.0.0/8", "169.254.20.10/32", "fe80::1/128"]
    assert load({}, {}, None).askers == ()


def test_ns_addresses_are_the_listen_addresses_but_wildcards():
    config = load({"listen": ["169.254.20.10", "0.0.0.0", "[::]:53", "169.254.20.10:5353"]}, {}, None)
    assert config.published == (bytes((169, 254, 20, 10)),)
    assert load({"ns_addresses": "10.96.0.10,fd00::a"}, {}, None).published == (
        bytes((10, 96, 0, 10)),
        bytes.fromhex("fd00" + "0" * 27 + "a"),
    )


def test_upstreams_are_a_list_a_resolv_conf_or_none():
    def read(written):
        return load({"upstream": written}, {}, None).upstream

    assert str(load({}, {}, None).upstream) == "/etc/resolv.conf"
    assert [str(target) for target in read(["10.0.0.1", "tls://10.0.0.2#dns.example"]).targets] == [
        "10.0.0.1:53",
        "tls://10.0.0.2:853#dns.example",
    ]
    assert read("10.0.0.1,[fd00::1]:5353").targets[1].port == 5353
    assert read("none") == read([]) == read(["none"])
    assert str(read("none")) == "none"
    for wrong in ("none,10.0.0.1", "10.0.0.1,10.0.0.1", "0.0.0.0", 7):
        with pytest.raises(ConfigError):
            read(wrong)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"upstream": "127.0.0.1"}, "would ask itself"),
        ({"stub_domains": "corp.example=127.0.0.1:53"}, "would ask itself"),
        ({"stub_domains": "svc.cluster.local=10.0.0.1"}, "lies in an own zone"),
        ({"stub_domains": "10.0.0.1"}, "must be ZONE=ADDR"),
        ({"cache.stale": "timeout", "cache.stale_wait": "9s"}, "cache.stale_wait"),
    ],
)
def test_ways_out_that_can_not_be_meant_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        load(options, {}, None)

from __future__ import annotations

import msgspec
import yaml

from agent.config import Config, load, table
from agent.config.loader import inspect
from agent.config.show import as_yaml, reference

ODD = {
    "source": "file:/srv/a b:c#d.yaml",
    "admin": "off",
    "identity": "on",
    "labels": "app in (a,b), !x",
    "listen": ["[::1]:5353", "127.0.0.1:0"],
    "max_stale": "1h30m",
    "lameduck": 0.5,
    "file.max_bytes": "7MiB",
    "allow": "10.0.0.0/8,fd00::/8",
    "kubeconfig": "C:\\no \"such\" 'file'",
    "namespaces": ["a", "true"],
}


def without_given(config: Config) -> list[object]:
    return [slot.of(config) for slot in table().values()]


def test_what_is_shown_reads_back_as_the_same_configuration(tmp_path):
    for options in ({}, ODD):
        loaded = inspect(options, {"NODE_NAME": "n"}, None)
        path = tmp_path / "shown.yaml"
        path.write_text(as_yaml(loaded.config, loaded.origins))
        assert without_given(load({}, {}, str(path))) == without_given(loaded.config)


def test_each_line_says_where_its_value_comes_from():
    loaded = inspect({"zones": ["a.b"]}, {"NODENS_TTL": "7"}, None)
    lines = as_yaml(loaded.config, loaded.origins).splitlines()
    assert next(line for line in lines if line.startswith("ttl:")).split("#")[1].strip() == "NODENS_TTL"
    assert next(line for line in lines if line.startswith("zones:")).split("#")[1].strip() == "--zone"
    assert next(line for line in lines if line.startswith("pods:")).split("#")[1].strip() == "default"


def test_it_is_yaml_nested_by_the_same_words():
    loaded = inspect({}, {}, None)
    shape = yaml.safe_load(as_yaml(loaded.config, {}))
    assert shape["tcp"]["idle_timeout"] == "10s"
    assert set(shape) == {slot.path[0] for slot in table().values()}


def test_the_reference_describes_every_option():
    text = "\n".join(reference())
    for key, slot in table().items():
        assert f"{key}: " in text
        assert slot.variable in text
    assert msgspec.structs.fields(Config)

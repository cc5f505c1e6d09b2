from __future__ import annotations

import pytest

from agent.cluster.selection import EVERYTHING, Selection, parse_selector
from agent.errors import ConfigError


@pytest.mark.parametrize(
    ("selector", "labels", "takes"),
    [
        ("", {}, True),
        ("app=web", {"app": "web"}, True),
        ("app==web", {"app": "api"}, False),
        ("app=web", {}, False),
        ("app!=web", {}, True),
        ("app!=web", {"app": "web"}, False),
        ("env in (a, b)", {"env": "b"}, True),
        ("env in (a,b)", {"env": "c"}, False),
        ("env notin (a,b)", {"env": "c"}, True),
        ("env notin (a,b)", {}, True),
        ("legacy", {"legacy": ""}, True),
        ("legacy", {}, False),
        ("!legacy", {"legacy": ""}, False),
        ("a.io/x=1, env in (a,b), !legacy", {"a.io/x": "1", "env": "a"}, True),
    ],
)
def test_selectors_mean_what_they_mean_to_kubectl(selector, labels, takes):
    assert Selection(labels=parse_selector(selector)).takes_labels(labels) is takes


@pytest.mark.parametrize("selector", ["a b", "=x", "a in b", "a=b,,", "a in (b"])
def test_a_selector_that_can_not_be_read_says_how_to_write_it(selector):
    with pytest.raises(ConfigError, match="kubectl"):
        parse_selector(selector)


def test_namespaces_are_chosen_by_name_and_label():
    selection = Selection(frozenset({"a"}), namespace_labels=parse_selector("team=x"))
    assert selection.takes_namespace("a", {"team": "x"})
    assert not selection.takes_namespace("a", {})
    assert not selection.takes_namespace("b", {"team": "x"})
    assert EVERYTHING.takes_namespace("b", {})

"""The effective configuration as YAML that can be read back, with where each value comes from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from agent.config import values
from agent.config.options import Config
from agent.config.slots import table

_PLAIN = re.compile(r"[A-Za-z/][\w./-]*")
_RESERVED = frozenset(("true", "false", "null", "yes", "no", "on", "off"))


def as_yaml(config: Config, origins: Mapping[str, str]) -> str:
    """Write every option with its value, and behind it the place that set it."""
    lines, group = [], ""
    for key, slot in table().items():
        *above, word = slot.path
        if above and above[0] != group:
            lines.append(f"{above[0]}:")
        group = above[0] if above else ""
        line = f"{'  ' if above else ''}{word}: {_value(slot.of(config))}"
        lines.append(f"{line:46} # {origins.get(key, 'default')}")
    return "\n".join(lines) + "\n"


def reference() -> Iterator[str]:
    """Describe every option: key and default, what it is, its variable and argument, whether a reload changes it."""
    from agent.config.loader import FLAGS

    for key, slot in table().items():
        where = ", ".join(filter(None, (FLAGS.get(key, ""), slot.variable)))
        change = "reload or restart" if slot.option.reload else "restart"
        yield f"{key}: {_value(slot.default)}\n    {slot.option.help}.\n    {where}; changed by {change}"


def _value(value: object) -> str:
    if value is None:
        return "off"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return values.show(value)
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return f"[{', '.join(_text(str(item)) for item in value)}]"
    return str(value) if isinstance(value, int) else _text(str(value))


def _text(text: str) -> str:
    return text if _PLAIN.fullmatch(text) and text.lower() not in _RESERVED else json.dumps(text)

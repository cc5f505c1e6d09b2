"""Habits that no linter checks: short functions, modules of one job, the field's words, no trace of a machine."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
MAX_FUNCTION_LINES = 70
MAX_MODULE_LINES = 400
VAGUE_WORDS = frozenset(
    {"manager", "managers", "helper", "helpers", "util", "utils", "utility", "utilities", "misc", "common"}
)
VAGUE_NAMES = frozenset({"data", "info", "handler2"})
# Written so that this file does not contain what it looks for.
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:[w]ork|[r]oot|[f]arm)/|/[t]mp/v/|/[h]ome/\w+/")
REGISTRY_HOSTS = re.compile(
    r"[p]ypi\.org|[p]ythonhosted\.org|[p]roxy\.golang\.org|[s]um\.golang\.org|[d]eb\.debian\.org|[r]egistry\.npmjs\.org"
)


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


AGENT = sources("agent")
EVERYTHING = [*AGENT, *sources("benchmarks"), *sources("tests")]


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def words(name: str) -> set[str]:
    """Split SnakeOr_camelName into lower-case words."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)}


def tracked_files() -> list[str]:
    listing = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listing.stdout.split("\0") if name]


@pytest.mark.parametrize("path", EVERYTHING, ids=relative)
def test_functions_fit_a_screen(path: Path) -> None:
    sizes = {f"{f.name} (line {f.lineno})": (f.end_lineno or 0) - f.lineno + 1 for f in functions(parse(path))}
    assert {name: lines for name, lines in sizes.items() if lines > MAX_FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", AGENT, ids=relative)
def test_modules_have_one_job(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_MODULE_LINES


@pytest.mark.parametrize("path", AGENT, ids=relative)
def test_modules_open_with_their_law(path: Path) -> None:
    assert ast.get_docstring(parse(path)), "the first lines say what the module is for and what it never does"


@pytest.mark.parametrize("path", AGENT, ids=relative)
def test_names_are_the_fields_words(path: Path) -> None:
    names = [path.stem, *(node.name for node in ast.walk(parse(path)) if isinstance(node, ast.ClassDef))]
    assert [name for name in names if words(name) & VAGUE_WORDS or name.lower() in VAGUE_NAMES] == []


@pytest.mark.parametrize("pattern", [MACHINE_PATHS, REGISTRY_HOSTS], ids=["machine paths", "registry hosts"])
def test_tracked_files_name_no_machine_and_no_registry(pattern: re.Pattern[str]) -> None:
    found = []
    for name in tracked_files():
        path = ROOT / name
        if not path.is_file():
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        found += [
            f"{name}:{number}: {line.strip()[:100]}" for number, line in enumerate(lines, 1) if pattern.search(line)
        ]
    assert found == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ZoneManager", {"zone", "manager"}),
        ("wire_utils", {"wire", "utils"}),
        ("DNSInfo", {"dns", "info"}),
    ],
)
def test_words_are_split_at_case_and_underscore(name: str, expected: set[str]) -> None:
    assert words(name) == expected

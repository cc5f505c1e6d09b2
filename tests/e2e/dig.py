"""The real dig, and what it printed."""

from __future__ import annotations

import re
import subprocess
from typing import NamedTuple

_HEADER = re.compile(r"opcode: (\w+), status: (\w+), id: \d+")
_FLAGS = re.compile(r"^;; flags:([^;]*);", re.MULTILINE)
_SECTION = re.compile(r"^;; (ANSWER|AUTHORITY|ADDITIONAL) SECTION:\n((?:[^;\n].*\n)+)", re.MULTILINE)
_QUESTION = re.compile(r"^;(\S+)\s+(IN|CH)\s+(\S+)$", re.MULTILINE)


class Record(NamedTuple):
    """One record as dig shows it."""

    name: str
    ttl_s: int
    type: str
    rdata: str


class Said(NamedTuple):
    """What dig printed, taken apart; `text` is all of it."""

    text: str
    status: str
    flags: frozenset[str]
    question: tuple[str, str, str]
    answer: list[Record]
    authority: list[Record]
    additional: list[Record]

    @property
    def rdata(self) -> set[str]:
        """Rdata of the answer."""
        return {record.rdata for record in self.answer}

    @property
    def extended_error(self) -> str:
        """The line of the extended DNS error, such as `3 (Stale Answer): (age=7s generation=1)`."""
        found = re.search(r"^; EDE: (.*)$", self.text, re.MULTILINE)
        return found[1] if found else ""

    @property
    def kind(self) -> str:
        """NOERROR, NODATA, NXDOMAIN, ..."""
        return "NODATA" if self.status == "NOERROR" and not self.answer else self.status


class Dig:
    """Asks one server."""

    def __init__(self, program: str, port: int) -> None:
        self._program = program
        self._port = port

    def text(self, *words: str) -> str:
        """Run dig and return what it printed."""
        command = [self._program, "-r", "@127.0.0.1", "-p", str(self._port), "+tries=2", "+time=2", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode in {0, 9}, done.stdout + done.stderr
        return done.stdout

    def __call__(self, *words: str) -> Said:
        """Ask; words as on dig's command line."""
        text = self.text(*words)
        header = _HEADER.search(text)
        assert header, text
        flags, question = _FLAGS.search(text), _QUESTION.search(text)
        sections = {found[1]: _records(found[2]) for found in _SECTION.finditer(text)}
        return Said(
            text,
            header[2],
            frozenset(flags[1].split() if flags else ()),
            (question[1], question[2], question[3]) if question else ("", "", ""),
            sections.get("ANSWER", []),
            sections.get("AUTHORITY", []),
            sections.get("ADDITIONAL", []),
        )


def _records(lines: str) -> list[Record]:
    found = []
    for line in lines.splitlines():
        name, ttl_s, _, type_, rdata = line.split(None, 4)
        found.append(Record(name.rstrip("."), int(ttl_s), type_, rdata))
    return found

"""Two answers to one question: where they differ, by kind; and the list of differences that are wanted.

Law: the list is the documentation (docs/differences-from-coredns.md): a difference it doesn't name is a failure, a row
that no difference needed is printed.
"""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

WANTED = Path(__file__).parents[2] / "docs" / "differences-from-coredns.md"


class Difference(NamedTuple):
    """One difference: of which name kind and type, in what, and how each side put it."""

    kind: str
    type: str
    facet: str
    coredns: str
    nodens: str


class Row(NamedTuple):
    """One row of the list: kinds and types are patterns separated by commas."""

    kinds: tuple[str, ...]
    types: tuple[str, ...]
    facet: str
    coredns: str
    nodens: str
    reason: str

    def covers(self, difference: Difference) -> bool:
        return (
            any(fnmatch.fnmatchcase(difference.kind, pattern) for pattern in self.kinds)
            and any(fnmatch.fnmatchcase(difference.type, pattern) for pattern in self.types)
            and self.facet in {"*", difference.facet}
            and fnmatch.fnmatchcase(difference.coredns, self.coredns)
            and fnmatch.fnmatchcase(difference.nodens, self.nodens)
        )


def wanted(*options: str, path: Path = WANTED) -> list[Row]:
    """Read the tables of the list: | name | type | differs in | CoreDNS | nodens | why |.

    Tables below a heading `With X` count only if option X is given.
    """
    rows = []
    counts = True
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            counts = not line.startswith("## With ") or line[8:].replace("`", "") in options
        if not counts:
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if not line.startswith("|") or len(cells) != 6 or cells[2].replace("\\", "") not in FACETS:
            continue
        plain = [cell.replace("`", "").replace("\\|", "|").replace("\\*", "*") for cell in cells]
        kinds, types = (tuple(part.strip() for part in cell.split(",")) for cell in plain[:2])
        rows.append(Row(kinds, types, *plain[2:]))
    return rows


def outcome(message: dns.message.Message) -> str:
    """Say in a few words what was answered: NODATA, NXDOMAIN, A, CNAME+A, CNAME NXDOMAIN."""
    code = dns.rcode.to_text(message.rcode())
    types = list(dict.fromkeys(dns.rdatatype.to_text(rrset.rdtype) for rrset in message.answer))
    if not types:
        return "NODATA" if code == "NOERROR" else code
    text = "+".join(types)
    return text if code == "NOERROR" else f"{text} {code}"


def _records(section: Iterable[dns.rrset.RRset], *, ttl: bool) -> set[tuple[str, ...]]:
    return {
        (
            str(rrset.name).lower(),
            dns.rdatatype.to_text(rrset.rdtype),
            str(rrset.ttl) if ttl else "",
            rdata.to_text().lower(),
        )
        for rrset in section
        for rdata in rrset
    }


def _without_serial(records: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Leave the SOA's serial out: CoreDNS's is a time, ours the generation."""
    return {(*r[:3], re.sub(r"^(\S+ \S+) \d+ ", r"\1 serial ", r[3])) if r[1] == "SOA" else r for r in records}


def _owners(section: Iterable[dns.rrset.RRset]) -> set[str]:
    return {str(rrset.name) for rrset in section}


FACETS = ("*", "outcome", "answer", "weight", "ttl", "owner case", "authority", "additional", "flags", "edns", "question", "truncation")  # fmt: skip  # noqa: E501


def _compare_sets(facet: str, one: set[tuple[str, ...]], two: set[tuple[str, ...]]) -> tuple[str, str, str] | None:
    if one == two:
        return None

    def said(more: set[tuple[str, ...]]) -> str:
        return f"{'+'.join(sorted({record[1] for record in more}))} more" if more else "less"

    return facet, said(one - two), said(two - one)


def _answers(one: dns.message.Message, two: dns.message.Message) -> tuple[str, str, str] | None:
    first, second = (_without_serial(_records(message.answer, ttl=False)) for message in (one, two))
    if first != second:
        bare = [
            {(*r[:3], re.sub(r"^(\d+) \d+ ", r"\1 weight ", r[3])) if r[1] == "SRV" else r for r in s}
            for s in (first, second)
        ]
        if bare[0] == bare[1]:
            return "weight", *(",".join(sorted({r[3].split()[1] for r in s if r[1] == "SRV"})) for s in (first, second))
        return _compare_sets("answer", first, second)
    timed = [_without_serial(_records(message.answer, ttl=True)) for message in (one, two)]
    if timed[0] != timed[1]:
        return "ttl", *(",".join(sorted({r[2] for r in s})) for s in timed)
    if _owners(one.answer) != _owners(two.answer):
        return (
            "owner case",
            "as asked" if one.answer and _owners(one.answer[:1]) == {str(one.question[0].name)} else "other",
            "other",
        )
    return None


def _headers(one: dns.message.Message, two: dns.message.Message) -> Iterable[tuple[str, str, str]]:
    for flag in ("AA", "RA", "RD", "AD", "CD"):
        bit = dns.flags.Flag[flag]
        first, second = bool(one.flags & bit), bool(two.flags & bit)
        if first != second:
            yield "flags", f"{flag} {int(first)}", f"{flag} {int(second)}"
    if (one.edns < 0) != (two.edns < 0):
        yield "edns", "OPT" if one.edns >= 0 else "no OPT", "OPT" if two.edns >= 0 else "no OPT"
    if [str(question) for question in one.question] != [str(question) for question in two.question]:
        yield "question", *(" ".join(map(str, message.question)) for message in (one, two))


def compare(kind: str, type_: str, coredns: bytes, nodens: bytes) -> list[Difference]:
    """Return where two answers differ. Truncated ones are compared by header only; ask again over TCP."""
    found: list[tuple[str, str, str]] = []
    try:
        one, two = dns.message.from_wire(coredns), dns.message.from_wire(nodens)
    except dns.exception.DNSException:
        said = [_readable(packet) for packet in (coredns, nodens)]
        return [Difference(kind, type_, "outcome", *said)] if said[0] != said[1] else []
    found.extend(_headers(one, two))
    cut = [bool(message.flags & dns.flags.TC) for message in (one, two)]
    if cut[0] != cut[1]:
        found.append(("truncation", "TC" if cut[0] else "whole", "TC" if cut[1] else "whole"))
    elif outcome(one) != outcome(two) and not cut[0]:
        found.append(("outcome", outcome(one), outcome(two)))
    elif not cut[0]:
        found.extend(filter(None, (_answers(one, two),)))
        authority = [_without_serial(_records(message.authority, ttl=True)) for message in (one, two)]
        additional = [_records(message.additional, ttl=True) for message in (one, two)]
        found.extend(filter(None, (_compare_sets("authority", *authority), _compare_sets("additional", *additional))))
    return [Difference(kind, type_, *each) for each in found]


def _readable(packet: bytes) -> str:
    if not packet:
        return "no answer"
    try:
        return outcome(dns.message.from_wire(packet))
    except dns.exception.DNSException as error:
        return f"broken ({type(error).__name__})"


class Tally:
    """Differences counted by kind, with an example each; wanted ones apart."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.asked = 0
        self.unlisted: Counter[Difference] = Counter()
        self.listed: Counter[Row] = Counter()
        self.examples: dict[Difference, str] = {}

    def row_for(self, difference: Difference) -> Row | None:
        """Return the row that wants a difference, if there is one."""
        return next((row for row in self.rows if row.covers(difference)), None)

    def add(self, differences: Iterable[Difference], example: str) -> None:
        for difference in differences:
            row = self.row_for(difference)
            if row is not None:
                self.listed[row] += 1
            else:
                self.unlisted[difference] += 1
                self.examples.setdefault(difference, example)

    def report(self) -> str:
        """Say what was asked and what differed, by kind."""
        wanted_ = sum(self.listed.values())
        lines = [f"{self.asked} questions, {sum(self.unlisted.values())} unlisted differences, {wanted_} wanted ones"]
        for difference, count in self.unlisted.most_common():
            lines.append(f"  UNLISTED {count} x {' | '.join(difference)}   e.g. {self.examples[difference]}")
        for row, count in self.listed.most_common():
            lines.append(f"  wanted {count} x {','.join(row.kinds)} | {','.join(row.types)} | {' | '.join(row[2:5])}")
        return "\n".join(lines)

"""What one test has asked and seen: names, answers, wrong ones, how soon the first right one came, what was visible.

Law: whoever judges an answer tells the witness of the running test (`NOW`), so that no test keeps books of its own;
the table at the end of `make faults` and its JSON record are these books (FAULTS_RECORD=PATH).
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RECORD = os.environ.get("FAULTS_RECORD", "")
DENIALS = frozenset({"NXDOMAIN", "NODATA"})


@dataclass
class Witness:
    """The books of one test.

    Attributes:
        names: live names that were asked.
        answers: answers that were judged.
        wrong: answers with other data than is right; denials are no part of them.
        denied: NXDOMAIN or NODATA for a name that has data.
        unanswered: questions asked of a running agent that got nothing in three tries, or SERVFAIL.
        first_right_s: from the start of the process to the first right answer, the slowest of the test's starts.
        visible: what an operator could see.
    """

    names: set[str] = field(default_factory=set)
    answers: int = 0
    wrong: int = 0
    denied: int = 0
    unanswered: int = 0
    first_right_s: float = 0.0
    visible: list[str] = field(default_factory=list)

    def judge(self, name: str, answered: frozenset[str], right: frozenset[str]) -> bool:
        """Enter one answer for a name with data: rdata, or one word such as NXDOMAIN or `no answer`."""
        self.names.add(name)
        self.answers += 1
        if answered == right:
            return True
        if not answered or answered & DENIALS:
            self.denied += 1
        elif answered & {"no answer", "SERVFAIL"}:
            self.unanswered += 1
        else:
            self.wrong += 1
        return False

    def started(self, seconds: float) -> None:
        """Enter how long a start took until the first right answer."""
        self.first_right_s = max(self.first_right_s, seconds)

    def saw(self, *what: str) -> None:
        """Enter what an operator could see, asserted by the caller."""
        self.visible += [each for each in what if each not in self.visible]


NOW = Witness()


def begin() -> None:
    """Open new books for the next test."""
    NOW.__init__()  # type: ignore[misc]  # the one object that everybody holds


def entry(name: str) -> dict[str, object]:
    """Close the books: one row of the record."""
    held = {**asdict(NOW), "names": len(NOW.names), "first_right_s": round(NOW.first_right_s, 2)}
    return {"fault": in_words(name), **held}


def in_words(nodeid: str) -> str:
    """Name a fault by the test that is named after it: `…::test_disk_full[native]` → `disk full: native`."""
    name, _, variant = nodeid.rpartition("::")[2].removeprefix("test_").partition("[")
    words = name.replace("_", " ")
    return f"{words}: {variant.removesuffix(']')}" if variant else words


def table(rows: Iterable[dict[str, object]]) -> list[str]:
    """Lay the record out for a terminal."""
    head = ("first right", "names", "answers", "wrong", "NXDOMAIN", "silent")
    lines = [" ".join(f"{word:>11}" for word in head) + "  fault; what was visible"]
    for row in rows:
        first = f"{row['first_right_s']:.2f} s" if row["first_right_s"] else "-"
        figures = (first, *(row[key] for key in ("names", "answers", "wrong", "denied", "unanswered")))
        seen = "; ".join(map(str, row["visible"]))  # type: ignore[call-overload]
        lines.append(" ".join(f"{each!s:>11}" for each in figures) + f"  {row['fault']} ({row['outcome']})")
        if seen:
            lines.append(" " * 73 + seen)
    return lines


def write(rows: list[dict[str, object]], took_s: float) -> Path:
    """Write the record."""
    path = Path(RECORD)
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
    total = {
        key: sum(int(str(row[key])) for row in rows) for key in ("names", "answers", "wrong", "denied", "unanswered")
    }
    record = {"machine": machine, "took_s": round(took_s), "faults": len(rows), "total": total, "rows": rows}
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def markdown(record: dict[str, Any]) -> list[str]:
    """Lay a record out for a document."""
    lines = [
        "| Fault | First right answer after the start | Names | Answers | Wrong | NXDOMAIN | Visible |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        first = f"{row['first_right_s']:.2f} s" if row["first_right_s"] else "no start"
        figures = " | ".join(f"{row[key]:,}" for key in ("names", "answers", "wrong", "denied"))
        lines.append(f"| {row['fault']} | {first} | {figures} | {'; '.join(row['visible'])} |")
    return lines


if __name__ == "__main__":
    print(*markdown(json.loads(Path(sys.argv[1]).read_text())), sep="\n")

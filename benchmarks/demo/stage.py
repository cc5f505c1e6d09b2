"""What is shown: lines at a pace that can be read, the real dig, and a transcript of it all.

Law: plain text when nobody watches (a pipe, NO_COLOR); a speed of 0 waits for nothing. Nothing is shown that did not
come out of a program just now.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from typing import TextIO

from tests.control_plane.dns_client import rdata, status, try_ask

READING_CHARS_PER_S = 55.0
LONGEST_PAUSE_S = 2.5
WIDTH = 27
"""Of the column with who was asked."""
_STATUS = re.compile(r"status: (\w+)")
_COLOURS = {"dim": "2", "bold": "1", "good": "32", "warn": "33", "bad": "31"}


class Stage:
    """The terminal.

    Args:
        speed: 1 is for people, 2 twice as fast, 0 without a pause.
        out: where it is shown.
    """

    def __init__(self, speed: float, out: TextIO = sys.stdout) -> None:
        self.transcript: list[str] = []
        self._speed = speed
        self._out = out
        self._coloured = out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._dig = shutil.which("dig")

    def show(self, text: str = "", style: str = "", *, pause: bool = True) -> None:
        """Show one line."""
        self.transcript.append(text)
        code = _COLOURS.get(style)
        print(f"\x1b[{code}m{text}\x1b[0m" if code and self._coloured else text, file=self._out, flush=True)
        if pause and self._speed > 0:
            time.sleep(min(LONGEST_PAUSE_S, len(text) / READING_CHARS_PER_S) / self._speed)

    def act(self, title: str) -> None:
        """Begin a new act."""
        self.show(pause=False)
        self.show(f"── {title} " + "─" * max(4, 92 - len(title)), "bold")

    def say(self, text: str) -> None:
        """Tell the story."""
        self.show(text)

    def dig(self, who: str, port: int, name: str) -> None:
        """Ask a server by dig, and show what matters of the answer."""
        lines = self._ask(port, name)
        good = lines[0].startswith("NOERROR")
        self.show(f"{who:>{WIDTH}} $ dig @127.0.0.1 -p {port} {name}", "dim", pause=False)
        for line in lines:
            style = "warn" if "EDE" in line and good else "good" if good else "bad"
            self.show(f"{'':>{WIDTH}}   {line}", style)

    def run(self, shown: str, command: list[str], *, lines: int) -> int:
        """Run a command and show its first lines; gives its exit code."""
        self.show(f"{'':>{WIDTH}} $ {shown}", "dim", pause=False)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        for line in (done.stdout + done.stderr).splitlines()[:lines]:
            self.show(f"{'':>{WIDTH}}   {line}", "warn" if done.returncode else "")
        return done.returncode

    def _ask(self, port: int, name: str) -> list[str]:
        if self._dig is None:
            reply = try_ask(port, name, timeout_s=2)
            return [" ".join([status(reply), *sorted(rdata(reply))])]
        words = [self._dig, "@127.0.0.1", "-p", str(port), "+time=2", "+tries=1", name, "A"]
        text = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20).stdout
        return picked(text)


def picked(text: str) -> list[str]:
    """Pick out of what dig printed: status and answers in one line, then extended errors."""
    found = _STATUS.search(text)
    if found is None:
        return ["no answer (timed out)"]
    _, _, section = text.partition(";; ANSWER SECTION:\n")
    answers = [" ".join(line.split()) for line in section.partition("\n\n")[0].splitlines()]
    errors = [line.removeprefix("; ") for line in text.splitlines() if line.startswith("; EDE")]
    return ["  ".join([found[1], *answers]), *errors]

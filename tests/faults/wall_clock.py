"""A wall clock that can be set, for one process and its children, by a small C library in their place (clock.c)."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("clock.c")
DAY_S = 86_400


class WallClock:
    """Built below `root`; skips where there is no C compiler."""

    def __init__(self, root: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("clang") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("no C compiler to build another wall clock with")
        library, self._file = root / "clock.so", root / "shift"
        flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run([compiler, *flags, "-o", library, SOURCE, "-ldl"], check=True)
        self._file.write_bytes(bytes(8))
        self.environ = {"LD_PRELOAD": str(library), "WALL_CLOCK_SHIFT": str(self._file)}

    def set(self, shift_s: int) -> None:
        """Set the clock of those who run under it to so many seconds from the true time, at once."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", shift_s))

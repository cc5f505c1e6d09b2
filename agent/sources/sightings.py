"""Looking at files without opening them: which there are, and whether they changed.

Law: a look never opens a file, never goes into a subfolder and never waits for content; every trouble is a SourceError
that says which file, and what a person can do. It blocks (a stat may hang on a dead network mount), so it runs
outside the event loop.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from agent.errors import SourceError
from agent.sources.exchange import Mark, Marks, plain

SUFFIXES = (".json", ".yaml", ".yml")


def look(path: str, max_files: int) -> Marks:
    """Give the marks of one file, or of every `*.json`, `*.yaml`, `*.yml` of a folder in order of their names.

    Hidden names are left out, so that the `..data` links of a mounted ConfigMap don't count twice; links are followed.

    Raises:
        SourceError: missing, not readable, not a file, or a folder with no such file or too many.
    """
    place = Path(path)
    try:
        found = place.stat()
        if not stat.S_ISDIR(found.st_mode):
            require_regular(path, found.st_mode)
            return (mark("", found),)
        names = sorted(entry.name for entry in place.iterdir() if _counts(entry.name))
    except (OSError, ValueError) as error:
        raise in_words(path, error) from None
    if len(names) > max_files:
        raise SourceError(
            f"{plain(path)} holds more than {max_files} files",
            hint="Put the objects into fewer files, or raise max_files",
        )
    marks = tuple(seen for name in names if (seen := _look_at(place / name)) is not None)
    if not marks:
        raise SourceError(
            f"{plain(path)} holds no *.json, *.yaml or *.yml file",
            hint="Put the output of kubectl get services,endpointslices,namespaces -A -o json there",
        )
    return marks


def _look_at(place: Path) -> Mark | None:
    try:
        found = place.stat()
    except OSError as error:
        raise in_words(str(place), error) from None
    if stat.S_ISDIR(found.st_mode):
        return None
    require_regular(str(place), found.st_mode)
    return mark(place.name, found)


def mark(name: str, found: os.stat_result) -> Mark:
    """Make a file's mark from its stat; `name` is "" for a file that is no part of a folder."""
    return Mark(name, found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev)


def _counts(name: str) -> bool:
    return name.endswith(SUFFIXES) and not name.startswith(".")


def require_regular(path: str, mode: int) -> None:
    """Refuse what isn't a file.

    Raises:
        SourceError: a pipe, socket or device.
    """
    if not stat.S_ISREG(mode):
        raise SourceError(f"{plain(path)} is not a file or a folder", hint="A pipe, socket or device can't be followed")


def in_words(path: str, error: OSError | ValueError) -> SourceError:
    """Say what the operating system's error means and what to do."""
    name = plain(path)
    if isinstance(error, FileNotFoundError):
        return SourceError(
            f"{name} points to a file that is gone" if Path(path).is_symlink() else f"{name} is not there"
        )
    if isinstance(error, PermissionError):
        return SourceError(f"user id {os.geteuid()} may not read {name}", hint="Change its owner or mode")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return SourceError(f"{name} can't be read: {plain(reason)}")

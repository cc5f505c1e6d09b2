"""The agent's look at one document, about once a second.

Law: a look costs two stat calls while nothing has changed. A document that must not be believed is refused once for
each of its states, and the last good order stays; a document that is gone is an order taken back. A look blocks for as
long as the disk does: off the event loop, except before the first answer.
"""

from __future__ import annotations

import os
from typing import Generic, TypeVar

from agent.control.folder import NAME, Folder
from agent.errors import ControlError
from agent.snapshot.files import AbsentError

T = TypeVar("T")

SAME = ""
CHANGED = "changed"
REFUSED = "refused"


class Watch(Generic[T]):
    """Follows one document.

    Args:
        state_dir: that of the agent.
        name: of the document.
        kind: see `Folder.read`.

    Attributes:
        order: the last good one; None: none is given.
        problem: why the document that lies there now is refused; "" if it isn't.
        refused: how many documents were.
    """

    def __init__(self, state_dir: str, name: str, kind: type[T]) -> None:
        self.state_dir = state_dir
        self.name = name
        self.order: T | None = None
        self.problem = ""
        self.refused = 0
        self._kind = kind
        self._seen: tuple[object, ...] = (None, None)

    def look(self) -> str:
        """Look once: SAME, CHANGED (`order` is to be read anew) or REFUSED (`problem` says why, `order` stays)."""
        seen = self._signature()
        if seen == self._seen:
            return SAME
        self._seen = seen
        try:
            with Folder(self.state_dir) as folder:
                order = folder.read(self.name, self._kind)
        except AbsentError:
            order = None
        except ControlError as error:
            self.refused += 1
            self.problem = str(error)
            return REFUSED
        self.order, self.problem = order, ""
        return CHANGED

    def _signature(self) -> tuple[object, ...]:
        """Give what differs when the document does, or whether it may be believed."""
        folder = os.path.join(self.state_dir, NAME)
        return _stat(folder, is_folder=True), _stat(os.path.join(folder, self.name), is_folder=False)


def _stat(path: str, *, is_folder: bool) -> tuple[int, ...] | int | None:
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return error.errno or 0
    if is_folder:
        return status.st_ino, status.st_mode, status.st_uid
    return status.st_ino, status.st_size, status.st_mode, status.st_uid, status.st_mtime_ns, status.st_ctime_ns

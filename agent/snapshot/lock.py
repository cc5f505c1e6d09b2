"""One agent per state directory.

Law: the lock is the kernel's (flock), so it ends with the process however that ends; what stands in the file is only
for the message to whoever comes second.
"""

from __future__ import annotations

import fcntl
import os
import re

from agent.errors import SnapshotError
from agent.snapshot.files import FILE_MODE, failure

LOCK_NAME = "lock"
_HOLDER = re.compile(r"([0-9]{1,10}) ([\w.-]{1,253})\n", re.ASCII)


def take_lock(state_dir: str) -> int:
    """Lock a state directory for this process; gives the descriptor that holds the lock.

    Raises:
        SnapshotError: another process holds it, or the file can't be made.
    """
    path = os.path.join(state_dir, LOCK_NAME)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, FILE_MODE)
    except OSError as error:
        raise failure(path, "can't be opened", error) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()} {os.uname().nodename}\n".encode(), 0)
    except BlockingIOError:
        holder = _HOLDER.fullmatch(os.pread(fd, 300, 0).decode("ascii", "replace"))
        os.close(fd)
        raise SnapshotError(
            f"{state_dir} is in use by {f'process {holder[1]} on {holder[2]}' if holder else 'another process'}",
            hint="Stop that process, or give this one a state directory of its own",
        ) from None
    except OSError as error:
        os.close(fd)
        raise failure(path, "can't be locked", error) from None
    return fd

"""What the system knows of this process: the node it runs on, and its age.

Law: read when asked, never kept.
"""

from __future__ import annotations

import os
import socket
import time


def node_name() -> str:
    """Name the node: NODE_NAME, as manifests set it, else the host's name."""
    return os.environ.get("NODE_NAME", "") or socket.gethostname()


def age_s() -> float:
    """Seconds since the kernel started this process (proc_pid_stat(5), field 22)."""
    with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")

"""Configuration: every option once, read from arguments, environment and file.

Law: `load` gives a checked `Config` or raises ConfigError that names every problem at once; nothing half-read leaves
this room. Precedence: argument, environment, file, default.
"""

from __future__ import annotations

from agent.config.addresses import SocketAddress, SourceChoice, UnixPath
from agent.config.loader import again, load
from agent.config.options import DEFAULT_FILE, Config
from agent.config.slots import Slot, table

__all__ = ["DEFAULT_FILE", "Config", "Slot", "SocketAddress", "SourceChoice", "UnixPath", "again", "load", "table"]

"""Every error nodens raises on purpose, and nothing else.

Law: an error says what is wrong and where; `hint` says what to do about it. Edges translate foreign
exceptions into these; inside, only these are caught.
"""

from __future__ import annotations


class NodensError(Exception):
    """Base of all errors of nodens.

    Args:
        message: what is wrong, and where.
        hint: what the reader should do, as an imperative sentence; may be empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class ConfigError(NodensError):
    """The configuration can't be used (exit code 2)."""


class SourceError(NodensError):
    """What a source delivered, or how it answered, can't be used; the last good state stays."""


class SnapshotError(NodensError):
    """A snapshot or journal file can't be trusted or written."""


class ControlError(NodensError):
    """An order that a person gave can't be believed, understood or written down; the last good one stays."""


class WireError(NodensError):
    """A packet or name can't be read; `rcode` is what the sender is told (RFC 1035 section 4.1.1)."""

    def __init__(self, message: str, *, rcode: int = 1, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.rcode = rcode

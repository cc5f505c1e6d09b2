"""Order of what a source delivers (outage.md rule 5).

Law: pure. A set older than the one held is refused; only when nothing newer has been offered for long does it mean
that the control plane itself was restored from a backup, and is taken.
"""

from __future__ import annotations

RESTORED_AFTER_S = 600.0
"""How long older sets are refused before they count as a restored control plane, seconds."""

NEWER = "newer"
OLDER = "older"
RESTORED = "restored"


class Order:
    """Judges resource versions of full sets; they compare as integers (KEP-5504), anything else is taken as newer."""

    def __init__(self) -> None:
        self.refused = 0
        self._since_s: float | None = None

    def judge(self, held: str, offered: str, now_s: float) -> str:
        """Say what an offered position is to the one held: NEWER, OLDER (refuse it) or RESTORED (begin anew)."""
        if not (held.isdigit() and offered.isdigit()) or int(offered) >= int(held):
            self._since_s = None
            return NEWER
        if self._since_s is None:
            self._since_s = now_s
        if now_s - self._since_s < RESTORED_AFTER_S:
            self.refused += 1
            return OLDER
        self._since_s = None
        return RESTORED

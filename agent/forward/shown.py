"""What of the cache the data plane may answer by itself: a copy of the answers in the table that workers read.

Law: shown is only what needs nobody: an answer whose chain ends outside own zones, fresh; past its time only where that
is to be answered at once and no positive is held beside a denial. Everything else is the forwarder's.
"""

from __future__ import annotations

from agent.forward.entry import Entry
from agent.forward.question import Question
from agent.wire.codes import AD, CD, RA
from agent.wire.reply import Group
from agent.wire.timed import Life, TimedTable, encode, key_of, question_of

PREFETCH_SHARE = 0.1
"""In the last tenth of its time a name that is asked for is renewed."""
PREFETCH_LEAST_TTL_S = 10
_NOTHING = Group(0, b"")


class Shown:
    """Shows answers.

    Args:
        table: of the data plane in use.

    Attributes:
        prefetch: names are reported before they expire.
        stale_s: how long what is past its time is answered; 0: it isn't.
    """

    def __init__(self, table: TimedTable) -> None:
        self.table = table
        self.prefetch = True
        self.stale_s = 0.0

    def hold(self, question: Question, entry: Entry, now_s: float) -> None:
        """Show an answer, or show it no more if it is none to be shown."""
        key = _key(question)
        if entry.end:
            self.table.drop(key)
            return
        groups, born_s = (entry.answer, entry.authority), entry.stored_s
        if born_s < 0:
            # Older than the clock itself: it counts from now, with what is left of its time.
            groups, born_s = entry.shown(max(0, int(entry.expires_s - now_s))), now_s
        expires_s = max(born_s, entry.expires_s)
        ahead_s = entry.ttl_s * PREFETCH_SHARE if self.prefetch and entry.ttl_s >= PREFETCH_LEAST_TTL_S else 0.0
        stale_s = self.stale_s if entry.older is None else 0.0
        until_s = max(expires_s, entry.expires_s + stale_s)
        times = (born_s, max(born_s, expires_s - ahead_s), expires_s, until_s)
        life = Life(*(int(each_s * 1000) for each_s in times))
        flags = RA | (AD if entry.ad else 0) | (CD if question.cd else 0)
        sections = tuple(Group(sum(g.records for g in part), b"".join(g.body for g in part)) for part in groups)
        self.table.put(key, encode(life, entry.rcode, flags, (sections[0], sections[1], _NOTHING)))

    def drop(self, question: Question) -> None:
        """Show it no more."""
        self.table.drop(_key(question))


def asked(key: bytes) -> Question:
    """Read the question of a key that was reported."""
    return Question(*question_of(key))


def _key(question: Question) -> bytes:
    return key_of(question.name, question.qtype, do=question.do, cd=question.cd)

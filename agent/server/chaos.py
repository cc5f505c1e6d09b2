"""Class CHAOS: what dig alone can learn about a server (dns.md section 2; RFC 4892).

Law: a name that is switched off is as unknown as any other: REFUSED.
"""

from __future__ import annotations

from agent.server.options import ResponderOptions
from agent.wire.codes import ANY, CH, NOERROR, REFUSED, TXT
from agent.wire.posture import Posture
from agent.wire.reply import Answer, Group
from agent.wire.sections import text

VERSION_NAMES = (b"\x07version\x04bind\x00", b"\x07version\x06server\x00")
IDENTITY_NAMES = (b"\x02id\x06server\x00", b"\x08hostname\x04bind\x00")
STATUS_NAME = b"\x06status\x06nodens\x00"


def answer(key: bytes, qtype: int, options: ResponderOptions, posture: Posture) -> Answer:
    """Answer a question of class CH."""
    words = ""
    if key in VERSION_NAMES:
        words = options.version
    elif key in IDENTITY_NAMES:
        words = options.identity
    elif key == STATUS_NAME and options.status:
        words = status(posture)
    if not words:
        return Answer(REFUSED)
    if qtype not in {TXT, ANY}:
        return Answer(NOERROR, authoritative=True)
    return Answer(NOERROR, authoritative=True, answer=(Group(1, text(words, ttl_s=0, rclass=CH)),))


def status(posture: Posture) -> str:
    """Write what answers are given under, in words for people and scripts."""
    pinned = f" pinned={posture.generation}" if posture.pinned else ""
    overrides = f" overrides={posture.overrides}" if posture.overrides else ""
    state = f"generation={posture.generation} age={posture.age_s}s state={posture.state}"
    held = f" quarantine={posture.held}" if posture.held else ""
    return f"{state}{held}{pinned}{overrides} source={posture.note}"

"""The search path of a pod, walked for it (`search_shortcut`).

A pod with `ndots:5` asks for `api.example.com.NS.svc.ZONE`, `api.example.com.svc.ZONE` and `api.example.com.ZONE`
before the name that was meant. Law: only where the first of these does not exist, NS does, and the name that was meant
has a dot, is the walk's end answered at once, behind a CNAME to the name that was found. A walk that finds nothing is
answered as without it, so a client that goes on by itself sees nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.server.zones import Behind
from agent.wire.codes import CNAME
from agent.wire.message import HEADER_BYTES
from agent.wire.reply import Group
from agent.wire.sections import record
from agent.wire.table import ZoneMeta

_SVC = b"\x03svc"
_RECORD_HEAD_BYTES = 12


def meant(key: bytes, zone: ZoneMeta | None, exists: Callable[[bytes], bool]) -> bytes | None:
    """Give the name that was meant by the first question of a search path; None if it is none.

    Args:
        key: question name, which does not exist.
        zone: own zone that it lies in.
        exists: tells whether an own name exists.
    """
    if zone is None or zone.reverse:
        return None
    tree = _SVC + zone.name
    labels, at = [], 0
    while len(key) - at > len(tree):
        labels.append(key[at : at + 1 + key[at]])
        at += 1 + key[at]
    # Two labels that were meant, and the namespace.
    if key[at:] != tree or len(labels) < 3 or not exists(labels[-1] + tree):
        return None
    return b"".join(labels[:-1]) + b"\x00"


def candidates(name: bytes, zone: ZoneMeta) -> tuple[bytes, ...]:
    """Give where the walk goes on from its first question, in order: below svc.ZONE, below ZONE, the name itself."""
    stem = name[:-1]
    longer = (stem + _SVC + zone.name, stem + zone.name)
    return (*(each for each in longer if len(each) <= 255), name)


def behind(key: bytes, target: bytes, ttl_s: int) -> Behind:
    """Lay out the CNAME from the question to the name that was found."""
    start = HEADER_BYTES + len(key) + 4
    body = record(CNAME, ttl_s, target)
    return Behind((Group(1, body),), start + _RECORD_HEAD_BYTES, start + len(body))

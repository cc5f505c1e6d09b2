"""What every answer is given under: fresh, stale, not ready.

Law: a posture is replaced as a whole, about once a second or when the source's state changes, so that the
hit path reads no clock.
"""

from __future__ import annotations

from typing import NamedTuple

NOT_READY = "not_ready"
FRESH = "fresh"
STALE = "stale"
EXPIRED = "expired"


class Posture(NamedTuple):
    """State of the served snapshot (dns.md section 2).

    Attributes:
        state: `not_ready` (nothing valid yet: SERVFAIL + EDE 14), `fresh`, `stale` (age past `stale_after`:
            EDE 3 or 19) or `expired` (age past `max_stale`: SERVFAIL + EDE 22).
        connected: the source is being followed; while it isn't, TTLs are lowered to `ttl_cap_s`.
        ttl_cap_s: highest TTL of a cluster answer now, seconds; None leaves TTLs as compiled.
        age_s: whole seconds since the source last confirmed the snapshot.
        generation: snapshot generation, also the SOA serial.
        note: source state for people, shown by CH TXT status.nodens.
        pinned: a person has ordered that this generation is served, whatever the source says.
        overrides: how many names a person answers by hand.
        held: id and size of what is quarantined, for people; "" if nothing is.
    """

    state: str
    connected: bool
    ttl_cap_s: int | None
    age_s: int
    generation: int
    note: str
    pinned: bool = False
    overrides: int = 0
    held: str = ""


START = Posture(NOT_READY, connected=False, ttl_cap_s=30, age_s=0, generation=0, note="starting")

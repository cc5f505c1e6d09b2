"""The cache on disk: STATE/cache/answers.ndc, a file of its own, so that its loss or damage harms no snapshot.

Law: written whole or not at all, believed only after its checksum and if nobody else could have written it. Times are
wall clock on disk and monotonic in memory; an answer that comes back counts as old as the file says, never younger.
What can't be read is dropped and told; the agent then starts with an empty cache.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import xxhash

from agent.errors import SnapshotError
from agent.forward.cache import Cache
from agent.forward.entry import POSITIVE, Entry, Laid, is_laid_out
from agent.forward.question import Question
from agent.snapshot.files import DIRECTORY_MODE, TEMPORARY, AbsentError, Directory, failure
from agent.wire.message import MAX_LABEL_BYTES, MAX_NAME_BYTES
from agent.wire.reply import Group

FOLDER = "cache"
FILE = "answers.ndc"
MAGIC = b"NODENSC1"
MAX_ENTRIES = 10_000_000
MAX_FILE_BYTES = 1 << 34
_HEAD = struct.Struct("<8sQdQ")
"""Magic, octets behind the digest, wall time of writing, entries; then the xxh3-128 of all but itself."""
_DIGEST_BYTES = 16
_BODY_AT = _HEAD.size + _DIGEST_BYTES
_ENTRY = struct.Struct("<BHBBBBIHddBB")
"""Length of the name, type, bits of the question, rcode, is positive, AD, TTL, offset of the end, age at writing,
time left at writing (negative: past), answer groups, authority groups."""
_GROUP = struct.Struct("<HI")
_DO, _CD = 1, 2
_MAX_GROUPS = 255


class Held(NamedTuple):
    """An answer on its way to or from disk; ages are seconds at the time of writing."""

    question: Question
    entry: Entry
    age_s: float
    left_s: float


class Stored(NamedTuple):
    """What a file holds."""

    written_unix_s: float
    answers: list[Held]


def snapshot(cache: Cache, now_s: float) -> list[Held]:
    """Take what is held at this moment, to be written elsewhere; entries do not change but in their counts.

    A positive that is held beside a denial goes in front of it, so that reading them back in order restores both.
    """
    out = []
    for question, entry in cache.items():
        for each in (entry.older, entry):
            if each is not None:
                held = Held(question, each, now_s - each.stored_s, each.expires_s - now_s)
                out.append(held)
    return out


def write(state_dir: str, answers: Iterable[Held], now_unix_s: float) -> int:
    """Write the file; gives its size.

    Raises:
        SnapshotError: it was not written; the one before is still there.
    """
    parts, count = [], 0
    for held in answers:
        encoded = _encode(held)
        if encoded:
            parts.append(encoded)
            count += 1
    body = b"".join(parts)
    head = _HEAD.pack(MAGIC, len(body), now_unix_s, count)
    path = Path(state_dir, FOLDER)
    try:
        path.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise failure(str(path), "can't be made", error) from None
    with Directory(str(path)) as directory:
        # Left by an agent that was killed while it wrote.
        directory.remove(FILE + TEMPORARY)
        directory.write_once(FILE, (head, _digest(head, body), body))
    return _BODY_AT + len(body)


def read(state_dir: str, *, offline: bool = False) -> Stored | None:
    """Read the file; None if there is none.

    Args:
        state_dir: of the agent.
        offline: a person reads (see `Directory`).

    Raises:
        SnapshotError: it must not be believed.
    """
    try:
        with Directory(str(Path(state_dir, FOLDER)), offline=offline) as directory:
            raw = directory.read(FILE, MAX_FILE_BYTES)
            where = directory.where(FILE)
    except AbsentError:
        return None
    hint = "It is dropped and written anew; nothing but cached answers is lost"
    if len(raw) < _BODY_AT:
        raise SnapshotError(f"{where} is too short", hint=hint)
    magic, length, written_s, count = _HEAD.unpack_from(raw)
    if magic != MAGIC:
        raise SnapshotError(f"{where} is of another kind or version", hint=hint)
    whole = memoryview(raw)
    is_right = _digest(whole[: _HEAD.size], whole[_BODY_AT:]) == raw[_HEAD.size : _BODY_AT]
    if len(raw) - _BODY_AT != length or count > MAX_ENTRIES or not is_right:
        raise SnapshotError(f"{where} is damaged: its checksum is wrong", hint=hint)
    try:
        answers = list(_decode(raw, _BODY_AT, count))
    except (struct.error, IndexError, ValueError) as error:
        raise SnapshotError(f"{where} is not laid out as it must be: {error}", hint=hint) from None
    return Stored(written_s, answers)


def restore(cache: Cache, stored: Stored, now_s: float, now_unix_s: float) -> int:
    """Put what was read into a cache; gives how many answers are of use.

    Args:
        cache: empty.
        stored: as read.
        now_s: monotonic.
        now_unix_s: wall clock; a time before the file was written counts as no time passed since.
    """
    passed_s = max(0.0, now_unix_s - stored.written_unix_s)
    count = 0
    for question, entry, age_s, left_s in stored.answers:
        entry.stored_s = now_s - passed_s - age_s
        entry.expires_s = now_s + min(left_s, entry.ttl_s - age_s) - passed_s
        if now_s < entry.expires_s + cache.bounds.max_stale_s:
            cache.restore(question, entry, now_s)
            count += 1
    return count


def _digest(head: bytes | memoryview, body: bytes | memoryview) -> bytes:
    digest = xxhash.xxh3_128(head)
    digest.update(body)
    return digest.digest()


def _encode(held: Held) -> bytes:
    question, entry, age_s, left_s = held
    if len(entry.answer) > _MAX_GROUPS or len(entry.authority) > _MAX_GROUPS:
        return b""
    bits = question.do * _DO | question.cd * _CD
    head = _ENTRY.pack(
        len(question.name),
        question.qtype,
        bits,
        entry.rcode,
        entry.kind == POSITIVE,
        entry.ad,
        entry.ttl_s,
        entry.end_at,
        age_s,
        left_s,
        len(entry.answer),
        len(entry.authority),
    )
    parts = [head, question.name, bytes((len(entry.end),)), entry.end]
    for count, body in (*entry.answer, *entry.authority):
        parts += (_GROUP.pack(count, len(body)), body)
    return b"".join(parts)


def _decode(raw: bytes, at: int, count: int) -> Iterator[Held]:
    for _ in range(count):
        size, qtype, bits, rcode, positive, ad, ttl_s, end_at, age_s, left_s, answers, authorities = _ENTRY.unpack_from(
            raw, at
        )
        at += _ENTRY.size
        name, at = raw[at : at + size], at + size
        end_bytes = raw[at]
        end, at = raw[at + 1 : at + 1 + end_bytes], at + 1 + end_bytes
        groups: list[Group] = []
        for _ in range(answers + authorities):
            records, length = _GROUP.unpack_from(raw, at)
            at += _GROUP.size
            groups.append(Group(records, raw[at : at + length]))
            at += length
        good = _is_name(name) and (not end or _is_name(end)) and age_s >= 0
        if at > len(raw) or not good or not is_laid_out(rcode, groups):
            raise ValueError("an answer is not what it must be")
        laid = Laid(tuple(groups[:answers]), tuple(groups[answers:]), end_at)
        entry = Entry(rcode, laid, end, ttl_s, is_positive=bool(positive), ad=bool(ad))
        yield Held(Question(name, qtype, bool(bits & _DO), bool(bits & _CD)), entry, age_s, left_s)
    if at != len(raw):
        raise ValueError("there is something behind the last answer")


def _is_name(name: bytes) -> bool:
    at = 0
    while at < len(name) and name[at]:
        if name[at] > MAX_LABEL_BYTES:
            return False
        at += name[at] + 1
    return 0 < len(name) <= MAX_NAME_BYTES and at == len(name) - 1

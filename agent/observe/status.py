"""What the agent knows of itself: one struct behind /status, /metrics, the page and `nodens status`.

Law: numbers and words only, read from plain counters when asked; nothing here is worked out on the way of a query.
The JSON shape is stable: fields are added, never renamed or taken away; `schema` counts up if that must ever break.
"""

from __future__ import annotations

import msgspec

SCHEMA = 1
CIRCUITS = ("closed", "open", "unreachable", "slot")


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How the source stands with the API servers.

    Attributes:
        circuit: one of `CIRCUITS`: requests pass; after failures nothing is asked for a while; only TCP connects are
            tried; the node waits for its place in the fleet's reconnect window.
        next_try_s: seconds until something is asked again, 0 while requests pass.
        budget_left, budget_burst: requests that may be spent at once, now and at most.
        budget_per_hour: how fast they come back.
        slot_s, window_s: the node's place in the reconnect window, and the window.
    """

    circuit: str = "closed"
    next_try_s: float = 0.0
    budget_left: int = 0
    budget_burst: int = 0
    budget_per_hour: int = 0
    slot_s: float = 0.0
    window_s: float = 0.0


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Where cluster state comes from.

    Attributes:
        name: `kubernetes` or `file`.
        connected: it is being followed right now.
        note: its state for people.
        cluster: identity of the cluster, empty while unknown.
        last_success_unix_s: wall time at which it last confirmed the state; 0 if it never did.
        last_error: last trouble in words, empty if there was none.
        last_error_unix_s: when.
        api_requests_last_hour: requests to the API servers.
        api_requests: verb → code → count since the start (code "0": no answer).
        api_bytes: bytes received from the API servers.
        access: how it stands with them; None where there are none.
    """

    name: str = ""
    connected: bool = False
    note: str = ""
    cluster: str = ""
    last_success_unix_s: float = 0.0
    last_error: str = ""
    last_error_unix_s: float = 0.0
    api_requests_last_hour: int = 0
    api_requests: dict[str, dict[str, int]] = {}
    api_bytes: int = 0
    access: Access | None = None


class Skipped(msgspec.Struct, frozen=True):
    """An object that could not be used."""

    kind: str
    name: str
    reason: str


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What is served and what is on disk.

    Attributes:
        generation: number of the snapshot, also the SOA serial.
        records: names in the answer table.
        objects: kind → objects held.
        skipped_total: kind → objects that could not be used, since the start.
        skipped: the last of them.
        disk_bytes: size of the newest generation.
        journal_bytes: size of its journal.
        generation_writes, persist_failures: counted since the start.
        written_unix_s: when the newest generation was written; 0 if none was.
        write_s: how long writing it took, from the consistent point to the disk's word.
        restore_s: how long reading the snapshot took at the start.
        persist_error: last trouble with the disk in words.
        refused: files that were not used at the start, and why.
    """

    generation: int = 0
    records: int = 0
    objects: dict[str, int] = {}
    skipped_total: dict[str, int] = {}
    skipped: tuple[Skipped, ...] = ()
    disk_bytes: int = 0
    journal_bytes: int = 0
    generation_writes: int = 0
    persist_failures: int = 0
    written_unix_s: float = 0.0
    write_s: float = 0.0
    restore_s: float = 0.0
    persist_error: str = ""
    refused: tuple[str, ...] = ()


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """A name that a person answers by hand.

    Attributes:
        name: which.
        answers: what, in words.
        until_unix_s, left_s: when it ends.
        who, reason: by whom and why.
    """

    name: str
    answers: str
    until_unix_s: float
    left_s: float
    who: str
    reason: str


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """A generation that is served whatever the source says.

    Attributes:
        generation: its number.
        until_unix_s: when it ends; 0: when it is taken back.
        who, reason: by whom and why.
    """

    generation: int
    until_unix_s: float
    who: str
    reason: str


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What people have ordered (break-glass).

    Attributes:
        overrides: names answered by hand, the first to end first.
        pin: the generation served instead of the newest state; None: none is.
        problems: orders that are not carried out, and why.
    """

    overrides: tuple[Override, ...] = ()
    pin: Pin | None = None
    problems: tuple[str, ...] = ()


class Durations(msgspec.Struct, frozen=True, kw_only=True):
    """A histogram: upper bounds in seconds, queries in each (one more for the rest), sum of seconds."""

    bounds_s: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    sum_s: float = 0.0


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Queries and answers since the start.

    Attributes:
        queries: `udp`, `tcp` → queries.
        responses: rcode → responses.
        answers: `fresh`, `stale`, `override` → answers for own zones.
        dropped: reason → packets without an answer.
        queries_per_s: rate over the last ten seconds.
        tcp_connections: open now.
        durations: seconds from reading a query to writing its answer.
        truncated: answers that did not fit.
        handed_over: queries that compiled workers left to Python.
    """

    queries: dict[str, int] = {}
    responses: dict[str, int] = {}
    answers: dict[str, int] = {}
    dropped: dict[str, int] = {}
    queries_per_s: float = 0.0
    tcp_connections: int = 0
    durations: Durations = Durations()
    truncated: int = 0
    handed_over: int = 0


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream server.

    Attributes:
        address: as it was written.
        zone: whose names it is asked for; `.` is all others.
        state: `up`, `lost` (it gives no answer and is probed) or `loop` (it leads back to this agent and is not asked).
        in_flight: questions on their way now.
        tries: questions sent.
        replies: rcode → answers.
        failures: reason → questions without an answer.
        mismatches: packets that matched no question: strays, or somebody who guesses.
        truncated: UDP answers asked again over TCP.
        connections: TCP and TLS connections opened.
        probes: sent while it gave no answer.
        losses: times it was found lost.
        latency_s: sum over its answers.
    """

    address: str = ""
    zone: str = "."
    state: str = "up"
    in_flight: int = 0
    tries: int = 0
    replies: dict[str, int] = {}
    failures: dict[str, int] = {}
    mismatches: int = 0
    truncated: int = 0
    connections: int = 0
    probes: int = 0
    losses: int = 0
    latency_s: float = 0.0


class Forward(msgspec.Struct, frozen=True, kw_only=True):
    """Names of no own zone.

    Attributes:
        upstreams: who is asked.
        questions: asked by clients, and not answered by compiled workers.
        joined: queries that waited for a question in flight already.
        refreshes: `stale`, `prefetch` → questions to renew what is held.
        failures: questions that no upstream answered.
        failures_held: answers from the memory of failures.
        over: bound → queries that met it.
        in_flight, waiting: questions to upstreams, and queries that wait for them, now.
        durations: time of the queries that had to wait.
    """

    upstreams: tuple[Upstream, ...] = ()
    questions: int = 0
    joined: int = 0
    refreshes: dict[str, int] = {}
    failures: int = 0
    failures_held: int = 0
    over: dict[str, int] = {}
    in_flight: int = 0
    waiting: int = 0
    durations: Durations = Durations()


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """Answers of upstreams that are held.

    Attributes:
        entries: `positive`, `negative` → answers.
        bytes: memory they take, about.
        hits: `fresh`, `stale` → answers from the cache.
        misses: questions it had nothing for.
        stored: `positive`, `negative` → answers taken in.
        evicted: answers that went because a bound was met.
        aged: answers that went because they were past all use.
        restored: answers that came back from disk at the start.
        disk_bytes: size of the file.
        writes, write_failures: of the file.
        write_error: last trouble with the disk; empty: none now.
        refused: why the file was not used at the start.
    """

    entries: dict[str, int] = {}
    bytes: int = 0
    hits: dict[str, int] = {}
    misses: int = 0
    stored: dict[str, int] = {}
    evicted: int = 0
    aged: int = 0
    restored: int = 0
    disk_bytes: int = 0
    writes: int = 0
    write_failures: int = 0
    write_error: str = ""
    refused: str = ""


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """The process itself.

    Attributes:
        version: of nodens.
        wire: which implementation answers, `python` or `compiled`.
        identity: what NSID and id.server say.
        pid, started_unix_s, uptime_s: of the process.
        first_answer_s: from the start of the process until it was ready to answer.
        listen: where DNS is served.
        zones: own zones.
        state_dir: where the snapshot is kept.
        loop_lag_s: worst delay of the event loop in the last half minute or so.
        task_failures: task → how often it failed and was started again.
        reloads_applied, reloads_refused: SIGHUPs.
        log_lines_dropped, log_lines_held: lines lost because stderr was stuck; repeated ones held back.
    """

    version: str = ""
    wire: str = ""
    identity: str = ""
    pid: int = 0
    started_unix_s: float = 0.0
    uptime_s: float = 0.0
    first_answer_s: float = 0.0
    listen: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    state_dir: str = ""
    loop_lag_s: float = 0.0
    task_failures: dict[str, int] = {}
    reloads_applied: int = 0
    reloads_refused: int = 0
    log_lines_dropped: int = 0
    log_lines_held: int = 0


class Quarantine(msgspec.Struct, frozen=True, kw_only=True):
    """Suspicious change that is held while the previous state answers.

    Attributes:
        active: something is held now.
        id: what `nodens quarantine accept` and `reject` name.
        since_unix_s: when its clock was started.
        applied_unix_s: when it is applied by itself; 0: never.
        objects: objects held.
        differences: what applying them would do, one sentence for each broken rule.
        holds: rule → times it was broken, since the start.
        outcomes: `accepted`, `rejected`, `expired`, `mended` (by the source itself) → times a quarantine ended so.
        problem: why quarantine.json can't be written, "" if it can.
    """

    active: bool = False
    id: str = ""
    since_unix_s: float = 0.0
    applied_unix_s: float = 0.0
    objects: int = 0
    differences: tuple[str, ...] = ()
    holds: dict[str, int] = {}
    outcomes: dict[str, int] = {}
    problem: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything.

    Attributes:
        state: `fresh`, `stale`, `expired` or `not_ready` (dns.md section 2).
        age_s: seconds since the source last confirmed what is served.
        ready: queries may be sent here.
        not_ready: guard → reason.
        events: room → event → count since the start: every bound that was met, and what should not happen. Zero is left
            out by people's views, never here.
        quarantine: what is held.
    """

    schema: int = SCHEMA
    state: str = "not_ready"
    age_s: float = 0.0
    ready: bool = False
    not_ready: dict[str, str] = {}
    source: Source = Source()
    snapshot: Snapshot = Snapshot()
    orders: Orders = Orders()
    traffic: Traffic = Traffic()
    process: Process = Process()
    forward: Forward = Forward()
    cache: Cache = Cache()
    events: dict[str, dict[str, int]] = {}
    quarantine: Quarantine = Quarantine()


def encode(status: Status) -> bytes:
    """Write a status as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(status), indent=2) + b"\n"


def decode(body: bytes) -> Status:
    """Read a status; unknown fields of a newer agent are left out.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return msgspec.json.decode(body, type=Status)

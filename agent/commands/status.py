"""`nodens status`: what the running agent says of itself; if none runs, what lies on disk.

Law: asks the admin endpoint once, reads the disk only without it, changes nothing. What the agent says is printed
without control characters: names and reasons come from objects. Exit 0 if the agent answered, else 1.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping

import msgspec

from agent.commands.arguments import add_options, read_config
from agent.commands.presentation import one_line
from agent.commands.standing import standing
from agent.config import SocketAddress, UnixPath
from agent.config.addresses import reachable
from agent.errors import NodensError
from agent.observe.notes import BAD, GOOD, INFO, WARN, headline, notes
from agent.observe.status import Status, decode
from agent.observe.words import access_in_words, age, amount, count

EXIT_OK = 0
EXIT_FAILURE = 1
TIMEOUT_S = 3.0
MAX_BODY_BYTES = 4 << 20
MAX_UPSTREAM_ROWS = 8
_EXAMPLES = """\
examples:
  nodens status                                         the agent of this node
  nodens status --admin unix:/run/nodens/admin.sock
  nodens status --json | jq .snapshot.generation

Exit code 0 if the agent answered; 1 if not, and then what is on disk is shown.
"""
_COLOURS = {GOOD: "32", INFO: "36", WARN: "33", BAD: "31"}


class UnreachableError(NodensError):
    """The agent did not answer."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `status`."""
    parser.epilog = _EXAMPLES
    parser.add_argument("--json", action="store_true", help="the whole status as JSON")
    add_options(parser, ("admin", "state_dir"))


def run(args: argparse.Namespace) -> int:
    """Show the status."""
    config = read_config(args)
    try:
        if config.admin is None:
            raise UnreachableError("the admin endpoint is off", hint="Name the agent's with --admin")
        body = fetch(config.admin)
        status = decode(body)
    except (UnreachableError, msgspec.DecodeError) as error:
        print(f"nodens is not running, or does not answer: {error}", file=sys.stderr)
        return _from_disk(config.state_dir, as_json=args.json)
    if args.json:
        print(body.decode(), end="")
    else:
        print("\n".join(lines(status, time.time(), coloured=_wants_colour())))
    return EXIT_OK


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def fetch(admin: SocketAddress | UnixPath) -> bytes:
    """Ask the admin endpoint for /status.

    Raises:
        UnreachableError: nobody there, or something else is.
    """
    if isinstance(admin, UnixPath):
        connection: http.client.HTTPConnection = _UnixConnection(admin.path)
    else:
        connection = http.client.HTTPConnection(reachable(admin.host), admin.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/status")
        response = connection.getresponse()
        body = response.read(MAX_BODY_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"{admin}: {str(error) or type(error).__name__}") from None
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise UnreachableError(f"{admin}: HTTP {response.status}", hint="Is that another program's port?")
    return body


def lines(status: Status, now_unix_s: float, *, coloured: bool) -> Iterator[str]:
    """Write a status for people: what matters first, one line each."""
    process, source, snapshot, traffic = status.process, status.source, status.snapshot, status.traffic
    others = notes(status)
    first = headline(status, others)
    yield f"{_paint(first.title, _COLOURS[first.severity], coloured=coloured)}  {one_line(str(first))}"
    for note in others:
        if note.sentence != first.sentence:
            row = _row(note.title, str(note))
            yield _paint(row, _COLOURS[note.severity], coloured=coloured and note.severity != INFO)
    yield _row("agent", f"nodens {process.version} ({process.wire}) on {process.identity}, up {age(process.uptime_s)}")
    yield _row("serves", f"{', '.join(process.zones)} on {', '.join(process.listen)}")
    followed = "followed" if source.connected else source.note or "not followed"
    yield _row(
        "source", f"{source.name or 'none'}, {followed}, last confirmed {_ago(source.last_success_unix_s, now_unix_s)}"
    )
    if source.last_error:
        yield _row("last error", f"{source.last_error} ({_ago(source.last_error_unix_s, now_unix_s)})")
    if source.name == "kubernetes":
        yield _row("API", f"{count(source.api_requests_last_hour)} requests in the last hour{access_in_words(source)}")
    yield _row(
        "snapshot",
        f"generation {snapshot.generation}, {count(snapshot.records)} names from {_counts(snapshot.objects)}",
    )
    on_disk = f"{amount(snapshot.disk_bytes)} + {amount(snapshot.journal_bytes)} journal"
    yield _row("on disk", f"{on_disk}, written {_ago(snapshot.written_unix_s, now_unix_s)}")
    yield _row("queries", f"{traffic.queries_per_s:,.1f}/s; {_counts(traffic.queries)}")
    yield _row("answers", _counts(traffic.answers))
    yield _row("responses", _counts({code: number for code, number in traffic.responses.items() if number}))
    yield from _forward_lines(status)
    if any(traffic.dropped.values()):
        yield _row("dropped", _counts({reason: number for reason, number in traffic.dropped.items() if number}))
    for skipped in snapshot.skipped[-3:]:
        yield _row("skipped last", f"{skipped.kind} {skipped.name}: {skipped.reason}")


class OnDisk(msgspec.Struct, frozen=True):
    """A generation on disk, as `--json` lists it."""

    generation: int
    bytes: int
    valid: bool
    reason: str
    source: str
    written_unix_s: float
    confirmed_unix_s: float


def on_disk(state_dir: str) -> list[OnDisk]:
    """List the generations of a state directory, newest first.

    Raises:
        NodensError: there are none, or the directory can't be trusted.
    """
    from agent.snapshot.generations import Generations
    from agent.snapshot.inspection import describe

    snapshots, found = Generations(state_dir, offline=True), []
    for number in snapshots.list().generations:
        seen = describe(snapshots.path_of(number))
        header = seen.layout.header if seen.layout else None
        origin, written_s, confirmed_s = ("", 0.0, 0.0)
        if header is not None:
            origin, written_s, confirmed_s = header.origin, header.written_unix_s, header.confirmed_unix_s
        found.append(OnDisk(number, seen.size_bytes, not seen.reason, seen.reason, origin, written_s, confirmed_s))
    return found


def _forward_lines(status: Status) -> Iterator[str]:
    """Write who is asked for all other names, and what is held of their answers."""
    forward, cache = status.forward, status.cache
    if not forward.upstreams:
        return
    for number, each in enumerate(forward.upstreams[:MAX_UPSTREAM_ROWS]):
        answered = sum(each.replies.values())
        taken = f", {1000 * each.latency_s / answered:.1f} ms each" if answered else ""
        whose = "" if each.zone == "." else f" for {each.zone}"
        state = "" if each.state == "up" else f" {each.state.upper()}:"
        yield _row(
            "" if number else "upstream",
            f"{each.address}{whose}:{state} {count(answered)} answers of {count(each.tries)} questions{taken}",
        )
    if len(forward.upstreams) > MAX_UPSTREAM_ROWS:
        yield _row("", f"and {len(forward.upstreams) - MAX_UPSTREAM_ROWS} more (--json)")
    if forward.failures or any(forward.over.values()):
        over = sum(forward.over.values())
        yield _row("unanswered", f"{count(forward.failures)} questions, {count(over)} queries over a bound")
    held = f"{count(sum(cache.entries.values()))} answers in {amount(cache.bytes)}"
    yield _row(
        "cache", f"{held}; {_counts(cache.hits)}, {count(cache.misses)} misses; {count(cache.restored)} from disk"
    )
    if cache.write_error or cache.refused:
        yield _row("cache trouble", cache.write_error or cache.refused)


def _from_disk(state_dir: str, *, as_json: bool) -> int:
    orders = standing(state_dir).lines()
    try:
        found = on_disk(state_dir)
    except NodensError as error:
        print(f"Nothing on disk either: {error}", file=sys.stderr)
        found = []
    if as_json:
        shown = {"running": False, "on_disk": found, "orders": orders}
        print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
        return EXIT_FAILURE
    if found:
        print(f"On disk in {state_dir}, for `nodens resolve` and the next start:")
    for each in found:
        state = "valid" if each.valid else f"refused: {each.reason}"
        now_unix_s = time.time()
        print(_row(f"generation {each.generation}", f"{amount(each.bytes)}, {state}"))
        print(_row("", f"written {_ago(each.written_unix_s, now_unix_s)}"))
        print(_row("", f"confirmed by its source ({each.source}) {_ago(each.confirmed_unix_s, now_unix_s)}"))
    for order in orders:
        print(_row("ordered", order))
    return EXIT_FAILURE


def _row(name: str, text: str) -> str:
    return one_line(f"  {name:13}{text}")


def _counts(values: Mapping[str, int]) -> str:
    return ", ".join(f"{count(number)} {name}" for name, number in values.items()) or "none"


def _ago(unix_s: float, now_unix_s: float) -> str:
    return f"{age(now_unix_s - unix_s)} ago" if unix_s else "never"


def _paint(text: str, colour: str, *, coloured: bool) -> str:
    return f"\x1b[1;{colour}m{text}\x1b[0m" if coloured else text


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

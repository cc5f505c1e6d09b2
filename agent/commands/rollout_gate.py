"""`nodens rollout-gate`: may the next wave of a rollout go? Asked of agents, or of statuses that were collected.

Law: it only reads. It says no when it can't know: an agent that does not answer, a status that is old or none, count as
failing unless they are allowed for by number. Exit 0 if the gate is open, 1 if it is closed, 2 for usage.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from agent.commands.presentation import one_line, to_json
from agent.commands.status import MAX_BODY_BYTES, UnreachableError, fetch
from agent.config import SocketAddress, UnixPath, addresses, load, values
from agent.config.values import Reader, T
from agent.errors import ConfigError
from agent.observe.notes import BAD, NOT_READY, notes
from agent.observe.status import Status, decode
from agent.observe.words import age, count

EXIT_OPEN = 0
EXIT_CLOSED = 1
MAX_AT_ONCE = 16
_EXAMPLES = """\
examples:
  nodens rollout-gate && kubectl rollout resume daemonset/nodens -n kube-system
      this node's agent
  nodens rollout-gate --admin 10.1.0.7:9353 --admin 10.1.0.8:9353 --max-age 30s
      two agents whose admin endpoint listens on the node's address
  for pod in $(kubectl get pods -n kube-system -l app=nodens -o name); do
    kubectl exec -n kube-system "$pod" -- nodens status --json > "status/${pod##*/}.json"
  done
  nodens rollout-gate status/*.json --allow-unreachable 1
      statuses collected from a whole wave; one node may be down

The gate is closed (exit code 1) if any agent is not ready, stale or expired, has lost its source for longer than
--max-age, has spent its budget of API requests, cannot write its snapshot (the restart that a rollout is would bring
back older answers), shows anything else in red in `nodens status`, such as suspicious change that is held, or cannot
be asked. Each reason is a line: node, reason, since when. Exit code 0: none of these, go on. Exit code 2: usage.
"""


class Limits(NamedTuple):
    """What an agent may be.

    Attributes:
        max_age_s: how old its state may be while its source is lost, seconds; also how old a collected status may be.
        max_api_requests: in the last hour; None: only the agent's own budget counts.
    """

    max_age_s: float = 60.0
    max_api_requests: int | None = None


class Reason(msgspec.Struct, frozen=True):
    """Why the gate is closed.

    Attributes:
        reason: a word for scripts.
        sentence: for people.
        since_unix_s: since when; 0 if that is not known.
    """

    reason: str
    sentence: str
    since_unix_s: float = 0.0


class Verdict(msgspec.Struct, frozen=True):
    """What is thought of one agent.

    Attributes:
        node: its name, or where it was looked for.
        reached: it said something that can be judged.
        age_s: of its state.
        reasons: none: it passes.
    """

    node: str
    reached: bool
    age_s: float
    reasons: tuple[Reason, ...]


class Outcome(msgspec.Struct, frozen=True):
    """What --json prints."""

    open: bool
    asked: int
    unreachable: int
    allowed_unreachable: int
    nodes: tuple[Verdict, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `rollout-gate`."""
    parser.epilog = _EXAMPLES
    parser.add_argument("files", metavar="STATUS", nargs="*", help="what `nodens status --json` printed on a node")
    parser.add_argument(
        "--admin", metavar="WHERE", action="append", default=[],
        help="admin endpoint of an agent, ADDR:PORT or unix:PATH (may be repeated); default: this node's",
    )  # fmt: skip
    parser.add_argument(
        "--max-age", metavar="SPAN", default="60s",
        help="state may be this old while the source is lost, and a collected status; default: 60s",
    )  # fmt: skip
    parser.add_argument(
        "--max-api-requests", metavar="N", help="requests to the API servers in the last hour; default: the own budget"
    )
    parser.add_argument(
        "--allow-unreachable",
        metavar="N",
        default="0",
        help="so many agents may be down or not to be asked; default: 0",
    )
    parser.add_argument("--json", action="store_true", help="the outcome as JSON")


def run(args: argparse.Namespace) -> int:
    """Judge, print, and tell by the exit code."""
    limits = Limits(
        _read("--max-age", values.duration(0, 86_400), args.max_age),
        None if args.max_api_requests is None
        else _read("--max-api-requests", values.whole(0, 10**9), args.max_api_requests),
    )  # fmt: skip
    allowed = _read("--allow-unreachable", values.whole(0, 10**6), args.allow_unreachable)
    verdicts = _judge_all(_places(args), limits)
    unreachable = sum(not verdict.reached for verdict in verdicts)
    is_open = unreachable <= allowed and not any(each.reached and each.reasons for each in verdicts)
    outcome = Outcome(is_open, len(verdicts), unreachable, allowed, tuple(verdicts))
    if args.json:
        print(to_json(outcome))
    else:
        print("\n".join(map(one_line, _lines(outcome, time.time()))))
    return EXIT_OPEN if is_open else EXIT_CLOSED


def judge(status: Status, limits: Limits, now_unix_s: float, *, is_collected: bool = False) -> list[Reason]:
    """List why this agent closes the gate.

    Args:
        status: what it said.
        limits: what it may be.
        now_unix_s: wall time.
        is_collected: the status was not just asked for: it may be old.
    """
    found = [reason for look in _REASONS for reason in look(status, limits)]
    taken_unix_s = status.process.started_unix_s + status.process.uptime_s
    if is_collected and now_unix_s - taken_unix_s > limits.max_age_s:
        old = age(now_unix_s - taken_unix_s)
        found.append(Reason("old_status", f"this status was taken {old} ago: collect it again", taken_unix_s))
    return found


def _state(status: Status, limits: Limits) -> Iterator[Reason]:
    source = status.source
    why = "" if source.connected else f": {source.note}"
    if status.state != "fresh":
        yield Reason(status.state, f"its state is {status.state}{why}", source.last_success_unix_s)
    elif not source.connected and status.age_s > limits.max_age_s:
        yield Reason("source_lost", f"its state is {age(status.age_s)} old{why}", source.last_success_unix_s)


def _readiness(status: Status, _: Limits) -> Iterator[Reason]:
    if not status.ready and status.state != "not_ready":
        yield Reason("not_ready", "; ".join(f"{guard}: {reason}" for guard, reason in status.not_ready.items()))


def _budget(status: Status, limits: Limits) -> Iterator[Reason]:
    spent = status.source.api_requests_last_hour
    if limits.max_api_requests is not None and spent > limits.max_api_requests:
        yield Reason("over_budget", f"{count(spent)} API requests in the last hour, over --max-api-requests")
    access = status.source.access
    if access is not None and not access.budget_left:
        yield Reason("over_budget", f"its budget of API requests is spent ({count(spent)} in the last hour)")


def _red(status: Status, _: Limits) -> Iterator[Reason]:
    for note in notes(status):
        if note.severity == BAD and note.title != NOT_READY:
            yield Reason(note.title.replace(" ", "_"), note.sentence)


def _disk(status: Status, _: Limits) -> Iterator[Reason]:
    held = status.snapshot
    if held.persist_error:
        yield Reason("disk", f"its snapshot can't be written: {held.persist_error}", held.written_unix_s)


def _held(status: Status, _: Limits) -> Iterator[Reason]:
    held = status.quarantine
    if held.active:
        yield Reason(
            "quarantine",
            f"holds back a suspicious change, {held.id}: it {'; '.join(held.differences)}",
            held.since_unix_s,
        )


_REASONS: tuple[Callable[[Status, Limits], Iterator[Reason]], ...] = (_state, _readiness, _held, _red, _budget, _disk)


def _places(args: argparse.Namespace) -> list[SocketAddress | UnixPath | Path]:
    """List where to look.

    Raises:
        ConfigError: an endpoint that can't be one, or none at all.
    """
    named = [_read("--admin", addresses.admin, admin) for admin in args.admin]
    if not named and not args.files:
        named = [load({}, os.environ, None).admin]
    if None in named:
        raise ConfigError("there is no admin endpoint to ask", hint="Name one with --admin, or files with statuses")
    return [*(admin for admin in named if admin is not None), *map(Path, args.files)]


def _read(what: str, read: Reader[T], value: object) -> T:
    try:
        return read(value)
    except ValueError as error:
        raise ConfigError(f"{what} {error}") from None


def _judge_all(places: list[SocketAddress | UnixPath | Path], limits: Limits) -> list[Verdict]:
    with ThreadPoolExecutor(min(MAX_AT_ONCE, len(places))) as pool:
        return list(pool.map(partial(_judge_one, limits=limits), places))


def _judge_one(place: SocketAddress | UnixPath | Path, limits: Limits) -> Verdict:
    try:
        if isinstance(place, Path):
            with place.open("rb") as file:
                body = file.read(MAX_BODY_BYTES)
        else:
            body = fetch(place)
        status = decode(body)
    except OSError as error:
        return _unreachable(place, f"{error.strerror or error}")
    except UnreachableError as error:
        return _unreachable(place, str(error))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _unreachable(place, f"what it says is no status: {error}")
    if not status.process.identity:
        # What `nodens status --json` prints of the disk when no agent runs has no field in common with a status.
        return _unreachable(place, "no agent was running there")
    reasons = judge(status, limits, time.time(), is_collected=isinstance(place, Path))
    return Verdict(status.process.identity, reached=True, age_s=status.age_s, reasons=tuple(reasons))


def _unreachable(place: SocketAddress | UnixPath | Path, why: str) -> Verdict:
    return Verdict(str(place), reached=False, age_s=0.0, reasons=(Reason("unreachable", why),))


def _lines(outcome: Outcome, now_unix_s: float) -> Iterator[str]:
    failing = [node for node in outcome.nodes if node.reasons]
    width = max((len(node.node) for node in failing), default=0)
    for node in failing:
        for reason in node.reasons:
            yield f"{node.node:{width}}  {reason.reason:12}  {_since(reason, now_unix_s):38}  {reason.sentence}"
    if outcome.open:
        oldest = max((node.age_s for node in outcome.nodes if node.reached), default=0.0)
        missing = f", {count(outcome.unreachable)} not to be asked (allowed)" if outcome.unreachable else ""
        yield f"gate open: {count(outcome.asked)} asked{missing}, oldest state {age(oldest)}"
    else:
        yield f"gate closed: {count(len(failing))} of {count(outcome.asked)} fail"


def _since(reason: Reason, now_unix_s: float) -> str:
    if not reason.since_unix_s:
        return "since: not known"
    at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(reason.since_unix_s))
    return f"since {at} ({age(now_unix_s - reason.since_unix_s)})"

"""One question, brought to an answer: which upstream, which next, and where the chain leads on.

Law: at most `MAX_TRIES` tries for a name, the second and later ones from a budget; when all upstreams are lost there is
one. An upstream that can't answer (SERVFAIL, REFUSED, a referral) is not asked twice, and the next one is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from agent.errors import WireError
from agent.forward.question import Question
from agent.forward.reply import Reply, joined, read
from agent.forward.routes import Group, Routes
from agent.forward.stream import UpstreamError
from agent.forward.upstream import Upstream
from agent.wire.codes import (
    CNAME,
    EDE_NETWORK_ERROR,
    EDE_NO_REACHABLE_AUTHORITY,
    EDE_OTHER,
    NOERROR,
    NOTIMP,
    REFUSED,
    SERVFAIL,
)

MAX_TRIES = 3
MAX_HOPS = 8
"""Names asked for one after the other because a chain leads on."""
FIRST_TRY_S, SECOND_TRY_S = 1.0, 1.5
LEAST_TRY_S = 0.01
_PASSED_ON = frozenset((SERVFAIL, NOTIMP, REFUSED))


class Failure(NamedTuple):
    """Nobody answered: what a client is told."""

    rcode: int
    error: tuple[int, str] | None


async def fetch(
    question: Question,
    group: Group,
    routes: Routes,
    is_own: Callable[[bytes], bool],
    deadline_s: float,
    suspect: Callable[[Upstream], None],
) -> Reply | Failure:
    """Ask until there is an answer or no more to try; follow the chain where an upstream did not.

    Args:
        question: of a name that no own zone answers.
        group: who answers for it.
        routes: who answers for other names.
        is_own: tells whether a name is for an own zone to answer.
        deadline_s: of the loop's clock.
        suspect: told of an upstream that gave no answer.

    Raises:
        WireError: chains make a loop.
    """
    found = await _ask(question, group, is_own, deadline_s, suspect)
    for _ in range(MAX_HOPS):
        if isinstance(found, Failure) or not _leads_on(found, question):
            return found
        onward = routes.of(found.end)
        if onward is None:
            return found
        rest = await _ask(question._replace(name=found.end), onward, is_own, deadline_s, suspect)
        if isinstance(rest, Failure):
            return rest
        found = joined(found, rest)
    raise WireError(f"names lead from upstream to upstream more than {MAX_HOPS} times")


def _leads_on(reply: Reply, question: Question) -> bool:
    return not reply.is_complete and reply.rcode == NOERROR and bool(reply.answer) and question.qtype != CNAME


async def _ask(
    question: Question,
    group: Group,
    is_own: Callable[[bytes], bool],
    deadline_s: float,
    suspect: Callable[[Upstream], None],
) -> Reply | Failure:
    """Ask the upstreams of a group for one name."""
    left = group.order()
    if not left:
        return Failure(SERVFAIL, (EDE_NO_REACHABLE_AUTHORITY, "every upstream leads back to this agent"))
    group.earn()
    tries = 1 if group.is_lost else MAX_TRIES
    failure = Failure(SERVFAIL, (EDE_NO_REACHABLE_AUTHORITY, "no time left to ask an upstream"))
    for number in range(tries):
        wait_s = _patience_s(number, tries, deadline_s - asyncio.get_running_loop().time())
        if wait_s < LEAST_TRY_S or not left or (number and not group.may_retry()):
            break
        upstream = left.pop(0)
        try:
            reply = read(await upstream.ask(question, wait_s), question, is_own)
        except UpstreamError as error:
            suspect(upstream)
            code = EDE_NO_REACHABLE_AUTHORITY if error.reason in {"timeout", "busy"} else EDE_NETWORK_ERROR
            failure = Failure(SERVFAIL, (code, error.message))
            left.append(upstream)
            continue
        except WireError as error:
            upstream.counters.failures["unreadable"] += 1
            failure = Failure(SERVFAIL, (EDE_NETWORK_ERROR, f"{upstream.target}: {error.message}"))
            continue
        if reply.is_usable:
            return reply
        rcode = reply.rcode if reply.rcode in _PASSED_ON else SERVFAIL
        said = reply.error or (EDE_OTHER, f"upstream said rcode {reply.rcode}")
        failure = Failure(rcode, (said[0], f"{upstream.target}: {said[1]}"))
    return failure


def _patience_s(number: int, tries: int, left_s: float) -> float:
    """Give how long one try may take; the last one gets what is left."""
    if tries == 1 or number == 0:
        return min(left_s, FIRST_TRY_S)
    return min(left_s, SECOND_TRY_S) if number < tries - 1 else left_s

"""Replies on their way out: our OPT and its options, the bound of the message, and the counting.

Law: whatever was decided before, a client without EDNS gets no OPT, one with EDNS gets one, and no reply is longer
than its client takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from agent.server.counters import Counters
from agent.server.options import MAX_NSID_BYTES, ResponderOptions
from agent.wire import cookies, edns
from agent.wire.codes import BADCOOKIE, BADVERS, COOKIE, NSID
from agent.wire.edns import MIN_UDP_BYTES, Opt
from agent.wire.message import NO_QUESTION, Query
from agent.wire.reply import MAX_TCP_BYTES, Answer, assemble, is_truncated


class Sent(NamedTuple):
    """A reply, and the OPT and bound it was made with."""

    reply: bytes
    opt: bytes
    limit_bytes: int


class Sender:
    """Lays out replies.

    Args:
        options: what our OPT says.
        counters: where to count.
        clock: Unix time in seconds, for DNS cookies alone.
    """

    def __init__(self, options: ResponderOptions, counters: Counters, clock: Callable[[], float]) -> None:
        self._options = options._replace(nsid=options.nsid[:MAX_NSID_BYTES])
        self._counters = counters
        self._clock = clock

    def send(self, query: Query, answer: Answer, client_ip: str, *, tcp: bool) -> Sent:
        """Lay out a reply and count it."""
        opt, limit_bytes = b"", MIN_UDP_BYTES
        if query.opt is not None:
            rcode, options = self._options_for(query, query.opt, answer, client_ip, tcp=tcp)
            opt = edns.write(self._options.udp_size_bytes, rcode, do=query.opt.do, options=options)
            limit_bytes = max(MIN_UDP_BYTES, min(query.opt.size_bytes, self._options.udp_size_bytes))
            if rcode != answer.rcode:
                answer = answer._replace(rcode=rcode)
        reply = assemble(query, answer, opt, MAX_TCP_BYTES if tcp else limit_bytes)
        self._counters.responses[answer.rcode] += 1
        if is_truncated(reply):
            self._counters.truncated += 1
        return Sent(reply, opt, limit_bytes)

    def _options_for(self, query: Query, opt: Opt, answer: Answer, client_ip: str, *, tcp: bool) -> tuple[int, bytes]:
        """Choose the options of our OPT, and the rcode, which a bad cookie changes."""
        rcode, options = answer.rcode, self._options
        if rcode == BADVERS:
            return rcode, b""
        parts: list[bytes] = []
        if self.wants_cookie(opt):
            now_s = int(self._clock())
            cookie, is_valid = cookies.answer(opt.cookie, client_ip, now_s, options.cookie_secrets)
            parts.append(edns.option(COOKIE, cookie))
            if query.fault == NO_QUESTION and not is_valid and len(opt.cookie) > cookies.CLIENT_BYTES:
                rcode = BADCOOKIE
        if opt.nsid and options.nsid:
            parts.append(edns.option(NSID, options.nsid))
        if opt.keepalive and tcp:
            parts.append(edns.keepalive(options.tcp_idle_timeout_ms))
        if answer.error is not None:
            parts.append(edns.extended_error(*answer.error))
        return rcode, b"".join(parts)

    def wants_cookie(self, opt: Opt) -> bool:
        """Tell whether a client sent a cookie and gets one back."""
        return bool(opt.cookie and self._options.cookie_secrets)

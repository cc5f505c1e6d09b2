"""Signals become wishes: stop and reload; a failure that ends the process is a third.

Law: signals are blocked until `listen`, so that none of them meets a half-built process; the ones that came in
between are then obeyed. The first SIGTERM or SIGINT is a wish, the second leaves the process at once. SIGHUPs that
come while a reload runs count as one more reload.
"""

from __future__ import annotations

import asyncio
import os
import signal
from types import FrameType

STOP = "stop"
RELOAD = "reload"
FAILED = "failed"
_STOPPING = (signal.SIGTERM, signal.SIGINT)
HANDLED = (*_STOPPING, signal.SIGHUP)


def block() -> None:
    """Hold signals back from now on, for this thread and those it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)


class Wishes:
    """The wishes that have come in.

    Attributes:
        stopped_by: name of the signal that asked to stop, empty until then.
        failed: why the process can't go on, empty while it can.
    """

    def __init__(self) -> None:
        self.stopped_by = ""
        self.failed = ""
        self._reload = False
        self._came = asyncio.Event()

    def listen(self) -> None:
        """Obey signals from now on; needs the running loop, in the main thread."""
        loop = asyncio.get_running_loop()
        for number in _STOPPING:
            loop.add_signal_handler(number, self.ask_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self.ask_to_reload)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)

    def ask_to_stop(self, number: signal.Signals) -> None:
        """Note the wish to stop; the next such signal leaves at once, even if the loop hangs."""
        self.stopped_by = number.name
        self._came.set()
        loop = asyncio.get_running_loop()
        for each in _STOPPING:
            loop.remove_signal_handler(each)
            # Not SIG_DFL: the kernel ignores it for process 1 of a container.
            signal.signal(each, _leave)

    def ask_to_reload(self) -> None:
        """Note the wish to reload."""
        self._reload = True
        self._came.set()

    def fail(self, reason: str) -> None:
        """Note that the process can't go on; the first reason counts."""
        self.failed = self.failed or reason
        self._came.set()

    async def next(self) -> str:
        """Wait for the next wish: FAILED, STOP or RELOAD, in this order."""
        while True:
            if self.failed:
                return FAILED
            if self.stopped_by:
                return STOP
            if self._reload:
                self._reload = False
                return RELOAD
            self._came.clear()
            await self._came.wait()


def _leave(number: int, _frame: FrameType | None) -> None:
    os.write(2, f"nodens: {signal.Signals(number).name} again, leaving at once\n".encode())
    os._exit(1)

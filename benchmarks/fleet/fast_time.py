"""An event loop whose clock jumps to the next timer: hours of a fleet in a minute, with the code that runs on nodes.

Law: nothing that runs on this loop waits for the world: no sockets, and what is sent to threads is done at once, in
place. Time stands still while anything is ready to run.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")


class _Jumping(selectors.BaseSelector):
    """A selector that doesn't wait, but tells how long it would have."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._inner = selectors.DefaultSelector()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._inner.get_map()

    def close(self) -> None:
        self._inner.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._inner.select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("nothing is ready and no timer is set: this would wait for ever")
            self.now_s += max(0.0, timeout)
        return ready


class _AtOnce(ThreadPoolExecutor):
    """An executor that does its work before it returns."""

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        done: Future[_T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 -- handed on to whoever waits for it
            done.set_exception(error)
        return done


class FastLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)
        self.set_default_executor(_AtOnce(1))

    def time(self) -> float:
        """Give the seconds that have passed in fast time."""
        return self._jumping.now_s


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run something to its end in fast time."""
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        return runner.run(main)

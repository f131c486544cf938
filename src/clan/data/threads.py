"""Worker threads that the end of the program does not wait for.

The standard library's pool joins its threads at exit, so that a thread that hangs in a read from a dead network
drive would keep the whole program.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

Value = TypeVar("Value")


class Threads:
    """A pool that works through what it is given, first come, first served.

    Args:
        number: of threads.
        name: of each, for debuggers.
    """

    PATIENCE = 2.0
    """Seconds that `close` waits for what is being computed."""

    def __init__(self, number: int, name: str) -> None:
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads = [Thread(target=self._run, name=name, daemon=True) for _ in range(number)]
        for thread in self._threads:
            thread.start()

    def submit(self, make: Callable[[], Value]) -> Future[Value]:
        """Will hold what `make` returns or raises."""
        future: Future[Value] = Future()
        self._work.put((future, make))
        return future

    def close(self) -> None:
        """Drops what has not begun and ends the threads, but for one that hangs."""
        while not self._work.empty():
            self._work.get()
        for _ in self._threads:
            self._work.put(None)
        deadline = time.monotonic() + self.PATIENCE
        for thread in self._threads:  # a thread that computes while the interpreter goes down can crash it
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while work := self._work.get():
            future, make = work
            try:
                future.set_result(make())
            except BaseException as error:
                future.set_exception(error)

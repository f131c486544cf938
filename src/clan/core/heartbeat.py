"""Noticing that another rank is gone, where no launcher does: on another machine.

Each rank counts at Paddle's store every few seconds, in a thread of its own with a connection of its own, and looks
whether the others still do. How long a rank computes or saves does not matter; only a process that is no longer there,
or a machine that cannot be reached, falls silent.
"""

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clan.core.errors import ConfigError

VARIABLE = "CLAN_RANK_TIMEOUT"
"""The environment variable that says for how many seconds a rank may be silent."""

USUAL_TIMEOUT = 120.0


def rank_timeout() -> float:
    """For how many seconds a rank may be silent.

    Raises:
        ConfigError: the environment says something that is no number of at least 1.
    """
    text = os.environ.get(VARIABLE, str(USUAL_TIMEOUT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1.0 <= seconds < float("inf"):
        raise ConfigError(f"{VARIABLE} is {text!r}: set it to a number of seconds, 1 or more, or unset it")
    return seconds


class Heartbeat:
    """Counts for this rank and watches the others.

    Args:
        store: Paddle's key-value store, by a connection that nothing else uses.
        rank: this one's number.
        size: how many there are.
        timeout: seconds of silence after which a rank counts as lost.
    """

    def __init__(self, store: Any, rank: int, size: int, timeout: float) -> None:
        self.timeout = timeout
        self._store = store
        self._rank = rank
        self._interval = min(5.0, timeout / 4)
        self._counts = {other: 0 for other in range(size) if other != rank}
        self._waiting = False
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"clan {work.__name__}", daemon=True)
            for work in (self._beat, self._watch)
        ]
        for thread in self._threads:
            thread.start()
        atexit.register(self.close)

    PATIENCE = 5.0
    """Seconds that `close` waits for a call of the store."""

    def close(self) -> None:
        """Ends the threads: one that is in a call of C++ when the interpreter goes down would abort the process."""
        self._closed.set()
        for thread in self._threads:
            thread.join(self.PATIENCE)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within the block this rank waits for the others: one that is lost then ends the process."""
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False

    def _beat(self) -> None:
        """Counts, and reads the others' counts, until the store is gone: then all of them stand still."""
        try:
            while not self._closed.is_set():
                self._store.add(f"clan/beats/{self._rank}", 1)
                for other in self._counts:
                    self._counts[other] = self._store.add(f"clan/beats/{other}", 0)
                self._closed.wait(self._interval)
        except Exception:  # whatever a lost connection raises
            return

    def _watch(self) -> None:
        """Ends the process if it waits for a rank that is lost; a computation that hangs cannot do so itself.

        Silence is counted in this thread's own turns, so that a process that was suspended blames nobody.
        """
        before = dict(self._counts)
        silent = dict.fromkeys(before, 0.0)
        while not self._closed.wait(self._interval):
            now = dict(self._counts)
            for other, count in now.items():
                silent[other] = 0.0 if count != before[other] else silent[other] + self._interval
            before = now
            lost = [other for other, seconds in silent.items() if seconds >= self.timeout]
            if lost and self._waiting:
                os.write(2, f"error: {lost_sentence(lost[0], self.timeout)}\n".encode())
                os._exit(2)


def lost_sentence(rank: int, timeout: float) -> str:
    """What to say of a rank that is gone."""
    return (
        f"rank {rank} is lost, nothing was heard of it for {timeout:g} s: see what its machine's log says, then start "
        f"all again with --resume from the last state, which is intact ({VARIABLE} sets how long to wait)"
    )

"""The heartbeat's end; what it notices of lost ranks is tested with ranks, in test_ranks.py."""

import threading
import time

from clan.core.heartbeat import Heartbeat


class Store:
    """Counts, and takes a while for it."""

    def __init__(self, seconds):
        self.seconds, self.calls, self.within = seconds, 0, 0

    def add(self, key, amount):
        self.within += 1
        self.calls += 1
        time.sleep(self.seconds)
        self.within -= 1
        return self.calls


def test_no_call_of_the_store_is_under_way_once_it_is_closed():
    store = Store(0.05)
    heartbeat = Heartbeat(store, rank=0, size=2, timeout=1.0)
    time.sleep(0.02)
    assert store.within == 1
    heartbeat.close()
    calls = store.calls
    time.sleep(0.6)
    assert (store.within, store.calls) == (0, calls)
    assert not any(thread.is_alive() for thread in heartbeat._threads)


def test_a_store_that_hangs_does_not_keep_the_program(monkeypatch):
    monkeypatch.setattr(Heartbeat, "PATIENCE", 0.1)
    hanging = threading.Event()
    store = Store(0)
    store.add = lambda key, amount: hanging.wait(10)
    heartbeat = Heartbeat(store, rank=0, size=2, timeout=1.0)
    started = time.monotonic()
    heartbeat.close()
    assert time.monotonic() - started < 5
    hanging.set()

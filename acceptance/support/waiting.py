"""Waiting for something to become true, instead of for time to pass."""

import threading
import time

_PAUSE = threading.Event()  # never set: its wait is a pause between two looks


def wait_for(look, until=bool, timeout=20.0, every=0.05):
    """Calls `look` until `until(what it returned)` holds and returns that; fails with the last look."""
    deadline = time.monotonic() + timeout
    while True:
        seen = look()
        if until(seen):
            return seen
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout} s; the last look saw: {seen!r}")
        _PAUSE.wait(every)

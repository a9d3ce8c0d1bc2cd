"""Memory that nobody uses any more, given back to the system."""

from __future__ import annotations

import ctypes
import gc
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress

LARGE_BYTES = 2**26
"""Bytes from which making a result leaves memory behind that is worth giving back."""
PAUSE_SECONDS = (1.0, 3.0, 6.0)
"""Seconds from when somebody asks to when memory is given back, and from that to the next times: by the last, a page that
was being drawn has let go of what it had in hand."""
COLLECT_SECONDS, THOROUGH_SECONDS = 30.0, 1800.0
"""Seconds from one search for garbage to the next, during which nobody is served, and to the next among all that is kept,
which takes a second or two where that is much."""

_thoroughly = time.monotonic()


def collect() -> None:
    """Look for garbage. In a server, which has frozen what its imports made, what is kept now joins that, so that the next
    search is short."""
    global _thoroughly
    frozen = gc.get_freeze_count()
    if frozen and time.monotonic() >= _thoroughly + THOROUGH_SECONDS:
        _thoroughly = time.monotonic()
        gc.unfreeze()
    gc.collect()
    if frozen:
        gc.freeze()


def give_back() -> None:
    """Give memory that is free back to the system: glibc's heap is cut where that is in use."""
    with suppress(AttributeError, OSError, TypeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


class Tidying:
    """Gives memory back soon after it is asked to, once for all who ask meanwhile, and collects garbage now and then, which
    may hold some. `sleep` and `clock` are in seconds."""

    def __init__(
        self,
        give_back: Callable[[], None],
        collect: Callable[[], None],
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._give_back, self._collect, self._sleep, self._clock = give_back, collect, sleep, clock
        self._asked, self._working = threading.Event(), threading.Lock()
        self._collected = -math.inf

    def __call__(self) -> None:
        self._asked.set()
        if self._working.acquire(blocking=False):
            try:
                threading.Thread(target=self.rounds, name="tidy", daemon=True).start()
            except RuntimeError:  # no thread can be started: who asks next tries again
                self._working.release()

    def rounds(self) -> None:
        """What the thread does until nobody has asked any more."""
        while self._asked.is_set():
            self._asked.clear()
            for pause in PAUSE_SECONDS:
                self._sleep(pause)
                self._give_back()
            due = self._collected + COLLECT_SECONDS
            while not self._asked.is_set() and self._clock() < due:
                self._sleep(min(1.0, due - self._clock()))
            if self._clock() >= due:
                self._collected = self._clock()
                self._collect()
                self._give_back()
        self._working.release()
        if self._asked.is_set():  # by somebody who found a thread at work
            self()


tidy = Tidying(give_back, collect)

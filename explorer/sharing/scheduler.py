"""Who goes next where many wait for the same: who has lately taken least of it.

Python runs one thread at a time. Where twenty pages are drawn at once, each takes twenty times as long, and somebody
who clicks without pause is served as often as all the others together. So pages are drawn one at a time, and so do
passes take turns.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

Item = TypeVar("Item")

SLICE_SECONDS, CHECK_SECONDS = 0.03, 0.005
"""Seconds that a thread has its place for, where others wait, and those from one look at who waits to the next."""
HALF_LIFE_SECONDS = 10.0
"""Seconds after which half of what somebody has taken is forgotten."""
POLL_SECONDS = 0.1
"""Seconds from one look of somebody who waits at whether to go on to the next."""
SHARE_SECONDS = 1.0
"""Seconds that make a difference: those who have taken about as much go in the order in which they came. Who is
new counts as having taken as much, else opening a page would always be a way past the others."""
MUCH_SECONDS, MAX_REST_SECONDS, HERE_SECONDS = 1.5, 1.0, 5.0
"""Seconds above which what somebody has lately taken is much, the most that they rest after it, and those for which
somebody counts as here."""
FORGOTTEN_SECONDS = 0.01
"""Seconds below which what somebody has taken is forgotten."""


@dataclass(eq=False)
class Place:
    """A thread's place, or its wait for one: for whom it works, the seconds and the time of its start, and when the
    thread looked last at who waits."""

    user: str
    granted: threading.Event = field(default_factory=threading.Event)
    start: float = 0.0
    since: float = 0.0
    looked: float = 0.0


class FairShare:
    """Places for `count` threads at a time, each of which works for a user, who is charged for the seconds that its
    thread takes of the processor, or that it has its place for `on_the_clock`."""

    def __init__(self, count: int, on_the_clock: bool = False):
        self._free, self._on_the_clock = count, on_the_clock
        self._waiting: list[Place] = []
        self._taken: dict[str, tuple[float, float]] = {}
        """The seconds of each user, and when they were counted."""
        self._here = threading.local()
        self._lock = threading.Lock()

    @contextmanager
    def place(self, user: str, waiting: Callable[[], object] | None = None) -> Iterator[None]:
        """Inside, this thread has a place; it waits for one. What `waiting` raises, which is called now and then
        meanwhile, ends the wait."""
        self._here.place = self._wait(user, waiting)
        try:
            yield
        finally:
            self._leave(self._here.place)
            self._here.place = None

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Inside, others have this thread's place: it waits for something else. It has one again at the end.

        A thread without a place goes on without one.
        """
        place: Place | None = getattr(self._here, "place", None)
        if place is None:
            yield
            return
        self._leave(place)
        self._here.place = None
        try:
            yield
        finally:
            self._here.place = self._wait(place.user)

    def each_aside(self, items: Iterator[Item]) -> Iterator[Item]:
        """The items, each waited for while others have this thread's place."""
        while True:
            with self.aside():
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item

    def yield_place(self) -> None:
        """Let another thread have this one's place for a while, where one waits that goes first, or whose turn it is."""
        place: Place | None = getattr(self._here, "place", None)
        if place is not None and self._waiting and self._gives_way(place):
            with self.aside():
                pass

    def throttle(self, user: str) -> None:
        """Wait before asking for a place where somebody has lately taken much and others are here.

        Who comes first would not help them enough: as long as there is always something of the one under way, each of
        the others finds the place taken.
        """
        with self._lock:
            now = time.monotonic()
            much = self._lately(user, now) - MUCH_SECONDS
            others = any(one != user and now - counted < HERE_SECONDS for one, (_, counted) in self._taken.items())
        if others and much > 0:
            time.sleep(min(much, MAX_REST_SECONDS))

    def _gives_way(self, place: Place) -> bool:
        with self._lock:
            now = time.monotonic()
            if not self._waiting or now - place.looked < CHECK_SECONDS:
                return False
            place.looked = now
            first = min(self._rank(one.user, now) for one in self._waiting)
            mine = self._rank(place.user, now, self._clock() - place.start)
            return first < mine or (first == mine and now - place.since > SLICE_SECONDS)

    def _clock(self) -> float:
        return time.monotonic() if self._on_the_clock else time.thread_time()

    def _wait(self, user: str, waiting: Callable[[], object] | None = None) -> Place:
        place = Place(user)
        with self._lock:
            self._waiting.append(place)
            self._fill()
        try:
            while not place.granted.wait(waiting and POLL_SECONDS):
                if waiting:
                    waiting()
        except BaseException:
            with self._lock:
                if place.granted.is_set():
                    self._free += 1
                else:
                    self._waiting.remove(place)
                self._fill()
            raise
        place.start, place.since = self._clock(), time.monotonic()
        return place

    def _leave(self, place: Place) -> None:
        with self._lock:
            now = time.monotonic()
            taken = self._lately(place.user, now) + self._clock() - place.start
            self._taken[place.user] = taken, now
            if len(self._taken) > 1000:
                self._taken = {
                    user: one for user, one in self._taken.items() if self._lately(user, now) > FORGOTTEN_SECONDS
                }
            self._free += 1
            self._fill()

    def _fill(self) -> None:
        now = time.monotonic()
        while self._free and self._waiting:
            first = min(self._waiting, key=lambda one: self._rank(one.user, now))  # of equals, who came first
            self._waiting.remove(first)
            self._free -= 1
            first.granted.set()

    def _lately(self, user: str, now: float) -> float:
        """The seconds that somebody has taken, less what is forgotten by now."""
        taken, counted = self._taken.get(user, (SHARE_SECONDS, now))
        return float(taken * 0.5 ** ((now - counted) / HALF_LIFE_SECONDS))

    def _rank(self, user: str, now: float, more: float = 0.0) -> int:
        return int((self._lately(user, now) + more) / SHARE_SECONDS)


PAGES = FairShare(1)
"""The scripts that draw pages, each for its session."""

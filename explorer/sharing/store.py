"""Results that a server computes once for all its visitors, and keeps within a bound."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, is_dataclass
from typing import Any, TypeVar

from .footprint import byte_budget, memory_bytes
from .frozen import frozen
from .scheduler import PAGES, POLL_SECONDS
from .tidying import LARGE_BYTES, tidy

Value = TypeVar("Value")
Progress = Callable[[float], None]
"""Called with the share that is done, 0 to 1."""


def no_progress(share: float) -> None:
    """A progress that nobody sees."""


SMALL_BYTES = 2**20
"""Bytes up to which a result stays when nobody who used it is left."""


class StoppedError(Exception):
    """A person ended a computation; the page says so."""


class FileDigest(str):
    """The digest of a file that a person brought. Results whose key holds one go with the last session that used them."""


def file_digests(key: Hashable) -> frozenset[FileDigest]:
    """The files that a key names, in tuples and dataclasses at any depth."""
    if isinstance(key, FileDigest):
        return frozenset({key})
    if is_dataclass(key):
        key = tuple(vars(key).values())
    return frozenset().union(*map(file_digests, key)) if isinstance(key, tuple) else frozenset()


@dataclass(eq=False)
class Entry:
    """A result, or the way to it, of which a `share` is done. Without a value it failed once it is `over`.

    `bytes` are those of the value and its key, `users` the sessions that asked for it, `digests` the files of theirs that it
    was made of. One that `stays` is the last to be forgotten.
    """

    digests: frozenset[FileDigest]
    stays: bool = False
    share: float = 0.0
    value: Any = None
    bytes: int = 0
    users: set[str] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)


class Store:
    """Results by what they depend on, of at most `budget` bytes with their keys; the least recently used is forgotten first.

    A result above a quarter of the budget, or above `most` bytes, is handed on and not kept, unless it `stays`: the last
    used of those is kept whatever its size. None is no result. A session is named by whoever asks; "" is nobody.
    """

    def __init__(self, budget: int):
        self.budget = budget
        self.bytes = 0
        """Of all that is kept."""
        # The last used is the last. To go through an OrderedDict takes the hash of each key, which is slow to make.
        self._works: dict[Hashable, Entry] = {}
        self._ended: deque[str] = deque(maxlen=1000)
        """Sessions whose scripts may still run: they use nothing any more."""
        self._lock = threading.Lock()

    def get(self, key: Hashable, session: str = "") -> Any:
        """The result, which counts as used; None where there is none yet."""
        with self._lock:
            work = self._works.get(key)
            if work is None or work.value is None:
                return None
            self._use(key, work, session)
            return work.value

    def compute(
        self,
        key: Hashable,
        compute: Callable[[Progress], Value],
        waiting: Progress,
        session: str = "",
        stays: bool = False,
        most: float = math.inf,
    ) -> Value:
        """The result: what is there, or what another thread is at work on, or else what `compute` returns.

        `compute` gets a function to tell how far it is, which `waiting` is called with while this thread waits for
        another one's work. Where that fails or is interrupted, this thread does it. What `waiting` raises ends the wait.

        Raises:
            ValueError: where `compute` returns None.
            Exception: whatever `compute` or `waiting` raises; nothing is kept then.
        """
        while True:
            with self._lock:
                work = self._works.get(key)
                mine = work is None
                if work is None:
                    work = self._works[key] = Entry(file_digests(key), stays)
                self._use(key, work, session)
            if mine:
                return self._do(key, work, compute, session, most)
            with PAGES.aside():
                while not work.over.wait(POLL_SECONDS):
                    waiting(work.share)
            if work.value is not None:
                return work.value

    def forget(self, digest: str) -> None:
        """Let go of all results that were made of a person's file."""
        self._drop(lambda work: digest in work.digests)

    def leave(self, session: str, ends: bool = True) -> None:
        """A session has ended, or only lost its connection: what only it used is let go where it is large, or made of a
        person's own file.

        So is what nobody used and was made of such a file, as downloads do.
        """
        with self._lock:
            if ends and session not in self._ended:
                self._ended.append(session)
            left = {id(work) for work in self._works.values() if session in work.users}
            for work in self._works.values():
                work.users.discard(session)
        self._drop(lambda work: abandoned(work) and (id(work) in left or bool(work.digests)))

    def has_ended(self, session: str) -> bool:
        return session in self._ended

    def clear(self, goes: Callable[[Any], bool] = lambda value: True) -> None:
        """Let go of all results, or of some, and know of no session that has ended."""
        self._ended.clear()
        self._drop(lambda work: goes(work.value))

    def _use(self, key: Hashable, work: Entry, session: str) -> None:
        self._works[key] = self._works.pop(key)
        if session and session not in self._ended:
            work.users.add(session)

    def _drop(self, goes: Callable[[Entry], bool]) -> None:
        with self._lock:
            gone = [key for key, work in self._works.items() if work.value is not None and goes(work)]
            works = [self._remove(key) for key in gone]
        if sum(work.bytes for work in works) > SMALL_BYTES:
            del works
            tidy()

    def _remove(self, key: Hashable) -> Entry:
        work = self._works.pop(key)
        self.bytes -= work.bytes
        return work

    def _do(self, key: Hashable, work: Entry, compute: Callable[[Progress], Value], session: str, most: float) -> Value:
        def tell(share: float) -> None:
            work.share = share

        value, size = None, 0
        try:
            value = frozen(compute(tell))
            if value is None:
                raise ValueError(f"there is no result for {key}")
            size = memory_bytes(value, key)
            return value
        finally:
            with self._lock:
                work.value, work.bytes = value, size
                self.bytes += size
                kept = size and (work.stays or size <= min(self.budget // 4, most))
                if not kept or (session and session not in work.users and abandoned(work)):
                    self._remove(key)
                self._trim()
            work.over.set()
            if size > LARGE_BYTES or (size and not kept):
                tidy()

    def _trim(self) -> None:
        """Forget results until the rest keeps to the budget."""
        done = [key for key, work in self._works.items() if work.value is not None] if self.bytes > self.budget else []
        lasting = next((key for key in reversed(done) if self._works[key].stays), None)
        for key in done:
            if self.bytes <= self.budget:
                break
            if key != lasting:
                self._remove(key)


def abandoned(work: Entry) -> bool:
    """Whether a result goes since nobody who used it is left."""
    return not work.users and (work.bytes > SMALL_BYTES or bool(work.digests))


RESULTS = Store(byte_budget("RESNET_EXPLORER_RESULTS_MIB", 1024))
"""What this server has computed."""

"""Results that several threads share: computed once for all who ask, and the least recently used forgotten first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

Value = TypeVar("Value")
Progress = Callable[[float], None]
"""Called with the share that is done, 0 to 1."""

LOOK = 0.1
"""Seconds after which somebody who waits looks again how far the work is."""


@dataclass(eq=False)
class Work:
    """A result, or the way to it, of which a `share` is done. Without a value it failed once it is `over`."""

    share: float = 0.0
    value: Any = None
    over: threading.Event = field(default_factory=threading.Event)


class Store:
    """At most `size` results by what they depend on. None is no result."""

    def __init__(self, size: int):
        self._size = size
        self._works: OrderedDict[Hashable, Work] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """The result, which counts as used; None where there is none yet."""
        with self._lock:
            work = self._works.get(key)
            if work is None or work.value is None:
                return None
            self._works.move_to_end(key)
            return work.value

    def compute(self, key: Hashable, compute: Callable[[Progress], Value], waiting: Progress) -> Value:
        """The result: what is there, or what another thread is at work on, or else what `compute` returns.

        `compute` gets a function to tell how far it is, which `waiting` is called with while this thread waits for
        another one's work. Where that fails or is interrupted, this thread does it. What `waiting` raises ends the wait.

        Raises:
            ValueError: where `compute` returns None.
            Exception: whatever `compute` or `waiting` raises; nothing is kept then.
        """
        while True:
            work, mine = self._claim(key)
            if mine:
                return self._do(key, work, compute)
            while not work.over.wait(LOOK):
                waiting(work.share)
            if work.value is not None:
                return work.value

    def _claim(self, key: Hashable) -> tuple[Work, bool]:
        """The work on a result, and whether it is this thread's to do."""
        with self._lock:
            mine = key not in self._works
            work = self._works.setdefault(key, Work())
            self._works.move_to_end(key)
            return work, mine

    def _do(self, key: Hashable, work: Work, compute: Callable[[Progress], Value]) -> Value:
        def tell(share: float) -> None:
            work.share = share

        try:
            value = frozen(compute(tell))
            if value is None:
                raise ValueError(f"there is no result for {key}")
            work.value = value
            return value
        finally:
            with self._lock:
                if work.value is None:
                    del self._works[key]
                done = [key for key, work in self._works.items() if work.value is not None]
                for key in done[: max(0, len(done) - self._size)]:
                    del self._works[key]
            work.over.set()


def frozen(value: Any) -> Any:
    """The same value to share: its arrays are read-only from here on, and dictionaries are views that cannot be written.

    Named tuples, dataclasses and dictionaries are looked into; what else there is should be immutable by itself.
    """
    if isinstance(value, np.ndarray):
        value.setflags(write=False)
        return value
    if isinstance(value, dict):
        return MappingProxyType({key: frozen(item) for key, item in value.items()})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(frozen, value))
    if is_dataclass(value) and not isinstance(value, type):
        items = {one.name: getattr(value, one.name) for one in fields(value)}
        changed = {name: frozen(item) for name, item in items.items()}
        different = {name: item for name, item in changed.items() if item is not items[name]}
        return replace(value, **different) if different else value
    return value


class _Results(Store):
    def leave(self, session: str) -> None: ...


RESULTS = _Results(32)


def tidy() -> None: ...

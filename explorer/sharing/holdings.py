"""Files that people brought, which their sessions hold in memory, within one bound for all."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from resnet.errors import ExplainedError

from .footprint import budget


class NoRoomError(ExplainedError, ValueError):
    """A file for which the server has no room, in one sentence."""


class Held(Protocol):
    """Something that a session holds of a file that a person brought."""

    @property
    def nbytes(self) -> int: ...


class Holdings:
    """What all sessions hold of files that people brought, of at most `most` bytes.

    A thing counts until nobody refers to it any more, so what a session that ends holds goes with it.
    """

    def __init__(self, most: int):
        self.most = most
        self._held: weakref.WeakSet[Held] = weakref.WeakSet()
        self._reserved = 0
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Of all that is held or about to be."""
        with self._lock:
            return self._bytes()

    def _bytes(self) -> int:
        return self._reserved + sum(one.nbytes for one in self._held)

    def __contains__(self, one: object) -> bool:
        return one in self._held

    def __iter__(self) -> Iterator[Held]:
        with self._lock:
            return iter(list(self._held))

    @contextmanager
    def room(self, size: int, name: str, instead: Held | None = None) -> Iterator[Callable[[Held], None]]:
        """Room for `size` bytes of a file called `name`, in place of what the session holds; gives the function that
        counts what was read.

        Raises:
            NoRoomError: where there is none.
        """
        with self._lock:
            taken = self._bytes() - (instead.nbytes if instead is not None and instead in self._held else 0)
            if taken + size > self.most:
                raise NoRoomError(
                    f"{name} finds no room: this server already holds {taken / 2**30:.1f} GiB of people's files, and its "
                    f"limit is {self.most / 2**30:.1f} GiB; try again when somebody has removed theirs."
                )
            self._reserved += size

        def hold(one: Held) -> None:
            with self._lock:
                self._held.add(one)

        try:
            yield hold
        finally:
            with self._lock:
                self._reserved -= size


HELD = Holdings(budget("RESNET_EXPLORER_UPLOADS_MIB", 4096))
"""What this server's sessions hold of files that people brought."""

"""What a server holds in memory for its visitors: results that they share and files that they brought, both within bounds."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import re
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, is_dataclass, replace
from enum import EnumType
from functools import cache
from operator import is_
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MethodType, ModuleType, UnionType
from typing import Any, Literal, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from PIL import Image
from torch import Tensor

from resnet import ConfigError
from resnet.errors import ExplainedError

from .scheduler import PAGES

Value = TypeVar("Value")
Progress = Callable[[float], None]
"""Called with the share that is done, 0 to 1."""

LOOK = 0.1
"""Seconds after which somebody who waits looks again how far the work is."""

SMALL = 2**20
"""Bytes up to which a result stays when nobody who used it is left."""


LARGE = 2**26
"""Bytes from which making a result leaves memory behind that is worth giving back."""


class StoppedError(Exception):
    """A person ended a computation; the page says so."""


class Own(str):
    """The digest of a file that a person brought. Results whose key holds one go with the last session that used them."""


def owned(key: Hashable) -> frozenset[Own]:
    """The files that a key names, in tuples and dataclasses at any depth."""
    if isinstance(key, Own):
        return frozenset({key})
    if is_dataclass(key):
        key = tuple(vars(key).values())
    return frozenset().union(*map(owned, key)) if isinstance(key, tuple) else frozenset()


# -- results ------------------------------------------------------------------------------


@dataclass(eq=False)
class Work:
    """A result, or the way to it, of which a `share` is done. Without a value it failed once it is `over`.

    `bytes` are those of the value and its key, `users` the sessions that asked for it, `owns` the files of theirs that it
    was made of. One that `stays` is the last to be forgotten.
    """

    owns: frozenset[Own]
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
        self._works: dict[Hashable, Work] = {}
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
                    work = self._works[key] = Work(owned(key), stays)
                self._use(key, work, session)
            if mine:
                return self._do(key, work, compute, session, most)
            with PAGES.aside():
                while not work.over.wait(LOOK):
                    waiting(work.share)
            if work.value is not None:
                return work.value

    def forget(self, own: str) -> None:
        """Let go of all results that were made of a person's file."""
        self._drop(lambda work: own in work.owns)

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
        self._drop(lambda work: abandoned(work) and (id(work) in left or bool(work.owns)))

    def has_ended(self, session: str) -> bool:
        return session in self._ended

    def clear(self, goes: Callable[[Any], bool] = lambda value: True) -> None:
        """Let go of all results, or of some, and know of no session that has ended."""
        self._ended.clear()
        self._drop(lambda work: goes(work.value))

    def _use(self, key: Hashable, work: Work, session: str) -> None:
        self._works[key] = self._works.pop(key)
        if session and session not in self._ended:
            work.users.add(session)

    def _drop(self, goes: Callable[[Work], bool]) -> None:
        with self._lock:
            gone = [key for key, work in self._works.items() if work.value is not None and goes(work)]
            works = [self._remove(key) for key in gone]
        if sum(work.bytes for work in works) > SMALL:
            del works
            tidy()

    def _remove(self, key: Hashable) -> Work:
        work = self._works.pop(key)
        self.bytes -= work.bytes
        return work

    def _do(self, key: Hashable, work: Work, compute: Callable[[Progress], Value], session: str, most: float) -> Value:
        def tell(share: float) -> None:
            work.share = share

        value, size = None, 0
        try:
            value = frozen(compute(tell))
            if value is None:
                raise ValueError(f"there is no result for {key}")
            size = weight(value, key)
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
            if size > LARGE or (size and not kept):
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


def abandoned(work: Work) -> bool:
    """Whether a result goes since nobody who used it is left."""
    return not work.users and (work.bytes > SMALL or bool(work.owns))


_ATOMS = (str, int, bool, float, type(None))
"""What a result is mostly made of, and what is never changed."""


@cache
def immutable(kind: Any, around: frozenset[Any] = frozenset()) -> bool:
    """Whether what is annotated so, a frozen dataclass or named tuple throughout, holds nothing that could be changed.

    `around` are the kinds that it is a part of, which may hold their own kind again.
    """
    if kind in _ATOMS or kind in around or get_origin(kind) is Literal:
        return True
    if isinstance(kind, EnumType):
        return True
    if get_origin(kind) in (tuple, Union, UnionType):
        return all(immutable(part, around) for part in get_args(kind) if part is not Ellipsis)
    if is_dataclass(kind) and isinstance(kind, type):
        promised = kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    else:
        promised = isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")
    with suppress(NameError):  # annotated with what is imported for the type checker only
        return promised and all(immutable(part, around | {kind}) for part in get_type_hints(kind).values())
    return False


def frozen(value: Any) -> Any:
    """The same value to share: its arrays are read-only from here on, dictionaries are views that cannot be written, and
    lists are tuples.

    Tuples, lists, dataclasses and dictionaries are looked into; what else there is should be immutable by itself.
    """
    kind: Any = type(value)
    if immutable(kind):
        return value
    if isinstance(value, np.ndarray):
        value.setflags(write=False)
        return value
    if isinstance(value, dict):
        return MappingProxyType({key: frozen(item) for key, item in value.items()})
    if isinstance(value, tuple | list):
        items = tuple(map(frozen, value))
        if isinstance(value, tuple) and all(map(is_, items, value)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else items
    if is_dataclass(value) and not isinstance(value, type):
        given = {name: getattr(value, name) for name in value.__dataclass_fields__}
        changed = {name: frozen(item) for name, item in given.items() if type(item) not in _ATOMS}
        different = {name: item for name, item in changed.items() if item is not given[name]}
        return replace(value, **different) if different else value
    return value


# -- how much memory ----------------------------------------------------------------------

LEAST = 512
"""What keeping any result takes, in bytes."""

SOME = 16
"""How many of many are weighed."""

_CODE = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)
"""What belongs to the program and not to a result."""


def weight(*values: Any) -> int:
    """The bytes of memory that values hold: their objects, and what tensors, arrays and pictures hold outside of Python.

    Memory that several of these show counts once. Of many immutable objects of a kind, as a trace's layers, some are
    weighed for all: to weigh each would take half as long as to trace a network.
    """
    seen: dict[int, Any] = {}
    memory: dict[int, int] = {}
    others = 0
    level = [*values]
    while level:
        new = {id(one): one for one in level if id(one) not in seen and not isinstance(one, _CODE)}
        seen |= new
        parts: list[Any] = []
        for key, one in list(new.items()):
            if isinstance(one, np.ndarray) and one.base is not None:
                parts.append(one.base)
            elif isinstance(one, Tensor) and one.device.type != "meta":
                storage = one.untyped_storage()
                memory[storage.data_ptr()] = storage.nbytes()
            elif isinstance(one, Image.Image):
                memory[id(one)] = one.width * one.height * (4 if len(one.getbands()) > 1 else 1)
            elif type(one) is tuple and len(one) > 2 * SOME and alike(one):
                step = len(one) // SOME
                parts += one[::step]
                others += (step - 1) * (weight(*one[::step]) - LEAST)
                del new[key]
        level = [*gc.get_referents(*new.values()), *parts]
    return LEAST + others + sum(map(sys.getsizeof, seen.values())) + sum(memory.values())


def alike(values: tuple[Any, ...]) -> bool:
    """Whether these are immutable objects of one kind."""
    kinds = {*map(type, values)}
    return len(kinds) == 1 and kinds.isdisjoint(_ATOMS) and all(map(immutable, kinds))


def budget(name: str, usual: int) -> int:
    """Bytes, of the MiB in an environment variable; `usual` MiB where it is not set.

    Raises:
        ConfigError: for anything but a number of MiB.
    """
    text = os.environ.get(name, "").strip() or str(usual)
    if not re.fullmatch(r"[0-9]{1,8}", text) or int(text) < 16:
        raise ConfigError(name, text[:40], "a whole number of MiB, 16 or more")
    return int(text) * 2**20


PAUSES = (1.0, 3.0, 6.0)
"""Seconds from when somebody asks to when memory is given back, and from that to the next times: by the last, a page that
was being drawn has let go of what it had in hand."""
COLLECTED_EVERY, THOROUGHLY_EVERY = 30.0, 1800.0
"""Seconds from one search for garbage to the next, during which nobody is served, and to the next among all that is kept,
which takes a second or two where that is much."""

_thoroughly = time.monotonic()


def collect() -> None:
    """Look for garbage. In a server, which has frozen what its imports made, what is kept now joins that, so that the next
    search is short."""
    global _thoroughly
    frozen = gc.get_freeze_count()
    if frozen and time.monotonic() >= _thoroughly + THOROUGHLY_EVERY:
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
            for pause in PAUSES:
                self._sleep(pause)
                self._give_back()
            due = self._collected + COLLECTED_EVERY
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


# -- what people bring --------------------------------------------------------------------


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


RESULTS = Store(budget("RESNET_EXPLORER_RESULTS_MIB", 1024))
"""What this server has computed."""

HELD = Holdings(budget("RESNET_EXPLORER_UPLOADS_MIB", 4096))
"""What this server's sessions hold of files that people brought."""

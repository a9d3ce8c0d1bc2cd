"""Memory is given back."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from explorer.sharing import tidying as module
from explorer.sharing.tidying import Tidying


@pytest.mark.parametrize(
    ("asked", "given", "collected"),
    [
        ([], [1, 4, 10, 10], [10]),
        ([1, 4], [1, 4, 10, 10, 11, 14, 20, 40], [10, 40]),
        ([4, 14, 20], [1, 4, 10, 10, 11, 14, 20, 21, 24, 30, 40], [10, 40]),
    ],
    ids=["once", "soon after", "again and again"],
)
def test_memory_is_given_back_once_for_all_who_ask(
    asked: list[float], given: list[float], collected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon, and again when pages that were being drawn are through; garbage is looked for twice a minute."""
    now, threads, gave, looked = [0.0], list[Callable[[], None]](), list[float](), list[float]()

    def sleep(seconds: float) -> None:
        now[0] += seconds
        for _ in range(asked.count(now[0])):
            tidying()

    def thread(target: Callable[[], None], **_: Any) -> MagicMock:
        threads.append(target)
        return MagicMock()

    monkeypatch.setattr(threading, "Thread", thread)
    tidying = Tidying(lambda: gave.append(now[0]), lambda: looked.append(now[0]), sleep, lambda: now[0])
    tidying()
    tidying()
    (rounds,) = threads
    rounds()
    assert gave == given
    assert looked == collected
    assert not tidying._working.locked()


class Garbage:
    """Something that only a search finds, once nobody else refers to it."""

    def __init__(self) -> None:
        self.itself = self


def test_what_a_server_keeps_is_looked_through_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen garbage stays until then; new garbage goes at once."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=time.sleep))
    monkeypatch.setattr(module, "_thoroughly", 0.0)
    gc.freeze()
    try:
        kept, new = Garbage(), Garbage()
        old = weakref.ref(kept)
        young = weakref.ref(new)
        del new
        module.collect()
        assert young() is None
        del kept
        clock.now = module.THOROUGH_SECONDS - 1
        module.collect()
        assert old() is not None
        assert gc.get_freeze_count()
        clock.now = module.THOROUGH_SECONDS
        module.collect()
        assert old() is None
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()


def test_nothing_is_frozen_where_nothing_was() -> None:
    garbage = Garbage()
    left = weakref.ref(garbage)
    del garbage
    before = gc.get_freeze_count()
    module.collect()
    assert left() is None
    assert gc.get_freeze_count() == before == 0


def test_memory_is_given_back_later_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks is not told, and who asks next is heard."""
    started = MagicMock()
    started.start.side_effect = [RuntimeError("can't start new thread"), None]
    tidying = Tidying(lambda: None, lambda: None)
    monkeypatch.setattr(threading, "Thread", lambda **_: started)
    tidying()
    assert not tidying._working.locked()
    tidying()
    assert tidying._working.locked()

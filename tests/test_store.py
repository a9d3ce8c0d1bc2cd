"""`explorer.store`: one computation for all who ask, what is forgotten, and that nobody can change what is shared."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.runtime.scriptrunner import RerunData, RerunException, StopException

from explorer import store as module
from explorer.store import Progress, Store, frozen


def never(share: float) -> None:
    pytest.fail("nobody is at work on this")


def plain(value: Any) -> Any:
    return lambda tell: value


@given(st.integers(1, 4), st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=40))
def test_what_was_used_longest_ago_is_forgotten_first(size: int, uses: list[tuple[bool, int]]) -> None:
    """Against a list in order of use."""
    store, order = Store(size), []
    for look, key in uses:
        if look:
            assert store.get(key) == (f"result {key}" if key in order else None)
        else:
            store.compute(key, plain(f"result {key}"), never)
        if key in order or not look:
            order = [*(other for other in order if other != key), key][-size:]
    assert [key for key in range(7) if store.get(key)] == sorted(order)


class Slow:
    """Work that waits until the test lets it go on."""

    def __init__(self) -> None:
        self.begun, self.go, self.runs = threading.Event(), threading.Event(), 0

    def __call__(self, tell: Progress) -> str:
        self.runs += 1
        tell(0.25)
        self.begun.set()
        assert self.go.wait(30)
        return "result"


class Waiter:
    """Somebody who waits, and what they are told."""

    def __init__(self, ends: BaseException | None = None) -> None:
        self.waits, self.told, self.ends = threading.Event(), [], ends

    def __call__(self, share: float) -> None:
        self.told.append(share)
        self.waits.set()
        if self.ends:
            raise self.ends


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LOOK", 0.005)
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_two_who_ask_wait_for_one_computation(pool: ThreadPoolExecutor) -> None:
    store, slow, waiters = Store(4), Slow(), [Waiter(), Waiter()]
    first = pool.submit(store.compute, "key", slow, never)
    assert slow.begun.wait(30)
    others = [pool.submit(store.compute, "key", slow, waiter) for waiter in waiters]
    assert all(waiter.waits.wait(30) for waiter in waiters)
    assert store.get("key") is None
    assert store.compute("other", plain("other"), never) == "other"
    slow.go.set()
    assert [found.result(30) for found in (first, *others)] == ["result"] * 3
    assert slow.runs == 1
    assert {share for waiter in waiters for share in waiter.told} == {0.25}


@pytest.mark.parametrize("error", [RuntimeError("broken"), StopException(), RerunException(RerunData())], ids=repr)
def test_the_next_one_computes_where_the_first_ends_early(pool: ThreadPoolExecutor, error: BaseException) -> None:
    """Streamlit interrupts a script by an exception."""
    store, slow, waiter = Store(4), Slow(), Waiter()

    def fail(tell: Progress) -> str:
        slow(tell)
        raise error

    def ask() -> None:
        with pytest.raises(type(error)):
            store.compute("key", fail, never)

    first = pool.submit(ask)
    assert slow.begun.wait(30)
    second = pool.submit(store.compute, "key", plain("second"), waiter)
    assert waiter.waits.wait(30)
    slow.go.set()
    first.result(30)
    assert second.result(30) == store.get("key") == "second"


def test_who_waits_can_leave(pool: ThreadPoolExecutor) -> None:
    store, slow = Store(4), Slow()
    first = pool.submit(store.compute, "key", slow, never)
    assert slow.begun.wait(30)
    with pytest.raises(InterruptedError):
        store.compute("key", slow, Waiter(InterruptedError()))
    slow.go.set()
    assert first.result(30) == "result"


def test_a_result_reaches_who_waited_though_it_is_forgotten_at_once(pool: ThreadPoolExecutor) -> None:
    store, slow, waiter = Store(1), Slow(), Waiter()
    first = pool.submit(store.compute, "key", slow, never)
    assert slow.begun.wait(30)
    second = pool.submit(store.compute, "key", slow, waiter)
    assert waiter.waits.wait(30)
    work = store._works["key"]
    slow.go.set()
    assert first.result(30) == "result"
    store.compute("other", plain("other"), never)
    assert store.get("key") is None
    assert second.result(30) == work.value == "result"
    assert slow.runs == 1


def test_no_result_is_not_kept() -> None:
    store = Store(2)
    with pytest.raises(ValueError, match="no result for key"):
        store.compute("key", plain(None), never)
    assert store.compute("key", plain(0), never) == 0


class Pair(NamedTuple):
    name: str
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Holder:
    by_name: dict[str, Pair]
    count: int = 0


def test_what_is_shared_cannot_be_changed() -> None:
    values = np.arange(6.0).reshape(2, 3)
    shared = frozen(Holder({"a": Pair("a", values)}, 3))
    assert shared.count == 3
    found = shared.by_name["a"].values
    assert np.array_equal(found, np.arange(6.0).reshape(2, 3))
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1
    with pytest.raises(TypeError):
        shared.by_name["b"] = found
    same = (1, "two")
    assert frozen(same) is same

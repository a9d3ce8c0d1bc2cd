"""`explorer.sharing.store`: one computation for all who ask, and what is forgotten."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streamlit.runtime.scriptrunner import RerunData, RerunException, StopException

from explorer.sharing import store as module
from explorer.sharing.footprint import weight
from explorer.sharing.store import Own, Progress, Store
from resnet import preset
from resnet.weights import own_weights

MUCH = 2**20


def never(share: float) -> None:
    pytest.fail("nobody is at work on this")


def plain(value: Any) -> Any:
    return lambda tell: value


@settings(deadline=None)
@given(st.integers(4, 6), st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=40))
def test_what_was_used_longest_ago_is_forgotten_first(size: int, uses: list[tuple[bool, int]]) -> None:
    """Against a list in order of use, with results that weigh the same."""
    each = weight("result 0", 0)
    store, order = Store(size * each), list[int]()
    for look, key in uses:
        if look:
            assert store.get(key) == (f"result {key}" if key in order else None)
        else:
            store.compute(key, plain(f"result {key}"), never)
        if key in order or not look:
            order = [*(other for other in order if other != key), key][-size:]
        assert store.bytes == len(order) * each
    assert [key for key in range(10) if store.get(key)] == sorted(order)


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
        self.waits, self.told, self.ends = threading.Event(), list[float](), ends

    def __call__(self, share: float) -> None:
        self.told.append(share)
        self.waits.set()
        if self.ends:
            raise self.ends


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.005)
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_two_who_ask_wait_for_one_computation(pool: ThreadPoolExecutor) -> None:
    store, slow, waiters = Store(MUCH), Slow(), [Waiter(), Waiter()]
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
    store, slow, waiter = Store(MUCH), Slow(), Waiter()

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
    store, slow = Store(MUCH), Slow()
    first = pool.submit(store.compute, "key", slow, never)
    assert slow.begun.wait(30)
    with pytest.raises(InterruptedError):
        store.compute("key", slow, Waiter(InterruptedError()))
    slow.go.set()
    assert first.result(30) == "result"


def test_a_result_reaches_who_waited_though_it_is_forgotten_at_once(pool: ThreadPoolExecutor) -> None:
    store, slow, waiter = Store(4 * weight("result")), Slow(), Waiter()
    first = pool.submit(store.compute, "key", slow, never)
    assert slow.begun.wait(30)
    second = pool.submit(store.compute, "key", slow, waiter)
    assert waiter.waits.wait(30)
    work = store._works["key"]
    slow.go.set()
    assert first.result(30) == "result"
    for other in range(4):
        store.compute(other, plain("other!"), never)
    assert store.get("key") is None
    assert second.result(30) == work.value == "result"
    assert slow.runs == 1


def test_no_result_is_not_kept() -> None:
    store = Store(MUCH)
    with pytest.raises(ValueError, match="no result for key"):
        store.compute("key", plain(None), never)
    assert store.compute("key", plain(0), never) == 0


class Pair(NamedTuple):
    name: str
    values: Any


@dataclass(frozen=True, eq=False)
class Holder:
    by_name: dict[str, Any]
    count: int = 0


# -- bytes --------------------------------------------------------------------------------


def array(kibibytes: int) -> np.ndarray:
    return np.zeros(kibibytes * 1024, np.uint8)


def test_a_large_result_is_handed_on_and_not_kept(pool: ThreadPoolExecutor) -> None:
    """Also to who waits for it; one that stays is kept, the last of them whatever its size."""
    store, waiter, go = Store(MUCH), Waiter(), threading.Event()

    def large(tell: Progress) -> np.ndarray:
        assert go.wait(30)
        return array(300)

    both = [pool.submit(store.compute, "key", large, waiter) for _ in range(2)]
    assert waiter.waits.wait(30)
    go.set()
    assert both[0].result(30) is both[1].result(30)
    assert store.get("key") is None
    assert store.bytes == 0
    store.compute("small", plain(array(100)), never)
    for name in ("first", "second"):
        store.compute(name, plain(array(2000)), never, stays=True)
        assert [store.get(each) is not None for each in ("first", "second", "small")] == [
            name == "first",
            name == "second",
            False,
        ]
    store.compute("small", plain(array(100)), never)
    assert store.get("second") is not None
    assert store.bytes <= 2001 * 1024


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 400), st.sampled_from("ab")), max_size=60))
def test_what_is_kept_never_exceeds_the_budget(uses: list[tuple[int, int, str]]) -> None:
    store = Store(MUCH)
    for key, size, session in uses:
        store.compute(key, plain(array(size)), never, session)
        kept = [weight(work.value, key) for key, work in store._works.items()]
        assert store.bytes == sum(kept) <= MUCH
        if size > 390 and session == "b":
            store.leave("b")


def test_keys_keep_to_the_budget_too() -> None:
    """What a key shares with its result counts once, and a function in it, which is the program's, not at all."""
    store, text = Store(MUCH), "x" * 100_000
    store.compute((plain, text), plain("result"), never)
    assert 100_000 < store.bytes < 102_000
    store.compute((plain, ("again", Pair("a", text))), plain(Holder({"a": text})), never)
    assert 200_000 < store.bytes < 204_000
    for number in range(30):
        store.compute(f"{number:100000}", plain(number), never)
        assert store.bytes <= MUCH
    assert [number for number in range(30) if store.get(f"{number:100000}") is not None] == [*range(20, 30)]
    store.compute("z" * 300_000, plain(1), never)
    assert store.get("z" * 300_000) is None
    store.clear()
    assert store.bytes == 0


# -- sessions -----------------------------------------------------------------------------


def test_who_leaves_takes_what_only_they_used() -> None:
    """The large, and whatever their own file is in, however deep; the small and what others use stays."""
    store, mine = Store(16 * MUCH), Own("digest")
    weights = own_weights(preset("resnet18"), (32, 32), "mine", mine)
    for key, size in (
        ("large", 2000),
        ("both", 2000),
        ("small", 1),
        (("own", ("a", mine)), 1),
        (weights, 1),
        ("nobody", 2000),
    ):
        store.compute(key, plain(array(size)), never, "" if key == "nobody" else "a")
    store.get("both", "b")
    store.leave("b")
    assert store.get("both") is not None
    store.get("both", "c")
    store.leave("a")
    kept = [
        key for key in ("large", "both", "small", ("own", ("a", mine)), weights, "nobody") if store.get(key) is not None
    ]
    assert kept == ["both", "small", "nobody"]
    store.leave("c")
    assert store.get("both") is None
    assert store.get("nobody") is not None


def test_who_leaves_while_it_is_computed_leaves_nothing() -> None:
    store = Store(16 * MUCH)

    def compute(tell: Progress) -> np.ndarray:
        store.leave("a")
        return array(2000)

    assert store.compute("key", compute, never, "a").size == 2000 * 1024
    assert store.get("key") is None


def test_what_a_download_made_of_a_file_goes_when_somebody_leaves() -> None:
    """A download is nobody's; what it made of a sample stays."""
    store, mine = Store(16 * MUCH), Own("digest")
    for key in (("download", mine), "sample"):
        store.compute(key, plain(array(1)), never, "")
    with ThreadPoolExecutor(1) as pool:
        begun, go = threading.Event(), threading.Event()

        def slowly(_: Any) -> Any:
            begun.set()
            return go.wait(30) and array(1)

        late = pool.submit(store.compute, ("late", mine), slowly, never)
        assert begun.wait(30)
        store.leave("a")
        go.set()
        late.result(30)
    assert store.get(("download", mine)) is None
    assert store.get("sample") is not None
    store.leave("b")
    assert store.get(("late", mine)) is None


def test_who_has_left_uses_nothing() -> None:
    """Their script may go on for a while, also with what others use."""
    store = Store(16 * MUCH)
    store.compute("others", plain(array(2000)), never, "b")
    store.leave("a")
    assert store.compute("late", plain(array(2000)), never, "a").size == 2000 * 1024
    assert store.compute(Own("digest"), plain(array(1)), never, "a").size == 1024
    assert store.get("late") is None
    assert store.get(Own("digest")) is None
    assert store.get("others", "a") is not None
    store.leave("b")
    assert store.get("others") is None


def test_who_lost_the_connection_may_come_back() -> None:
    """What they used is let go, and what they then ask for is kept."""
    store = Store(16 * MUCH)
    store.compute("key", plain(array(2000)), never, "a")
    store.leave("a", ends=False)
    assert store.get("key") is None
    assert not store.has_ended("a")
    store.compute("key", plain(array(2000)), never, "a")
    assert store.get("key") is not None
    store.leave("a")
    assert store.get("key") is None
    assert store.has_ended("a")


def test_what_was_made_of_a_file_is_forgotten_with_it() -> None:
    store = Store(MUCH)
    for key in ("sample", Own("digest"), ("deep", (1, Own("digest"))), Own("other")):
        store.compute(key, plain("result"), never)
    store.forget("digest")
    assert [key for key in ("sample", Own("digest"), ("deep", (1, Own("digest"))), Own("other")) if store.get(key)] == [
        "sample",
        "other",
    ]


def test_large_results_that_go_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(module, "tidy", lambda: asked.append(1))
    store = Store(16 * MUCH)
    store.compute("small", plain(array(100)), never, "a")
    store.compute("large", plain(array(2000)), never, "a")
    assert not asked
    store.leave("a")
    assert len(asked) == 1
    store.compute("too large", plain(array(8000)), never, "a")
    assert len(asked) == 2

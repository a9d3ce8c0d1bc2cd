"""`explorer.sharing.store`: one computation for all who ask, what is forgotten, and that nobody can change what is shared."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from streamlit.runtime.scriptrunner import RerunData, RerunException, StopException

from explorer.analysis.trace import Trace, trace
from explorer.sharing import store as module
from explorer.sharing.store import (
    LEAST,
    Holdings,
    NoRoomError,
    Own,
    Progress,
    Store,
    Tidying,
    budget,
    frozen,
    immutable,
    weight,
)
from resnet import ConfigError, ResNetConfig, build, preset
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
    monkeypatch.setattr(module, "LOOK", 0.005)
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


@pytest.mark.parametrize(
    "around", [lambda one: (1, one), lambda one: [one], lambda one: ({"a": [one]},)], ids=["tuple", "list", "both"]
)
def test_tuples_and_lists_are_looked_into(around: Callable[[np.ndarray], Any]) -> None:
    values = np.zeros(3)
    shared = frozen(around(values))
    assert isinstance(shared, tuple)
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1


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


def tensors() -> tuple[Any, int]:
    network = build(preset("resnet20"))
    return network, sum(one.nbytes for one in (*network.parameters(), *network.buffers()))


def twice() -> tuple[Any, int]:
    one = torch.zeros(1000, 100)
    return {"a": one, "b": one[5:], "c": one.numpy()[2:]}, one.nbytes


def half() -> tuple[Any, int]:
    return Holder({"a": Pair("a", np.zeros(50_000))}), 400_000


WEIGHED: dict[str, Callable[[], tuple[Any, int]]] = {
    "network": tensors,
    "one memory": twice,
    "dataclass": half,
    "view": lambda: (np.zeros((1000, 100))[::2], 800_000),
    "picture": lambda: (Image.new("RGB", (300, 200)), 240_000),
    "text": lambda: (["x" * 100_000, b"y" * 100_000], 200_000),
    "shapes alone": lambda: (build(preset("resnet50"), "meta"), 0),
}


@pytest.mark.parametrize("name", WEIGHED)
def test_a_weight_is_that_of_the_memory_behind(name: str) -> None:
    value, expected = WEIGHED[name]()
    modules = 3000 * sum(1 for _ in value.modules()) if hasattr(value, "modules") else 0
    assert expected <= weight(value) <= expected + 4000 + 3 * modules


def test_a_weight_is_what_python_allocates() -> None:
    """A trace, of objects only, against the account of the allocator."""
    trace(preset("resnet18"), (224, 224))
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        traced = trace(preset("resnet18"), (96, 100))
        gc.collect()
        allocated = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.8 < weight(traced) / allocated < 2.5
    assert weight(0) == weight(1) >= 512


@dataclass(frozen=True)
class Leaf:
    name: str
    shape: tuple[int, ...]
    next: Leaf | None = None


@dataclass(frozen=True)
class Whole:
    leaves: tuple[Leaf, ...]
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class WithList:
    whole: Whole
    items: list[int]


@dataclass
class Changing:
    name: str


@pytest.mark.parametrize(
    ("kind", "never_changes"),
    [
        (str, True),
        (Whole, True),
        (Trace, True),
        (ResNetConfig, True),
        (tuple[int, str], True),
        (Changing, False),
        (WithList, False),
        (Holder, False),
        (Pair, False),
        (tuple[Leaf, Changing], False),
        (list, False),
        (np.ndarray, False),
        (dict, False),
        (Any, False),
    ],
)
def test_what_can_never_change(kind: Any, never_changes: bool) -> None:
    assert immutable(kind) is never_changes


def test_many_of_a_kind_are_weighed_by_some() -> None:
    """About as all of them, one by one."""
    traced = trace(preset("resnet152"), (224, 224))
    each = sum(weight(layer) - LEAST for layer in traced.layers)
    assert 0.5 < weight(traced.layers) / each < 1.1
    others = (*(Leaf("a", (1,)) for _ in range(100)), *(np.zeros(1000) for _ in range(100)))
    assert weight(others) > 100 * 8000


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


# -- what people bring --------------------------------------------------------------------


class File:
    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


def test_room_is_reserved_before_a_file_is_read() -> None:
    """Six people at once, of whom three find room: nobody reads before all have asked."""
    holdings, asked, read = Holdings(350), threading.Barrier(6), []

    def upload(number: int) -> str:
        try:
            with holdings.room(100, f"{number}.pt") as hold:
                asked.wait(30)
                read.append(File(100))
                hold(read[-1])
                return ""
        except NoRoomError as error:
            asked.wait(30)
            return str(error)

    with ThreadPoolExecutor(6) as people:
        said = list(people.map(upload, range(6)))
    refused = [words for words in said if words]
    assert len(refused) == 3
    assert all(".pt finds no room: this server already holds" in words for words in refused)
    assert holdings.bytes == 300
    read.clear()
    gc.collect()
    assert holdings.bytes == 0


def test_ones_own_file_makes_way_for_the_next() -> None:
    holdings, mine = Holdings(100), File(80)
    with holdings.room(80, "first") as hold:
        hold(mine)
    assert holdings.bytes == 80
    with pytest.raises(NoRoomError), holdings.room(30, "another"):
        pytest.fail("there is no room")
    with holdings.room(90, "second", instead=mine):
        assert holdings.bytes == 170
    with pytest.raises(RuntimeError), holdings.room(20, "broken"):
        raise RuntimeError
    assert holdings.bytes == 80


def test_files_come_and_go_while_others_count() -> None:
    holdings = Holdings(MUCH)

    def people(_: int) -> None:
        mine: deque[File] = deque(maxlen=50)
        for _ in range(1000):
            with holdings.room(1, "name") as hold:
                mine.append(File(1))
                hold(mine[-1])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(people, range(3)))


@pytest.mark.parametrize("text", ["", "32", " 64 "])
def test_a_budget_in_mebibytes(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_EXPLORER_RESULTS_MIB", text)
    assert budget("RESNET_EXPLORER_RESULTS_MIB", 128) == 2**20 * int(text or 128)


@pytest.mark.parametrize("text", ["0", "15", "-1", "1e3", "many", "9" * 50, "1 GiB"])
def test_a_budget_that_is_none_gets_a_sentence(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_EXPLORER_RESULTS_MIB", text)
    with pytest.raises(
        ConfigError, match=r"RESNET_EXPLORER_RESULTS_MIB = .* is not accepted: a whole number of MiB, 16 or more\."
    ):
        budget("RESNET_EXPLORER_RESULTS_MIB", 128)


# -- giving memory back -------------------------------------------------------------------


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
        clock.now = module.THOROUGHLY_EVERY - 1
        module.collect()
        assert old() is not None
        assert gc.get_freeze_count()
        clock.now = module.THOROUGHLY_EVERY
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

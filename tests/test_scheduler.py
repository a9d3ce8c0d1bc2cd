"""Pages are drawn in turn: who has taken least goes first, and who waits for something else holds nobody up."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from explorer.bench.browser import ROOT
from explorer.inference.turns import Turn
from explorer.sharing import scheduler
from explorer.sharing.scheduler import (
    HALF_LIFE_SECONDS,
    HERE_SECONDS,
    MAX_REST_SECONDS,
    MUCH_SECONDS,
    PAGES,
    SHARE_SECONDS,
    SLICE_SECONDS,
    FairShare,
)
from explorer.sharing.store import Store
from helpers import soon
from resnet import confined, hub
from resnet.confined import Places


class Clock(SimpleNamespace):
    """Time and processor time, which only a test moves."""

    now = cpu = slept = 0.0

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def monotonic(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.cpu


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(scheduler, "time", clock)
    return clock


def take(share: FairShare, clock: Clock, user: str, seconds: float) -> None:
    """Let a user have a place for so many seconds of the processor."""
    with share.place(user):
        clock.cpu += seconds


def queue(share: FairShare, *users: str) -> Callable[[], list[str]]:
    """Threads that wait for a place in this order; the function gives the order in which they got one, at their end."""
    order: list[str] = []
    threads = []

    def work(user: str) -> None:
        with share.place(user):
            order.append(user)

    for user in users:
        waiting = len(share._waiting)
        threads.append(threading.Thread(target=work, args=(user,)))
        threads[-1].start()
        soon(lambda waiting=waiting: len(share._waiting) > waiting)

    def got() -> list[str]:
        for thread in threads:
            thread.join()
        return order

    return got


def test_who_has_taken_least_goes_first(clock: Clock) -> None:
    share = FairShare(1)
    take(share, clock, "calm", 0.0)
    take(share, clock, "busy", 5 * SHARE_SECONDS)
    clock.now += HALF_LIFE_SECONDS  # a newcomer's start is half forgotten
    with share.place("somebody"):
        got = queue(share, "busy", "new", "calm")
    assert got() == ["calm", "new", "busy"]


def test_equals_go_in_the_order_in_which_they_came(clock: Clock) -> None:
    share = FairShare(1)
    for user, seconds in (("a", 0.3), ("b", 0.2), ("c", 0.1)):
        take(share, clock, user, seconds * SHARE_SECONDS)
    clock.now += HALF_LIFE_SECONDS
    with share.place("somebody"):
        got = queue(share, *"abcab")
    assert got() == [*"abcab"]


def test_what_was_taken_is_forgotten(clock: Clock) -> None:
    share = FairShare(1)
    take(share, clock, "busy", 7 * SHARE_SECONDS)
    take(share, clock, "calm", 0.0)
    clock.now += 4 * HALF_LIFE_SECONDS
    with share.place("somebody"):
        got = queue(share, "busy", "calm")
    assert got() == ["busy", "calm"]


def test_so_many_have_a_place_at_once(clock: Clock) -> None:
    share = FairShare(2)
    with share.place("a"):
        other = queue(share)
        thread = threading.Thread(target=lambda: take(share, clock, "b", 0.0))
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
    assert other() == []


def test_a_place_is_given_back_where_an_error_ends_it(clock: Clock) -> None:
    share = FairShare(1)
    with pytest.raises(KeyError), share.place("a"), share.aside():
        raise KeyError
    with share.place("b"):
        pass
    assert share._free == 1


def test_who_waits_may_leave(clock: Clock) -> None:
    """What is asked meanwhile ends the wait, and the place goes to the next."""
    share = FairShare(1)
    asked = []

    def give_up() -> None:
        asked.append(1)
        raise KeyError

    with share.place("a"):
        with ThreadPoolExecutor(1) as pool, pytest.raises(KeyError):
            pool.submit(lambda: share.place("b", give_up).__enter__()).result(60)
        assert share._waiting == []
    assert asked == [1]
    assert share._free == 1


def test_seconds_on_the_clock(clock: Clock) -> None:
    """As passes are charged, which other threads compute."""
    share = FairShare(1, on_the_clock=True)
    for user, seconds in (("busy", 5 * SHARE_SECONDS), ("calm", 0.0)):
        with share.place(user):
            clock.now += seconds
    clock.now += HALF_LIFE_SECONDS
    with share.place("somebody"):
        got = queue(share, "busy", "calm")
    assert got() == ["calm", "busy"]


def test_a_thread_without_a_place_goes_on(clock: Clock) -> None:
    share = FairShare(1)
    with share.aside():
        share.breathe()
    assert share._free == 1


def test_who_waits_for_something_else_lets_others_go_on(clock: Clock) -> None:
    share = FairShare(1)
    with share.place("a"):
        got = queue(share, "b")
        with share.aside():
            assert got() == ["b"]
        assert share._free == 0


@pytest.mark.parametrize(
    ("waits", "taken", "passed", "gives"),
    [
        ("calm", 2 * SHARE_SECONDS, 0.0, True),
        ("calm", 0.0, 0.5 * SLICE_SECONDS, False),
        ("calm", 0.0, 2 * SLICE_SECONDS, True),
        ("busy", 0.0, 2 * SLICE_SECONDS, False),
    ],
    ids=["to who has taken less", "to an equal not yet", "to an equal after a while", "not to who has taken more"],
)
def test_a_page_gives_way(clock: Clock, waits: str, taken: float, passed: float, gives: bool) -> None:
    share = FairShare(1)
    for user in ("calm", "mine"):
        take(share, clock, user, 0.0)
    take(share, clock, "busy", 50 * SHARE_SECONDS)
    clock.now += HALF_LIFE_SECONDS
    with share.place("mine"):
        got = queue(share, waits)
        clock.cpu += taken
        clock.now += passed
        share.breathe()
        # Had it given way, the other had its place before it came back.
        assert (share._waiting == []) is gives
    assert got() == [waits]


@pytest.mark.parametrize(
    ("taken", "ago", "rests"),
    [
        (MUCH_SECONDS - SHARE_SECONDS + 0.25, 0.0, 0.25),
        (9 * SHARE_SECONDS, 0.0, MAX_REST_SECONDS),
        (MUCH_SECONDS - SHARE_SECONDS, 0.0, 0.0),
        (9 * SHARE_SECONDS, HERE_SECONDS, 0.0),
    ],
    ids=["what is too much", "not for ever", "not after little", "not where nobody else is"],
)
def test_who_takes_much_rests_where_others_are(clock: Clock, taken: float, ago: float, rests: float) -> None:
    share = FairShare(1)
    take(share, clock, "calm", 0.0)
    clock.now += ago
    take(share, clock, "busy", taken)
    share.rest("busy")
    assert clock.slept == pytest.approx(rests)
    share.rest("new")
    assert clock.slept == pytest.approx(rests)


def test_who_is_alone_never_rests(clock: Clock) -> None:
    share = FairShare(1)
    take(share, clock, "busy", 9 * SHARE_SECONDS)
    share.rest("busy")
    assert clock.slept == 0


def test_what_few_take_is_all_that_is_remembered(clock: Clock) -> None:
    share = FairShare(1)
    for number in range(5000):
        take(share, clock, f"visitor {number}", 0.0)
        clock.now += HALF_LIFE_SECONDS
    assert len(share._taken) <= 1001


# -- what a page waits for ----------------------------------------------------------------


def in_a_place(work: Callable[[], object]) -> threading.Thread:
    def run() -> None:
        with PAGES.place("one"):
            work()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def waits_for_a_pass(until: threading.Event) -> object:
    return Turn().run(lambda: until.wait(60))


def waits_for_a_result(until: threading.Event) -> object:
    store, begun = Store(2**20), threading.Event()

    def slowly(_: object) -> bool:
        begun.set()
        return until.wait(60)

    other = threading.Thread(target=store.compute, args=("key", slowly, lambda _: None))
    other.start()
    begun.wait(60)
    return store.compute("key", slowly, lambda _: None)


def waits_for_a_place(until: threading.Event) -> object:
    places = Places(1)
    held = threading.Event()

    def hold() -> None:
        with places.place():
            held.set()
            until.wait(60)

    threading.Thread(target=hold).start()
    held.wait(60)
    with places.place():
        return None


def waits_for_a_file(until: threading.Event) -> object:
    return confined.confined(Path(__file__), b"", 1)


def waits_for_a_download(until: threading.Event) -> object:
    return hub.download("http://127.0.0.1/x.pth", lambda done, total: None)


WAITS = (waits_for_a_pass, waits_for_a_result, waits_for_a_place, waits_for_a_file, waits_for_a_download)


@pytest.mark.parametrize("wait", WAITS)
def test_a_page_that_waits_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, wait: Callable[[threading.Event], object]
) -> None:
    until, begun, drawn = threading.Event(), threading.Event(), threading.Event()
    monkeypatch.setattr(confined, "aside", PAGES.aside)
    monkeypatch.setattr(confined, "_run", lambda *_: (b"", 0, not until.wait(60)))
    monkeypatch.setattr(hub, "_write", lambda *_: until.wait(60))

    def work() -> None:
        begun.set()
        wait(until)

    first = in_a_place(work)
    assert begun.wait(60)
    second = in_a_place(drawn.set)
    try:
        assert drawn.wait(10)
    finally:
        until.set()
        first.join()
        second.join()


# -- what nobody waits for ----------------------------------------------------------------

OPENED = """
import gc, json, sys
from streamlit import config
config._main_script_path = sys.argv[1]
config.get_config_options(force_reparse=True)
import explorer.app
before, looked_through = set(sys.modules), len(gc.get_objects())
from streamlit.testing.v1 import AppTest
app = AppTest.from_file(sys.argv[1], default_timeout=600)
app.query_params["preset"] = "resnet20_fashion"
app.run()
app.switch_page("../pages/inference.py").run()
assert not app.exception
print(json.dumps([sorted(set(sys.modules) - before), looked_through]))
"""


def test_the_server_starts_with_what_pages_need() -> None:
    """No visitor waits until torch's parts are imported, nor while Python looks for garbage among them."""
    script = str(ROOT / "explorer" / "script.py")
    ran = subprocess.run(
        [sys.executable, "-c", OPENED, script],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    imported, looked_through = json.loads(ran.stdout.splitlines()[-1])
    large = {"torch", "torchvision", "sympy", "triton", "pandas", "plotly", "explorer", "resnet"}
    assert [name for name in imported if name.split(".")[0] in large and name.count(".") < 2] == []
    assert looked_through < 10_000

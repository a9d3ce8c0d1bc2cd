"""Passes take turns on one thread, give way between their steps, and end where they take too much."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from PIL import Image
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.scriptrunner import RerunData
from streamlit.testing.v1 import AppTest, app_test
from streamlit.testing.v1.local_script_runner import LocalScriptRunner
from torch import Tensor, nn

from explorer.analysis.trace import trace
from explorer.bench.browser import ROOT
from explorer.experiments import gradients
from explorer.inference import attribution, latency, limits, preprocess, turns
from explorer.inference.attribution import STEPS, batch_size, grad_cam, integrated_gradients
from explorer.inference.effective_field import effective_field
from explorer.inference.limits import check_gradients, check_runnable
from explorer.inference.predict import predict
from explorer.inference.preprocess import prepare
from explorer.inference.turns import MIN_TURN_SIZE, ONE_AT_A_TIME, PASSES, PRIORITY, TooLargeError, Turn, Watch, in_turn
from explorer.sharing import scheduler
from explorer.sharing.holdings import Holdings
from explorer.sharing.scheduler import FairShare
from explorer.sharing.store import Store
from explorer.sharing.threads import single_thread
from helpers import CPU, frozen, hooks, opened, said, soon
from helpers import tab as at_tab
from resnet import ResNet, ResNetConfig, preset
from resnet.weights import Preprocessing, random_weights, randomly

SMALL = ResNetConfig(layers=(1, 1), planes=(4, 8), stem_width=4, num_classes=5)


@pytest.fixture
def network() -> ResNet:
    return frozen(SMALL)


@pytest.fixture
def other() -> Iterator[ThreadPoolExecutor]:
    """Somebody else's thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def noise(side: int = 32, channels: int = 3) -> Tensor:
    return torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(0))


# -- turns --------------------------------------------------------------------------------


def test_first_come_first_served_beside_one_who_asks_in_a_loop() -> None:
    order: list[str] = []
    begun, go = threading.Event(), threading.Event()

    def loop() -> None:
        for number in range(3):
            ONE_AT_A_TIME.run(partial(order.append, f"loop {number}"))

    def ask(function: Callable[[], object]) -> Future[Any]:
        """The function's thread, once it stands in line."""
        before = len(PASSES._waiting)
        asked = people.submit(function)
        soon(lambda: len(PASSES._waiting) > before)
        return asked

    def hold() -> None:
        begun.set()
        go.wait(30)

    with ThreadPoolExecutor(6) as people:
        held = people.submit(ONE_AT_A_TIME.run, hold)
        assert begun.wait(30)
        asked = [ask(loop), *(ask(partial(ONE_AT_A_TIME.run, partial(order.append, name))) for name in "abc")]
        go.set()
        for one in (held, *asked):
            one.result(30)
    assert order == ["loop 0", "a", "b", "c", "loop 1", "loop 2"]


def test_who_has_taken_long_passes_waits_for_who_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three people who ask for long passes, and one with a small image, who comes last."""
    order: list[str] = []
    people = threading.local()
    monkeypatch.setattr(turns, "user", lambda: getattr(people, "name", ""))
    monkeypatch.setattr(turns, "PASSES", FairShare(1, on_the_clock=True))
    now = [0.0]
    monkeypatch.setattr(scheduler, "time", SimpleNamespace(monotonic=lambda: now[0], thread_time=lambda: 0.0))

    def take(name: str, seconds: float) -> None:
        people.name = name

        def work() -> None:
            now[0] += seconds
            order.append(name)

        ONE_AT_A_TIME.run(work)

    for name in ("a", "b", "c", "small"):
        take(name, 0.01 if name == "small" else 2.0)
    order.clear()
    begun, go = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go.wait(30)

    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(ONE_AT_A_TIME.run, hold)]
        assert begun.wait(30)
        for name in ("a", "b", "c", "small"):
            before = len(turns.PASSES._waiting)
            asked.append(pool.submit(take, name, 0.0))
            soon(lambda before=before: len(turns.PASSES._waiting) > before)
        go.set()
        for one in asked:
            one.result(30)
    assert order[0] == "small"
    assert sorted(order[1:]) == ["a", "b", "c"]


def test_a_turn_within_a_turn_is_a_part_of_it(other: ThreadPoolExecutor) -> None:
    assert other.submit(ONE_AT_A_TIME.run, lambda: Turn().run(lambda: Turn().run(lambda: 7))).result(30) == 7


def test_a_turn_has_its_callers_threads_and_modes_of_its_own() -> None:
    def modes() -> tuple[int, bool, bool]:
        return torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    before = torch.get_num_threads()
    with single_thread(), torch.no_grad():
        assert ONE_AT_A_TIME.run(modes) == (1, True, False)

    @torch.inference_mode()
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ONE_AT_A_TIME.run(fail)
    assert ONE_AT_A_TIME.run(modes) == (before, True, False)
    assert torch.get_num_threads() == before


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority of its own")
def test_passes_give_way_to_the_rest_of_the_server() -> None:
    """So do the threads that a convolution is shared among."""
    if torch.get_num_threads() < 2:
        pytest.skip("needs two threads")
    ONE_AT_A_TIME.run(lambda: nn.functional.conv2d(torch.ones(1, 64, 64, 64), torch.ones(64, 64, 3, 3)))
    nice = [int(path.read_text(encoding="utf-8").rpartition(")")[2].split()[16]) for path in stats()]
    assert ONE_AT_A_TIME.run(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())) == PRIORITY
    assert nice.count(PRIORITY) >= 2
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) < PRIORITY


def stats() -> Iterator[Path]:
    return Path("/proc/self/task").glob("*/stat")


def test_what_a_turn_returned_is_not_kept() -> None:
    result = ONE_AT_A_TIME.run(lambda: torch.zeros(3))
    seen = weakref.ref(result)
    del result
    gc.collect()
    assert seen() is None


class Leaves(BaseException):
    """As Streamlit's, which are no errors of a kind that anybody catches."""


@pytest.fixture
def held(other: ThreadPoolExecutor) -> Iterator[threading.Event]:
    """A pass of somebody else's, which goes on when the event is set."""
    begun, go = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait(60)

    turn = other.submit(ONE_AT_A_TIME.run, work)
    assert begun.wait(30)
    yield go
    go.set()
    turn.result(30)


def test_who_leaves_takes_their_turn_out_of_the_line(held: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is held until the line gets there."""

    def leave() -> None:
        raise Leaves

    class Image:
        pass

    mine, ran = Image(), list[Image]()
    seen = weakref.ref(mine)
    monkeypatch.setattr(turns, "waiting", leave, raising=False)
    with pytest.raises(Leaves):
        ONE_AT_A_TIME.run(partial(ran.append, mine))
    del mine
    gc.collect()
    assert seen() is None
    held.set()
    monkeypatch.undo()
    assert ONE_AT_A_TIME.run(lambda: 7) == 7
    assert not ran


def test_who_leaves_as_their_turn_comes_hands_it_on(held: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []

    def leave() -> None:
        held.set()
        soon(lambda: not PASSES._waiting)
        raise Leaves

    monkeypatch.setattr(turns, "waiting", leave, raising=False)
    with pytest.raises(Leaves):
        ONE_AT_A_TIME.run(lambda: ran.append(1))
    monkeypatch.undo()
    assert ONE_AT_A_TIME.run(lambda: 7) == 7
    assert not ran


def script(fragment: bool) -> None:
    """A page, or a fragment of one, that waits for its turn."""
    import streamlit as st

    from explorer.inference.turns import ONE_AT_A_TIME
    from explorer.views import cached  # noqa: F401 - pages give way

    def part() -> None:
        st.text("waits")
        ONE_AT_A_TIME.run(lambda: None)
        st.text("is through")

    (st.fragment(part) if fragment else part)()


@pytest.mark.parametrize("fragment", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_a_script_that_was_stopped_or_is_to_run_again_leaves_the_line(
    fragment: bool, again: bool, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Streamlit's own runner of scripts, while somebody else's pass goes on."""
    runners: list[LocalScriptRunner] = []
    lines: list[int] = []

    class Runner(LocalScriptRunner):
        def _enqueue_forward_msg(self, message: ForwardMsg) -> None:
            super()._enqueue_forward_msg(message)
            if message.delta.new_element.text.body == "waits":
                lines.append(1)
                runners.append(self)

    monkeypatch.setattr(app_test, "LocalScriptRunner", Runner)
    app = AppTest.from_function(script, args=(fragment,), default_timeout=60)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(app.run)
        eventually(lambda: bool(runners))
        if again:
            assert runners[0].request_rerun(RerunData())
            eventually(lambda: len(lines) == 2)
        runners[0].request_stop()
        running.result(30)
    assert not held.is_set()
    assert [text.value for text in app.text] == ["waits"]


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- steps --------------------------------------------------------------------------------


def others_pass(network: ResNet, other: ThreadPoolExecutor) -> Callable[[float], None]:
    """A progress that waits until somebody else's pass is through."""

    def progress(share: float) -> None:
        other.submit(predict, network, noise(), CPU).result(30)

    return progress


def many_steps(network: ResNet, progress: Callable[[float], None]) -> list[Callable[[], object]]:
    layer = trace(SMALL, 32).by_name["layer2.0.conv1"]
    return [
        lambda: integrated_gradients(network, noise(), 1, CPU, progress),
        lambda: effective_field(network, layer, [noise()[0]] * 3, CPU, progress),
        lambda: latency.latency(network, noise(), CPU, 2, progress),
        lambda: latency.effects(network, noise(), CPU, progress, 0.01),
        lambda: gradients.initial_flows(trace(SMALL, 32), gradients.Plan(2, 1), CPU, progress),
    ]


@pytest.mark.parametrize("number", range(5))
def test_a_small_pass_comes_between_the_steps(number: int, network: ResNet, other: ThreadPoolExecutor) -> None:
    many_steps(network, others_pass(network, other))[number]()


@pytest.mark.parametrize("number", range(5))
def test_an_interruption_ends_the_work_at_its_next_step(number: int, network: ResNet) -> None:
    class Stop(BaseException):
        """As Streamlit's, which are no errors of a kind that anybody catches."""

    told: list[float] = []

    def stop(share: float) -> None:
        told.append(share)
        raise Stop

    with pytest.raises(Stop):
        many_steps(network, stop)[number]()
    assert len(told) == 1
    assert told[0] < 1
    assert not hooks(network)
    assert predict(network, noise(), CPU).finite


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_integrated_gradients_in_steps_are_those_at_once(batch: int) -> None:
    model, image = randomly(SMALL).double().requires_grad_(False), noise(64).double()
    found = integrated_gradients(model, image, 2, CPU, batch=batch)
    at_once = IntegratedGradients(model).attribute(image, target=2, n_steps=STEPS)[0].detach().sum(0).numpy()
    assert np.abs(found.pixels - at_once).max() < 1e-6 * np.abs(at_once).max()


def test_fewer_steps_go_together_in_a_large_network() -> None:
    sizes = {("resnet20_fashion", 28): attribution.BATCH, ("resnet50", 224): attribution.BATCH, ("resnet152", 416): 1}
    assert {each: batch_size(trace(preset(each[0]), each[1])) for each in sizes} == sizes


# -- limits -------------------------------------------------------------------------------

THIN: dict[str, Any] = {"block": "basic", "stem": "3x3", "stem_pool": "none", "num_classes": 10}
"""Convolutions of few channels are padded to many, on maps as large as the image."""
WORST = (
    ResNetConfig(**THIN, layers=(8,), planes=(1,), in_channels=1),
    ResNetConfig(**THIN, layers=(2,), planes=(17,), activation="gelu", norm="group"),
    ResNetConfig(
        **{**THIN, "block": "bottleneck"}, layers=(2,), planes=(64,), groups=32, base_width=1, antialias="blur"
    ),
)

MEASURED = """
import sys, time
import torch
from explorer.inference.device import Device
from explorer.inference.predict import predict
from resnet import ResNetConfig
from resnet.weights import randomly

def status(name):
    lines = open("/proc/self/status", encoding="utf-8").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

torch.set_num_threads(2)
for config, side in eval(sys.argv[1]):
    network = randomly(config).requires_grad_(False)
    open("/proc/self/clear_refs", "w", encoding="utf-8").write("5")  # the peak is that from here on
    before, start = status("VmRSS"), time.process_time()
    predict(network, torch.zeros(1, config.in_channels, side, side), Device("cpu", "CPU"))
    print((status("VmHWM") - before) / 2**30, time.process_time() - start)
"""


def largest(config: ResNetConfig) -> int:
    """The largest side of an image that may be run, in multiples of 32 pixels, up to 8192."""

    def refused(side: int) -> bool:
        try:
            check_runnable(trace(config, side))
        except TooLargeError:
            return True
        return False

    sides = range(32, 8192, 32)
    return sides[bisect_left(sides, True, key=refused) - 1]


@pytest.mark.skipif(sys.platform != "linux", reason="reads a process's memory where Linux shows it")
def test_the_largest_that_may_run_stays_within_the_limits() -> None:
    """In a process of its own, by its peak of resident memory and the processor's time that each took."""
    given = repr([(config, largest(config)) for config in WORST])
    command = [sys.executable, "-c", MEASURED, given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=300)
    assert not done.returncode, done.stderr
    for line in done.stdout.splitlines():
        growth, seconds = map(float, line.split())
        assert growth < 1.25
        assert seconds < 15


def test_a_thin_network_at_a_large_size_is_refused() -> None:
    with pytest.raises(TooLargeError, match=r"an image takes \d\.\d GiB, and the limit is 1\.0 GiB\."):
        check_runnable(trace(WORST[0], 6688))


def test_a_gradient_that_keeps_too_much_is_refused() -> None:
    check_gradients(trace(preset("resnet152"), 416))
    with pytest.raises(TooLargeError, match=r"^Gradients at 1024×1024 pixels .* activations take 2\.\d GiB"):
        check_gradients(trace(preset("resnet101"), 1024))


# -- the watch ----------------------------------------------------------------------------


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One item a look."""
    seen: list[int] = []
    monkeypatch.setattr(Watch, "look", lambda _: seen.append(1))
    return seen


def test_a_large_pass_is_watched_at_each_convolution_and_a_small_one_never(network: ResNet, looks: list[int]) -> None:
    convolutions = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    predict(network, noise(32), CPU)
    assert not looks
    predict(network, noise(128), CPU)
    assert len(looks) == convolutions
    grad_cam(network, noise(128), ["conv1"], 0, CPU)
    assert len(looks) == 3 * convolutions - 1  # there and back, as far as conv1
    assert not hooks(network)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("MAX_SECONDS", r"taken 0\.\d s: the limit is 0\.0 s"),
        ("MAX_GROWTH_BYTES", r"taken 3\.0 GiB: the limit is 0\.0 GiB"),
    ],
)
def test_the_watch_ends_a_pass(limit: str, words: str, network: ResNet, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = iter(range(0, 2**40, 3 * 2**30))
    with monkeypatch.context() as strict:
        strict.setattr(turns, "WATCH_SECONDS", 0.0)
        strict.setattr(turns, "resident_bytes", lambda: next(memory))
        strict.setattr(turns, limit, 0.0)
        if limit == "MAX_GROWTH_BYTES":
            strict.setattr(turns, "MAX_SECONDS", float("inf"))
        else:
            strict.setattr(turns, "MAX_GROWTH_BYTES", 2**50)
        with pytest.raises(TooLargeError, match=rf"^An image of 3×128×128 through .* was stopped .* {words}"):
            predict(network, noise(128), CPU)
    assert not hooks(network)
    assert predict(network, noise(128), CPU).finite


@pytest.mark.parametrize("grows", ["a file", "a result", "the pass"])
def test_a_pass_is_not_ended_for_what_others_bring(
    grows: str, network: ResNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 3 GiB by which the server grows during a pass."""
    holdings, results, much = Holdings(2**40), Store(2**40), 3 * 2**30
    monkeypatch.setattr(turns, "HELD_FILES", holdings)
    monkeypatch.setattr(turns, "RESULTS", results)
    monkeypatch.setattr(turns, "WATCH_SECONDS", 0.0)
    grown: list[int] = []
    monkeypatch.setattr(turns, "resident_bytes", lambda: sum(grown))

    def grow(*_: object) -> None:
        grown.append(much)
        if grows == "a file":
            stack.enter_context(holdings.room(much, "theirs.pt"))
        elif grows == "a result":
            results.bytes += much

    network.conv1.register_forward_pre_hook(grow)
    with ExitStack() as stack:
        if grows == "the pass":
            with pytest.raises(TooLargeError, match=r"taken 3\.0 GiB"):
                predict(network, noise(128), CPU)
        else:
            assert predict(network, noise(128), CPU).finite


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_that_is_written_is_resident() -> None:
    before = turns.resident_bytes()
    held = torch.ones(2**26)
    assert turns.resident_bytes() - before > 2**27
    assert held.sum() == 2**26


# -- images and pages -------------------------------------------------------------------


def test_a_prepared_image_is_what_it_was_in_memory_that_is_its_own() -> None:
    from PIL import Image

    for config in (SMALL, preset("resnet20_fashion")):
        given = random_weights(config, (48, 40)).data.preprocessing
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8))
        found = prepare(image, given)
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (given.mean, given.std))
        assert np.array_equal(found.tensor[0].numpy(), (found.pixels.transpose(2, 0, 1) - mean) / std)
        assert found.tensor.is_contiguous()
        assert not np.shares_memory(found.pixels, found.tensor.numpy())
        assert 0 <= found.pixels.min() <= found.pixels.max() <= 1


@pytest.mark.parametrize("tab", ["Why this class", "Receptive field"])
def test_a_tab_says_that_gradients_are_too_large(tab: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_GRADIENT_BYTES", 1000)
    app = at_tab(opened("inference", preset="resnet20_fashion", at="layer3.2.act1"), tab)
    words = [word for word in said(app.error if tab == "Why this class" else app.info) if "Gradients at" in word]
    assert len(words) == 1
    assert "and the limit is" in words[0]


# -- what is large about an image --------------------------------------------------------


def test_what_takes_as_long_as_a_pass_takes_a_turn() -> None:
    def here() -> str:
        return threading.current_thread().name

    assert in_turn(MIN_TURN_SIZE, here).startswith("passes")
    assert in_turn(MIN_TURN_SIZE - 1, here) == here()


@pytest.mark.parametrize(
    ("side", "crop", "turn"), [(2000, 28, True), (28, 1300, True), (28, 28, False)], ids=["image", "input", "none"]
)
def test_an_image_is_prepared_in_a_turn_where_it_is_large(
    side: int, crop: int, turn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    cropped = preprocess.cropped

    def note(*given: Any) -> Image.Image:
        threads.append(threading.current_thread().name)
        return cropped(*given)

    monkeypatch.setattr(preprocess, "cropped", note)
    prepare(Image.new("RGB", (side, side)), Preprocessing(crop, crop, (0.5,) * 3, (0.5,) * 3))
    assert [name.startswith("passes") for name in threads] == [turn]

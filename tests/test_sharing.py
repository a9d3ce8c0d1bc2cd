"""One server, several people: what somebody sees depends on their own choices and on nothing else that happens.

What is right is what the same functions give alone, on networks and servers of their own.
"""

from __future__ import annotations

import io
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from plotly.graph_objects import Figure
from streamlit.components.v2.component_manager import BidiComponentManager
from streamlit.runtime import Runtime
from streamlit.runtime.dataframe_source_manager import DataframeSourceManager
from streamlit.runtime.media_file_manager import MediaFileManager
from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage
from streamlit.runtime.scriptrunner import RerunData, RerunException, StopException
from streamlit.testing.v1 import AppTest, app_test, util
from torch import Tensor

from explorer.analysis.trace import trace
from explorer.experiments.gradients import flows_by_batch
from explorer.experiments.identity import AppendSettings, append, new_blocks
from explorer.figures import inference
from explorer.inference.ablation import without_blocks
from explorer.inference.addition import addition, contributions
from explorer.inference.attribution import grad_cam
from explorer.inference.device import Device
from explorer.inference.effective_field import effective_field
from explorer.inference.images import open_image
from explorer.inference.latency import effects
from explorer.inference.predict import activation, predict
from explorer.inference.preprocess import prepare
from explorer.inference.samples import samples
from explorer.sharing.footprint import memory_bytes
from explorer.sharing.holdings import Holdings, NoRoomError
from explorer.sharing.store import RESULTS, FileDigest, Store
from explorer.sharing.threads import single_thread
from explorer.views import cached, paths
from explorer.views import own_checkpoint as checkpoint
from explorer.views import session as session_view
from explorer.views.experiments import gradients as gradient_view
from explorer.views.experiments import identity as identity_view
from explorer.views.inference import ablation, images, receptive_field
from helpers import CPU, SCRIPT, SMALL, captions, closed, held, hold, hooks, opened, run, shown, texts, turned_to
from resnet import ConfigError, ResNet, ResNetConfig, preset
from resnet.checkpoint import Opened
from resnet.confined import Places
from resnet.weights import BUNDLED, bundled, load, own_weights, random_weights, randomly, torchvision_weights

pytestmark = pytest.mark.usefixtures("one_thread")

SHIPPED = bundled(BUNDLED["resnet20"])[0]


@pytest.fixture(autouse=True)
def _often_interrupted() -> Iterator[None]:
    """Threads take turns every few steps, where by default one runs for 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def sneaker() -> Tensor:
    sample = next(sample for sample in samples() if sample.label == "Sneaker")
    return prepare(open_image(sample.open()), SHIPPED.data.preprocessing).tensor


# -- one network --------------------------------------------------------------------------


class Pass:
    """Somebody's pass through a network, with an eye on some layers, which stops inside until it is let go."""

    def __init__(self, network: ResNet, image: Tensor, pool: ThreadPoolExecutor):
        self.inside, self.go = threading.Event(), threading.Event()
        self.network, self.handle = network, network.fc.register_forward_pre_hook(self.stop)
        self.result = pool.submit(predict, network, image, CPU, ["conv1", "layer1.0.add", "layer3.2.add"])
        assert self.inside.wait(30)
        self.handle.remove()

    def stop(self, *_: Any) -> None:
        self.inside.set()
        assert self.go.wait(30)


def copy_for_training(network: ResNet) -> ResNet:
    """What `flows_by_batch` runs, caught on its way through."""
    caught: list[ResNet] = []
    handle = network.conv1.register_forward_pre_hook(lambda *_: None)
    handle.remove()
    images, labels = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("explorer.experiments.gradients.flow", lambda model, *_: caught.append(model))
        list(flows_by_batch(network, ["conv1"], [(images, labels)], CPU))
    return caught[0]


COPIES: Mapping[str, tuple[Callable[[ResNet], ResNet], list[str]]] = {
    "blocks off": (lambda network: without_blocks(network, ["layer2.1"]), ["layer2.1.add"]),
    "blocks appended": (
        lambda network: append(
            network, AppendSettings(3, 1), new_blocks(network.config, AppendSettings(3, 1), False, True)
        ),
        [],
    ),
    "trained gradients": (copy_for_training, []),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_never_carries_a_strangers_hooks(name: str) -> None:
    make, own = COPIES[name]
    network = load(SHIPPED).requires_grad_(False)
    with ThreadPoolExecutor(2) as pool:
        stranger = Pass(network, sneaker(), pool)
        copy = pool.submit(make, network)
        wait([copy], timeout=0.3)  # where nothing holds it up it is there long before
        stranger.go.set()
        assert hooks(copy.result(30)) == own
        assert stranger.result.result(30).finite
    assert hooks(network) == []
    assert not network.training


def arrays(found: Any) -> list[np.ndarray]:
    """All numbers of a result, without the seconds that it took."""
    if isinstance(found, np.ndarray | float | int | str | bool):
        return [np.asarray(found)]
    if isinstance(found, Mapping):
        return [array for name in sorted(found) for array in arrays(found[name])]
    return [array for item in found for array in arrays(item)]


def works(network: ResNet) -> list[Callable[[], Any]]:
    """What people do with a network that they share."""
    image, layers = sneaker(), trace(network.config, 28).by_name
    batch = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3])

    def said(model: ResNet, watched: list[str]) -> Any:
        prediction = predict(model, image, CPU, watched)
        return prediction.probabilities, prediction.strongest

    def appended() -> Any:
        return said(
            append(network, AppendSettings(2, 1), new_blocks(network.config, AppendSettings(2, 1), False, False)),
            ["layer2.3"],
        )

    return [
        lambda: said(network, ["conv1", "layer1.0.add", "layer3.2.act"]),
        lambda: said(without_blocks(network, ["layer1.1", "layer3.2"]), ["layer2.0.add", "fc"]),
        appended,
        lambda: addition(network, image, "layer2.0", CPU),
        lambda: addition(without_blocks(network, ["layer2.0"]), image, "layer2.0", CPU),
        lambda: contributions(network, image, CPU),
        lambda: activation(network, image, "layer2.1.conv1", CPU),
        lambda: grad_cam(network, image, ["layer1.2", "layer3.2"], 3, CPU),
        lambda: effective_field(network, layers["layer1.2.conv2"], [image[0]], CPU),
        lambda: list(flows_by_batch(network, ["conv1", "layer3.2.conv2"], [batch], CPU)),
    ]


def test_people_at_work_on_one_network_get_what_they_get_alone() -> None:
    alone = [arrays(work()) for work in works(load(SHIPPED).requires_grad_(False))]
    network = load(SHIPPED).requires_grad_(False)
    shared = works(network)
    start = threading.Barrier(2)

    def person(seed: int) -> None:
        chance = np.random.default_rng(seed)
        start.wait(30)
        for number in chance.permutation(np.repeat(np.arange(len(shared)), 12)):
            for ours, expected in zip(arrays(shared[number]()), alone[number], strict=True):
                np.testing.assert_array_equal(ours, expected, err_msg=f"work {number}")

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(person, seed) for seed in range(2)]:
            done.result(300)
    assert hooks(network) == []
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(tensor, load(SHIPPED).state_dict()[name]) for name, tensor in network.state_dict().items())


def test_other_forms_are_copies_without_hooks() -> None:
    """The network itself keeps its form while `effects` measures others."""
    network = load(SHIPPED).requires_grad_(False)
    effects(network, sneaker(), CPU, budget=0.0)
    assert hooks(network) == []
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


# -- chance -------------------------------------------------------------------------------

KINDS = [
    SMALL,
    replace(SMALL, drop_path=0.3),
    replace(SMALL, norm="group"),
    replace(SMALL, norm="none"),
    replace(SMALL, attention="se", order="pre", antialias="blur"),
    replace(SMALL, attention="eca"),
    preset("resnet20"),
]


def equal(a: ResNet, b: ResNet) -> bool:
    return all(torch.equal(tensor, b.state_dict()[name]) for name, tensor in a.state_dict().items())


@pytest.mark.parametrize("config", KINDS, ids=lambda config: f"{config.norm} {config.attention} {config.drop_path}")
def test_random_weights_are_the_same_beside_another_network(config: ResNetConfig) -> None:
    alone = randomly(config)
    start = threading.Barrier(2)

    def make(seed: int) -> list[ResNet]:
        start.wait(30)
        return [randomly(config, seed) for _ in range(10)]

    with ThreadPoolExecutor(2) as pool:
        ours, _ = pool.map(make, (0, 7))
    assert [equal(network, alone) for network in ours] == [True] * 10
    assert not equal(alone, randomly(config, 7))


def test_torchs_own_generator_has_no_say() -> None:
    for config in KINDS:
        torch.manual_seed(1)
        before, first = torch.get_rng_state(), randomly(config)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        assert equal(first, randomly(config))


PAGES = [
    ("start", {}),
    ("architecture", {}),
    ("kernels", {}),
    ("kernels", {"tab": "The 1×1 convolution"}),
    ("claims", {}),
    ("source", {}),
    ("choose", {}),
    *(
        ("inference", {"preset": "resnet20", "weights": "random", "tab": tab})
        for tab in ("Maps", "Addition", "Receptive field", "Why this class", "Weights", "Several images")
    ),
    *(
        ("experiments", {"preset": "resnet20_fashion", "tab": tab})
        for tab in ("Gradients", "Shattered gradients", "Identity")
    ),
]


@pytest.mark.usefixtures("few")
def test_no_page_asks_torchs_own_generator(fresh: Callable[[], None]) -> None:
    """So no page depends on it, and none changes it for another."""
    for page, query in PAGES:
        before = torch.get_rng_state()
        opened(page, **query)
        assert torch.equal(torch.get_rng_state(), before), (page, query)


def test_the_number_of_threads_outlives_people_who_want_one() -> None:
    """Whatever the order in which several leave, torch's number elsewhere is what it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    counted: list[tuple[int, int]] = []

    def person(_: int) -> None:
        outside = torch.get_num_threads()
        with single_thread(), single_thread():
            inside = torch.get_num_threads()
        counted.append((inside, outside - torch.get_num_threads()))

    try:
        for _ in range(30):
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(person, range(4)))
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(torch.get_num_threads).result() == 2
        assert set(counted) == {(1, 0)}
    finally:
        torch.set_num_threads(before)


# -- what is kept -------------------------------------------------------------------------


def test_a_run_is_told_from_others_by_everything_it_depends_on() -> None:
    """By the key's fields one by one; another name for the same weights is no difference."""
    seen: list[int] = []

    @cached.shared()
    def count(key: cached.Key) -> int:
        seen.append(1)
        return len(seen)

    small, large = random_weights(SMALL, (32, 32)), random_weights(SMALL, (48, 48))
    uploads = [replace(small, key="upload", digest=digest) for digest in "ab"]
    base = cached.Key("digest", False, small, (), CPU)
    keys = [
        base,
        base._replace(image="other"),
        base._replace(inverted=True),
        base._replace(weights=large),
        *(base._replace(weights=upload) for upload in uploads),
        base._replace(weights=random_weights(replace(SMALL, order="pre"), (32, 32))),
        base._replace(off=("layer1.0",)),
        base._replace(off=("layer1.0", "layer1.1")),
        base._replace(form=replace(CPU, half=True)),
        base._replace(form=replace(CPU, channels_last=True)),
        base._replace(form=replace(CPU, torch="cuda")),
    ]
    assert len(set(keys)) == len(keys)
    assert len({count(key) for key in keys}) == len(keys)
    renamed = base._replace(weights=replace(small, title="my file"))
    assert renamed == base
    assert count(renamed) == count(base)
    assert base.plain == base._replace(form=replace(CPU, half=True, channels_last=True)).plain
    assert base._replace(off=("layer1.0",)).whole == base


def test_images_of_all_sizes_share_one_network(fresh: Callable[[], None]) -> None:
    small, large = random_weights(SMALL, (32, 32)), random_weights(SMALL, (48, 64))
    network = cached.model(small, CPU)
    assert cached.model(large, CPU) is network
    others = (replace(SMALL, order="pre"), CPU), (SMALL, replace(CPU, channels_last=True))
    assert all(cached.model(random_weights(config, (32, 32)), form) is not network for config, form in others)


@pytest.mark.parametrize("together", [1, 2])
def test_networks_are_built_as_far_as_their_bytes_go(
    together: int, fresh: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four people, four networks of nearly one size."""
    at_work: list[int] = []
    most: list[int] = []
    some = threading.Barrier(together)

    def load_slowly(*given: Any, **named: Any) -> ResNet:
        at_work.append(1)
        most.append(len(at_work))
        some.wait(30)
        threading.Event().wait(0.2)  # whoever may come in does
        try:
            return load(*given, **named)
        finally:
            at_work.pop()

    configs = [replace(SMALL, num_classes=10 + number) for number in range(4)]
    size = 4 * max(trace(config, 32).params for config in configs)
    monkeypatch.setattr(cached, "BUILDING", Places(together * size), raising=False)
    monkeypatch.setattr(cached, "load", load_slowly)
    with ThreadPoolExecutor(4) as people:
        found = list(people.map(lambda config: cached.model(random_weights(config, (32, 32)), CPU), configs))
    assert [network.config for network in found] == configs
    assert max(most) == together


def test_who_waits_to_build_can_leave(fresh: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    def leave() -> None:
        raise InterruptedError

    monkeypatch.setattr(cached, "load", lambda *_, **__: pytest.fail("it is not built"))
    monkeypatch.setattr(cached.turns, "waiting", leave)
    with cached.BUILDING.place(size=2**40), pytest.raises(InterruptedError):
        cached.model(random_weights(SMALL, (32, 32)), CPU)
    with cached.BUILDING.place(1, size=2**40):  # nobody is left in the line
        pass


def test_a_key_holds_no_names_of_classes() -> None:
    """A key takes little of what results may, however many classes there are."""
    many = cached.Key("digest", False, random_weights(replace(SMALL, num_classes=100_000), (32, 32)), (), CPU)
    assert memory_bytes(many) < 10_000
    names = many.weights.data.categories
    assert (len(names), names[0], names[-1], names.index("class 70000")) == (100_000, "class 0", "class 99999", 70_000)
    known = ("class 7", "class 99999", "class 07", "class 100000", "class -1", "class ", "class ٧", 7)
    assert [name in names for name in known] == [True, True, *[False] * 6]
    assert many.weights == random_weights(replace(SMALL, num_classes=100_000), (32, 32))
    published = [torchvision_weights(preset(name))[0] for name in ("resnet50", "resnet101")]
    assert published[0].data.categories == published[1].data.categories
    assert all(memory_bytes(cached.Key("digest", False, weights, (), CPU)) < 10_000 for weights in published)


def test_tensors_of_another_upload_are_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    held = checkpoint.UploadedCheckpoint("name", FileDigest("a"), {"": Opened(SMALL, {"conv1.weight": torch.zeros(1)})})
    other = replace(held, digest=FileDigest("b"))
    ours = Holdings(1000)
    monkeypatch.setattr(checkpoint, "uploaded_checkpoint", lambda: held)
    monkeypatch.setattr(checkpoint, "HELD_FILES", ours)
    with ours.room(0, "") as hold:
        hold(held)
        hold(other)
    weights = replace(random_weights(SMALL, (32, 32)), key="upload", digest="a")
    assert checkpoint.uploaded_tensors(weights) is held.tensors  # outside of any session, as downloads are made
    assert checkpoint.uploaded_tensors(replace(weights, digest="b")) is other.tensors
    monkeypatch.setattr(checkpoint, "get_script_run_ctx", lambda **_: "a session")
    assert checkpoint.uploaded_tensors(weights) is held.tensors
    assert checkpoint.uploaded_tensors(replace(weights, digest="b")) is None


def test_a_checkpoint_waits_for_others_no_longer_than_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(checkpoint, "READING", Places(1))
    monkeypatch.setattr(checkpoint, "uploaded_checkpoint", lambda: None)
    monkeypatch.setattr(checkpoint, "read_upload", lambda *_: pytest.fail("it is not read"))
    file = MagicMock(getvalue=lambda: b"bytes")
    file.name = "mine.pt"
    words = r"^mine\.pt cannot be read now \(others are read\): try again in a moment\.$"
    with checkpoint.READING.place(), pytest.raises(NoRoomError, match=words):
        checkpoint.keep_upload(file)


def test_nothing_is_read_for_a_session_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its run ends there: it would hold the file and what is made of it."""
    store, file = Store(2**20), samples()[0].open()
    monkeypatch.setattr(cached, "RESULTS", store)
    monkeypatch.setattr(cached, "session", lambda: "a")
    assert open_image(file).size
    store.leave("a", ends=False)
    assert open_image(file).size
    store.leave("a")
    with pytest.raises(StopException):
        open_image(file)


@pytest.mark.parametrize(("size", "alone"), [(100, False), (2**26, True)])
def test_a_large_checkpoint_is_read_alone(size: int, alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Since its bytes and its tensors are in memory at once."""
    monkeypatch.setattr(checkpoint, "uploaded_checkpoint", lambda: None)

    def another_is_let_in(*_: object) -> None:
        with checkpoint.READING.place(0.05):
            raise ConfigError("checkpoint", "another", "none")

    monkeypatch.setattr(checkpoint, "read_upload", another_is_let_in)
    file = MagicMock(getvalue=lambda: bytes(size))
    file.name = "mine.pt"
    with pytest.raises(TimeoutError if alone else ConfigError):
        checkpoint.keep_upload(file)


def test_who_asks_for_the_same_sees_that_they_wait(monkeypatch: pytest.MonkeyPatch, fresh: Callable[[], None]) -> None:
    """Two people, one computation, and a person's words and bar while the other computes."""
    told: dict[str, list[tuple[float, str]]] = {"first": [], "second": []}
    begun, waits = threading.Event(), threading.Event()
    runs: list[str] = []

    class Bar:
        def __init__(self, share: float, words: str):
            self.progress(share, words)

        def progress(self, share: float, words: str) -> None:
            told[threading.current_thread().name].append((share, words))
            if "Somebody else" in words:
                waits.set()

        def empty(self) -> None:
            pass

    monkeypatch.setattr(cached.st, "progress", Bar)

    def compute(move: Callable[[float], None]) -> str:
        runs.append(threading.current_thread().name)
        move(0.5)
        begun.set()
        assert waits.wait(30)
        return "result"

    found: dict[str, str] = {}

    def ask() -> None:
        found[threading.current_thread().name] = cached.cached_result("key", "Counting …", compute)

    people = [threading.Thread(target=ask, name=name) for name in told]
    people[0].start()
    assert begun.wait(30)
    people[1].start()
    for person in people:
        person.join(30)
    assert found == {"first": "result", "second": "result"}
    assert runs == ["first"]
    assert told["second"][-1] == (0.5, "Counting … Somebody else asked for the same; this is how far it is.")
    assert cached.cached_result("key", "Counting …", lambda move: pytest.fail("it is kept")) == "result"


@pytest.mark.parametrize("end", [StopException(), RerunException(RerunData())], ids=repr)
def test_who_waits_takes_over_where_the_other_stops(
    end: BaseException, monkeypatch: pytest.MonkeyPatch, fresh: Callable[[], None]
) -> None:
    """A bar ends the run of the one who was first, as Streamlit does once they click; nothing of theirs is kept."""
    waits, stopped = threading.Event(), threading.Event()

    class Bar:
        def __init__(self, share: float, words: str):
            self.progress(share, words)

        def progress(self, share: float, words: str) -> None:
            if "Somebody else" in words:
                waits.set()
            elif share == 0.5 and not stopped.is_set():
                assert waits.wait(30)
                stopped.set()
                raise end

    monkeypatch.setattr(cached.st, "progress", Bar)

    def compute(move: Callable[[float], None]) -> str:
        begun.set()
        move(0.5)
        return threading.current_thread().name

    begun, found = threading.Event(), []

    def ask() -> None:
        try:
            found.append(cached.cached_result("key", "Counting …", compute))
        except type(end):
            found.append("stopped")

    people = [threading.Thread(target=ask, name=name) for name in ("first", "second")]
    people[0].start()
    assert begun.wait(30)
    people[1].start()
    for person in people:
        person.join(30)
    assert sorted(found) == ["second", "stopped"]
    assert RESULTS.get("key") == "second"


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("tab", ["Identity", "Shattered gradients"])
def test_what_was_stopped_is_computed_once_it_is_asked_for(
    tab: str, fresh: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "short_key", lambda key: "a name")
    app = opened("experiments", preset="resnet20", activation="elu", tab="Degradation")
    hold(app, stopped=frozenset({"a name"}))
    app.session_state["view"] = replace(app.session_state["view"], tab=tab)
    charts = run(app).get("plotly_chart")
    assert not charts
    (again,) = [button for button in app.button if button.label == "Compute it"]
    again.click()
    assert run(app).get("plotly_chart")
    assert not held(app).stopped
    assert not [button for button in app.button if button.label in ("Compute it", "Stop")]


def test_several_images_are_stopped_and_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "short_key", lambda key: "a name")
    app = opened("inference", preset="resnet20_fashion")
    hold(app, stopped=frozenset({"a name"}))
    app.session_state["view"] = replace(app.session_state["view"], tab="Several images")
    (again,) = [button for button in run(app).button if button.label == "Compute it"]
    assert "several" not in str([one.proto for one in app.get("bidi_component")])
    again.click()
    labels = [button.label for button in run(app).button]
    assert "several" in str([one.proto for one in app.get("bidi_component")])
    assert not {"Compute it", "Stop"} & {*labels}


def test_a_chart_of_a_persons_weights_is_forgotten_with_them(fresh: Callable[[], None]) -> None:
    mine = FileDigest("digest")
    layers = trace(SMALL, 32)
    result = MagicMock(weights=own_weights(SMALL, (32, 32), "mine", mine), off=(), device=CPU, trace=layers)
    given = effective_field(randomly(SMALL), layers.by_name["layer1.0.add"], [torch.randn(3, 32, 32)], CPU)
    receptive_field.width_card(result, layers.by_name["layer1.0.add"], given)

    def drawn() -> list[Any]:
        return [work.value for work in RESULTS._works.values() if isinstance(work.value, Figure)]

    assert len(drawn()) == 1
    RESULTS.forget(mine)
    assert not drawn()


def test_what_follows_from_the_rest_is_no_part_of_a_key(fresh: Callable[[], None]) -> None:
    @cached.shared()
    def joined(a: str, _b: list[str], c: str) -> str:
        return a + _b[0] + c

    assert joined("a", ["b"], "c") == "abc"
    assert joined("a", ["another"], "c") == "abc"
    assert joined("b", ["b"], "c") == "bbc"
    (key, _) = [key for key, work in RESULTS._works.items() if work.value in ("abc", "bbc")]
    assert isinstance(key, tuple)
    assert key[1:] == ("a", "c")
    with pytest.raises(AssertionError, match="by place"):
        joined("a", ["b"], c="d")


def test_a_broken_result_is_not_kept_and_the_next_one_tries(fresh: Callable[[], None]) -> None:
    answers: Iterator[Any] = iter([RuntimeError("broken"), "whole"])

    @cached.shared()
    def fails(name: str) -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(RuntimeError, match="broken"):
        fails("name")
    assert fails("name") == "whole"


def test_six_people_bring_a_checkpoint_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for three, whatever they have read when they ask."""

    class State(threading.local):
        def setdefault(self, name: str, default: Any) -> Any:
            return self.__dict__.setdefault(name, default)

    tensors = {"weight": torch.zeros(2500)}
    ours, start, kept = Holdings(3 * 10_000 + 100), threading.Barrier(6), []
    monkeypatch.setattr(checkpoint, "HELD_FILES", ours)
    monkeypatch.setattr(session_view, "st", MagicMock(session_state=State()))
    monkeypatch.setattr(
        checkpoint,
        "read_upload",
        lambda data, name: checkpoint.UploadedCheckpoint(name, FileDigest(name), {"": Opened(SMALL, dict(tensors))}),
    )

    def bring(number: int) -> str:
        start.wait(30)
        try:
            checkpoint.keep_upload(SimpleNamespace(getvalue=lambda: b"data", name=f"{number}.pt"))  # type: ignore[arg-type]
        except NoRoomError as error:
            return str(error)
        kept.append(checkpoint.uploaded_checkpoint())
        return ""

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(bring, range(6)))
    assert len(kept) == 3
    assert sum("finds no room" in words for words in said) == 3
    assert ours.bytes == 30_000


@pytest.mark.usefixtures("few")
def test_gradients_stand_that_nothing_is_kept(fresh: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = texts(opened("experiments", tab="Gradients", preset="plain20_fashion"))
    fresh()
    monkeypatch.setattr(RESULTS, "budget", 0)
    for _ in range(3):
        assert texts(opened("experiments", tab="Gradients", preset="plain20_fashion")) == expected
    assert any("From the last convolution to the first, the gradient of" in text for text in expected)


def test_what_everybody_is_shown_nobody_can_change(fresh: Callable[[], None]) -> None:
    """Every array behind the tabs of a run."""
    app = opened("inference", preset="resnet20_fashion", image="0000-ankle-boot", tab="Maps")
    assert not app.exception
    with pytest.raises(ValueError, match="read-only"):
        cached.cached_result("array", "…", lambda move: np.zeros(3))[0] = 1
    assert RESULTS.get("array").tolist() == [0, 0, 0]
    sample = samples()[0]
    decoded = images.cached_pixels(sample.name, sample.pixels)
    with pytest.raises(ValueError, match="read-only"):
        decoded[0, 0] = 0
    images.from_sample(sample).apply(lambda ours: ours.paste("red", (0, 0, 4, 4)))
    assert np.array_equal(images.from_sample(sample).apply(np.asarray), decoded)


def test_one_image_is_saved_by_several_people(fresh: Callable[[], None]) -> None:
    """Saving writes the encoder's settings into a PIL image, where others would meet them; so each person has their own."""
    sample = samples()[0]

    def save(image: Image.Image, quality: int) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return buffer.getvalue()

    alone = {quality: save(open_image(sample.open()), quality) for quality in (5, 95)}
    asked = list(alone) * 100
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda quality: images.from_sample(sample).apply(lambda ours: save(ours, quality)), asked)
        assert [data == alone[quality] for quality, data in zip(asked, found, strict=True)] == [True] * len(asked)


def test_a_shared_figure_is_drawn_and_left_alone(fresh: Callable[[], None]) -> None:
    config = preset("resnet20")
    figure = paths.cached_paths(config, (32, 32), "layer3.2.act").figure
    before = figure.to_json()
    for _ in range(2):
        opened("inference", preset="resnet20", weights="random", at="layer3.2.act", tab="Receptive field", size="32")
    assert paths.cached_paths(config, (32, 32), "layer3.2.act").figure is figure
    assert figure.to_json() == before


# -- the tabs -----------------------------------------------------------------------------


def session(page: str, form: Device | None = None, **query: str) -> AppTest:
    """A person at a page, who chose a precision and a layout before."""
    app = closed(**query)
    if form:
        hold(app, form=form)
    return turned_to(app, page)


def branch_norm(app: AppTest) -> str:
    (found,) = re.findall(r"‖F\(x\)‖ = ([\d.]+)", captions(app))
    return found


@pytest.mark.parametrize(
    "changes", [{"half": True}, {"channels_last": True}, {"half": True, "channels_last": True}], ids=str
)
@pytest.mark.parametrize("first", [True, False])
def test_an_addition_is_that_of_the_form(first: bool, changes: dict[str, Any], fresh: Callable[[], None]) -> None:
    """‖F‖ of a bf16 session beside one in fp32, by a network of its own; 72.14 and 72.40 on most processors."""
    plain = cached.cached_devices()[0]
    form = replace(plain, **changes)
    expected = {
        each: next(
            one.branch for one in contributions(each.network(load(SHIPPED)), sneaker(), each) if one.block == "layer2.0"
        )
        for each in (plain, form)
    }
    assert ("half" in changes) == (abs(expected[plain] - expected[form]) > 0.1)
    for each in (plain, form) if first else (form, plain):
        app = session("inference", each, preset="resnet20_fashion", tab="Addition")
        assert branch_norm(app) == f"{expected[each]:.4g}"


def test_a_lesion_is_of_the_class_that_the_form_names(
    fresh: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights whose whole network names another class in bf16 than in fp32 for the same image."""
    figure, plain = inference.ablation_figure, cached.cached_devices()[0]
    half = replace(plain, half=True)
    weights = random_weights(preset("resnet18"), (32, 32))
    networks = {each: each.network(load(weights)) for each in (plain, half)}
    for sample in samples():
        tensor = prepare(open_image(sample.open()), weights.data.preprocessing).tensor
        said = {each: predict(network, tensor, each) for each, network in networks.items()}
        best = {each: prediction.top(1)[0][0] for each, prediction in said.items()}
        if best[plain] != best[half]:
            break
    else:
        pytest.skip("no sample is so near a tie on this processor")
    drawn: list[ablation.Series] = []

    def draw(found: ablation.Series, *rest: Any) -> Any:
        drawn.append(found)
        return figure(found, *rest)

    monkeypatch.setattr(inference, "ablation_figure", draw)
    for each in (plain, half):
        query = {"preset": "resnet18", "weights": "random", "size": "32", "image": sample.name, "tab": "Blocks off"}
        app = session("inference", each, **query)
        for button in [button for button in app.button if button.label == "Each one in turn"]:
            button.click().run()
        (found,) = drawn.pop().values()
        # measured in fp32, of the class that each form names
        assert found[-1].block == ""
        assert found[-1].right_probability == pytest.approx(float(said[plain].probabilities[best[each]]), rel=1e-5)


# -- two sessions -------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is measured."""
    monkeypatch.setattr(gradient_view, "BATCH", 2)
    monkeypatch.setattr(gradient_view, "BATCHES", 1)
    for module in ("explorer.experiments.gradients", "explorer.views.experiments.gradients"):
        monkeypatch.setattr(f"{module}.BLOCK_COUNTS", (1, 2))
        monkeypatch.setattr(f"{module}.POINT_COUNT", 12)
    monkeypatch.setattr(identity_view, "image_count", lambda *_: 4)


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AppTest swaps parts of the process for each run, and so can do one at a time: here they are swapped once for all."""
    runtime = MagicMock(spec=Runtime)
    runtime.media_file_mgr = MediaFileManager(MemoryMediaFileStorage("/mock/media"))
    runtime.dataframe_source_mgr = DataframeSourceManager()
    runtime.bidi_component_registry = BidiComponentManager()
    runtime.bidi_component_registry.discover_and_register_components(start_file_watching=False)
    monkeypatch.setattr(Runtime, "_instance", runtime)
    monkeypatch.setattr(app_test, "Runtime", type("Nobody", (), {}))
    monkeypatch.setattr(app_test, "BidiComponentManager", lambda: runtime.bidi_component_registry)
    monkeypatch.setattr(runtime.bidi_component_registry, "discover_and_register_components", lambda **_: None)
    monkeypatch.setattr(app_test, "patch_config_options", lambda _: nullcontext())
    with util.patch_config_options({"global.appTest": True}):
        yield


@dataclass(frozen=True)
class Choice:
    """Everything that a person can choose on the way to what they see; only what concerns a tab changes it."""

    page: str = "inference"
    tab: str = "Addition"
    preset: str = "resnet20_fashion"
    size: str = "32"
    shortcut: str = ""
    weights: str = ""
    image: str = "0000-ankle-boot"
    invert: str = "by its border"
    off: str = ""
    at: str = "layer2.0.conv1"
    unit: str = ""
    channel: int = 0
    explained: str = ""
    half: bool = False
    channels_last: bool = False
    appended: str = "3-1"

    def open(self) -> AppTest:
        app = AppTest.from_file(str(SCRIPT), default_timeout=120)
        for name in ("preset", "size", "shortcut", "weights", "image", "off", "at", "unit", "tab", "appended"):
            if value := getattr(self, name):
                app.query_params[name] = value
        place = Device("cpu", f"CPU, {torch.get_num_threads()} threads")
        hold(app, form=replace(place, half=self.half, channels_last=self.channels_last))
        app.query_params["channel"] = str(self.channel)
        app.session_state["invert"] = self.invert
        if self.explained:
            app.query_params["class"] = self.explained
        return turned_to(app, self.page)


TABS = ("Maps", "Addition", "Receptive field", "Why this class", "Weights", "Several images")
OTHERS: Mapping[str, st.SearchStrategy[Any]] = {
    "page": st.sampled_from(["inference", "experiments"]),
    "tab": st.sampled_from([*TABS, "Identity"]),
    "preset": st.sampled_from(["resnet20_fashion", "plain20_fashion", "resnet20"]),
    "size": st.sampled_from(["32", "40", "32x48"]),
    "shortcut": st.sampled_from(["", "A", "B"]),
    "weights": st.sampled_from(["", "random"]),
    "image": st.sampled_from(["0000-ankle-boot", "0030-bag", "chelsea"]),
    "invert": st.sampled_from(["by its border", "yes", "no"]),
    "off": st.sampled_from(["", "layer2.1", "layer2.1,layer3.1"]),
    "at": st.sampled_from(["layer1.0.conv1", "layer2.0.conv1", "layer3.1.act2"]),
    "unit": st.sampled_from(["", "1-2", "3-3"]),
    "channel": st.sampled_from([0, 3, 5]),
    "explained": st.sampled_from(["", "Coat", "Bag"]),
    "half": st.booleans(),
    "channels_last": st.booleans(),
    "appended": st.sampled_from(["3-1", "1-1", "2-2"]),
}


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Choice, Choice]:
    """Two people who differ in one choice."""
    first = Choice(**{name: draw(values) for name, values in OTHERS.items() if name != "page"})
    name = draw(st.sampled_from([name for name in OTHERS if name != "page"]))
    second = replace(first, **{name: draw(OTHERS[name].filter(lambda value: value != getattr(first, name)))})
    return tuple(replace(one, page="experiments" if one.tab == "Identity" else "inference") for one in (first, second))  # type: ignore[return-value]


def at_once(people: tuple[Choice, ...]) -> list[list[str]]:
    start = threading.Barrier(len(people))

    def visit(choice: Choice) -> list[str]:
        start.wait(60)
        return shown(choice.open())

    with ThreadPoolExecutor(len(people)) as pool:
        return list(pool.map(visit, people))


@pytest.mark.usefixtures("few", "together")
@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@example((Choice(), Choice(half=True)))
@example((Choice(tab="Why this class"), Choice(tab="Why this class", off="layer2.1")))
@example(tuple(Choice(tab="Receptive field", preset="resnet20", weights="random", size=size) for size in ("32", "40")))
@given(pairs())
def test_two_sessions_show_what_a_fresh_server_shows(people: tuple[Choice, Choice]) -> None:
    alone = []
    for choice in people:
        RESULTS.clear()
        alone.append(shown(choice.open()))
    RESULTS.clear()
    for order in (people, people[::-1]):  # the second time on a server that has seen both
        for choice, found in zip(order, at_once(order), strict=True):
            expected = alone[people.index(choice)]
            assert [(a, b) for a, b in zip(found, expected, strict=False) if a != b] == [], choice
            assert len(found) == len(expected)

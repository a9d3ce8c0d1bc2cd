"""Forms of deployment against other ways to compute them: torch, onnxruntime, saved files, and a quantised convolution by hand."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from streamlit.testing.v1 import AppTest
from torch import Tensor, nn

from explorer.bench.visitors import unescaped
from explorer.experiments.shipped import labelled_inputs
from explorer.export import compiling, deployed, int8
from explorer.export.apart import awaited
from explorer.export.deployed import FORMS, Form, Images, Refusal, Result, Running
from explorer.export.errors import ExportError
from explorer.export.folding import fold
from explorer.export.onnx import model
from explorer.inference import turns
from explorer.inference.device import Device
from explorer.inference.latency import spread
from explorer.inference.samples import samples
from explorer.sharing.engine import LostError
from explorer.sharing.worker import WorkerProcess
from explorer.views.inference import deployed as view
from helpers import CPU, captions, click, opened, own_checkpoint, page_text, run, small, tab, trained
from resnet import ResNet, preset
from resnet.command import MissingError
from resnet.weights import bundled, load, randomly

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network() -> ResNet:
    return trained(randomly(small()))


@pytest.fixture(scope="module")
def images() -> Images:
    given = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    return Images(given[:4], given, tuple(range(8)))


def saved_bytes(network: nn.Module, path: Path) -> int:
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
    return path.stat().st_size


def test_every_form_is_what_it_says(network: ResNet, images: Images, tmp_path: Path) -> None:
    """Scores and sizes of all forms that come within seconds, against torch and the files themselves."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    shares: list[float] = []
    found = deployed.measure(network, CPU, images, FORMS, 3, shares.append, budget=0.0)
    results = {one.form: one for one in found if isinstance(one, Result)}
    assert list(results) == list(FORMS)
    assert shares == sorted(shares)
    assert {number / len(FORMS) for number in range(len(FORMS) + 1)} <= set(shares)
    with torch.no_grad():
        expected = network(images.tested)
    half = randomly(small())
    half.load_state_dict(network.state_dict())
    sizes = {name: results[name].bytes for name in FORMS}
    assert sizes["as it is"] == sizes["channels last"] == saved_bytes(network, tmp_path / "a")
    assert sizes["batch norms folded"] == saved_bytes(fold(network), tmp_path / "b")
    assert sizes["half precision"] == saved_bytes(half.to(torch.bfloat16), tmp_path / "c")
    file = model(fold(network), (32, 32), {})
    assert sizes["ONNX, fp32"] == len(file)
    assert sizes["ONNX, int8"] == len(int8.quantised(file, images.calibration.numpy()))
    limits = dict(zip(FORMS, (0.0, 1e-5, 1e-5, 0.05, 1e-5, 0.2), strict=True))
    for name, one in results.items():
        assert one.difference <= limits[name], name
        assert one.rounds >= deployed.LEAST_ROUNDS
        assert 0 <= one.same <= 8
    right = int((expected.argmax(1) == torch.arange(8)).sum())
    for name in ("as it is", "batch norms folded", "ONNX, fp32"):
        assert (results[name].same, results[name].right) == (8, right)
    assert results["half precision"].difference > 1e-5
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert next(network.parameters()).is_contiguous()


def test_integers_are_those_of_a_convolution_by_hand(caplog: pytest.LogCaptureFixture) -> None:
    """One convolution: weights by a scale for each output channel, activations by the range of the calibration."""
    network = trained(randomly(small(layers=(1, 1))))
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    file = model(fold(network), (32, 32), {})
    made = onnx.load_from_string(int8.quantised(file, images.numpy()))
    assert not caplog.records  # onnxruntime gives no advice to fold what is folded
    tensors = {one.name: numpy_helper.to_array(one) for one in made.graph.initializer}
    weight = dict(fold(network).named_parameters())["conv1.weight"].detach().numpy()
    scale, integers = tensors["conv1.weight_scale"], tensors["conv1.weight_quantized"]
    most = 64 if int8.saturates() else 127
    assert integers.dtype == np.int8
    assert scale == pytest.approx(np.abs(weight).max((1, 2, 3)) / most, rel=1e-5)
    assert (integers == np.clip(np.rint(weight / scale[:, None, None, None]), -most, most)).all()
    low, high = float(images.min()), float(images.max())
    assert tensors["image_scale"] == pytest.approx((high - low) / 255, rel=1e-5)
    assert tensors["image_zero_point"] == round(-low / ((high - low) / 255))
    step, zero = tensors["image_scale"], int(tensors["image_zero_point"])
    quantised = np.clip(np.rint(images.numpy() / step) + zero, 0, 255) - zero
    bias = tensors["conv1.bias_quantized"]
    sums = nn.functional.conv2d(
        torch.tensor(quantised).double(), torch.tensor(integers).double(), stride=2, padding=3
    ).numpy()
    by_hand = (sums + bias[:, None, None]) * (step * scale)[:, None, None]
    with torch.no_grad():
        exact = fold(network).get_submodule("conv1")(images).numpy()
    output = next(node.output[0] for node in made.graph.node if node.name == "conv1")
    made.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    (theirs,) = session.run([output], {"image": images.numpy()})
    assert np.abs(theirs - by_hand).max() < 1e-5 * np.abs(exact).max()
    assert np.abs(by_hand - exact).max() < np.abs(exact).max() / 30


def test_it_is_said_on_how_many_images_integers_keep_the_class(
    network: ResNet, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        scores = network(images.calibration)
    monkeypatch.setattr(int8.onnx, "scores", lambda *_: torch.cat([-3 * scores[:1], scores[1:]]))
    made = int8.model(network, images.calibration, {})
    assert (made.images, made.same) == (4, 3)
    assert made.change == pytest.approx(float(4 * scores[0].abs().max() / scores.abs().max()))


@pytest.mark.parametrize(
    ("machine", "able", "saturates"),
    [
        ("x86_64", {"avx2": True}, True),
        ("AMD64", {"avx2": True, "avx512_vnni": True}, False),
        ("x86_64", {"avx2": True, "avx_vnni": True}, False),
        ("arm64", {}, False),
    ],
)
def test_weights_have_7_bits_where_sums_of_two_products_would_overflow(
    machine: str, able: dict[str, bool], saturates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert int8.saturates() == saturates


def test_what_a_form_does_not_take_is_a_sentence(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    group = randomly(small(norm="group")).requires_grad_(False)
    names = ("batch norms folded", "ONNX, fp32", "ONNX, int8")
    monkeypatch.setattr(deployed, "MAX_INT8_BYTES", 1000)
    (folded, exact, large) = deployed.measure(group, CPU, images, {name: FORMS[name] for name in names}, 8, budget=0.0)
    assert isinstance(large, Refusal)
    assert large.reason == "The weights take 0 MiB: up to 0 MiB are quantised here."
    assert isinstance(folded, Refusal)
    assert folded.reason.startswith("norm = group cannot be folded")
    assert isinstance(exact, Result)  # its norms stay
    gpu = CPU.__class__("cuda", "a GPU")
    with pytest.raises(ExportError, match="onnxruntime runs on the CPU here, and a GPU is measured"):
        deployed.onnx_file(group, gpu, images)


def made_up(seconds: list[float], seen: list[int]) -> Running:
    left = iter(seconds)

    def scores(batch: Tensor) -> Tensor:
        seen.append(len(batch))
        return batch.flatten(1)[:, :2]

    return Running(10, scores, lambda image: next(left))


def test_the_ratio_is_taken_round_by_round(images: Images) -> None:
    """And classes and scores are those of batches, three images of which have another class than before."""
    seen: list[int] = []
    before, after = [9.0, 9.0, 1.0, 2.0, 4.0, 8.0, 10.0], [9.0, 9.0, 2.0, 4.0, 8.0, 4.0, 5.0]
    expected = images.tested.flatten(1)[:, :2] * torch.tensor([-1, -1, -1, 1, 1, 1, 1, 1])[:, None]
    base, made = made_up(before, []), made_up(after, seen)
    one = deployed.result("x", made, base, expected, CPU, images, 4, budget=5 * 2 * (9.0 + 9.0))
    assert one.rounds == 5  # a round is two passes of each, of which the second counts
    assert one.ratio.median == np.median([2, 2, 2, 0.5, 0.5])
    assert one.seconds.median == 4.0
    assert (one.same, seen) == (5, [4, 4])
    assert one.difference == pytest.approx(float(2 * expected[:3].abs().max() / expected.abs().max()))


def failing(error: Exception) -> Form:
    def form(*_: Any) -> Any:
        raise error

    return form


def test_a_form_that_cannot_be_had_says_why_and_the_others_are_measured(network: ResNet, images: Images) -> None:
    forms = {
        "lost": failing(LostError("the process has ended")),
        "missing": failing(MissingError("It needs onnx.")),
        "as it is": FORMS["as it is"],
    }
    *refused, last = deployed.measure(network, CPU, images, forms, 8, budget=0.0)
    assert refused == [
        Refusal("lost", "It cannot be measured now: the process has ended."),
        Refusal("missing", "It needs onnx."),
    ]
    assert isinstance(last, Result)


def test_onnxruntime_computes_on_as_many_threads_as_torch(network: ResNet, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = onnxruntime.InferenceSession

    def session(file: bytes, options: onnxruntime.SessionOptions, **given: Any) -> onnxruntime.InferenceSession:
        asked.append(options.intra_op_num_threads)
        return real(file, options, **given)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    deployed.runs_onnx(model(network, (32, 32), {}))
    assert asked == [torch.get_num_threads()] == [1]


# -- another process ----------------------------------------------------------------------


class Here:
    """In place of a process: iterators run where they are asked."""

    ended = False

    def run(self, function: Callable[..., Iterator[Any]], *arguments: Any) -> Iterator[Any]:
        return function(*arguments)

    def keep_running(self) -> AbstractContextManager[None]:
        return nullcontext()

    def end(self) -> None:
        self.ended = True


def test_a_compiled_network_is_timed_beside_itself(
    network: ResNet, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, folders = Here(), list[Path]()
    monkeypatch.setattr(deployed, "WorkerProcess", lambda: place)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "before")

    def compile_(given: ResNet, **how: Any) -> Callable[[Tensor], Tensor]:
        """For one image at a time."""
        folders.append(Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]))
        assert folders[0].is_dir()
        assert (how, torch.get_num_threads()) == ({"dynamic": False, "backend": "inductor"}, 1)

        def run(image: Tensor) -> Tensor:
            assert len(image) == 1
            return 2 * given(image)

        return run

    monkeypatch.setattr(torch, "compile", compile_)
    seen: list[int] = []

    def second_pass(run: Callable[[Tensor], Tensor], batch: Tensor, device: Device) -> float:
        seen.append(len(batch))
        return float(run(batch).abs().sum())

    monkeypatch.setattr(compiling, "second_pass", second_pass)
    (one,) = deployed.measure(network, CPU, images, {"x": deployed.compiled}, 8, budget=0.0)
    assert isinstance(one, Result)
    assert one.ratio.median == pytest.approx(2)  # of a network whose compiled form says twice as much
    assert one.difference == pytest.approx(1)
    assert (one.same, one.rounds) == (8, deployed.LEAST_ROUNDS)
    assert seen == [1] * 2 * (deployed.LEAST_ROUNDS + 1)
    assert place.ended
    assert not folders[0].exists()


def test_a_compiler_that_is_missing_is_a_sentence(
    network: ResNet, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_(*_: Any, **__: Any) -> Any:
        raise InvalidCxxCompilerError("No working C++ compiler found")

    class InvalidCxxCompilerError(RuntimeError):
        pass

    monkeypatch.setattr(torch, "compile", compile_)
    items = compiling.compile_apart(network.config, network.state_dict(), CPU, images.tested[:1], 1, "")
    with pytest.raises(ExportError, match=r"^torch.compile does not work here: it generates C\+\+, and no compiler"):
        next(items)
    assert compiling.reason(ValueError("a\nb.")) == "ValueError: a b."


def sleep() -> Iterator[int]:
    import time

    time.sleep(600)
    yield 1


def test_who_stops_waiting_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise KeyError("stopped")

    monkeypatch.setattr(turns, "waiting", stop)
    process = WorkerProcess()
    with pytest.raises(KeyError, match="stopped"):
        awaited(process, process.run(sleep))
    assert process._child is None or process._child.poll() is not None


def test_what_fails_apart_is_a_sentence_and_an_entry_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A page would end in a traceback."""
    process = WorkerProcess()
    with pytest.raises(ExportError, match=r"^It cannot be made, which is a fault of this program: it is in the log\.$"):
        awaited(process, process.run(map, int, ["one"]))
    assert "invalid literal for int" in caplog.text


def test_a_process_that_ends_while_it_makes_a_form_is_a_sentence() -> None:
    def gone() -> Iterator[int]:
        raise LostError("the process has ended")
        yield 1

    with pytest.raises(ExportError, match=r"^It cannot be made now: the process has ended\.$"):
        awaited(Here(), gone())  # type: ignore[arg-type]


# -- the page -----------------------------------------------------------------------------


def test_resnet50_says_the_same_before_and_after_folding() -> None:
    network = trained(randomly(preset("resnet50")))
    app = tab(own_checkpoint(network.state_dict(), preset="resnet50"), "Speed")
    told = re.search(
        r"Before and after folding the network says \*\*(.+)\*\*, ([\d.]+%) and ([\d.]+%)\. No score changes by more than "
        r"[\d.]+·10⁻[⁶-⁹] of the largest\. There are 53 layers fewer, the same 4,089 M MACs, and 21% fewer bytes",
        page_text(app),
    )
    assert told
    assert told[2] == told[3]
    (bars,) = (html.proto.body for html in app.get("html") if "as it is" in html.proto.body)
    widths = re.findall(r'<div title="([\d.]+%)">', bars)
    assert widths[::2] == widths[1::2]
    assert widths[0] == told[2]
    assert len(widths) == 10


def forms_table(app: AppTest) -> pandas.DataFrame:
    """The table of the forms, whatever else has been measured on this server."""
    return next(one.value for one in app.dataframe if "Largest change of a score" in one.value)


def test_a_network_that_ships_is_judged_on_test_images_that_calibrate_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    folded = "batch norms folded"
    monkeypatch.setattr(view, "MEASUREMENTS", {view.BUTTON: {folded: FORMS[folded]}})
    monkeypatch.setattr(deployed, "rounds_within", lambda budget, one: 1)
    seen: list[Images] = []
    measure = deployed.measure

    def watched(*given: Any) -> Any:
        seen.append(given[2])
        return measure(*given)

    monkeypatch.setattr(deployed, "measure", watched)
    app = opened("inference", preset="resnet20_fashion", tab="Speed")
    assert "Before and after folding the network says **" in page_text(app)
    click(app, "Measure the forms")
    images, labels = labelled_inputs(500)
    assert torch.equal(seen[0].tested, images[:400])
    assert torch.equal(seen[0].calibration, images[400:])
    with torch.no_grad():
        right = int((load(bundled(preset("resnet20_fashion"))[0])(images[:400]).argmax(1) == labels[:400]).sum())
    table = forms_table(app)
    assert list(table["Right"]) == [f"{right / 400:.1%} ({right})"]
    assert list(table["Same best class"]) == ["400 of 400"]
    run(app)
    assert len(seen) == 1
    click(app, "Measure the forms again")
    assert len(seen) == 2


def test_measurements_are_shared_by_all_that_they_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "attempt", lambda button: 0)

    def key(digest: str = "image", button: str = view.BUTTON, **other: Any) -> tuple[object, ...]:
        of = {"weights": "a", "device": CPU, "invert": False} | other
        return view.measurement_key(SimpleNamespace(**of), [SimpleNamespace(digest=digest)], button)  # type: ignore

    every = [key(), key("other"), key(weights="b"), key(device=replace(CPU, half=True)), key(invert=True)]
    every.append(key(button=view.COMPILE_BUTTON))
    assert len({*every}) == len(every)
    assert key() == every[0]


@pytest.mark.usefixtures("nothing_loaded")
def test_another_network_is_tried_on_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Images] = []

    def measure(network: ResNet, device: Device, images: Images, *_: Any) -> tuple[Result | Refusal, ...]:
        seen.append(images)
        one = spread([1.0, 2.0])
        return Result("ONNX, int8", 5, one, one, 2, 3, float("nan"), None), Refusal("torch.compile", "It has *none*.")

    monkeypatch.setattr(deployed, "measure", measure)
    app = opened("inference", preset="resnet20", tab="Speed", weights="random")
    click(app, "Compile and measure")
    assert len(seen[0].tested) == len({sample.label for sample in samples()})
    assert seen[0].labels is None
    assert seen[0].calibration is seen[0].tested
    assert forms_table(app)["Largest change of a score"].tolist() == ["overflow"]
    assert "**torch.compile**: It has *none*." in unescaped(captions(app))


def test_why_a_network_cannot_be_folded_is_no_alarm() -> None:
    app = opened("inference", preset="resnet20", norm="group", tab="Speed", weights="random")
    assert "norm = group cannot be folded: batch norm is accepted" in unescaped(captions(app))
    assert not app.error


def result(form: str, ratio: float) -> Result:
    return Result(form, 50, spread([1.0, 1.0]), spread([ratio, ratio]), 5, 9, 0.0, None)


def test_the_sentence_names_what_is_faster() -> None:
    plain = result("as it is", 1.0)._replace(bytes=100)
    assert view.sentence([plain, result("half precision", 1.2)], 10) == (
        "No form is faster here than the network as it is, beyond the spread of the passes."
    )
    within = result("half precision", 0.8)._replace(ratio=spread([0.5, 0.8, 1.1, 1.2]))
    assert view.sentence([plain, within], 10).startswith("No form is faster here")
    assert view.sentence([plain, result("half precision", 0.8), result("ONNX, int8", 0.25)], 10) == (
        "The fastest form here is **ONNX, int8**: a pass takes 0.25 times as long as one of the network as it is, in a file of "
        "0.50 times the size, with the same best class on 9 of 10 images."
    )

"""`explorer.inference` and the images of `explorer.drawing.rasters`: what a network sees, says, and does on the way."""

from __future__ import annotations

import base64
import io
import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from math import floor, prod
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from timm.data import create_transform
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor
from torchvision.transforms._presets import ImageClassification

from explorer.analysis.receptive_field import PIXEL, Field
from explorer.analysis.trace import trace
from explorer.drawing import rasters
from explorer.figures import inference
from explorer.inference import limits
from explorer.inference.device import devices
from explorer.inference.images import open_image
from explorer.inference.limits import check_runnable
from explorer.inference.predict import (
    HELD_BYTES,
    Prediction,
    activation,
    by_strength,
    predict,
    statistics,
    strongest_map,
)
from explorer.inference.preprocess import border_brightness, prepare
from explorer.inference.samples import samples
from explorer.inference.turns import TooLargeError
from explorer.views.cached import model
from explorer.views.inference import running, verdict
from explorer.views.inference.maps import scale_legend
from explorer.views.inference.verdict import bars
from helpers import CLOTHES, CPU, TABS, captions, hooks, look_at, opened, page_text
from resnet import ResNet, ResNetConfig, preset
from resnet import weights as weights_module
from resnet.datasets import Interpolation
from resnet.weights import BUNDLED, FASHION_MNIST, Preprocessing, bundled, load, named, random_weights, randomly

IMAGENET = Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
FASHION = FASHION_MNIST.preprocessing


pytestmark = pytest.mark.usefixtures("one_thread")


# -- preparation --------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "resize"), [(1, 256), (1, 232), (0.31, 256), (1.7, 232)])
@pytest.mark.parametrize("name", ["chelsea", "rocket"])
def test_photographs_are_prepared_as_torchvision_does(name: str, scale: float, resize: int) -> None:
    photograph = open_image(next(sample for sample in samples() if sample.name == name).open())
    photograph = photograph.resize([round(side * scale) for side in photograph.size])
    for turned in (photograph, photograph.transpose(Image.Transpose.ROTATE_90)):
        expected = ImageClassification(crop_size=224, resize_size=resize)(turned)
        prepared = prepare(turned, Preprocessing(resize, 224, IMAGENET.mean, IMAGENET.std))
        assert prepared.tensor.shape == (1, 3, 224, 224)
        assert prepared.tensor.dtype == torch.float32
        assert not prepared.inverted
        assert expected.std() > 0.4
        assert (prepared.tensor[0] - expected).abs().mean() < 0.01
        mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET.mean, IMAGENET.std))
        seen = torch.from_numpy(prepared.pixels).permute(2, 0, 1)
        torch.testing.assert_close((seen - mean) / std, prepared.tensor[0])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("side", "share"), [(224, 0.875), (288, 0.95), (288, 1.0), (160, 0.95), (224, 0.965)])
def test_photographs_are_prepared_to_the_byte(side: int, share: float, interpolation: Interpolation) -> None:
    """As torchvision and timm do. Of a very long image only the middle is computed, and a byte may differ by one."""
    nothing: dict[str, Any] = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    scaled = floor(side / share)
    how = {"interpolation": InterpolationMode(interpolation), **nothing}
    theirs = (
        ImageClassification(crop_size=side, resize_size=scaled, **how),
        create_transform((3, side, side), interpolation=interpolation, crop_pct=share, crop_mode="center", **nothing),
    )
    whole = open_image(next(sample for sample in samples() if sample.name == "chelsea").open())
    for size in ((640, 480), (333, 517), (1023, 767), (97, 131), (131, 97), (288, 288), (1501, 401), (160, 5000)):
        photograph = whole.resize(size)
        ours = prepare(photograph, Preprocessing(scaled, side, interpolation=interpolation, **nothing)).input_image
        for transform in theirs:
            expected = (255 * transform(photograph)).round().permute(1, 2, 0).numpy().astype(int)
            assert np.abs(ours - expected).max() <= (1 if max(size) == 5000 else 0)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "size", [(97, 1000), (1000, 97), (300, 2500), (2500, 300), (290, 9000), (9000, 290), (20, 7000), (7000, 20)]
)
def test_long_images_are_prepared_as_torchvision_does(size: tuple[int, int], interpolation: Interpolation) -> None:
    """To 1/255, of noise, whose bicubic overshoots tell in which order the axes were scaled."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    photograph = Image.fromarray(noise)
    nothing: dict[str, Any] = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    theirs = ImageClassification(
        crop_size=288, resize_size=288, interpolation=InterpolationMode(interpolation), **nothing
    )
    expected = (255 * theirs(photograph)).round().permute(1, 2, 0).numpy().astype(int)
    ours = prepare(photograph, Preprocessing(288, 288, interpolation=interpolation, **nothing)).input_image
    assert np.abs(ours - expected).max() <= 1


@pytest.mark.parametrize("size", [(60, 90_000), (90_000, 60), (500, 60_000)])
def test_a_long_image_takes_no_more_memory_than_another(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def noted(method: Any) -> Any:
        def call(*given: Any) -> Image.Image:
            made.append(prod((found := method(*given)).size))
            return found

        return call

    for name in ("crop", "resize"):
        monkeypatch.setattr(Image.Image, name, noted(getattr(Image.Image, name)))
    prepare(Image.new("RGB", size), Preprocessing(288, 288, (0.5,) * 3, (0.5,) * 3, interpolation="bicubic"))
    assert max(made) <= max(288 * 288, 2 * min(size) ** 2)


@pytest.mark.parametrize("size", [(320, 640), (640, 320), (97, 131), (224, 224)])
@pytest.mark.parametrize("margin", [1, 2])
@pytest.mark.parametrize("name", ["chelsea", "rocket"])
def test_a_rectangle_is_prepared_as_torchvision_does(name: str, margin: int, size: tuple[int, int]) -> None:
    """Scaled until it covers the rectangle, with a margin, and the middle cut out."""
    photograph = open_image(next(sample for sample in samples() if sample.name == name).open())
    scale = margin * max(side / before for side, before in zip(size, photograph.size[::-1], strict=True))
    covering = [int(scale * side + 1e-6) for side in photograph.size[::-1]]
    transforms = Compose([Resize(covering), CenterCrop(size), ToTensor(), Normalize(IMAGENET.mean, IMAGENET.std)])
    prepared = prepare(photograph, Preprocessing(margin * min(size), size, IMAGENET.mean, IMAGENET.std))
    expected = transforms(photograph)
    assert prepared.tensor.shape == (1, 3, *size) == (1, *expected.shape)
    assert prepared.pixels.shape == (*size, 3)
    assert (prepared.tensor[0] - expected).abs().mean() < 0.01
    assert (prepared.tensor[0] - expected.flip(1)).abs().mean() > 0.2


@pytest.mark.parametrize("size", [(320, 640), (96, 64)])
def test_a_rectangle_runs_as_in_torch(size: tuple[int, int]) -> None:
    """Random weights at height × width: the scores of torch's own pass, and as many MACs as the trace has."""
    config = preset("resnet18").with_(layers=(1, 1, 1, 1))[0]
    weights = random_weights(config, size)
    network, photograph = load(weights), open_image(samples()[0].open())
    prepared = prepare(photograph, weights.data.preprocessing)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        expected = network(prepared.tensor)[0].softmax(0)
    traced = running.weights_trace(weights)
    watched = [layer.name for layer in traced.layers]
    prediction = predict(network, prepared.tensor, CPU, watched)
    assert prediction.probabilities == pytest.approx(expected.numpy(), abs=1e-6)
    assert traced.macs == counter.get_total_flops() / 2 == trace(config, size).macs
    for layer in traced.layers[:-3]:
        assert activation(network, prepared.tensor, layer.name, CPU).shape == layer.out_shape
        shown, shape = prediction.strongest[layer.name].shape, layer.out_shape[1:]
        assert max(shown) == min(32, max(shape))
        assert shown[1] / shown[0] == pytest.approx(shape[1] / shape[0], rel=0.2)


@pytest.mark.parametrize("resize", [256, 232, 224])
def test_at_another_size_the_same_part_is_kept(resize: int) -> None:
    """Of a photograph of the same form, the corners of what is kept lie where they lay, to a pixel."""
    across, down = np.meshgrid(np.linspace(0, 255, 1200), np.linspace(0, 255, 600))
    image = Image.fromarray(np.stack([across, down, down], axis=2).round().astype(np.uint8))
    square = Preprocessing(resize, 224, IMAGENET.mean, IMAGENET.std)
    seen = prepare(image, square.at((320, 640))).input_image.astype(float)
    lost = 255 * (1 - 224 / resize) / 2
    assert seen.shape == (320, 640, 3)
    assert seen[160, 0, 0] == pytest.approx(lost, abs=1.5)
    assert seen[160, -1, 0] == pytest.approx(255 - lost, abs=1.5)
    assert seen[0, 320, 1] == pytest.approx(lost, abs=1.5)
    assert square.at((224, 224)) is square


@pytest.mark.parametrize("name", TABS)
def test_weights_run_at_the_image_size_that_is_set(name: str) -> None:
    app = opened("inference", preset="resnet20_fashion", weights="bundled", size="37x91", tab=name)
    macs = trace(BUNDLED["resnet20"], (37, 91)).macs
    assert not app.exception
    assert not app.error
    assert f"{macs / 1e6:,.0f} M MACs at 37×91 pixels" in captions(app)
    assert "made for 28×28 pixels, at which their accuracy was measured. They run at 37×91" in page_text(app)
    assert "are made for" not in page_text(look_at(app, image_size=(28, 28), tab=""))


@pytest.mark.parametrize("size", [(60, 60), (90, 60), (1200, 60), (60, 1200), (60_000, 60)])
@pytest.mark.parametrize("resize", [20, 30, 31])
def test_more_than_is_scaled_is_black(size: tuple[int, int], resize: int) -> None:
    """As torchvision pads where it crops more than it has resized to, whatever the image's shape."""
    gradient = Image.linear_gradient("L").resize(size).convert("RGB")
    seen = prepare(gradient, Preprocessing(resize, 32, (0.5,) * 3, (0.5,) * 3)).input_image
    longest = max(size) * resize // 60
    scaled = gradient.resize((resize, longest) if size[0] == 60 else (longest, resize), Image.Resampling.BILINEAR)
    expected = np.asarray(CenterCrop(32)(scaled))
    assert seen.shape == expected.shape
    assert np.abs(seen.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize("size", [(20_000, 10), (10, 20_000), (1, 1), (3, 2), (4096, 1), (224, 224)])
@pytest.mark.parametrize("preprocessing", [IMAGENET, FASHION], ids=["imagenet", "fashion"])
def test_any_shape_is_prepared(size: tuple[int, int], preprocessing: Preprocessing) -> None:
    prepared = prepare(Image.new("RGB", size, (200, 200, 200)), preprocessing, invert=False)
    side, channels = preprocessing.crop, len(preprocessing.mean)
    assert prepared.tensor.shape == (1, channels, side, side)
    assert prepared.pixels.shape == (side, side, channels)
    assert prepared.pixels.max() == pytest.approx(200 / 255)


def test_the_middle_is_kept() -> None:
    image = Image.new("RGB", (900, 300), "red")
    image.paste("blue", (300, 0, 600, 300))
    pixels = prepare(image, IMAGENET).pixels
    assert np.array_equal(pixels, np.broadcast_to([0, 0, 1], (224, 224, 3)))


def test_clothes_are_fitted_whole_on_their_background() -> None:
    pixels = prepare(Image.new("RGB", (280, 140), "white"), FASHION, invert=False).pixels[:, :, 0]
    assert pixels.shape == (28, 28)
    assert (pixels[7:21] == 1).all()
    assert (pixels[:7] == 0).all()
    assert (pixels[21:] == 0).all()
    upright = prepare(Image.new("RGB", (140, 280), "white"), FASHION, invert=False).pixels[:, :, 0]
    assert np.array_equal(upright, pixels.T)
    wide = prepare(Image.new("RGB", (140, 280), "white"), replace(FASHION, crop=(28, 56)), invert=False).pixels[:, :, 0]
    assert wide.shape == (28, 56)
    assert (wide[:, 21:35] == 1).all()
    assert wide.sum() == 28 * 14


@pytest.mark.parametrize(("mean", "expected"), [((0.25, 0.25, 0.25), [64 / 255] * 3), ((0.5,), [128 / 255])])
def test_other_fitted_networks_get_their_mean_as_background(mean: tuple[float, ...], expected: list[float]) -> None:
    preprocessing = Preprocessing(32, 32, mean, (0.5,) * len(mean), fit=True)
    prepared = prepare(Image.new("RGB", (64, 32), "white"), preprocessing)
    assert prepared.pixels[0, 0].tolist() == pytest.approx(expected)
    assert prepared.pixels[16, 16].tolist() == [1.0] * len(mean)
    assert not prepared.inverted


def test_a_sample_is_seen_as_it_is_stored() -> None:
    sample = CLOTHES[0]
    stored = np.asarray(open_image(sample.open()).convert("L"), np.float32) / 255
    prepared = prepare(open_image(sample.open()), FASHION)
    assert np.array_equal(prepared.pixels[:, :, 0], stored)
    assert prepared.tensor.numpy()[0, 0] == pytest.approx((stored - 0.2860) / 0.3530, abs=1e-5)


@pytest.mark.parametrize("invert", [None, True, False])
@pytest.mark.parametrize("bright_border", [True, False])
def test_a_bright_border_is_inverted(bright_border: bool, invert: bool | None) -> None:
    image = Image.new("RGB", (100, 60), "white" if bright_border else "black")
    image.paste("black" if bright_border else "white", (30, 20, 70, 40))
    assert border_brightness(image) == (255 if bright_border else 0)
    prepared = prepare(image, FASHION, invert)
    assert prepared.inverted is (bright_border if invert is None else invert)
    bright_thing = prepared.inverted == bright_border
    assert prepared.pixels[14, 14, 0] == bright_thing
    assert prepared.pixels[8, 1, 0] == (not bright_thing)
    assert prepared.pixels[0, 0, 0] == 0


def test_photographs_are_never_inverted_unasked() -> None:
    white = Image.new("RGB", (300, 300), "white")
    assert not prepare(white, IMAGENET).inverted
    assert prepare(white, IMAGENET, invert=True).pixels.max() == 0


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_any_number_of_channels_sees_the_colours_in_turn(channels: int) -> None:
    preprocessing = Preprocessing(32, 32, (0.5,) * channels, (0.25,) * channels)
    prepared = prepare(Image.new("RGB", (50, 40), (255, 0, 102)), preprocessing)
    colours = [1, 0, 0.4] * 3 if channels > 1 else [(255 * 0.299 + 102 * 0.114) / 255]
    assert prepared.pixels[9, 9].tolist() == pytest.approx(colours[:channels], abs=0.003)
    assert prepared.tensor[0, :, 9, 9].tolist() == pytest.approx(
        [(c - 0.5) / 0.25 for c in colours[:channels]], abs=0.02
    )


# -- prediction ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> ResNet:
    (weights,) = bundled(BUNDLED["resnet20"])
    return load(weights)


def test_shipped_weights_know_the_samples(trained: ResNet) -> None:
    right: Counter[str] = Counter()
    for sample in CLOTHES:
        prediction = predict(trained, prepare(open_image(sample.open()), FASHION).tensor, CPU)
        (best, _), *_ = prediction.top(5)
        right[sample.label] += FASHION_MNIST.categories[best] == sample.label
    assert len(CLOTHES) == 30
    assert right.total() >= 26
    assert sum(hits >= 2 for hits in right.values()) >= 9


def test_shipped_weights_know_photographs_of_the_same_things(trained: ResNet) -> None:
    """Large, dark on white: what a person uploads."""
    hits = 0
    for sample in CLOTHES:
        image = ImageOps.invert(open_image(sample.open())).resize((560, 560), Image.Resampling.BICUBIC)
        prepared = prepare(ImageOps.expand(image, (0, 140), "white"), FASHION)
        assert prepared.inverted
        hits += FASHION_MNIST.categories[predict(trained, prepared.tensor, CPU).top(1)[0][0]] == sample.label
    assert hits >= 15


NETWORKS = {
    "resnet20": preset("resnet20"),
    "resnet18": preset("resnet18"),
    "se": preset("resnet20").with_(attention="se")[0],
    "eca pre": preset("resnet20").with_(attention="eca", order="pre", shortcut="D", activation="silu")[0],
    "blur": ResNetConfig(layers=(1, 1), planes=(8, 16), antialias="blur", drop_path=0.5, stem="deep", num_classes=7),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> ResNet:
    return randomly(NETWORKS[request.param], seed=1)


@pytest.fixture
def image() -> Tensor:
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))


def watched_outputs(network: nn.Module, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Scores and the outputs of all leaf modules, by hooks of this test's own."""
    found: dict[str, Tensor] = {}
    handles = []
    for name, module in network.named_modules():
        if not list(module.children()):
            keep = lambda module, _, output, name=name: found.setdefault(name, output.clone())  # noqa: E731
            handles.append(module.register_forward_hook(keep))
    with torch.inference_mode():
        scores = network(image)
    for handle in handles:
        handle.remove()
    return scores, found


def test_predictions_and_activations_are_those_of_a_plain_pass(network: ResNet, image: Tensor) -> None:
    scores, outputs = watched_outputs(network, image)
    names = [layer.name for layer in trace(network.config, 64).layers]
    prediction = predict(network, image, CPU, names)
    assert prediction.probabilities == pytest.approx(scores[0].softmax(0).numpy(), abs=1e-6)
    assert prediction.finite
    assert prediction.seconds > 0
    assert prediction.device is CPU
    top = prediction.top(5)
    assert [index for index, _ in top] == scores[0].topk(5).indices.tolist()
    assert [share for _, share in top] == sorted(prediction.probabilities.tolist(), reverse=True)[:5]
    assert list(prediction.strongest) == names
    for layer in trace(network.config, 64).layers:
        maps = activation(network, image, layer.name, CPU)
        expected = outputs[layer.name][0].numpy()
        assert maps.shape == (expected.shape if expected.ndim == 3 else (expected.size, 1, 1))
        assert expected.shape == layer.out_shape
        assert np.array_equal(maps.reshape(expected.shape), expected)
        assert max(prediction.strongest[layer.name].shape) <= 32
    assert not hooks(network)


@pytest.mark.parametrize("held", [HELD_BYTES, 10_000])
def test_small_outputs_are_a_part_of_the_prediction(image: Tensor, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a pass for one layer gives them; none of them where they take more together, however many are held at a time."""
    network, names = randomly(preset("resnet20")), ["layer1.2.act", "layer3.2.act", "flatten"]
    found = predict(network, image, CPU, names).outputs
    assert list(found) == names
    for name in names:
        assert np.array_equal(found[name], activation(network, image, name, CPU))
    monkeypatch.setattr("explorer.inference.predict.HELD_BYTES", held)
    monkeypatch.setattr("explorer.inference.predict.KEPT_BYTES", 64 * 64 * 16 * 4)
    assert not predict(network, image, CPU, names).outputs


def test_hooks_go_after_a_failure(image: Tensor) -> None:
    network = randomly(preset("resnet20"))
    wrong = torch.zeros(1, 4, 64, 64)
    for failing in (
        lambda: predict(network, wrong, CPU, ["conv1", "fc"]),
        lambda: activation(network, wrong, "conv1", CPU),
        lambda: activation(network, image, "nowhere", CPU),
        lambda: predict(network, image, CPU, ["conv1", "nowhere"]),
    ):
        with pytest.raises((RuntimeError, AttributeError)):
            failing()
        assert not hooks(network)


def test_people_share_a_network(image: Tensor) -> None:
    """Several threads watch different layers of one network, and each gets its own."""
    network = randomly(preset("resnet20"))
    _, outputs = watched_outputs(network, image)
    names = ["conv1", "layer1.0.conv1", "layer2.0.add", "layer3.2.act", "fc"] * 6

    def look(name: str) -> tuple[np.ndarray, Prediction]:
        return activation(network, image, name, CPU), predict(network, image, CPU, [name])

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(look, names))
    for name, (maps, prediction) in zip(names, results, strict=True):
        expected = outputs[name][0].numpy()
        assert np.array_equal(maps.reshape(expected.shape), expected)
        assert list(prediction.strongest) == [name]
    assert not hooks(network)


def test_one_pass_waits_for_another(image: Tensor) -> None:
    """Whoever comes while somebody's pass is under way does not end up in their result."""
    network = randomly(preset("resnet20"))
    _, outputs = watched_outputs(network, image)
    inside, go = threading.Event(), threading.Event()

    def pause(*_: Any) -> None:
        if not inside.is_set():
            inside.set()
            go.wait(30)

    handle = network.conv1.register_forward_hook(pause)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(activation, network, image, "layer3.2.act", CPU)
        assert inside.wait(30)
        second = pool.submit(activation, network, image.flip(-1), "layer3.2.act", CPU)
        wait([second], timeout=0.5)
        go.set()
        assert np.array_equal(first.result(), outputs["layer3.2.act"][0].numpy())
        assert not np.array_equal(second.result(), first.result())
    handle.remove()
    assert not hooks(network)


def test_overflow_is_noticed() -> None:
    probabilities = np.array([np.nan, 0.5])
    assert not Prediction(probabilities, 0.1, CPU, {}).finite
    network = randomly(preset("resnet20"))
    with torch.no_grad():
        network.fc.bias[0] = float("inf")
    assert not predict(network, torch.zeros(1, 3, 32, 32), CPU).finite


def test_every_device_runs_and_the_cpu_is_one() -> None:
    for device in devices():
        assert device.name
        assert torch.zeros(1, device=device.torch).item() == 0
    assert devices()[-1].torch == "cpu"


# -- channels -----------------------------------------------------------------------------


def test_channels_come_by_strength() -> None:
    maps = np.zeros((5, 2, 3), np.float32)
    maps[0], maps[1], maps[3, 0, 0], maps[4] = 1, -2, 6, np.nan
    assert by_strength(maps).tolist() == [1, 0, 3, 2, 4]


def test_the_strongest_map() -> None:
    output = torch.zeros(3, 80, 50)
    output[1] = -torch.arange(4000.0).reshape(80, 50)
    output[2] = 1
    shown = strongest_map(output)
    assert shown.shape == (32, 20)
    assert shown.min() < -3900
    small = strongest_map(output[:, :20, :10])
    assert np.array_equal(small, output[1, :20, :10].numpy())
    output[0] = float("nan")
    assert strongest_map(output).min() < -3900
    assert strongest_map(torch.tensor([1.0, -3, 2])).tolist() == [[-3.0]]


def test_statistics() -> None:
    found = statistics(np.array([[[0, 0], [4, -2]]], np.float32))
    assert found == (0.5, pytest.approx(np.sqrt(4.75)), -2, 4, 0.5)


# -- limits -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["resnet50", "resnet152", "resnext101_64x4d", "seresnextaa201d_32x8d", "wide_resnet101_2"]
)
def test_known_networks_run(name: str) -> None:
    check_runnable(trace(preset(name), 224))
    check_runnable(trace(preset("resnet1202"), 32))


@pytest.mark.parametrize(
    ("given", "size", "words"),
    [
        ({"layers": (1,), "planes": (16384,)}, 224, ("weights take 18.3 GiB", "limit is 1.0 GiB")),
        ({"block": "basic", "layers": (1,)}, 8192, ("an image takes 9.5 GiB", "limit is 1.0 GiB")),
        ({"layers": (3, 8, 36, 3)}, 800, ("the time of 616 GMACs", "limit is 200 GMACs")),
    ],
)
def test_what_is_too_large_says_by_how_much(given: dict[str, Any], size: int, words: tuple[str, str]) -> None:
    with pytest.raises(TooLargeError) as caught:
        check_runnable(trace(ResNetConfig(**given), size))
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    for word in words:
        assert word in text


def test_random_weights_keep_to_the_limits_where_the_image_is_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their norms are calibrated on noise of 64 pixels a side, on which the first stage has 4,096 times as many units."""
    config = ResNetConfig(block="basic", stem="3x3", stem_pool="none", layers=(1,) * 6, planes=(64, 4, 4, 4, 4, 4))
    made: list[ResNetConfig] = []
    monkeypatch.setattr(weights_module, "randomly", made.append)
    monkeypatch.setattr(limits, "MAX_WORK_MACS", 1e8)
    check_runnable(trace(config, 1))
    with pytest.raises(TooLargeError, match=r"^This network is too large to run here: .* GMACs, and the limit is 0\.1"):
        model(random_weights(config, (1, 1)), CPU)
    assert not made


# -- images -----------------------------------------------------------------------------

DARK, BRIGHT = (68, 1, 84), (253, 231, 37)
"""The ends of viridis."""


def test_colours_go_from_dark_to_bright() -> None:
    shades = rasters.viridis(np.linspace(-3, 5, 64).reshape(8, 8))
    assert shades.shape == (8, 8, 3)
    assert shades.dtype == np.uint8
    assert tuple(shades[0, 0]) == DARK
    assert tuple(shades[-1, -1]) == BRIGHT
    grey = np.asarray(Image.fromarray(shades).convert("L"), int).ravel()
    assert (np.diff(grey) >= 0).all()
    clipped = rasters.viridis(np.array([[-9.0, 0, 1, 9]]), 0, 1)
    assert [tuple(shade) for shade in clipped[0]] == [DARK, DARK, BRIGHT, BRIGHT]


@pytest.mark.parametrize("value", [0, 7.5, -1e30, np.nan])
def test_a_flat_map_is_dark(value: float) -> None:
    assert {tuple(shade) for shade in rasters.viridis(np.full((2, 3), value)).reshape(-1, 3)} == {DARK}


def test_a_map_that_overflowed_still_has_colours() -> None:
    shades = rasters.viridis(np.array([[-np.inf, 0, np.inf, np.nan]], np.float32))[0]
    assert tuple(shades[0]) == DARK
    assert tuple(shades[2]) == BRIGHT


@pytest.mark.parametrize(
    ("shape", "tile"),
    [
        ((1, 1), (32, 32)),
        ((7, 7), (35, 35)),
        ((56, 56), (56, 56)),
        ((112, 112), (56, 56)),
        ((300, 100), (60, 20)),
        ((10, 40), (10, 40)),
    ],
)
def test_tiles(shape: tuple[int, int], tile: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).random(size=(6, *shape)).astype(np.float32)
    scales = {channel: rasters.scale_over([rasters.extent(maps[channel])], signed=False) for channel in (4, 0, 5)}
    tiles = rasters.channel_tiles(maps, scales)
    assert [made.shape for made in tiles] == [(*tile, 3)] * 3
    if min(shape) > 1:
        assert not np.array_equal(tiles[0], tiles[1])
    if max(shape) <= 64:
        scale = tile[0] // shape[0]
        assert np.array_equal(tiles[0][::scale, ::scale], rasters.viridis(maps[4]))
        for made in tiles[: 3 if min(shape) > 1 else 0]:
            shades = {tuple(shade) for shade in made.reshape(-1, 3)}
            assert {DARK, BRIGHT} <= shades


def test_a_sheet_is_read_row_by_row() -> None:
    tiles = [np.full((2, 3, 3), value, np.uint8) for value in (10, 20, 30, 40, 50)]
    paper = rasters.sheet(tiles, 2)
    assert paper.size == (6, 6)
    assert np.asarray(paper)[::2, ::3, 0].tolist() == [[10, 20], [30, 40], [50, 0]]


WHITE, BLUE, RED = (247, 246, 246), (5, 48, 97), (103, 0, 31)
"""The middle and the ends of the colours of signed maps."""


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (40, 13)])
def test_a_scale_ends_where_the_maps_do(shape: tuple[int, int]) -> None:
    """One map's own, and one that several share."""
    maps = np.random.default_rng(1).normal(size=(5, *shape)).astype(np.float32)
    for chosen in ([2], [0, 3, 4]):
        for signed, values in ((True, maps), (False, np.abs(maps))):
            assert rasters.has_negative(values) is signed
            scale = rasters.scale_over([rasters.extent(values[channel]) for channel in chosen], signed)
            low, high = map(float, (values[chosen].min(), values[chosen].max()))
            largest = float(np.abs(values[chosen]).max())
            assert tuple(scale) == ((-largest, largest, True) if signed else (low, high, False))
            for channel in chosen:
                own = values[channel]
                plain = rasters.diverging(own, largest) if signed else rasters.viridis(own, low, high)
                assert np.array_equal(scale.colours(own), plain)


def test_the_colours_of_signed_maps_part_at_zero() -> None:
    scale = rasters.scale_over([(-2, 1), (0, 3)], signed=True)
    ends, (below, above) = (
        scale.colours(np.array([[-3, 0, 3]]))[0],
        scale.colours(np.array([[-0.5, 0.5]]))[0].astype(int),
    )
    assert [tuple(shade) for shade in ends] == [BLUE, WHITE, RED]
    assert below[2] > below[0]
    assert above[0] > above[2]
    assert rasters.scale_over([(2, 2)], signed=True) == (-2, 2, True)


@pytest.mark.parametrize(
    ("scale", "marks", "stops"),
    [
        (rasters.Scale(0.12345, 40, signed=False), ["0.123", "40"], [DARK, BRIGHT]),
        (rasters.Scale(-1.5, 1.5, signed=True), ["−1.5", "0", "1.5"], [BLUE, WHITE, RED]),
        (rasters.Scale(0, 0, signed=False), ["0 everywhere"], [DARK]),
    ],
)
def test_a_legend_says_what_colours_stand_for(
    scale: rasters.Scale, marks: list[str], stops: list[tuple[int, int, int]]
) -> None:
    legend = scale_legend(scale)
    shades = re.findall("#([0-9a-f]{6})", legend)
    places = [0, -1] if len(stops) == 2 else [0, len(shades) // 2, -1]
    assert list(dict.fromkeys(tuple(bytes.fromhex(shades[place])) for place in places)) == stops
    assert re.findall("<span>(.*?)</span>", legend) == marks
    assert re.findall("<span>(.*?)</span>", scale_legend(scale, ("least", "most")))[0] == "least"


def test_what_overflowed_has_a_scale() -> None:
    overflowed = np.array([[-np.inf, 0, np.nan, 3]], np.float32)
    low, high = rasters.extent(overflowed)
    assert (low, high) == (np.finfo(np.float32).min, 3)
    assert rasters.has_negative(overflowed)
    assert tuple(rasters.scale_over([(low, high)], signed=True).colours(overflowed)[0, 2]) == WHITE


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_overlay_blends_map_and_image(channels: int) -> None:
    seen = np.full((20, 10, channels), 153, np.uint8)
    channel = np.array([[0.0, 1.0], [1.0, 0.0]] * 2)
    fives = Field(size=5, effective_stride=5, start=0)
    map_alone, image_alone, half = (rasters.overlay(channel, seen, blend, fives) for blend in (1.0, 0.0, 0.5))
    assert map_alone.size == image_alone.size == half.size == (448, 896)
    assert map_alone.getpixel((10, 10)) == map_alone.getpixel((440, 880)) == DARK
    assert map_alone.getpixel((440, 10)) == map_alone.getpixel((10, 880)) == BRIGHT
    assert image_alone.getcolors() == [(448 * 896, (153, 153, 153))]
    assert half.getpixel((10, 10)) == pytest.approx([(153 + shade) / 2 for shade in DARK], abs=1)
    signed = rasters.overlay(channel, seen, 1.0, fives, scale=rasters.Scale(-1, 1, signed=True))
    assert (signed.getpixel((10, 10)), signed.getpixel((440, 10))) == (WHITE, RED)


@pytest.mark.parametrize(
    ("height", "width", "channels", "size"),
    [
        (28, 20, 1, (224, 160)),
        (300, 300, 3, (300, 300)),
        (100, 30, 5, (200, 60)),
        (4000, 3000, 3, (1334, 1000)),
        (1501, 7, 1, (751, 4)),
    ],
)
def test_what_a_network_saw_fits_the_page(height: int, width: int, channels: int, size: tuple[int, int]) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, height)[:, None, None], (height, width, channels)).astype(np.uint8)
    shown = rasters.displayed_pixels(ramp, 1500)
    assert shown.shape == (size if channels != 3 else (*size, 3))
    assert abs(float(shown.mean()) - float(ramp.mean())) < 1
    assert np.all(np.diff(shown.reshape(size[0], -1)[:, 0].astype(int)) >= 0)


def test_overlay_is_upright() -> None:
    seen = np.zeros((8, 8, 3), np.uint8)
    seen[:4, :, 0] = 255
    shown = rasters.overlay(np.zeros((2, 2)), seen, 0.0, PIXEL, side=64)
    assert shown.getpixel((60, 5)) == (255, 0, 0)
    assert shown.getpixel((5, 60)) == (0, 0, 0)


def test_an_image_as_an_address() -> None:
    image = rasters.sheet([np.arange(12, dtype=np.uint8).reshape(2, 2, 3)], 1)
    head, _, body = rasters.data_url(image).partition(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(body)))), np.asarray(image))


def test_bars_are_as_long_as_the_probabilities() -> None:
    alone = bars(["cat & dog", "<i>"], [0.75, 0.25])
    assert re.findall(r"width:([\d.]+%)", alone) == ["75.00%", "25.00%"]
    assert re.findall(r"<dt>(.*?)</dt>", alone) == ["cat &amp; dog", "&lt;i&gt;"]
    beside = bars(["cat", "dog"], [0.75, 0.25], [0.5, 0.0])
    assert re.findall(r"width:([\d.]+%)", beside) == ["75.00%", "50.00%", "25.00%", "0.00%"]
    assert "whole network" in beside
    assert "whole network" not in alone


def test_figures_show_what_they_are_given() -> None:
    values = np.array([0.5, -3, 2, 0], np.float32)
    chosen = inference.channel_figure(values, "fc", most=3)
    assert list(chosen.data[0].x) == ["1", "2", "0"]
    assert list(chosen.data[0].y) == [-3, 2, 0.5]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("resnetaa50d.sw_in12k", ["This network has 11,821 classes, which have numbers here and no names."]),
        ("resnetaa50d.sw_in12k_ft_in1k", []),
    ],
)
def test_classes_without_names_are_told(key: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(verdict.st, "caption", said.append)
    result = MagicMock(weights=named(key, ResNetConfig()), off=(), headless=False, size="288×288")
    result.prediction.top.return_value = [(7, 0.5)]
    result.prediction.seconds = result.trace.macs = 1.0
    verdict.verdict(result)
    assert said[1:] == words

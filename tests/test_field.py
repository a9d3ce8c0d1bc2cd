"""Fields of all paths, boxes, and the effective field, against enumeration, autograd and Gaussians."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest
from torch import Tensor, nn

from explorer.analysis.layers import Layer
from explorer.analysis.paths import Paths, path_sizes_by_block, paths
from explorer.analysis.receptive_field import PIXEL, Box, Field
from explorer.analysis.trace import Trace, trace
from explorer.drawing.rasters import overlay, tinted
from explorer.inference.effective_field import EffectiveField, effective_field, gaussian_width, measured_side, mirrored
from explorer.inference.limits import MAX_FORWARD_BYTES
from explorer.sharing.store import StoppedError
from explorer.units import count_text
from explorer.views.inference import receptive_field as panel_of_fields
from helpers import CPU, captions, link, looked, outputs_of, positive, run, said, select
from resnet import PRESETS, ResNet, ResNetConfig, build, preset
from resnet.blocks import Add
from resnet.weights import BUNDLED

# -- all paths ----------------------------------------------------------------------------


class Branch(Add):
    def forward(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        return branch


class Shortcut(Add):
    def forward(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        return shortcut


def enumerated(config: ResNetConfig) -> Counter[int]:
    """The field size of each path, by the gradient of a network in which each addition keeps one summand."""
    traced = trace(config)
    step = config.total_stride
    length = (2 * traced.field.size // step + 4) * step
    unit = length // step // 2
    adds = [layer.name for layer in traced.layers if layer.op == "addition"]
    sizes: Counter[int] = Counter()
    network = positive(config)
    outputs: list[Tensor] = []
    network.get_submodule("avgpool").register_forward_pre_hook(lambda module, inputs: outputs.append(inputs[0]))
    for kept in product((Branch, Shortcut), repeat=len(adds)):
        for name, kind in zip(adds, kept, strict=True):
            network.set_submodule(name, kind())
        image = torch.ones(1, config.in_channels, 2 * step, length, dtype=torch.float64, requires_grad=True)
        network(image)
        maps = outputs.pop()
        (gradient,) = torch.autograd.grad(maps[0, :, maps.shape[2] // 2, unit].sum(), image)
        seen = gradient.abs().sum((0, 1, 2)).nonzero().flatten()
        sizes[int(seen[-1] - seen[0] + 1)] += 1
    return sizes


def counted(trace: Trace, name: str = "") -> Paths:
    """The paths to a layer, or to the last stage's end."""
    inside = [(layer, found) for layer, found in paths(trace) if layer.role.part == "stage" or layer.name == name]
    return next((found for layer, found in inside if layer.name == name), inside[-1][1])


NARROW: dict[str, Any] = {"layers": (1, 2, 1), "planes": (2, 3, 4), "num_classes": 2, "in_channels": 1}
SMALL: dict[str, dict[str, Any]] = {
    "basic": {"block": "basic"},
    "basic, A": {"block": "basic", "shortcut": "A", "stem": "3x3", "stem_pool": "none"},
    "bottleneck": {},
    "v1": {"stride_in": "1x1"},
    "D": {"shortcut": "D", "stem": "deep"},
    "C": {"shortcut": "C"},
    "pre-activation": {"order": "pre"},
    "pre-activation, basic, D": {"order": "pre", "block": "basic", "shortcut": "D"},
    "dilated": {"layers": (1, 1, 2, 2), "planes": (2, 3, 4, 5), "output_stride": 8},
    "dilated, D": {
        "layers": (1, 1, 2, 1),
        "planes": (2, 3, 4, 5),
        "output_stride": 8,
        "shortcut": "D",
        "block": "basic",
    },
    "blur": {"antialias": "blur"},
    "plain": {"shortcut": "none"},
}


@pytest.mark.parametrize("name", SMALL)
def test_paths_are_those_of_every_choice_of_summands(name: str) -> None:
    config = ResNetConfig(**{**NARROW, **SMALL[name]})
    found = counted(trace(config))
    assert dict(zip(found.sizes, found.counts, strict=True)) == dict(enumerated(config))


@pytest.mark.parametrize("name", PRESETS)
def test_two_paths_a_block_and_the_longest_sees_the_whole_field(name: str) -> None:
    config = preset(name)
    traced = trace(config, config.total_stride * 2)
    found = counted(traced)
    assert found.total == (1 if config.shortcut == "none" else 2 ** sum(config.layers))
    assert found.sizes[-1] == traced.field.size
    assert list(found.sizes) == sorted(set(found.sizes))
    assert sum(found.shares) == pytest.approx(1)


@pytest.mark.parametrize("attention", ["se", "eca"])
def test_a_gate_is_no_path(attention: str) -> None:
    config = preset("resnet18")
    assert counted(trace(config.with_(attention=attention)[0])) == counted(trace(config))


def test_paths_within_a_block() -> None:
    """conv1 of a block has the paths to the block, two 3×3 windows wider at its end, or as they were."""
    traced = trace(preset("resnet18"))
    before, inside, after = (counted(traced, name) for name in ("layer1.0.act", "layer1.1.conv1", "layer1.1.act"))
    assert before == Paths((11, 27), (1, 1))
    assert inside == Paths((19, 35), (1, 1))
    assert after == Paths((11, 27, 43), (1, 2, 1))
    assert (after.mean, after.shares) == (27, [0.25, 0.5, 0.25])


def test_counts_are_exact_at_any_depth() -> None:
    """The paths of ResNet-1202 as coefficients of a product of polynomials 1 + x^a, x standing for 2^700.

    A block adds 2·a pixels: two windows of 2 units each 1, 2 or 4 pixels apart, the first of a stage's first
    block on the finer grid before.
    """
    added = [2] * 200 + [3] + [4] * 199 + [6] + [8] * 199
    product = 1
    for a in added:
        product += product << 700 * a
    expected = {}
    for power in range(sum(added) + 1):
        if count := product >> 700 * power & (1 << 700) - 1:
            expected[3 + 2 * power] = count
    found = counted(trace(preset("resnet1202"), 32))
    assert found.total == 2**600
    assert dict(zip(found.sizes, found.counts, strict=True)) == expected


@pytest.mark.parametrize("percent", [1, 5, 50, 95, 100])
def test_quantiles(percent: int) -> None:
    found = Paths((3, 7, 11, 40), (1, 5, 10, 4))
    listed = sorted(Counter(dict(zip(found.sizes, found.counts, strict=True))).elements())
    below = np.quantile(listed, percent / 100, method="inverted_cdf")
    assert found.quantile(percent) == below


def test_by_depth_is_a_row_a_block() -> None:
    traced = trace(preset("resnet34"))
    rows = path_sizes_by_block(traced)
    assert [row.layer.name for row in rows][-1] == "layer4.2.act"
    assert len(rows) == 16
    assert [row.largest for row in rows] == [traced.by_name[row.layer.name].field.size for row in rows]
    assert all(row.low <= row.mean <= row.high <= row.largest for row in rows)


# -- boxes --------------------------------------------------------------------------------


def test_a_box_is_the_arithmetic() -> None:
    field = Field(size=49, effective_stride=4, start=-24)
    box = field.box((3, 5))
    assert box == Box(top=-12, left=-4, bottom=36, right=44)
    assert (box.height, box.width) == (49, 49)
    assert box.clipped((28, 32)) == Box(0, 0, 27, 31)


@pytest.mark.parametrize("field", [Field(7, 2, -3), Field(8, 4, 1), Field(1, 1, 0), Field(435, 32, -217)])
def test_the_nearest_unit_is_nearest(field: Field) -> None:
    for pixel in range(-50, 300, 3):
        distances = [abs(field.centre(unit) - pixel) for unit in range(7)]
        assert distances[field.nearest(pixel, 7)] == min(distances)
    assert [field.nearest(field.centre(unit), 7) for unit in range(7)] == list(range(7))


# -- what windows leave out ---------------------------------------------------------------


def shares_outside(config: ResNetConfig, traced: Trace) -> dict[str, float]:
    """The share of the gradient of each layer's middle unit that falls outside the unit's box."""
    torch.manual_seed(0)
    model = build(config).double().eval().requires_grad_(False)
    outputs: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _, __, output, name=name: outputs.setdefault(name, output))
    image = torch.randn(1, config.in_channels, *traced.image_size, dtype=torch.float64, requires_grad=True)
    model(image)
    shares = {}
    for layer in (layer for layer in traced.layers if layer.field.effective_stride):
        unit = layer.field.nearest(traced.image_size[0] / 2, layer.out_shape[1])
        target = outputs[layer.name][0, :, unit, unit].sum()
        (gradient,) = torch.autograd.grad(target, image, retain_graph=True)
        seen = gradient[0].abs().sum(0)
        box = layer.field.box((unit, unit)).clipped(traced.image_size)
        shares[layer.name] = 1 - float(seen[box.top : box.bottom + 1, box.left : box.right + 1].sum() / seen.sum())
    return shares


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "none"},
        {"antialias": "blur", "shortcut": "D"},
        {"order": "pre"},
        {"shortcut": "none"},
        {"norm": "group"},
        {"norm": "group", "order": "pre"},
        {"norm": "group", "stem": "deep", "shortcut": "none"},
        {"attention": "se"},
        {"attention": "eca", "shortcut": "none"},
        {"attention": "se", "order": "pre"},
        {"attention": "se", "block": "basic", "shortcut": "A"},
        {"norm": "group", "attention": "eca", "shortcut": "D"},
    ],
)
def test_gradient_leaves_the_window_where_a_sentence_says_so(options: dict[str, Any]) -> None:
    config = ResNetConfig(**{**NARROW, "planes": (8, 8, 8), "stem_width": 8, "activation": "silu", **options})
    traced = trace(config, 160)
    outside = shares_outside(config, traced)
    said = {name: traced.beyond_windows(traced.by_name[name]) for name in outside}
    assert {name: share > 1e-9 for name, share in outside.items()} == {
        name: bool(words) for name, words in said.items()
    }
    assert all(share < 1e-12 for name, share in outside.items() if not said[name])
    whole = traced.beyond_windows()
    assert bool(whole) == any(said.values())
    first = next((name for name, words in said.items() if words), None)
    assert first is None or whole.endswith(f", first in {first}.")
    for kind, has in (("group norm", config.norm == "group"), ("channel attention", config.attention != "none")):
        assert (kind in whole) == has


def test_group_norm_sees_more_than_a_quarter_outside_the_window() -> None:
    """ResNet-50 with group norm at the end of its first stage."""
    traced = trace(preset("resnet50_gn"), 224)
    layer = traced.by_name["layer1.2.act"]
    found = effective_field(fresh(traced.config), layer, noise(1, 3, 224), CPU)
    assert found.inside_share < 0.75
    assert traced.beyond_windows(layer) == "Its units also depend on the whole map through group norm."


# -- maps on images ---------------------------------------------------------------------

PLACED: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "basic": ({"block": "basic"}, (97, 131)),
    "bottleneck": ({}, (128, 96)),
    "v1": ({"stride_in": "1x1"}, (101, 160)),
    "CIFAR's stem": ({"block": "basic", "shortcut": "A", "stem": "3x3", "stem_pool": "none"}, (45, 59)),
    "D, deep stem": ({"shortcut": "D", "stem": "deep"}, (127, 97)),
    "pre-activation": ({"order": "pre", "block": "basic"}, (99, 120)),
    "dilated": ({"layers": (1, 1, 1, 1), "planes": (2, 3, 4, 5), "output_stride": 8, "block": "basic"}, (161, 141)),
    "blur": ({"antialias": "blur", "block": "basic"}, (113, 150)),
}


def drawn(layer: Layer, size: tuple[int, int], units: tuple[int, int], unit: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The rows and columns, in pixels, at which an overlay shows a map that is 1 at one unit and else 0."""
    lit = np.zeros(units)
    lit[unit] = 1
    height, width = size
    image = np.asarray(overlay(lit, np.zeros((height, width, 1), np.uint8), 1.0, layer.field, 2 * width))
    assert image.shape[:2] == (2 * height, 2 * width)
    bright = torch.from_numpy(image[..., 0] > 200)
    return tuple((bright.any(axis).nonzero().flatten() + 0.5) / 2 - 0.5 for axis in (1, 0))  # type: ignore[return-value]


def middle_of_sight(seen: Tensor, size: int, pixels: int) -> float | None:
    """The middle of the pixels that carry gradient; where one end is lost in the padding, by the end that is not."""
    first, last = int(seen.min()), int(seen.max())
    if first > 0 and last < pixels - 1:
        return (first + last) / 2
    if first > 0 or last < pixels - 1:
        return first + (size - 1) / 2 if first > 0 else last - (size - 1) / 2
    return None


@pytest.mark.parametrize("name", PLACED)
def test_a_map_lies_where_its_units_look(name: str) -> None:
    """Each unit's cell is around the middle of what autograd finds it to see, and as wide as units are apart."""
    options, size = PLACED[name]
    config = ResNetConfig(**{**NARROW, **options})
    traced = trace(config, size)
    layers = [layer for layer in traced.layers if layer.op == "convolution" or layer.name.endswith("act")]
    image = torch.ones(1, config.in_channels, *size, dtype=torch.float64, requires_grad=True)
    outputs = outputs_of(positive(config), image, [layer.name for layer in layers])
    compared = 0
    for layer in layers[:: max(1, len(layers) // 6)] + layers[-1:]:
        maps = outputs[layer.name][0]
        units = maps.shape[1], maps.shape[2]
        for row, column in zip(*(np.linspace(0, n - 1, 5).astype(int) for n in units), strict=True):
            (gradient,) = torch.autograd.grad(maps[:, row, column].sum(), image, retain_graph=True)
            unit = int(row), int(column)
            for axis, cell in enumerate(drawn(layer, size, units, unit)):
                seen = gradient[0, 0].abs().sum(1 - axis).nonzero().flatten()
                middle = middle_of_sight(seen, layer.field.size, size[axis])
                if middle is None or not 0 <= middle < size[axis]:
                    continue
                assert cell.min() <= middle + 0.25
                assert cell.max() >= middle - 0.25
                if 0 < unit[axis] < units[axis] - 1:
                    assert (cell.min() + cell.max()) / 2 == pytest.approx(middle, abs=1e-6)
                    assert cell.max() - cell.min() + 0.5 == layer.field.effective_stride
                    compared += 1
    assert compared > 20


def test_resnet50_is_drawn_where_it_looks() -> None:
    """Units of its last stage see up to 427 pixels: the middle of a later unit's in a long strip, less their distance."""
    config = preset("resnet50")
    image = torch.ones(1, 3, 32, 704, dtype=torch.float64, requires_grad=True)
    maps = outputs_of(positive(config), image, ["layer4.2.act"])["layer4.2.act"][0]
    middles = []
    for unit in (10, 11):
        (gradient,) = torch.autograd.grad(maps[:, 0, unit].sum(), image, retain_graph=True)
        seen = gradient[0].abs().sum((0, 1)).nonzero().flatten()
        middles.append((int(seen[0]) + int(seen[-1])) / 2)
    stride = middles[1] - middles[0]
    _, columns = drawn(trace(config).by_name["layer4.2.act"], (224, 224), (7, 7), (3, 3))
    assert float(columns.mean()) == middles[0] - 7 * stride == 96.0


@pytest.mark.parametrize(("pixels", "samples"), [(28, 56), (97, 448), (224, 448), (640, 448), (33, 17)])
@pytest.mark.parametrize("field", [Field(7, 2, -3), Field(8, 4, 1), PIXEL, Field(435, 32, -217)])
def test_a_place_shows_the_unit_that_a_click_there_chooses(field: Field, pixels: int, samples: int) -> None:
    units = -(-pixels // field.effective_stride)
    found = field.nearest_units(units, pixels, samples)
    middles = [(sample + 0.5) * pixels / samples - 0.5 for sample in range(samples)]
    for unit, middle in zip(found, middles, strict=True):
        assert abs(field.centre(unit) - middle) == min(abs(field.centre(other) - middle) for other in range(units))
    assert found == sorted(found)
    assert Field(pixels, 0, 0).nearest_units(1, pixels, samples) == [0] * samples


# -- the effective field ------------------------------------------------------------------


def noise(count: int, channels: int, side: int) -> list[Tensor]:
    return list(torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0)))


def fresh(config: ResNetConfig) -> ResNet:
    torch.manual_seed(0)
    return build(config).eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("options", "at"),
    [
        ({"block": "basic"}, "layer2.1.act"),
        ({}, "layer1.0.conv2"),
        ({"shortcut": "D", "stem": "deep"}, "layer2.0.add"),
        ({"order": "pre"}, "layer2.0.conv3"),
        ({"norm": "none"}, "layer1.0.act"),
        ({"antialias": "blur"}, "layer2.0.act"),
    ],
)
def test_no_gradient_falls_outside_the_box(options: dict[str, Any], at: str) -> None:
    config = ResNetConfig(**{**NARROW, "planes": (8, 8, 8), **options})
    traced = trace(config)
    layer = traced.by_name[at]
    side = measured_side(layer, traced, lambda side: trace(config, side))
    assert side > layer.field.size
    shares: list[float] = []
    found = effective_field(fresh(config), layer, noise(2, 1, side), CPU, shares.append)
    assert found.inside_share == pytest.approx(1, abs=1e-12)
    assert found.field.shape == (layer.field.size,) * 2
    assert (found.first, found.image_count, shares) == (0, 2, [0.5, 1.0])
    assert found.field.sum() == pytest.approx(1)


@pytest.mark.parametrize("options", [{"norm": "group"}, {"attention": "se"}])
def test_what_reads_the_whole_map_leaks(options: dict[str, Any]) -> None:
    config = ResNetConfig(**{**NARROW, "planes": (8, 8, 8), **options})
    traced = trace(config)
    layer = traced.by_name["layer1.0.act"]
    found = effective_field(fresh(config), layer, noise(2, 1, 64), CPU)
    assert 0 < found.inside_share < 0.9999


def test_the_effective_field_is_the_mean_gradient() -> None:
    """Of a network made of one convolution, it is that convolution's mean weights."""

    class One(nn.Module):
        config = preset("resnet18")  # which the words for a failure name

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 5, stride=2, padding=2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    model = One().requires_grad_(False)
    before = model.conv.weight.clone()
    layer = next(layer for layer in trace(preset("resnet18")).layers)
    layer = Layer(
        **{slot: getattr(layer, slot) for slot in Layer.__slots__} | {"name": "conv", "field": Field(5, 2, -2)}
    )
    found = effective_field(model, layer, noise(3, 2, 16), CPU)  # type: ignore[arg-type]
    expected = model.conv.weight.mean(0).abs().sum(0).numpy()
    np.testing.assert_allclose(found.field, expected / expected.sum(), rtol=1e-5)
    assert torch.equal(model.conv.weight, before)
    assert not model.conv._forward_hooks


def test_a_field_larger_than_the_image_is_measured_in_part() -> None:
    config = BUNDLED["resnet20"]
    layer = trace(config, 28).by_name["layer3.2.act"]
    found = effective_field(fresh(config), layer, noise(1, 1, 28), CPU)
    assert found.field.shape == (28, 28)
    box = layer.field.box((3, 3))
    assert found.first == -box.top


def test_a_unit_without_gradient_has_an_empty_field() -> None:
    config = ResNetConfig(**NARROW)
    model = fresh(config)
    nn.init.zeros_(model.conv1.weight)  # type: ignore[arg-type]
    found = effective_field(model, trace(config).by_name["layer1.0.act"], noise(1, 1, 64), CPU)
    assert found.inside_share == 0
    assert not found.field.any()


def test_a_side_that_fits() -> None:
    config = preset("resnet152")
    traced = trace(config)
    side = measured_side(traced.by_name["layer4.2.act"], traced, lambda side: trace(config, side))
    assert trace(config, side).training_memory <= MAX_FORWARD_BYTES < trace(config, 3 * 224).training_memory
    assert measured_side(traced.layers[0], traced, lambda side: trace(config, side)) == 32


@pytest.mark.parametrize("side", [3, 8, 9, 20, 41])
@pytest.mark.parametrize("length", [8, 9])
def test_images_continue_by_reflection(side: int, length: int) -> None:
    image = torch.arange(2 * length * length).reshape(2, length, length)
    before, cut = max(0, (side - length) // 2), max(0, -((side - length) // 2))
    after = max(0, side - length - before)
    expected = np.pad(image.numpy(), ((0, 0), (before, after), (before, after)), mode="symmetric")
    assert np.array_equal(mirrored(image, side), expected[:, cut : cut + side, cut : cut + side])


@pytest.mark.parametrize("sigma", [1.5, 4.0, 9.0])
@pytest.mark.parametrize("size", [41, 80])
def test_the_width_of_a_gaussian(sigma: float, size: int) -> None:
    """Also where 41 pixels hold ±2.3σ only."""
    places = np.arange(size) - (size - 1) / 2 - 0.3
    row = np.exp(-(places**2) / (2 * sigma**2))
    found = gaussian_width(np.outer(row, row) * 7)
    assert found.sigma == pytest.approx(sigma, rel=0.02)
    assert found.middle == pytest.approx((size - 1) / 2 + 0.3, abs=0.3)
    assert found.share_of(2 * size) == pytest.approx(2 * found.sigma / size)


def test_what_is_spread_evenly_is_no_gaussian() -> None:
    assert gaussian_width(np.ones((9, 9))).sigma == float("inf")
    edges = np.zeros((9, 9))
    edges[0, 0] = edges[-1, -1] = 1
    assert gaussian_width(edges).sigma == float("inf")


@pytest.mark.parametrize(("name", "share"), [("resnet18", 0.56), ("resnet20", 0.47)])
def test_untrained_fields_take_up_half_of_the_theoretical(name: str, share: float) -> None:
    """Luo 2016, section 3: Gaussian, and much smaller than the theoretical field."""
    config = preset(name)
    layer = [layer for layer in trace(config).layers if layer.role.part == "stage"][-1]
    side = layer.field.size + layer.field.effective_stride * 2
    found = effective_field(fresh(config), layer, noise(2, 3, side), CPU)
    assert gaussian_width(found.field).share_of(layer.field.size) == pytest.approx(share, abs=0.05)


def test_the_deeper_the_smaller_the_share() -> None:
    """Luo 2016, section 2.2: the width grows with the root of the depth only."""
    shares = []
    for blocks in (1, 5):
        config = preset("resnet20").with_(layers=(blocks,) * 3)[0]
        layer = [layer for layer in trace(config, 32).layers if layer.role.part == "stage"][-1]
        found: EffectiveField = effective_field(fresh(config), layer, noise(2, 3, 84), CPU)
        shares.append(gaussian_width(found.field).share_of(layer.field.size))
    assert shares == sorted(shares, reverse=True)


# -- images -----------------------------------------------------------------------------


def test_a_tint_is_transparent_at_the_least() -> None:
    image = np.asarray(tinted(np.array([[0.0, 0.5], [1.0, np.nan]]), "#ff8000"))
    assert image[..., :3].reshape(-1, 3).tolist() == [[255, 128, 0]] * 4
    assert image[..., 3].tolist() == [[0, 127], [255, 0]]
    assert not np.asarray(tinted(np.ones((2, 2)), "#ff8000"))[..., 3].any()


@pytest.mark.parametrize(
    ("count", "text"), [(65536, "65,536"), (2**600, "2⁶⁰⁰"), (3 * 10**20, "3.00·10²⁰"), (2**600 - 1, "4.15·10¹⁸⁰")]
)
def test_long_counts(count: int, text: str) -> None:
    assert count_text(count) == text


# -- the page -----------------------------------------------------------------------------


def panel(**query: str) -> AppTest:
    return looked("Receptive field", preset="resnet20_fashion", **query)


def decoded(address: str) -> Image.Image:
    """The image that stands in an address."""
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def grid(app: AppTest, layer: str) -> dict[str, Any]:
    """What a pixel grid shows: its outlines and sheets by name."""
    found = [json.loads(component.proto.json) for component in app.get("bidi_component")]
    (data,) = [data for data in found if "view" in data and data["label"].startswith(layer)]
    return data | {name: {part["id"]: part for part in data[name]} for name in ("outlines", "layers")}


def test_the_box_is_that_of_the_unit() -> None:
    app = panel(at="layer2.1.act", unit="3-12")
    image = grid(app, "The image")
    assert image["view"] == [0, 0, 28, 28]
    field = trace(BUNDLED["resnet20"], 28).by_name["layer2.1.act"].field
    box = field.box((3, 12)).clipped((28, 28))
    assert image["outlines"]["field"]["box"] == [box.left, box.top, box.width, box.height]
    assert grid(app, "Channel")["outlines"]["unit"]["box"] == [12, 3, 1, 1]
    select(app, "grid shown", ["Theoretical field", "Activation", "Grad-CAM", "Beyond the edge"])
    image = grid(app, "The image")
    box = field.box((3, 12))
    assert image["outlines"]["unclipped"]["box"] == [box.left, box.top, box.width, box.height]
    assert set(image["layers"]) == {"image", "Activation", "Grad-CAM"}
    assert image["layers"]["Activation"]["box"] == image["layers"]["Grad-CAM"]["box"] == [0, 0, 28, 28]
    sheet = np.asarray(decoded(image["layers"]["Activation"]["url"]))
    shown = np.asarray(decoded(grid(app, "Channel")["layers"]["map"]["url"]).convert("L"), int)
    cell = np.unravel_index(shown.argmax(), shown.shape)  # viridis is brightest at its top
    rows, columns = (np.nonzero((sheet[..., 3] == 255).any(axis))[0] for axis in (1, 0))
    for found, unit in ((rows, cell[0]), (columns, cell[1])):
        first, last = (
            field.centre(int(unit)) - field.effective_stride / 2,
            field.centre(int(unit)) + field.effective_stride / 2,
        )
        assert (found[0] / 2 - 0.5, found[-1] / 2) == (max(first, -0.5), min(last, 27.5))


def test_a_rectangle_is_seen_as_one() -> None:
    app = looked("Receptive field", preset="resnet20", weights="random", size="32x48", at="layer2.1.act", unit="3-20")
    image, units = grid(app, "The image"), grid(app, "Channel")
    box = trace(preset("resnet20"), (32, 48)).by_name["layer2.1.act"].field.box((3, 20)).clipped((32, 48))
    assert (image["view"], units["view"]) == ([0, 0, 48, 32], [0, 0, 24, 16])
    assert image["outlines"]["field"]["box"] == [box.left, box.top, box.width, box.height]
    assert decoded(image["layers"]["image"]["url"]).size == (4 * 48, 4 * 32)  # hard pixels, up to 224 a side


def test_no_unit_is_the_middle_one() -> None:
    app = panel(at="layer3.0.act")
    assert grid(app, "Channel")["outlines"]["unit"]["box"] == [3, 3, 1, 1]
    assert "unit" not in link(app)


@pytest.mark.parametrize("unit", ["7-0", "0-7", "3", "a-b", "-1-2", "3-5-1"])
def test_a_unit_that_is_none_is_told(unit: str) -> None:
    app = panel(at="layer3.0.act", unit=unit)
    (words,) = said(app.warning)
    assert f"unit = {unit} is not accepted: row-column from 0-0 to 6-6 in layer3.0.act." in words
    assert grid(app, "Channel")["outlines"]["unit"]["box"] == [3, 3, 1, 1]


def test_another_layer_keeps_the_place_on_the_image() -> None:
    app = panel(at="layer3.0.act", unit="2-5")
    view = app.session_state["view"]
    app.session_state["view"] = type(view)(**{**vars(view), "at": "layer1.0.act"})
    run(app)
    assert link(app)["unit"] == "8-20"
    assert not app.warning


def test_after_pooling_a_unit_has_no_place() -> None:
    app = panel(at="fc")
    assert any("depends on the whole image, all 28×28 pixels" in info.value for info in app.info)


def test_a_large_network_is_measured_when_asked() -> None:
    app = looked("Receptive field", preset="resnet18", weights="random", at="layer4.1.act")
    assert [button.label for button in app.button if button.label.startswith("Measure")]
    assert not [markdown for markdown in app.markdown if "of the gradient falls" in markdown.value]


@pytest.mark.usefixtures("nothing_loaded")
def test_without_an_effective_field_the_rest_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a click on its Stop."""

    def stopped(*_: object) -> EffectiveField:
        raise StoppedError

    monkeypatch.setattr(panel_of_fields, "cached_result", stopped)
    app = panel(at="layer2.1.act", unit="3-11")
    assert not app.error
    assert set(grid(app, "The image")["layers"]) == {"image"}
    assert "additions up to layer2.1.act" in captions(app).replace("\\", "")


def test_the_paths_are_counted_in_words() -> None:
    app = panel(at="layer3.2.act")
    words = captions(app).replace("\\", "")
    assert "9 additions up to layer3.2.act make 2⁹ = 512 paths, counted exactly: from 3 to 81 px a side" in words
    assert "The plain network's only path sees 81 px; here one path in 512 sees as much." in words
    (found,) = [markdown.value for markdown in app.markdown if "of the gradient falls" in markdown.value]
    assert re.search(r"\*\*100.0%\*\* of the gradient falls inside the box\.$", found)

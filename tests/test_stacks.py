"""Kernel stacks, one block and the 1×1 convolution, against modules built here, autograd and numpy."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.resnet import BasicBlock, Bottleneck

from explorer.analysis.trace import trace, trace_module
from explorer.drawing.kernels import growth
from explorer.experiments.kernels import (
    CASES,
    LAB,
    Lab,
    at_pixel,
    block_config,
    block_name,
    break_even,
    compare,
    on_image,
    single,
    stack,
)
from explorer.figures import kernels
from explorer.link import LONGEST
from resnet import ConfigError
from resnet.blocks import Add

DEEP = CASES["As a stem: 32, 32, 64"]
VARIED = [
    Lab(inputs=4, between=6, outputs=5, side=24),
    Lab(count=2, kernel=5, single=9, inputs=3, between=2, outputs=7, stride=2, side=31),
    Lab(count=4, inputs=2, between=3, outputs=2, stride=4, side=33),
    Lab(count=3, inputs=2, between=3, outputs=2, stride=2, strided="last", side=24),
    Lab(count=2, kernel=7, single=13, inputs=2, between=2, outputs=2, padding="none", activation="none", side=20),
    Lab(count=1, kernel=1, single=3, inputs=3, outputs=4, stride=2, side=9),
]


def reference(lab: Lab, stacked: bool) -> nn.Sequential:
    """The same comparison written as anyone would."""
    widths = [lab.inputs] + [lab.between] * (lab.count - 1) + [lab.outputs] if stacked else [lab.inputs, lab.outputs]
    kernel = lab.kernel if stacked else lab.single
    steps = [1] * (len(widths) - 1)
    steps[0 if lab.strided == "first" else -1] = lab.stride
    layers: list[nn.Module] = []
    for (before, after), step in zip(pairwise(widths), steps, strict=True):
        pad = (kernel - 1) // 2 if lab.padding == "same" else 0
        layers.append(nn.Conv2d(before, after, kernel, step, pad, bias=False))
        layers += [nn.ReLU()] if lab.activation == "relu" else []
    return nn.Sequential(*layers)


def both(lab: Lab):
    return ((stack(lab), reference(lab, True)), (single(lab), reference(lab, False)))


# -- counts and fields --------------------------------------------------------------------


@pytest.mark.parametrize("lab", VARIED, ids=Lab.to_text)
def test_counts_and_shapes_are_those_of_torch(lab):
    for ours, theirs in both(lab):
        with FlopCounterMode(display=False) as counter:
            result = theirs(torch.zeros(1, lab.inputs, lab.side, lab.side))
        assert ours.params == sum(p.numel() for p in theirs.parameters())
        assert ours.macs * 2 == counter.get_total_flops()
        assert ours.layers[-1].out_shape == tuple(result.shape[1:])
        assert ours.non_linearities == sum(isinstance(module, nn.ReLU) for module in theirs)


@pytest.mark.parametrize("lab", VARIED, ids=Lab.to_text)
def test_fields_are_what_gradients_reach(lab):
    for ours, theirs in both(lab):
        for weight in theirs.parameters():
            nn.init.ones_(weight)
        image = torch.ones(1, lab.inputs, lab.side, lab.side, dtype=torch.float32, requires_grad=True)
        result = theirs(image)
        unit = result.shape[-1] // 2
        result[0, 0, unit, unit].backward()
        assert image.grad is not None
        reached = image.grad[0].sum(0).sum(0).nonzero().flatten()
        first, last = ours.field.interval(unit)
        assert (max(first, 0), min(last, lab.side - 1)) == (int(reached[0]), int(reached[-1]))
        if first >= 0 and last < lab.side and len(reached) == last - first + 1:
            assert ours.field.size == len(reached)


@pytest.mark.parametrize("lab", [*VARIED, Lab(), DEEP], ids=Lab.to_text)
def test_the_reach_that_is_checked_is_the_traced_field(lab):
    assert lab.stack_reach == stack(lab).field.size


# -- break-even ---------------------------------------------------------------------------


def weights(lab: Lab, width: int) -> int:
    middle = (lab.count - 2) * width * width
    return lab.kernel**2 * (lab.inputs * width + middle + width * lab.outputs)


@pytest.mark.parametrize("lab", [Lab(), DEEP, Lab(count=2, single=5), Lab(count=6, inputs=8, outputs=200)])
def test_break_even_is_the_last_width_that_is_no_dearer(lab):
    most = lab.single**2 * lab.inputs * lab.outputs
    expected = max((width for width in range(1, 400) if weights(lab, width) <= most), default=None)
    assert break_even(lab, "params") == break_even(lab, "macs") == expected


def test_break_even_in_macs_differs_where_the_stride_comes_last():
    lab = CASES["That stem, stride last"]
    most = 49 * 3 * 64 * 112**2
    cost = lambda m: 9 * (224**2 * (3 * m + m * m) + 112**2 * m * 64)  # noqa: E731
    assert break_even(lab, "macs") == max(m for m in range(1, 100) if cost(m) <= most)
    assert break_even(lab, "params") == break_even(DEEP, "params")


def test_no_break_even_without_a_width_between_or_where_one_channel_is_too_dear():
    assert break_even(Lab(count=1), "params") is None
    assert break_even(Lab(count=2, kernel=7, single=3, inputs=1, outputs=1), "params") is None
    assert compare(Lab(count=1)).widths == ()


def test_break_even_may_lie_beyond_what_can_be_set():
    lab = Lab(count=2, kernel=1, single=13, inputs=2048, outputs=2048)
    assert break_even(lab, "params") == 169 * 2048 * 2048 // 4096 > LAB["between"].high


def test_curves_pass_through_the_setting_and_the_break_even():
    found = compare(DEEP)
    at = dict(zip(found.widths, found.curves["params"], strict=True))
    assert at[32] == found.stack.params == 28_512
    even = found.even["params"]
    assert even is not None
    assert at[even] <= found.single.params == 9_408
    assert list(at.values()) == sorted(at.values())


# -- the post's claims --------------------------------------------------------------------


def claims(lab: Lab) -> dict[str, bool]:
    return {claim.name: claim.holds for claim in compare(lab).claims}


def words(lab: Lab) -> str:
    return " ".join(claim.numbers for claim in compare(lab).claims)


def test_three_3x3_against_one_7x7_at_equal_width():
    found = compare(Lab())
    assert (found.stack.params, found.single.params) == (27 * 64**2, 49 * 64**2)
    assert found.stack.field.size == found.single.field.size == 7
    assert (found.stack.non_linearities, found.single.non_linearities) == (3, 1)
    assert all(claim.holds for claim in found.claims)
    assert "27C² against 49C² at C = 64" in words(Lab())


def test_as_a_stem_it_is_not_so():
    found = compare(DEEP)
    assert (found.stack.macs, found.single.macs) == (357_654_528, 118_013_952)
    assert (found.stack.field.size, found.single.field.size) == (11, 7)
    assert claims(DEEP) == {
        "Sees as much": False,
        "Fewer weights": False,
        "Fewer MACs": False,
        "More non-linearities": True,
    }
    for part in ("11×11 pixels against 7×7", "3.0 times as many", "3→32→32→64", "up to 13 channels"):
        assert part in words(DEEP)


@pytest.mark.parametrize(
    ("case", "fails"),
    [
        ("Equal width, stride 2", {"Sees as much"}),
        ("That stem, stride last", {"Fewer weights", "Fewer MACs"}),
        ("No activation", {"More non-linearities"}),
        ("Two 3×3, one 5×5", set()),
    ],
)
def test_where_claims_fail(case, fails):
    assert {name for name, holds in claims(CASES[case]).items() if not holds} == fails


def test_a_stack_without_activation_is_one_kernel():
    """Away from the border, as the page says."""
    torch.manual_seed(0)
    convs = [nn.Conv2d(2, 2, 3, bias=False, dtype=torch.float64) for _ in range(3)]
    impulses = torch.zeros(2, 2, 13, 13, dtype=torch.float64)
    impulses[0, 0, 6, 6] = impulses[1, 1, 6, 6] = 1
    with torch.no_grad():
        kernel = nn.Sequential(*convs)(impulses).flip(2, 3).transpose(0, 1)  # its response, mirrored, is the kernel
        image = torch.randn(1, 2, 12, 12, dtype=torch.float64)
        assert torch.allclose(nn.functional.conv2d(image, kernel), nn.Sequential(*convs)(image))
    assert kernel.shape[-1] == 7
    assert "one linear map" in words(CASES["No activation"])


# -- settings in the link -----------------------------------------------------------------


@st.composite
def labs(draw):
    values = {}
    for name, option in LAB.items():
        if option.choices:
            values[name] = draw(st.sampled_from(option.choices))
        elif isinstance(option.default, tuple):
            number = st.integers(int(option.low), int(option.high))
            values[name] = tuple(draw(st.lists(number, min_size=option.most, max_size=option.most)))
        else:
            values[name] = draw(st.integers(int(option.low), int(option.high)))
    values["width"] -= values["width"] % 4
    values["side"] = max(values["side"], 200)
    return Lab(**values)


@settings(max_examples=50, deadline=None)
@given(labs())
def test_settings_survive_the_link(lab):
    assert Lab.from_text(lab.to_text()) == lab
    assert len(lab.to_text()) <= LONGEST


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("q3", "lab = q3"),
        ("n9", "count = 9"),
        ("i0", "inputs = 0"),
        ("i2049", "1 to 2048"),
        ("mx", "between = x"),
        ("c6", "multiple of 4"),
        ("pall", "one of same, none"),
        ("w1.2", "6 whole numbers from -9 to 9"),
        ("v1.2.33", "3 whole numbers from -9 to 9"),
        ("v1-2-3", "3 whole numbers"),
        ("_", "lab = (empty)"),
        ("pnone_x8_K13", "at least 13 pixels"),
        ("x" + "9" * 300, "side = "),
        ("i٣", "inputs = ٣"),
    ],
)
def test_what_is_not_accepted_gets_a_sentence(text, names):
    with pytest.raises(ConfigError, match="is not accepted: ") as caught:
        Lab.from_text(text)
    assert names in str(caught.value)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("single_kernel", [7, 13])
def test_without_padding_the_map_is_as_large_as_torch_needs(stride, single_kernel):
    fixed = {"padding": "none", "stride": stride, "single": single_kernel, "inputs": 1, "between": 1, "outputs": 1}
    lab = next(lab for side in range(8, 40) if (lab := attempt(side=side, **fixed)))
    for module in (reference(lab, True), reference(lab, False)):
        module(torch.zeros(1, 1, lab.side, lab.side))
    if lab.side > 8:
        smaller = torch.zeros(1, 1, lab.side - 1, lab.side - 1)
        with pytest.raises(RuntimeError):
            [reference(lab, stacked)(smaller) for stacked in (True, False)]


def attempt(**given) -> Lab | None:
    try:
        return Lab(**given)
    except ConfigError:
        return None


# -- the drawing --------------------------------------------------------------------------


@pytest.mark.parametrize("lab", [*VARIED, Lab(), DEEP], ids=Lab.to_text)
def test_the_drawing_shows_every_convolution_and_its_field(lab):
    small, large = stack(lab), single(lab)
    root = ET.fromstring(growth(small, large).svg())
    space = "{http://www.w3.org/2000/svg}"
    said = [element.text or "" for element in root.iter(f"{space}text")]
    layers = (*small.convolutions, *large.convolutions)
    assert [text for text in said if text.startswith("sees ")] == [
        f"sees {x.field.size}×{x.field.size}" for x in layers
    ]
    assert len(list(root.iter(f"{space}circle"))) == sum(layer.kernel**2 for layer in layers)
    frames = [float(r.attrib["width"]) for r in root.iter(f"{space}rect") if r.get("stroke-width") == "2"]
    cell = frames[-1] / large.field.size
    assert frames == pytest.approx([layer.field.size * cell for layer in layers], abs=0.02)


def test_charts_say_where_costs_meet():
    found = compare(DEEP)
    figure = kernels.stack_figure(found, "params", "Weights")
    assert figure.layout.annotations[0].text == "break-even at 13"
    assert figure.data[2].x == (32,)
    assert figure.data[2].y == (28_512,)


# -- one block ----------------------------------------------------------------------------


def convolutions(kind: str, width: int):
    traced = trace(block_config(kind, width), 16)
    return [layer for layer in traced.inside("layer1.0") if layer.op == "convolution"]


@pytest.mark.parametrize("width", [4, 64, 256, 4096])
def test_weights_of_blocks(width):
    quarter = width // 4
    assert [layer.params for layer in convolutions("basic", width)] == [9 * width**2] * 2
    assert [layer.params for layer in convolutions("plain", width)] == [9 * width**2] * 2
    expected = [width * quarter, 9 * quarter**2, quarter * width]
    assert [layer.params for layer in convolutions("bottleneck", width)] == expected


def test_why_the_bottleneck_exists():
    assert sum(layer.params for layer in convolutions("basic", 256)) == 1_179_648
    assert sum(layer.params for layer in convolutions("bottleneck", 256)) == 69_632


@pytest.mark.parametrize("kind", ["basic", "bottleneck", "plain"])
def test_a_block_keeps_its_shape_and_has_a_shortcut_unless_plain(kind):
    traced = trace(block_config(kind, 32), 20)
    layers = traced.inside("layer1.0")
    first, last = layers[0].in_shapes[0], layers[-1].out_shape
    assert first == last == (32, 20, 20)
    assert any(layer.op == "addition" for layer in layers) == (kind != "plain")
    assert not any(layer.role.on_shortcut for layer in layers), "the shortcut is the identity"
    figure = kernels.block_figure({kind: layers})
    assert sum(bar.x[0] for bar in figure.data) == sum(layer.params for layer in layers if layer.op == "convolution")


@pytest.mark.parametrize("entry", ["A", "B", "D"])
@pytest.mark.parametrize(("kind", "theirs"), [("basic", BasicBlock), ("bottleneck", Bottleneck), ("plain", BasicBlock)])
def test_the_first_block_of_a_stage(kind, theirs, entry):
    """Against torchvision's blocks, whose projection stands for option B and costs what D's does."""
    config = block_config(kind, 64, entry)
    layers = trace(config, 20).inside(block_name(config))
    assert layers[0].in_shapes[0] == (64, 20, 20)
    assert layers[-1].out_shape == (128, 10, 10)
    planes = 128 // theirs.expansion
    projection = nn.Sequential(nn.Conv2d(64, 128, 1, 2, bias=False), nn.BatchNorm2d(128))
    block = theirs(64, planes, 2, None if kind == "plain" or entry == "A" else projection)
    assert sum(layer.params for layer in layers) == sum(p.numel() for p in block.parameters())
    assert any(layer.role.on_shortcut for layer in layers) == (kind != "plain")
    figure = kernels.block_figure({kind: layers})
    assert sum(bar.x[0] for bar in figure.data) == sum(layer.params for layer in layers if layer.op == "convolution")
    assert ("shortcut" in [bar.name for bar in figure.data]) == (kind != "plain" and entry != "A")


# -- the 1×1 convolution ------------------------------------------------------------------

digits = st.integers(-9, 9)


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[digits] * 6), st.tuples(*[digits] * 3))
def test_one_pixel_is_a_matrix_product(weights, pixel):
    assert at_pixel(Lab(weights=weights, pixel=pixel)) == tuple(np.array(weights).reshape(2, 3) @ np.array(pixel))


def test_every_pixel_gets_the_same_matrix():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    lab = replace(Lab(), weights=(1, -2, 3, 0, 4, -5))
    before, after = on_image(lab, Image.fromarray(pixels), 8)
    assert np.allclose(before, pixels.transpose(2, 0, 1) / 255)
    assert np.allclose(after, np.einsum("oc,hwc->ohw", np.array(lab.matrix), pixels / 255), atol=1e-5)


# -- trace_module -------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self, add: nn.Module | None):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.add = add

    def forward(self, x):
        return self.add(self.conv(x), x) if self.add else self.conv(x) + x


def test_any_module_is_traced_and_left_without_hooks():
    module = Residual(Add())
    conv, add = trace_module(module, (3, 8, 6))
    assert (conv.params, conv.macs) == (3 * 3 * 9 + 3, 3 * 3 * 9 * 48)
    assert (conv.inputs, add.inputs, add.field.size) == ((-1,), (0, -1), 3)
    assert all(not part._forward_hooks for part in module.modules())


@pytest.mark.parametrize(
    ("module", "error", "says"),
    [
        (Residual(None), RuntimeError, "does not put out the result"),
        (nn.Identity(), RuntimeError, "does not put out the result"),
        (nn.Sequential(nn.Dropout()), TypeError, "Dropout"),
        (nn.Conv2d(4, 4, 3), RuntimeError, "channels"),
    ],
)
def test_what_cannot_be_traced_says_so_and_keeps_no_hooks(module, error, says):
    with pytest.raises(error, match=says):
        trace_module(module, (3, 8, 8))
    assert all(not part._forward_hooks for part in module.modules())

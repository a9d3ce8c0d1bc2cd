"""What a trace says of a network, against references and against a second way to find out."""

from __future__ import annotations

import math
import pickle
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

import pytest
import torch
import torchinfo
import torchvision
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

import explorer
from explorer.analysis.compare import common_size
from explorer.analysis.cost import macs_formula, params_formula
from explorer.analysis.layers import IMAGE, Layer, Op
from explorer.analysis.receptive_field import Field, union
from explorer.analysis.trace import COLUMNS, OPERATIONS, Trace, operation, reservable, trace, trace_module
from helpers import (
    DILATES,
    PAPER,
    PRE,
    TABLE_6,
    TIMM,
    configs,
    every_choice,
    narrow,
    outputs_of,
    positive,
    reference,
    small,
)
from resnet import OPTIONS, PRESETS, ConfigError, ResNet, ResNetConfig, build, preset
from resnet.blocks import Block
from resnet.config import block_path, stage_and_index
from resnet.sizes import least_side

TORCHVISION = {name: facts for name, facts in reference("torchvision_resnets")["models"].items() if name in PRESETS}
DILATED = reference("torchvision_resnets")["constructor"]["macs_resnet50_224"]
FIELDS = reference("receptive_fields")
SPECIAL = ("ecaresnet50d_pruned", "ecaresnet101d_pruned", "test_resnet")
"""Networks of timm whose widths differ from block to block, which no configuration expresses."""

pytestmark = pytest.mark.usefixtures("one_thread")


def variant(name: str, **changes: Any) -> ResNetConfig:
    return preset(name).with_(**changes)[0]


BASIC: dict[str, Any] = {"block": "basic"}
V1: dict[str, Any] = {"stride_in": "1x1"}


def stage_end(traced: Trace, stage: str) -> Layer:
    """The last layer of "conv1", "maxpool" or "layer1", ..."""
    return [layer for layer in traced.layers if layer.name == stage or layer.name.startswith(f"{stage}.")][-1]


# -- parameters and MACs ------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in TIMM if name not in SPECIAL])
def test_timm_counts(name: str) -> None:
    traced = trace(preset(name), 224)
    assert (traced.params, traced.macs) == (TIMM[name]["params_exact"], TIMM[name]["macs_exact_at_224"])


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_counts(name: str) -> None:
    facts, traced = TORCHVISION[name], trace(preset(name))
    convolutions = [layer for layer in traced.layers if layer.op == "convolution"]
    assert traced.macs == facts["macs_exact_224"]
    assert sum(layer.macs for layer in convolutions) == facts["conv_macs"]
    assert traced.by_name["fc"].macs == facts["fc_macs"]
    assert sum(math.prod(layer.out_shape) for layer in convolutions) == facts["conv_output_elements"]


@pytest.mark.parametrize("name", [name for name in TORCHVISION if preset(name).block == "bottleneck"])
def test_macs_with_the_stride_in_the_first_1x1(name: str) -> None:
    assert trace(variant(name, stride_in="1x1")).macs == TORCHVISION[name]["macs_if_stride_in_first_1x1(v1)"]


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_counts_with_option_a(name: str) -> None:
    facts, traced = TORCHVISION[name], trace(variant(name, shortcut="A"))
    expected = facts["params_with_option_A_shortcuts"], facts["macs_with_option_A_shortcuts"]
    assert (traced.params, traced.macs) == expected


@pytest.mark.parametrize(("output_stride", "dilated"), [(16, "[False,False,True]"), (8, "[False,True,True]")])
def test_macs_of_dilated_networks(output_stride: int, dilated: str) -> None:
    traced = trace(variant("resnet50", output_stride=output_stride))
    assert (traced.params, traced.macs) == (trace(preset("resnet50")).params, DILATED[dilated])


@pytest.mark.parametrize("name", sorted(PAPER["flops_check"]["macs"].keys() - {"vgg16", "vgg19"}))
def test_macs_of_the_paper(name: str) -> None:
    depth, _, kind = name.partition("_")
    changes = {"optA": {"shortcut": "A"}, "v1": {"stride_in": "1x1"}}.get(kind, {})
    assert trace(variant(f"resnet{depth}", **changes)).macs == PAPER["flops_check"]["macs"][name]


@pytest.mark.parametrize("depth", PAPER["table1"]["nets"])
def test_table_1(depth: str) -> None:
    table, row = PAPER["table1"], PAPER["table1"]["nets"][depth]
    config = variant(f"resnet{depth}_v1", **({"shortcut": "A"} if row["block"] == "basic" else {}))
    traced = trace(config, 224)
    tenths = traced.macs / 1e8
    assert round(row["flops"] / 1e8) in (math.floor(tenths), round(tenths))
    assert (config.block, list(config.layers), config.depth) == (row["block"], row["layers"], int(depth))
    ends = [stage_end(traced, name) for name in ("conv1", "layer1", "layer2", "layer3", "layer4", "avgpool")]
    assert [end.out_shape[1:] for end in ends] == [(side, side) for side in table["output_sizes"]]
    assert [end.out_shape[0] for end in ends[1:5]] == table[
        "basic_widths" if row["block"] == "basic" else "bottleneck_out"
    ]


@pytest.mark.parametrize("depth", TABLE_6)
@pytest.mark.parametrize("option", ["A", "B"])
def test_table_6(depth: str, option: str) -> None:
    traced = trace(variant(f"resnet{depth}", shortcut=option), 32)
    assert {"params": traced.params, "macs": traced.macs} == TABLE_6[depth][f"option_{option}"]


@pytest.mark.parametrize("name", ["resnet18", "resnet50_v1", "resnext50_32x4d", "resnetrs50", "resnetv2_50t"])
def test_torchinfo_agrees_layer_by_layer(name: str) -> None:
    network = build(preset(name), "meta")
    summary = torchinfo.summary(network, (1, 3, 96, 160), device="meta", verbose=0)
    theirs = [layer for layer in summary.summary_list if layer.class_name in ("Conv2d", "Linear")]
    ours = [layer for layer in trace(preset(name), (96, 160)).layers if layer.op in ("convolution", "linear")]
    biases = [getattr(network.get_submodule(layer.name), "bias", None) for layer in ours]
    without = [layer.macs - (0 if bias is None else bias.numel()) for layer, bias in zip(theirs, biases, strict=True)]
    assert [layer.macs for layer in ours] == without


@pytest.mark.parametrize("size", [(96, 160), (33, 47), (224, 32)])
def test_a_turned_image_costs_the_same(size: tuple[int, int]) -> None:
    upright, turned = trace(preset("resnetblur50"), size), trace(preset("resnetblur50"), (size[1], size[0]))
    assert upright.image_shape == (3, *size)
    assert upright.macs == turned.macs
    assert upright.inference_memory.bytes == turned.inference_memory.bytes
    assert upright.training_memory == turned.training_memory
    for layer, other in zip(upright.layers, turned.layers, strict=True):
        assert other.out_shape == (layer.out_shape[0], *layer.out_shape[:0:-1])


@pytest.mark.parametrize("channels", [1, 4, 1024])
def test_input_channels_change_the_first_convolution_only(channels: int) -> None:
    colour, other = trace(preset("resnet18"), 64), trace(variant("resnet18", in_channels=channels), 64)
    assert other.layers[0].in_shapes == ((channels, 64, 64),)
    assert other.params - colour.params == (channels - 3) * 7 * 7 * 64
    assert other.macs - colour.macs == (channels - 3) * 7 * 7 * 64 * 32 * 32
    assert [layer.params for layer in other.layers[1:]] == [layer.params for layer in colour.layers[1:]]


@pytest.mark.parametrize("count", range(1, 7))
def test_one_to_six_stages(count: int) -> None:
    config = ResNetConfig(layers=(1,) * count, planes=(4,) * count)
    traced = trace(config, 130)
    groups = list(dict.fromkeys(layer.role.group for layer in traced.layers))
    assert groups == ["stem", *(f"stage {number + 1}" for number in range(count)), "head"]
    side = math.ceil(130 / config.total_stride)
    assert stage_end(traced, f"layer{count}").out_shape == (16, side, side)
    assert traced.field.effective_stride == config.total_stride == min(32, 4 * 2 ** (count - 1))


def test_a_network_too_large_for_memory() -> None:
    config = ResNetConfig(layers=(1, 2, 1, 1), planes=(16384,) * 4)
    width, out = 16384, 65536
    stem = 3 * 49 * width + 2 * width

    def block(inputs: int, projects: bool) -> int:
        weights = inputs * width + 9 * width**2 + width * out + 2 * (2 * width + out)
        return weights + projects * (inputs * out + 2 * out)

    blocks = block(width, True) + block(out, True) + block(out, False) + 2 * block(out, True)
    assert trace(config).params == stem + blocks + 1000 * out + 1000


def bytes_of_weights(config: ResNetConfig) -> int:
    return sum(parameter.numel() for parameter in build(config, "meta").parameters()) * 4


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        ({}, True),
        ({"planes": (64,), "layers": (1,), "num_classes": 100_000, "block": "basic", "in_channels": 1024}, True),
        ({"planes": (2048,), "layers": (1,)}, True),
        ({"planes": (16384,), "layers": (1,)}, False),
        ({"planes": (8192,), "layers": (4,), "block": "basic"}, False),
        ({"planes": (64,), "layers": (1,), "stem": "deep", "stem_width": 16384}, False),
    ],
)
def test_no_more_than_8_gib_is_reserved(given: dict[str, Any], fits: bool) -> None:
    config = ResNetConfig(**given)
    assert reservable(config) == fits == (bytes_of_weights(config) <= 8 * 2**30)


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_networks_are_reserved(name: str) -> None:
    """On the meta device a trace takes four times as long."""
    assert reservable(preset(name))


@given(configs())
@settings(max_examples=100, deadline=None)
def test_whatever_is_reserved_is_less_than_8_gib(config: ResNetConfig) -> None:
    assert not reservable(config) or bytes_of_weights(config) <= 8 * 2**30


@pytest.mark.parametrize("name", ["resnet20", "resnetrs50", "resnetblur50", "resnet50_gn", "ecaresnet26t"])
def test_reserved_and_meta_networks_trace_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reserved = trace(preset(name), 64)
    monkeypatch.setattr(sys.modules["explorer.analysis.trace"], "reservable", lambda config: False)
    assert trace(preset(name), 64) == reserved


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet152", "resnet1202", "plain56", "resnetrs50", "seresnet34", "resnetv2_50t"]
)
def test_depth_is_the_weighted_layers_of_the_main_path(name: str) -> None:
    config = preset(name)
    traced = trace(config, 64)
    weighted = [layer for layer in traced.layers if layer.op in ("convolution", "linear")]
    on_path = [layer for layer in weighted if not layer.role.on_shortcut and ".se." not in layer.name]
    assert len(on_path) == config.depth
    if found := re.fullmatch(r"[a-z]+(\d+)", name):
        assert config.depth == int(found[1]) + 3 * (name == "resnetrs50")  # deep stem, and a convolution for its pool


@pytest.mark.parametrize(
    "size", [(32, 0), (0, 32), 0, -64, True, 64.0, "64", None, (64,), (64, 64, 64), 8193, float("nan")]
)
def test_image_sizes_that_are_refused(size: Any) -> None:
    with pytest.raises(ConfigError, match=r"^size = .* is not accepted: 1 to 8192 pixels") as caught:
        trace(preset("resnet50"), size)
    assert caught.value.field == "size"


@pytest.mark.parametrize("size", [1, 31, (1, 40), 32, (32, 33), [33, 32], 8192])
def test_image_sizes_that_are_accepted(size: Any) -> None:
    traced = trace(preset("resnet50"), size)
    assert traced.image_size == ((size, size) if isinstance(size, int) else tuple(size))
    assert stage_end(traced, "layer4").out_shape[1:] == tuple(math.ceil(side / 32) for side in traced.image_size)


# -- receptive fields ---------------------------------------------------------------------


def strided(name: str) -> ResNetConfig:
    """The network of a reference such as "resnet50|v1(stride in first 1x1)"."""
    network, _, kind = name.partition("|")
    return variant(network, **({"stride_in": "1x1"} if kind.startswith("v1") else {}))


@pytest.mark.parametrize("name", FIELDS["measured_torchvision"]["nets"])
def test_measured_fields(name: str) -> None:
    traced = trace(strided(name))
    stages = FIELDS["measured_torchvision"]["nets"][name]["stages"]
    assert len(stages) == 6
    for stage, seen in stages.items():
        assert stage_end(traced, stage).field == (seen["rf"], seen["stride"], -seen["eff_padding"]), stage


@pytest.mark.parametrize(("output_stride", "dilated"), [(16, "[False, False, True]"), (8, "[False, True, True]")])
def test_measured_fields_of_dilated_networks(output_stride: int, dilated: str) -> None:
    traced = trace(variant("resnet50", output_stride=output_stride))
    stages = FIELDS["measured_dilated_resnet50"]["nets"][f"resnet50 replace_stride_with_dilation={dilated}"]
    for stage, seen in stages.items():
        assert stage_end(traced, stage).field == (seen["rf"], seen["stride"], -seen["eff_padding"]), stage


@pytest.mark.parametrize("depth", FIELDS["measured_cifar_resnets"]["nets"])
def test_measured_fields_of_cifar_networks(depth: str) -> None:
    seen = FIELDS["measured_cifar_resnets"]["nets"][depth]
    assert trace(preset(f"resnet{depth}"), 32).field[:2] == (seen["rf_measured"], seen["stride"])


@pytest.mark.parametrize("n", [1, 2, 3, 9, 200])
def test_field_formula_of_cifar_networks(n: int) -> None:
    field = trace(variant("resnet20", layers=(n, n, n)), 32).field
    assert (field.size, field.effective_stride) == (28 * n - 3, 4)


@pytest.mark.parametrize("name", FIELDS["measured_timm_variants"]["nets"])
def test_measured_fields_of_timm_networks(name: str) -> None:
    seen = FIELDS["measured_timm_variants"]["nets"][name]
    expected = seen["rf"], seen["stride"], seen["offset_first_input_index_for_u0"]
    assert trace(preset(name)).field == expected


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_published_fields_of_v1(depth: int) -> None:
    seen = FIELDS["published"][f"resnet_v1_{depth}"]
    expected = seen["receptive_field"], seen["effective_stride"]
    assert trace(preset(f"resnet{depth}_v1")).field[:2] == expected


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_published_fields_of_v1_5(name: str) -> None:
    traced = trace(preset(name))
    seen = FIELDS["published"]["stride_in_3x3 (v1.5)"][name]
    assert {stage: stage_end(traced, stage).field.size for stage in seen} == seen


def test_after_pooling_a_unit_sees_the_image() -> None:
    traced = trace(preset("resnet18"), (64, 96))
    for layer in traced.layers:
        pooled = layer.name in ("avgpool", "flatten", "fc")
        assert (layer.field == Field(96, 0, 0)) == pooled
        assert (layer.field.effective_stride == 0) == pooled


def test_a_sum_sees_what_either_summand_sees() -> None:
    inner, left, right = Field(3, 4, -1), Field(5, 4, -6), Field(4, 4, 2)
    assert union(inner, left) == union(left, inner) == Field(8, 4, -6)
    assert union(inner, right) == union(right, inner) == Field(7, 4, -1)
    assert Field(8, 4, -6).interval(2) == (2, 9)


def test_summands_on_different_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="2 and 4 pixels apart"):
        union(Field(3, 2, 0), Field(3, 4, 0))


DILATED_8: dict[str, Any] = {"layers": (1, 1, 2, 2), "planes": (2, 3, 4, 5), "output_stride": 8}
SEEN: dict[str, dict[str, Any]] = {
    "basic": BASIC,
    "bottleneck": {},
    "v1": V1,
    "dilated": DILATED_8,
    "dilated, v1": {**DILATED_8, **V1},
    "dilated, v1, A, pre-activation": {**DILATED_8, **V1, **PRE, "shortcut": "A"},
    "dilated, D": {**DILATED_8, "shortcut": "D"},
    "dilated, D, basic, plain width": {**DILATED_8, **BASIC, "shortcut": "D", "planes": (2, 2, 3, 3)},
    "dilated, blur": {**DILATED_8, "antialias": "blur"},
    "dilated, blur, v1, D": {**DILATED_8, **V1, "antialias": "blur", "shortcut": "D"},
    "dilated, average, pre-activation, D": {**DILATED_8, **PRE, "antialias": "avg", "shortcut": "D"},
    "dilated basic": {**BASIC, "stem_pool": "none", "layers": (1, 2, 2, 1), "planes": (2, 3, 3, 4), "output_stride": 8},
    "deep stem": {"stem": "deep"},
    "tiered, D": {"stem": "tiered", "stem_width": 4, "shortcut": "D"},
    "blur": {"antialias": "blur"},
    "blur, v1, D": {**V1, "antialias": "blur", "shortcut": "D"},
    "average": {"antialias": "avg"},
    "average basic, convolution for pool": {**BASIC, "antialias": "avg", "stem_pool": "conv"},
    "blurred convolution for pool": {"antialias": "blur", "stem_pool": "conv"},
    "pre-activation": PRE,
    "pre-activation basic, A": {**PRE, **BASIC, "shortcut": "A"},
    "pre-activation, blur": {**PRE, "antialias": "blur"},
    "A": {"shortcut": "A"},
    "C": {**BASIC, "shortcut": "C"},
    "plain": {**BASIC, "shortcut": "none"},
    "3x3 stem": {"stem": "3x3", "stem_pool": "none", "norm": "none", "groups": 2},
    "zero-padded pool": {**PRE, "zero_pool": True},
}


def assert_fields_are_seen(config: ResNetConfig, upright: bool = False, only: tuple[str, ...] = ()) -> None:
    """Compare one unit's gradient support with the interval, layer by layer, on a strip that nothing clips."""
    traced = trace(config)
    layers = [layer for layer in traced.layers if layer.field.effective_stride and (not only or layer.name in only)]
    units = [-layer.field.start // layer.field.effective_stride + 2 for layer in layers]
    ends = [layer.field.interval(unit)[1] for layer, unit in zip(layers, units, strict=True)]
    step = config.total_stride
    length, narrow = (max(ends) // step + 3) * step, 2 * step
    image = torch.ones(1, config.in_channels, narrow, length, dtype=torch.float64)
    image = (image.mT if upright else image).requires_grad_()
    outputs = outputs_of(positive(config), image, [layer.name for layer in layers])
    for layer, unit in zip(layers, units, strict=True):
        maps = outputs[layer.name].mT if upright else outputs[layer.name]
        (gradient,) = torch.autograd.grad(maps[0, :, maps.shape[2] // 2, unit].sum(), image, retain_graph=True)
        seen = gradient.abs().sum((0, 1, 3 if upright else 2)).nonzero().flatten().tolist()
        first, last = layer.field.interval(unit)
        assert seen == list(range(first, last + 1)), layer.name


@pytest.mark.parametrize("name", SEEN)
def test_fields_are_what_gradients_reach(name: str) -> None:
    narrow = {"layers": (1, 2, 1), "planes": (2, 3, 4), "num_classes": 2, "in_channels": 1}
    assert_fields_are_seen(ResNetConfig(**{**narrow, **SEEN[name]}))


@pytest.mark.parametrize("name", PRESETS)
def test_dilation_keeps_the_field_except_with_anti_aliasing(name: str) -> None:
    """As the option's help says."""
    full, half, quarter = (trace(variant(name, output_stride=stride), 64).field.size for stride in (32, 16, 8))
    if preset(name).antialias == "none":
        assert full == half == quarter
    assert full >= half >= quarter > 0.9 * full
    assert "stays; with anti-aliasing it can shrink a little" in OPTIONS["output_stride"].help


def test_fields_hold_along_both_axes() -> None:
    assert_fields_are_seen(small(**V1, antialias="blur", shortcut="D"), upright=True)


def test_fields_of_a_whole_network_are_what_gradients_reach() -> None:
    ends = ("layer1.2.act", "layer2.3.act", "layer3.5.act", "layer4.2.act")
    config = ResNetConfig(planes=(2, 2, 2, 2), layers=(3, 4, 6, 3), num_classes=2, in_channels=1)
    assert_fields_are_seen(config, only=ends)
    assert trace(config).by_name[ends[-1]].field.size == 427


# -- edges --------------------------------------------------------------------------------

WIRED: dict[str, ResNetConfig] = {
    **{name: preset(name) for name in ("resnet18", "resnet20", "plain20", "ecaresnet26t", "seresnext26d_32x4d")},
    "SE, pre-activation, D": small(order="pre", shortcut="D", attention="se", drop_path=0.5, stem="deep"),
    "pre-activation basic, A": small(order="pre", block="basic", shortcut="A", antialias="avg"),
    "pre-activation, plain": small(order="pre", shortcut="none", norm="none", stem_pool="conv"),
    "C, blur, v1": small(stride_in="1x1", shortcut="C", antialias="blur", norm="group", activation="silu"),
    "D, dilated": small(layers=(1, 1, 2, 1), planes=(8, 8, 8, 8), shortcut="D", output_stride=8, attention="eca"),
}


class EveryModule(torch.fx.Tracer):
    """Symbolic tracing that does not look into a module without children."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return next(m.children(), None) is None


def symbolic_edges(config: ResNetConfig) -> list[tuple[str, tuple[str, ...]]]:
    """(layer, what it reads) by torch.fx; identities are looked through."""
    network = build(config, "meta")
    source: dict[torch.fx.Node, str] = {}
    edges = []
    for node in EveryModule().trace(network).nodes:
        if node.op == "placeholder":
            source[node] = "image"
        elif node.op == "call_module":
            name = str(node.target)
            inputs = tuple(source[argument] for argument in node.args)
            if isinstance(network.get_submodule(name), nn.Identity):
                source[node] = inputs[0]
                continue
            source[node] = name
            edges.append((name, inputs))
        else:
            assert node.op == "output", node
    return edges


@pytest.mark.parametrize("name", WIRED)
def test_edges_are_those_of_symbolic_tracing(name: str) -> None:
    traced = trace(WIRED[name], 64)
    assert [(layer.name, traced.sources(layer)) for layer in traced.layers] == symbolic_edges(WIRED[name])


@pytest.mark.parametrize("name", WIRED)
@torch.no_grad()
def test_edges_carry_the_values_of_a_forward_pass(name: str) -> None:
    config, size = WIRED[name], (45, 83)
    network, traced = build(config).eval(), trace(config, size)
    image = torch.randn(1, config.in_channels, *size)
    read: dict[str, list[Tensor]] = {}
    made: dict[str, Tensor] = {"image": image}

    def keep(name: str, args: tuple[Tensor, ...], output: Tensor) -> None:
        read[name], made[name] = [tensor.clone() for tensor in args], output.clone()

    for layer in traced.layers:
        network.get_submodule(layer.name).register_forward_hook(
            lambda module, args, output, name=layer.name: keep(name, args, output)
        )
    network(image)
    assert len(read) == len(traced.layers)
    for layer in traced.layers:
        given = [made[source] for source in traced.sources(layer)]
        assert len(given) == len(read[layer.name])
        assert all(torch.equal(a, b) for a, b in zip(given, read[layer.name], strict=True)), layer.name
        assert layer.in_shapes == tuple(tuple(tensor.shape[1:]) for tensor in given)
        assert layer.out_shape == tuple(made[layer.name].shape[1:])
        if layer.op == "addition":
            assert torch.equal(made[layer.name], given[0] + given[1]), layer.name
        if layer.op == "scaling":
            assert torch.equal(made[layer.name], given[0] * given[1].view(1, -1, 1, 1)), layer.name


@pytest.mark.parametrize("name", WIRED)
def test_consumers_are_the_inverse_of_inputs(name: str) -> None:
    traced = trace(WIRED[name], 64)
    forward = {(producer, layer.index) for layer in traced.layers for producer in layer.inputs}
    assert {(producer, reader) for producer, readers in traced.consumers.items() for reader in readers} == forward
    assert all(producer < reader for producer, reader in forward)
    unread = [traced.layers[index].name for index, readers in traced.consumers.items() if not readers]
    assert unread == ["fc"]


def test_roles() -> None:
    traced = trace(preset("seresnext26d_32x4d"), 64)
    assert traced.by_name["conv1.3"].role == ("stem", 0, 0, "conv1.3")
    assert traced.by_name["layer2.1.se.fc1"].role == ("stage", 2, 1, "se.fc1")
    assert traced.by_name["fc"].role == ("head", 0, 0, "fc")
    assert len({layer.role for layer in traced.layers}) == len(traced.layers)
    assert all(layer.role.on_shortcut == (".downsample." in layer.name) for layer in traced.layers)
    assert [layer.index for layer in traced.layers] == list(range(len(traced.layers)))


# -- what stands where ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet152", "resnext50_32x4d", "wide_resnet50_2"])
def test_blocks_and_what_is_inside_are_torchvisions(name: str) -> None:
    """Its module tree says which blocks there are, and which convolutions and norms are in each of its modules."""
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)()
    traced = trace(preset(name), 64)
    blocks = [path for path, module in theirs.named_modules() if isinstance(module, BasicBlock | Bottleneck)]
    assert list(traced.blocks) == list(traced.config.blocks) == blocks
    for path, module in theirs.named_modules():
        weighted = {
            f"{path}.{leaf}".strip("."): Op.CONVOLUTION if isinstance(each, nn.Conv2d) else Op.BATCH_NORM
            for leaf, each in module.named_modules()
            if isinstance(each, nn.Conv2d | nn.BatchNorm2d)
        }
        inside = {layer.name: layer.op for layer in traced.inside(path)}
        assert {each: op for each, op in inside.items() if op in (Op.CONVOLUTION, Op.BATCH_NORM)} == weighted, path
        if path in blocks:
            assert traced.inside(path) == traced.blocks[path] == traced.parts[path]
    for stage, layers in enumerate(traced.stages, start=1):
        assert layers == traced.inside(f"layer{stage}") == traced.groups[f"stage {stage}"]


def answers(traced: Trace) -> dict[str, Any]:
    """What a trace computes once and keeps, by name; every one of them."""
    return {name: getattr(traced, name) for name, made in vars(Trace).items() if isinstance(made, cached_property)}


def test_who_shares_a_trace_cannot_change_it() -> None:
    kept = answers(trace(preset("resnet18"), 32))
    assert {"by_name", "parts", "blocks", "groups", "consumers", "global_dependencies"} <= kept.keys()
    for name, answer in kept.items():
        assert isinstance(answer, int | str | tuple | MappingProxyType), name
        for value in answer.values() if isinstance(answer, Mapping) else ():
            assert isinstance(value, Layer | tuple | frozenset), name


def test_a_pickled_trace_says_the_same() -> None:
    traced = trace(preset("resnet18"), 32)
    before = answers(traced)
    again = pickle.loads(pickle.dumps(traced))
    assert again == traced
    assert answers(again) == before


@given(configs(blocks=3))
@settings(max_examples=40, deadline=None)
def test_parts_are_those_of_the_configuration(config: ResNetConfig) -> None:
    traced = trace(config, max(32, least_side(config)))
    assert config.blocks == tuple(block_path(*stage_and_index(path)) for path in traced.blocks)
    assert [stage_and_index(path) for path in config.blocks] == [
        (stage, index) for stage in range(1, len(config.layers) + 1) for index in range(config.layers[stage - 1])
    ]
    assert list(traced.parts) == ["stem", *config.blocks, "head"]
    assert list(traced.groups) == ["stem", *(f"stage {n + 1}" for n in range(len(config.layers))), "head"]
    assert traced.layers == sum(traced.parts.values(), ()) == sum(traced.groups.values(), ())
    assert [len({layer.block for layer in stage}) for stage in traced.stages] == list(config.layers)
    assert traced.stem == traced.parts["stem"] == traced.groups["stem"]
    assert traced.inside("head") == traced.parts["head"] == traced.groups["head"]
    for path, layers in traced.parts.items():
        assert {layer.part for layer in layers} == {traced.part_of(layer.name) for layer in layers} == {path}
        assert {layer.block for layer in layers} == {path if path in traced.blocks else ""}
    assert traced.part_of("layer9.0") == "layer9.0"
    assert traced.inside("layer9.0") == traced.inside("layer") == ()
    modules = dict(build(config, "meta").named_modules())
    assert [layer.name for layer in traced.convolutions] == [
        layer.name for layer in traced.layers if type(modules[layer.name]) is nn.Conv2d
    ]
    ends = [] if config.shortcut == "none" else [f"{path}.add" for path in config.blocks]
    assert [layer.name for layer in traced.additions] == ends


@pytest.mark.parametrize("text", ["stem", "head", "layer2", "layer2.0.conv1", "conv1", ""])
def test_what_is_no_block_has_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        stage_and_index(text)


@pytest.mark.parametrize(
    ("config", "name", "label"),
    [
        (preset("resnet50"), "conv1", "7×7 convolution, stride 2"),
        (preset("resnet50"), "maxpool", "3×3 max pooling, stride 2"),
        (preset("resnet50"), "layer1.0.bn1", "batch norm"),
        (preset("resnet50"), "layer1.0.add", "addition"),
        (preset("resnext50_32x4d"), "layer2.0.conv2", "3×3 convolution, stride 2, 32 groups"),
        (variant("resnet50", output_stride=8), "layer4.1.conv2", "3×3 convolution, dilation 4"),
        (preset("ecaresnet50d"), "layer4.0.se.conv", "7-wide convolution along channels"),
        (preset("resnetblur50"), "layer2.0.aa2", "3×3 blur, stride 2"),
        (preset("resnet50d"), "layer2.0.downsample.0", "2×2 average pooling, stride 2"),
        (preset("resnet20"), "layer2.0.downsample", "zero padding, stride 2"),
        (preset("resnet50_gn"), "bn1", "group norm"),
        (small(activation="leaky_relu"), "act1", "leaky relu"),
    ],
)
def test_labels(config: ResNetConfig, name: str, label: str) -> None:
    assert trace(config, 64).by_name[name].label == label


def add_one(self: Block, x: Tensor) -> Tensor:
    return self.act(self.add(self.branch(x) + 1, self.downsample(x)))


def test_a_hidden_operation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Block, "forward", add_one)
    with pytest.raises(RuntimeError, match=r"^layer1\.0\.add reads a tensor that no module made"):
        trace(preset("resnet18"), 64)


# -- operations have names ----------------------------------------------------------------


def shortened() -> Iterator[ResNetConfig]:
    """Every preset with one block a stage, and every choice of every option."""
    for config in PRESETS.values():
        yield config.with_(layers=(1,) * len(config.layers))[0]
    yield from every_choice()


def test_every_operation_has_a_name_and_every_name_an_operation() -> None:
    kinds: dict[type[nn.Module], nn.Module] = {}
    for config in dict.fromkeys(shortened()):
        leaves = [module for module in build(config, "meta").modules() if next(module.children(), None) is None]
        kinds |= {type(module): module for module in leaves if not isinstance(module, nn.Identity)}
    assert {operation(module) for module in kinds.values()} == set(OPERATIONS.values()) == set(Op)


def test_an_operation_without_a_name_is_refused() -> None:
    with pytest.raises(TypeError, match="no name for Dropout"):
        operation(nn.Dropout())


# -- formulas -----------------------------------------------------------------------------


def evaluate(formula: str) -> tuple[int, int]:
    """Both sides of a formula, words left out."""
    left, equals, right = formula.rpartition(" = ")
    assert equals
    plain = re.sub(r"[a-z, ]", "", left).replace("·", "*")
    assert re.fullmatch(r"[\d*+]+", plain), formula
    assert f"{int(right.replace(',', '')):,}" == right
    return eval(plain), int(right.replace(",", ""))


@pytest.mark.parametrize(
    "config",
    [
        *(preset(name) for name in ("resnet18", "resnext50_32x4d", "seresnet50", "ecaresnet26t", "resnetrs50")),
        *(preset(name) for name in ("resnet50_gn", "resnetblur18", "resnet20", "resnetv2_50")),
        small(norm="none", attention="se", stem="tiered"),
        variant("resnet18", in_channels=1, num_classes=1),
    ],
    ids=lambda config: repr(config)[:60],
)
def test_formulas_evaluate_to_the_layers_numbers(config: ResNetConfig) -> None:
    for layer in trace(config, (64, 96)).layers:
        for formula, number in ((params_formula(layer), layer.params), (macs_formula(layer), layer.macs)):
            assert (formula == "") == (number == 0), layer.name
            assert not formula or evaluate(formula) == (number, number), layer.name


def test_formulas_show_their_factors() -> None:
    layers = trace(preset("resnext50_32x4d")).by_name
    assert params_formula(layers["layer1.0.conv2"]) == "3·3·4·128 = 4,608"
    assert macs_formula(layers["layer1.0.conv2"]) == "4,608 weights · 56·56 positions = 14,450,688"
    assert params_formula(layers["bn1"]) == "2·64 = 128"
    assert params_formula(layers["fc"]) == "2048·1000 + 1,000 = 2,049,000"
    assert macs_formula(layers["fc"]) == "2,048,000 weights, each used once = 2,048,000"


# -- memory -------------------------------------------------------------------------------


def live_bytes(traced: Trace, now: int) -> int:
    """Bytes of the tensors that exist while layer `now` runs, from nothing but who reads what."""

    def memory_of(index: int) -> int:
        while index != IMAGE and traced.layers[index].op in ("flatten", "stochastic depth"):
            (index,) = traced.layers[index].inputs
        return index

    still_read = {source for layer in traced.layers[now:] for source in layer.inputs if source < now}
    tensors = {memory_of(index) for index in (now, *still_read)}
    shapes = [traced.image_shape if index == IMAGE else traced.layers[index].out_shape for index in tensors]
    return sum(4 * math.prod(shape) for shape in shapes)


@pytest.mark.parametrize("name", ["resnet50", "resnetrs50", "resnetv2_50", "resnetblur50", *WIRED])
def test_least_memory_is_the_largest_set_still_to_be_read(name: str) -> None:
    traced = trace(WIRED[name] if name in WIRED else preset(name), (64, 96))
    live = [live_bytes(traced, layer.index) for layer in traced.layers]
    peak = traced.least_memory
    assert (peak.bytes, peak.layer.index) == (max(live), live.index(max(live)))


def test_least_memory_lasts_through_an_operation_that_passes_its_input_on() -> None:
    traced = trace(small(block="basic", shortcut="A", layers=(1, 1), planes=(4, 256), drop_path=0.5), 64)
    branch, padded = (traced.layers[index] for index in traced.by_name["layer2.0.add"].inputs)
    assert (branch.op, padded.op) == ("stochastic depth", "zero padding")
    assert traced.least_memory == (3 * 4 * 256 * 8 * 8, traced.by_name["layer2.0.add"])


def saved_bytes(config: ResNetConfig, size: tuple[int, int], batch: int = 1) -> int:
    """Bytes of all memory that autograd holds on to in a forward pass in training, weights and buffers aside."""
    network = build(config)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.randn(batch, config.in_channels, *size))
    return sum(tensor.untyped_storage().nbytes() for where, tensor in saved.items() if where not in own)


TRAINED: dict[str, ResNetConfig] = {
    **{name: preset(name) for name in ("resnet18", "resnet50", "resnet20", "plain20", "resnet26t")},
    **{name: small(activation=name) for name in ("silu", "gelu", "leaky_relu", "elu")},
    "group norm": small(norm="group"),
    "pre-activation, group norm": small(norm="group", order="pre", planes=(6, 40)),
    "no norm": small(norm="none"),
    "no norm, gelu": small(norm="none", activation="gelu", order="pre"),
    "SE": small(attention="se"),
    "ECA": small(attention="eca"),
    "blur": small(antialias="blur"),
    "average": small(antialias="avg", block="basic"),
    "average, silu": small(antialias="avg", activation="silu"),
    "blurred convolution for pool": small(antialias="blur", stem_pool="conv"),
    "pre-activation": small(order="pre"),
    "pre-activation, SE, silu, blur": small(order="pre", attention="se", activation="silu", antialias="blur"),
    "A": small(shortcut="A"),
    "C": small(shortcut="C", stride_in="1x1"),
    "D": small(shortcut="D"),
    "deep stem": small(stem="deep"),
    "plain without norm": small(shortcut="none", norm="none", activation="elu"),
    "dilated": small(layers=(1, 1, 2, 1), planes=(8, 8, 8, 8), output_stride=8),
    "dilated, D, blur": DILATES.with_(shortcut="D", antialias="blur")[0],
    "stochastic depth": small(layers=(2, 2), drop_path=0.5),
}


@pytest.mark.parametrize("name", TRAINED)
def test_training_memory_is_what_autograd_saves(name: str) -> None:
    config, size = TRAINED[name], (64, 96)
    traced, saved = trace(config, size).training_memory, saved_bytes(config, size)
    assert traced == saved


def test_training_memory_grows_with_the_batch() -> None:
    config = small(norm="none", attention="se", antialias="blur")
    assert saved_bytes(config, (64, 64), batch=3) == 3 * trace(config, 64).training_memory


# -- what can be traced --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "size"),
    [
        ("resnet50", "resnet50", (224, 224)),
        ("ResNet-20", "resnet20", (32, 32)),
        ("timm/resnet18.a1_in1k", "resnet18", (224, 224)),
        ("https://huggingface.co/timm/resnet18.a1_in1k", "resnet18", (224, 224)),
        ("preset=resnet20_fashion", "resnet20_fashion", (28, 28)),
        ("http://localhost:8501/inference?preset=ResNet-18&size=64x96&tab=Speed", "resnet18", (64, 96)),
        ("block=basic&layers=2-2-2-2", "resnet18", (224, 224)),
        ("http://localhost:8501/", "resnet50", (224, 224)),
    ],
)
def test_a_name_or_a_link_is_traced_at_its_own_size(text: str, name: str, size: tuple[int, int]) -> None:
    assert explorer.trace(text) == trace(preset(name), size)
    assert explorer.trace(text, 40) == explorer.trace(preset(name), image_size=40) == trace(preset(name), 40)


@pytest.mark.parametrize("text", ["resnet51", "", "layers=x", "http://host/?size=0", "https://huggingface.co/timm/vit"])
def test_what_cannot_be_traced_says_why(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^\w+ = .* is not accepted: .*\.$"):
        explorer.trace(text)


def test_trace_takes_a_configuration_at_224_as_ever() -> None:
    assert explorer.trace(preset("resnet18")) == explorer.trace(preset("resnet18"), (224, 224))
    assert explorer.trace(preset("resnet18"), image_size=None).image_size == (224, 224)


# -- small images ---------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, 2, 7, 28, 31, (1, 40), (40, 3)])
@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50d", "resnet50_gn", "resnetv2_50", "resnet20", "seresnet50", "plain20"]
)
def test_small_images_are_traced_as_torch_runs_them(name: str, side: Any) -> None:
    """Shapes of every layer, beside a pass of one image with its numbers."""
    traced, network, shapes = trace(preset(name), side), build(preset(name)).eval(), {}
    for layer in traced.layers:
        network.get_submodule(layer.name).register_forward_hook(
            lambda _, __, output, name=layer.name: shapes.update({name: tuple(output.shape[1:])})
        )
    with torch.no_grad():
        network(torch.zeros(1, *traced.image_shape))
    assert shapes == {layer.name: layer.out_shape for layer in traced.layers}


def test_resnet18_at_28() -> None:
    """As ptflops counts it on torchvision's."""
    assert trace(preset("resnet18"), 28).macs == 34_747_136


@given(narrow(), st.tuples(*[st.integers(1, 70)] * 2))
@example(small(zero_pool=True), (1, 1))
@settings(max_examples=60, deadline=None)
def test_an_image_below_the_total_stride_leaves_one_unit(config: ResNetConfig, size: tuple[int, int]) -> None:
    size = common_size((config,), size)
    traced = trace(config, size)
    words = traced.too_small
    assert bool(words) == (min(size) < config.total_stride)
    if words:
        name = re.search(r"from (\S+) on", words)[1]  # type: ignore[index]
        after = [
            layer
            for layer in traced.layers[traced.by_name[name].index :]
            if layer.role.part != "head" and layer.field.effective_stride and layer.op != Op.ZERO_PADDING
        ]
        assert all(min(layer.out_shape[1:]) == 1 for layer in after if not layer.role.on_shortcut)
        assert ("1×1" in words) == (traced.by_name[name].out_shape[1:] == (1, 1))


# -- any configuration --------------------------------------------------------------------


@given(configs(blocks=3), st.data())
@settings(max_examples=40, deadline=None)
def test_any_configuration_traces(config: ResNetConfig, data: st.DataObject) -> None:
    low = least_side(config)
    size = data.draw(st.tuples(st.integers(low, low + 70), st.integers(low, low + 70)))
    traced = trace(config, size)
    network = build(config, device="meta")
    names = [layer.name for layer in traced.layers]
    assert traced.params == sum(parameter.numel() for parameter in network.parameters())
    assert traced.layers == trace_module(network, traced.image_shape)  # whose blocks are all modules of their own
    assert len(set(names)) == len(names)
    assert set(names) <= {name for name, _ in network.named_modules()}
    assert traced.layers[-1].out_shape == (config.num_classes,)
    assert traced.field.effective_stride == config.total_stride
    assert traced.inference_memory.bytes > 0
    assert traced.training_memory > 0
    frame = traced.frame()
    assert list(frame.columns) == list(COLUMNS)
    assert list(frame["name"]) == names
    assert frame["params"].sum() == traced.params
    assert frame["macs"].sum() == traced.macs


@pytest.mark.parametrize(
    ("config", "blocks"),
    [
        (preset("resnet152"), 8),
        (preset("resnet1202"), 5),
        (ResNetConfig(layers=(3, 3), planes=(64, 64), stem_pool="none"), 3),
        (ResNetConfig(layers=(2, 2), planes=(64, 64), drop_path=0.1), 4),
    ],
)
def test_tied_blocks_are_one_module_where_they_are_alike(config: ResNetConfig, blocks: int) -> None:
    with torch.device("meta"):
        tied, whole = ResNet(config, tied=True), ResNet(config)
    assert sum(isinstance(module, Block) for module in tied.modules()) == blocks
    assert sum(isinstance(module, Block) for module in whole.modules()) == sum(config.layers)
    assert {name: value.shape for name, value in tied.state_dict().items()} == {
        name: value.shape for name, value in whole.state_dict().items()
    }


def test_the_table_holds_what_its_columns_say() -> None:
    traced = trace(preset("resnet50"), 224)
    row = traced.frame().set_index("name").loc["layer2.0.add"]
    assert row["op"] == "addition"
    assert row["part"] == "stage 2"
    assert row["output"] == "512×28×28"
    assert row["inputs"] == "layer2.0.bn3, layer2.0.downsample.1"
    assert (row["params"], row["macs"]) == (0, 0)
    assert (row["field"], row["effective_stride"], row["start"]) == (43, 8, -21)
    for key, column in COLUMNS.items():
        kind = traced.frame()[key].dtype.kind
        assert (kind == "i") == bool(column.format), key


@pytest.mark.parametrize("config", every_choice(), ids=lambda config: repr(config)[:60])
def test_tracing_leaves_the_random_state_alone(config: ResNetConfig) -> None:
    before = torch.get_rng_state()
    trace(config, 64)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_constructor_fills_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing is fast because weights are reserved only."""
    monkeypatch.setattr(ResNet, "initialise", lambda self: pytest.fail("weights were filled"))
    monkeypatch.setattr(nn.init, "kaiming_uniform_", lambda *args, **kwargs: pytest.fail("weights were filled"))
    trace(variant("resnet18", attention="se"), 64)


def test_networks_share_what_their_layers_have_alike() -> None:
    """A server keeps hundreds of traces: what stands where, and sees what, is one object for all."""
    one, other = trace(preset("resnet50")), trace(preset("seresnet50"), 192)
    assert all(layer.role is other.by_name[layer.name].role for layer in one.layers)
    assert len({id(layer.field) for layer in one.layers}) < len(one.layers) / 3
    assert len({id(kinds) for kinds in one.global_dependencies.values()}) == len({*one.global_dependencies.values()})

"""One number explained: its terms add up to torch's own value, and come from the units that autograd says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import explorer
from explorer.analysis.layers import Layer, Op
from explorer.analysis.projective_field import projective, receptive
from explorer.analysis.trace import Trace, trace
from explorer.inference.ablation import without_blocks
from explorer.inference.explain import Explanation, Unit, chain, explain, explanation, record, sizes
from helpers import CPU, narrow, small
from resnet import ConfigError, ResNet, ResNetConfig, build
from resnet.sizes import least_side
from resnet.weights import BUNDLED, bundled, load

pytestmark = pytest.mark.usefixtures("one_thread")
Calls = dict[str, tuple[tuple[Tensor, ...], Tensor]]
"""What each module read and put out."""


def network_of(config: ResNetConfig, dtype: torch.dtype = torch.float64) -> ResNet:
    """A network whose every parameter and statistic is random, in eval mode."""
    network = build(config).to(dtype).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.get_buffer("running_mean"))
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2)
        elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.normal_(module.bias)
    return network


def calls_of(network: ResNet, image: Tensor) -> Calls:
    """One pass, as the modules' own hooks see it."""
    calls: Calls = {}
    handles = [
        module.register_forward_hook(lambda _, args, output, name=name: calls.update({name: (args, output)}))
        for name, module in network.named_modules()
        if not list(module.children())
    ]
    with torch.no_grad():
        network(image)
    for handle in handles:
        handle.remove()
    return calls


def outputs_in(calls: Calls, image: Tensor) -> dict[str, np.ndarray]:
    found = {name: output[0] for name, (_, output) in calls.items()} | {"image": image[0]}
    return {name: (one if one.ndim == 3 else one.reshape(-1, 1, 1)).numpy() for name, one in found.items()}


def place_in(unit: Unit, tensor: Tensor) -> Tensor:
    """A unit's number in a batch of one."""
    return tensor[0][unit[1:]] if tensor.ndim == 4 else tensor.flatten()[unit.channel]


def random_units(layers: Sequence[Layer], chance: np.random.Generator) -> Iterator[Unit]:
    for layer in layers:
        yield Unit(layer.name, *(int(chance.integers(size)) for size in sizes(layer.out_shape)))


LINEAR = set(Op) - {Op.ELU, Op.SILU, Op.GELU, Op.SIGMOID, Op.GROUP_NORM}
"""Operations whose factors are their gradient."""


def check(found: Explanation, network: ResNet, traced: Trace, calls: Calls) -> None:
    """The sum is the module's own output, and each factor the gradient with respect to the unit that the term came from."""
    unit, (args, output) = found.unit, calls[found.unit.layer]
    largest = max(abs(term.value) for term in found.terms)
    assert found.value == float(place_in(unit, output))
    assert abs(found.difference) <= 1e-9 * max(largest, abs(found.value)), (unit, found.op)
    assert found.total == pytest.approx(sum(term.value for term in found.terms), abs=1e-9 * max(largest, 1))
    if found.op not in LINEAR:
        return
    given_ = [one.detach().clone().requires_grad_() for one in args]
    place_in(unit, network.get_submodule(unit.layer)(*given_)).backward()
    names = traced.sources(traced.by_name[unit.layer])
    expected: dict[Unit, float] = {}
    for name, one in zip(names, given_, strict=True):
        assert one.grad is not None
        gradient = one.grad[0] if one.grad.ndim == 4 else one.grad.reshape(-1, 1, 1)
        expected |= {Unit(name, *map(int, place)): float(gradient[tuple(place)]) for place in gradient.nonzero()}
    factors: dict[Unit, float] = {}
    for term in found.terms:
        if term.unit:
            assert term.factor is not None
            assert term.input is not None
            factors[term.unit] = factors.get(term.unit, 0) + term.factor
            assert term.input == float(place_in(term.unit, calls[term.unit.layer][1]))
            assert math.isclose(term.value, term.factor * term.input)
        if term.factor_unit and term.input:
            factors[term.factor_unit] = factors.get(term.factor_unit, 0) + term.input
    assert {one for one, factor in factors.items() if factor} == expected.keys()
    assert all(math.isclose(factors[one], gradient) for one, gradient in expected.items())


def check_layers(config: ResNetConfig, seed: int, most: int) -> set[Op]:
    """A random unit of each of up to so many layers on noise; returns the operations that occurred."""
    torch.manual_seed(seed)
    side = max(least_side(config), 21)
    network, traced = network_of(config), trace(config, (side, side + 5))
    image = torch.randn(1, config.in_channels, side, side + 5, dtype=torch.float64)
    calls = calls_of(network, image)
    calls["image"] = ((), image)
    outputs = outputs_in(calls, image)
    chance = np.random.default_rng(seed)
    layers = [traced.layers[index] for index in chance.permutation(len(traced.layers))[:most]]
    for unit in random_units(layers, chance):
        check(explanation(network, traced, outputs.__getitem__, unit), network, traced, calls)
    return {layer.op for layer in layers}


@settings(max_examples=25, deadline=None, derandomize=True)
@given(narrow(), st.integers(0, 2**16))
def test_the_terms_of_any_unit_add_up_to_its_value(config: ResNetConfig, seed: int) -> None:
    check_layers(config, seed, 12)


def test_every_operation_is_explained() -> None:
    changes: list[dict[str, Any]] = [
        {"attention": "se", "activation": "elu", "antialias": "blur", "groups": 2, "drop_path": 0.5},
        {"attention": "eca", "activation": "gelu", "norm": "group", "norm_groups": 4, "order": "pre"},
        {"activation": "silu", "norm": "none", "shortcut": "A", "zero_pool": True, "block": "basic"},
        {"activation": "leaky_relu", "shortcut": "D", "antialias": "avg", "stem": "deep", "attention": "eca"},
        {"layers": (1, 1, 1, 1), "planes": (4, 4, 8, 8), "output_stride": 8, "shortcut": "D"},
    ]
    seen = [check_layers(small(**more), seed, 100) for seed, more in enumerate(changes)]
    assert set().union(*seen) == set(Op)


# -- what ships ---------------------------------------------------------------------------


def shipped(name: str = "resnet20") -> ResNet:
    return load(bundled(BUNDLED[name])[0]).requires_grad_(False)


def noise(*size: int) -> Tensor:
    return torch.randn(1, 1, *(size or (28, 28)), generator=torch.Generator().manual_seed(3))


def test_a_number_of_a_shipped_network_in_single_precision() -> None:
    """Against torch's own pass, below 1e-4 of the value, for the strongest unit of every layer."""
    network, image = shipped(), noise()
    traced = trace(network.config, 28)
    outputs = record(network, image, [layer.name for layer in traced.layers], CPU)
    for layer in traced.layers:
        output = outputs[layer.name]
        unit = Unit(layer.name, *map(int, np.unravel_index(np.abs(output).argmax(), output.shape)))
        found = explanation(network, traced, outputs.__getitem__, unit)
        assert abs(found.difference) < 1e-4 * abs(found.value), unit


def test_a_number_of_a_network_in_bf16() -> None:
    network, image = shipped().bfloat16(), noise().bfloat16()
    found = explain(network, image, "fc", 3)
    assert found.value == float(network(image)[0, 3])
    assert found.total == pytest.approx(found.value, rel=1e-2)


def test_leaky_relu_in_katex() -> None:
    network = build(small(activation="leaky_relu")).eval()
    (step,) = explain(network, torch.zeros(1, 3, 64, 64), "act1", 0).steps
    assert step.tex.startswith(r"\max(x,\,0.01\,x) = ")


def test_the_largest_terms_lead_down_to_a_pixel() -> None:
    network, image = shipped(), noise()
    found = explorer.explain(network, image, "fc", 3)
    logits = network(image)[0]
    assert found.value == pytest.approx(float(logits[3]))
    assert rf"= {float(logits.softmax(0)[3]):.4g}" in found.steps[-1].tex
    visited = [found.unit]
    while visited[-1].layer != "image":
        largest = max(explain(network, image, *visited[-1]).terms, key=lambda term: abs(term.value) * bool(term.unit))
        assert largest.unit
        visited.append(largest.unit)
    places = receptive(trace(network.config, 28), "layer3.2.act", *visited[3][2:])
    assert visited[3].layer == "layer3.2.act"
    for unit in visited[4:]:
        assert places[unit.layer][unit.row, unit.column]
        reached = projective(trace(network.config, 28), "image", *visited[-1][2:])
        assert unit.layer == "image" or reached[unit.layer][unit.row, unit.column]


def test_a_chain_ends_where_several_units_meet() -> None:
    network, image = shipped(), noise()
    traced = trace(network.config, 28)
    outputs = record(network, image, [layer.name for layer in traced.layers], CPU).__getitem__

    def names(unit: Unit) -> list[str]:
        return [one.unit.layer for one in chain(network, traced, outputs, unit)]

    assert names(Unit("layer2.0.act", 5, 3, 4)) == ["layer2.0.act", "layer2.0.add"]
    assert names(Unit("layer2.0.act1", 5, 3, 4)) == ["layer2.0.act1", "layer2.0.bn1", "layer2.0.conv1"]
    assert names(Unit("layer2.0.downsample", 5, 3, 4)) == ["layer2.0.downsample"]  # what it reads is another block's
    assert names(Unit("flatten", 5)) == ["flatten", "avgpool"]


@pytest.mark.parametrize("name", ["resnet20", "plain20"])
def test_blocks_that_are_off(name: str) -> None:
    """A residual block hands on its shortcut, a plain one its input, without channels that are off as well: each layer reads
    what its hook saw.
    """
    network, image, off = shipped(name), noise(), ("layer1.1", "layer1.1:4", "layer1.2", "layer1.2:5")
    ablated = without_blocks(network, off)
    traced, calls = trace(network.config, 28), calls_of(ablated, image)
    outputs = outputs_in(calls, image).__getitem__
    for unit in random_units(traced.layers, np.random.default_rng(0)):
        found = explanation(ablated, traced, outputs, unit, off)
        assert found.difference == pytest.approx(0, abs=1e-4 * max(1, abs(found.value))), unit


def test_a_channel_that_is_off_is_zero() -> None:
    network, off = shipped(), ("layer1.1", "layer2.0:5")
    ablated, traced = without_blocks(network, off), trace(network.config, 28)
    outputs = record(ablated, noise(), [layer.name for layer in traced.layers], CPU).__getitem__
    (found,) = chain(ablated, traced, outputs, Unit("layer2.0.act", 5, 3, 4), off)
    assert (found.value, found.total) == (0, 0)
    other = explanation(ablated, traced, outputs, Unit("layer2.1.conv1", 0, 3, 4), off)
    assert abs(other.difference) < 1e-4 * abs(other.value)


@pytest.mark.parametrize(
    ("given_", "sentence"),
    [
        (
            ("conv9", 0, 0, 0),
            "layer = conv9 is not accepted: a layer of this network, conv1 to fc in order of execution.",
        ),
        (
            ("image", 0, 0, 0),
            "layer = image is not accepted: a layer of this network, conv1 to fc in order of execution.",
        ),
        (("conv1", 16, 0, 0), "channel = 16 is not accepted: 0 to 15 in conv1."),
        (("conv1", 0, -1, 0), "row = -1 is not accepted: 0 to 27 in conv1."),
        (("conv1", 0, 0, 28.5), "column = 28.5 is not accepted: 0 to 27 in conv1."),
        (("fc", 0, 1, 0), "row = 1 is not accepted: 0 in fc."),
    ],
)
def test_a_unit_that_is_none_is_named(given_: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        explain(shipped(), noise(), *given_)
    assert str(error.value) == sentence


def test_what_else_is_not_accepted() -> None:
    with pytest.raises(ConfigError, match="images = 2×1×28×28 is not accepted: one image"):
        explain(shipped(), torch.zeros(2, 1, 28, 28), "fc", 0)
    with pytest.raises(ConfigError, match="images = 1×3×28×28 is not accepted: one image, 1×1×H×W"):
        explain(shipped(), torch.zeros(1, 3, 28, 28), "fc", 0)
    with pytest.raises(ConfigError, match="network = in training mode is not accepted"):
        explain(build(small()), torch.zeros(1, 3, 64, 64), "fc", 0)

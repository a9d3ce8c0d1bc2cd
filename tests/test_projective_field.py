"""What a unit reads and what it can reach, place by place: against autograd, and each against the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explorer.analysis.projective_field import map_size, projective, receptive
from explorer.analysis.trace import trace
from resnet import ResNetConfig, build

NARROW: dict[str, Any] = {"layers": (1, 2), "planes": (4, 8), "num_classes": 3, "in_channels": 1, "activation": "silu"}
CONFIGS = [
    ResNetConfig(**{**NARROW, **more})
    for more in (
        {"block": "basic", "shortcut": "A", "stem": "3x3", "stem_pool": "none"},
        {"block": "basic", "shortcut": "D", "antialias": "blur"},
        {"order": "pre", "shortcut": "D", "antialias": "avg"},
        {"attention": "se", "zero_pool": True},
        {"attention": "eca", "stem": "deep", "stem_pool": "conv"},
        {"norm": "group", "norm_groups": 2, "stem": "3x3", "stem_pool": "none", "block": "basic"},
        {"layers": (1, 1, 1, 2), "planes": (4, 4, 4, 4), "output_stride": 8, "shortcut": "D"},
    )
]


def gradients(config: ResNetConfig, size: tuple[int, int], unit: tuple[str, int, int]) -> dict[str, np.ndarray]:
    """Where the gradient of a unit, all its channels together, is not zero in each output and the image.

    The non-linearity is smooth and the weights are random, so that none is zero by chance; of a maximum only one place would
    have any, so an average stands for it.
    """
    network = build(config).double().eval()
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.MaxPool2d):
            network.set_submodule(name, nn.AvgPool2d(module.kernel_size, module.stride, module.padding))
    kept: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        if not isinstance(module, nn.Identity) and not list(module.children()):
            module.register_forward_hook(lambda _, __, output, name=name: kept.update({name: output}))
    image = torch.randn(1, 1, *size, dtype=torch.float64, requires_grad=True)
    network(image)
    output = kept[unit[0]]
    value = output[0, :, unit[1], unit[2]].sum() if output.ndim == 4 else output.sum()
    found = torch.autograd.grad(value, [image, *kept.values()], allow_unused=True)
    places: dict[str, np.ndarray] = {}
    for name, gradient in zip(["image", *kept], found, strict=True):
        if gradient is not None:
            seen = gradient[0].abs().reshape(-1, *gradient.shape[2:]) if gradient.ndim == 4 else gradient.abs()
            places[name] = (seen.sum(0).numpy() != 0) if gradient.ndim == 4 else np.array([[bool(seen.sum() != 0)]])
    return places


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.to_text())
def test_places_that_a_unit_reads_are_those_with_a_gradient(config: ResNetConfig) -> None:
    """In every layer before it, and in the image, whose sides differ and are odd."""
    torch.manual_seed(0)
    size = (45, 38)
    traced = trace(config, size)
    chance = np.random.default_rng(1)
    for layer in [traced.layers[-1], *chance.choice(np.array(traced.layers, object), 4)]:
        row, column = (int(chance.integers(side)) for side in map_size(layer.out_shape))
        expected = gradients(config, size, (layer.name, row, column))
        found = receptive(traced, layer.name, row, column)
        assert found.keys() == expected.keys()
        for name, mask in found.items():
            np.testing.assert_array_equal(mask, expected[name], err_msg=f"{name} read by {layer.name} {row}-{column}")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.to_text())
def test_a_place_reaches_those_that_read_it(config: ResNetConfig) -> None:
    traced = trace(config, (33, 40))
    chance = np.random.default_rng(2)
    for source in ("image", "conv1" if config.stem != "deep" else "conv1.0", traced.layers[-8].name):
        shape = traced.image_shape if source == "image" else traced.by_name[source].out_shape
        row, column = (int(chance.integers(side)) for side in map_size(shape))
        found = projective(traced, source, row, column)
        for layer in chance.choice(np.array(traced.layers, object), 6):
            size = map_size(layer.out_shape)
            mask = found.get(layer.name, np.zeros(size, bool))
            for _ in range(4):
                there = tuple(int(chance.integers(side)) for side in size)
                read = receptive(traced, layer.name, *there).get(source)
                assert mask[there] == (read is not None and read[row, column]), (source, layer.name, there)


def test_a_pixel_that_a_stride_skips_reaches_nothing() -> None:
    """A 1×1 convolution with stride 2 reads every second place alone: option B without its branch would lose the others."""
    traced = trace(ResNetConfig(block="basic", layers=(1, 1), planes=(4, 8), stem="3x3", stem_pool="none"), 8)
    assert "layer2.0.downsample.0" not in projective(traced, "layer1.0.act", 1, 1)
    assert projective(traced, "layer1.0.act", 2, 2)["layer2.0.downsample.0"].sum() == 1

"""Weights and where they come from: shipped files, torchvision, chance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from helpers import FAMILY
from resnet import ResNet, ResNetConfig, build, preset
from resnet.weights import available, load, randomly, torchvision_weights

TINY = ResNetConfig(
    layers=(1,), planes=(4,), block="basic", stem="3x3", stem_pool="none", in_channels=1, num_classes=10
)

pytestmark = pytest.mark.usefixtures("one_thread")


# -- torchvision ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILY)
def test_torchvision_weights(name: str) -> None:
    found = torchvision_weights(preset(name))
    entries = list(torchvision.models.get_model_weights(name))
    assert {weights.key for weights in found} == {entry.name for entry in entries}
    assert [weights.key for weights in found] == sorted((entry.name for entry in entries), reverse=True)
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)().state_dict()
        ours = ResNet(preset(name)).state_dict()
    assert [(key, tensor.shape, tensor.dtype) for key, tensor in ours.items()] == [
        (key, tensor.shape, tensor.dtype) for key, tensor in theirs.items()
    ]
    for weights in found:
        entry = next(entry for entry in entries if entry.name == weights.key)
        transforms, preprocessing = entry.transforms(), weights.data.preprocessing
        assert [preprocessing.resize] == transforms.resize_size
        assert [preprocessing.crop] == transforms.crop_size
        assert list(preprocessing.mean) == transforms.mean
        assert list(preprocessing.std) == transforms.std
        assert not preprocessing.fit
        assert not preprocessing.bright_on_dark
        assert list(weights.data.categories) == entry.meta["categories"]
        assert len(weights.data.categories) == weights.config.num_classes == 1000
        assert weights.url == entry.url
        assert f"{100 * (weights.accuracy or 0):.3f}" == f"{entry.meta['_metrics']['ImageNet-1K']['acc@1']:.3f}"
        each = (
            2 if name.startswith("wide") and weights.key.endswith("V1") else 4
        )  # some are published in half precision
        assert weights.bytes == pytest.approx(each * entry.meta["num_params"], rel=0.02)


@pytest.mark.parametrize(
    "changes",
    [
        {"output_stride": 8},
        {"zero_init_residual": True},
        {"drop_path": 0.2},
        {"output_stride": 16, "zero_init_residual": True, "drop_path": 0.5},
    ],
)
def test_what_leaves_weights_alone_keeps_them(changes: dict[str, Any]) -> None:
    config, _ = preset("resnet50").with_(**changes)
    found = torchvision_weights(config)
    assert [weights.key for weights in found] == ["IMAGENET1K_V2", "IMAGENET1K_V1"]
    assert {weights.config for weights in found} == {config}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("resnet50", {"in_channels": 1}),
        ("resnet50", {"num_classes": 10}),
        ("resnet50", {"stride_in": "1x1"}),
        ("resnet50", {"activation": "silu"}),
        ("resnet50", {"norm": "group"}),
        ("resnet50", {"order": "pre"}),
        ("resnet18", {"shortcut": "none"}),
        ("resnet18", {"antialias": "blur"}),
        ("resnet20", {}),
        ("resnet26", {}),
    ],
)
def test_other_networks_have_none(name: str, changes: dict[str, Any]) -> None:
    assert torchvision_weights(preset(name).with_(**changes)[0]) == ()


# -- random --------------------------------------------------------------------------------


DEEP = ResNetConfig(
    layers=(100, 100, 100), planes=(4, 8, 16), block="basic", shortcut="A", stem="3x3", stem_pool="none", num_classes=10
)


@pytest.mark.parametrize(
    "config",
    [preset("resnet152"), DEEP, replace(DEEP, shortcut="none"), replace(DEEP, order="pre"), preset("resnet20_fashion")],
    ids=["resnet152", "deep", "deep plain", "deep pre", "grey"],
)
def test_random_networks_are_finite_however_deep(config: ResNetConfig) -> None:
    network = randomly(config)
    image = torch.randn(1, config.in_channels, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        scores = network(image)
    assert not network.training
    assert scores.isfinite().all()
    assert scores.std() > 1e-6
    assert {norm.momentum for norm in network.modules() if isinstance(norm, nn.BatchNorm2d)} == {0.1}


def test_calibration_is_what_keeps_them_finite() -> None:
    noise = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        assert not build(DEEP).eval()(noise).isfinite().all()
    network, deviations = randomly(DEEP), []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda _, __, output: deviations.append(output.std().item()))
    with torch.inference_mode():
        network(noise)
    assert len(deviations) == 601
    assert min(deviations) > 0.5
    assert max(deviations) < 2


def test_a_seed_gives_its_network_and_leaves_chance_alone() -> None:
    config = replace(TINY, drop_path=0.5)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = randomly(config).state_dict()
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(6)
    second, other = randomly(config).state_dict(), randomly(config, seed=1).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


@pytest.mark.parametrize(("channels", "size"), [(1, (28, 28)), (3, (224, 160)), (5, (64, 96))])
def test_random_weights_take_any_input(channels: int, size: tuple[int, int]) -> None:
    weights = available(replace(TINY, in_channels=channels), size)[-1]
    preprocessing = weights.data.preprocessing
    assert preprocessing.size == size
    assert preprocessing.resize == min(size)
    assert len(preprocessing.mean) == len(preprocessing.std) == channels
    assert len(weights.data.categories) == 10
    assert (weights.key, weights.url, weights.accuracy) == ("random", "", None)
    with torch.inference_mode():
        assert load(weights)(torch.randn(1, channels, *size)).shape == (1, 10)

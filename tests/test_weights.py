"""Weights and where they come from: shipped files, torchvision, chance."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import floor
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from timm.data import resolve_data_config
from torch import nn

from helpers import FAMILY
from resnet import PRESETS, ResNet, ResNetConfig, build, open_checkpoint, preset
from resnet.checkpoint import fitted, network
from resnet.datasets import ImageNet, Preprocessing
from resnet.published import tags
from resnet.weights import available, load, named, published, randomly, timm_weights, torchvision_weights

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


# -- timm ----------------------------------------------------------------------------------


def test_timm_says_the_same_of_every_tag() -> None:
    known = {tag for name in PRESETS if timm.is_model(name) for tag in timm.list_pretrained(f"{name}.*")}
    assert {tag.name for tag in tags()} == known
    assert len(known) == len(tags()) == 150
    for tag in tags():
        theirs = timm.get_pretrained_cfg(tag.name)
        assert theirs
        assert theirs.hf_hub_id == tag.hub
        assert (tag.mean, tag.std, tag.interpolation, tag.classes) == (
            theirs.mean,
            theirs.std,
            theirs.interpolation,
            theirs.num_classes,
        )
        assert (tag.licence, tag.paper) == (theirs.license or "", theirs.paper_ids or "")
        assert (3, tag.size, tag.size) == theirs.input_size
        assert tag.crop == theirs.crop_pct
        evaluated = resolve_data_config(pretrained_cfg=theirs.to_dict(), use_test_size=True)
        assert evaluated["input_size"] == (3, tag.test_size, tag.test_size)
        assert (evaluated["crop_pct"], evaluated["crop_mode"]) == (tag.test_crop, "center")
        (weights,) = [weights for weights in timm_weights(tag.config) if weights.key == tag.name]
        assert weights.data.preprocessing.resize == floor(tag.test_size / evaluated["crop_pct"])
        assert weights.data.preprocessing.size == (tag.test_size, tag.test_size)
        assert len(weights.data.categories) == weights.config.num_classes == (tag.classes or 1000)
        assert (weights.data.categories == ImageNet()) == (tag.classes == 1000)
        assert weights.headless == (tag.classes == 0)


def test_what_a_tag_was_trained_on() -> None:
    seen = {weights.key: (weights.data.name, weights.data.pretraining) for weights in published()}
    assert seen["resnet50.a1_in1k"] == ("ImageNet-1k", "")
    assert seen["resnetaa50d.sw_in12k"] == ("ImageNet-12k", "")
    assert seen["seresnextaa201d_32x8d.sw_in12k_ft_in1k_384"] == ("ImageNet-1k", "ImageNet-12k")
    assert seen["resnet18.fb_swsl_ig1b_ft_in1k"] == ("ImageNet-1k", "Instagram (IG-1B)")
    assert seen["resnet50.fb_ssl_yfcc100m_ft_in1k"] == ("ImageNet-1k", "YFCC100M")
    assert seen["resnet50.bamboo"] == ("Bamboo", "")
    assert all((weights.accuracy is None) == (weights.data.name != "ImageNet-1k") for weights in published())
    assert all(not weights.top5 or weights.top5 > (weights.accuracy or 1) > 0.6 for weights in published())


def test_bytes_of_every_tag() -> None:
    @cache
    def tensors(config: ResNetConfig, headless: bool) -> int:
        state = build(config, "meta").state_dict()
        return sum(tensor.nbytes for name, tensor in state.items() if not (headless and name.startswith("fc.")))

    for weights in published():
        if weights.hub:
            assert weights.bytes == tensors(weights.config, weights.headless)


EACH_FAMILY = [
    "resnet18.a1_in1k",
    "resnet50.bamboo",
    "resnext50_32x4d.fb_swsl_ig1b_ft_in1k",
    "wide_resnet50_2.racm_in1k",
    "resnet10t.c3_in1k",
    "resnet14t.c3_in1k",
    "resnet18d.ra4_e3600_r224_in1k",
    "resnet26t.ra2_in1k",
    "resnet50c.gluon_in1k",
    "resnet50s.gluon_in1k",
    "resnet50_gn.a1h_in1k",
    "resnext50d_32x4d.bt_in1k",
    "ecaresnet26t.ra2_in1k",
    "ecaresnetlight.miil_in1k",
    "seresnet50.a1_in1k",
    "seresnext26d_32x4d.bt_in1k",
    "resnetblur50.bt_in1k",
    "resnetaa50.a1h_in1k",
    "resnetaa50d.sw_in12k",
    "seresnextaa101d_32x8d.sw_in12k_ft_in1k_288",
    "resnetrs50.tf_in1k",
    "resnetv2_18.ra4_e3600_r224_in1k",
    "resnetv2_50.a1h_in1k",
]


@pytest.mark.parametrize("name", EACH_FAMILY)
def test_a_tags_network_is_timms(name: str) -> None:
    """Their tensors, read as the hub's file is, put out the same."""
    torch.manual_seed(0)
    theirs, weights = timm.create_model(name).eval(), named(name, ResNetConfig())
    assert weights is not None
    with torch.no_grad():
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                state = module.state_dict()
                for tensor in (state["weight"], state["running_var"]):
                    tensor.uniform_(0.5, 1.5)
                for tensor in (state["bias"], state["running_mean"]):
                    tensor.normal_(0, 0.1)
    opened = open_checkpoint(safetensors.torch.save(theirs.state_dict()), f"{name}.safetensors")
    ours = network(weights.config, fitted(opened, weights.config))
    assert opened.headless == weights.headless
    assert sum(tensor.nbytes for tensor in theirs.state_dict().values()) == weights.bytes
    if weights.headless:
        ours.fc = nn.Identity()  # type: ignore[assignment]
    image = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        expected, found = theirs(image), ours(image)
    assert expected.std() > 0
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


# -- by name -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["resnet50.a1_in1k", "timm/resnet50.a1_in1k", "https://huggingface.co/timm/ResNet50.a1_in1k "]
)
def test_a_tag_names_weights_and_their_network(key: str) -> None:
    """As timm evaluates them: 288 pixels of which nothing is cut off, bicubic."""
    weights = named(key, preset("resnet18"))
    assert weights is not None
    assert (weights.key, weights.hub) == ("resnet50.a1_in1k", "timm/resnet50.a1_in1k")
    assert weights.config == preset("resnet50")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert weights.data.preprocessing == Preprocessing(288, 288, mean, std, interpolation="bicubic")
    assert (weights.data.licence, weights.data.source) == ("apache-2.0", "https://arxiv.org/abs/2110.00476")
    assert (weights.accuracy, weights.top5) == pytest.approx((0.8124, 0.95112))
    assert f"{weights.bytes / 2**20:.0f}" == "98"


def test_a_tag_keeps_a_configuration_that_it_fits() -> None:
    dilated = preset("resnet50").with_(output_stride=8)[0]
    weights = named("resnet50.a1_in1k", dilated)
    assert weights is not None
    assert weights.config == dilated
    assert {each.config for each in published(dilated)} == {dilated}


def test_torchvisions_names_belong_to_a_configuration() -> None:
    assert named("IMAGENET1K_V2", preset("resnet50")) == torchvision_weights(preset("resnet50"))[0]
    assert named("IMAGENET1K_V2", preset("resnet26")) is None
    assert [named(key, preset("resnet50")) for key in ("", "timm/", "random", "resnet50", "resnet50.a9_in1k")] == [
        None
    ] * 5


def test_what_is_available() -> None:
    """By names that each mean one thing, the most accurate first, and without anything built again."""
    found = available(preset("resnet50"), (224, 224))
    keys, accuracies = [weights.key for weights in found], [weights.accuracy or 0 for weights in found]
    assert keys[0] == "resnet50.a1_in1k"
    assert keys[-2:] == ["resnet50.bamboo", "random"]
    assert {"IMAGENET1K_V1", "IMAGENET1K_V2"} < set(keys)
    assert len(set(keys)) == len(keys)
    assert accuracies == sorted(accuracies, reverse=True)
    again = available(preset("resnet50"), (224, 224))
    assert all(one is other for one, other in zip(found[:-1], again[:-1], strict=True))
    assert len(published()) == 150 + sum(len(torchvision_weights(preset(name))) for name in FAMILY)


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

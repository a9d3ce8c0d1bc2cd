"""The networks are those of torchvision, timm and the paper: same names, same sizes, same outputs."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import timm
import torch
import torchinfo
import torchvision
from torch import Tensor, nn

from helpers import FAMILY, TABLE_6, TIMM, every_choice
from resnet import PRESETS, ResNet, ResNetConfig, build, preset
from resnet.blocks import Add, Block, DropPath, EfficientChannelAttention, SqueezeExcitation
from resnet.sizes import check_image_size


def shapes(network: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, tensor.shape) for name, tensor in network.state_dict().items()]


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@torch.no_grad()
def fill(network: nn.Module) -> nn.Module:
    """Random weights and running statistics that keep activations of any depth in range."""
    torch.manual_seed(0)
    for name, tensor in network.state_dict().items():
        if tensor.ndim > 1:
            tensor.normal_(std=tensor[0].numel() ** -0.5)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.dtype.is_floating_point:
            tensor.normal_(1.0 if name.endswith("weight") else 0.0, 0.1)
        else:
            tensor.zero_()
    return network.eval()


@torch.no_grad()
def assert_same_outputs(theirs: nn.Module, ours: nn.Module, size: tuple[int, int] = (64, 64)) -> None:
    image = torch.randn(1, 3, *size)
    expected = theirs.eval()(image)
    assert expected.isfinite().all()
    assert expected.std() > 1e-3
    torch.testing.assert_close(ours.eval()(image), expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


# -- torchvision --------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILY)
def test_torchvision_names_and_shapes(name: str) -> None:
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)()
    assert shapes(build(preset(name), "meta")) == shapes(theirs)


def torchvision_network(name: str, **given: Any) -> nn.Module:
    with torch.device("meta"):
        network = getattr(torchvision.models, name)(**given)
    return fill(network.to_empty(device="cpu"))


@pytest.mark.parametrize("name", [name for name in FAMILY if name not in ("resnext101_64x4d", "wide_resnet101_2")])
def test_torchvision_outputs(name: str) -> None:
    theirs, ours = torchvision_network(name), ResNet(preset(name))
    ours.load_state_dict(theirs.state_dict())
    assert_same_outputs(theirs, ours)


@pytest.mark.parametrize(("output_stride", "dilated"), [(16, [False, False, True]), (8, [False, True, True])])
@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d"])
def test_torchvision_dilated_outputs(name: str, output_stride: int, dilated: list[bool]) -> None:
    theirs = torchvision_network(name, replace_stride_with_dilation=dilated)
    config, _ = preset(name).with_(output_stride=output_stride)
    ours = ResNet(config)
    ours.load_state_dict(theirs.state_dict())
    assert_same_outputs(theirs, ours)


# -- timm ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "resnet10t",
        "resnet14t",
        "resnet18d",
        "resnet26d",
        "resnet50c",
        "resnet50s",
        "resnet50t",
        "seresnet18",
        "seresnet50",
        "seresnext26d_32x4d",
        "seresnext26t_32x4d",
        "ecaresnet26t",
        "ecaresnet50d",
        "ecaresnetlight",
        "ecaresnext26t_32x4d",
        "resnetblur18",
        "resnetblur50d",
        "resnetaa34d",
        "resnetaa50",
        "seresnetaa50d",
        "resnet50_gn",
        "resnext50d_32x4d",
        "resnetrs50",
    ],
)
def test_timm_outputs(name: str) -> None:
    theirs, ours = fill(timm.create_model(name)), ResNet(preset(name))
    assert shapes(ours) == shapes(theirs)
    ours.load_state_dict(theirs.state_dict())
    assert_same_outputs(theirs, ours)


@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize(
    ("name", "size"),
    [
        *(
            (name, (75, 90))
            for name in (
                "resnet18",
                "seresnet18",
                "resnet50c",
                "resnet18d",
                "resnet26d",
                "resnet14t",
                "seresnext26d_32x4d",
                "ecaresnet26t",
                "resnetblur18",
                "resnetblur50",
                "resnetblur50d",
            )
        ),
        *(
            (name, (64, 96)) for name in ("resnetaa34d", "resnetaa50", "seresnetaa50d")
        ),  # timm's average takes no odd map
    ],
)
def test_timm_dilated_outputs(name: str, size: tuple[int, int], output_stride: int) -> None:
    theirs = fill(timm.create_model(name, output_stride=output_stride))
    config, _ = preset(name).with_(output_stride=output_stride)
    ours = ResNet(config)
    ours.load_state_dict(theirs.state_dict())
    assert_same_outputs(theirs, ours, size)


@pytest.mark.parametrize("channels", [8, 16, 24, 64, 96, 100, 128, 256, 512, 1000, 1024, 2048])
def test_attention_is_that_of_timm(channels: int) -> None:
    for theirs, ours in (
        (timm.layers.SEModule(channels), SqueezeExcitation(channels, 16)),
        (timm.layers.SEModule(channels, rd_ratio=0.25), SqueezeExcitation(channels, 4)),
        (timm.layers.EcaModule(channels), EfficientChannelAttention(channels)),
    ):
        fill(theirs)
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(2, channels, 3, 3)
        torch.testing.assert_close(ours(x), theirs(x))


def renamed(name: str, shortcut: str) -> str:
    """The name that torchvision's scheme gives a tensor of timm's pre-activation networks."""
    name = re.sub(r"^stem\.(conv|norm)(\d)", lambda m: f"conv1.{int(m[2]) * 3 - (3 if m[1] == 'conv' else 2)}", name)
    name = re.sub(r"^stages\.(\d)\.blocks", lambda m: f"layer{int(m[1]) + 1}", name)
    name = re.sub(r"(layer.*)norm(\d)", r"\1bn\2", name)
    name = name.replace("stem.conv", "conv1").replace("head.fc", "fc")
    return name.replace("downsample.conv", f"downsample.{'1' if shortcut == 'D' else '0'}")


@pytest.mark.parametrize("output_stride", [32, 16, 8])
@pytest.mark.parametrize("name", ["resnetv2_18", "resnetv2_50", "resnetv2_50d", "resnetv2_50t"])
def test_timm_preactivation_outputs(name: str, output_stride: int) -> None:
    config, _ = preset(name).with_(output_stride=output_stride)
    theirs, ours = fill(timm.create_model(name, output_stride=output_stride)), ResNet(config)
    state = {renamed(key, config.shortcut): tensor for key, tensor in theirs.state_dict().items()}
    ours.load_state_dict(state | {"fc.weight": state["fc.weight"].flatten(1)})
    assert_same_outputs(theirs, ours)


def test_all_reference_networks_are_presets() -> None:
    assert set(TIMM) - set(PRESETS) == {"ecaresnet50d_pruned", "ecaresnet101d_pruned", "test_resnet"}


@pytest.mark.parametrize("name", [name for name in TIMM if name in PRESETS])
def test_timm_parameter_counts(name: str) -> None:
    assert parameters(build(preset(name), "meta")) == TIMM[name]["params_exact"]


@pytest.mark.parametrize("name", [name for name in PRESETS if timm.is_model(name) and name not in {*TIMM, *FAMILY}])
def test_timm_names_and_shapes(name: str) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(name)
    ours = shapes(build(preset(name), "meta"))
    if preset(name).order == "pre":
        assert sorted(shape.numel() for _, shape in ours) == sorted(shape.numel() for _, shape in shapes(theirs))
    else:
        assert ours == shapes(theirs)


# -- the paper ----------------------------------------------------------------------------


@pytest.mark.parametrize("depth", TABLE_6)
@pytest.mark.parametrize("option", ["A", "B"])
def test_table_6_parameter_counts(depth: str, option: str) -> None:
    config, _ = preset(f"resnet{depth}").with_(shortcut=option)
    assert parameters(build(config, "meta")) == TABLE_6[depth][f"option_{option}"]["params"]


@pytest.mark.parametrize(("option", "projections"), [("none", 0), ("A", 0), ("B", 3), ("C", 16), ("D", 3)])
def test_options_of_the_shortcut(option: str, projections: int) -> None:
    network = build(preset("resnet34").with_(shortcut=option)[0], "meta")
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    made = [block for block in blocks if parameters(getattr(block, "downsample", nn.Identity()))]
    adds = [module for module in network.modules() if isinstance(module, Add)]
    assert len(blocks) == 16
    assert len(made) == projections
    assert len(adds) == (0 if option == "none" else 16)


@pytest.mark.parametrize(("name", "plain"), [("resnet18", "plain18"), ("resnet34", "plain34"), ("resnet20", "plain20")])
def test_option_a_adds_no_parameters(name: str, plain: str) -> None:
    config, _ = preset(name).with_(shortcut="A")
    assert parameters(build(config, "meta")) == parameters(build(preset(plain), "meta"))


def test_option_a_pads_with_zeros() -> None:
    network = build(preset("resnet20"))
    x = torch.randn(1, 16, 8, 8)
    y = network.get_submodule("layer2.0.downsample")(x)
    assert torch.equal(y[:, :16], x[:, :, ::2, ::2])
    assert y.shape == (1, 32, 4, 4)
    assert not y[:, 16:].any()


@pytest.mark.parametrize(("name", "strides"), [("resnet50_v1", (2, 1)), ("resnet50", (1, 2))])
def test_which_convolution_subsamples(name: str, strides: tuple[int, int]) -> None:
    network = build(preset(name), "meta")
    for stage in network.stages[1:]:
        convolutions = (stage[0].get_submodule("conv1"), stage[0].get_submodule("conv2"))
        assert tuple(convolution.stride[0] for convolution in convolutions) == strides  # type: ignore[index]


# -- dilation -----------------------------------------------------------------------------


def last_maps(config: ResNetConfig, size: tuple[int, int], output_stride: int) -> tuple[Tensor, Tensor]:
    """What the last stage puts out with strides, and with dilation instead at the places of the former."""
    strided, dilated = ResNet(config), ResNet(config.with_(output_stride=output_stride)[0])
    dilated.load_state_dict(fill(strided).state_dict())
    maps: list[Tensor] = []
    for network in (strided, dilated):
        network.eval().stages[-1].register_forward_hook(lambda module, args, output: maps.append(output))
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        strided(image)
        dilated(image)
    step = config.total_stride // output_stride
    assert maps[0].std() > 1e-3
    return maps[0], maps[1][:, :, ::step, ::step]


WIDENING: dict[str, Any] = {"layers": (1, 2, 2, 2), "planes": (8, 16, 24, 32), "num_classes": 5}


@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize("shortcut", ["none", "A", "B", "C"])
@pytest.mark.parametrize("order", ["post", "pre"])
@pytest.mark.parametrize("kind", [{"block": "basic"}, {"stride_in": "1x1"}, {"stride_in": "3x3"}], ids=str)
@pytest.mark.parametrize("size", [(128, 192), (135, 161)], ids=str)
def test_a_dilated_network_has_the_strided_ones_values_at_every_second_place(
    size: tuple[int, int], kind: dict[str, Any], order: str, shortcut: str, output_stride: int
) -> None:
    config = ResNetConfig(**WIDENING, **kind, order=order, shortcut=shortcut)
    strided, dilated = last_maps(config, size, output_stride)
    torch.testing.assert_close(dilated, strided, rtol=1e-4, atol=1e-4 * strided.abs().max().item())


@pytest.mark.parametrize(
    "kind",
    [
        {"attention": "se"},
        {"attention": "eca"},
        {"norm": "group"},
        {"antialias": "avg"},
        {"antialias": "blur"},
        {"shortcut": "D"},
    ],
    ids=str,
)
def test_kinds_of_network_whose_values_change_when_dilated(kind: dict[str, Any]) -> None:
    strided, dilated = last_maps(ResNetConfig(**WIDENING, **kind), (128, 192), 8)
    assert (strided - dilated).norm() > 0.001 * strided.norm()


# -- building -----------------------------------------------------------------------------


@pytest.mark.parametrize("config", [ResNetConfig(), ResNetConfig(layers=(1, 1), norm="none", attention="se")])
def test_initialisation_is_kaiming_over_fan_out(config: ResNetConfig) -> None:
    torch.manual_seed(0)
    network = build(config)
    assert network.training
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight.detach()
            fan_out = weight.shape[0] * weight[0, 0].numel()
            sampling = 6 / math.sqrt(weight.numel())
            assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=sampling), name
            assert abs(weight.mean().item()) < sampling * math.sqrt(2 / fan_out), name
            assert module.bias is None or not module.bias.any(), name
        if isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight)), name
            assert not module.bias.any(), name


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("order", ["post", "pre"])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("shortcut", ["A", "C"])
@pytest.mark.parametrize("zero", [True, False])
def test_zero_initialised_blocks_are_their_shortcuts(
    block: str, order: str, norm: str, shortcut: str, zero: bool
) -> None:
    given: dict[str, Any] = {
        "block": block,
        "order": order,
        "norm": norm,
        "shortcut": shortcut,
        "zero_init_residual": zero,
    }
    network = build(ResNetConfig(layers=(2, 2), planes=(8, 16), stem="3x3", stem_width=8, attention="se", **given))
    branches: list[Tensor] = []
    for module in network.modules():
        if isinstance(module, Add):
            module.register_forward_hook(lambda module, inputs, output: branches.append(inputs[0]))
    network(torch.randn(2, 3, 32, 32))
    assert len(branches) == 4
    assert all(branch.any() != zero for branch in branches)


def test_meta_reserves_nothing() -> None:
    for name in ("resnetrs50", "resnetblur18", "resnet50_gn", "ecaresnet26t"):
        network = build(preset(name), "meta")
        assert all(tensor.is_meta for tensor in (*network.parameters(), *network.buffers()))
    assert not torch.empty(1).is_meta


@pytest.mark.parametrize("config", every_choice(), ids=lambda config: repr(config)[:60])
def test_initialising_fills_everything_from_one_generator(config: ResNetConfig) -> None:
    before = torch.get_rng_state()
    states = []
    for seed in (7, 7, 8):
        network = ResNet(config)
        for parameter in network.parameters():
            nn.init.constant_(parameter, torch.nan)
        network.initialise(torch.Generator().manual_seed(seed))
        states.append(network.state_dict())
    first, second, other = states
    assert torch.equal(torch.get_rng_state(), before)
    assert all(tensor.isfinite().all() for tensor in first.values())
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


@pytest.mark.parametrize("config", every_choice(), ids=lambda config: repr(config)[:60])
def test_building_is_repeatable(config: ResNetConfig) -> None:
    torch.manual_seed(7)
    first = build(config).state_dict()
    torch.manual_seed(7)
    second = build(config).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_is_no_2d_convolution_starts_as_torch_starts_it() -> None:
    network = build(ResNetConfig(layers=(2, 100), planes=(8, 8), attention="eca", norm="group"))
    kernels = torch.cat([module.weight.flatten() for module in network.modules() if isinstance(module, nn.Conv1d)])
    torch.manual_seed(0)
    theirs = torch.cat([nn.Conv1d(1, 1, 3, bias=False).weight.flatten() for _ in range(102)])
    assert len(kernels) == len(theirs) == 306
    for ours, torchs in (
        (kernels, theirs),
        (network.fc.weight, nn.Linear(32, 1000).weight),
        (network.fc.bias, nn.Linear(32, 1000).bias),
    ):
        assert ours.abs().max().item() == pytest.approx(torchs.abs().max().item(), rel=0.02)
        assert ours.std().item() == pytest.approx(torchs.std().item(), rel=0.1)
        assert abs(ours.mean().item()) < 0.1 * torchs.abs().max().item()
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert not module.bias.any()


# -- stochastic depth ---------------------------------------------------------------------


def test_drop_path_drops_whole_samples_and_keeps_the_expectation() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.3)
    x = torch.full((10_000, 2, 2, 2), 3.0)
    y = drop(x)
    assert torch.equal(y, y[:, :1, :1, :1].expand_as(y))
    kept = y[:, 0, 0, 0] != 0
    torch.testing.assert_close(y[kept], x[kept] / 0.7)
    assert kept.float().mean().item() == pytest.approx(0.7, abs=0.02)
    assert y.mean().item() == pytest.approx(3.0, rel=0.03)
    assert torch.equal(drop.eval()(x), x)


def test_drop_path_grows_with_depth() -> None:
    network = build(ResNetConfig(layers=(2, 3), drop_path=0.4), "meta")
    rates = [getattr(block.drop_path, "rate", 0.0) for block in network.modules() if isinstance(block, Block)]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_drop_path_changes_training_only() -> None:
    config = preset("resnet20")
    dropping, steady = build(config.with_(drop_path=0.9)[0]), build(config)
    dropping.load_state_dict(steady.state_dict())
    image = torch.randn(4, 3, 32, 32)
    torch.manual_seed(0)
    assert not torch.allclose(dropping(image), steady(image))
    steady.load_state_dict(dropping.state_dict())
    assert torch.equal(dropping.eval()(image), steady.eval()(image))


# -- any network runs ---------------------------------------------------------------------

DIVERSE: list[dict[str, Any]] = [
    {"layers": (2,), "block": "basic"},
    {"layers": (1,) * 6, "planes": (8,) * 6, "drop_path": 0.2},
    {"layers": (1,) * 5, "planes": (8, 16, 24, 32, 40), "block": "basic", "shortcut": "A", "stem": "tiered"},
    {"layers": (1, 2), "planes": (32, 16), "shortcut": "C", "in_channels": 1, "stem": "3x3", "stem_pool": "none"},
    {"layers": (2, 2), "planes": (12, 20), "norm": "group", "in_channels": 4, "stem_pool": "conv"},
    {"layers": (2, 1, 1), "planes": (8, 16, 32), "norm": "none", "activation": "gelu", "shortcut": "D"},
    {"layers": (1, 1, 1), "planes": (8, 16, 32), "order": "pre", "shortcut": "A", "antialias": "blur"},
    {"layers": (1, 1, 1), "planes": (8, 16, 32), "order": "pre", "shortcut": "none", "block": "basic"},
    {"layers": (1, 1), "planes": (16, 32), "order": "pre", "norm": "group", "attention": "eca", "antialias": "avg"},
    {"layers": (1, 1), "planes": (16, 32), "groups": 8, "base_width": 16, "attention": "se", "activation": "silu"},
    {"layers": (1, 1, 1), "planes": (8, 8, 8), "stride_in": "1x1", "antialias": "blur", "activation": "elu"},
    {
        "layers": (1, 1, 1),
        "planes": (8, 8, 8),
        "output_stride": 8,
        "shortcut": "D",
        "stem": "deep",
        "stem_pool": "conv",
    },
    {"layers": (2, 2), "planes": (8, 16), "shortcut": "none", "norm": "none", "activation": "leaky_relu"},
    {
        "layers": (1, 1, 1),
        "planes": (4, 6, 9),
        "block": "basic",
        "attention": "se",
        "se_reduction": 2,
        "num_classes": 1,
    },
]


@pytest.mark.parametrize("given", DIVERSE, ids=range(len(DIVERSE)))
def test_forward_and_backward(given: dict[str, Any]) -> None:
    config = ResNetConfig(**{"num_classes": 7, **given})
    network = build(config)
    scores = network(torch.randn(3, config.in_channels, 40, 56))
    assert scores.shape == (3, config.num_classes)
    assert scores.isfinite().all()
    scores.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("antialias", ["none", "blur", "avg"])
@pytest.mark.parametrize("shortcut", ["none", "A", "B", "D"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_every_accepted_image_size_runs(antialias: str, shortcut: str, block: str) -> None:
    given: dict[str, Any] = {"antialias": antialias, "shortcut": shortcut, "block": block}
    config = ResNetConfig(layers=(1, 1, 1, 1), planes=(4, 8, 8, 8), num_classes=5, **given)
    network = build(config).eval()
    for size in (config.total_stride, 37, (50, 75), (100, 232)):
        height, width = check_image_size(config, size)
        assert network(torch.randn(1, 3, height, width)).shape == (1, 5)


# -- torchinfo ----------------------------------------------------------------------------


def torchinfo_counts(config: ResNetConfig, side: int) -> tuple[int, int]:
    """Parameters, and multiply-adds of convolutions and classifier, biases not counted."""
    network = build(config, "meta")
    summary = torchinfo.summary(network, (1, config.in_channels, side, side), device="meta", verbose=0)
    counted = [layer for layer in summary.summary_list if layer.class_name in ("Conv2d", "Linear")]
    # Only the classifier and the 1×1 maps of squeeze-and-excitation have biases, each counted once.
    biased = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    biases = sum(module.bias.numel() for module in biased if module.bias is not None)
    return summary.total_params, sum(layer.macs for layer in counted) - biases


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "resnet50d", "seresnet50"]
)
def test_torchinfo_at_224(name: str) -> None:
    expected = TIMM[name]
    assert torchinfo_counts(preset(name), 224) == (expected["params_exact"], expected["macs_exact_at_224"])


@pytest.mark.parametrize("option", ["A", "B"])
def test_torchinfo_at_32(option: str) -> None:
    config, _ = preset("resnet20").with_(shortcut=option)
    expected = TABLE_6["20"][f"option_{option}"]
    assert torchinfo_counts(config, 32) == (expected["params"], expected["macs"])


def test_tiered_stem_of_any_width_is_that_of_timm() -> None:
    with torch.device("meta"):
        theirs = timm.create_model("resnet10t", stem_width=30)
    config, _ = preset("resnet10t").with_(stem_width=30)
    assert shapes(build(config, "meta")) == shapes(theirs)


def test_the_last_block_has_the_whole_rate_even_alone() -> None:
    for layers in ((1,), (2, 3)):
        rates = [
            m.rate for m in build(ResNetConfig(layers=layers, drop_path=0.5), "meta").modules() if hasattr(m, "rate")
        ]
        assert rates[-1] == 0.5

"""The checkpoints that people have: every layout of the zoo, and outputs against the networks that they are of."""

from __future__ import annotations

import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from resnet import (
    ConfigError,
    Opened,
    ResNetConfig,
    WeightsError,
    build,
    confined,
    conversion,
    infer_config,
    open_checkpoint,
    read_state_dict,
    shards,
)
from resnet.checkpoint import fitted, with_option_a
from resnet.layers import LayoutError
from resnet.layouts import MAX_CANDIDATES, trunks
from resnet.tensor_files import MAX_FILE_BYTES
from resnet.weights import bundled_path, read_checkpoint
from zoo import CASES, Case, akamaster, d2, data_of, norm1d, r18, r50, renamed, resnet, saved, under, within


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is read to its end, however busy the machine is."""
    monkeypatch.setattr(confined, "CLOCK_FACTOR", 100)


# -- the zoo ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_file_does_what_its_owner_expects(case: Case) -> None:
    try:
        data = data_of(case)
    except ImportError as error:
        pytest.skip(str(error))
    if case.expect == "refused":
        with pytest.raises(WeightsError) as caught:
            open_checkpoint(data, case.file)
        words = str(caught.value)
        assert words.startswith(case.file)
        assert words.endswith(".")
        assert "\n" not in words
        assert all(word.lower() in words.removeprefix(case.file).lower() for word in case.says), words
        return
    opened = open_checkpoint(data, case.file)
    assert opened.config == ResNetConfig(**case.network)
    build(opened.config, "meta").load_state_dict(dict(opened.state_dict), strict=True, assign=True)
    assert set(case.left_out) <= set(opened.left_out)
    assert opened.headless == (case.expect in ("headless", "backbone"))
    assert (case.expect != "asks") or opened.questions
    for option, value in case.ask.items():
        assert value in opened.questions[option].choices
        answered = open_checkpoint(data, case.file, **{option: value})
        assert answered.config == opened.config.with_(**{option: value})[0]
        assert answered.questions[option].choices[0] == value


def test_names_are_different() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 120


# -- outputs against the original's -------------------------------------------------------


def lively(model: nn.Module, seed: int = 0) -> Any:
    """The network with norms that do something, in eval mode; its attributes are what its code has."""
    draw = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=draw))
        elif tensor.ndim == 1 and tensor.is_floating_point():
            tensor.copy_(name.endswith("weight") + 0.1 * torch.randn(tensor.shape, generator=draw))
        elif tensor.ndim > 1:
            fan = tensor[0].numel()
            tensor.copy_(torch.randn(tensor.shape, generator=draw) * (2 / fan) ** 0.5)
    return model.eval()


def pictures(channels: int = 3, side: int = 64) -> Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(1))


def scores(opened: Opened, images: Tensor) -> Tensor:
    network = build(opened.config)
    network.load_state_dict(dict(opened.state_dict), strict=True)
    with torch.inference_mode():
        return network.eval()(images)


def maps(opened: Opened, images: Tensor) -> Tensor:
    """What the last stage puts out."""
    network, seen = build(opened.config), []
    network.load_state_dict(dict(opened.state_dict), strict=True)
    network.stages[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.inference_mode():
        network.eval()(images)
    return seen[0]


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Within 1e-4 of the largest."""
    assert found.shape == expected.shape
    assert expected.abs().max() > 1e-3
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_hugging_face() -> None:
    transformers = pytest.importorskip("transformers")
    for kind, sizes in (("bottleneck", [64, 128, 256]), ("basic", [16, 32, 64])):
        given = transformers.ResNetConfig(
            embedding_size=16, hidden_sizes=sizes, depths=[2, 2, 1], layer_type=kind, num_labels=7
        )
        model = lively(transformers.ResNetForImageClassification(given))
        opened = open_checkpoint(saved(model.state_dict()), "pytorch_model.bin")
        with torch.inference_mode():
            assert_same(scores(opened, pictures()), model(pictures()).logits)


def test_faster_rcnn() -> None:
    model = lively(
        torchvision.models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
    )
    opened = open_checkpoint(saved({"model": model.state_dict(), "epoch": 3}), "fasterrcnn.pth.tar")
    with torch.inference_mode():
        assert_same(maps(opened, pictures()), model.backbone.body(pictures())["3"])
    assert {"backbone.fpn", "rpn", "roi_heads"} == set(opened.left_out)
    assert opened.headless
    assert not opened.state_dict["fc.weight"].any()


def test_deeplab() -> None:
    model = lively(
        torchvision.models.segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, aux_loss=True)
    )
    opened = open_checkpoint(saved(model.state_dict()), "deeplab.pth", output_stride=8)
    with torch.inference_mode():
        assert_same(maps(opened, pictures()), model.backbone(pictures())["out"])


def test_moco() -> None:
    model = lively(torchvision.models.resnet50(num_classes=128))
    other = lively(torchvision.models.resnet50(num_classes=128), seed=5)
    state = under("module.encoder_q.", model.state_dict()) | under("module.encoder_k.", other.state_dict())
    opened = open_checkpoint(saved({"state_dict": state, "arch": "resnet50"}), "moco.pth.tar")
    with torch.inference_mode():
        assert_same(scores(opened, pictures()), model(pictures()))


def test_detectron2() -> None:
    """Frozen norms, which have no counter."""
    model = lively(torchvision.models.resnet50())
    state = under("backbone.bottom_up.", d2({k: v for k, v in model.state_dict().items() if not k.startswith("fc.")}))
    opened = open_checkpoint(saved({"model": state}), "model_final.pth")
    model.avgpool, model.fc = nn.Identity(), nn.Identity()
    with torch.inference_mode():
        assert_same(maps(opened, pictures()).flatten(1), model(pictures()))


def through(model: nn.Module, stages: int, x: Tensor) -> Tensor:
    """What the stages `layer1`, `layer2`, … put out."""
    for number in range(1, stages + 1):
        x = model.get_submodule(f"layer{number}")(x)
    return x


class Clip(nn.Module):
    """CLIP's trunk, https://github.com/openai/CLIP/blob/main/clip/model.py (`ModifiedResNet`) up to `layer4`."""

    class Bottleneck(nn.Module):
        def __init__(self, inputs: int, planes: int, stride: int):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(inputs, planes, 1, bias=False), nn.BatchNorm2d(planes)
            self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False), nn.BatchNorm2d(planes)
            self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
            self.conv3, self.bn3 = nn.Conv2d(planes, planes * 4, 1, bias=False), nn.BatchNorm2d(planes * 4)
            self.downsample = nn.Sequential()
            if stride > 1 or inputs != planes * 4:
                self.downsample.add_module("-1", nn.AvgPool2d(stride))
                self.downsample.add_module("0", nn.Conv2d(inputs, planes * 4, 1, bias=False))
                self.downsample.add_module("1", nn.BatchNorm2d(planes * 4))

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
            return F.relu(self.bn3(self.conv3(self.avgpool(y))) + self.downsample(x))

    def __init__(self, layers: tuple[int, ...], width: int):
        super().__init__()
        half = width // 2
        self.conv1, self.bn1 = nn.Conv2d(3, half, 3, 2, 1, bias=False), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = nn.Conv2d(half, half, 3, padding=1, bias=False), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = nn.Conv2d(half, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        inputs = width
        for stage, count in enumerate(layers):
            planes, blocks = width * 2**stage, []
            for index in range(count):
                blocks.append(self.Bottleneck(inputs, planes, 2 if stage and not index else 1))
                inputs = planes * 4
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Tensor:
        for number in (1, 2, 3):
            x = F.relu(getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x)))
        return through(self, 4, F.avg_pool2d(x, 2))


def test_clip() -> None:
    model = lively(Clip((2, 1, 1, 1), 16))
    beside = {"visual.attnpool.positional_embedding": torch.zeros(5, 512), "transformer.resblocks.0.x": torch.zeros(3)}
    opened = open_checkpoint(
        saved({"state_dict": under("module.visual.", model.state_dict()) | under("module.", beside)})
    )
    assert (opened.config.stem, opened.config.shortcut, opened.config.antialias) == ("deep", "D", "avg")
    assert {"attnpool", "transformer"} <= set(opened.left_out)
    with torch.inference_mode():
        assert_same(maps(opened, pictures()), model(pictures()))


class Akamaster(nn.Module):
    """https://github.com/akamaster/pytorch_resnet_cifar10/blob/master/resnet.py: zeros on both sides of the channels."""

    class Block(nn.Module):
        def __init__(self, inputs: int, planes: int, stride: int):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False), nn.BatchNorm2d(planes)
            self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False), nn.BatchNorm2d(planes)
            self.stride, self.extra = stride, (planes - inputs) // 2

        def forward(self, x: Tensor) -> Tensor:
            y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            s = self.stride
            return F.relu(y + F.pad(x[:, :, ::s, ::s], (0, 0, 0, 0, self.extra, self.extra)))

    def __init__(self, blocks: int = 3, channels: int = 3):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        for stage, (inputs, planes) in enumerate(((16, 16), (16, 32), (32, 64)), start=1):
            first = self.Block(inputs, planes, 1 if stage == 1 else 2)
            rest = [self.Block(planes, planes, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(through(self, 3, F.relu(self.bn1(self.conv1(x)))).mean((2, 3)))


def test_zeros_on_both_sides() -> None:
    model = lively(Akamaster())
    data = saved({"state_dict": under("module.", model.state_dict()), "best_prec1": 91.7})
    opened, images = open_checkpoint(data, "resnet20.th"), pictures(side=32)
    assert opened.questions["option_a"].choices == ("both", "after")
    with torch.inference_mode():
        assert_same(scores(opened, images), model(images))
        after = open_checkpoint(data, "resnet20.th", option_a="after")
        assert (scores(after, images) - model(images)).abs().max() > 0.1 * model(images).abs().max()


def test_the_shipped_network_in_the_other_form_is_the_same_to_the_last_digit() -> None:
    ours = read_checkpoint(bundled_path("resnet20"))[0]
    theirs = akamaster(ours.state_dict())
    model = Akamaster(channels=1).eval()
    model.load_state_dict(theirs)
    opened = open_checkpoint(saved(theirs), "resnet20.th")
    assert opened.config == ours.config
    for name, tensor in ours.state_dict().items():
        assert torch.equal(opened.state_dict[name], tensor), name
    with torch.inference_mode():
        images = pictures(1, 28)
        assert_same(scores(opened, images), model(images))
        assert torch.equal(scores(opened, images), ours.eval()(images))


def test_our_own_file_asks_nothing() -> None:
    opened = open_checkpoint(bundled_path("plain20"))
    assert opened.config.shortcut == "none"
    assert not opened.questions


class XResNet(nn.Module):
    """https://github.com/fastai/fastai/blob/1.0.61/fastai/vision/models/xresnet.py, with the pool on either side."""

    class Block(nn.Module):
        def __init__(self, inputs: int, planes: int, stride: int, pool_first: bool):
            super().__init__()
            self.conv1, self.conv2 = layer(inputs, planes, 1), layer(planes, planes, 3, stride)
            self.conv3 = layer(planes, planes * 4, 1, act=False)
            self.downsample = nn.Sequential()
            if inputs != planes * 4:
                self.downsample.add_module("0", layer(inputs, planes * 4, 1, act=False))
            self.pool = nn.AvgPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()
            self.pool_first = pool_first

        def forward(self, x: Tensor) -> Tensor:
            side = self.downsample(self.pool(x)) if self.pool_first else self.pool(self.downsample(x))
            return F.relu(self.conv3(self.conv2(self.conv1(x))) + side)

    def __init__(self, pool_first: bool):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = layer(3, 32, 3, 2), layer(32, 32, 3), layer(32, 64, 3)
        inputs = 64
        for stage, planes in enumerate((16, 32, 64), start=1):
            blocks = []
            for index in range(2):
                blocks.append(self.Block(inputs, planes, 2 if stage > 1 and not index else 1, pool_first))
                inputs = planes * 4
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv3(self.conv2(self.conv1(x))), 3, 2, 1)
        return self.fc(through(self, 3, x).mean((2, 3)))


def layer(inputs: int, outputs: int, kernel: int, stride: int = 1, act: bool = True) -> nn.Sequential:
    parts = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*parts, *([nn.ReLU()] if act else []))


@pytest.mark.parametrize("pool_first", [True, False])
@pytest.mark.parametrize("lessons", [False, True])
def test_fastai(pool_first: bool, lessons: bool) -> None:
    """The library's names, and those of https://github.com/fastai/fastbook/blob/master/14_resnet.ipynb."""
    model = lively(XResNet(pool_first))
    state = model.state_dict()
    if lessons:
        state = renamed(
            state,
            (r"(layer\d\.\d)\.conv(\d)", lambda match: f"{match[1]}.convs.{int(match[2]) - 1}"),
            (r"downsample\.0", "idconv"),
        )
    opened = open_checkpoint(saved(state), "xresnet.pth")
    assert (opened.config.stem, opened.config.shortcut) == ("deep", "D")
    assert opened.questions["shortcut"].choices == ("D", "B")
    with torch.inference_mode():
        assert_same(scores(opened, pictures()), model(pictures()))


def test_big_transfer() -> None:
    """Weights that are standardised at each use, group norm, and a pool padded with zeros; other networks with group
    norm before their convolutions have none of it."""
    timm = pytest.importorskip("timm")
    for name, bit in (("resnetv2_50x1_bit", True), ("resnetv2_50d_gn", False)):
        model = lively(timm.create_model(name, num_classes=7))
        data = saved(model.state_dict())
        opened = open_checkpoint(data, "pytorch_model.bin")
        assert opened.questions["standardised"].choices == (bit, not bit)
        assert opened.config.zero_pool == bit
        with torch.inference_mode():
            expected = model(pictures())
            assert_same(scores(opened, pictures()), expected)
            other = scores(open_checkpoint(data, "pytorch_model.bin", standardised=not bit), pictures())
            assert (other - expected).abs().max() > 0.01 * expected.abs().max()


def test_big_transfer_of_hugging_face() -> None:
    transformers = pytest.importorskip("transformers")
    given = transformers.BitConfig(num_labels=5, depths=[1, 2, 1, 1], hidden_sizes=[128, 256, 512, 512])
    model = lively(transformers.BitForImageClassification(given))
    opened = open_checkpoint(saved(model.state_dict()), "pytorch_model.bin")
    with torch.inference_mode():
        assert_same(scores(opened, pictures()), model(pictures()).logits)


class Wide(nn.Module):
    """https://github.com/yaodongyu/TRADES/blob/master/models/wideresnet.py."""

    class Block(nn.Module):
        def __init__(self, inputs: int, planes: int, stride: int):
            super().__init__()
            self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
            self.bn2, self.conv2 = nn.BatchNorm2d(planes), nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
            self.convShortcut = None if inputs == planes else nn.Conv2d(inputs, planes, 1, stride, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            active = F.relu(self.bn1(x))
            y = self.conv2(F.relu(self.bn2(self.conv1(active))))
            return y + (x if self.convShortcut is None else self.convShortcut(active))

    class Stage(nn.Module):
        def __init__(self, inputs: int, planes: int, stride: int):
            super().__init__()
            self.layer = nn.Sequential(Wide.Block(inputs, planes, stride), Wide.Block(planes, planes, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.block1, self.block2, self.block3 = self.Stage(16, 32, 1), self.Stage(32, 64, 2), self.Stage(64, 128, 2)
        self.sub_block1 = self.Stage(16, 32, 1)
        self.bn1, self.fc = nn.BatchNorm2d(128), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.block3(self.block2(self.block1(self.conv1(x))))))
        return self.fc(x.mean((2, 3)))


def test_a_wide_network() -> None:
    model = lively(Wide())
    opened = open_checkpoint(saved(model.state_dict()), "model_cifar_wrn.pt")
    assert opened.config.order == "pre"
    assert opened.left_out == ("sub_block1",)
    with torch.inference_mode():
        assert_same(scores(opened, pictures(side=32)), model(pictures(side=32)))


# -- what is done to tensors --------------------------------------------------------------


def test_a_bias_before_a_norm_is_folded() -> None:
    model = torchvision.models.resnet18(num_classes=4)
    model.conv1 = nn.Conv2d(1, 64, 7, 2, 3)
    lively(model)
    opened = open_checkpoint(saved(model.state_dict()), "mnist.pth")
    with torch.inference_mode():
        assert_same(scores(opened, pictures(1)), model(pictures(1)))


def test_squeeze_and_excitation_of_linear_layers() -> None:
    """As timm's, without biases and with linear layers."""
    timm = pytest.importorskip("timm")
    model = lively(timm.create_model("seresnet18", num_classes=4))
    state = model.state_dict()
    for name in [name for name in state if ".se." in name]:
        if name.endswith("bias"):
            state[name].zero_()
            del state[name]
    linear = {
        name.replace(".se.fc1.", ".se.fc.0.").replace(".se.fc2.", ".se.fc.2."): tensor.flatten(1)
        if ".se." in name
        else tensor
        for name, tensor in state.items()
    }
    opened = open_checkpoint(saved(linear), "seresnet.pkl")
    with torch.inference_mode():
        assert_same(scores(opened, pictures()), model(pictures()))


class Narrow(nn.Module):
    """Squeeze-and-excitation that leaves a sixteenth of the channels, however few these are."""

    def __init__(self, channels: int, **given: Any):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, channels // 16, 1), nn.Conv2d(channels // 16, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


def test_narrower_attention_gets_zeros() -> None:
    """A reduction of 16 without a least width, and ECA with a kernel of 3 everywhere."""
    layers = pytest.importorskip("timm.layers")
    timm_resnet = pytest.importorskip("timm.models.resnet")
    for attention in (Narrow, lambda channels, **given: layers.EcaModule(kernel_size=3)):
        blocks = {"block_args": {"attn_layer": attention}}
        model = lively(timm_resnet.ResNet(timm_resnet.BasicBlock, (1, 1, 1, 1), num_classes=4, **blocks))
        opened = open_checkpoint(saved(model.state_dict()), "m.pth")
        assert "Its channel attention is narrower than a configuration has it: zeros make it as wide." in opened.notes
        with torch.inference_mode():
            assert_same(scores(opened, pictures()), model(pictures()))


class Bare(nn.Module):
    """https://d2l.ai/chapter_convolutional-modern/resnet.html: a projection with a bias and without a norm."""

    class Residual(nn.Module):
        def __init__(self, inputs: int, outputs: int):
            super().__init__()
            stride = 1 if inputs == outputs else 2
            self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs)
            self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)
            self.conv3 = nn.Conv2d(inputs, outputs, 1, stride) if stride == 2 else None

        def forward(self, x: Tensor) -> Tensor:
            y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            return F.relu(y + (self.conv3(x) if self.conv3 else x))

    def __init__(self) -> None:
        super().__init__()
        stem = (nn.Conv2d(1, 8, 7, 2, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        stages = ((self.Residual(8, 8), self.Residual(8, 8)), (self.Residual(8, 16), self.Residual(16, 16)))
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
        self.net = nn.Sequential(nn.Sequential(*stem), *(nn.Sequential(*stage) for stage in stages), *head)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def test_a_projection_without_a_norm() -> None:
    model = lively(Bare())
    for file in (model.state_dict(), model):
        opened = open_checkpoint(saved(file), "resnet18.params")
        with torch.inference_mode():
            assert_same(scores(opened, pictures(1)), model(pictures(1)))


def test_rt_detr_of_hugging_face() -> None:
    """Pools before the projections of all stages but the first, whose names say so."""
    transformers = pytest.importorskip("transformers")
    sizes = [64, 128, 256]
    given = transformers.RTDetrResNetConfig(
        embedding_size=16, hidden_sizes=sizes, depths=[2, 2, 1], out_features=["stage3"]
    )
    model = lively(transformers.RTDetrResNetBackbone(given))
    opened = open_checkpoint(saved(under("model.backbone.model.", model.state_dict())), "model.safetensors")
    assert (opened.config.stem, opened.config.shortcut) == ("deep", "D")
    with torch.inference_mode():
        assert_same(maps(opened, pictures()), model(pictures()).feature_maps[0])


WORDS = {"1": "reduce", "2": "conv3x3", "3": "increase"}


@pytest.mark.parametrize(
    "place",
    [
        lambda stage, index, kind, number: f"layer{stage + 1}.block{index + 1}.{WORDS[number]}.{kind}",
        lambda stage, index, kind, number: (
            f"stage_{stage}.{index}.{kind}_{WORDS[number].replace('increase', 'expand')}".replace(
                "bn_conv3x3", "bn"
            ).replace("3x3", "")
        ),
        lambda stage, index, kind, number: f"blocks.{2 * stage - 2 + index}.{kind}{number}",
        lambda stage, index, kind, number: (
            f"{'res' if kind == 'conv' else 'bn'}{stage + 1}{'ab'[index]}_branch2{' abc'[int(number)]}"
        ),
    ],
    ids=["words", "words_after", "a_list", "letters"],
)
def test_layers_by_words_are_in_their_order(place: Any) -> None:
    """Their shapes would fit in another order too."""
    ours = resnet((2, 2), (16, 32), inner=lambda planes: planes * 4, width=64, classes=3, seed=1)

    def theirs(match: re.Match[str]) -> str:
        stage, index, kind, number = match.groups()
        return place(int(stage), int(index), kind, number)

    def projection(match: re.Match[str]) -> str:
        stage, index, number = match.groups()
        name = place(int(stage), int(index), "conv" if number == "0" else "bn", "1")
        if "_branch2a" in name:
            return name.replace("_branch2a", "_branch1")
        return re.sub(r"(\.block\d|\.\d)\..*", rf"\1.downsample.{number}", name)

    state = {
        re.sub(
            r"^layer(\d)\.(\d)\.downsample\.(\d)", projection, re.sub(r"^layer(\d)\.(\d)\.(conv|bn)(\d)", theirs, name)
        ): t
        for name, t in ours.items()
    }
    opened = open_checkpoint(saved(state), "m.pt")
    for name, tensor in ours.items():
        assert torch.equal(opened.state_dict[name], tensor), name


def test_a_list_of_blocks_that_lacks_a_convolution_is_no_shorter_one() -> None:
    state = resnet((2, 2), (8, 16), expansion=1, width=8, classes=3, seed=1)
    listed = {
        re.sub(r"^layer(\d)\.(\d)", lambda m: f"blocks.{2 * int(m[1]) - 2 + int(m[2])}", k): v for k, v in state.items()
    }
    del listed["blocks.3.conv1.weight"]
    with pytest.raises(WeightsError, match=r"more in its stages .*, first blocks\.3"):
        open_checkpoint(saved(listed), "m.pt")


def test_pruned_weights_are_zero() -> None:
    from torch.nn.utils import prune

    model = lively(torchvision.models.resnet18(num_classes=4))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            prune.l1_unstructured(module, "weight", 0.5)
    opened = open_checkpoint(saved(model.state_dict()), "pruned.pth")
    with torch.inference_mode():
        assert_same(scores(opened, pictures()), model(pictures()))


@pytest.mark.parametrize("numpy", [2, 3, 4, 5])
def test_arrays_of_numpy(numpy: int) -> None:
    """In every form that a pickle has for them."""
    import pickle

    model = lively(torchvision.models.resnet18(num_classes=4))
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    opened = open_checkpoint(pickle.dumps({"model": arrays}, numpy), "R-18.pkl")
    with torch.inference_mode():
        assert_same(scores(opened, pictures()), model(pictures()))


def test_norms_that_only_scale_and_shift() -> None:
    """Caffe2's, as Detectron2 reads them: `FrozenBatchNorm2d` of version 1."""
    case = next(case for case in CASES if case.name == "detectron2_pkl_msra")
    opened = open_checkpoint(data_of(case), case.file)
    norm = nn.BatchNorm2d(64).eval()
    statistics = {name: opened.state_dict[f"bn1.{name}"] for name in ("running_mean", "running_var")}
    norm.load_state_dict(statistics, strict=False)
    with torch.no_grad():
        images = torch.randn(1, 64, 3, 3)
        torch.testing.assert_close(norm.eval()(images), images, rtol=0, atol=0)


# -- which of several, and answers --------------------------------------------------------


def small(value: float = 0.0) -> dict[str, Tensor]:
    return {
        name: tensor + value
        for name, tensor in resnet((1, 1), (8, 16), expansion=1, width=8, classes=3, seed=1).items()
    }


@pytest.mark.parametrize("average", ["model_ema", "state_dict_ema", "ema", "teacher"])
def test_the_average_is_taken_and_the_other_can_be(average: str) -> None:
    data = saved({"model": small(), average: {"n_averaged": torch.tensor(3), **under("module.", small(1.0))}})
    opened = open_checkpoint(data, "ckpt.pt")
    assert torch.equal(opened.state_dict["fc.bias"], small(1.0)["fc.bias"])
    assert opened.questions["weights"].choices == (average, "model")
    assert any(f"those of {average} are opened" in note for note in opened.notes)
    other = open_checkpoint(data, "ckpt.pt", weights="model")
    assert torch.equal(other.state_dict["fc.bias"], small()["fc.bias"])
    with pytest.raises(WeightsError, match="has no weights theirs: it has "):
        open_checkpoint(data, "ckpt.pt", weights="theirs")


def test_answers_are_checked() -> None:
    data = saved(small())
    assert open_checkpoint(data, "m.pt", activation="silu").config.activation == "silu"
    assert open_checkpoint(data, "m.pt", output_stride="16").config.output_stride == 16
    wrong = {
        "stem": "deep",
        "activation": "sin",
        "nothing": 1,
        "option_a": "left",
        "norm": "group",
        "standardised": "no",
    }
    for answers in ({name: value} for name, value in wrong.items()):
        with pytest.raises(WeightsError, match=r"\Am\.pt .*\.\Z"):
            open_checkpoint(data, "m.pt", **answers)


def test_norms_without_statistics_are_opened_where_it_is_answered() -> None:
    state = resnet((1, 1), (8, 16), expansion=1, width=8, classes=3, norm="group", seed=1)
    with pytest.raises(WeightsError, match=r"instance norm and batch norm of each batch .* norm=group"):
        open_checkpoint(saved(state), "m.pt")
    assert open_checkpoint(saved(state), "m.pt", norm="group").config.norm == "group"
    assert open_checkpoint(saved(state), "resnet18_gn.pt").config.norm == "group"


def test_groups_of_a_group_norm() -> None:
    model = lively(torchvision.models.resnet18(norm_layer=lambda channels: nn.GroupNorm(2, channels), num_classes=4))
    data = saved(model.state_dict())
    opened = open_checkpoint(data, "fedavg.pth", norm_groups=2)
    assert opened.questions["norm_groups"].choices[:2] == (2, 32)
    with torch.inference_mode():
        assert_same(scores(opened, pictures()), model(pictures()))


def test_what_is_left_over_inside_is_named() -> None:
    with pytest.raises(WeightsError, match=r"more in its blocks .* first layer1\.0\.extra\.weight"):
        open_checkpoint(saved(small() | {"layer1.0.extra.weight": torch.zeros(3, 3)}), "m.pt")


def test_a_path_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth.tar"
    path.write_bytes(saved(small()))
    assert open_checkpoint(path).config.num_classes == 3
    with pytest.raises(WeightsError, match=r"\Ano\.pt cannot be read \(No such file or directory\)"):
        open_checkpoint(tmp_path / "no.pt")


def test_pre_activation_that_no_shape_shows() -> None:
    """One stage whose blocks read as many channels as they put out: the name of the last norm tells."""
    config = ResNetConfig(layers=(2,), planes=(8,), block="basic", order="pre", stem="3x3", stem_pool="none")
    assert open_checkpoint(saved(build(config).state_dict()), "m.pt").config == config


def test_a_decoder_that_looks_like_more_blocks_is_left_out() -> None:
    """U-Net++ numbers its convolutions as stages are, and has more of them than a small encoder has blocks."""
    decoder = {f"decoder.blocks.x_{a}_{b}.conv1.0.weight": torch.zeros(4, 4, 3, 3) for a in range(4) for b in range(2)}
    opened = open_checkpoint(saved(under("encoder.", small()) | decoder), "unetplusplus.pth")
    assert opened.config.layers == (1, 1)
    assert opened.left_out == ("decoder",)


def calls(count: int) -> int:
    """How many functions are called to look through a file of so many tensors, each in a block of its own."""
    called = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal called
        called += event == "call"

    shapes = {f"a{number}.1.0.conv1.weight": (4, 4, 3, 3) for number in range(count)}
    sys.setprofile(note)
    try:
        with pytest.raises(LayoutError):
            trunks(shapes)
    finally:
        sys.setprofile(None)
    return called


def test_a_file_of_too_many_names_takes_work_in_proportion() -> None:
    assert calls(4_000) < 2.5 * calls(2_000)


# -- what looks like one of ours ----------------------------------------------------------


def beside(extra: dict[str, Tensor], **left: str) -> bytes:
    """A ResNet-18 by torchvision's names with more tensors."""
    return saved(resnet((2, 2, 2, 2), expansion=1, classes=0) | extra)


def test_a_name_that_many_words_fit_is_looked_at_once() -> None:
    """A pattern with several ways to read each word would try them all."""
    extra = {"last_linear." * 38 + "~.weight": torch.zeros(10, 512)}
    assert open_checkpoint(beside(extra), "m.pt").headless


def test_a_mask_of_another_shape_is_refused() -> None:
    tensors = resnet((2, 2, 2, 2), expansion=1)
    tensors["conv1.weight_orig"] = tensors.pop("conv1.weight")
    tensors["conv1.weight_mask"] = torch.zeros(2000, 1, 1, 1, 1)
    with pytest.raises(WeightsError, match=r"conv1\.weight_mask of another shape than the weight that it prunes\."):
        open_checkpoint(saved(tensors), "pruned.pt")


def test_a_pruned_classifier_is_one() -> None:
    tensors = resnet((2, 2, 2, 2), expansion=1)
    weight = tensors.pop("fc.weight")
    opened = open_checkpoint(saved(tensors | {"fc.weight_orig": weight, "fc.weight_mask": weight != 0}), "pruned.pt")
    assert not opened.headless
    assert opened.state_dict["fc.weight"].shape == weight.shape


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("layer1.0.alpha", "has more in its blocks than a configuration expresses, first layer1.0.alpha"),
        ("ca.fc1.weight", "CBAM"),
        ("NL_2.0.theta.weight", "non-local blocks"),
    ],
)
def test_more_inside_the_network_is_another_network(name: str, words: str) -> None:
    with pytest.raises(WeightsError, match=re.escape(words)):
        open_checkpoint(
            beside({name: torch.zeros(64, 64, 1, 1) if name.endswith("weight") else torch.zeros(1)}), "m.pt"
        )


def test_a_layer_that_another_reads_is_no_classifier() -> None:
    extra = {"fc1.weight": torch.zeros(256, 512), "fc2.weight": torch.zeros(10, 256)}
    assert open_checkpoint(beside(extra), "m.pt").headless


def test_names_of_endless_length_are_refused() -> None:
    tree: Any = {f"{'x' * 400}{number}.weight": torch.zeros(1) for number in range(2_000)}
    for level in range(10):
        tree = {f"{level}" * 400: tree}
    with pytest.raises(WeightsError, match="names of more than"):
        open_checkpoint(saved(tree), "m.pt")


def test_integers_are_no_weights_by_any_name() -> None:
    tensors = resnet((2, 2, 2, 2), expansion=1)
    tensors["conv1.weight_orig"] = tensors.pop("conv1.weight").to(torch.int8)
    tensors["conv1.weight_mask"] = torch.ones_like(tensors["conv1.weight_orig"])
    with pytest.raises(WeightsError, match=r"has conv1\.weight_orig as torch\.int8"):
        open_checkpoint(saved(tensors), "m.pt")


@pytest.mark.parametrize("change", [{"attention": "eca"}, {"norm": "group"}])
def test_channels_that_are_read_in_their_order_stay(change: dict[str, Any]) -> None:
    """Group norm and ECA read neighbouring channels: a reordered network would be another function."""
    config = ResNetConfig(
        layers=(1, 1), planes=(16, 32), block="basic", shortcut="A", stem="3x3", stem_pool="none", **change
    )
    data = saved(build(config).state_dict())
    assert "option_a" not in open_checkpoint(data, "group.pt", norm=config.norm).questions
    with pytest.raises(WeightsError, match="which reads them in their order"):
        open_checkpoint(data, "group.pt", norm=config.norm, option_a="both")


def test_a_counter_with_an_axis_is_a_number() -> None:
    tensors = resnet((2, 2, 2, 2), expansion=1)
    tensors |= {name: torch.tensor([7]) for name in tensors if name.endswith("tracked")}
    opened = open_checkpoint(saved(tensors), "m.pt")
    assert opened.state_dict["bn1.num_batches_tracked"] == 7
    build(opened.config).load_state_dict(opened.state_dict, strict=True)


# -- what is computed beside the tensors --------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
    ],
    ids=["weight norm", "spectral norm", "older weight norm", "older spectral norm"],
)
def test_weights_that_are_computed_at_each_use(make: Any) -> None:
    model = lively(torchvision.models.resnet18(num_classes=4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]:
            make(module)
    opened = open_checkpoint(saved(model.eval().state_dict()), "normed.pth")
    assert not opened.headless
    with torch.inference_mode():
        assert_same(scores(opened, pictures()), model(pictures()))


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


@pytest.mark.parametrize("path", ["conv1", "layer1.0.conv1"])
def test_weights_that_are_computed_in_a_way_of_its_own_are_refused(path: str) -> None:
    model = torchvision.models.resnet18(num_classes=4)
    nn.utils.parametrize.register_parametrization(model.get_submodule(path), "weight", Doubled())
    words = rf"not known, first {path}\.parametrizations\.weight\.original: weights as they are used"
    with pytest.raises(WeightsError, match=words):
        open_checkpoint(saved(model.state_dict()), "m.pth")


def test_what_makes_a_weight_has_its_shape() -> None:
    tensors = small()
    weight = tensors.pop("layer1.0.conv1.weight")
    for extra in (
        {"weight_g": torch.ones(3, 1, 1, 1), "weight_v": weight},
        {"weight_orig": weight, "weight_u": torch.ones(8), "weight_v": torch.ones(3)},
    ):
        with pytest.raises(WeightsError, match="of another shape than the weight that it scales"):
            open_checkpoint(saved(tensors | under("layer1.0.conv1.", extra)), "m.pt")


def test_clip_without_its_attention_pool_is_asked() -> None:
    model = lively(Clip((2, 1, 1, 1), 16))
    opened = open_checkpoint(saved(model.state_dict()), "visual.pt")
    assert opened.questions["shortcut"].choices == ("D", "B")
    assert opened.questions["antialias"].choices[0] == "avg"
    assert any("CLIP" in note for note in opened.notes)
    with torch.inference_mode():
        assert_same(maps(opened, pictures()), model(pictures()))
    other = open_checkpoint(saved(model.state_dict()), "visual.pt", shortcut="B", antialias="none")
    assert (other.config.shortcut, other.config.antialias) == ("B", "none")
    deep = build(ResNetConfig(layers=(2, 1), planes=(16, 32), stem="deep", stem_width=16)).state_dict()
    stem = {
        "conv1.0": "conv1",
        "conv1.1": "bn1",
        "conv1.3": "conv2",
        "conv1.4": "bn2",
        "conv1.6": "conv3",
        "bn1": "bn3",
    }
    wide = {re.sub(r"^(conv1\.\d|bn1)(?=\.)", lambda match: stem[match[1]], name): deep[name] for name in deep}
    assert "shortcut" not in open_checkpoint(saved(wide), "mit_semseg.pth").questions


class OneWidth(nn.Module):
    """Pre-activation blocks of one width, whose last norm is called as a stem's (`wide-residual-networks` calls it `bn`)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.layer1 = nn.Sequential(Wide.Block(8, 8, 1), Wide.Block(8, 8, 1))
        self.bn, self.fc = nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.bn(self.layer1(self.conv(x)))).mean((2, 3)))


def test_an_order_that_no_shape_shows_is_asked() -> None:
    model = lively(OneWidth())
    data = saved(model.state_dict())
    opened, images = open_checkpoint(data, "one.pt"), pictures(side=32)
    assert opened.questions["order"].choices == ("post", "pre")
    answered = open_checkpoint(data, "one.pt", order="pre")
    assert answered.questions["order"].choices == ("pre", "post")
    with torch.inference_mode():
        assert_same(scores(answered, images), model(images))
        assert (scores(opened, images) - model(images)).abs().max() > 0.1 * model(images).abs().max()
    for one, other in ((opened, answered), (answered, opened)):
        assert fitted(one, other.config).keys() == other.state_dict.keys()
    assert "order" not in open_checkpoint(saved(small()), "m.pt").questions


def test_a_pool_with_an_exponent_is_another_head() -> None:
    opened = open_checkpoint(saved(small() | {"global_pool.p": torch.ones(1)}), "gem.pth")
    assert opened.headless
    assert set(opened.left_out) == {"global_pool", "fc"}


# -- what no configuration has ------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "right", "wrong"),
    [("leaky_slope", 0.01, 0.1), ("last_stride", "2", "1"), ("stem_stride", 1, "2, which no configuration has")],
)
def test_what_every_configuration_has_alike_is_asked(question: str, right: Any, wrong: Any) -> None:
    data = saved(resnet((1, 1), (8, 16), expansion=1, width=8, stem=3, classes=0, seed=1))
    given = {"activation": "leaky_relu"} if question == "leaky_slope" else {}
    first, other = open_checkpoint(data, "m.pt", **given).questions[question].choices
    assert str(first) == str(right)
    assert other.endswith("which no configuration has")
    assert open_checkpoint(data, "m.pt", **given, **{question: right}).headless
    for answer in (wrong, other):
        with pytest.raises(WeightsError, match=r"\Am\.pt is answered to have a .*, which no configuration expresses: "):
            open_checkpoint(data, "m.pt", **given, **{question: answer})


def test_what_concerns_no_file_is_not_asked() -> None:
    assert not {"leaky_slope", "last_stride", "stem_stride"} & open_checkpoint(saved(small()), "m.pt").questions.keys()


def test_an_answer_that_nobody_asked_for_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"\Am\.pt does not need the answer option_a: "):
        open_checkpoint(saved(small()), "m.pt", option_a="both")
    for weights in (["a"], "a", None):
        with pytest.raises(WeightsError, match=r"\Am\.pt has no weights .*: it has the file itself\.\Z"):
            open_checkpoint(saved(small()), "m.pt", weights=weights)
    assert open_checkpoint(saved(small()), "m.pt", weights="the file itself").config.num_classes == 3


def test_statistics_without_an_axis_are_named() -> None:
    with pytest.raises(WeightsError, match=r"bn1\.running_mean: 8 in the network, one number in the file"):
        open_checkpoint(saved(small() | {"bn1.running_mean": torch.tensor(1.0)}), "m.pt")


def test_faults_of_the_reader_are_none_of_the_file(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(error: Exception) -> None:
        def fold(state: Any) -> int:
            raise error

        monkeypatch.setattr(conversion, "fold_biases", fold)

    for error in (KeyError("x"), RuntimeError("shapes"), TypeError("y")):
        fail(error)
        with pytest.raises(
            WeightsError, match=r"\Am\.pt was read but not understood, which is a fault of this program"
        ):
            open_checkpoint(saved(small()), "m.pt")
        assert caplog.records.pop().exc_info
    fail(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    with pytest.raises(WeightsError, match=r"\Am\.pt finds too little memory"):
        open_checkpoint(saved(small()), "m.pt")
    assert not caplog.records


def test_answers_may_be_text() -> None:
    """As links and forms hold them."""
    model = lively(Akamaster())
    assert (
        open_checkpoint(saved(model.state_dict()), "m.th", option_a="after").questions["option_a"].choices[0] == "after"
    )
    state = resnet((1, 1), (8, 16), expansion=1, width=8, classes=3, norm="group", seed=1)
    answered = open_checkpoint(
        saved(state), "m.pt", norm="group", norm_groups="4", standardised="1", output_stride="16"
    )
    assert (answered.config.norm_groups, answered.config.output_stride) == (4, 16)
    assert answered.questions["standardised"].choices == (True, False)
    with pytest.raises(WeightsError, match=r"\Am\.pt .*norm_groups = many is not accepted"):
        open_checkpoint(saved(state), "m.pt", norm="group", norm_groups="many")


@pytest.mark.parametrize("name", ["gn.pt", "resnet_GroupNorm.pt", "fedavg.pth"])
def test_group_norm_by_a_files_name_is_said(name: str) -> None:
    state = resnet((1, 1), (8, 16), expansion=1, width=8, classes=3, norm="group", seed=1)
    said = "Its norms are taken for group norms, as its name says."
    assert said in open_checkpoint(saved(state), name).notes
    assert said not in open_checkpoint(saved(state), name, norm="group").notes


@pytest.mark.parametrize(
    ("case", "noted"),
    [
        ("caffe_stride", True),
        ("detectron2_model", True),
        ("detectron2_pkl_msra", True),
        ("torchvision_fasterrcnn", False),
    ],
)
def test_images_as_caffe_prepares_them_are_said(case: str, noted: bool) -> None:
    one = next(one for one in CASES if one.name == case)
    assert any("BGR" in note for note in open_checkpoint(data_of(one), one.file).notes) == noted


def test_standardised_weights_are_likely_by_a_files_name() -> None:
    """https://github.com/joe-siyuan-qiao/WeightStandardization, whose blocks are post-activation."""
    state = resnet((1, 1), (8, 16), expansion=1, width=8, classes=3, norm="group", seed=1)
    for name, likely in (("resnet50_gn_ws.pth", True), ("resnet50_gn.pth", False), ("news_gn.pth", False)):
        opened = open_checkpoint(saved(state), name)
        assert opened.questions["standardised"].choices == (likely, not likely)
        kernel = opened.state_dict["layer1.0.conv1.weight"]
        assert (kernel.mean((1, 2, 3)).abs().max() < 1e-6) == likely
        assert not opened.config.zero_pool


def test_standardised_weights_with_batch_norm_are_asked_where_a_name_says_so() -> None:
    state = resnet((1, 1), (8, 16), expansion=1, width=8, classes=3, seed=1)
    assert "standardised" not in open_checkpoint(saved(state), "R-50-BN.pth").questions
    named = open_checkpoint(saved(state), "R-50-BN-WS.pth.tar")
    assert named.questions["standardised"].choices == (True, False)
    answered = open_checkpoint(saved(state), "R-50-BN.pth", standardised=True)
    for opened in (named, answered):
        assert opened.state_dict["layer1.0.conv1.weight"].mean((1, 2, 3)).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"bottleneck.weight": torch.ones(16)}, "no ReLU after the stem"),
        ({"aspp.conv1.weight": torch.zeros(4, 16, 1, 1)}, "multi-grid"),
        ({"base.layer5.conv2d_list.0.weight": torch.zeros(4, 16, 3, 3)}, "rounds up where its stem pools"),
        ({"neck.conv.weight": torch.zeros(4, 16, 1, 1)}, ""),
        ({"bottleneck.weight": torch.ones(4)}, ""),
    ],
)
def test_what_code_with_these_parts_may_compute_is_said(extra: dict[str, Tensor], words: str) -> None:
    tensors = resnet((1, 1), (8, 16), expansion=1, width=8, classes=0, seed=1)
    notes = open_checkpoint(saved(under("base.", tensors) | extra), "m.pt").notes
    assert len(notes) == 1 + bool(words)
    assert words in " ".join(notes)


def test_other_functions_of_the_same_tensors_are_said() -> None:
    for case, words in (("akamaster_resnet20", "code that averages there"), ("wrn34_10_trades", "FixMatch, MixMatch")):
        one = next(one for one in CASES if one.name == case)
        assert any(words in note for note in open_checkpoint(data_of(one), one.file).notes)
    for case in ("vggface2", "caffe_names"):
        one = next(one for one in CASES if one.name == case)
        assert any("pools without padding" in note for note in open_checkpoint(data_of(one), one.file).notes)
    biased = small() | {"layer2.0.downsample.0.bias": torch.ones(16)}
    assert any("MONAI" in note for note in open_checkpoint(saved(biased), "m.pt").notes)
    assert not any(
        "MONAI" in note for note in open_checkpoint(saved(biased | {"conv1.bias": torch.ones(8)}), "m.pt").notes
    )
    opened = open_checkpoint(saved(small()), "m.pt", activation="leaky_relu")
    assert opened.notes == ("Its leaky ReLU is taken to have the slope 0.01.",)


# -- several networks ---------------------------------------------------------------------


def test_networks_with_other_heads_can_be_chosen() -> None:
    trunk = {name: tensor for name, tensor in small(1.0).items() if not name.startswith("fc.")}
    data = saved({"model": small(), "ema": trunk})
    assert open_checkpoint(data, "m.pt").questions["weights"].choices == ("ema", "model")
    assert not open_checkpoint(data, "m.pt", weights="model").headless


def test_two_networks_that_would_be_called_the_same_have_longer_names() -> None:
    data = saved({"a": small(), **under("a.", small(1.0))})
    assert set(open_checkpoint(data, "m.pt").questions["weights"].choices) == {"a/", "a."}
    taken = open_checkpoint(data, "m.pt", weights="a.").state_dict
    assert torch.equal(taken["fc.bias"], small(1.0)["fc.bias"])
    both = small() | {name.replace("layer", "block"): tensor for name, tensor in small().items()}
    assert "weights" not in open_checkpoint(saved(both), "m.pt", weights="the file itself").questions


def test_a_smaller_network_that_is_refused_is_named() -> None:
    other = {"layer1.0.conv1.weight": torch.zeros(8, 8, 3, 3), "layer1.0.conv2.weight": torch.zeros(8, 8, 3, 3)}
    other |= {"layer1.0.bn1.weight": torch.zeros(8), "layer1.0.cbam.conv.weight": torch.zeros(1, 2, 7, 7)}
    (note,) = open_checkpoint(saved({"model": small(), "aux": other}), "m.pt").notes
    assert note.startswith("Beside it, aux/layer holds a network with CBAM")


def test_the_largest_of_many_networks_are_looked_at() -> None:
    opened = open_checkpoint(saved({f"fold{number}": small() for number in range(MAX_CANDIDATES + 3)}), "folds.pt")
    assert len(opened.questions["weights"].choices) == MAX_CANDIDATES
    assert f"Of its {MAX_CANDIDATES + 3} networks the {MAX_CANDIDATES} largest are looked at." in opened.notes


def test_the_form_of_option_a_is_that_of_every_network_in_a_file() -> None:
    one, other = lively(Akamaster()), lively(Akamaster(), seed=5)
    data, images = saved({"net": one.state_dict(), "net_ema": other.state_dict()}), pictures(side=32)
    for model, name in ((one, "net"), (other, "net_ema")):
        opened = open_checkpoint(data, "m.th", weights=name)
        with torch.inference_mode():
            assert_same(scores(opened, images), model(images))
            there = with_option_a(with_option_a(opened, "after"), "both")
            assert torch.equal(scores(there, images), scores(opened, images))


# -- two names, and names without a weight ------------------------------------------------


@pytest.mark.parametrize(
    "extra",
    [
        {"layer1.0.se.fc1.weight": torch.zeros(2, 8), "layer1.0.se_module.fc1.weight": torch.ones(2, 8)},
        {"model.conv1.weight": torch.zeros(1)},
    ],
)
def test_two_names_of_one_tensor_are_a_sentence(extra: dict[str, Tensor]) -> None:
    if "model.conv1.weight" in extra:
        state = under("model.", small()) | {"conv1.weight": torch.zeros(1)}
    else:
        state = small() | extra
        with pytest.raises(WeightsError, match=r"\Am\.pt holds .*se.*, two names of one tensor: .* accepted\.\Z"):
            open_checkpoint(saved(state), "m.pt")
    with pytest.raises(WeightsError, match=r"\Am\.pt holds .*, two names of one tensor: .* accepted\.\Z"):
        read_state_dict(saved(state), "m.pt")
    with pytest.raises(ConfigError, match="two names of one tensor"):
        infer_config(state)


def test_what_stands_beside_a_network_keeps_its_name() -> None:
    state = under("model.", small()) | {"layer9.weight": torch.zeros(1), "model.layer9.weight": torch.ones(1)}
    found = read_state_dict(saved(state), "m.pt")
    assert found["layer9.weight"] == 0
    assert found["model.layer9.weight"] == 1


def test_what_stands_in_a_stage_beside_its_blocks_is_no_part_of_a_network() -> None:
    for extra in ("layer2.attn.weight", "layer1.dropout.scale"):
        with pytest.raises(WeightsError, match=rf"\Am\.pt has more in its stages .*, first {re.escape(extra)}"):
            open_checkpoint(saved(small() | {extra: torch.zeros(3, 3)}), "m.pt")


def test_convolutions_before_the_last_stage_are_said() -> None:
    before = {"pre_conv.weight": torch.zeros(3, 6, 1, 1), "stn.loc.0.weight": torch.zeros(8, 3, 7, 7)}
    after = {"decoder.weight": torch.zeros(3, 6, 1, 1)}
    (note,) = open_checkpoint(saved(before | small() | after), "m.pt").notes
    assert note.startswith("Before the end of its last stage the file has pre_conv and stn: ")
    assert not open_checkpoint(saved(small() | after), "m.pt").notes


@pytest.mark.parametrize("name", ["conv1", "bn1", "layer1.0.conv1", "layer1.0.bn1", "fc"])
def test_a_bias_without_its_weight_is_no_damage(name: str) -> None:
    """The file is whole: what is missing is said, or it has no classifier; a norm may only shift."""
    state = small() | {f"{name}.bias": torch.zeros(3 if name == "fc" else 8)}
    del state[f"{name}.weight"]
    if "conv" in name:
        with pytest.raises(WeightsError, match=r"\Am\.pt (?!is damaged)"):
            open_checkpoint(saved(state), "m.pt")
        return
    opened = open_checkpoint(saved(state), "m.pt")
    assert opened.headless == (name == "fc")
    assert "bn" not in name or (opened.state_dict[f"{name}.weight"] == 1).all()


@pytest.mark.parametrize("block", ["layer1.0", "layer1.1", "layer2.0", "layer4"])
def test_a_block_that_lacks_its_first_convolution_is_no_other_network(block: str) -> None:
    """Left out, it would make a shallower one."""
    state = resnet((2, 2, 2, 2), (8, 8, 8, 8), expansion=1, width=8, classes=3, seed=1)
    state = {name: tensor for name, tensor in state.items() if not (name.startswith(block) and "conv1" in name)}
    with pytest.raises(WeightsError, match=rf"\Am\.pt has more in its stages .*, first {re.escape(block)}"):
        open_checkpoint(saved(state), "m.pt")


# -- networks that were saved whole -------------------------------------------------------


def whole(**given: Any) -> Any:
    model = torchvision.models.resnet50(num_classes=4, **given)
    model._norm_layer = None  # what makes norms need not be picklable
    return lively(model)


def early(model: Any) -> Any:
    """With its strides in the 1×1 convolutions."""
    for stage in (model.layer2, model.layer3, model.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return model


def activated(model: nn.Module, made: nn.Module) -> nn.Module:
    """With another activation."""
    for name, module in [*model.named_modules()]:
        if isinstance(module, nn.ReLU):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, made)
    return model


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (whole, {}),
        (lambda: early(whole()), {"stride_in": "1x1"}),
        (lambda: whole(replace_stride_with_dilation=[False, True, True]), {"output_stride": 8}),
        (lambda: activated(whole(), nn.SiLU()), {"activation": "silu"}),
        (lambda: activated(whole(), nn.LeakyReLU()), {"activation": "leaky_relu"}),
        (lambda: whole(norm_layer=lambda c: nn.GroupNorm(2, c)), {"norm": "group", "norm_groups": 2}),
        (lambda: whole(norm_layer=lambda c: nn.BatchNorm2d(c, eps=0.1)), {}),
    ],
    ids=["as it is", "stride in the 1×1", "dilated", "silu", "leaky", "group norm", "another epsilon"],
)
def test_a_whole_network_answers_by_its_layers(make: Any, shown: dict[str, Any]) -> None:
    model = make()
    opened = open_checkpoint(saved({"model": nn.DataParallel(model), "epoch": 3}), "whole.pt")
    for option, value in {"activation": "relu", "stem_pool": "max", "stride_in": "3x3", **shown}.items():
        assert getattr(opened.config, option) == value
    assert not opened.questions.keys() - {"standardised"}
    with torch.inference_mode():
        assert_same(scores(opened, pictures()), model(pictures()))


def changed(**paths: tuple[str, Any]) -> Any:
    """A whole network with an attribute of a layer set to something else."""
    model = whole()
    for path, (attribute, value) in paths.items():
        setattr(model.get_submodule(path.replace("__", ".")), attribute, value)
    return model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: changed(conv1=("stride", (1, 1))), "conv1 with stride 1×1 (a configuration has 2×2 there)"),
        (lambda: changed(conv1=("padding_mode", "reflect")), "conv1 with padding_mode reflect"),
        (lambda: changed(layer4__0__conv2=("stride", (1, 1))), "layer4.0.conv2 with stride 1×1"),
        (lambda: changed(layer4__2__conv2=("dilation", (4, 4))), "layer4.2.conv2 with dilation 4×4"),
        (lambda: changed(maxpool=("kernel_size", 2)), "has a pool of 2×2 with stride 2×2 and padding 1×1"),
        (lambda: changed(maxpool=("ceil_mode", True)), "its last place not rounded up"),
        (lambda: activated(whole(), nn.LeakyReLU(0.1)), "has LeakyReLU with negative_slope=0.1"),
        (lambda: activated(whole(), nn.ReLU6()), "has ReLU6 as an activation"),
        (lambda: changed(layer1__0=("relu", nn.SiLU())), "as its activations, where a configuration has one"),
        (lambda: whole(norm_layer=lambda c: nn.InstanceNorm2d(c, affine=True)), "has instance norm ("),
        (
            lambda: whole(norm_layer=lambda c: nn.BatchNorm2d(c, track_running_stats=False)),
            "has batch norm of each batch",
        ),
    ],
)
def test_a_whole_network_that_no_configuration_expresses_says_why(make: Any, words: str) -> None:
    with pytest.raises(WeightsError, match=re.escape(words)) as caught:
        open_checkpoint(saved(make()), "gn.pt")
    assert str(caught.value).endswith(".")


def test_answers_do_not_contradict_a_whole_network() -> None:
    data = saved(whole())
    for answer in ({"activation": "silu"}, {"stem_pool": "none"}, {"stride_in": "1x1"}, {"output_stride": 8}):
        with pytest.raises(WeightsError, match=r"whole\.pt (says itself that its|is set otherwise itself: it has) "):
            open_checkpoint(data, "whole.pt", **answer)
    assert open_checkpoint(data, "whole.pt", stride_in="3x3", activation="relu").config.num_classes == 4


# -- shards beside an index ---------------------------------------------------------------


def test_an_index_is_opened_with_the_shards_beside_it(tmp_path: Path) -> None:
    state = small()
    names = list(state)
    parts = {f"model-0000{number}-of-00002.safetensors": names[number - 1 :: 2] for number in (1, 2)}
    for file, own in parts.items():
        (tmp_path / file).write_bytes(safetensors.torch.save({name: state[name] for name in own}))
    index = tmp_path / "model.safetensors.index.json"

    def write(**changes: str) -> None:
        places = {name: file for file, own in parts.items() for name in own}
        index.write_text(json.dumps({"weight_map": places | changes}), encoding="utf-8")

    write()
    opened = open_checkpoint(index)
    assert all(torch.equal(opened.state_dict[name], tensor) for name, tensor in state.items())
    outside = tmp_path.parent / "outside.safetensors"
    outside.write_bytes(safetensors.torch.save(state))
    for file in ("none.safetensors", f"../{outside.name}", str(outside), "..", ""):
        write(x=file)
        with pytest.raises(WeightsError, match=r"index\.json needs .*, which is not beside it: .* accepted"):
            open_checkpoint(index)
    index.write_text("[]", encoding="utf-8")
    with pytest.raises(WeightsError, match="is no index of shards"):
        open_checkpoint(index)


def test_shards_that_are_too_much_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "a"}}', encoding="utf-8")
    with (tmp_path / "a").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    monkeypatch.setattr(shards, "join", lambda files: pytest.fail("read"))
    with pytest.raises(WeightsError, match=r"The shards of .* have 400 MiB: at most 400 MiB are accepted"):
        open_checkpoint(index)


def test_a_smaller_network_in_another_dictionary_is_named() -> None:
    opened = open_checkpoint(saved({"teacher": r50(), "student": r18()}))
    assert opened.config.layers == (3, 4, 6, 3)
    assert "Beside it, student holds a network of fewer blocks." in opened.notes


def test_a_stem_that_pools_without_padding_is_said() -> None:
    case = next(case for case in CASES if case.name == "cadene_seresnet50")
    assert any("pools without padding" in note for note in open_checkpoint(data_of(case)).notes)


def test_a_block_of_three_norms_is_a_pyramid_where_it_widens() -> None:
    twice = within("bn2", lambda path, channels: norm1d(f"{path}.bn1_target", channels))
    with pytest.raises(WeightsError, match=r"3 norms\.$"):
        open_checkpoint(saved(twice))

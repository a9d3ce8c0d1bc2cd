"""Blocks off against networks built by hand without them; additions and ratios recomputed; ablations one by one."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from explorer.analysis.parts import fixed_blocks, switchable_blocks
from explorer.analysis.trace import trace
from explorer.drawing.palette import colour
from explorer.figures import inference
from explorer.inference.ablation import BATCH_SIZE, Ablation, ablations, batch_size, sequential_modules, without_blocks
from explorer.inference.addition import Contribution, addition, contributions
from explorer.inference.images import open_image
from explorer.inference.preprocess import normalised, prepare
from explorer.inference.samples import labelled_images, samples
from explorer.link import MAX_OFF_CHANNELS, View, natural_size, parse_off, tolerant
from helpers import CPU, frozen, name_of
from resnet import ConfigError, ResNet, ResNetConfig, preset
from resnet.weights import BUNDLED, FASHION_MNIST, bundled, load

SMALL: dict[str, Any] = {"layers": (2, 3), "planes": (8, 16), "num_classes": 7}
CONFIGS = [
    ResNetConfig(**SMALL, block=block, order=order, shortcut=shortcut)
    for block in ("basic", "bottleneck")
    for order in ("post", "pre")
    for shortcut in ("none", "A", "B", "C", "D")
    if not (shortcut == "A" and block == "bottleneck")
]


def noise(config: ResNetConfig, count: int = 1) -> Tensor:
    return torch.randn(count, config.in_channels, 64, 64, generator=torch.Generator().manual_seed(1))


# -- blocks off ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "plain20", "resnetv2_50t"])
def test_blocks_are_those_of_the_trace(name: str) -> None:
    traced = trace(preset(name), 64)
    named = [f"layer{layer.role.stage}.{layer.role.block}" for layer in traced.layers if layer.role.part == "stage"]
    assert preset(name).blocks == tuple(dict.fromkeys(named))


@pytest.mark.parametrize(
    "config", [*CONFIGS, preset("plain20"), ResNetConfig(shortcut="none", output_stride=8)], ids=name_of
)
def test_what_cannot_be_off_is_what_changes_the_shape_of_a_plain_network(config: ResNetConfig) -> None:
    traced = trace(config, 64)
    expected = set()
    for block in config.blocks:
        layers = [layer for layer in traced.layers if layer.name.startswith(f"{block}.")]
        if config.shortcut == "none" and layers[0].in_shapes[0] != layers[-1].out_shape:
            expected.add(block)
    assert set(fixed_blocks(config)) == expected
    assert sorted([*switchable_blocks(config), *expected]) == sorted(config.blocks)


@pytest.mark.parametrize("config", [config for config in CONFIGS if config.shortcut != "C"], ids=name_of)
def test_identity_blocks_that_are_off_are_not_there(config: ResNetConfig) -> None:
    """As a network without them; the input of a post-activation block is not negative, so that its ReLU changes nothing."""
    model, image = frozen(config), noise(config, 2)
    by_hand: Any = deepcopy(model)
    by_hand.layer2 = nn.Sequential(by_hand.layer2[0], by_hand.layer2[2])
    by_hand.layer1 = nn.Sequential(by_hand.layer1[0])
    off = without_blocks(model, ["layer1.1", "layer2.1"])
    assert torch.equal(off(image), by_hand(image))
    assert not torch.equal(off(image), model(image))


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_a_channel_that_is_off_is_read_as_zeros(config: ResNetConfig) -> None:
    """By the block that follows, whose weights for it may then be anything; also where its own block is off."""
    model, image = frozen(config), noise(config, 2)
    off = without_blocks(model, ["layer1.1:3", "layer1.1:5", "layer2.1:1"])
    by_hand: Any = deepcopy(model)

    def zero(*channels: int) -> Callable[[Any, Any, Tensor], Tensor]:
        return lambda _, __, output: (
            output * torch.tensor([c not in channels for c in range(output.shape[1])])[:, None, None]
        )

    by_hand.layer1[1].register_forward_hook(zero(3, 5))
    by_hand.layer2[1].register_forward_hook(zero(1))
    assert torch.equal(off(image), by_hand(image))
    assert not torch.equal(off(image), model(image))
    seen: dict[str, Tensor] = {}
    last = trace(config, 64).blocks["layer1.1"][-1].name
    ended = without_blocks(model, ["layer1.1", "layer1.1:3"])
    for name in (last, "layer1.1"):
        ended.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
    ended(image)
    assert all(not output[:, 3].any() and output[:, 4].any() for output in seen.values())
    assert not any(module._forward_hooks for module in model.modules())


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_off_reads_back_from_a_link(data: st.DataObject) -> None:
    config = data.draw(st.sampled_from([*CONFIGS, preset("plain20"), preset("resnet18")]))
    wide = {name: layers[-1].out_shape[0] for name, layers in trace(config, 64).blocks.items()}
    channels = [f"{name}:{channel}" for name, count in wide.items() for channel in range(count)]
    asked = data.draw(st.lists(st.sampled_from([*switchable_blocks(config), *channels]), max_size=8, unique=True))
    off = parse_off(",".join(asked), config)
    assert sorted(off) == sorted(asked)
    places = [(list(wide).index(name.partition(":")[0]), int(name.partition(":")[2] or -1)) for name in off]
    assert places == sorted(places)
    assert View.from_query(View(config, natural_size(config), off=off).to_query()).off == off


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("layer1.0:16", "channels layer1.0:0 to layer1.0:15 of that block"),
        (
            "layer9.0:1",
            "blocks of this network joined by commas, layer1.0 to layer3.2, and channels of them such as layer1.0:0",
        ),
        ("layer1.0:", "blocks of this network"),
        ("layer1.0:-1", "blocks of this network"),
        ("layer1.0:1:2", "blocks of this network"),
        ("layer2.0:1,layer2.0:99999999", "blocks of this network"),
    ],
)
def test_what_cannot_be_off_is_named(text: str, accepted: str) -> None:
    view, (sentence,) = tolerant({"preset": "resnet20", "off": text})
    assert view.off == ()
    assert sentence.startswith(f"off = {text} is not accepted: {accepted}")
    assert sentence.endswith("All blocks are on instead.")


def test_a_link_holds_as_much_as_can_be_off() -> None:
    config = preset("resnet50").with_(layers=(1, 1, 1, 500))[0]
    off = (*config.blocks, *(f"layer4.499:{channel}" for channel in range(2048)))
    view = View(config, (224, 224), off=off[: len(config.blocks) + MAX_OFF_CHANNELS])
    assert View.from_query(view.to_query()) == view
    with pytest.raises(ConfigError, match=r": at most 500 channels\.$"):
        parse_off(",".join(off[-MAX_OFF_CHANNELS - 1 :]), config)


@pytest.mark.parametrize("config", [config for config in CONFIGS if config.shortcut != "none"], ids=name_of)
def test_a_projection_goes_on_alone(config: ResNetConfig) -> None:
    model, image = frozen(config), noise(config)
    seen: dict[str, Tensor] = {}

    def watched(module: ResNet) -> Tensor:
        handle = module.get_submodule("layer2.0").register_forward_hook(
            lambda _, args, output: seen.update(x=args[0], y=output)
        )
        module(image)
        handle.remove()
        return seen["y"]

    found = watched(without_blocks(model, ["layer2.0"]))
    block: Any = model.get_submodule("layer2.0")
    x = seen["x"]
    if config.order == "post":
        expected = block.act(block.downsample(x))
    else:
        expected = block.downsample(block.act1(block.bn1(x)) if config.shortcut != "A" else x)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("config", [config for config in CONFIGS if config.shortcut != "none"], ids=name_of)
def test_a_block_with_an_empty_branch_changes_nothing(config: ResNetConfig) -> None:
    model, image = frozen(config), noise(config)
    last = "conv3" if config.block == "bottleneck" else "conv2"
    for block in ("layer1.0", "layer2.0", "layer2.1"):
        nn.init.zeros_(model.get_parameter(f"{block}.{last}.weight"))
        if config.order == "post":
            for part in ("weight", "bias"):
                nn.init.zeros_(model.get_parameter(f"{block}.{last.replace('conv', 'bn')}.{part}"))
    assert torch.equal(without_blocks(model, ["layer1.0", "layer2.0", "layer2.1"])(image), model(image))


def test_the_model_is_left_alone_and_its_weights_are_shared() -> None:
    config = preset("seresnet50").with_(layers=(2, 2))[0]
    model = frozen(config)
    image, before = noise(config), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scores = model(image)
    off = without_blocks(model, ["layer1.1", "layer2.0"])
    assert not torch.equal(off(image), scores)
    assert torch.equal(model(image), scores)
    assert not any(module._forward_hooks for module in model.modules())
    for name, tensor in off.state_dict().items():
        assert tensor.data_ptr() == model.state_dict()[name].data_ptr()
        assert torch.equal(tensor, before[name])
    assert without_blocks(model, []) is model


@pytest.mark.parametrize("off", ["layer1.2", "layer3.0", "conv1", "", "layer1"])
def test_what_is_no_block_is_refused(off: str) -> None:
    with pytest.raises(ValueError, match="cannot be switched off"):
        without_blocks(frozen(ResNetConfig(**SMALL)), ["layer1.0", off])
    with pytest.raises(ValueError, match=r"layer2\.0"):
        without_blocks(frozen(ResNetConfig(**SMALL, shortcut="none")), ["layer2.0"])


# -- inside the addition ------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_branch_and_shortcut_are_the_blocks_own(config: ResNetConfig) -> None:
    """Against F and S called once more on the block's input."""
    model, image = frozen(config), noise(config)
    found = contributions(model, image, CPU)
    if config.shortcut == "none":
        assert found == ()
        return
    assert [one.block for one in found] == list(config.blocks)
    sequence: dict[str, Any] = sequential_modules(model)
    x = image
    for name, step in sequence.items():
        if name in config.blocks:
            one = found[config.blocks.index(name)]
            given = x if config.order == "post" else step.act1(step.bn1(x))
            branch = step.branch(given)
            projected = config.order == "pre" and isinstance(step.downsample, nn.Sequential)
            shortcut = step.downsample(given if projected else x)
            norms = [values.double().square().sum().sqrt().item() for values in (branch, shortcut, branch + shortcut)]
            assert [one.branch, one.shortcut, one.total] == pytest.approx(norms, rel=1e-5)
            assert one.ratio == pytest.approx(norms[0] / norms[1], rel=1e-5)
            parts = addition(model, image, name, CPU)
            np.testing.assert_allclose(parts.branch, branch[0].numpy(), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(parts.shortcut, shortcut[0].numpy(), rtol=1e-5, atol=1e-6)
            assert np.array_equal(parts.branch + parts.shortcut, parts.total)
            if config.order == "post":
                assert parts.activation is not None
                assert np.array_equal(parts.activation, parts.total.clip(min=0))
            else:
                assert parts.activation is None
        x = step(x)
    assert torch.equal(x, model(image))
    assert not any(module._forward_hooks for module in model.modules())


def test_a_block_that_is_off_still_shows_what_it_would_add() -> None:
    config = ResNetConfig(**SMALL)
    model, image = frozen(config), noise(config)
    off = without_blocks(model, ["layer1.0"])
    before, after = (addition(one, image, "layer1.0", CPU) for one in (model, off))
    assert np.array_equal(before.branch, after.branch)
    assert np.array_equal(after.total, after.shortcut)
    assert contributions(off, image, CPU)[0].ratio == contributions(model, image, CPU)[0].ratio


def test_ratios_beside_nothing() -> None:
    assert Contribution("b", 3.0, 2.0, 4.0).ratio == 1.5
    assert Contribution("b", 3.0, 0.0, 3.0).ratio == np.inf
    assert np.isnan(Contribution("b", 0.0, 0.0, 0.0).ratio)


# -- each block in turn -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet20", "plain20"])
def test_each_lesion_is_a_network_of_its_own(name: str) -> None:
    """Against one whole pass for each block: the shared beginning changes nothing."""
    weights = bundled(BUNDLED[name])[0]
    model = load(weights).requires_grad_(False)
    images, labels = (
        normalised(labelled_images().images[:60], weights.data.preprocessing),
        labelled_images().labels[:60].tolist(),
    )
    found = list(ablations(model, images, labels, switchable_blocks(weights.config), CPU))
    assert [one.block for one in found] == [*switchable_blocks(weights.config), ""]
    for one in found:
        probabilities = without_blocks(model, [one.block] if one.block else [])(images).softmax(1)
        error = sum(int(row.argmax()) != label for row, label in zip(probabilities, labels, strict=True)) / 60
        right = sum(float(row[label]) for row, label in zip(probabilities, labels, strict=True)) / 60
        assert one.error == pytest.approx(error)
        assert one.right_probability == pytest.approx(right, abs=1e-4)


def test_images_in_parts_are_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = bundled(BUNDLED["resnet20"])[0]
    model = load(weights).requires_grad_(False)
    images, labels = (
        normalised(labelled_images().images[:30], weights.data.preprocessing),
        labelled_images().labels[:30].tolist(),
    )
    once = list(ablations(model, images, labels, ["layer1.0"], CPU))
    monkeypatch.setattr("explorer.inference.ablation.BATCH_SIZE", 7)
    for one, again in zip(once, ablations(model, images, labels, ["layer1.0"], CPU), strict=True):
        assert (one.block, one.error) == (again.block, again.error)
        assert one.right_probability == pytest.approx(again.right_probability, abs=1e-5)


def test_fewer_images_of_a_large_network_go_through_together() -> None:
    """So that each turn keeps to the limits of a pass."""
    sizes = {planes: batch_size(trace(BUNDLED["resnet20"].with_(planes=planes)[0], 28)) for planes in WIDTHS}
    assert sizes[16, 32, 64] == BATCH_SIZE
    assert BATCH_SIZE > sizes[256, 256, 256] > sizes[1024, 1024, 1024] >= 1


WIDTHS = ((16, 32, 64), (256,) * 3, (1024,) * 3)


def test_a_plain_network_cannot_spare_a_block() -> None:
    """Veit 2016, figure 3, on 200 of the shipped images."""
    median = {}
    for name in ("resnet20", "plain20"):
        weights = bundled(BUNDLED[name])[0]
        images = normalised(labelled_images().images[:200], weights.data.preprocessing)
        found = list(
            ablations(
                load(weights), images, labelled_images().labels[:200].tolist(), switchable_blocks(weights.config), CPU
            )
        )
        assert found[-1].error < 0.15
        median[name] = np.median([one.error for one in found[:-1]])
    assert median["resnet20"] < 0.3
    assert median["plain20"] > 0.7


# -- the labelled images ------------------------------------------------------------------


def test_labelled_images_hold_the_samples() -> None:
    """A sample's file name says where in the test set it stands."""
    images, labels = labelled_images()
    assert images.shape == (500, 28, 28)
    assert images.dtype == labels.dtype == np.uint8
    assert set(labels.tolist()) == set(range(10))
    names = FASHION_MNIST.categories
    held = 0
    for sample in samples():
        if sample.label in names:
            index = int("".join(character for character in sample.file.rsplit("/", 1)[1] if character.isdigit()))
            pixels = np.asarray(open_image(sample.open()).convert("L"))
            if index < 500:
                held += 1
                assert np.array_equal(images[index], pixels)
                assert names[labels[index]] == sample.label
    assert held == 30
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_images_are_normalised_as_an_image_is_prepared() -> None:
    sample = next(sample for sample in samples() if sample.label == "Sneaker")
    image = open_image(sample.open())
    prepared = prepare(image, FASHION_MNIST.preprocessing, invert=False)
    grey = np.asarray(image.convert("L"))
    found = normalised(grey[None], FASHION_MNIST.preprocessing)
    torch.testing.assert_close(found, prepared.tensor)


# -- charts -------------------------------------------------------------------------------


def test_bars_are_the_ratios_and_blocks_off_are_hollow() -> None:
    found = [Contribution(f"layer{stage}.0", float(stage), 2.0, 3.0) for stage in (1, 2, 3)]
    figure = inference.contribution_figure(found, "layer2.0", ["layer3.0"])
    assert [list(bar.y) for bar in figure.data] == [[0.5], [1.0], [1.5]]
    assert [bar.marker.color[0] == colour(f"stage {stage}") for stage, bar in enumerate(figure.data, 1)] == [
        True,
        True,
        False,
    ]
    assert [bar.marker.line.width[0] for bar in figure.data] == [1, 3, 1]


@pytest.mark.parametrize(("label", "values"), [("Error", [0.5, 0.2]), ("Probability of the right class", [0.4, 0.7])])
def test_lesions_stand_in_order_of_depth_beside_the_whole(label: str, values: list[float]) -> None:
    first = [Ablation("layer1.2", 0.5, 0.4), Ablation("layer1.10", 0.2, 0.7), Ablation("", 0.1, 0.9)]
    second = [Ablation("layer2.0", 0.8, 0.1), Ablation("", 0.3, 0.6)]
    figure = inference.ablation_figure({"A": first, "B": second}, label, "3 images")
    assert list(figure.data[0].y) == values
    assert list(figure.layout.xaxis.categoryarray) == ["layer1.2", "layer1.10", "layer2.0"]
    whole = first[-1].error if label == "Error" else first[-1].right_probability
    assert set(figure.data[1].y) == {whole}
    assert f"{whole:.1%}" in figure.data[1].name

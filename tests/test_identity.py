"""Blocks that copy their input: bit equality, where it fails, and the weights of a plain block by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest
from torch import Tensor, nn

from explorer.analysis.trace import trace
from explorer.experiments.identity import (
    BLOCK_COUNTS,
    BUDGET,
    KINDS,
    MAX_IMAGES,
    MAX_NOISE,
    PLAIN,
    PLAIN_IDENTITY,
    PLAIN_ZERO,
    RESIDUAL_ZERO,
    AppendResult,
    AppendSettings,
    Outcome,
    append,
    become_identity,
    default_append,
    experiment,
    image_count,
    new_blocks,
    obstacle,
    parse_append,
    weight_distance,
)
from explorer.inference.preprocess import normalised
from explorer.inference.samples import labelled_images
from explorer.inference.turns import TooLargeError
from explorer.sharing.store import RESULTS
from explorer.units import scientific
from explorer.views.experiments import identity as view
from helpers import CPU, captions, frozen, link, name_of, opened, page_text, said, select
from resnet import ConfigError, ResNetConfig, preset
from resnet.weights import BUNDLED, FASHION_MNIST, bundled, load

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"layers": (1, 2), "planes": (8, 16), "num_classes": 7, "stem": "3x3", "stem_pool": "none"}


def small(**options: object) -> ResNetConfig:
    return ResNetConfig(**{**SMALL, "block": "basic", "shortcut": "A", **options})  # type: ignore[arg-type]


def noise(config: ResNetConfig, count: int = 4) -> Tensor:
    return torch.randn(count, config.in_channels, 16, 16, generator=torch.Generator().manual_seed(1))


def run(config: ResNetConfig, place: AppendSettings | None = None) -> AppendResult:
    images = noise(config)
    *outcomes, found = experiment(frozen(config), place or AppendSettings(1, 2), images, torch.arange(4), CPU)
    assert isinstance(found, AppendResult)
    assert tuple(outcomes) == found.outcomes
    return found


def of(found: AppendResult, kind: str) -> Outcome:
    (one,) = [one for one in found.outcomes if one.kind == kind]
    return one


# -- residual: to the last bit ------------------------------------------------------------

EXACT = [
    small(),
    small(shortcut="B", block="bottleneck", attention="se"),
    small(shortcut="D", norm="none", attention="eca"),
    small(norm="group", drop_path=0.3),
    small(order="pre", activation="gelu"),
    small(order="pre", activation="leaky_relu", block="bottleneck", shortcut="B"),
    small(shortcut="none"),
]
INEXACT = [
    small(activation="leaky_relu"),
    small(activation="elu"),
    small(activation="gelu"),
    small(activation="silu"),
    small(shortcut="C"),
]


@pytest.mark.parametrize("place", [AppendSettings(1, 1), AppendSettings(2, 4)], ids=AppendSettings.to_text)
@pytest.mark.parametrize("config", EXACT, ids=name_of)
def test_a_zero_branch_changes_no_bit(config: ResNetConfig, place: AppendSettings) -> None:
    found = run(config, place)
    zero = of(found, RESIDUAL_ZERO)
    assert (zero.difference, zero.equal_images, zero.same_class) == (0, 4, 1)
    for kind in (PLAIN_ZERO, PLAIN):
        assert of(found, kind).equal_images < 4
        assert of(found, kind).difference > 1e-3


@pytest.mark.parametrize("config", INEXACT, ids=name_of)
def test_where_a_zero_branch_is_not_the_identity(config: ResNetConfig) -> None:
    zero = of(run(config), RESIDUAL_ZERO)
    assert zero.equal_images == 0
    assert zero.difference > 1e-6
    assert view.reason(config, run(config))


@pytest.mark.parametrize("config", [EXACT[0], EXACT[4], INEXACT[0]], ids=name_of)
def test_the_whole_network_says_so_too(config: ResNetConfig) -> None:
    """From image to scores, in place of features that are shared; bits by NumPy."""
    model, images, place = frozen(config), noise(config), AppendSettings(1, 3)
    deeper = append(model, place, new_blocks(config, place, plain=False, zero=True))
    before, after = model(images).numpy(), deeper(images).numpy()
    assert len(deeper.stages[0]) == 4
    assert len(model.stages[0]) == 1
    equal = before.tobytes() == after.tobytes()
    assert equal == (config.order == "pre" or config.activation == "relu")
    assert np.abs(after - before).max() == pytest.approx(of(run(config, place), RESIDUAL_ZERO).difference)


def test_a_negative_number_survives_one_activation_and_not_two() -> None:
    """Independent of torch: leaky ReLU of leaky ReLU."""
    x = -1.0
    leaky = [max(0.01 * value, value) for value in (x, max(0.01 * x, x))]
    assert leaky[0] != leaky[1]
    config = small(activation="leaky_relu")
    (block,) = new_blocks(config, AppendSettings(1, 1), plain=False, zero=True)
    assert float(block(torch.full((1, 8, 4, 4), x))[0, 0, 1, 1]) == pytest.approx(leaky[0])


def test_shipped_networks_keep_every_bit_and_their_accuracy() -> None:
    images, labels = labelled_images()
    for name, count in (("resnet20", 100), ("plain20", 50)):
        weights = bundled(BUNDLED[name])[0]
        model = load(weights).requires_grad_(False)
        inputs = normalised(images[:count], FASHION_MNIST.preprocessing)
        truth = torch.tensor(labels[:count], dtype=torch.long)
        *_, found = experiment(model, AppendSettings(3, 4), inputs, truth, CPU)
        assert isinstance(found, AppendResult)
        right = float((model(inputs).argmax(1) == truth).double().mean())
        assert found.accuracy == right > 0.85
        zero, copied = of(found, RESIDUAL_ZERO), of(found, PLAIN_IDENTITY)
        assert (zero.equal_images, zero.difference, zero.accuracy) == (count, 0, right)
        assert copied.accuracy == right
        assert 0 < copied.difference < 1e-4  # rounding of fp32
        assert of(found, PLAIN).accuracy < right - 0.3
        assert of(found, PLAIN_ZERO).accuracy < right - 0.3


# -- plain: the weights of the identity ---------------------------------------------------


def test_plain_and_residual_blocks_have_the_same_weights() -> None:
    config = small(shortcut="B", attention="se")
    for zero in (True, False):
        pair = [new_blocks(config, AppendSettings(2, 2), plain, zero) for plain in (True, False)]
        for bare, residual in zip(*pair, strict=True):
            assert bare.plain
            assert not residual.plain
            assert all(map(torch.equal, bare.parameters(), residual.parameters()))
            assert bool(residual.bn2.weight.any()) != zero
            x = torch.rand(1, 16, 6, 6)
            torch.testing.assert_close(residual(x), (bare.se(bare.branch(x)) + x).relu())


@pytest.mark.parametrize(
    "config", [small(shortcut="none"), small(norm="none"), small(attention="se"), small(attention="eca")], ids=name_of
)
def test_a_plain_block_can_copy(config: ResNetConfig) -> None:
    x = torch.rand(3, 8, 9, 9, generator=torch.Generator().manual_seed(0)) * 5
    blocks = new_blocks(config, AppendSettings(1, 3), plain=True, zero=False)
    assert not torch.allclose(nn.Sequential(*blocks)(x), x)
    copied = become_identity(blocks, x)
    torch.testing.assert_close(copied, x, rtol=1e-5, atol=1e-5)
    assert torch.equal(copied, nn.Sequential(*blocks)(x))
    if config.norm == "none":  # nothing to round
        assert torch.equal(copied, x)


def test_the_weights_are_those_of_the_formula() -> None:
    """The kernel and the norm's inverse, written out."""
    x = torch.rand(3, 8, 9, 9, generator=torch.Generator().manual_seed(0)) * 5
    block: Any
    (block,) = new_blocks(small(shortcut="none"), AppendSettings(1, 1), plain=True, zero=False)
    become_identity([block], x)
    dirac = torch.zeros(8, 8, 3, 3)
    dirac[range(8), range(8), 1, 1] = 1
    assert torch.equal(block.conv1.weight, dirac)
    assert torch.equal(block.conv2.weight, dirac)
    per_channel = x.permute(1, 0, 2, 3).flatten(1).numpy()
    for norm in (block.bn1, block.bn2):
        np.testing.assert_allclose(norm.running_mean, per_channel.mean(1), rtol=1e-5)
        np.testing.assert_allclose(norm.weight, np.sqrt(per_channel.var(1) + 1e-5), rtol=1e-5)
        np.testing.assert_allclose(norm.bias, per_channel.mean(1), rtol=1e-5)


def test_where_there_are_no_such_weights() -> None:
    for config, words in (
        (small(block="bottleneck", shortcut="B"), "64 channels do not fit through the 16"),
        (small(norm="group"), "Group norm"),
    ):
        assert words in obstacle(config, 2)
        found = run(config, AppendSettings(2, 1))
        assert found.to_identity is None
        assert [one.kind for one in found.outcomes] == list(KINDS[:-1])
        with pytest.raises(ValueError, match=r"do not fit|no fixed inverse"):
            become_identity(
                new_blocks(config, AppendSettings(2, 1), plain=True, zero=False),
                torch.rand(1, config.stage_channels[1], 4, 4),
            )
    wide = small(block="bottleneck", shortcut="B", base_width=256)
    assert obstacle(wide, 2) == ""
    assert of(run(wide), PLAIN_IDENTITY).difference < 1e-3


def test_how_far_it_is() -> None:
    config, place = small(), AppendSettings(2, 1)
    (start,) = new_blocks(config, place, plain=True, zero=False)
    (copy,) = new_blocks(config, place, plain=True, zero=False)
    x = torch.rand(2, 16, 8, 8)
    become_identity([copy], x)
    found = weight_distance(start, copy)
    convolutions = 2 * 9 * 16 * 16
    assert found.changed_parameters == convolutions + 4 * 16
    squares = sum(float(((a - b) ** 2).sum()) for a, b in zip(start.parameters(), copy.parameters(), strict=True))
    assert found.distance == pytest.approx(math.sqrt(squares), rel=1e-5)
    std = math.sqrt(2 / (9 * 16))  # He initialisation, fan out
    # Every weight moves from N(0, std) to zero, and one in a kernel's own channel to one.
    assert found.deviations == pytest.approx(math.sqrt(convolutions + 32 / std**2), rel=0.03)
    assert 1 / std - 5 < found.largest_change < 1 / std + 5
    zero = weight_distance(start, new_blocks(config, place, plain=False, zero=True)[0])
    assert (zero.changed_parameters, zero.distance, zero.deviations) == (16, 4, 0)


# -- settings and limits ------------------------------------------------------------------


def test_a_place_goes_through_a_link() -> None:
    config = preset("resnet20")
    for stage in (1, 2, 3):
        for count in BLOCK_COUNTS:
            assert parse_append(AppendSettings(stage, count).to_text(), config) == AppendSettings(stage, count)
            assert parse_append(f"{stage}-{count}", config) == AppendSettings(stage, count), "an older link"
    assert parse_append("", config) == default_append(config)
    assert parse_append("blocks-4", config) == AppendSettings(3, 4)
    for text in ("4-1", "0-1", "1-3", "1", "a-b", "1-1-1", "stage-4", "blocks-3", "stage-x", "stage-1_blocks"):
        with pytest.raises(ConfigError, match="a stage from 1 to 3, and 1, 2, 4, 8, 16 blocks"):
            parse_append(text, config)


def test_what_can_be_afforded() -> None:
    small_one, large = trace(BUNDLED["resnet20"], 28), trace(preset("resnet152"), 224)
    assert image_count(small_one, AppendSettings(3, 8), trained=True) == MAX_IMAGES
    assert image_count(small_one, AppendSettings(3, 8), trained=False) == MAX_NOISE
    assert (
        image_count(small_one, AppendSettings(1, 16), trained=True) * (small_one.macs + 80 * 2 * 9 * 16**2 * 28**2)
        < BUDGET
    )
    with pytest.raises(TooLargeError, match="GMACs, and the limit is 100 GMACs"):
        image_count(trace(preset("resnet1202"), 512), AppendSettings(1, 16), trained=False)
    assert image_count(large, AppendSettings(1, 1), trained=False) < MAX_NOISE


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (-0.0, "0"),
        (-0.004, "-0.004"),
        (0.42, "0.42"),
        (129.4, "130"),
        (1.9e-6, "1.9·10⁻⁶"),
        (8e11, "8·10¹¹"),
        (12345, "12,000"),
    ],
)
def test_how_numbers_are_written(number: float, text: str) -> None:
    assert scientific(number) == text


# -- the page -----------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few images; the results of other tests are forgotten."""
    monkeypatch.setattr(view, "image_count", lambda *_: 20)
    RESULTS.clear()


def page(**query: str) -> AppTest:
    return opened("experiments", tab="Identity", **query)


@pytest.mark.usefixtures("few")
def test_a_trained_network_is_unchanged_to_the_last_bit() -> None:
    app = page(preset="resnet20_fashion", appended="blocks-4")
    assert "**To the last bit.**" in page_text(app)
    assert "all scores of all 20 images are unchanged: the largest difference is 0" in page_text(app)
    assert "the first 20 images of Fashion-MNIST's test set" in captions(app)
    table = app.dataframe[0].value
    assert list(table["Appended"]) == list(KINDS)
    assert table["Same bits"][0] == "20 of 20"
    assert not app.warning


@pytest.mark.usefixtures("few")
def test_another_activation_says_why_it_is_not_exact() -> None:
    app = page(preset="resnet20", activation="leaky_relu", appended="2-1")
    assert "**Not the identity here.**" in page_text(app)
    assert "leaky relu of leaky relu is not leaky relu" in page_text(app)
    assert "the network is untrained" in captions(app)
    assert "Top-1 accuracy" not in app.dataframe[0].value
    assert "**To the last bit.**" in page_text(page(preset="resnet20", activation="leaky_relu", order="pre"))


@pytest.mark.usefixtures("few")
def test_a_bottleneck_says_that_its_plain_form_cannot_copy() -> None:
    app = page(experiment="own")
    assert "2,048 channels do not fit through the 512 in its middle" in page_text(app)
    assert PLAIN_IDENTITY not in list(app.dataframe[0].value["Appended"])


@pytest.mark.usefixtures("few")
def test_the_place_is_chosen_and_in_the_link() -> None:
    app = select(page(preset="resnet20_fashion"), "append blocks", 2)
    assert link(app)["appended"] == "stage-3_blocks-2"
    assert "2 more blocks after stage 3: 24 layers in place of 20" in page_text(app)
    app = select(app, "append stage", 1)
    assert link(app)["appended"] == "stage-1_blocks-2"
    app = select(app, "identity network", "shipped-56")
    assert app.session_state["view"].config == BUNDLED["resnet20"]
    assert (link(app)["appended"], link(app)["experiment"]) == ("stage-1_blocks-2", "shipped-56")
    assert "Plain-56 with 2 more blocks after stage 1" in page_text(app)


@pytest.mark.usefixtures("few")
def test_a_place_that_the_network_has_not_is_said() -> None:
    app = page(preset="resnet20_fashion", appended="9-4")
    (words,) = said(app.warning)
    assert "a stage from 1 to 3" in words
    assert "8 blocks after stage 3 are appended instead" in words
    assert "8 more blocks after stage 3" in page_text(app)


def test_a_network_too_large_says_so() -> None:
    (words,) = said(page(planes="1024-2048-4096-8192").info)
    assert "and the limit is 1.0 GiB" in words

"""An explanation under random weights and without its pixels: against networks and curves made by hand."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.inference import attribution, sanity
from explorer.inference.ablation import without_blocks
from explorer.inference.attribution import grad_cam
from explorer.inference.preprocess import prepare
from explorer.inference.sanity import CAM, PIXELS, WHOLE, Checks
from explorer.sharing.store import RESULTS
from explorer.views.inference import sanity as views
from helpers import CLOTHES, CPU, captions, click, every_choice, frozen, looked, small, texts
from resnet import ResNet, ResNetConfig
from resnet.weights import BUNDLED, FASHION_MNIST, bundled, load, randomly


@pytest.fixture(scope="module")
def shipped() -> ResNet:
    return load(bundled(BUNDLED["resnet20"])[0]).requires_grad_(False)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return prepare(CLOTHES[0].image(), FASHION_MNIST.preprocessing).tensor


@pytest.mark.parametrize("config", every_choice()[::7], ids=str)
def test_each_group_is_made_random_once_and_the_model_never(config: ResNetConfig) -> None:
    model = frozen(config)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(1)  # so that no tensor is what it is at initialisation
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fresh = randomly(config).state_dict()
    names, networks = zip(*sanity.cascade(model), strict=True)
    assert names == (WHOLE, "head", "layer2", "layer1", "stem")[: len(names)] or len(config.layers) == 4
    changed = []
    for network in networks:
        state = network.state_dict()
        assert all(torch.equal(tensor, before[key]) or torch.equal(tensor, fresh[key]) for key, tensor in state.items())
        changed.append({key for key, tensor in state.items() if not torch.equal(tensor, before[key])})
    assert changed[0] == set()
    assert changed[1] >= {"fc.weight", "fc.bias"}
    assert all(one < other for one, other in pairwise(changed))
    assert changed[-1] == set(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_random_network_stays_without_what_is_off(shipped: ResNet, image: torch.Tensor) -> None:
    off = ["layer1.1", "layer3.2:5"]
    *_, (name, last) = sanity.cascade(without_blocks(shipped, off), off)
    assert name == "stem"
    assert torch.equal(last(image), without_blocks(randomly(shipped.config).requires_grad_(False), off)(image))


@given(st.lists(st.integers(0, 6), min_size=2, max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_rank_correlation_is_that_of_counted_ranks(values: list[int], chance: random.Random) -> None:
    others = [chance.randint(0, 5) for _ in values]

    def counted(numbers: list[int]) -> list[float]:
        return [sum(b < a for b in numbers) + (sum(b == a for b in numbers) - 1) / 2 for a in numbers]

    found = sanity.rank_correlation(np.array(values, float), np.array(others, float))
    if len(set(values)) == 1 or len(set(others)) == 1:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(np.corrcoef(counted(values), counted(others))[0, 1])


def test_a_deletion_curve_is_that_of_images_made_one_by_one(shipped: ResNet, image: torch.Tensor) -> None:
    order = np.random.default_rng(0).permutation(28 * 28)
    shares: list[float] = []
    ours = sanity.deletion(shipped, image, order, 9, CPU, 4, shares.append, steps=10)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    for step, value in enumerate(ours):
        by_hand = image.clone()
        for pixel in order[: round(step * 78.4)]:
            by_hand[0, 0, pixel // 28, pixel % 28] = 0
        assert value == pytest.approx(F.softmax(shipped(by_hand), 1)[0, 9].item(), abs=1e-5)
    assert sanity.area(np.array([1.0, 0.5, 0.0])) == pytest.approx(0.5)
    assert sanity.area(ours) == pytest.approx(np.trapezoid(ours, dx=0.1))


def test_pixels_are_removed_by_their_value() -> None:
    values = np.array([[0.0, 3.0], [0.0, -1.0]])
    orders = {tuple(sanity.removal_order(values, seed)) for seed in range(20)}
    assert orders == {(1, 0, 2, 3), (1, 2, 0, 3)}
    np.testing.assert_allclose(sanity.on_pixels(np.eye(2, dtype=np.float32), (2, 2)), np.eye(2))


def test_both_checks_of_a_shipped_network(shipped: ResNet, image: torch.Tensor) -> None:
    target = int(shipped(image).argmax())
    shares: list[float] = []
    found = sanity.check(shipped, image, "layer3.2.act", target, CPU, (), 32, 4, shares.append)
    assert [one.name for one in found.cascade] == [WHOLE, "head", "layer3", "layer2", "layer1", "stem"]
    first, last = found.cascade[0], found.cascade[-1]
    assert (first.cam_rank, first.pixel_rank, first.magnitude_rank) == pytest.approx((1, 1, 1))
    np.testing.assert_array_equal(first.cam, grad_cam(shipped, image, ["layer3.2.act"], target, CPU)["layer3.2.act"])
    assert abs(last.pixel_rank) < 0.5
    assert not np.array_equal(first.pixels, last.pixels)
    score = F.softmax(shipped(image), 1)[0, target].item()
    curves = [*found.curves.values(), *found.random]
    assert list(found.curves) == [CAM, PIXELS]
    assert [curve[0] for curve in curves] == pytest.approx([score] * len(curves), abs=1e-5)
    assert len({round(float(curve[-1]), 4) for curve in curves}) == 1
    assert sanity.area(found.curves[PIXELS]) < sanity.area(found.random.mean(0))
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    assert sanity.passes(small_model := frozen(small())) > 0
    assert list(sanity.groups(small_model)) == ["head", "layer2", "layer1", "stem"]


# -- the page -----------------------------------------------------------------------------


def test_the_checks_are_made_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With two random orders, and two steps of integration in the cascade."""
    asked: list[tuple[str, int]] = []
    real = sanity.check

    def noted(model: ResNet, image: torch.Tensor, layer: str, target: int, *rest: Any) -> sanity.Checks:
        asked.append((layer, target))
        return real(model, image, layer, target, *rest)

    monkeypatch.setattr(sanity, "check", noted)
    monkeypatch.setattr(sanity, "ORDERS", 2)
    monkeypatch.setattr(attribution, "STEPS", 2)
    app = looked("Why this class", preset="resnet20_fashion", image="0009-sneaker", **{"class": "Bag"})
    assert asked == []
    (label,) = [button.label for button in app.button if button.label.startswith("Check them, about")]
    click(app, label)
    assert asked == [("layer3.2.act", FASHION_MNIST.categories.index("Bag"))]
    assert any("the rank correlation with the trained network's map is" in text for text in texts(app))
    assert any("Area under the curve, lower where the score of Bag falls sooner" in text for text in texts(app))
    RESULTS.clear()  # of few steps


def test_untrained_weights_are_not_checked() -> None:
    app = looked("Why this class", preset="resnet20_fashion", weights="random", image="0009-sneaker")
    assert "These weights are untrained" in captions(app)
    assert not [button.label for button in app.button if button.label.startswith("Check them")]


def test_the_deletion_check_speaks_against_an_explanation_too() -> None:
    falling, staying = np.array([1.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.0])
    chance = np.array([[1.0, 0.4, 0.0], [1.0, 0.6, 0.0]])

    def words(cam: np.ndarray, pixels: np.ndarray) -> str:
        return views.deletion_words(Checks((), {CAM: cam, PIXELS: pixels}, chance), "Bag")

    assert "Both remove the score sooner" in words(falling, falling)
    assert "Only Grad-CAM removes it sooner" in words(falling, staying)
    assert "Neither removes it sooner" in words(staying, staying)
    assert "**0.250** for Grad-CAM, **0.750** for Integrated gradients, and 0.500 (0.450 to 0.550)" in words(
        falling, staying
    )

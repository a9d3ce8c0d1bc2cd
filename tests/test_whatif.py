"""What is done to an image against torchvision, numpy and autograd; how far it reaches against two passes; channels off."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from explorer.analysis.parts import drawn_parts
from explorer.analysis.trace import trace
from explorer.inference import whatif
from explorer.inference.preprocess import prepare
from explorer.inference.samples import samples
from explorer.inference.whatif import Change
from helpers import CLOTHES, CPU
from resnet import ResNet
from resnet.weights import BUNDLED, FASHION_MNIST, bundled, load, random_weights

GREY = FASHION_MNIST.preprocessing


def picture(channels: int = 3, height: int = 20, width: int = 28, seed: int = 0) -> Tensor:
    """C×H×W of whole numbers in 0…255."""
    chance = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (channels, height, width), generator=chance).float()


@pytest.fixture(scope="module")
def shipped() -> ResNet:
    return load(bundled(BUNDLED["resnet20"])[0]).requires_grad_(False)


# -- the image ----------------------------------------------------------------------------


@pytest.mark.parametrize("down", [-70, -3, 0, 5, 20])
@pytest.mark.parametrize("right", [-28, -1, 0, 4])
def test_a_shift_is_torchvisions(down: int, right: int) -> None:
    theirs = functional.affine(picture(), 0, [right, down], 1, [0, 0], fill=[9.0, 9.0, 9.0])
    assert torch.equal(whatif.shifted(picture(), down, right, 9.0), theirs)


@pytest.mark.parametrize("degrees", [-170, -45, 7, 90])
def test_a_rotation_is_torchvisions(degrees: int) -> None:
    """Of a rectangle, with another fill in each channel, of which a pixel at the edge has the share that the image leaves it."""
    fill = torch.tensor([10.0, 120.0, 250.0])[:, None, None]
    theirs, covered = (
        functional.rotate(each, degrees, InterpolationMode.BILINEAR) for each in (picture(), torch.ones(3, 20, 28))
    )
    torch.testing.assert_close(
        whatif.rotated(picture(), degrees, fill), theirs + (1 - covered) * fill, rtol=0, atol=2e-3
    )


@pytest.mark.parametrize("sigma", [0.05, 0.7, 2.0, 8.0])
def test_a_blur_is_numpys_convolution(sigma: float) -> None:
    reach = math.ceil(3 * sigma)
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    ours = whatif.blurred(picture(2), sigma).numpy()
    for given_, found in zip(picture(2).double().numpy(), ours, strict=True):
        wide = np.pad(given_, reach, mode="edge")
        rows = np.apply_along_axis(np.convolve, 1, wide, kernel, "valid")
        np.testing.assert_allclose(found, np.apply_along_axis(np.convolve, 0, rows, kernel, "valid"), atol=1e-3)
    inner = torch.full((1, 9, 9), 77.0)
    torch.testing.assert_close(whatif.blurred(inner, sigma), inner)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.7, 4.0])
def test_contrast_is_torchvisions_on_grey(factor: float) -> None:
    theirs = functional.adjust_contrast(picture(1) / 255, factor) * 255
    torch.testing.assert_close(whatif.contrasted(picture(1), factor), theirs, rtol=0, atol=2e-3)


def test_noise_is_of_its_seed_and_of_its_size() -> None:
    middle = torch.full((3, 100, 100), 128.0)
    one = whatif.noisy(middle, 10, 3) - 128
    assert torch.equal(one, whatif.noisy(middle, 10, 3) - 128)
    assert not torch.equal(one, whatif.noisy(middle, 10, 4) - 128)
    assert abs(one.std().item() - 10) < 0.2
    assert abs(one.mean().item()) < 0.2
    far = whatif.noisy(middle, 128, 3)
    assert (far.min(), far.max()) == (0, 255)
    before = torch.get_rng_state()
    whatif.noisy(middle, 1, 3)
    assert torch.equal(torch.get_rng_state(), before)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_a_patch_hides_the_square_around_its_pixel(row: int, column: int, side: int) -> None:
    hidden = torch.isnan(whatif.occluded(picture(), row, column, side, math.nan))[0]
    by_hand = [
        [
            2 * abs(r - row + (side % 2 == 0) / 2) < side and 2 * abs(c - column + (side % 2 == 0) / 2) < side
            for c in range(28)
        ]
        for r in range(20)
    ]
    assert hidden.tolist() == by_hand


@pytest.mark.parametrize("epsilon", [0.5, 8.0, 300.0])
def test_a_step_of_fgsm_is_autograds(shipped: ResNet, epsilon: float) -> None:
    """Through the normalised image, whose gradient has the same sign."""
    x = whatif.pixels_of(prepare(CLOTHES[0].image(), GREY))
    z = whatif.network_input(x, GREY).requires_grad_()
    (-F.log_softmax(shipped(z), 1)[0, 3]).backward()
    assert z.grad is not None
    by_hand = np.clip(x.numpy() + epsilon * np.sign(z.grad[0].numpy()), 0, 255)
    ours = whatif.fgsm(shipped, x, 3, epsilon, GREY, CPU)
    np.testing.assert_array_equal(ours.numpy(), by_hand)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in shipped.parameters())


def test_a_step_of_fgsm_makes_the_class_less_likely(shipped: ResNet) -> None:
    for sample in CLOTHES[:4]:
        x = whatif.pixels_of(prepare(sample.image(), GREY))
        before = F.softmax(shipped(whatif.network_input(x, GREY)), 1)[0]
        target = int(before.argmax())
        after = F.softmax(shipped(whatif.network_input(whatif.fgsm(shipped, x, target, 4, GREY, CPU), GREY)), 1)[0]
        assert after[target] < before[target]


def test_nothing_is_done_without_a_change() -> None:
    """What the network takes is then bit by bit what it takes elsewhere, in grey, in colour, and of any depth."""
    config = BUNDLED["resnet20"].with_(in_channels=5)[0]
    for preprocessing in (GREY, random_weights(config, (30, 20)).data.preprocessing):
        prepared = prepare(samples()[0].image(), preprocessing)
        x = whatif.pixels_of(prepared)
        same = whatif.changed(x, Change(seed=4, place=(3, 3)), preprocessing)
        assert torch.equal(whatif.network_input(same, preprocessing), prepared.tensor)
    assert not Change(seed=4, place=(3, 3)).active
    assert Change(epsilon=1).active


def test_changes_come_in_their_order() -> None:
    mean = 255 * torch.tensor(GREY.mean)[:, None, None]
    by_hand = whatif.rotated(whatif.shifted(picture(1), 2, -3, 0.0), 30, 0.0)
    by_hand = whatif.noisy(whatif.contrasted(whatif.blurred(by_hand, 1.5), 2.0), 20, 7)
    by_hand = whatif.occluded(by_hand, 4, 5, 6, mean)
    change = Change(-3, 2, 30, 1.5, 2.0, 20, 7, 6, (4, 5), 9.0)
    assert torch.equal(whatif.changed(picture(1), change, GREY), by_hand)


# -- the network --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet20", "plain20"])
def test_the_effect_is_that_of_two_passes(name: str) -> None:
    model, traced = load(bundled(BUNDLED[name])[0]).requires_grad_(False), trace(BUNDLED[name], 28)
    x = whatif.pixels_of(prepare(CLOTHES[0].image(), GREY))
    before, after = (whatif.network_input(each, GREY) for each in (x, whatif.changed(x, Change(right=2), GREY)))
    found = whatif.effect(model, before, after, [layer.name for layer in traced.layers], CPU)
    outputs: list[dict[str, Any]] = []
    for given_ in (before, after):
        kept: dict[str, Any] = {}
        handles = [
            model.get_submodule(layer.name).register_forward_hook(
                lambda _, __, output, name=layer.name, kept=kept: kept.update({name: output.numpy().astype(np.float64)})
            )
            for layer in traced.layers
        ]
        model(given_)
        outputs.append(kept)
        for handle in handles:
            handle.remove()
    one, other = outputs
    assert list(found.distances) == [layer.name for layer in traced.layers]
    for layer, ours in found.distances.items():
        theirs = np.sqrt(((other[layer] - one[layer]) ** 2).sum() / (one[layer] ** 2).sum())
        assert ours == pytest.approx(theirs, rel=1e-4)
    np.testing.assert_allclose(found.probabilities, F.softmax(model(after), 1)[0].numpy(), atol=1e-5)
    assert not any(module._forward_hooks for module in model.modules())
    parts = {part.identifier: part.layers[-1].name for part in drawn_parts(traced)}
    factors = [step.factor for step in whatif.steps(found, parts)]
    assert len(factors) == len(parts)
    assert found.image * math.prod(factors) == pytest.approx(found.distances["fc"])


def test_a_layer_that_is_zero_has_no_relative_change() -> None:
    nothing, something = torch.zeros(3), torch.ones(3)
    assert whatif.distance(nothing, nothing) == 0
    assert whatif.distance(nothing, something) == math.inf
    assert whatif.distance(something, 2 * something) == pytest.approx(1)
    found = whatif.Effect(np.ones(1), 0.5, {"a": math.inf, "b": 2.0, "c": 1.0})
    assert [step.name for step in whatif.steps(found, {"A": "a", "B": "b", "C": "c"})] == ["C"]

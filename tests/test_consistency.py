"""Shift consistency against pairs counted one by one; the blur put in front of weights that were trained without it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.inference.consistency import antialiased, consistency, same_shares, takes_blur
from explorer.inference.preprocess import normalised
from explorer.inference.samples import labelled_images
from helpers import CPU, frozen, outputs_of, small
from resnet import ResNet
from resnet.blocks import BlurPool2d
from resnet.weights import BUNDLED, FASHION_MNIST, bundled, load


@pytest.fixture(scope="module")
def shipped() -> ResNet:
    return load(bundled(BUNDLED["resnet20"])[0]).requires_grad_(False)


@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=2, max_size=9))
@settings(max_examples=60, deadline=None)
def test_pairs_that_agree_are_counted(rows: list[list[int]]) -> None:
    for column, share in enumerate(same_shares(np.array(rows))):
        agree = [one[column] == other[column] for one, other in combinations(rows, 2)]
        assert share == pytest.approx(np.mean(agree))


def test_the_class_at_every_shift(shipped: ResNet) -> None:
    """Each image moved by hand, with what is black after normalisation coming in."""
    images, labels = labelled_images()
    images, labels = images[:12], labels[:12]
    preprocessing = FASHION_MNIST.preprocessing
    black = -preprocessing.mean[0] / preprocessing.std[0]
    shares: list[float] = []
    given_ = normalised(images, preprocessing)
    found = consistency(shipped, given_, labels.tolist(), black, CPU, 5, shares.append, reach=1)
    named = []
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            wide = np.pad(images, ((0, 0), (1, 1), (1, 1)))
            moved = wide[:, 1 - down : 29 - down, 1 - right : 29 - right]
            named.append(shipped(normalised(moved, preprocessing)).argmax(1).numpy())
    agree = np.mean([one == other for one, other in combinations(named, 2)], axis=0)
    assert found.same == pytest.approx(np.mean(agree))
    assert found.error == pytest.approx(np.std(agree) / len(agree) ** 0.5)
    assert found.accuracy == pytest.approx((named[4] == labels).mean())
    assert found.shifted == pytest.approx((np.array(named) == labels).mean())
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_the_blur_has_the_networks_weights(shipped: ResNet) -> None:
    blurred = antialiased(shipped)
    assert blurred.config == shipped.config.with_(antialias="blur")[0]
    assert sum(isinstance(module, BlurPool2d) for module in blurred.modules()) == 2
    mine = blurred.state_dict()
    assert all(mine[name].data_ptr() == tensor.data_ptr() for name, tensor in shipped.state_dict().items())
    image = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(blurred(image), shipped(image))
    assert not blurred.training


def test_the_blur_leaves_each_weight_in_its_place() -> None:
    """In a stem whose pooling is a sequence, too: of an image of one colour inside, the middle is what it was."""
    model = frozen(small(stem_pool="conv"))
    blurred = antialiased(model)
    flat = torch.ones(1, 3, 256, 256)
    one, other = (outputs_of(each, flat, ["layer1.0"])["layer1.0"] for each in (model, blurred))
    assert torch.allclose(one[..., 32, 32], other[..., 32, 32], rtol=1e-4)


def test_no_blur_where_a_map_is_too_small_for_it() -> None:
    many = {"layers": (1,) * 6, "planes": (8,) * 6}
    assert takes_blur(BUNDLED["plain20"], (28, 28))
    assert not takes_blur(BUNDLED["plain20"].with_(antialias="blur")[0], (28, 28))
    assert takes_blur(small(**many), (256, 256))
    assert not takes_blur(small(**many), (28, 28))

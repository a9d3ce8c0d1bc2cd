"""Grad-CAM and integrated gradients against captum and against what they must add up to; kernels as images."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, LayerGradCam
from torch import nn

from explorer.drawing.rasters import npz, signed
from explorer.inference.attribution import (
    STEPS,
    first_convolution,
    grad_cam,
    initial_deviation,
    integrated_gradients,
    kernel_images,
)
from helpers import CPU
from resnet import ResNet, ResNetConfig, build, preset
from resnet.weights import BUNDLED, bundled, load, randomly


@pytest.fixture(scope="module")
def shipped() -> ResNet:
    return load(bundled(BUNDLED["resnet20"])[0]).requires_grad_(False)


def noise(channels: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("config", "layers"),
    [
        (preset("resnet18"), ["conv1", "layer1.0.conv1", "layer3.1.bn2", "layer4.1.act"]),
        (preset("resnet50").with_(layers=(1, 1, 1, 1))[0], ["layer2.0.downsample.0", "layer4.0.add"]),
        (preset("seresnet50").with_(layers=(1, 1))[0], ["layer1.0.se.scale", "layer2.0.conv3"]),
    ],
)
def test_grad_cam_is_captums(config: ResNetConfig, layers: list[str]) -> None:
    torch.manual_seed(0)
    model, image = randomly(config).requires_grad_(False), noise(3, 64)
    ours = grad_cam(model, image, layers, 7, CPU)
    for name in layers:
        image.requires_grad_()  # captum needs a graph that starts at the image
        theirs = LayerGradCam(model, model.get_submodule(name)).attribute(image, 7, relu_attributions=True)
        theirs = theirs[0, 0].detach().numpy() * (1 if theirs.ndim == 4 else 0)
        np.testing.assert_allclose(ours[name], theirs, rtol=1e-4, atol=1e-6 * max(1.0, np.abs(theirs).max()))
        image = image.detach()


def test_grad_cam_leaves_the_model_alone(shipped: ResNet) -> None:
    before = {name: tensor.clone() for name, tensor in shipped.state_dict().items()}
    image = noise(1, 28)
    scores = shipped(image)
    grad_cam(shipped, image, ["layer3.2.act"], 0, CPU)
    assert torch.equal(shipped(image), scores)
    assert not any(module._forward_hooks for module in shipped.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in shipped.state_dict().items())


def test_a_class_that_nothing_speaks_for_has_an_empty_map(shipped: ResNet) -> None:
    maps = [grad_cam(shipped, noise(1, 28), ["layer3.2.act"], c, CPU)["layer3.2.act"] for c in range(10)]
    assert all(found.shape == (7, 7) and found.min() >= 0 for found in maps)
    assert any(not np.array_equal(maps[0], other) for other in maps[1:])


def test_integrated_gradients_are_captums_and_complete(shipped: ResNet) -> None:
    image = noise(1, 28, 3)
    shares: list[float] = []
    found = integrated_gradients(shipped, image, 2, CPU, shares.append)
    theirs = IntegratedGradients(shipped).attribute(image, target=2, n_steps=STEPS)
    np.testing.assert_allclose(found.pixels, theirs[0, 0].detach().numpy(), rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        difference = (shipped(image) - shipped(torch.zeros_like(image)))[0, 2].item()
    assert found.difference == pytest.approx(difference, rel=1e-5)
    assert found.total == pytest.approx(difference, abs=0.15 * abs(difference) + 0.1)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_integrated_gradients_of_a_linear_network_are_weight_times_pixel() -> None:
    class Line(nn.Module):
        config = preset("resnet20")  # which the words for a failure name

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(12, 3, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x.flatten(1))

    model, image = Line().requires_grad_(False), noise(3, 2)
    found = integrated_gradients(model, image, 1, CPU)  # type: ignore[arg-type]
    expected = (model.fc.weight[1].reshape(3, 2, 2) * image[0]).sum(0)
    np.testing.assert_allclose(found.pixels, expected.numpy(), rtol=1e-4, atol=1e-6)
    assert found.total == pytest.approx(found.difference, rel=1e-4)


# -- weights ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "path"), [("resnet50", "conv1"), ("resnet50d", "conv1.0"), ("resnet20", "conv1")])
def test_the_first_convolution_reads_the_image(name: str, path: str) -> None:
    config = preset(name)
    found, kernels = first_convolution(build(config))
    assert found == path
    assert kernels.shape[:2] == (config.stem_width, config.in_channels)


def test_kernels_share_one_scale_and_zero_is_grey() -> None:
    kernels = np.zeros((2, 3, 3, 3), np.float32)
    kernels[0, 0, 1, 1], kernels[1, 2, 0, 2] = 2.0, -1.0
    first, second = kernel_images(kernels)
    assert first.shape == (3, 3, 3)
    assert first[1, 1].tolist() == [255, 128, 128]
    assert second[0, 2].tolist() == [128, 128, 64]
    assert np.unique(first[0]).tolist() == [128]


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_kernels_of_other_channels_are_grey(channels: int) -> None:
    kernels = np.random.default_rng(0).normal(size=(4, channels, 3, 3)).astype(np.float32)
    for kernel in kernel_images(kernels):
        assert np.array_equal(kernel[..., 0], kernel[..., 1])
        assert np.array_equal(kernel[..., 0], kernel[..., 2])
    assert kernel_images(np.full((1, 1, 1, 1), np.nan, np.float32))[0].shape == (1, 1, 3)


@pytest.mark.parametrize("name", ["conv1", "layer2.0.conv2", "layer4.2.conv3"])
def test_weights_start_with_the_deviation_that_is_said(name: str) -> None:
    torch.manual_seed(0)
    module: Any = build(preset("resnext50_32x4d")).get_submodule(name)
    assert initial_deviation(module) == pytest.approx(module.weight.std().item(), rel=0.03)
    assert initial_deviation(nn.ReLU()) is None


# -- files --------------------------------------------------------------------------------


def test_arrays_come_back_from_their_file() -> None:
    arrays = {"maps": np.random.default_rng(0).normal(size=(3, 4)), "names": np.array(["a", "ü"])}
    with np.load(io.BytesIO(npz(arrays))) as found:
        assert set(found) == set(arrays)
        assert all(np.array_equal(found[name], array) for name, array in arrays.items())


def test_signed_numbers_are_blue_white_red() -> None:
    blue, white, red = signed(np.array([[-2.0, 0.0, 2.0]]))[0].astype(int)
    assert blue[2] - blue[0] > 60
    assert red[0] - red[2] > 60
    assert white.min() > 235
    assert np.array_equal(signed(np.array([[5.0, -np.inf]]), 1.0), signed(np.array([[1.0, -1.0]])))
    assert signed(np.zeros((2, 2))).min() > 235

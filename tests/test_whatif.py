"""What is done to an image against torchvision, numpy and autograd; how far it reaches against two passes; channels off."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import expect
from streamlit.testing.v1 import AppTest
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from explorer.analysis.parts import drawn_parts
from explorer.analysis.trace import trace
from explorer.experiments.beside import shipped_beside
from explorer.inference import whatif
from explorer.inference.preprocess import prepare
from explorer.inference.samples import samples
from explorer.inference.whatif import Change
from explorer.sharing.store import RESULTS
from explorer.views.inference import ablation
from explorer.views.inference import whatif as views
from helpers import (
    CLOTHES,
    CPU,
    Visitor,
    captions,
    click,
    link,
    look_at,
    looked,
    own_checkpoint,
    run,
    said,
    select,
    texts,
)
from resnet import ResNet
from resnet.weights import BUNDLED, FASHION_MNIST, bundled, bundled_path, load, random_weights, read_checkpoint

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


def test_parts_that_are_not_read_are_left_out() -> None:
    def names(name: str, *off: str, headless: bool = False) -> list[str]:
        return [part.identifier for part in whatif.parts_in_use(trace(BUNDLED[name], 28), off, headless)]

    assert {*names("plain20")} - {*names("plain20", "layer1.1", "layer2.0:3")} == {"layer1.1"}
    assert names("resnet20") == names("resnet20", "layer1.1")
    assert names("resnet20")[:-1] == names("resnet20", headless=True)
    found = whatif.Effect(np.ones(1), 0.5, {"stem": 1.0, "fc": 0.0})
    assert "the scores by 0." in views.reach_words(found, {"stem": "stem", "fc": "fc"}, "28×28")
    assert "scores" not in views.reach_words(found, {"stem": "stem"}, "28×28")


# -- the page -----------------------------------------------------------------------------

SNEAKER = {"preset": "resnet20_fashion", "image": "0009-sneaker"}


def sneaker() -> Tensor:
    """1×28×28 in 0…255."""
    (sample,) = (sample for sample in samples() if sample.file.endswith("0009-sneaker.png"))
    return torch.tensor(np.asarray(sample.image().convert("L")), dtype=torch.float32)[None]


def said_of(shipped: ResNet, pixels: Tensor) -> tuple[str, str]:
    """The class that the shipped network names for 1×28×28 in 0…255, and how probable it is."""
    given_ = (pixels[None] / 255 - GREY.mean[0]) / GREY.std[0]
    probability, best = F.softmax(shipped(given_), 1)[0].max(0)
    return FASHION_MNIST.categories[int(best)], f"{probability.item():.1%}"


def verdict(app: AppTest) -> str:
    (words,) = [text for text in texts(app) if ", was " in text or "nothing changed yet" in text]
    return words


def test_the_prediction_follows_the_sliders(shipped: ResNet) -> None:
    app = looked("What if", **SNEAKER)
    assert not app.error
    assert verdict(app).endswith("nothing changed yet")
    app.slider(key="change right").set_value(-9)
    run(app)
    assert link(app)["change"] == "right--9"
    moved = torch.zeros(1, 28, 28)
    moved[:, :, :-9] = sneaker()[:, :, 9:]
    name, share = said_of(shipped, moved)
    assert f"**{name}**" in verdict(app)
    assert share in verdict(app)
    assert "The difference grows most in" in captions(app)
    app.slider(key="change patch").set_value(10)
    run(app)
    assert link(app)["change"] == "right--9_patch-10_place-14-14"
    select(app, "change place", "8-20")
    moved[:, 3:13, 15:25] = 255 * GREY.mean[0]
    assert said_of(shipped, moved)[1] in verdict(app)
    click(app, "As it was")
    assert "change" not in link(app)
    assert verdict(app).endswith("nothing changed yet")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("right-99", "right = 99 is not accepted: a whole number from -64 to 64. The defaults are shown instead."),
        ("<b>-1", "change = <b>-1 is not accepted: parts joined by _, such as right-4_rotate--10, each of right, down"),
        ("place-3", "place = 3 is not accepted: 2 whole numbers from 0 to 9999 joined by -."),
        ("contrast-nan", "contrast = nan is not accepted: a number from 0 to 4."),
        ("patch-4_place-50-3", "The patch lies outside of the 28×28 pixels, and hides nothing."),
    ],
)
def test_a_link_that_is_wrong_gets_one_sentence(change: str, sentence: str) -> None:
    app = looked("What if", **SNEAKER, change=change)
    (words,) = said(app.warning)
    assert words.startswith(sentence)
    assert not app.error


def test_what_is_typed_and_wrong_stays_to_be_mended() -> None:
    app = select(looked("What if", **SNEAKER, change="noise-20"), "change seed", "many")
    (words,) = said(app.warning)
    assert words == "Noise seed = many is not accepted: a whole number from 0 to 999999. The image is unchanged."
    assert (app.text_input(key="change seed").value, link(app)["change"]) == ("many", "noise-20")


def test_networks_without_a_verdict_say_so() -> None:
    app = looked("What if", preset="resnet18", weights="random", size="64", change="blur-2_epsilon-1")
    assert not app.error
    assert "Untrained, so no verdict." in texts(app)
    assert "The difference grows most in" in captions(app)
    assert "Move 500" not in str([button.label for button in app.button])


def test_channels_are_switched_off_beside_the_blocks(shipped: ResNet) -> None:
    app = looked("Blocks off", **SNEAKER, at="layer3.2", off="layer3.0:1")
    off = (*range(0, 64, 2),)
    app.multiselect(key="channels of layer3.2").set_value(list(off))
    run(app)
    assert link(app)["off"] == ",".join(["layer3.0:1", *(f"layer3.2:{channel}" for channel in off)])
    assert any(text.startswith("33 channels are off. The whole network says") for text in texts(app))
    handles = [
        shipped.get_submodule(name).register_forward_hook(
            lambda _, __, output, channels=channels: output.index_fill(1, torch.tensor(channels), 0)
        )
        for name, channels in (("layer3.0", [1]), ("layer3.2", off))
    ]
    name, share = said_of(shipped, sneaker())
    for handle in handles:
        handle.remove()
    assert f"**{name}**, {share}" in texts(app)
    click(app, "All channels on")
    assert "off" not in link(app)


def shift_rows(app: AppTest) -> list[list[str]]:
    """The cells of each network in the table of shift consistency."""
    (table,) = [text for text in texts(app) if text.startswith("| Network")]
    return [row.strip("| ").split(" | ")[1:] for row in table.splitlines()[2:]]


def test_shift_consistency_of_weights_that_ship_is_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "consistency", None)
    app = looked("What if", **SNEAKER)
    whole, blurred = shift_rows(app)
    right = shipped_beside().shifts["resnet20"]
    for cells, one in ((whole, right.whole), (blurred, right.blurred)):
        assert [float(cell.partition("%")[0]) for cell in cells] == [
            pytest.approx(100 * share, abs=0.051) for share in (one.same, one.accuracy, one.shifted)
        ]
        assert f"± {100 * one.error:.1f}" in cells[0]
    assert any("These weights were trained without anti-aliasing." in text for text in texts(app))


def test_shift_consistency_of_others_is_counted_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    few = ablation.labelled_images()
    for module in (ablation, views):
        monkeypatch.setattr(module, "labelled_images", lambda: type(few)(few.images[:10], few.labels[:10]))
    app = own_checkpoint(read_checkpoint(bundled_path("resnet20"))[0].state_dict(), preset="resnet20_fashion")
    click(look_at(app, tab="What if"), "Move 10 test images by up to 2 pixels each way")
    assert len(shift_rows(app)) == 2
    assert any("These weights were trained without anti-aliasing." in text for text in texts(app))
    RESULTS.clear()  # of few images


@pytest.mark.browser
def test_a_patch_is_moved_by_keyboard_and_by_pointer(visit: Visitor, shipped: ResNet) -> None:
    """The outline moves at once; the prediction, the link and the picture follow."""
    query = SNEAKER | {"tab": "What if", "change": "patch-10_place-14-8"}
    visit.open("/inference?" + urlencode(query))
    page = visit.page
    grid = page.locator(".st-key-changed-image svg")
    told = page.locator(".st-key-verdict-of-the-change")

    def expected(row: int, column: int) -> str:
        hidden = sneaker()
        hidden[:, row - 5 : row + 5, column - 5 : column + 5] = 255 * GREY.mean[0]
        return said_of(shipped, hidden)[1]

    expect(told).to_contain_text(expected(14, 8))
    grid.focus()
    page.keyboard.press("ArrowRight")
    visit.wait()
    page.keyboard.press("ArrowRight")  # the focus stays
    visit.wait()
    expect(told).to_contain_text(expected(14, 10))
    assert "place-14-10" in page.url
    box = grid.bounding_box()
    assert box
    side = min(box["width"], box["height"]) / 28
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    at = lambda row, column: (middle[0] + (column - 13.5) * side, middle[1] + (row - 13.5) * side)  # noqa: E731
    page.mouse.move(*at(14, 10))
    page.mouse.down()
    page.mouse.move(*at(10, 12))
    page.mouse.move(*at(7, 14))
    assert page.locator(".st-key-changed-image [data-id=patch]").get_attribute("transform") == "translate(4 -7)"
    page.mouse.up()
    visit.wait()
    assert "place-7-14" in page.url
    expect(told).to_contain_text(expected(7, 14))

"""What ships of networks side by side comes out again, and the page that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from explorer.analysis.trace import trace
from explorer.cli import main
from explorer.experiments import beside, probes
from explorer.experiments.lesions import (
    Lesion,
    draw,
    kendall_tau,
    lesions,
    live_images,
    movable_blocks,
    removals,
    swaps,
)
from explorer.experiments.probes import Readings, read_blocks, right
from explorer.experiments.shipped import labelled_inputs, shipped_network
from explorer.experiments.similarity import cka
from explorer.inference.consistency import antialiased, consistency
from explorer.inference.turns import TooLargeError
from explorer.link import View, tolerant
from explorer.views import cached
from explorer.views.beside import depth, networks, test_set
from explorer.views.beside import lesions as panel
from helpers import CPU, captions, click, opened, page_text, said
from resnet import ResNet
from resnet.presets import preset
from resnet.shipped import BUNDLED, NAMES, bundled_checkpoint
from resnet.weights import Weights, bundled, load, own_weights

# -- what ships ----------------------------------------------------------------------------


def test_the_shipped_probes_and_early_readings_come_out_again(one_thread: None) -> None:
    """On the test images that ship; training takes the whole training set, which does not."""
    shipped = probes.shipped_probes()
    assert set(shipped.networks) == set(BUNDLED)
    assert (shipped.trained_on, shipped.tested_on, shipped.seeds) == (60_000, 10_000, probes.SEEDS)
    images, labels = labelled_inputs(500)
    for name in ("resnet20", "plain20"):
        readings, found = read_blocks(shipped_network(name), images, CPU), shipped.networks[name]
        assert tuple(one.block for one in found.probes) == BUNDLED[name].blocks
        for one in found.probes:
            share = right(one.probe.scores(readings.features[one.block]), labels)
            assert share == pytest.approx(one.on_samples, abs=0.007)
            assert one.accuracy == pytest.approx(share, abs=0.06)
        for early in found.early:
            share = right(readings.early[early.block], labels)
            assert share == pytest.approx(early.on_samples, abs=0.005)
    for name in BUNDLED:
        assert shipped.networks[name].early[-1].accuracy == pytest.approx(accuracy_in_checkpoint(name), abs=2e-4)
    assert probes.RESULTS.read_text(encoding="utf-8") == probes.to_json(shipped, probes.DIGITS) + "\n"
    assert probes.RESULTS.stat().st_size < 300_000


def accuracy_in_checkpoint(name: str) -> float:
    found = bundled_checkpoint(BUNDLED[name])
    assert found is not None
    return found.accuracy


def test_a_part_of_what_ships_beside_each_other_comes_out_again(one_thread: None) -> None:
    shipped = beside.shipped_beside()
    assert shipped.images == 500
    assert shipped.seeds == tuple(range(len(shipped.seeds)))
    assert shipped.command == f"{beside.COMMAND} --draws {len(shipped.seeds)} --images {shipped.disturbed}"
    images, labels = labelled_inputs(500)
    rows = beside.shipped_blocks()
    found = cka(
        [one for name in ("resnet20", "plain20") for one in beside.block_grams(shipped_network(name), images, CPU)]
    )
    own = [rows.index((name, block)) for name in ("resnet20", "plain20") for block in BUNDLED[name].blocks]
    expected = torch.tensor(shipped.similarity, dtype=torch.double)
    torch.testing.assert_close(found, expected[own][:, own], atol=2e-3, rtol=0)
    assert len(rows) == len(expected) == len(expected[0])
    for name, config in BUNDLED.items():
        movable, curves = len(movable_blocks(config)), shipped.curves[name]
        assert [one.times for one in curves.removed] == [0, *[*range(1, movable + 1)] * len(shipped.seeds)]
        ends = [before for before, after in pairwise((*curves.swapped[1:], curves.swapped[1])) if after.times == 1]
        assert [one.tau for one in ends] == pytest.approx(
            [kendall_tau(swaps(config, 0)[-1], config.blocks)] * len(shipped.seeds), abs=1e-4
        )
    images, labels = images[: shipped.disturbed], labels[: shipped.disturbed]
    drawn, curves = draw(shipped_network("plain20"), 3, images, labels, CPU), shipped.curves["plain20"]
    assert_contains(curves.removed, drawn.removed)
    assert_contains(curves.swapped, drawn.swapped)
    orders = removals(BUNDLED["resnet56"], shipped.seeds[-1])[20:]
    again = lesions(shipped_network("resnet56"), list(enumerate(orders, start=20)), images, labels, CPU)
    assert_contains(shipped.curves["resnet56"].removed[-25:], again)
    assert beside.RESULTS.read_text(encoding="utf-8") == beside.to_json(shipped, beside.DIGITS) + "\n"


def test_a_part_of_how_much_shifts_change_comes_out_again(one_thread: None) -> None:
    shipped = beside.shipped_beside().shifts
    assert list(shipped) == list(BUNDLED)
    images, labels = labelled_inputs(500)
    network, black = shipped_network("resnet20"), float(images.min())
    found = consistency(network, images, labels.tolist(), black, CPU, 50)
    assert found == pytest.approx(shipped["resnet20"].whole, abs=0.003)
    hits = antialiased(network)(images).argmax(1) == labels
    assert float(hits.double().mean()) == pytest.approx(shipped["resnet20"].blurred.accuracy, abs=0.003)


def assert_contains(shipped: Sequence[Lesion], again: Sequence[Lesion]) -> None:
    """Each of the lesions is one of those that ship; other processors round differently, which moves a few images."""
    for one in again:
        near = [each for each in shipped if each.times == one.times and each.tau == pytest.approx(one.tau, abs=1e-4)]
        assert any(each.error == pytest.approx(one.error, abs=0.01) for each in near), one


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--draws 0", "draws = 0"),
        ("--draws 101", "draws = 101"),
        ("--images 501", "images = 501"),
        ("--images 0", "images = 0"),
    ],
)
def test_what_cannot_be_measured_is_said(arguments: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["beside", *arguments.split()]) == 2
    assert capsys.readouterr().err.startswith(f"explorer: {words} is not accepted: ")


# -- the page -----------------------------------------------------------------------------

DEPTH, TEST_SET, CURVES = "By depth", "On the test set", "Blocks out and swapped"


def test_a_link_names_two_to_four_networks() -> None:
    names = "resnet20_fashion,plain20_fashion,shown"
    view = View.from_query({"networks": names})
    assert view.networks == tuple(names.split(","))
    assert View.from_query(view.to_query()) == view
    for wrong in (
        "",
        "resnet56_fashion",
        "resnet56_fashion,resnet56_fashion",
        "resnet56_fashion,resnet50",
        f"{names},resnet56_fashion,plain56_fashion",
    ):
        found, problems = tolerant({"networks": wrong})
        assert found.networks == ()
        assert len(problems) == 1
        assert "two to 4 different ones of resnet20_fashion, plain20_fashion" in problems[0]
        assert "The usual two" in problems[0]


def test_depth_says_what_the_shipped_numbers_say() -> None:
    """The usual pair, whose results are there at once; the sentences hold its numbers, recomputed here from the file."""
    app = opened("beside", tab=DEPTH)
    words, found = page_text(app), probes.shipped_probes().networks
    for name, label in (("resnet56", "ResNet-56"), ("plain56", "Plain-56")):
        shares = [one.accuracy for one in found[name].probes]
        assert f"**{label}**: {shares[0]:.1%} after `layer1.0`, {shares[-1]:.1%} after `layer3.8`" in words
        assert f"its final {found[name].early[-1].accuracy:.1%}" in words
    rows = beside.shipped_blocks()
    similarity = beside.shipped_beside().similarity
    first = similarity[rows.index(("resnet56", "layer1.0"))][rows.index(("plain56", "layer1.0"))]
    assert f"CKA of {first:.2f} at `layer1.0`" in words
    assert "2210.16156" in captions(app)
    table = next(html.proto.body for html in app.get("html") if "Numbers by depth" in html.proto.body)
    assert table.count("<tr>") == 28


def test_similarity_that_is_not_defined_is_said_in_words() -> None:
    """A block that puts out the same for every image, the last block and all blocks: nowhere "nan", on the axes neither."""
    pair, count = [SHIPPED, MINE], 2 * len(MINE.blocks)
    early: dict[str, dict[str, float]] = {one.label: {one.blocks[-1]: 0.5} for one in pair}
    for dead in ([3], [count - 1], list(range(count // 2, count))):
        alike = np.full((count, count), 0.25)
        alike[dead], alike[:, dead] = np.nan, np.nan
        words = depth.statements(pair, {}, early, alike)
        whole = " ".join([*words, depth.similarity_words(pair, alike)])
        table = "".join(depth.number_rows(depth.numbers_by_block(pair, {}, early, alike), MINE.blocks))
        assert "nan" not in whole + table
        assert words[-1].startswith("CKA is not defined for `layer")
        assert table.count("not defined") == min(len(dead), count // 2)
        lines = depth.depth_lines(pair, {}, early, alike)
        assert len(lines[-1].values) == count // 2 - len(dead)
    assert words[-1].startswith("CKA is not defined for `layer1.0` to `layer3.2` (9) of ResNet")
    assert "ResNet\\-20, as shown not defined (not defined between" in whole


def test_parting_is_where_one_stays_ahead() -> None:
    ahead = depth.parting("A", "B", {"A": {"x": 0.5, "y": 0.7, "z": 0.9}, "B": {"x": 0.6, "y": 0.6, "z": 0.8}})
    assert ahead.startswith("**From `y` on, a probe of A stays ahead of one of B**")
    assert "70.0% against 60.0%" in ahead
    level = depth.parting("A", "B", {"A": {"x": 0.5, "z": 0.8}, "B": {"x": 0.9, "z": 0.81}})
    assert level.startswith("**A and B do not part**")
    lost = depth.course("A", {"x": 0.5, "y": 0.3, "z": 0.8})
    assert "after `y` a probe is 20.0 points below the best before it" in lost
    assert depth.since_when([1, 2, 1, 1], 1) == 2
    assert depth.since_when([1, 2], 1) is None


def test_confusion_and_neighbours_count_right() -> None:
    truth, given = torch.tensor([0, 0, 1, 9]).numpy(), torch.tensor([0, 1, 1, 3]).numpy()
    counts = test_set.confusion(given, truth)
    assert (counts[0, 0], counts[0, 1], counts[1, 1], counts[9, 3], counts.sum()) == (1, 1, 1, 1, 4)
    rows = torch.randn(30, 8, generator=torch.Generator().manual_seed(3))
    order, cosines = test_set.neighbours(rows.numpy(), rows[4].numpy() * 3)
    expected = nn.functional.cosine_similarity(rows, rows[4][None])
    assert order[0] == 4
    assert cosines == pytest.approx(expected.numpy(), abs=1e-5)
    assert list(order) == expected.argsort(descending=True).tolist()


def test_networks_of_different_depth_on_one_image_and_on_the_test_set() -> None:
    """A block that one lacks is said; each network's count is torch's own; an image of the test set opens on Inference."""
    pair = "resnet20_fashion,plain56_fashion"
    app = opened("beside", networks=pair, at="layer2.5")
    words = page_text(app)
    assert "It has no `layer2.5`" in "".join(said(app.info))
    assert "A plain network adds nothing" in words
    app = opened("beside", networks="resnet20_fashion,plain20_fashion", tab=TEST_SET)
    images, labels = labelled_inputs(500)
    with torch.inference_mode():
        hits = int((shipped_network("plain20")(images).argmax(1) == labels).sum())
    assert f"**Plain-20** is right on {hits} of 500" in page_text(app)
    shown = opened("inference", preset="resnet20_fashion", image="fashion-test-017")
    assert not shown.warning
    assert "test image 17" in captions(shown)


def test_a_network_that_does_not_know_the_test_images_is_left_out() -> None:
    given = {"preset": "resnet18", "weights": "random", "networks": "resnet20_fashion,shown"}
    app = opened("beside", **given, tab=TEST_SET)
    assert "ResNet-18, as shown is left out" in "".join(said(app.info))
    assert "Two networks that know Fashion" in "".join(said(opened("beside", **given, tab=DEPTH).info))
    curves = opened("beside", **given, tab=CURVES)
    assert "ResNet-18, as shown is left out" in "".join(said(curves.info))
    assert len(curves.get("plotly_chart")) == 2


def test_a_network_that_is_too_large_does_not_run() -> None:
    given = {"preset": "resnet152", "size": "1600", "weights": "random", "networks": "resnet20_fashion,shown"}
    app = opened("beside", **given)
    (words,) = said(app.error)
    assert words.startswith("ResNet-152, as shown is too large to run here: ")
    assert "**ResNet-20**" in page_text(app)


def test_other_weights_than_the_link_names_are_said() -> None:
    given = {"preset": "resnet20_fashion", "weights": "IMAGENET1K_V9", "networks": "plain20_fashion,shown"}
    (words,) = said(opened("beside", **given).warning)
    assert words.startswith("weights = IMAGENET1K_V9 is not accepted")


@pytest.mark.usefixtures("nothing_loaded")
def test_scores_of_untrained_and_overflowing_networks_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("beside", preset="resnet20", weights="random", networks="resnet20_fashion,shown")
    assert "Untrained, so its scores mean nothing." in said(app.info)

    def overflowing(weights: Weights, **given: Any) -> ResNet:
        network = load(weights, **given)
        if weights.config == BUNDLED["resnet56"]:
            with torch.no_grad():
                network.get_parameter("conv1.weight").mul_(1e38)
        return network

    monkeypatch.setattr(cached, "load", overflowing)
    words = said(opened("beside", networks="plain20_fashion,resnet56_fashion").error)
    assert len(words) == 3
    assert all("overflowed" in each for each in words)


MINE = networks.Network("ResNet-20, as shown", own_weights(BUNDLED["resnet20"], (28, 28), "mine.pth", "digest"))
SHIPPED = networks.Network("ResNet-20", *bundled(BUNDLED["resnet20"]))


def test_a_network_that_overflows_on_the_test_images_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    last = {MINE.blocks[-1]: torch.full((500, 10), torch.nan)}
    monkeypatch.setattr(networks, "readings", lambda one: Readings({}, last))
    errors: list[str] = []
    monkeypatch.setattr(networks.st, "error", errors.append)
    assert networks.knowing([SHIPPED, MINE]) == [SHIPPED]
    assert errors == [r"ResNet\-20, as shown: the activations overflow on the test images, so nothing is measured."]


def test_features_that_tell_nothing_have_no_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_set, "readings", lambda one: Readings({MINE.blocks[-1]: torch.ones(500, 4)}, {}))
    run = SimpleNamespace(image=SimpleNamespace(source=None))
    monkeypatch.setattr(test_set, "runs", lambda *_: {MINE: run})
    monkeypatch.setattr(test_set, "last_features", lambda _: torch.ones(4).numpy())
    words: list[str] = []
    monkeypatch.setattr(test_set.st, "caption", words.append)
    test_set.nearest([MINE], [])
    assert words[0] == "No test image can be told from another by these features."


def test_too_many_blocks_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth, "MAX_BLOCKS", 17)
    with pytest.raises(TooLargeError, match=r"^These networks have 18 blocks together: the similarity of up to 17 is"):
        depth.similarity([SHIPPED, MINE])


def test_what_was_measured_beforehand_is_of_the_size_that_it_was_measured_at() -> None:
    assert SHIPPED.shipped == "resnet20"
    assert SHIPPED._replace(weights=SHIPPED.weights.at((56, 56))).shipped == MINE.shipped == ""


def test_a_link_to_inference_leaves_the_way_through_another_network(monkeypatch: pytest.MonkeyPatch) -> None:
    here = View(trail=("conv1.3.5-5",), at="conv1", off=("layer1.0",))
    monkeypatch.setattr(test_set.session, "view", lambda: here)
    there = test_set.inference_view(SHIPPED, "fashion-test-017")
    assert (there.trail, there.at, there.off, there.image) == ((), "", (), "fashion-test-017")


def test_curves_of_a_network_that_does_not_ship_are_computed_when_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """With the weights that ship in the place of a person's: a few draws, whose numbers are torch's own."""
    monkeypatch.setattr(panel, "LIVE_SEEDS", (4,))
    monkeypatch.setattr(panel, "live_images", lambda *_: 40)
    monkeypatch.setattr(
        networks.Network, "shipped", property(lambda one: "" if "shown" in one.label else NAMES[one.weights.config])
    )
    app = opened("beside", preset="resnet20_fashion", networks="plain20_fashion,shown", tab=CURVES)
    assert "**ResNet-20, as shown**" not in page_text(app)
    app = click(app, "Take blocks out, and swap them")
    assert not app.exception
    images, labels = labelled_inputs(40)
    expected = draw(shipped_network("resnet20"), 4, images, labels, CPU)
    shown = page_text(app).replace("\\", "")
    for lesions_of, swapped in ((expected.removed, False), (expected.swapped, True)):
        assert panel.words("ResNet-20, as shown", lesions_of, swapped).replace("\\", "") in shown
    assert "1 draws on the first 40 images" in captions(app)


def test_curves_that_take_too_long_are_said() -> None:
    small = trace(BUNDLED["resnet20"], 28)
    assert live_images(small, 3, 8, 500) == 400e9 // (small.macs * 60)
    with pytest.raises(TooLargeError, match=r"^these curves are too much to compute here: on 20 images they take"):
        live_images(trace(preset("resnet50"), 224), 3, 8, 500)


def test_the_words_of_a_curve_follow_its_numbers() -> None:
    def curve(*errors: float) -> list[Lesion]:
        return [Lesion(times, 1 - times / 10, error) for times, error in enumerate(errors)]

    assert panel.words("A", curve(0.1, 0.2, 0.5, 0.9), swapped=False) == (
        "**A** gets 10.0% wrong; with one block out 20.0% in the mean (20.0% to 20.0%), and stays below 60% up to 2. "
        "Its steepest rise is 40 points, from 2 to 3; with all 3 out it is 90.0%."
    )
    assert (
        "and is above 60% at once. Its steepest rise is 80 points, from τ = 1.00 to τ = 0.90; with every stage backwards it is 80.0%."
        in (panel.words("A", curve(0.1, 0.9, 0.8), swapped=True))
    )
    assert "stays below 60% to the end" in panel.words("A", curve(0.1, 0.2, 0.3), swapped=True)
    assert "is above 60% as it is" in panel.words("A", curve(0.7, 0.2, 0.3), swapped=True)
    assert (
        panel.words("A", curve(0.25), swapped=False) == "**A** gets 25.0% wrong; it has no block that can be taken out."
    )


def test_too_few_networks_change_nothing() -> None:
    app = opened("beside", tab=CURVES)
    (chosen,) = app.multiselect
    chosen.set_value(["plain56_fashion"]).run()
    assert not app.exception
    (warning,) = app.warning
    assert "two to 4" in warning.value
    assert app.multiselect[0].value == ["resnet56_fashion", "plain56_fashion"]
    app.multiselect[0].set_value(["plain56_fashion", "plain20_fashion"]).run()
    assert "**Plain-20**" in page_text(app)

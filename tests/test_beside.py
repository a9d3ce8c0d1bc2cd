"""What ships of networks side by side comes out again, and the page that shows it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from explorer.experiments import beside, probes
from explorer.experiments.lesions import lesions, movable_blocks, removals
from explorer.experiments.probes import Readings, read_blocks, right
from explorer.experiments.shipped import labelled_inputs, shipped_network
from explorer.experiments.similarity import cka
from explorer.inference.consistency import antialiased, consistency
from explorer.inference.turns import TooLargeError
from explorer.link import View, tolerant
from explorer.views import cached
from explorer.views.beside import depth, networks, test_set
from helpers import CPU, captions, opened, page_text, said
from resnet import ResNet
from resnet.shipped import BUNDLED, bundled_checkpoint
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
    assert (shipped.images, shipped.disturbed, shipped.seeds) == (500, beside.DISTURBED, beside.SEEDS)
    images, labels = labelled_inputs(500)
    rows = beside.shipped_blocks()
    found = cka(
        [one for name in ("resnet20", "plain20") for one in beside.block_grams(shipped_network(name), images, CPU)]
    )
    own = [rows.index((name, block)) for name in ("resnet20", "plain20") for block in BUNDLED[name].blocks]
    expected = torch.tensor(shipped.similarity, dtype=torch.double)
    torch.testing.assert_close(found, expected[own][:, own], atol=2e-3, rtol=0)
    assert len(rows) == len(expected) == len(expected[0])
    for name in BUNDLED:
        assert {one.times for one in shipped.curves[name].swapped} == {0, *beside.SWAPS}
    config, few = BUNDLED["plain20"], beside.DISTURBED
    counts = beside.removal_counts(len(movable_blocks(config)))[:2]
    orders = list(zip(counts, removals(config, counts, 0), strict=True))
    again = lesions(shipped_network("plain20"), orders, images[:few], labels[:few], CPU)
    for one, other in zip(again, shipped.curves["plain20"].removed[1:3], strict=True):
        assert one.times == other.times
        assert one.error == pytest.approx(other.error, abs=0.01)
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
    table = next(html.proto.body for html in app.get("html") if "Every block" in html.proto.body)
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
        table = depth.numbers_table(pair, MINE.blocks, {}, early, alike)
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
    assert "measured beforehand" in "".join(said(opened("beside", **given, tab=CURVES).info))


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

"""The loss around trained networks: directions and losses against torch's own, the sharpness against the whole Hessian."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from explorer.analysis.trace import trace
from explorer.cli import main
from explorer.experiments import landscape
from explorer.experiments.landscape import (
    BATCH,
    COMMAND,
    PAIR,
    RESULTS,
    RUNNING,
    SEEDS,
    SETS,
    TOGETHER,
    TOLERANCE,
    Curvature,
    Results,
    Sharpness,
    Surface,
    Surroundings,
    directions,
    grid_steps,
    image_count,
    point_count,
    record,
    sharpness_on,
    shipped_landscape,
    surroundings,
    top_eigenvalue,
)
from explorer.experiments.shipped import from_json, labelled_inputs, to_json
from explorer.inference import turns
from explorer.inference.turns import TooLargeError
from explorer.views.experiments import landscape as view
from helpers import CPU, SMALL, Visitor, captions, click, link, opened, page_text, said, select, widget_of
from resnet import ResNetConfig, preset
from resnet.weights import randomly

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ResNetConfig(
    block="basic",
    layers=(1, 1),
    planes=(3, 4),
    stem_width=3,
    in_channels=1,
    num_classes=3,
    stem="3x3",
    stem_pool="none",
)


def images(config: ResNetConfig, count: int = 6, seed: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    shape = (count, config.in_channels, 8, 8)
    return torch.randn(shape, generator=chance), torch.randint(config.num_classes, (count,), generator=chance)


@pytest.mark.parametrize("seed", range(3))
def test_a_filter_of_a_direction_is_as_long_as_the_networks_own(seed: int) -> None:
    model = randomly(SMALL, seed)
    first, second = directions(model, seed)
    assert set(first) == set(second) == {name for name, weight in model.named_parameters() if weight.dim() > 1}
    for name, step in first.items():
        for filter, own in zip(step, model.get_parameter(name).detach(), strict=True):
            assert float(filter.norm()) == pytest.approx(float(own.norm()), rel=1e-4)
    one, other = (torch.cat([step.flatten() for step in each.values()]) for each in (first, second))
    assert abs(float(F.cosine_similarity(one, other, dim=0))) < 0.1
    assert all(torch.equal(step, directions(model, seed)[0][name]) for name, step in first.items())


@pytest.mark.parametrize("statistics", [BATCH, RUNNING])
def test_the_loss_is_that_of_a_network_with_the_weights_moved(statistics: str) -> None:
    model, (inputs, labels) = randomly(SMALL), images(SMALL)
    before = deepcopy(model.state_dict())
    first, second = directions(model, 0)
    found = Surroundings(model, inputs, labels, statistics, CPU).loss((0.5, first), (-0.2, second))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    moved = deepcopy(model).train(statistics == BATCH)
    with torch.no_grad():
        for name, step in first.items():
            moved.get_parameter(name).add_(0.5 * step).sub_(0.2 * second[name])
        assert found == pytest.approx(float(F.cross_entropy(moved(inputs), labels)), rel=1e-5)


def test_a_pass_of_moved_weights_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """As every pass of many numbers: it ends where it takes too long, although it is a copy that runs."""
    around = Surroundings(
        randomly(SMALL), torch.zeros(2, SMALL.in_channels, 128, 128), torch.zeros(2).long(), BATCH, CPU
    )
    assert around.loss() > 0
    monkeypatch.setattr(turns, "WATCH_SECONDS", 0.0)
    monkeypatch.setattr(turns, "MAX_SECONDS", 0.0)
    with pytest.raises(TooLargeError, match="was stopped when it had taken"):
        around.loss()


def test_the_scale_of_a_filter_changes_nothing_where_its_output_is_normalised_anew() -> None:
    """With the images' statistics; the running ones belong to the filter as it was."""
    model, given = randomly(SMALL), images(SMALL)
    itself = {"layer1.0.conv1.weight": model.layer1[0].conv1.weight.detach()}  # type: ignore[index, union-attr]
    apart = {
        statistics: abs(around.loss((1.0, itself)) - around.loss())
        for statistics in (BATCH, RUNNING)
        if (around := Surroundings(model, *given, statistics, CPU))
    }
    assert apart[BATCH] < 1e-4 < 1e-3 < apart[RUNNING]


@pytest.mark.parametrize("seed", range(3))
def test_the_sharpness_is_the_largest_eigenvalue_of_the_whole_hessian(seed: int) -> None:
    """Of the mean loss of two batches, each normalised by itself, whose whole Hessian autograd makes; one product is too few."""
    model, batches = randomly(TINY, seed).double(), [images(TINY, 6, first) for first in (5, 6)]
    parts = []
    for inputs, labels in batches:
        parts.append(Surroundings(model, inputs.double(), labels, BATCH, CPU))
        parts[-1].images = inputs.double()
    names, weights = zip(*((name, weight.detach()) for name, weight in model.named_parameters()), strict=True)
    sizes = [weight.numel() for weight in weights]
    batched = deepcopy(model).train()

    def loss(flat: torch.Tensor) -> torch.Tensor:
        split = (part.view_as(weight) for part, weight in zip(flat.split(sizes), weights, strict=True))
        moved = dict(zip(names, split, strict=True))
        losses = [
            F.cross_entropy(functional_call(batched, moved, (inputs.double(),)), labels) for inputs, labels in batches
        ]
        return torch.stack(losses).mean()

    whole = torch.autograd.functional.hessian(loss, torch.cat([weight.flatten() for weight in weights]))
    eigenvalues = torch.linalg.eigvalsh(whole)
    expected = float(eigenvalues[eigenvalues.abs().argmax()])
    found = top_eigenvalue(parts, most=200, tolerance=1e-7)
    assert found.eigenvalue == pytest.approx(expected, rel=1e-6)
    assert found.residual <= 1e-7
    rough = top_eigenvalue(parts, most=200, tolerance=0.05)
    assert rough.products < found.products
    assert rough.residual <= 0.05
    assert float((eigenvalues - rough.eigenvalue).abs().min()) <= 0.05 * abs(rough.eigenvalue)
    assert top_eigenvalue(parts, most=1).residual > 0.1


# -- the file that ships ------------------------------------------------------------------


def test_the_file_is_what_is_written_of_it() -> None:
    assert to_json(shipped_landscape()) + "\n" == RESULTS.read_text(encoding="utf-8")
    assert RESULTS.stat().st_size < 100_000
    assert shipped_landscape().command.startswith(COMMAND)


def test_points_of_it_come_out_again() -> None:
    """One point of each statistics, off the centre; other processors round differently."""
    found = shipped_landscape()
    for name, statistics, seed in ((PAIR[0], BATCH, 1), (PAIR[1], RUNNING, 2)):
        one = found.of(name, statistics)[seed]
        around = surroundings(name, statistics, CPU, found.images)
        first, second = directions(around.network, seed)
        row, column = len(one.steps) // 2 + 1, len(one.steps) // 2 - 1
        again = around.loss((one.steps[column], first), (one.steps[row], second))
        assert again == pytest.approx(one.losses[row][column], rel=0.01)


def test_the_sharpness_on_a_set_comes_out_again() -> None:
    """On its first few products, which are near enough for the residual network."""
    found = shipped_landscape()
    for name in PAIR:
        assert [(one.images // TOGETHER, len(one.sets)) for one in found.sharpness[name]] == list(SETS)
        assert all(one.residual <= TOLERANCE for each in found.sharpness[name] for one in each.sets)
    again = sharpness_on(PAIR[0], 0, 1, CPU, most=4)
    assert again.eigenvalue == pytest.approx(found.sharpness[PAIR[0]][0].sets[0].eigenvalue, rel=0.03)


def test_surfaces_meet_where_the_network_is() -> None:
    found = shipped_landscape()
    for name in PAIR:
        for statistics in (BATCH, RUNNING):
            surfaces = found.of(name, statistics)
            assert [one.seed for one in surfaces] == list(SEEDS)
            assert len({one.by_distance[0.0] for one in surfaces}) == 1


def test_a_recording_is_measured_point_by_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network of a few weights in the place of the shipped ones."""
    model = randomly(replace(TINY, num_classes=10))
    monkeypatch.setattr(landscape, "shipped_network", lambda name: model)
    monkeypatch.setattr(landscape, "TOGETHER", 4)
    monkeypatch.setattr(landscape, "SETS", ((1, 2), (2, 1)))
    threads = torch.get_num_threads()
    try:
        assert len(list(record(tmp_path / "out.json", 3, 4))) == point_count(3)
    finally:
        torch.set_num_threads(threads)
    found = from_json((tmp_path / "out.json").read_text(encoding="utf-8"), Results)
    assert found.command == f"{COMMAND} --points 3 --images 4"
    assert [(one.images, len(one.sets)) for one in found.sharpness[PAIR[1]]] == [(4, 2), (8, 1)]
    inputs, labels = labelled_inputs(8)
    again = top_eigenvalue([Surroundings(model, inputs[4:], labels[4:], BATCH, CPU)])
    assert found.sharpness[PAIR[0]][0].sets[1].eigenvalue == pytest.approx(again.eigenvalue, rel=1e-4)
    (one, *_) = found.of(PAIR[0], RUNNING)
    around = surroundings(PAIR[0], RUNNING, CPU, 4)
    first, second = directions(model, 0)
    assert one.losses[0][2] == pytest.approx(around.loss((1.0, first), (-1.0, second)), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--points 4", "points = 4"),
        ("--points 0", "points = 0"),
        ("--images 501", "images = 501"),
        ("--images 0", "images = 0"),
    ],
)
def test_what_cannot_be_recorded_is_said(arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["landscape", *arguments.split()]) == 2
    assert capsys.readouterr().err.startswith(f"explorer: {said} is not accepted: ")


# -- what is read from a surface ----------------------------------------------------------


def surface(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Surface:
    steps = np.array(grid_steps(11))
    return Surface("resnet56", BATCH, 0, tuple(map(tuple, function(steps[None], steps[:, None]).tolist())))


def test_the_part_that_is_not_convex_is_that_of_the_functions_hessian() -> None:
    assert surface(lambda u, v: u**2 + v**2).nonconvex == 0
    assert surface(lambda u, v: u**2 - v**2).nonconvex == 1
    assert surface(lambda u, v: u**2 + v**2 + 3 * u * v).nonconvex == 1  # its eigenvalues are 5 and −1
    assert surface(lambda u, v: u**3 + 0 * v).nonconvex == pytest.approx(4 / 9)  # where u < 0


def test_losses_by_distance_are_medians_of_squares() -> None:
    found = surface(lambda u, v: np.maximum(abs(u), abs(v)))
    assert found.by_distance == pytest.approx({step: step for step in (0, 0.2, 0.4, 0.6, 0.8, 1)})


def test_the_summary_follows_the_surfaces() -> None:
    found = shipped_landscape()
    smooth, rough = surface(lambda u, v: u**2 + v**2), surface(lambda u, v: u**2 - v**2 + 2)
    surfaces = tuple(
        shape._replace(network=name, seed=seed)
        for name, shape in zip(PAIR, (smooth, rough), strict=True)
        for seed in SEEDS
    )
    there = found._replace(surfaces=surfaces)
    assert there.rougher(BATCH) == len(SEEDS)
    assert "in 3 of 3 seeds**, as in the paper" in view.summary(there, BATCH)
    back = found._replace(surfaces=tuple(one._replace(network=PAIR[one.network == PAIR[0]]) for one in surfaces))
    assert back.of(PAIR[0], BATCH)[0].nonconvex == 1
    assert back.rougher(BATCH) == 0


def test_what_is_said_of_the_sharpness_follows_it() -> None:
    def curvatures(*values: tuple[float, ...]) -> tuple[Curvature, ...]:
        return tuple(
            Curvature(50 * (place + 1), tuple(Sharpness(one, 5, 0.01) for one in each))
            for place, each in enumerate(values)
        )

    low, high = curvatures((1.0, 2.0), (3.0,)), curvatures((4.0, 1.5), (5.0,))
    found = shipped_landscape()._replace(sharpness=dict(zip(PAIR, (low, high), strict=True)))
    assert found.sharper == [(50, 1, 2), (100, 1, 1)]
    words = view.sharpness_summary(found)
    assert (
        "is the larger one for Plain-56**: 5.0 against 3.0 for ResNet-56; in 1 of 2 sets of 50. So the order hangs"
        in words
    )
    back = found._replace(sharpness=dict(zip(PAIR, (curvatures((4.0, 1.5), (5.0,)), low), strict=True)))
    words = view.sharpness_summary(back)
    assert "is the larger one for ResNet-56**: 5.0 against 3.0 for Plain-56; in 1 of 2 sets of 50." in words
    clear = found._replace(sharpness=dict(zip(PAIR, (low, curvatures((4.0, 2.5), (5.0,))), strict=True)))
    assert view.sharpness_summary(clear).endswith("in 2 of 2 sets of 50. So the order stands on any of them.")
    first, last = view.sharpness_table(found)
    assert [*first.values()] == ["50", "2", "1.5 (1.0 to 2.0)", "2.8 (1.5 to 4.0)"]
    assert [*last.values()] == ["100", "1", "3.0", "5.0"]


# -- the page -----------------------------------------------------------------------------


def test_the_page_opens_on_the_surfaces_and_computes_nothing() -> None:
    app = opened("experiments", tab="Loss landscape")
    assert not app.exception
    found = shipped_landscape()
    assert view.summary(found, BATCH) in page_text(app)
    assert view.sharpness_summary(found) in page_text(app)
    assert f"Made by `{found.command}`." in captions(app)
    assert len(app.get("plotly_chart")) == 5
    assert f"beforehand, by `{COMMAND}`" in widget_of(app, "landscape network").help
    app = select(app, "landscape statistics", RUNNING)
    app = select(app, "landscape seed", 2)
    assert link(app) == {"tab": "Loss landscape", "landscape": "statistics-running_seed-2"}
    assert view.summary(found, RUNNING) in page_text(app)


def test_a_slice_is_computed_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landscape, "IMAGES", 8)
    app = opened("experiments", preset="resnet20_fashion", experiment="own", tab="Loss landscape")
    assert not app.get("plotly_chart")
    app = click(app, "Compute the slice")
    assert not app.exception
    assert len(app.get("plotly_chart")) == 1
    assert "the first 8 images" in captions(app)


def test_settings_that_are_not_there_are_said() -> None:
    app = opened("experiments", tab="Loss landscape", landscape="seed-9")
    (words,) = said(app.warning)
    assert words == "seed = 9 is not accepted: one of 0, 1, 2. The defaults are shown instead."


def test_a_network_that_is_too_large_is_said() -> None:
    with pytest.raises(
        TooLargeError, match=r"^A slice of this network's loss is too much to compute here: on 8 images"
    ):
        image_count(trace(preset("resnet152"), 224))


@pytest.mark.browser
@pytest.mark.parametrize("visit", [{"viewport": {"width": 390, "height": 800}}], indirect=True)
def test_the_landscape_fits_a_phone(visit: Visitor) -> None:
    visit.open("/experiments?tab=Loss+landscape").page.locator(".js-plotly-plot").first.wait_for()
    assert visit.fits()

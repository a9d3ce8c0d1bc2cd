"""Signals and gradients by depth: against finite differences and sums by hand, and the orders that the papers report."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from streamlit.testing.v1 import AppTest

from explorer.analysis.trace import trace
from explorer.bench.browser import ROOT
from explorer.experiments import gradients
from explorer.experiments.gradients import (
    BLOCK_COUNTS,
    PLAIN,
    POINTS,
    RESIDUAL,
    SEEDS,
    SHARED_OPTIONS,
    Flow,
    Flows,
    Plan,
    Point,
    Twin,
    block_boundaries,
    cosines_by_depth,
    flow,
    flows_by_batch,
    initial_flows,
    input_gradients,
    main_path,
    matched_networks,
    neighbour_cosine,
    noise,
    noise_line,
    plan,
    shattering,
    small_pair,
    twins,
)
from explorer.inference.turns import TooLargeError
from explorer.lessons.notes import NOTES
from explorer.link import View, natural_size
from explorer.sharing.store import RESULTS
from explorer.units import decimals
from explorer.views.experiments import gradients as view
from helpers import CPU, captions, link, look_at, opened, page_text, said
from resnet import PRESETS, ResNet, ResNetConfig, build, preset
from resnet.weights import BUNDLED, bundled, load

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ResNetConfig(
    layers=(1, 2), planes=(8, 16), num_classes=7, stem="3x3", stem_pool="none", block="basic", shortcut="B"
)


def network(config: ResNetConfig, seed: int = 0) -> ResNet:
    return next(matched_networks([config], seed))


def names(config: ResNetConfig) -> list[str]:
    return [layer.name for layer in main_path(trace(config, (16, 16)))]


# -- twins --------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [SMALL, *map(preset, ("plain20", "resnet50_gn", "seresnet50", "resnetv2_50d"))])
def test_twins_differ_in_shortcuts_and_norm_only(config: ResNetConfig) -> None:
    found = twins(config)
    assert len(found) == 4
    for twin, each in found.items():
        ops = {layer.op for layer in trace(each, natural_size(config)).layers}
        assert ("addition" in ops) == (twin.kind == RESIDUAL)
        assert bool({"batch norm", "group norm"} & ops) == twin.has_norm
        assert each.layers == config.layers
        assert each.attention == config.attention
    assert config in found.values()
    assert twins(config.with_(shortcut="B", drop_path=0.2)[0]) == twins(config.with_(shortcut="B")[0])


def test_twins_start_alike() -> None:
    """Whatever has a weight of the same name has the same one; the rest is as it would be anyway."""
    config = SMALL.with_(zero_init_residual=True)[0]
    made = dict(zip(twins(config), matched_networks(twins(config).values(), 3), strict=True))
    first = made[Twin(RESIDUAL, "batch")]
    alone = ResNet(first.config)
    alone.initialise(torch.Generator().manual_seed(3))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), alone.parameters(), strict=True))
    for each in made.values():
        assert each.training
        assert torch.equal(each.get_parameter("conv1.weight"), first.get_parameter("conv1.weight"))
        assert torch.equal(each.get_parameter("layer2.1.conv1.weight"), first.get_parameter("layer2.1.conv1.weight"))
    assert not made[Twin(RESIDUAL, "batch")].get_parameter("layer1.0.bn2.weight").any()
    assert not made[Twin(RESIDUAL, "none")].get_parameter("layer1.0.conv2.weight").any()
    assert made[Twin(PLAIN, "batch")].get_parameter("layer1.0.bn2.weight").all()
    assert made[Twin(PLAIN, "none")].get_parameter("layer1.0.conv2.weight").any()


# -- signal and gradient ------------------------------------------------------------------


@pytest.mark.parametrize("config", [SMALL, *twins(SMALL).values(), SMALL.with_(order="pre", attention="se")[0]])
def test_a_gradient_s_norm_is_its_slope(config: ResNetConfig) -> None:
    """A second derivation: how the loss changes along the gradient of a weight, by finite differences in fp64."""
    images, labels = noise(config, (16, 16), 4)
    model = network(config)
    found = flow(model, names(config), images, labels, CPU)
    double = network(config).double()
    assert found.loss == pytest.approx(F.cross_entropy(double(images.double()), labels).item(), rel=1e-4)
    for name, norm in list(zip(names(config), found.gradient, strict=True))[::2]:
        double.zero_grad()
        F.cross_entropy(double(images.double()), labels).backward()
        weight = double.get_parameter(f"{name}.weight")
        assert weight.grad is not None
        direction, losses = weight.grad / weight.grad.norm(), list[float]()
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                weight.add_(step * direction)
                losses.append(F.cross_entropy(double(images.double()), labels).item())
                weight.sub_(step * direction)
        assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(norm, rel=1e-2)


def test_the_signal_is_what_blocks_read() -> None:
    """The network's parts run by hand."""
    images, labels = noise(SMALL, (16, 16), 4)
    model, x = network(SMALL), images
    found = flow(model, names(SMALL), images, labels, CPU)
    with torch.no_grad():
        x = F.relu(model.bn1(model.conv1(x)))
        expected = [x.std()]
        for stage in model.stages:
            for block in stage:
                x = block(x)
                expected.append(x.std())
    assert found.signal == pytest.approx([value.item() for value in expected], rel=1e-5)


def test_the_main_path_is_counted() -> None:
    """Depth is the paper's count of weighted layers, of which the classifier is no convolution."""
    for name in ("resnet18", "resnet50", "resnet20", "plain56", "resnet152"):
        config = preset(name)
        traced = trace(config, (64, 64))
        assert len(main_path(traced)) == config.depth - 1
        each = 3 if config.block == "bottleneck" else 2
        assert block_boundaries(traced) == tuple(range(2, config.depth + 1, each))
    attentive = preset("seresnet50")
    assert len(main_path(trace(attentive, (64, 64)))) == 49
    assert block_boundaries(trace(preset("resnet50d"), (64, 64)))[0] == 4


def test_a_trained_network_is_left_alone() -> None:
    weights = bundled(BUNDLED["resnet20"])[0]
    model = load(weights).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = weights.config
    batches = [noise(config, (28, 28), 4, seed) for seed in range(2)]
    flows = list(flows_by_batch(model, names(config), batches, CPU))
    assert len(flows) == 2
    assert flows[0] != flows[1]
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_gradients_do_not_vanish_where_there_is_batch_norm() -> None:
    """He 2015, section 4.1, and what happens without."""
    found = initial_flows(trace(preset("plain56"), (32, 32)), Plan(4, 1), CPU)
    ends = {twin: (spread.ends("signal"), spread.ends("gradient")) for twin, spread in found.items()}
    (_, plain), (_, residual) = ends[Twin(PLAIN, "batch")], ends[Twin(RESIDUAL, "batch")]
    assert plain[0] > 100 * plain[1]
    assert 1 < residual[0] / residual[1] < plain[0] / plain[1] / 20
    bare, summed = ends[Twin(PLAIN, "none")], ends[Twin(RESIDUAL, "none")]
    assert bare[0][1] < bare[0][0] / 10
    assert bare[1][0] < plain[0] / 1000
    assert summed[0][1] > 100 * summed[0][0]


def test_the_same_twice_and_progress() -> None:
    told: list[float] = []
    traced = trace(SMALL, (16, 16))
    first, second = (initial_flows(traced, Plan(2, 2), CPU, told.append) for _ in range(2))
    assert first == second
    assert told == [number / 8 for number in range(1, 9)] * 2
    assert all(len(set(spread.flows)) == 2 for spread in first.values())


# -- several of them ----------------------------------------------------------------------


def test_means_are_geometric() -> None:
    spread = Flows((Flow(1, (1.0, 4.0), (2.0, 0.0)), Flow(1, (4.0, 4.0), (8.0, 1.0))))
    assert spread.statistics("signal").tolist() == [pytest.approx([2.0, 4.0]), [1.0, 4.0], [4.0, 4.0]]
    assert spread.statistics("gradient").tolist() == [pytest.approx([4.0, 0.0]), [2.0, 0.0], [8.0, 1.0]]
    assert spread.ends("signal") == pytest.approx((2.0, 4.0))
    assert spread.finite


def test_beyond_fp32() -> None:
    spread = Flows((Flow(1, (1.0, math.inf), (math.nan, 1.0)), Flow(1, (1.0, 2.0), (1.0, 1.0))))
    assert np.isnan(spread.statistics("signal")).tolist() == [[False, True]] * 3
    assert not spread.finite
    kept = Flows((Flow(1, (1.0, 2.0), (3.0, 1.0)),))
    told = view.charts_text(
        dict.fromkeys(twins(SMALL), kept) | {Twin(PLAIN, "batch"): spread, Twin(RESIDUAL, "none"): spread}
    )
    assert "the plain network's gradient leaves the range of fp32, the residual one's grows 3 times" in told
    assert "nan" not in told


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ((30.0, 2.0), "grows 15 times"),
        ((2.0, 30.0), "falls to 1/15"),
        ((1.0, 1.1), "keeps its size (0.91 times)"),
        ((math.nan, 1.0), "leaves the range of fp32"),
        ((0.0, 1.0), "is zero at one end"),
    ],
)
def test_words_for_a_change(ends: tuple[float, float], words: str) -> None:
    assert view.change_text(ends) == words


def test_the_reading_follows_the_numbers() -> None:
    def spread(signal: tuple[float, float], gradient: tuple[float, float]) -> Flows:
        return Flows((Flow(1.0, signal, gradient),))

    kept = {twin: spread((1, 1), (1, 1)) for twin in twins(SMALL)}
    told = view.charts_text(kept)
    assert "does not vanish" not in told
    assert "it does vanish" not in told
    grown = kept | {Twin(PLAIN, "batch"): spread((1, 1), (50, 1)), Twin(PLAIN, "none"): spread((8, 1), (0.1, 1))}
    told = view.charts_text(grown)
    assert "the plain network's gradient grows 50 times" in told
    assert "**It does not vanish: toward the image it grows**, and far less with shortcuts." in told
    assert "the plain network's signal falls to 1/8" in told
    assert "is 1/500 of what it is with batch norm: there it does vanish." in told


def test_what_can_be_afforded() -> None:
    assert plan(trace(preset("resnet56"), (32, 32))) == Plan(8, SEEDS)
    assert plan(trace(preset("resnet50"), (64, 64))) == Plan(8, SEEDS)
    assert plan(trace(preset("resnet152"), (64, 64))).seeds == 1
    with pytest.raises(TooLargeError, match=r"they take [\d,]+ GMACs, and the limit is 100 GMACs"):
        plan(trace(preset("resnet152"), (512, 512)))


# -- shattered ----------------------------------------------------------------------------


def test_the_cosine_of_neighbours() -> None:
    x = torch.randn(3, 4, 4)
    same = torch.stack([x, 2 * x, 5 * x])
    assert neighbour_cosine(same) == pytest.approx(1)
    assert neighbour_cosine(torch.stack([x, -x, x])) == pytest.approx(-1)
    assert neighbour_cosine(torch.eye(4)[:, None, None]) == 0
    assert neighbour_cosine(same * 1e-30) == pytest.approx(1)
    # 1, then cos 60°
    assert neighbour_cosine(torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 3.0**0.5]])) == pytest.approx(0.75)


def test_the_way_is_straight_and_even() -> None:
    inputs = noise_line(0)
    assert inputs.shape == (POINTS, 1, gradients.IMAGE_SIDE, gradients.IMAGE_SIDE)
    steps = inputs.diff(dim=0)
    assert torch.allclose(steps, steps[:1].expand_as(steps), atol=1e-6)
    assert all(inputs[end].std() == pytest.approx(1, abs=0.2) for end in (0, -1))
    assert not torch.equal(noise_line(1), inputs)


@pytest.mark.parametrize("training", [True, False])
def test_an_input_s_gradient_is_its_slope(training: bool) -> None:
    model = build(small_pair(SMALL, 1)[RESIDUAL]).train(training)
    double = build(model.config).train(training).double()
    double.load_state_dict(model.state_dict())
    inputs = noise_line(0)[:6]
    found = input_gradients(model, inputs, CPU)
    assert found.shape == inputs.shape
    for index in (0, 4):
        direction = torch.zeros_like(inputs).double()
        direction[index] = found[index] / found[index].norm()
        with torch.no_grad():
            up, down = (double(inputs.double() + step * direction)[:, 0].sum() for step in (1e-6, -1e-6))
        assert (up - down).item() / 2e-6 == pytest.approx(found[index].norm().item(), rel=1e-3)


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_network_has_its_family(name: str) -> None:
    config = preset(name)
    found = small_pair(config, 3)
    assert set(found) == {RESIDUAL, PLAIN}
    each = found[PLAIN if config.shortcut == "none" else RESIDUAL]
    assert all(getattr(each, kept) == getattr(config, kept) for kept in SHARED_OPTIONS)
    assert found[PLAIN].shortcut == "none"
    assert found[RESIDUAL].shortcut != "none"
    assert each.depth == 2 + 9 * (3 if config.block == "bottleneck" else 2)


def cosines(
    config: ResNetConfig, counts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> dict[str, dict[int, float]]:
    monkeypatch.setattr(gradients, "BLOCK_COUNTS", counts)
    monkeypatch.setattr(gradients, "SEEDS", 1)
    points = list(shattering(config, CPU))
    assert len(points) == 2 * len(counts)
    assert all(np.sqrt(np.mean(np.square(point.slope))) == pytest.approx(1) for point in points)
    return {
        kind: {depth: values[0] for depth, values in cosines_by_depth(points, kind).items()}
        for kind in (RESIDUAL, PLAIN)
    }


def test_plain_gradients_shatter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Balduzzi 2017, figures 1 and 2: white noise in deep plain networks; shallow and residual ones stay alike."""
    found = cosines(preset("resnet56"), (1, 9), monkeypatch)
    assert found[PLAIN][8] > 0.8
    assert abs(found[PLAIN][56]) < 0.1
    assert found[RESIDUAL][56] > 0.6
    assert found[RESIDUAL][8] > found[RESIDUAL][56]
    assert cosines(preset("resnet56"), (9,), monkeypatch)[PLAIN][56] == found[PLAIN][56]


def test_branches_that_start_at_zero_do_not_shatter(monkeypatch: pytest.MonkeyPatch) -> None:
    config = preset("resnet56").with_(zero_init_residual=True)[0]
    assert cosines(config, (5,), monkeypatch)[RESIDUAL][32] > 0.99


@pytest.mark.parametrize(("number", "text"), [(-0.0001, "0.00"), (0.0, "0.00"), (-0.456, "-0.46"), (0.926, "0.93")])
def test_no_number_is_less_than_nothing_of_it(number: float, text: str) -> None:
    assert decimals(number) == text
    assert text in view.verdict((Point(PLAIN, 8, 0, number, ()), Point(RESIDUAL, 8, 0, 0.5, ())))


def test_words_for_shattering() -> None:
    def points(plain: float, residual: float) -> tuple[Point, ...]:
        return tuple(
            Point(kind, depth, 0, value, ())
            for depth in (8, 56)
            for kind, value in ((PLAIN, plain), (RESIDUAL, residual))
        )

    assert "From 8 layers on, the plain network's are below 0.1" in view.verdict(points(0.02, 0.8))
    assert "No plain network here falls below 0.1." in view.verdict(points(0.6, 0.8))
    assert "the shortcuts do not help" in view.verdict(points(0.02, 0.03))
    assert "begins as a shallow one" in view.verdict(points(0.02, 1.0))


# -- the pages ----------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is measured; the results of other tests are forgotten."""
    for module in (gradients, view):
        monkeypatch.setattr(module, "BLOCK_COUNTS", BLOCK_COUNTS[:2])
        monkeypatch.setattr(module, "POINT_COUNT", 2 * SEEDS * 2)
    RESULTS.clear()


def page(tab: str, **query: str) -> AppTest:
    return opened("experiments", tab=tab, **query)


@pytest.mark.usefixtures("few")
def test_the_network_and_its_twins_are_measured() -> None:
    app = page("Gradients", preset="plain20")
    assert "Plain-20 and its twins at their initialisation" in page_text(app)
    assert "the plain network's gradient grows" in page_text(app)
    assert "8 images of Gaussian noise, 32×32 pixels" in captions(app)
    assert f"{SEEDS} seeds" in captions(app)
    assert "the gradient of ResNet-20" in page_text(app)
    app = look_at(app, experiment="shipped-56")
    assert app.session_state["view"].config == preset("plain20")
    assert (link(app)["tab"], link(app)["experiment"]) == ("Gradients", "shipped-56")
    assert "ResNet-56 and its twins" in page_text(app)
    assert not app.exception


@pytest.mark.usefixtures("few")
def test_a_network_too_large_says_so_and_the_rest_is_shown() -> None:
    app = page("Gradients", planes="1024-2048-4096-8192")
    (words,) = said(app.info)
    assert "and the limit is 1.0 GiB" in words
    assert "After training" in page_text(app)


@pytest.mark.usefixtures("few")
def test_shattering_follows_the_sidebar() -> None:
    app = page("Shattered gradients", preset="resnet20", shortcut="B")
    assert "Basic blocks, post-activation, relu, batch norm, option B, by depth" in page_text(app)
    assert "**At 14 layers the gradients of neighbouring inputs" in page_text(app)
    told = page_text(app)
    app = page("Shattered gradients", preset="resnet50", norm="none", order="pre", attention="se", layers="1-1-1-1")
    assert "Bottleneck blocks, pre-activation, relu, no norm, option B, SE, by depth" in page_text(app)
    assert page_text(app) != told
    assert "The network shown is plain" in captions(page("Shattered gradients", preset="plain20"))


EXPERIMENTS = [(note, attempt) for note in NOTES for attempt in note.tries if attempt.page.name == "experiments"]


@pytest.mark.parametrize(("note", "attempt"), EXPERIMENTS, ids=lambda part: getattr(part, "label", None))
def test_an_experiment_that_a_note_names_is_there(note, attempt) -> None:
    """The link reads back as it was, and its tab is one of the page's."""
    there = attempt.view(View(preset("resnet20"), (32, 32)))
    assert View.from_query(there.to_query()) == there
    assert f'"{there.tab}": ' in (ROOT / "pages" / "experiments.py").read_text(encoding="utf-8")

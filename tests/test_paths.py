"""Paths through the shortcuts: counted against binomials and by walking, their gradients against autograd's."""

from __future__ import annotations

import math
import re
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from streamlit.testing.v1 import AppTest
from torch import Tensor

from explorer.analysis.layers import IMAGE
from explorer.analysis.paths import path_counts
from explorer.analysis.trace import trace
from explorer.experiments.paths import (
    BUDGET,
    PathGradients,
    Plan,
    Unravelled,
    _norm,
    collect_gradients,
    effective_paths,
    path_shares,
    plan,
    sample_gradients,
)
from explorer.inference.turns import ONE_AT_A_TIME, TooLargeError
from explorer.sharing.store import RESULTS
from explorer.views.experiments import paths as view
from helpers import CPU, captions, click, link, look_at, name_of, opened, page_text, run
from resnet import ResNet, ResNetConfig, preset
from resnet.presets import short_title
from resnet.weights import BUNDLED, randomly

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL: dict[str, Any] = {"layers": (2, 2), "planes": (6, 12), "num_classes": 5, "stem": "3x3", "stem_pool": "none"}
CONFIGS = [
    ResNetConfig(**SMALL, block="basic", shortcut="A"),
    ResNetConfig(**SMALL, block="bottleneck", shortcut="B", attention="se"),
    ResNetConfig(**SMALL, block="basic", shortcut="B", order="pre", activation="elu"),
    ResNetConfig(**SMALL, block="bottleneck", shortcut="D", order="pre", norm="group"),
    ResNetConfig(**SMALL, block="basic", shortcut="C", activation="gelu", drop_path=0.2),
]


def unravelled(config: ResNetConfig) -> tuple[ResNet, Tensor, Tensor, Unravelled]:
    model = randomly(config).double()
    chance = torch.Generator().manual_seed(1)
    images, labels = torch.randn(2, 3, 16, 16, generator=chance).double(), torch.tensor([1, 4])
    return model, images, labels, Unravelled(model, images, labels)


def every_path(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [chosen for length in range(len(names) + 1) for chosen in combinations(names, length)]


# -- counts -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet152", "resnetv2_50t", "resnet110", "resnet1202"])
def test_lengths_are_binomial(name: str) -> None:
    counts = path_counts(trace(preset(name), 64))
    n = sum(preset(name).layers)
    assert counts == tuple(math.comb(n, k) for k in range(n + 1))


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_lengths_are_those_of_a_walk_through_the_graph(config: ResNetConfig) -> None:
    """Every path one by one, from the scores to the image; its length is the number of branches it runs through."""
    traced = trace(config, 32)

    def walks(index: int) -> list[int]:
        if index == IMAGE:
            return [0]
        layer = traced.layers[index]
        if layer.op != "addition":
            return walks(layer.inputs[0])
        found = []
        for producer in layer.inputs:
            before = traced.layers[producer]
            mine = before.role[:3] == layer.role[:3] and not before.role.on_shortcut
            found += [length + mine for length in walks(producer)]
        return found

    lengths = walks(len(traced.layers) - 1)
    assert path_counts(traced) == tuple(lengths.count(k) for k in range(5))


def test_a_plain_network_has_one_path_through_all_blocks() -> None:
    counts = path_counts(trace(preset("plain20"), 32))
    assert counts == (0,) * 9 + (1,)
    with pytest.raises(ValueError, match="one path"):
        unravelled(ResNetConfig(**SMALL, block="basic", shortcut="none"))


# -- gradients ----------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_the_gradients_of_all_paths_add_up_to_the_true_one(config: ResNetConfig) -> None:
    model, images, labels, found = unravelled(config)
    inputs = images.clone().requires_grad_()
    (true,) = torch.autograd.grad(F.cross_entropy(model(inputs), labels, reduction="sum"), inputs)
    paths = [found.path_gradient(chosen) for chosen in every_path(found.blocks)]
    assert len(paths) == 16
    torch.testing.assert_close(sum(paths), true, rtol=1e-10, atol=1e-14 * float(true.abs().max()))
    assert torch.equal(found.whole_gradient(), true)
    assert all(not torch.equal(path, true) for path in paths)


def test_a_path_is_the_product_of_its_blocks() -> None:
    """Second derivation: Jacobian-vector products block by block, each of F or of S alone."""
    config = ResNetConfig(**SMALL, block="basic", shortcut="B")
    model, images, labels, found = unravelled(config)
    through = ("layer1.1", "layer2.0")
    stem = [model.conv1, model.bn1, model.act1, model.maxpool]
    x = images.clone().requires_grad_()
    value = x
    for module in stem:
        value = module(value)
    reads, chain = [x], [value]
    for name in found.blocks:
        block: Any = model.get_submodule(name)
        read = chain[-1].detach().requires_grad_()
        branch, shortcut = block.branch(read), block.downsample(read)
        reads.append(read)
        kept = branch if name in through else shortcut
        whole = (branch + shortcut).detach()
        slope = (whole > 0).double()
        # The activation's slope is that of the whole sum; only one summand hands it on.
        chain.append(block.act(whole) + (kept - kept.detach()) * slope)
    last = chain[-1].detach().requires_grad_()
    loss = F.cross_entropy(model.fc(last.mean((2, 3))), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, last)
    for read, value in zip(reversed(reads), reversed(chain), strict=True):
        (gradient,) = torch.autograd.grad(value, read, gradient)
    torch.testing.assert_close(found.path_gradient(through), gradient)


def test_a_long_path_may_leave_the_range_of_fp32() -> None:
    """Forty-five branches, each of which makes the gradient ten times smaller, against fp64."""
    config = ResNetConfig(**{**SMALL, "layers": (50, 1)}, block="basic", shortcut="B", norm="none")
    model = randomly(config)
    blocks: Any = model.get_submodule("layer1")
    for block in blocks:
        for conv in (block.conv1, block.conv2):
            torch.nn.init.dirac_(conv.weight)
            torch.nn.init.zeros_(conv.bias)
        block.conv2.weight.data.mul_(0.1)
    images, labels = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([1])
    single = Unravelled(deepcopy(model), images, labels)
    double = Unravelled(model.double(), images.double(), labels)
    through = single.blocks[:45]
    norm = float(double.path_gradient(through).norm())
    assert 0 < norm < torch.finfo(torch.float32).tiny
    assert float(single.path_gradient(through).norm()) == pytest.approx(norm, rel=1e-4)


def test_the_model_is_left_alone() -> None:
    model, *_, found = unravelled(CONFIGS[0])
    found.path_gradient(found.blocks[:2])
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert next(model.parameters()).requires_grad


def test_norms_of_very_small_gradients() -> None:
    found = _norm(torch.tensor([[[[3e-200]], [[4e-200]]], [[[0.0]], [[1e-200]]]], dtype=torch.float64))
    assert found == pytest.approx(3e-200)
    assert _norm(torch.zeros(1, 1, 2, 2)) == 0


def test_samples_are_drawn_as_planned() -> None:
    config = CONFIGS[0]
    model, counts = randomly(config), path_counts(trace(config, 16))
    planned = Plan((0, 1, 2, 4), 3, 2)
    images, labels = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.zeros(6).long()
    with torch.no_grad():  # as in an app that has gradients off
        drawn = list(sample_gradients(model, images, labels, planned, CPU))
    assert [sample.length for sample in drawn] == [None, 0, 1, 2, 4] * 3
    assert list(sample_gradients(model, images, labels, planned, CPU)) == drawn
    assert list(sample_gradients(model, images, labels, planned, CPU, seed=1)) != drawn
    found = collect_gradients(counts, planned.lengths, drawn)
    by_hand = Unravelled(model, images[4:], labels[4:])
    for paths, norm in (((), found.norms[0][2]), (by_hand.blocks, found.norms[-1][2])):
        assert norm == pytest.approx(float(by_hand.path_gradient(paths).flatten(1).norm(dim=1).mean()), rel=1e-5)
    assert found.whole_norms[2] == pytest.approx(
        float(by_hand.whole_gradient().flatten(1).norm(dim=1).mean()), rel=1e-5
    )


def test_others_run_between_two_samples() -> None:
    """Nothing holds the thread for passes when a sample is handed over, nor after the last one that is taken."""
    model = randomly(CONFIGS[0])
    images, labels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.zeros(2).long()
    drawn = sample_gradients(model, images, labels, Plan((0, 4), 1, 2), CPU)
    for _ in range(2):
        next(drawn)
        with ThreadPoolExecutor(1) as other:
            assert other.submit(ONE_AT_A_TIME.run, lambda: True).result(30)


# -- shares -------------------------------------------------------------------------------


def test_shares_are_counts_times_norms() -> None:
    counts = (1, 3, 3, 1)
    found = PathGradients(counts, (0, 1, 2, 3), ((8.0, 8.0), (3.0, 5.0), (2.0,), (1.0,)), (10.0, 30.0))
    weights = np.array([8, 3 * 4, 3 * 2, 1])
    assert found.shares == pytest.approx(weights / weights.sum())
    assert 10**found.excess == pytest.approx(weights.sum() / 20)
    sparse = PathGradients(counts, (0, 3), ((8.0,), (1.0,)), (20.0,))  # the norm halves with each branch
    assert sparse.shares == pytest.approx(found.shares)


def test_hundreds_of_blocks_do_not_overflow() -> None:
    counts = tuple(math.comb(2000, k) for k in range(2001))
    found = PathGradients(counts, (0, 2000), ((1.0,), (1e-300,)), (1.0,))
    r = 10 ** (-300 / 2000)  # then the shares are binomial with p = r / (1 + r)
    mean = float(np.dot(range(2001), found.shares))
    assert mean == pytest.approx(2000 * r / (1 + r), rel=1e-6)
    assert sum(found.shares) == pytest.approx(1)
    assert sum(path_shares(counts)) == pytest.approx(1)


def test_a_length_that_carries_nothing() -> None:
    found = PathGradients((1, 2, 1), (0, 1, 2), ((1.0,), (1.0,), (0.0,)), (2.0,))
    assert found.shares == pytest.approx([1 / 3, 2 / 3, 0])
    assert PathGradients((1, 1), (0, 1), ((0.0,), (0.0,)), (0.0,)).shares == [0, 0]


def test_effective_paths_are_the_fewest_lengths_in_a_row() -> None:
    shares, counts = [0.02, 0.3, 0.5, 0.16, 0.02], (1, 4, 6, 4, 1)
    assert effective_paths(shares, counts) == (1, 3, 14 / 16)
    assert effective_paths(shares, counts, 0.5) == (2, 2, 6 / 16)
    assert effective_paths(shares, counts, 1) == (0, 4, 1)
    with pytest.raises(ValueError, match=r"below 0\.95"):
        effective_paths([0.0, 0.0], (1, 1))


def test_the_plan_keeps_to_its_budget() -> None:
    for name, size in (("resnet20_fashion", 28), ("resnet56_fashion", 28), ("resnet50", 64), ("resnet1202", 16)):
        traced = trace(preset(name), size)
        planned = plan(traced)
        n = sum(preset(name).layers)
        assert planned.lengths[0] == 0
        assert planned.lengths[-1] == n
        assert planned.draws * planned.images * sum(planned.lengths) / n * traced.macs <= BUDGET
    assert plan(trace(preset("resnet20_fashion"), 28)).lengths == tuple(range(10))
    with pytest.raises(TooLargeError, match=r"take [\d,]+ GMACs, and the limit is 160 GMACs"):
        plan(trace(preset("resnet152"), 224))


# -- the page -----------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two draws of each length; the results of other tests are forgotten."""
    monkeypatch.setattr(view, "plan", lambda traced: plan(traced)._replace(draws=2, images=1))
    RESULTS.clear()


def experiment(**query: str) -> AppTest:
    return opened("experiments", tab="Paths", **query)


def test_the_lengths_are_there_before_anything_is_measured() -> None:
    app = experiment(preset="resnet56")
    assert f"= {2**27:,} paths" in page_text(app)
    assert len(app.get("plotly_chart")) == 3
    assert link(app)["tab"] == "Paths"


def test_the_gradients_are_measured_and_kept(few: None) -> None:
    app = click(experiment(preset="resnet20"), "Measure the gradients")
    found = next(work.value for key, work in RESULTS._works.items() if isinstance(key, tuple) and key[0] == "paths")
    run_of = effective_paths(found.shares, found.counts)
    assert f"paths of length {run_of.low} to {run_of.high}" in page_text(app)
    assert "2 draws for each of 10 lengths" in captions(app)
    again = experiment(preset="resnet20")
    assert "paths of length" in page_text(again)
    assert not any(button.label == "Measure the gradients" for button in again.button)


def test_an_untrained_network_says_so(few: None) -> None:
    app = click(experiment(preset="resnet18"), "Measure the gradients")
    assert "64×64 pixels, with labels by chance: the network is untrained" in captions(app)


def test_a_magnitude_beyond_floating_point() -> None:
    assert view.magnitude(2) == "100"
    assert view.magnitude(500.2) == "10⁵⁰⁰"


def test_a_plain_network_says_that_it_has_one_path() -> None:
    app = experiment(preset="plain20")
    assert not app.get("plotly_chart")
    assert re.search(r"One path.*all 9 blocks", page_text(app))
    assert not any(button.label == "Measure the gradients" for button in app.button)


def test_a_network_too_large_says_so() -> None:
    app = experiment(preset="resnet50", stem="3x3", stem_pool="none", size="224")
    (said,) = [info.value for info in app.info]
    assert "GMACs" in said


def test_the_networks_are_chosen_in_place() -> None:
    app = look_at(experiment(preset="resnet18"), experiment="shipped-20")
    assert run(app).session_state["view"].config == preset("resnet18")
    assert (link(app)["tab"], link(app)["experiment"]) == ("Paths", "shipped-20")
    assert app.get_by_key("path network").value == "shipped-20"  # type: ignore[union-attr]
    assert "9 additions make" in page_text(app)
    assert "Measure the gradients" not in [button.label for button in app.button]


def test_blocks_off_are_a_click_away() -> None:
    (found,) = [one for one in experiment().get("page_link") if "by hand" in one.proto.label]
    assert "tab=Blocks" in found.proto.query_string
    assert short_title(BUNDLED["resnet56"]) in found.proto.label

"""How alike blocks are, what can be read from them, and what disturbing them costs: the measuring itself."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from explorer.experiments import similarity
from explorer.experiments.lesions import (
    Lesion,
    kendall_tau,
    lesions,
    levels,
    movable_blocks,
    rearranged,
    removals,
    swaps,
)
from explorer.experiments.probes import Probe, train_probe
from explorer.experiments.shipped import labelled_inputs, shipped_network
from explorer.experiments.similarity import cka, gram
from explorer.figures.beside import grouped, lesion_figure
from explorer.inference.ablation import without_blocks
from explorer.inference.features import block_outputs, early_readers, head, pooled
from explorer.inference.turns import Turn
from helpers import CPU, frozen, narrow
from resnet import ResNetConfig
from resnet.shipped import BUNDLED


def features(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# -- similarity ---------------------------------------------------------------------------


def song(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    """The unbiased estimate of HSIC as Song 2012 writes it in equation 5."""
    n, k, l = len(k), k.clone().fill_diagonal_(0), l.clone().fill_diagonal_(0)  # noqa: E741
    return ((k @ l).trace() + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ l).sum()) / (n * (n - 3))


@settings(deadline=None, max_examples=20)
@example(4, 26, 26, 26)
@given(st.integers(4, 30), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_cka_is_songs_estimate_and_ignores_rotation_and_scale(n: int, p: int, q: int, seed: int) -> None:
    x, y = features(seed, n, p) + 3, features(seed + 100, n, q)
    k, l = gram(x), gram(y)  # noqa: E741
    found = cka([k, l])
    if (expected := song(k, k) * song(l, l)) > 1e-9:
        assert found[0, 1] == pytest.approx(
            float(song(k, l) / expected.sqrt()), abs=1e-4
        )  # products in fp32 are not symmetric
    turned = x @ torch.linalg.qr(features(seed, p, p)).Q * 7 + 5
    if song(k, k) * n * (n - 3) > 1e-4 * gram(turned / 7).square().sum():  # else what is left is fp32's rounding
        assert cka([k, gram(turned)])[0, 1] == pytest.approx(1, abs=1e-3)


def test_cka_of_what_has_nothing_in_common_is_near_zero() -> None:
    """Also where there are more features than images, where the biased estimate is near one."""
    found = [
        float(cka([gram(features(seed, 40, 500)), gram(features(seed + 50, 40, 500))])[0, 1]) for seed in range(20)
    ]
    assert abs(sum(found) / len(found)) < 0.02
    with pytest.raises(ValueError, match="at least four images, not 3"):
        cka([gram(features(0, 3, 5))])


def test_cka_is_not_defined_for_constant_features() -> None:
    """Zeros, and the same numbers on every image, whose products a sum in fp32 may round otherwise for each two."""
    rounded = torch.full((40, 40), 1e6, dtype=torch.double) + features(1, 40, 40).double() / 10
    found = cka([gram(features(0, 40, 8)), gram(torch.zeros(40, 8)), rounded, gram(features(2, 40, 5) / 100 + 1)])
    assert found.isnan().tolist() == [[False, True, True, False], [True] * 4, [True] * 4, [False, True, True, False]]


def test_long_products_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of the columns, then some of the rows in each; the sums are torch's own of the whole."""
    turns: list[Tensor] = []
    run = Turn.run

    def counted(turn: Turn, work: Callable[[], Tensor]) -> Tensor:
        turns.append(run(turn, work))
        return turns[-1]

    monkeypatch.setattr(Turn, "run", counted)
    monkeypatch.setattr(similarity, "MACS_A_TURN", 12 * 12 * 100)
    maps = features(0, 12, 7, 8, 9)
    torch.testing.assert_close(gram(maps), maps.flatten(1).double() @ maps.flatten(1).double().T, atol=1e-3, rtol=1e-5)
    assert [len(turn) for turn in turns] == [12] * 6
    grams = [gram(features(seed, 12, 5)) for seed in range(150)]
    turns.clear()
    assert cka(grams).shape == (150, 150)
    assert len(turns) == 150


# -- what blocks make of images -----------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(narrow())
def test_block_outputs_are_the_networks_own(config: ResNetConfig) -> None:
    """Against torch's own hooks in a whole pass; the head on the last one gives the network's scores."""
    model, side = frozen(config), max(32, 2 * config.total_stride)
    images, kept = features(1, 2, config.in_channels, side, side), {}
    hooks = [
        model.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: kept.update({name: output}))
        for name in config.blocks
    ]
    with torch.inference_mode():
        scores = model(images)
    for hook in hooks:
        hook.remove()
    found = dict(block_outputs(model, images, CPU))
    assert list(found) == list(config.blocks)
    for name, maps in found.items():
        torch.testing.assert_close(maps, kept[name])
        torch.testing.assert_close(pooled(maps), nn.AdaptiveAvgPool2d(1)(kept[name]).flatten(1))
    assert early_readers(model)[-1] == config.blocks[-1]
    with torch.inference_mode():
        torch.testing.assert_close(head(model)(found[config.blocks[-1]]), scores)


# -- probes -------------------------------------------------------------------------------


def test_a_probe_is_the_logistic_regression_that_lbfgs_finds() -> None:
    """The loss of one trained by steps is within a hundredth of the least that L-BFGS reaches."""
    labels = torch.arange(3000) % 3
    inputs = features(0, 3000, 6) * torch.tensor([1, 1, 1, 100, 0.01, 1]) + 4
    inputs[:, :2] += features(1, 3, 2)[labels] * 1.5
    probe = train_probe(inputs, labels, 3, 0, epochs=100)

    def loss(scores: Tensor) -> Tensor:
        return nn.functional.cross_entropy(scores, labels)

    standard = ((inputs - inputs.mean(0)) / inputs.std(0)).double()
    weight, bias = (torch.zeros(size, dtype=torch.double, requires_grad=True) for size in ((3, 6), (3,)))
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200)

    def step() -> float:
        optimiser.zero_grad()
        value = loss(standard @ weight.T + bias)
        value.backward()
        return float(value.detach())

    optimiser.step(step)
    best = float(loss(standard @ weight.T + bias).detach())
    assert best - 1e-6 <= float(loss(probe.scores(inputs))) < best + 0.01
    assert (
        train_probe(inputs, labels, 3, 0, 2)
        == train_probe(inputs, labels, 3, 0, 2)
        != train_probe(inputs, labels, 3, 1, 2)
    )


def test_probe_scores_are_linear() -> None:
    probe = Probe(((1.0, 2.0), (0.0, -1.0)), (0.5, 0.0))
    assert probe.scores(torch.tensor([[1.0, 1.0]])).tolist() == [[3.5, -1.0]]


# -- lesions ------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(sorted(BUNDLED)), st.integers(0, 99))
def test_orders_keep_what_must_stay_and_go_to_the_end(name: str, seed: int) -> None:
    config = BUNDLED[name]
    movable = movable_blocks(config)
    left = removals(config, seed)
    assert left[0] == config.blocks
    assert set(left[-1]) == set(config.blocks) - set(movable)
    for before, after in pairwise(left):
        assert len(set(before) - set(after)) == len(before) - len(after) == 1
        assert kendall_tau(after, config.blocks) == 1
    moved = swaps(config, seed)
    assert moved[0] == config.blocks
    for before, after in pairwise(moved):
        assert sorted(after) == sorted(config.blocks)
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 2
        assert kendall_tau(after, config.blocks) < kendall_tau(before, config.blocks)
        ranks = torch.tensor([config.blocks.index(block) for block in after])
        signs = torch.sign(ranks[:, None] - ranks[None]).triu(1).sum()  # the definition, by concordant pairs
        tau = kendall_tau(after, config.blocks)
        assert tau == pytest.approx(-float(signs) / (len(ranks) * (len(ranks) - 1) / 2))
    for stage in {block.partition(".")[0] for block in config.blocks}:
        mine = [block for block in movable if block.startswith(stage)]
        assert [block for block in moved[-1] if block in mine] == mine[::-1]


@given(st.integers(0, 60), st.integers(1, 60))
def test_levels_go_from_none_over_one_to_all(count: int, most: int) -> None:
    found = levels(count, most)
    assert found == sorted(set(found))
    assert {0, min(1, count), count} <= set(found)
    assert len(found) == count + 1 if count <= most else len(found) <= most + 2


@pytest.mark.parametrize("name", ["resnet20", "plain20"])
def test_lesions_that_share_their_beginnings_are_those_of_whole_passes(name: str) -> None:
    """Each order by itself, in one pass; two draws with what they begin with alike, in batches that do not come out even."""
    model, (images, labels) = shipped_network(name), labelled_inputs(30)
    orders = [
        (times, order)
        for seed in (0, 1)
        for every in (removals, swaps)
        for times, order in enumerate(every(model.config, seed))
    ]
    steps: list[float] = []
    found = lesions(model, orders, images, labels, CPU, steps.append, together=12)
    assert [one.times for one in found] == [times for times, _ in orders]
    with torch.inference_mode():
        for one, (_, order) in zip(found, orders, strict=True):
            wrong = rearranged(model, order)(images).argmax(1) != labels
            assert one.error == pytest.approx(float(wrong.double().mean()))
    assert steps == sorted(steps)
    assert steps[-1] == 1


@pytest.mark.parametrize("name", ["resnet20", "plain20"])
def test_a_block_left_out_is_a_block_switched_off(name: str) -> None:
    model, (images, _) = shipped_network(name), labelled_inputs(20)
    left = removals(model.config, 4)[3]
    off = set(model.config.blocks) - set(left)
    with torch.inference_mode():
        torch.testing.assert_close(rearranged(model, left)(images), without_blocks(model, off)(images))
        torch.testing.assert_close(rearranged(model, model.config.blocks)(images), model(images))
    for wrong in (model.config.blocks[:3], model.config.blocks[::-1]):
        with pytest.raises(ValueError, match="do not fit behind each other"):
            rearranged(model, wrong)


def test_draws_are_grouped_by_what_their_axis_shows() -> None:
    """Blocks out by their number, swaps by their τ; the whole network is for itself."""
    drawn = [Lesion(0, 1.0, 0.1), Lesion(1, 0.99, 0.2), Lesion(4, 0.8, 0.6), Lesion(8, 0.98, 0.3)]
    assert [[one.times for one in group] for group in grouped(drawn, swapped=True)] == [[0], [1], [8], [4]]
    assert [[one.times for one in group] for group in grouped(drawn, swapped=False)] == [[0], [1], [4], [8]]
    alike = [*drawn, Lesion(2, 0.805, 0.4)]
    figure = lesion_figure({"A": alike}, swapped=True)
    upper, lower, mean = figure.data
    assert list(mean.x) == pytest.approx([1, 0.99, 0.98, 0.8025])
    assert [list(one.y) for one in (upper, lower, mean)] == [
        pytest.approx(each) for each in ([0.1, 0.2, 0.3, 0.6], [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.5])
    ]

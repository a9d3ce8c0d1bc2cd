"""What the experiments say of the networks that ship: the file, and the pages that open on it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from explorer.analysis.trace import trace
from explorer.cli import main
from explorer.experiments import gradients, paths, shipped
from explorer.experiments.gradients import PLAIN, RESIDUAL, SEEDS, Flows, cosines_by_depth, plan
from explorer.experiments.paths import effective_paths
from explorer.experiments.shipped import PAIRS, RESULTS, Measurement, from_json, shipped_results, to_json
from explorer.inference.samples import labelled_images
from explorer.sharing.store import RESULTS as COMPUTED
from explorer.views.experiments import identity, trained
from helpers import CPU, captions, link, opened, said, select
from helpers import page_text as words_of
from resnet import preset
from resnet.shipped import BUNDLED

TABS = {
    "Gradients": "gradient network",
    "Shattered gradients": "shattered network",
    "Paths": "path network",
    "Identity": "identity network",
}


# -- the file -----------------------------------------------------------------------------


def test_the_file_is_what_the_command_writes_of_it() -> None:
    assert to_json(shipped_results()) + "\n" == RESULTS.read_text(encoding="utf-8")
    assert RESULTS.stat().st_size < 200_000


def test_everything_that_ships_is_in_it() -> None:
    found = shipped_results()
    for residual, _ in PAIRS.values():
        traced = trace(BUNDLED[residual], 28)
        assert all(len(flows.flows) == plan(traced).seeds for _, flows in found.initial[residual])
        assert [len(norms) for norms in found.paths[residual].norms] == [paths.plan(traced).draws] * len(
            paths.plan(traced).lengths
        )
    for field in (found.trained, found.ablations, found.appended):
        assert set(field) == set(BUNDLED)
    assert found.appended["plain56"].images == len(labelled_images().labels)


def test_a_part_of_it_comes_out_again(one_thread: None) -> None:
    """One seed, one batch, one draw or one pass of each kind; other processors round differently."""
    found = shipped_results()
    small = trace(BUNDLED["resnet20"], 28)
    flows = gradients.initial_flows(small, plan(small)._replace(seeds=1), CPU)
    for twin, expected in found.initial["resnet20"]:
        assert flows[twin].flows[0].gradient == pytest.approx(expected.flows[0].gradient, rel=0.02)
    (batch,) = shipped.trained_flows("plain56", CPU, batches=1).flows
    assert batch.loss == pytest.approx(found.trained["plain56"].flows[0].loss, rel=0.01)
    family = gradients.small_pair(BUNDLED["resnet20"], 5)
    (residual,) = gradients.matched_networks([family[RESIDUAL]], 0)
    cosine = gradients.neighbour_cosine(gradients.input_gradients(residual, gradients.noise_line(0), CPU))
    assert cosine == pytest.approx(cosines_by_depth(found.shattered, RESIDUAL)[32][0], abs=0.01)
    planned = paths.plan(small)
    one = planned._replace(draws=1)
    images, labels = shipped.labelled_inputs(planned.images)
    samples = list(paths.sample_gradients(shipped.shipped_network("resnet20"), images, labels, one, CPU))
    assert samples[0].norm == pytest.approx(found.paths["resnet20"].whole_norms[0], rel=0.01)
    assert samples[-1].norm == pytest.approx(found.paths["resnet20"].norms[-1][0], rel=0.01)
    images, labels = shipped.labelled_inputs(len(labelled_images().labels))
    for name in ("resnet56", "plain20"):
        with torch.no_grad():
            right = float((shipped.shipped_network(name)(images).argmax(1) == labels).double().mean())
        assert right == pytest.approx(1 - found.ablations[name][-1].error, abs=0.003)
        assert right == pytest.approx(found.appended[name].accuracy, abs=0.003)


def test_they_show_what_the_experiments_are_about() -> None:
    """Balduzzi 2017: plain gradients shatter and residual ones do not; Veit 2016: short paths carry the gradient."""
    found = shipped_results()
    plain, residual = (cosines_by_depth(found.shattered, kind) for kind in (PLAIN, RESIDUAL))
    assert len(plain[110]) == SEEDS
    assert max(map(abs, plain[110])) < 0.1 < 0.6 < min(residual[110])
    norms = found.paths["resnet56"]
    assert effective_paths(norms.shares, norms.counts).high < 27 / 2
    assert all(found.appended[name].outcomes[0].difference == 0 for name in BUNDLED)


def test_the_command_writes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = shipped_results()

    def measure(device: object) -> list[Measurement]:
        found = [Measurement("shattered", "", results.shattered)]
        for field in ("initial", "trained", "paths", "ablations", "appended"):
            found += [Measurement(field, name, value) for name, value in getattr(results, field).items()]
        return found

    monkeypatch.setattr(shipped, "measure", measure)
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    try:
        assert main(["experiments"]) == 0
    finally:
        torch.set_num_threads(threads)
    written = (tmp_path / "experiments.json").read_text(encoding="utf-8")
    assert from_json(written) == results._replace(torch=torch.__version__)


# -- the pages ----------------------------------------------------------------------------


@pytest.mark.parametrize("tab", TABS)
def test_a_page_opens_on_the_shipped_pair_and_computes_nothing(tab: str) -> None:
    COMPUTED.clear()
    app = opened("experiments", tab=tab)
    assert app.get_by_key(TABS[tab]).value == "shipped-56"  # type: ignore[union-attr]
    kinds = {key[0] for key in COMPUTED._works if isinstance(key, tuple)}
    assert not kinds & {"gradients", "shattered", "paths", "identity", "ablation"}
    assert "experiment" not in link(app)
    assert not app.exception


def test_a_network_of_ones_own_is_kept() -> None:
    """In a link of before, which has no word for it; and blocks that are named without a network are those of ResNet-50."""
    for query in ({"preset": "resnet18"}, {"appended": "stage-4_blocks-1"}):
        app = opened("experiments", tab="Identity", **query)
        assert app.get_by_key("identity network").value == "own"  # type: ignore[union-attr]
        assert "it has no accuracy to lose" in captions(app)
        assert "4" in app.get_by_key("append stage").options  # type: ignore[union-attr]


def test_blocks_are_chosen_for_the_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "image_count", lambda *_: 20)
    app = select(opened("experiments", tab="Identity", experiment="shipped-20"), "append stage", 1)
    assert link(app) == {"tab": "Identity", "experiment": "shipped-20", "appended": "stage-1"}
    assert "Plain-20 with 8 more blocks after stage 1" in words_of(app)


def test_networks_that_are_not_there_are_said() -> None:
    app = opened("experiments", tab="Paths", experiment="shipped-57")
    (words,) = said(app.warning)
    assert words == "experiment = shipped-57 is not one of shipped-56, shipped-20, own; shipped-56 is shown instead."


def test_a_shipped_network_of_ones_own_has_its_results_at_once() -> None:
    app = opened("experiments", tab="Paths", preset="resnet20_fashion")
    assert app.get_by_key("path network").value == trained.OWN  # type: ignore[union-attr]
    run_of = effective_paths(shipped_results().paths["resnet20"].shares, shipped_results().paths["resnet20"].counts)
    assert f"paths of length {run_of.low} to {run_of.high}" in words_of(app)
    assert isinstance(shipped_results().trained["resnet20"], Flows)
    assert shipped.shipped_twins(BUNDLED["plain20"]) == shipped.shipped_twins(BUNDLED["resnet20"])
    assert shipped.shipped_twins(preset("resnet20")) is None

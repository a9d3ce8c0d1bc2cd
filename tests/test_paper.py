"""The paper figure by figure: each outcome against the paper's own numbers and torch's, and the page that shows them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import torchvision
from playwright.sync_api import expect
from safetensors.numpy import load_file
from streamlit.testing.v1 import AppTest
from torch import nn

from explorer.bench.browser import ROOT
from explorer.experiments.responses import layer_responses
from explorer.inference import turns
from explorer.lessons import paper
from explorer.lessons.paper import EXHIBITS, NOT, REPRODUCES, SMALL, Outcome, agrees, vgg19_macs
from explorer.link import View
from helpers import CPU, PAPER, TABLE_6, link, opened, page_text, said, select
from resnet import preset
from resnet.weights import BUNDLED, bundled_path, randomly

BY_NAME = {one.name: one for one in EXHIBITS}


@cache
def outcome(name: str) -> Outcome:
    return BY_NAME[name].check()


def rows(name: str) -> dict[str, tuple[str, str]]:
    """What the paper says and what comes out here, by what is compared."""
    return {row.what: (row.paper, row.here) for row in outcome(name).rows}


def percent(number: float) -> str:
    return f"{number:.2f}%"


def test_every_table_and_figure_is_there() -> None:
    names = {f"Table {n}" for n in range(1, 7)} | {f"Figure {n}" for n in range(1, 8)} | {"Tables 7 and 8"}
    assert {one.name for one in EXHIBITS} == names
    verdicts = {one.name: outcome(one.name).verdict for one in EXHIBITS}
    assert [name for name in verdicts if verdicts[name] == REPRODUCES] == [
        *("Figure 2", "Figure 3", "Table 1", "Table 3", "Figure 5")
    ]
    assert [name for name in verdicts if verdicts[name] == NOT] == ["Table 4", "Table 5", "Figure 7", "Tables 7 and 8"]


# -- what the paper says ------------------------------------------------------------------


def test_the_papers_numbers_are_its_own() -> None:
    table2, table3, table4 = PAPER["table2"], PAPER["table3"]["rows"], PAPER["table4_single_model"]["rows"]
    for name, (theirs, _) in list(rows("Table 2").items())[:4]:
        assert theirs == percent(table2[name.replace("Plain", "plain")])
    for name, (theirs, _) in rows("Table 3").items():
        assert theirs == percent(table3[name][0])
    for name, (theirs, _) in rows("Table 4").items():
        assert theirs == percent(table4[name][0])
    for name, (theirs, _) in rows("Table 6").items():
        given = PAPER["table6_cifar10"]["rows"][name.removeprefix("ResNet-")]
        assert theirs == f"{given['params'].removesuffix('M')} M parameters, {percent(given['error'])}"
    assert percent(PAPER["table5_ensemble_top5_test"]["ResNet (ILSVRC'15)"]) in rows("Table 5")["Top-5 error"][0]
    for depth, net in PAPER["table1"]["nets"].items():
        assert rows("Table 1")[f"{depth} layers"][0] == f"{net['flops'] / 1e9:.1f}×10⁹"


@pytest.mark.parametrize(
    ("value", "printed", "right"),
    [(3.858, "3.8", True), (3.858, "3.9", True), (7.57, "7.6", True), (3.79, "3.6", False), (19.42, "19.4", True)],
)
def test_a_number_is_what_is_printed_of_it_cut_or_rounded(value: float, printed: str, right: bool) -> None:
    assert agrees(value, printed) == right


# -- what comes out here ------------------------------------------------------------------


def test_multiply_adds_are_those_of_torchs_layers() -> None:
    counted = 0

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal counted
        kernel = module.weight[0].numel()  # type: ignore[index]
        counted += output.numel() * int(kernel)

    with torch.device("meta"):
        vgg = torchvision.models.vgg19()
        for module in vgg.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(count)
        vgg.eval()(torch.empty(1, 3, 224, 224))
    assert counted == vgg19_macs()
    macs = PAPER["flops_check"]["macs"]
    shown = {depth: rows("Table 1")[f"{depth} layers"][1] for depth in (18, 34, 50, 101, 152)}
    assert shown == {depth: f"{macs[f'{depth}_optB' if depth < 50 else f'{depth}_v1']:,}" for depth in shown}
    assert rows("Figure 3")["34 layers, residual"][1] == f"{macs['34_optA']:,}"


def test_blocks_and_parameters_are_torchs() -> None:
    found = rows("Figure 5")
    with torch.device("meta"):
        basic, bottleneck = torchvision.models.resnet34().layer1[1], torchvision.models.resnet50().layer1[1]
    for what, block in (("Basic block, 64 channels", basic), ("Bottleneck, 256 channels", bottleneck)):
        weights = sum(m.weight.numel() for m in block.modules() if isinstance(m, nn.Conv2d))
        assert found[what][1] == f"{weights:,} weights, {weights * 56**2:,} multiply-adds"
    for depth, counts in TABLE_6.items():
        assert f"{counts['option_A']['params']:,} parameters" in rows("Table 6")[f"ResNet-{depth}"][1]


def test_accuracies_are_torchvisions() -> None:
    for depth, entry in (
        (34, torchvision.models.ResNet34_Weights.IMAGENET1K_V1),
        (152, torchvision.models.ResNet152_Weights.IMAGENET1K_V1),
    ):
        top1 = entry.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        assert rows("Table 3")[f"ResNet-{depth}{' B' if depth == 34 else ''}"][1] == percent(100 - top1)


def test_responses_are_those_that_batch_norm_puts_out() -> None:
    """Where the running statistics are the images' own, each channel's deviation is |γ| and its mean β."""
    model = randomly(replace(preset("resnet20"), layers=(1, 1), planes=(4, 8), stem_width=4))
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    norms = [m for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 2, torch.Generator().manual_seed(1))
        nn.init.uniform_(norm.bias, -1, 1, torch.Generator().manual_seed(2))
        norm.train().momentum = 1.0
    with torch.no_grad():
        model(images)
    for norm in norms:
        norm.eval()
    found = layer_responses(model, images, CPU)
    assert len(found) == len(norms) == 5
    for response, norm in zip(found, norms, strict=True):
        gamma, beta = norm.weight.detach(), norm.bias.detach()
        assert response == pytest.approx(float((gamma.square().mean() + beta.var(correction=0)).sqrt()), rel=0.02)


def test_the_scales_are_those_of_the_files() -> None:
    means = []
    for name in BUNDLED:
        tensors = load_file(bundled_path(name))
        norms = {key.removesuffix("running_mean") for key in tensors if key.endswith("running_mean")}
        means.append(float(np.concatenate([tensors[f"{key}weight"] for key in norms]).mean()))
    assert f"are {min(means):.2f} to {max(means):.2f} in the mean" in outcome("Figure 7").why


def test_a_pass_for_responses_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "WATCH_SECONDS", 0.0)
    monkeypatch.setattr(turns, "MAX_SECONDS", 0.0)
    with pytest.raises(turns.TooLargeError, match="was stopped when it had taken"):
        layer_responses(randomly(preset("resnet20")), torch.zeros(2, 3, 128, 128), CPU)


def test_verdicts_follow_what_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"plain20": (3.0,), "resnet20": (2.0,), "plain56": (3.0,), "resnet56": (1.0,)}
    monkeypatch.setattr(paper, "responses", lambda: sizes)
    assert paper.response_sizes().verdict == SMALL
    monkeypatch.setattr(paper, "FLOPS", {18: "1.9×10⁹"})
    assert paper.architectures().verdict == NOT
    summary, errors = paper.longest_summary(), paper.errors
    monkeypatch.setattr(paper, "errors", lambda recipe: dict.fromkeys(errors(recipe), 0.25))
    assert paper.ten_crops().verdict == NOT
    assert "no difference between the depths" in paper.residual_words(summary)
    assert "no difference" not in paper.residual_words(summary._replace(gap={"plain": 1.0, "residual": 0.5}))
    flat = summary._replace(deeper_is_worse={"plain": 2, "residual": 2})
    monkeypatch.setattr(paper, "longest_summary", lambda: flat)
    assert paper.plain_training().verdict == paper.training_curves().verdict == NOT


# -- the page -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page() -> AppTest:
    return opened("paper")


def test_each_is_shown_with_its_verdict_and_its_numbers(page: AppTest) -> None:
    text, headers = page_text(page), [header.value for header in page.header]
    assert headers == [f"{one.name}. {one.subject}" for one in EXHIBITS]
    for one in EXHIBITS:
        found = outcome(one.name)
        assert one.says in text
        assert found.why in text
        assert all(f"| {row.what} | {row.paper} | {row.here} |" in text for row in found.rows)
    verdicts = [outcome(one.name).verdict for one in EXHIBITS]
    for verdict, words in ((REPRODUCES, "reproduce"), (SMALL, "come out in small"), (NOT, "do not at this budget")):
        assert f"**{verdicts.count(verdict)}** {words}" in text


def test_those_of_one_verdict_are_shown() -> None:
    app = select(opened("paper"), "paper verdict", "In small")
    assert link(app) == {"tab": "In small"}
    names = [header.value.partition(".")[0] for header in app.header]
    assert names == [one.name for one in EXHIBITS if outcome(one.name).verdict == SMALL]
    assert f"Of {len(EXHIBITS)} tables and figures, " in page_text(app)


def test_one_is_shown_alone_by_its_link() -> None:
    app = select(opened("paper", tab="In small"), "exhibit", "Figure 7")
    assert link(app) == {"find": "Figure 7"}
    assert not any(widget.key == "paper verdict" for widget in app.get("button_group"))
    assert [header.value for header in app.header] == [f"Figure 7. {BY_NAME['Figure 7'].subject}"]
    for tab in ("", "In small"):  # which Table 1 does not come out
        assert len(opened("paper", find="Table 1", tab=tab).header) == 1


def test_one_that_is_not_there_is_said() -> None:
    app = opened("paper", find="Figure 8")
    (words,) = said(app.warning)
    assert words.startswith("find = Figure 8 is not one of Figure 1, Figure 2, ")
    assert words.endswith("all of them are shown instead.")
    assert len(app.header) == len(EXHIBITS)


WAYS = [way for one in EXHIBITS for way in one.links]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.label)
def test_every_link_reads_back_as_what_it_opens(way: paper.Link) -> None:
    assert (ROOT / "pages" / f"{way.page.name}.py").exists()
    assert View.from_query(way.view.to_query()) == way.view


@pytest.mark.browser
@pytest.mark.parametrize("visit", [{"viewport": {"width": 390, "height": 800}}], indirect=True)
def test_a_figure_fits_a_phone_and_leads_where_it_can_be_tried(visit) -> None:
    visit.open("/paper?find=Figure+7")
    assert visit.fits()
    visit.page.get_by_role("link", name="See it: what each block adds").click()
    visit.wait()
    expect(visit.page.get_by_role("tab", name="Addition", selected=True)).to_be_visible()
    assert visit.page.get_by_role("heading", level=1).inner_text().startswith("ResNet-56")

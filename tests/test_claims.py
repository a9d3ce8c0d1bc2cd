"""The checked claims: each verdict with the numbers it rests on, and the page that shows them."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
import torchvision
from playwright.sync_api import expect
from streamlit.testing.v1 import AppTest
from torch import nn

from explorer.analysis.trace import trace
from explorer.bench.browser import ROOT
from explorer.experiments.gradients import Flow, Flows, twins
from explorer.lessons import claims, source
from explorer.lessons.claims import CLAIMS, EXPERIMENT, FAILS, HOLDS, LINE, PICTURE, WHEN, Evidence, Finding
from explorer.lessons.notes import NOTES
from explorer.link import View
from explorer.views.experiments import identity as identity_view
from helpers import PAPER, closed, link, opened, page_text, select, turned_to
from resnet.weights import BUNDLED, FASHION_MNIST, Checkpoint

BY_KEY = {claim.key: claim for claim in CLAIMS}


def numbers(key: str) -> dict[str, float]:
    """Label and unit to value."""
    return {f"{e.label} {e.unit}".strip(): e.value for e in BY_KEY[key].check().evidence}


def verdict(key: str) -> str:
    return BY_KEY[key].check().verdict


def weights(*modules: nn.Module) -> int:
    return sum(module.weight.numel() for module in modules)  # type: ignore[misc, operator]


def test_claims_stand_in_the_order_of_the_post_and_another_papers_after_them() -> None:
    assert [claim.key for claim in CLAIMS] == [
        "stack",
        "bottleneck",
        "constant",
        "shortcut",
        "projection",
        "downsample",
        "filters",
        "halve",
        "relu",
        "shrink",
        "pointwise",
        "depth",
        "iterations",
        "identity",
        "vanishing",
        "expansion",
        "landscape",
    ]


# -- each verdict, against torch itself or the paper --------------------------------------


def test_stacked_kernels():
    found = numbers("stack")
    assert verdict("stack") == WHEN
    for label, stack in (
        ("three 3×3", [nn.Conv2d(1, 1, 3, bias=False)] * 3),
        ("one 7×7", [nn.Conv2d(1, 1, 7, bias=False)]),
    ):
        x = torch.zeros(1, 1, 21, 21, requires_grad=True)
        y = x
        for conv in stack:
            y = nn.functional.conv2d(y, torch.ones_like(conv.weight))
        y[0, 0, y.shape[2] // 2, y.shape[3] // 2].backward()
        assert x.grad is not None
        seen = int((x.grad[0, 0].sum(0) > 0).sum())
        name = label.capitalize() + (" see" if "three" in label else " sees")
        assert found[f"{name} px a side"] == seen == 7
        assert found[f"Weights of {label} × C²"] == weights(*stack)
    assert found["As a stem, three 3×3 see px a side"] == 11
    deep = 112**2 * 9 * (3 * 32 + 32 * 32 + 32 * 64)
    assert found["As a stem, three 3×3 cost MACs"] == deep
    assert found["As a stem, one 7×7 costs MACs"] == 112**2 * 49 * 3 * 64


def test_bottleneck_weights():
    basic = weights(nn.Conv2d(256, 256, 3), nn.Conv2d(256, 256, 3))
    bottleneck = weights(nn.Conv2d(256, 64, 1), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 256, 1))
    assert numbers("bottleneck") == {
        "Two 3×3, the post weights": 3 * 3 * 256 * 2,
        "Two 3×3, counted weights": basic,
        "Bottleneck, the post weights": 64 + 3 * 3 * 64 + 256,
        "Bottleneck, counted weights": bottleneck,
    }
    assert verdict("bottleneck") == FAILS


def test_constant_size():
    found = numbers("constant")
    assert verdict("constant") == WHEN
    assert found["Channels × side, first stage"] == found["Channels × side, last stage"] == 64 * 56
    assert found["Channels × height × width, first stage"] == 64 * 56**2
    assert found["Channels × height × width, last stage"] == 512 * 7**2
    assert found["MACs of a block, first stage"] == found["MACs of a block, last stage"] == 2 * 9 * 64**2 * 56**2


def test_free_shortcuts():
    found = numbers("shortcut")
    assert verdict("shortcut") == WHEN
    model = torchvision.models.resnet50()
    projections = [p for name, p in model.named_parameters() if "downsample" in name]
    assert found["Option A parameters"] == found["Option A MACs"] == 0
    assert found["Option B parameters"] == sum(p.numel() for p in projections) == found["Option D parameters"]
    sides = {"layer1": 56, "layer2": 28, "layer3": 14, "layer4": 7}
    macs = sum(p.numel() * sides[name[:6]] ** 2 for name, p in model.named_parameters() if "downsample.0" in name)
    assert found["Option B MACs"] == macs
    assert found["Option C parameters"] > found["Option B parameters"]


def test_filter_sizes():
    kernels = [m.kernel_size[0] for m in torchvision.models.resnet50().modules() if isinstance(m, nn.Conv2d)]
    found = numbers("filters")
    assert {size: found[f"{size}×{size} convolutions of ResNet-50"] for size in (1, 3, 7)} == {
        size: kernels.count(size) for size in (1, 3, 7)
    }
    assert verdict("filters") == FAILS


def test_shrinking_bottleneck():
    strided = [
        name
        for name, m in torchvision.models.resnet50().named_modules()
        if re.fullmatch(r"layer\d\.\d\.conv2", name) and m.stride == (2, 2)
    ]
    found, finding = numbers("shrink"), BY_KEY["shrink"].check()
    assert found["Their 3×3 shrinks the map (v1.5) blocks"] == len(strided) == 3
    assert found["Their 3×3 shrinks it in v1 blocks"] == 0
    assert finding.verdict == WHEN
    assert "stages 2, 3, 4" in finding.condition


def test_one_by_one():
    found = numbers("pointwise")
    assert verdict("pointwise") == FAILS
    assert (found["Independent sums in the outputs"], found["If one sum were repeated"]) == (64, 1)
    assert found["Largest gap to matrix times channels"] < 1e-5
    assert 0 < found["What a repeated sum explains of the output %"] < 0.05


def test_expansion():
    model = torchvision.models.resnet50()
    found = numbers("expansion")
    assert found["Bottleneck, inside channels"] == model.layer1[1].conv2.out_channels == 64
    assert (
        found["Bottleneck, put out channels"] == model.layer1[1].conv3.out_channels == model.layer2[0].conv1.in_channels
    )
    assert verdict("expansion") == FAILS


def test_degradation():
    found, table = numbers("depth"), PAPER["table2"]
    assert verdict("depth") == WHEN
    for name in ("Plain-18", "Plain-34", "ResNet-18", "ResNet-34"):
        key = name.replace("Plain", "plain")
        assert found[f"Paper, {name}, ImageNet %"] == pytest.approx(table[key] / 100)
    shipped = {label: value for label, value in found.items() if label.startswith("Shipped")}
    assert len(shipped) == 4
    errors = {label.removeprefix("Shipped ").partition(",")[0]: value for label, value in shipped.items()}
    assert errors["Plain-56"] > errors["ResNet-56"]


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        (
            {"plain56": 5, "resnet56": 5, "plain20": 8, "resnet20": 8},
            ["shares one recipe", "those two depths do not compare"],
        ),
        (
            {"plain56": 5, "resnet56": 8, "plain20": 8, "resnet20": 8},
            ["is no comparison", "those two depths do not compare"],
        ),
        ({"plain56": 8, "resnet56": 8, "plain20": 8, "resnet20": 8}, ["shares one recipe"]),
    ],
)
def test_the_length_of_training_is_said(monkeypatch, commands, said):
    def read(path):
        name = path.stem
        command = f"python -m resnet.train --network {name}" + (
            f" --epochs {commands[name]}" if commands[name] != 8 else ""
        )
        return None, Checkpoint(BUNDLED[name], FASHION_MNIST, 0.8 if "plain" in name else 0.9, command)

    monkeypatch.setattr(claims, "read_checkpoint", read)
    finding = claims.degradation()
    sentences = ["shares one recipe", "is no comparison", "those two depths do not compare"]
    assert [sentence for sentence in sentences if sentence in finding.words] == said
    assert finding.verdict == WHEN


def test_projections():
    found, table = numbers("projection"), PAPER["table3"]["rows"]
    assert verdict("projection") == HOLDS
    for option in "ABC":
        top1, _ = table[f"ResNet-34 {option}"]
        assert found[f"ResNet-34 {option}, top-1 error %"] == pytest.approx(top1 / 100)
    plain = sum(p.numel() for p in torchvision.models.resnet34().parameters())
    assert found["ResNet-34 B parameters"] == plain


def test_projected_where_shapes_differ():
    blocks = projections = 0
    for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
        model = getattr(torchvision.models, name)()
        found = [module for module in model.modules() if hasattr(module, "downsample")]
        blocks, projections = blocks + len(found), projections + sum(m.downsample is not None for m in found)
    shown = numbers("downsample")
    assert verdict("downsample") == HOLDS
    assert shown["Blocks of the five networks"] == blocks
    assert shown["They project blocks"] == shown["Their shapes differ blocks"] == projections
    assert shown["One without the other blocks"] == 0


def test_halving():
    found = numbers("halve")
    assert verdict("halve") == WHEN
    assert found["Halved exactly sides"] == 112
    for side in (224, 7):
        (made,) = [value for label, value in found.items() if label.startswith(f"{side} px")]
        assert made == nn.MaxPool2d(3, 2, 1)(torch.zeros(1, 1, side, side)).shape[2]  # the same window


def test_rectifier():
    found = numbers("relu")
    assert verdict("relu") == FAILS
    assert [found[f"ReLU of {x}"] for x in ("3", "1", "−1")] == [max(0, x) for x in (3, 1, -1)]
    assert 0.2 < found["Zeros after the stem of the shipped ResNet-20 %"] < 0.8


def test_iterations():
    """Against the file that ships: the mean of each network's last losses over the seeds."""
    runs = json.loads((ROOT / "explorer" / "samples" / "degradation.json").read_text(encoding="utf-8"))["runs"]
    losses: dict[str, list[float]] = {}
    for run in runs:
        for one in run["networks"]:
            if one["kind"] == "plain":
                label = f"Plain-{one['depth']}, {run['settings']['steps']:,} steps, training loss"
                losses.setdefault(label, []).append(sum(one["losses"][-50:]) / 50)
    found = numbers("iterations")
    assert found == pytest.approx({label: sum(values) / len(values) for label, values in losses.items()})
    few, many = sorted({label.split(", ", 1)[1] for label in found}, key=len)
    assert found[f"Plain-20, {many}"] < found[f"Plain-56, {many}"] < found[f"Plain-56, {few}"]
    assert verdict("iterations") == WHEN


def test_identity():
    found = numbers("identity")
    assert verdict("identity") == HOLDS
    for name in ("ResNet-20", "Plain-20"):
        right = found[f"{name}, top-1 accuracy %"]
        assert found[f"{name}, with residual copies %"] == found[f"{name}, with plain copies %"] == right
        assert found[f"{name}, residual, largest change"] == 0 < found[f"{name}, plain, largest change"] < 1e-4
        assert found[f"{name}, plain blocks as initialised %"] < right - 0.3


def test_vanishing():
    found = numbers("vanishing")
    assert verdict("vanishing") == WHEN
    assert found["Plain-56, batch norm, first"] > 20 * found["Plain-20, batch norm, first"]
    assert found["Residual-56, batch norm, first"] < 20 * found["Residual-20, batch norm, first"]
    assert found["Plain-56, no norm, first"] < found["Plain-20, no norm, first"] / 2


def test_loss_landscape(monkeypatch):
    found, shipped = numbers("landscape"), claims.shipped_landscape()
    (*_, whole) = shipped.sharpness["plain56"]
    assert found[f"Plain-56, top Hessian eigenvalue, {whole.images} images"] == whole.sets[0].eigenvalue
    shares = [one.nonconvex for one in shipped.of("resnet56", "running")]
    assert found["ResNet-56 not convex, running statistics %"] == pytest.approx(sum(shares) / 3)
    for rougher, expected in (((3, 3), HOLDS), ((3, 2), WHEN), ((2, 2), FAILS)):
        counts = dict(zip(("batch", "running"), rougher, strict=True))
        monkeypatch.setattr(type(shipped), "rougher", lambda _, statistics, counts=counts: counts[statistics])
        finding = claims.loss_landscape()
        assert (finding.verdict, finding.condition) == (
            expected,
            "batch norm takes the batch statistics" * (expected == WHEN),
        )


# -- verdicts follow the numbers ----------------------------------------------------------


def test_a_verdict_changes_with_what_is_computed(monkeypatch):
    """Were the networks as the post says, the verdicts would say so."""
    cifar = trace(claims.preset("resnet56"), 32)
    monkeypatch.setattr(claims, "trace", lambda *_: cifar)
    assert claims.filter_sizes().verdict == HOLDS
    for first, expected in (((1.0, 1.0), HOLDS), ((1.0, 0.5), FAILS)):  # of 20 and of 56 layers
        spreads = iter(Flows((Flow(1.0, (1.0,), (norm,)),)) for norm in first)
        monkeypatch.setattr(
            claims, "initial_flows", lambda *_, spreads=spreads: dict.fromkeys(twins(cifar.config), next(spreads))
        )
        assert claims.vanishing().verdict == expected


@pytest.mark.parametrize(
    ("evidence", "text"),
    [
        (Evidence("", 1179648, "weights"), "1,179,648 weights"),
        (Evidence("", 0.0743, "%"), "7.43%"),
        (Evidence("", 1607.4), "1,607"),
        (Evidence("", 0.00098), "0.00098"),
        (Evidence("", 3), "3"),
    ],
)
def test_how_numbers_are_written(evidence, text):
    assert evidence.text == text


# -- the page -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page() -> AppTest:
    app = closed()
    app.default_timeout = 300
    return turned_to(app, "claims")


def test_every_claim_is_shown_with_verdict_numbers_and_link(page):
    text = "\n".join(element.value for element in (*page.header, *page.markdown))
    html = "\n".join(element.proto.body for element in page.get("html"))
    links = [(link.proto.label, link.proto.query_string) for link in page.get("page_link")]
    findings: list[Finding] = [claim.check() for claim in CLAIMS]
    for claim, finding in zip(CLAIMS, findings, strict=True):
        assert claim.statement in text
        assert finding.words in text
        for way in claim.links:
            assert any(label == way.label for label, _ in links)
        assert all(e.label in html for e in finding.evidence)
        assert finding.verdict in (HOLDS, WHEN, FAILS)
        assert bool(finding.condition) == (finding.verdict == WHEN)
    for kind, words in ((WHEN, "hold under a condition"), (FAILS, "do not hold")):
        assert f"**{sum(finding.verdict == kind for finding in findings)}** {words}" in text


WAYS = [(claim.key, way) for claim in CLAIMS for way in claim.links]


@pytest.mark.parametrize(("key", "way"), WAYS, ids=lambda part: part if isinstance(part, str) else part.kind)
def test_every_link_opens_what_it_names(key, way):
    """The page is there, the link reads back as the view, and what it selects exists."""
    assert (ROOT / "pages" / f"{way.page.name}.py").exists()
    assert View.from_query(way.view.to_query()) == way.view
    traced = trace(way.view.config, way.view.image_size)
    assert not way.view.at or way.view.at in traced.by_name


def test_every_claim_leads_to_a_line_an_image_and_an_experiment():
    for claim in CLAIMS:
        assert [way.kind for way in claim.links] == [LINE, PICTURE, EXPERIMENT]
        assert claim.links[2].view != claim.links[1].view, "the experiment changes something"
        note = next(note for note in NOTES if note.key == claim.links[0].view.tab)
        assert source.snippet(note.anchor).lines
    with pytest.raises(LookupError, match="no note of the source is called Nowhere"):
        _ = replace(CLAIMS[0], note="Nowhere").links


OPENINGS = {(way.page, tuple(way.view.to_query().items())): way for _, way in WAYS}


@pytest.mark.parametrize("way", OPENINGS.values(), ids=lambda way: way.label)
def test_every_link_opens_without_a_complaint(way, monkeypatch):
    """The page as the link opens it: its tab is there and nothing about it was wrong."""
    monkeypatch.setattr(identity_view, "image_count", lambda *_: 20)
    app = AppTest.from_file(str(ROOT / "explorer" / "script.py"), default_timeout=300)
    for name, text in way.view.to_query().items():
        app.query_params[name] = text
    app.run()
    app.switch_page(way.page.file).run()
    assert not app.exception, app.exception
    assert not app.warning, app.warning
    assert not app.error, app.error
    if way.kind != LINE and way.view.tab:
        assert way.view.tab in [tab.label for tab in app.tabs]


def test_a_note_that_is_not_there_is_said():
    app = AppTest.from_file(str(ROOT / "explorer" / "script.py"), default_timeout=300)
    app.query_params["tab"] = "note-nowhere"
    app.run()
    app.switch_page("../pages/source.py").run()
    assert "is no note of this page" in app.warning[0].value


@pytest.mark.parametrize("wanted", ["Holds", "Holds when", "Does not hold"])
def test_claims_are_shown_by_their_verdict(wanted):
    app = select(opened("claims"), "verdict", wanted)
    assert link(app)["tab"] == wanted
    shown = [header.value for header in app.header]
    numbered = enumerate(CLAIMS, start=1)
    verdicts = {"Holds": HOLDS, "Holds when": WHEN, "Does not hold": FAILS}
    assert shown == [f"{n}. {c.statement}" for n, c in numbered if verdict(c.key) == verdicts[wanted]]
    assert f"Of {len(CLAIMS)} claims, " in page_text(app)


@pytest.mark.browser
def test_a_link_opens_the_app_where_the_number_is_seen(visit):
    visit.open("/claims").page.get_by_role("link", name=BY_KEY["shrink"].links[1].label).click()
    visit.wait()
    assert visit.page.get_by_role("heading", name="ResNet-50 · Architecture", exact=True).is_visible()
    assert "layer2.0.conv2" in visit.page.url


@pytest.mark.browser
def test_a_line_is_scrolled_to(visit):
    line = BY_KEY["constant"].links[0]
    visit.open("/claims").page.get_by_role("link", name=line.label).click()
    visit.wait()
    note = visit.page.locator(f"#{line.view.tab}")
    expect(note).to_be_in_viewport()
    visit.page.evaluate("document.querySelector('[data-testid=stMain]').scrollTo(0, 0)")
    visit.pick("pre")  # another run of the page does not scroll again
    expect(note).not_to_be_in_viewport()


@pytest.mark.browser
@pytest.mark.parametrize("visit", [{"viewport": {"width": 390, "height": 800}}], indirect=True)
def test_the_claims_fit_a_phone(visit):
    assert visit.open("/claims").fits()

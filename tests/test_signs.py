"""Charts for everybody: what they tell apart by colour they tell apart by another sign, too, and each says what it shows."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import plotly.graph_objects as go
import pytest

from explorer.analysis.choose import Budget, points, row
from explorer.analysis.measured import others
from explorer.analysis.published import RECIPES
from explorer.analysis.trace import trace
from explorer.drawing import network, sketch
from explorer.drawing.svg import Drawing
from explorer.experiments.degradation import shipped_runs
from explorer.experiments.gradients import PLAIN, RESIDUAL
from explorer.experiments.shipped import shipped_family, shipped_results
from explorer.figures.base import figure_words
from explorer.figures.choose import choose_figure
from explorer.figures.compare import stages_figure
from explorer.figures.degradation import run_figure, spread_figure
from explorer.figures.gradients import Style, cosine_figure, flow_figure
from helpers import opened
from resnet import ResNetConfig, preset
from resnet.weights import BUNDLED

RUNS = max(shipped_runs().groups.items(), key=lambda group: group[0].steps)[1]
SIX = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2"]


def flows() -> go.Figure:
    """Two networks of each kind, as the page shows them after training."""
    found = shipped_results().trained["resnet20"]
    styles = [Style(kind, dash) for kind in (PLAIN, RESIDUAL) for dash in ("solid", "dash")]
    places = range(1, len(found.statistics("gradient")[0]) + 1)
    named = {" ".join(style): (found, style) for style in styles}
    return flow_figure(named, "gradient", dict.fromkeys(named, places), "Gradient", "")


def cosines() -> go.Figure:
    points = shipped_family(BUNDLED["resnet20"])
    assert points is not None
    return cosine_figure(points, sorted({point.depth for point in points}))


def accuracies() -> go.Figure:
    """With other families and the line of the best."""
    budget = Budget()
    return choose_figure(points(budget), "Parameters", budget, row(budget, "", ResNetConfig()), "", others())


FIGURES = {
    "choose": accuracies,
    "compare": lambda: stages_figure([trace(preset(name), 64) for name in SIX], SIX, "MACs"),
    "a run": lambda: run_figure(RUNS[0], "Training loss"),
    "runs": lambda: spread_figure(RUNS, "Training loss"),
    "gradients": flows,
    "cosines": cosines,
}
SERIES = {"choose": 1 + len(RECIPES) + 1, "compare": 6, "a run": 4, "runs": 4, "gradients": 4, "cosines": 2}


@pytest.mark.parametrize("name", FIGURES)
def test_the_colour_is_not_the_only_sign(name: str) -> None:
    series = [one for one in FIGURES[name]().data if one.name and one.showlegend is not False]
    assert len(series) == SERIES[name]
    signs = {
        (one.type, one.marker.pattern.shape)
        if one.type == "bar"
        else (one.type, one.mode, one.marker.symbol, one.line.dash)
        for one in series
    }
    assert len(signs) == len(series)


def test_a_run_that_begins_has_few_marks() -> None:
    run = RUNS[0]
    begun = replace(run, curves=tuple(curve._replace(losses=curve.losses[:20]) for curve in run.curves))
    for one, most in ((begun, 1), (run, 8)):
        assert {line.marker.maxdisplayed for line in run_figure(one, "").data if line.showlegend is not False} == {most}


@pytest.mark.parametrize(
    ("page", "tab"), [("architecture", "Cost"), ("experiments", "Shattered gradients"), ("choose", ""), ("start", "")]
)
def test_a_chart_says_what_it_shows(page: str, tab: str) -> None:
    app = opened(page, tab=tab, **({"with": "resnet18"} if page == "choose" else {}))
    charts = app.get("plotly_chart")
    assert charts
    for chart in charts:
        figure = go.Figure(json.loads(chart.proto.spec))
        assert chart.proto.alt == figure_words(figure)
        assert figure.layout.title.text.partition("<")[0] in chart.proto.alt


@pytest.mark.parametrize(
    "drawing",
    [sketch.block(True), sketch.block(False), network.strip(trace(preset("resnet50"), 224), "layer1.0.act3")],
    ids=["a block", "a plain block", "the strip"],
)
def test_no_text_has_the_pages_own_colour(drawing: Drawing) -> None:
    """It would be dark on a coloured box in the dark theme."""
    texts = re.findall(r"<text[^>]*>", drawing.themed())
    assert texts
    assert not [text for text in texts if "--st-background-color" in text]

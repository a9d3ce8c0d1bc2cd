"""Published accuracies against the copies of the sources, and the page that shows them."""

import json
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from explorer.analysis.published import RECIPES, network, published
from explorer.analysis.trace import trace
from helpers import PAPER, opened, reference
from resnet import preset

TORCHVISION = reference("torchvision_resnets")["weights"]


def test_torchvisions_are_all_there() -> None:
    ours = {(r.network, r.recipe[-2:]): r.top1 for r in published() if r.recipe.startswith("torchvision")}
    theirs = {(w["model"], name[-2:]): w["acc@1"] / 100 for name, w in TORCHVISION.items()}
    assert ours == pytest.approx(theirs)


def test_the_papers_errors() -> None:
    """Tables 2 and 3: every network of theirs that is a ResNet or its plain twin."""
    errors: dict[str, float] = {k: v for k, v in PAPER["table2"].items() if isinstance(v, float)}
    errors |= {k: row[0] for k, row in PAPER["table3"]["rows"].items() if k.startswith(("plain", "ResNet"))}
    errors.pop("ResNet-34")  # Table 3 calls it ResNet-34 A
    ours = [round(100 - 100 * r.top1, 2) for r in published() if r.recipe == "paper"]
    assert sorted(ours) == sorted(errors.values())
    option_a = [r for r in published() if r.recipe == "paper" and r.config.shortcut == "A"]
    assert {round(100 - 100 * r.top1, 2) for r in option_a} == {27.88, 25.03}


def test_every_result_has_a_recipe_and_a_network_that_traces() -> None:
    assert {result.group for result in published()} == set(RECIPES)
    assert all(0.6 < result.top1 < 0.86 and result.source.startswith("https://") for result in published())
    assert len({(r.config, r.recipe, r.size) for r in published()}) == len(published())
    for config, size in {(r.config, r.size) for r in published() if "18" in r.network}:
        assert trace(config, size).params > 1e7
    assert network("resnet34+shortcut=C") == preset("resnet34").with_(shortcut="C")[0]


# -- the page -----------------------------------------------------------------------------


def points(app: AppTest) -> list[list[Any]]:
    (chart,) = app.get("plotly_chart")
    return [data for series in json.loads(chart.proto.spec)["data"] for data in series["customdata"]]


def test_the_page_shows_every_result() -> None:
    app = opened("accuracy")
    assert sorted(data[0] for data in points(app)) == list(range(len(published())))
    words = " ".join(m.value for m in app.markdown)
    v1 = {r.network: r.top1 for r in published() if r.recipe == "torchvision V1"}
    assert f"adds {100 * (v1['resnet152'] - v1['resnet50']):.1f}" in words
    app.segmented_control(key="against").set_value("Parameters").run()
    assert not app.exception
    assert "parameters" in app.get("plotly_chart")[0].proto.spec
    assert app.query_params["tab"] == "Parameters"
    assert (
        opened("accuracy", tab="Parameters").get("plotly_chart")[0].proto.spec == app.get("plotly_chart")[0].proto.spec
    )


def test_a_cost_that_is_not_there_is_told() -> None:
    app = opened("accuracy", tab="Seconds")
    assert "tab = Seconds is not one of MACs, Parameters, Peak activations" in app.warning[0].value.replace("\\", "")
    assert "multiply-adds" in app.get("plotly_chart")[0].proto.spec


def test_a_network_without_results_is_told() -> None:
    assert any("Nothing is published" in caption.value for caption in opened("accuracy", layers="1-1-1-1").caption)
    assert not any("Nothing is published" in caption.value for caption in opened("accuracy").caption)


@pytest.mark.browser
def test_a_click_on_a_point_opens_its_network(visit: Any) -> None:
    page = visit.open("/accuracy").page
    others = [result.network for result in published() if result.group == "timm"]
    traces = page.locator(".scatterlayer .trace")
    point = traces.nth(list(RECIPES).index("timm")).locator("path.point").nth(others.index("resnet10t"))
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visit.wait()
    assert page.get_by_role("heading", level=1).inner_text() == "resnet10t"
    assert "layers=1-1-1-1" in page.url
    assert visit.fits()

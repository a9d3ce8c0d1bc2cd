"""Published accuracies against the copies of the sources, and the page that shows them."""

import json
from collections.abc import Iterator
from math import prod
from typing import Any

import pytest
from playwright.sync_api import expect
from streamlit.testing.v1 import AppTest

from explorer.analysis.published import RECIPES, Result, parse_config, published
from explorer.analysis.trace import trace
from explorer.bench.browser import server
from explorer.inference.limits import TOO_LARGE
from explorer.views.choose.published import RUN
from explorer.views.weights import too_large
from helpers import APP, PAPER, captions, click, hold, link, look_at, opened, page_text, reference, said, select
from resnet import owner, preset
from resnet.published import tags
from resnet.weights import published as published_weights

TORCHVISION = reference("torchvision_resnets")["weights"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The app of an owner who lets nothing be downloaded."""
    with server(APP, environment={owner.DOWNLOADS: "off"}) as (address, _):
        yield address


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
    assert all(0.6 < result.top1 < 0.88 and result.source.startswith("https://") for result in published())
    assert len({(r.config, r.recipe, r.size) for r in published()}) == len(published())
    for config, size in {(r.config, r.size) for r in published() if "18" in r.network}:
        assert trace(config, size).params > 1e7
    assert parse_config("resnet34+shortcut=C") == preset("resnet34").with_(shortcut="C")[0]


def test_timms_are_all_there_but_for_copies_of_torchvisions() -> None:
    ours = {result.weights.key: result for result in published() if result.weights and result.weights.hub}
    measured = {tag.name: tag for tag in tags() if tag.top1 is not None}
    copies = {name for name in measured if name.endswith((".tv_in1k", ".tv2_in1k"))}
    assert set(ours) == set(measured) - copies
    assert len(copies) == sum(result.recipe.startswith("torchvision") for result in published())
    for name, result in ours.items():
        assert (result.network, result.config) == (name.partition(".")[0], measured[name].config)
        assert (result.top1, result.size) == (measured[name].top1, measured[name].test_size)
    assert published_as("resnet50", "timm a1").top1 == pytest.approx(0.8124)
    assert published_as("resnet50", "timm fb_swsl_ig1b_ft").group == "more data"
    assert published_as("resnetaa50d", "timm sw_in12k_ft").group == "more data"
    assert {result.recipe for result in published() if "A1 to A3" in RECIPES[result.group]} == {
        "timm a1",
        "timm a1h",
        "timm a2",
        "timm a3",
    }


def published_as(network: str, recipe: str) -> Result:
    (found,) = [result for result in published() if (result.network, result.recipe) == (network, recipe)]
    return found


# -- the page -----------------------------------------------------------------------------


def points(app: AppTest) -> list[list[Any]]:
    (chart,) = app.get("plotly_chart")
    return [data for series in json.loads(chart.proto.spec)["data"] for data in series.get("customdata", ())]


def test_the_page_shows_every_result() -> None:
    app = opened("choose")
    assert sorted(data[0] for data in points(app)) == list(range(len(published())))
    words = " ".join(m.value for m in app.markdown)
    v1 = {r.network: r.top1 for r in published() if r.recipe == "torchvision V1"}
    assert f"adds {100 * (v1['resnet152'] - v1['resnet50']):.1f}" in words
    app.segmented_control(key="against").set_value("Parameters").run()
    assert not app.exception
    assert "parameters" in app.get("plotly_chart")[0].proto.spec
    assert app.query_params["tab"] == "Parameters"
    assert opened("choose", tab="Parameters").get("plotly_chart")[0].proto.spec == app.get("plotly_chart")[0].proto.spec


def test_recipes_are_compared_at_one_image_size() -> None:
    app = opened("choose")
    top1 = [one.top1 for one in published() if one.network == "resnet50" and one.size == 224 and not one.more_data]
    assert (len(top1), round(100 * (max(top1) - min(top1)), 1)) == (6, 4.7)
    words = "The same ResNet-50 at 224 pixels scores from 76.1% to 80.9% under 6 published recipes, 4.7 points apart."
    assert words in page_text(app)


def test_a_result_is_opened_from_the_list_at_the_size_that_is_set() -> None:
    app = opened("choose", size="256", preset="resnet34")
    results = app.selectbox(key="result").options
    assert len(results) == len(published())
    select(app, "result", "resnet50 · timm a1 · 81.24% at 288 px")
    assert link(app) == {"size": "256"}
    assert "top-5 95.11%, at 288 px" in page_text(app)
    select(app, "result", "resnet50 · timm d · 81.01% at 288 px")
    assert app.selectbox(key="result").value == "resnet50 · timm d · 81.01% at 288 px"
    look_at(app, config=preset("resnet18"))
    assert app.selectbox(key="result").value is None


def test_a_cost_that_is_not_there_is_told() -> None:
    app = opened("choose", tab="Seconds")
    assert "tab = Seconds is not one of MACs, Parameters, Peak activations, Latency" in said(app.warning)[0]
    assert "Top-1 against MACs" in app.get("plotly_chart")[0].proto.spec


def test_a_network_without_results_is_told() -> None:
    assert any("Nothing is published" in caption.value for caption in opened("choose", layers="1-1-1-1").caption)
    assert not any("Nothing is published" in caption.value for caption in opened("choose").caption)


def clicked(result: Result) -> AppTest:
    """The page once the point of a result was clicked."""
    app = opened("choose")
    hold(app, result=result)
    return look_at(app, config=result.config, image_size=(result.size,) * 2)


def test_a_clicked_point_is_named_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(owner.DOWNLOADS, "off")
    app = clicked(published_as("resnet50", "timm a1"))
    assert "**ResNet-50, timm a1**: top-1 81.24%, top-5 95.11%, at 288 px" in page_text(app)
    assert "Trained on ImageNet-1k. Licence: apache-2.0. 97.7 MiB." in captions(app)
    click(app, RUN)
    assert link(app) == {"weights": "resnet50.a1_in1k"}
    view = app.session_state["view"]
    assert (view.weights, view.image_size) == ("resnet50.a1_in1k", (288, 288))


def test_what_weights_saw_before_is_told() -> None:
    """And where they are too large to run, that they are, in place of a button."""
    app = clicked(published_as("resnext101_32x32d", "timm fb_wsl_ig1b_ft"))
    assert "Trained on Instagram (IG-1B), then ImageNet-1k. Licence: cc-by-nc-4.0." in captions(app)
    assert " ".join(said(app.caption)).count("This network is too large to run here: its weights take 1.7 GiB") == 2
    assert RUN not in [button.label for button in app.button]
    assert RUN not in str(app.dataframe[-1].value)


def test_which_published_weights_are_too_large() -> None:
    every = {weights for weights in published_weights() if weights.bytes > 2**28}
    assert {weights.key for weights in every if too_large(weights)} == TOO_LARGE
    heaviest = max(set(published_weights()) - every, key=lambda one: one.bytes * prod(one.data.preprocessing.size))
    assert not too_large(heaviest)


def test_weights_are_run_by_their_recipe_without_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(owner.DOWNLOADS, "off")
    app = opened("choose", preset="resnet34")
    (name,) = [name for name in app.selectbox(key="result").options if name.startswith("resnet34 · timm a3")]
    click(select(app, "result", name), RUN)
    assert app.session_state["view"].weights == "resnet34.a3_in1k"


def test_a_result_without_weights_says_so() -> None:
    app = clicked(published_as("resnet34", "paper"))
    assert "**ResNet-34, paper**: top-1 75.48% at 224 px" in page_text(app)
    assert "The weights of this result are not published." in captions(app)
    assert RUN not in [button.label for button in app.button]
    look_at(app, config=preset("resnet18"))
    assert "paper**" not in page_text(app)


@pytest.mark.browser
def test_a_click_on_a_point_opens_its_network(visit: Any) -> None:
    page = visit.open("/choose").page
    others = [result.network for result in published() if result.group == "timm"]
    traces = page.locator(".scatterlayer .trace")
    point = traces.nth(list(RECIPES).index("timm")).locator("path.point").nth(others.index("resnet10t"))
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visit.wait()
    assert "layers=1-1-1-1" in page.url
    page.get_by_role("button", name=RUN).click()
    visit.wait()
    assert "/inference?" in page.url
    assert "weights=resnet10t.c3_in1k" in page.url
    assert visit.fits()


@pytest.mark.browser
def test_a_keyboard_runs_what_is_published(visit: Any) -> None:
    page = visit.open("/choose?preset=resnet34").page
    box = page.get_by_role("combobox", name="Published result")
    box.press_sequentially("resnet34 · timm a3")
    box.press("Enter")
    visit.wait()
    page.get_by_role("button", name=RUN).press("Enter")
    visit.wait()
    assert "/inference?" in page.url
    assert "weights=resnet34.a3_in1k" in page.url


@pytest.mark.browser
def test_a_row_runs_its_weights_when_the_rows_are_sorted_too(visit: Any) -> None:
    page = visit.open("/choose?preset=resnet34").page
    table = page.get_by_test_id("stDataFrame")
    table.scroll_into_view_if_needed()
    visit.wait()
    recipe = page.get_by_test_id("glide-cell-0-0")
    expect(recipe).to_have_text("timm ra4_e3600_r224")
    table.click(position={"x": 160, "y": 18})  # a canvas: the head of Top-1
    expect(recipe).to_have_text("timm a3")
    table.click(position={"x": 320, "y": 18 + 35})  # the first of Weights
    visit.wait()
    assert "/inference?" in page.url
    assert "weights=resnet34.a3_in1k" in page.url

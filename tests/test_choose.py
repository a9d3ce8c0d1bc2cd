"""Choosing a network: budgets, what was measured elsewhere, the table and the chart under limits, and designs that are searched."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import plotly.graph_objects as go
import pyarrow.ipc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from explorer import Limits, Space
from explorer.analysis import measured, search
from explorer.analysis.choose import Budget, Here, Searched, design_row, front, points, robustness, row, rows, searching
from explorer.analysis.measured import IMAGENET, MACHINES, ROBUSTNESS, others, scores, speeds
from explorer.analysis.published import published
from explorer.analysis.trace import trace
from explorer.figures.choose import COSTS, choose_figure
from explorer.link import View
from explorer.sharing.engine import EndedError
from explorer.units import read_amount
from explorer.views.choose import designs as designs_panel
from explorer.views.choose import table as table_panel
from explorer.views.choose.limits import MEMORY_UNITS, UNITS, nearest, short, verdict_words
from explorer.views.choose.table import COLUMNS, compared, order, own_networks, ticked, ticks
from helpers import captions, click, held, hold, link, opened, page_text, run, said, select
from resnet import PRESETS, ResNetConfig, preset
from resnet.published import tags
from resnet.shipped import ShippedError

TIGHT = Budget(size=(320, 640), macs=5 * 10**9, params=30 * 10**6)
LINK = {"size": "320x640", "limits": TIGHT.to_text()}

# -- budgets ------------------------------------------------------------------------------


def test_one_preset_fits_5_gmacs_and_30_million_at_320_by_640() -> None:
    """By the traces of all that come near it; the nearest come next, with why they do not fit."""
    found = rows(TIGHT)
    near = {name: config for name, config in PRESETS.items() if config.depth < 30 and "fashion" not in name}
    traces = {name: trace(config, (320, 640)) for name, config in near.items()}
    inside = {name for name, one in traces.items() if one.macs <= 5e9 and one.params <= 3e7}
    assert [one.name for one in found if one.fits] == [*inside] == ["resnet10t"]
    nearest = min(set(traces) - inside, key=lambda name: max(traces[name].macs / 5e9, traces[name].params / 3e7))
    assert found[1].name == nearest == "resnet14t"
    assert found[1].reason == "6.84 GMACs, 1.37 times the limit"
    assert len(found) == len(PRESETS)


def test_a_budget_reads_back_and_its_image_size_is_the_links_own() -> None:
    budget = Budget(macs=5, params=6, memory=7, ms=12.5, machine="RTX 4090", weights=True)
    assert Budget.tolerant(budget.to_text()) == (budget, "")
    assert replace(budget, size=(1, 2)).to_text() == budget.to_text()


def test_mistakes_in_a_budget_are_named_in_a_sentence_and_the_rest_holds() -> None:
    budget, words = Budget.tolerant("macs-lots_colour-red_ms-12_machine-abacus_params-9")
    assert budget == Budget(ms=12.0, params=9)
    for wrong in ("macs = lots", "limits = colour-red", "machine = abacus"):
        assert wrong in words
    assert words.endswith("; the other limits hold.")
    assert words.count(". ") == 0


@pytest.mark.parametrize("number", [1, 999, 5 * 10**9, 4_090_000_000, 25_557_032, 30 * 10**6, 256 * 2**20, 10**15])
@pytest.mark.parametrize("units", [UNITS, MEMORY_UNITS])
def test_limits_are_shown_as_they_can_be_typed(number: int, units: Any) -> None:
    assert read_amount(short(number, units)) == number
    assert len(short(number, units)) <= len(str(number)) + 1


def test_weights_and_latency_are_limits_too() -> None:
    weights = rows(Budget(weights=True))
    assert {one.name for one in weights if not one.fits} >= {"resnet110", "plain18"}
    assert {one.name for one in weights if one.fits} >= {"resnet50", "resnet20_fashion", "resnet10t"}
    assert row(Budget(weights=True), "resnet18_v1", preset("resnet18")).result is not None
    assert all(one.result.weights for one in weights if one.result)
    every = rows(Budget())
    assert not all(one.result.weights for one in every if one.result)
    for one in every:
        assert one.top1 == max((known.top1 for known in published() if known.config == one.config), default=0)
    assert all(point.result.weights for point in points(Budget(weights=True)))
    fast = rows(Budget(ms=12.0, machine="i7-12700H"))
    assert [one.name for one in fast if one.fits] == ["resnet10t"]
    unmeasured = next(one for one in fast if one.name == "resnet110")
    assert (unmeasured.reason, unmeasured.distance) == ("not measured on i7-12700H", float("inf"))
    assert [each.brief for each in unmeasured.over] == [unmeasured.reason]


def test_an_image_that_is_too_small_fits_nothing() -> None:
    found = row(Budget(size=(1, 1)), "resnetblur50", preset("resnetblur50"))
    assert (found.candidate, found.fits, found.latencies) == (None, False, ())
    assert found.reason == "the image is too small for one of its operations"


# -- measured elsewhere -------------------------------------------------------------------


def test_milliseconds_are_those_measured_or_scaled_by_macs() -> None:
    """timm's file says 43.63 images a second for resnet50 at 160 pixels on the i7, and 158.58 for resnet10t at 176."""
    there = dict(row(Budget(size=(160, 160)), "resnet50", ResNetConfig()).latencies)["i7-12700H"]
    assert (there.ms, there.scaled, there.measured.batch) == (pytest.approx(1000 / 43.63), False, 1)
    for size, factor in (((160, 160), 1), ((160, 320), 2)):  # an image twice as wide is another size
        of_a_batch = dict(row(Budget(size=size), "resnet50", ResNetConfig()).latencies)["RTX 4090"]
        assert of_a_batch.ms == pytest.approx(factor * 1000 / 10141.36, rel=2e-3)
        assert of_a_batch.scaled == (factor > 1)
    within, beyond = (Budget(size=(160, 160), ms=there.ms * share) for share in (1, 0.5))
    assert row(within, "resnet50", ResNetConfig()).fits
    assert row(beyond, "resnet50", ResNetConfig()).reason == "22.9 ms, 2.00 times the limit"
    elsewhere = dict(row(TIGHT, "resnet10t", preset("resnet10t")).latencies)["i7-12700H"]
    share = trace(preset("resnet10t"), (320, 640)).macs / trace(preset("resnet10t"), 176).macs
    assert (elsewhere.ms, elsewhere.scaled) == (pytest.approx(1000 / 158.58 * share), True)
    assert row(replace(TIGHT, ms=1.0), "resnet10t", preset("resnet10t")).reason.startswith("about 40.4 ms, ")


def test_equal_macs_take_unequal_times() -> None:
    """Wide ResNet-50-2 against ResNet-152, both 11.4 to 11.5 GMACs: slower on a CPU, faster on a GPU."""
    wide, deep = (dict(row(Budget(), name, preset(name)).latencies) for name in ("wide_resnet50_2", "resnet152"))
    ratios = {machine: wide[machine].ms / deep[machine].ms for machine in wide}
    assert ratios["i7-12700H"] > 1.1
    assert ratios["RTX 4090"] < 0.8


def test_every_speed_is_of_a_machine_and_its_macs_are_the_traces() -> None:
    every = speeds()
    assert {machine for one in every.values() for machine in one} == set(MACHINES)
    assert len(set(every) & set(PRESETS)) == 82
    for machine, words in MACHINES.items():
        batches = sorted({one[machine].batch for one in every.values() if machine in one})
        assert f"batch {batches[0]}" in words or f"batch of {batches[0]}" in words
        assert words.endswith(f"{batches[-1]:,}")
    for name in ("resnet18", "seresnext50_32x4d", "resnetrs50"):
        for speed in set(every[name].values()):
            assert speed.macs == trace(preset(name), speed.size).macs
    assert {speed.macs for name, one in every.items() if name not in PRESETS for speed in one.values()} == {0}


def test_scores_are_those_of_the_published_weights() -> None:
    """Top-1 on ImageNet stands in two files, from one of timm's; torchvision's weights have names of their own there."""
    ours = {tag.name: tag for tag in tags() if tag.top1 is not None}
    both = set(ours) & set(scores())
    assert len(both) > 100
    for name in both:
        assert scores()[name][IMAGENET].top1 == pytest.approx(ours[name].top1)
    fifty = {one.recipe: robustness(one) for one in published() if one.network == "resnet50"}
    assert [fifty[f"torchvision {recipe}"]["V2"].top1 for recipe in ("V1", "V2")] == pytest.approx([0.6319, 0.6951])
    assert set(ROBUSTNESS) - set(fifty["torchvision V1"]) == {"A"}  # which timm has no figure of
    assert set(fifty["torchvision V2"]) == set(ROBUSTNESS)
    assert robustness(None) == {}


def test_a_file_that_is_cut_in_a_number_or_has_other_columns_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, path = measured.SPEEDS.read_text(encoding="utf-8"), tmp_path / "speeds.csv"
    monkeypatch.setattr(measured, "SPEEDS", path)
    for text in (whole[:-3], whole.replace("images_per_second", "seconds", 1)):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ShippedError, match=r"^speeds\.csv is damaged"):
            measured.speeds.__wrapped__()


def test_other_families_are_no_presets() -> None:
    assert len(others()) == 19
    assert {one.network for one in others()}.isdisjoint(PRESETS)
    best = max(others(), key=lambda one: one.score.top1)
    assert (best.tag, best.params, best.score.size) == ("convnext_small.in12k_ft_in1k_384", 50_220_000, 384)


# -- the chart ----------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), max_size=12))
def test_the_line_joins_what_nothing_beats(places: list[tuple[int, int]]) -> None:
    beaten = {
        (cost, top1)
        for cost, top1 in places
        if any(c <= cost and t >= top1 and (c, t) != (cost, top1) for c, t in places)
    }
    assert [places[index] for index in front(places)] == sorted(set(places) - beaten)


def figure(budget: Budget, name: str = "MACs") -> go.Figure:
    return choose_figure(points(budget), name, budget, row(budget, "resnet50", ResNetConfig()), "ResNet-50", others())


def test_points_move_with_the_image_and_are_hollow_where_accuracy_was_measured_at_another() -> None:
    small, large = (figure(Budget(size=size)) for size in ((224, 224), (320, 640)))
    for before, after in zip(small.data, large.data, strict=True):
        if before.customdata is not None:
            assert all(x < y for x, y in zip(before.x, after.x, strict=True))
            sizes = [data[3] for data in before.customdata]
            assert [symbol.endswith("-open") for symbol in before.marker.symbol] == [size != 224 for size in sizes]
            assert all(symbol.endswith("-open") for symbol in after.marker.symbol)


def test_what_is_over_budget_is_shaded_and_faint_and_the_line_leaves_it_out() -> None:
    shown = figure(TIGHT)
    (shade,) = [shape for shape in shown.layout.shapes if shape.type == "rect"]
    assert shade.x0 == 5 * 10**9
    faint = [one for series in shown.data if series.customdata is not None for one in series.marker.opacity]
    assert faint.count(0.9) == sum(one.network == "resnet10t" for one in published())
    (line,) = [series for series in shown.data if series.mode == "lines"]
    assert len(line.x) == 1
    assert not [shape for shape in figure(Budget()).layout.shapes if shape.type == "rect"]


@pytest.mark.parametrize("name", COSTS)
def test_other_families_stand_where_their_cost_is_known(name: str) -> None:
    names = [series.name for series in figure(Budget(), name).data]
    assert ("other families" in names) == (name in ("Parameters", "Latency"))


# -- the page -----------------------------------------------------------------------------


def test_the_page_names_what_fits_and_the_nearest() -> None:
    app = opened("choose", **LINK)
    assert "**1 of 103** fits at 320×640 px; best top-1: **resnet10t**, 68.35% at 224 px" in page_text(app)
    assert "Without the limit on MACs alone, 57 more would." in page_text(app)
    near = captions(app).replace("\\", "")
    assert "resnet14t**: 6.84 GMACs, 1.37 times the limit; fits at 272×544 pixels, or with 13/16 of its planes" in near
    frame = app.dataframe[0].value
    assert list(frame["Over"][:2]) == ["", "MACs ×1.37"]
    assert list(frame["Network"][:2]) == ["resnet10t", "resnet14t"]
    assert frame["MACs"][0] == trace(preset("resnet10t"), (320, 640)).macs


def test_limits_are_typed_as_people_write_them_and_stand_in_the_link() -> None:
    app = select(opened("choose"), "limits macs", "5 G")
    select(app, "limits ms", "12")
    select(app, "limits machine", "RTX 4090")
    assert link(app) == {"limits": "macs-5000000000_ms-12.0_machine-RTX.4090"}
    assert app.text_input(key="limits macs").value == "5G"
    select(app, "limits params", "many")
    (words,) = said(app.warning)
    assert words.startswith("Parameters = many is not accepted: an amount such as 5e9")
    assert app.text_input(key="limits params").value == "many"
    select(app, "limits ms", "-1")
    assert said(app.warning) == ["Latency = -1 is not accepted: a number from 0 to 900. The limits are unchanged."]
    assert link(app) == {"limits": "macs-5000000000_ms-12.0_machine-RTX.4090"}
    select(app, "limits macs", "")
    assert link(app) == {"limits": "ms-12.0_machine-RTX.4090"}
    select(app, "limits ms", "")
    assert link(app) == {"limits": "machine-RTX.4090"}
    select(app, "limits size", "320x640")
    assert link(app)["size"] == app.text_input(key="size").value == "320x640"


def test_the_nearest_are_networks_and_not_names() -> None:
    """resnet18 and resnet18_v1 are the same one."""
    fast = rows(replace(TIGHT, ms=12.0, machine="RTX 4090"))
    assert [one.name for one in fast if not one.fits][:4] == ["resnet14t", "resnet18", "resnet18_v1", "seresnet18"]
    assert [one.name for one in nearest(fast)] == ["resnet14t", "resnet18", "seresnet18"]
    assert not all(one.fits for one in rows(Budget(size=(1, 1))))
    assert nearest(rows(Budget(size=(1, 1)))) == []  # those that do not fit cannot take the image


def test_a_link_with_wrong_limits_says_so_and_keeps_the_rest() -> None:
    app = opened("choose", limits="macs-lots_params-30000000")
    (words,) = said(app.warning)
    assert words.startswith("macs = lots is not accepted")
    assert app.text_input(key="limits params").value == "30M"


@pytest.mark.parametrize(("name", "anchor"), [("compare", "compared"), ("accuracy", "")])
def test_links_of_before_lead_to_their_part_of_the_page(address: str, name: str, anchor: str) -> None:
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)) as connection:
        connection.request("GET", f"/{name}?size=64&with=resnet34")
        answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (307, f"choose?size=64&with=resnet34#{anchor}")


def test_the_table_is_written_alike_however_often_it_is_shown() -> None:
    """Numbers to sort by are written with their units; rows over budget are faint but for their names, the others' are bold."""
    app = opened("choose", **LINK)
    first = app.dataframe[0].proto.arrow_data
    written = pyarrow.ipc.open_stream(first.styler.display_values).read_pandas()
    assert list(written["MACs"][:2]) == ["4.48 G", "6.84 G"]
    assert written["Top-1"][0] == "68.35% at 224"
    assert written["RTX 4090"][0].startswith("≈ ")
    looks = [
        (words.strip(), {(int(row), int(column)) for row, column in re.findall(r"row(\d+)_col(\d+)", cells)})
        for cells, words in re.findall(r"([^{}]*)\{([^}]*)\}", first.styler.styles)
    ]
    (bold,) = (cells for words, cells in looks if words.startswith("font-weight"))
    (faint,) = (cells for words, cells in looks if words.startswith("color"))
    assert bold == {(0, 0)}
    assert faint == set(product(range(1, len(PRESETS)), range(1, len(written.columns))))
    again = run(app).dataframe[0].proto.arrow_data.styler
    assert (again.display_values, again.styles) == (first.styler.display_values, first.styler.styles)
    hold(
        app,
        timed_here={
            (preset("resnet10t"), (320, 640)): Here(12.34, "fp32, 2 threads"),
            (preset("resnet14t"), (64, 64)): Here(1.0, "fp32, 2 threads"),
        },
    )
    here = app.run().dataframe[0].proto.arrow_data.styler.display_values
    written = pyarrow.ipc.open_stream(here).read_pandas()["ms here"]
    assert list(written[:2]) == ["12.3 (fp32, 2 threads)", "–"]  # the other was measured at another size


def test_columns_of_what_is_limited_come_first() -> None:
    given = order(Budget(ms=1.0, memory=1, machine="RTX 3090"), over=True)
    assert given[:6] == ["Network", "Open", "Top-1", "Over", "Peak", "RTX 3090"]
    assert sorted(given) == sorted([*COLUMNS, "Open"])
    assert order(Budget(), over=False) == [
        "Network",
        "Open",
        *(name for name in COLUMNS if name not in ("Network", "Over")),
    ]


def test_ones_own_networks_are_rows_and_the_ticks_are_those_beside_each_other() -> None:
    app = opened("choose", layers="1-1-1-2", **{"with": "resnet34"})
    frame = app.dataframe[0].value
    assert len(frame) == len(PRESETS) + 1
    marked = frame["Network"][app.session_state["networks"]["selection"]["rows"]]
    assert {*marked} == {"resnet34", "ResNet-50, blocks per stage 1-1-1-2"}


def test_ones_own_are_the_current_network_those_beside_it_and_the_pinned_one() -> None:
    first, second, third = (preset("resnet18").with_(groups=1, planes=(planes,) * 4)[0] for planes in (8, 16, 24))
    view = View(first, others=(preset("resnet34"), second), pinned=third)
    assert [config for _, config in own_networks(view)] == [first, second, third]


def test_ticking() -> None:
    first, second, third = (preset(name) for name in ("resnet50", "resnet18", "resnet34"))
    assert ticked((first,), (second, first)) == (first, second)
    assert ticked((first, second), (third, second, first)) == (first, second, third)
    assert ticked((first, second), (second,)) == (second,)
    assert ticked((first, second), ()) == (first,)
    view = View(first, others=(second, first))
    assert compared(view) == (first, second)
    every = rows(Budget())
    names = {every[place].name for place in ticks(view, every)}
    assert names == {"resnet50", "resnet18"}  # and not resnet18_v1, which is the same network


def looked_at(view: View, monkeypatch: pytest.MonkeyPatch) -> tuple[list[View], list[str]]:
    """While a person looks at something: what is shown next, and what is said."""
    shown: list[View] = []
    told: list[str] = []

    def show(new: View, *notes: str) -> None:
        shown.append(new)
        told.extend(notes)

    monkeypatch.setattr(table_panel.session, "view", lambda: view)
    monkeypatch.setattr(table_panel.session, "show", show)
    monkeypatch.setattr(table_panel.session, "hold", lambda problems, notes: told.extend(problems))
    return shown, told


def test_six_networks_are_ticked_and_no_seventh(monkeypatch: pytest.MonkeyPatch) -> None:
    seven = tuple(map(preset, ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet26", "resnet14t")))
    shown, told = looked_at(View(seven[0], weights="random"), monkeypatch)
    table_panel.tick(seven[:6])
    assert (compared(shown[0]), shown[0].weights, told) == (seven[:6], "random", [])
    table_panel.tick(seven)
    assert (len(shown), told) == (1, ["At most 6 networks are compared: untick one of them first."])
    table_panel.tick(seven[1:3])
    assert (compared(shown[1]), shown[1].weights) == (seven[1:3], "")  # which are of the network that was looked at


def test_a_row_is_opened_at_the_size_that_is_set_and_a_design_at_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    view, budget = View(ResNetConfig(), image_size=(64, 80), weights="random"), Budget(size=(64, 80))
    shown, told = looked_at(view, monkeypatch)
    table_panel.open_row(row(budget, "resnet18", preset("resnet18")))
    assert (shown, told) == ([View(preset("resnet18"), image_size=(64, 80))], [])
    (large,) = search.search(Space.from_text("resnet34 size=96x128"), budget)
    table_panel.open_row(design_row(budget, large, large.config))
    assert shown[1] == View(preset("resnet34"), image_size=(96, 128))
    assert told == ["Image size went from 64x80 to 96x128."]


# -- designs ------------------------------------------------------------------------------

SPACE = "layers=1..3-1..2-1-1 planes=32..64/16-128-256-512 groups=1,32"


def test_a_search_that_goes_on_ends_as_one_that_was_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    space, limits = Space.from_text(f"resnet50 {SPACE}"), Limits((64, 64), macs=2 * 10**8)
    (whole,) = searching(space, limits)
    monkeypatch.setattr(search, "DESIGNS", 5)
    *_, last = searching(space, limits)
    halfway = next(one for one in searching(space, limits) if one.stop == 20)
    *_, resumed = searching(space, limits, halfway)
    assert resumed == last == whole
    every = [*search.search(space, limits)]
    assert set(whole.best) == set(search.pareto(every))
    assert whole.within == len(every)
    assert whole.within + whole.over + whole.invalid == whole.stop == len(space) == 36


def test_a_design_is_called_by_what_differs_from_the_network_around_it() -> None:
    space, budget = Space.from_text("resnet18 attention=none,se size=64,96x128"), Budget(size=(64, 64))
    names = [design_row(budget, one, space.base).name for one in search.search(space, budget)]
    assert names == ["Design 0: as it is", "Design 1: 96×128", "Design 2: se", "Design 3: se, 96×128"]


def test_the_best_is_the_most_accurate_of_those_that_have_a_result() -> None:
    (design,) = search.search(Space(preset("resnet18")), Limits())
    every = rows(Budget(), designs=[design])
    assert every[0].candidate == design
    best = max(published(), key=lambda one: one.top1)
    words = verdict_words(Budget(), every, every).replace("\\", "")
    assert f"; best top-1: **{best.network}**, {best.top1:.2%} at {best.size} px" in words


def designs(app: AppTest) -> list[str]:
    return [name for name in app.dataframe[0].value["Network"] if name.startswith("Design ")]


def test_designs_are_searched_and_stand_in_the_table() -> None:
    app = opened("choose", size="64", limits="macs-200000000", space=SPACE)
    assert not designs(app)
    click(app, "Search 36 designs")
    (last,) = searching(Space.from_text(f"resnet50 {SPACE}"), Limits((64, 64), macs=2 * 10**8))
    assert len(designs(app)) == len(last.best) > 3
    first = last.best[0]
    layers, planes = ("-".join(map(str, one)) for one in (first.config.layers, first.config.planes))
    assert app.dataframe[0].value["Network"][0] == designs(app)[0] == f"Design {first.index}: {layers}, {planes}"
    assert f"**{last.within}** are within the limits, {last.over} over one" in page_text(app)
    assert not [button for button in app.button if button.label.startswith("Search 36")]


def test_a_stopped_search_goes_on_from_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "DESIGNS", 9)
    app = opened("choose", size="65", limits="macs-200000000", space=SPACE)
    space = Space.from_text(f"? {SPACE}")
    part = next(searching(space, Limits((65, 65), macs=2 * 10**8)))
    hold(app, searched=(("designs", space.to_text(), Limits((65, 65), macs=2 * 10**8)), part))
    app.run()
    assert "Stopped after 9 of 36 designs." in page_text(app)
    assert len(designs(app)) == len(part.best)
    click(app, "Go on with 27")
    assert isinstance(held(app).searched[1], Searched)  # type: ignore[index]
    assert held(app).searched[1].stop == 36  # type: ignore[index]
    assert "Stopped" not in page_text(app)


@pytest.mark.parametrize("parts", [0, 2, 4], ids=["no worker", "a worker that is lost", "a worker"])
def test_a_large_search_is_a_workers_and_goes_on_here_without_one(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is handed to the engine whole; what that does not give is searched here."""
    monkeypatch.setattr(search, "DESIGNS", 9)
    monkeypatch.setattr(designs_panel, "AT_ONCE", 35)
    space, limits = Space.from_text(f"resnet50 {SPACE}"), Limits((64, 64), macs=2 * 10**8)
    whole, asked = list(searching(space, limits)), []

    def run(function: Callable[..., Iterator[Searched]], *given: Any) -> Iterator[Searched]:
        asked.append(given)
        yield from islice(function(*given), parts)
        if parts < len(whole):
            raise EndedError("no scheduler answers")

    monkeypatch.setattr(designs_panel.ENGINE, "run", run)
    assert list(designs_panel.steps(space, limits, Searched())) == whole
    assert asked == [(space, limits, Searched())]
    assert list(designs_panel.steps(space, limits, whole[0])) == whole[1:]
    assert len(asked) == 1  # 27 are left, which is no large search


def test_a_search_is_shared_by_its_space_and_the_limits_on_designs() -> None:
    space, key = Space.from_text("resnet18 groups=1"), designs_panel.key_of
    others: list[dict[str, Any]] = [{}, {"macs": 1}, {"params": 1}, {"memory": 1}, {"size": (64, 64)}]
    every = [key(space, Budget(**given)) for given in others] + [key(Space(preset("resnet34")), Budget())]
    assert len({*every}) == len(every)
    assert key(space, Budget(ms=1.0, weights=True)) == every[0]


def test_the_table_has_the_designs_of_fewest_macs_and_is_shared_by_what_they_follow_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = tuple(search.search(Space.from_text("resnet18 layers=1-1..4-1..4-1..4"), Limits()))
    found = Searched(len(every), best=every[::-1])
    monkeypatch.setattr(designs_panel, "searched", lambda view, budget: found)
    view = View(preset("resnet18"), space="layers=1-1..4-1..4-1..4")
    shown = designs_panel.best(view, Budget())
    assert [one.macs for one in shown.best] == sorted(one.macs for one in every)[: designs_panel.SHOWN]
    keys = [shown.key, designs_panel.best(replace(view, config=preset("resnet34")), Budget()).key]
    found = found._replace(stop=5)
    keys.append(designs_panel.best(view, Budget()).key)
    assert len({*keys}) == 3


def test_an_axis_is_typed_and_a_mistake_named() -> None:
    app = select(opened("choose"), "space groups", "1, 32")
    assert link(app) == {"space": "groups=1,32"}
    assert [button for button in app.button if button.label == "Search 2 designs"]
    select(app, "space groups", "1,two")
    assert "Groups = two is not accepted" in said(app.warning)[0]
    app = opened("choose", space="colour=red")
    assert "space = colour=red is not accepted" in said(app.warning)[0]
    assert said(app.warning)[0].endswith("Nothing is searched.")
    app = opened("choose", preset="resnet34", space="resnet18 groups=1")
    assert "space = resnet18 is not accepted: the network is ResNet-34 already, and options" in said(app.warning)[0]
    app = opened("choose", preset="resnet34", space="groups=1")
    assert not app.warning
    assert [button for button in app.button if button.label == "Search 1 design"]


@pytest.mark.browser
def test_the_first_screen_and_a_click_in_the_table(visit: Any) -> None:
    """Limits, verdict, table and chart are seen at once; a tick sets a network beside the current one, and a button opens one."""
    visit.page.set_viewport_size({"width": 1280, "height": 720})
    page = visit.open(f"/accuracy?size=320x640&limits={TIGHT.to_text()}").page
    assert "/choose?" in page.url
    table = page.get_by_test_id("stDataFrame").first
    for part in (table, page.locator(".js-plotly-plot").first):
        box = part.bounding_box()
        assert 0 < box["y"] < box["y"] + box["height"] <= 720
    table.click(position={"x": 18, "y": 52})
    visit.wait()
    assert "with=resnet10t" in page.url
    assert page.get_by_text("What makes the difference").count()
    table.click(position={"x": 190, "y": 52 + 33})
    visit.wait()
    assert "layers=1-1-1-1" in page.url
    assert json.dumps("size=320x640").strip('"') in page.url

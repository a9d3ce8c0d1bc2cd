"""The way in: Start and its table, and where links lead that name no page."""

from __future__ import annotations

import http.client
import re
from contextlib import closing
from urllib.parse import parse_qsl, urlsplit

import pytest

from explorer.analysis.table1 import FLOPS, V1, V15, names, stages
from explorer.analysis.trace import trace
from explorer.experiments.degradation import shipped_runs
from explorer.link import View, names_view, parse_network
from explorer.views.start import cached_curves, cached_words, table_html
from helpers import PAPER, captions, link, opened, run, said, select
from resnet import preset

TABLE = PAPER["table1"]


@pytest.mark.parametrize("version", [V1, V15])
def test_the_table_is_the_papers(version: str) -> None:
    widths = {"basic": ["3×3, {0}"] * 2, "bottleneck": ["1×1, {0}", "3×3, {0}", "1×1, {1}"]}
    assert [str(depth) for depth in FLOPS] == list(TABLE["nets"])
    for depth, name in names(version).items():
        net, found = TABLE["nets"][str(depth)], stages(trace(preset(name), 224))
        assert [stage.blocks for stage in found] == net["layers"]
        assert [stage.side for stage in found] == TABLE["output_sizes"][1:5]
        for width, stage in zip(TABLE["basic_widths"], found, strict=True):
            assert [line.format(width, 4 * width) for line in widths[net["block"]]] == list(stage.convolutions)
        assert FLOPS[depth] == f"{net['flops'] / 1e9:.1f}×10⁹"


def test_the_two_versions_differ_in_what_a_bottleneck_costs_only() -> None:
    macs = {version: {d: trace(preset(n), 224).macs for d, n in names(version).items()} for version in (V1, V15)}
    check = PAPER["flops_check"]["macs"]
    assert macs[V1] == {18: check["18_optB"], 34: check["34_optB"], **{d: check[f"{d}_v1"] for d in (50, 101, 152)}}
    assert {depth for depth in FLOPS if macs[V1][depth] != macs[V15][depth]} == {50, 101, 152}


def test_every_head_and_cell_is_a_link_to_what_it_names() -> None:
    opened("start")
    links = re.findall(r'<a href="architecture\?([^"]*)" data-id="(\S+?)(?: (\S+))?"', table_html(V15))
    assert len(links) == 5 + 4 * 5
    for query, name, at in links:
        view = parse_network("?" + query.replace("&amp;", "&"))
        assert view.config == preset(name)
        assert not at or at in trace(view.config, 224).by_name
        assert view.at == at


@pytest.mark.parametrize(("shortcuts", "kind"), [(False, "plain"), (True, "residual")])
def test_the_curves_are_those_that_ship(shortcuts: bool, kind: str) -> None:
    runs = next(runs for settings, runs in shipped_runs().groups.items() if settings.steps == 1000)
    figure = cached_curves(shortcuts)
    assert [curve.name for curve in figure.data if curve.name] == [f"{kind.capitalize()}-{depth}" for depth in (20, 56)]
    deep = next(i for i, network in enumerate(runs[0].settings.networks) if network == (kind, 56))
    loss = sum(run.curves[deep].loss for run in runs) / len(runs)
    assert f"-56 ends at {loss:.2f}" in cached_words(shortcuts)


def test_start_keeps_the_network_that_its_link_does_not_name() -> None:
    app = opened("architecture", preset="resnet18")
    run(app.switch_page("../pages/start.py"))
    assert link(app) == {}
    assert app.session_state["view"].config == preset("resnet18")
    run(app.switch_page("../pages/architecture.py"))
    assert View.from_query(link(app)).config == preset("resnet18")


def test_starts_switches_stand_in_its_link_and_stay() -> None:
    app = select(select(opened("start"), "start shortcuts", "on"), "start table", V15)
    assert link(app) == {"start": "shortcuts-on_table-v1.5"}
    again = opened("start", **link(app))
    run(run(app.switch_page("../pages/kernels.py")).switch_page("../pages/start.py"))
    for one in (app, again):
        assert cached_words(True) in captions(one)
        assert one.get_by_key("table v1.5")
    app.query_params["start"] = "table-v1.5"  # as when a browser goes back
    assert cached_words(False) in captions(run(app))
    (warning,) = said(opened("start", start="table-v3").warning)
    assert warning == "table = v3 is not accepted: one of v1, v1.5. The defaults are shown instead."


@pytest.mark.parametrize(
    "query", ["preset=resnet18", "layers=2-2-2-2&block=basic", "tab=Cost", "picture=hen", "utm=x&at=fc"]
)
def test_a_link_that_names_a_view_and_no_page_opens_architecture(address: str, query: str) -> None:
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)) as connection:
        connection.request("GET", f"/?{query}")
        answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (307, f"architecture?{query}")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("query", ["", "present=1", "tour=5", "start=shortcuts-on", "utm_source=mail"])
def test_other_links_without_a_page_open_start(address: str, query: str) -> None:
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)) as connection:
        connection.request("GET", f"/?{query}")
        assert connection.getresponse().status == 200
    assert not names_view(dict(parse_qsl(query)))


@pytest.mark.browser
@pytest.mark.parametrize("visit", [{"viewport": {"width": 1280, "height": 720}}], indirect=True)
def test_start_is_whole_on_a_small_screen_and_its_cells_open_stages(visit) -> None:
    page = visit.open("/").page
    cell = page.get_by_role("link", name=re.compile("ResNet-101 v1, stage 3"))
    cell.wait_for()
    main = page.get_by_test_id("stMain")
    assert main.evaluate("main => main.scrollHeight <= main.clientHeight")
    cell.focus()
    page.keyboard.press("Enter")
    visit.wait()
    address = urlsplit(page.url)
    assert address.path == "/architecture"
    assert parse_network(page.url) == View(preset("resnet101_v1"), at="layer3.0.conv1")
    page.go_back()
    visit.wait()
    assert urlsplit(page.url).path == "/"


@pytest.mark.browser
def test_an_old_link_opens_its_view(visit) -> None:
    visit.open("/?preset=resnet18&at=layer2.0.conv1")
    assert urlsplit(visit.page.url).path == "/architecture"
    assert parse_network(visit.page.url) == View(preset("resnet18"), at="layer2.0.conv1")
    assert visit.metric("Parameters") == "11.69 M"

"""The app without a browser: what a person sets, what the page says, what the link holds."""

from __future__ import annotations

import io
import json
import re
import shutil
import urllib.error
import urllib.request
import zlib
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageOps
from streamlit.testing.v1 import AppTest
from torchvision.models import resnet18

import resnet.servers
import resnet.sources
from explorer.analysis.trace import trace
from explorer.inference.images import open_image
from explorer.inference.samples import _SAMPLES, Sample, samples
from explorer.link import UPLOAD, View
from explorer.sharing.holdings import Holdings
from explorer.sharing.store import RESULTS
from explorer.views import cached, session
from explorer.views.inference import ablation, images, selection
from helpers import (
    ARCHITECTURE_TABS,
    CLOTHES,
    TABS,
    TIMM,
    captions,
    click,
    closed,
    deltas,
    figures,
    held,
    link,
    look_at,
    looked,
    opened,
    page_text,
    run,
    said,
    select,
    tab,
    texts,
    typed_into,
    widget_of,
)
from resnet import OPTIONS, ResNet, ResNetConfig, preset
from resnet.weights import FASHION_MNIST, Weights, load

TRAINED = "Use the shipped ResNet-20, trained on clothing"
IMAGENET = "ResNet-50 with ImageNet weights (98 MiB)"


@pytest.fixture(autouse=True)
def _nothing_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither weights that this machine already has nor a network."""

    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(resnet.servers, "_open", unreachable)


# -- a person at the app ------------------------------------------------------------------


def choose(app: AppTest, option: str, value: Any) -> AppTest:
    """Set an option's widget, or the image size's."""
    return select(app, option if option == "size" else f"option {option}", value)


def compared_with(app: AppTest) -> set[str]:
    return {metric.proto.delta_description for metric in app.metric}


# -- architecture -------------------------------------------------------------------------

RESNET50 = {"Parameters": "25.56 M", "MACs": "4.09 G", "Peak activations": "11.3 MiB", "Receptive field": "427 px"}


def test_the_first_page_is_resnet50() -> None:
    app = opened()
    assert app.title[0].value == "ResNet-50 · Architecture"
    assert figures(app) == RESNET50
    assert deltas(app) == [""] * 4
    assert link(app) == {}
    assert not app.warning
    assert not app.info
    assert app.selectbox(key="preset").value == "resnet50"


def test_a_change_shows_what_it_costs() -> None:
    app = choose(opened(), "block", "basic")
    assert app.title[0].value == "ResNet-34 · Architecture"
    assert (figures(app)["Parameters"], figures(app)["MACs"]) == ("21.80 M", "3.66 G")
    assert deltas(app)[0] == "-3.76 M"
    assert compared_with(app) == {"against ResNet-50"}
    assert [metric.proto.color for metric in app.metric[:2]] == [app.metric[0].proto.MetricColor.GREEN] * 2
    assert link(app) == {"block": "basic"}
    choose(app, "block", "bottleneck")
    assert figures(app) == RESNET50
    assert deltas(app)[0] == "+3.76 M"
    assert link(app) == {}


def test_the_link_opens_on_the_same_view() -> None:
    first = opened()
    for option, value in (("layers", "2 2 2"), ("planes", "16, 32, 64"), ("attention", "se"), ("output_stride", 8)):
        choose(first, option, value)
    choose(first, "zero_init_residual", True)
    choose(first, "drop_path", "0.1")
    choose(first, "size", "96x160")
    choose(first, "activation", "silu")
    assert link(first) == {
        "layers": "2-2-2",
        "planes": "16-32-64",
        "attention": "se",
        "output_stride": "8",
        "zero_init_residual": "1",
        "drop_path": "0.1",
        "size": "96x160",
        "activation": "silu",
    }
    second = opened(**link(first))
    assert second.session_state["view"] == first.session_state["view"]
    assert figures(second) == figures(first)
    assert link(second) == link(first)
    for widget in first.sidebar.text_input:
        assert widget.key is not None
        assert second.text_input(key=widget.key).value == widget.value


@pytest.mark.parametrize(
    ("query", "kept", "words"),
    [
        ({"layers": "3-x", "attention": "se"}, {"attention": "se"}, ["layers = 3-x is not accepted"]),
        ({"depth": "50", "block": "basic"}, {"block": "basic"}, ["option = depth is not accepted"]),
        ({"size": "0", "block": "basic"}, {"block": "basic"}, ["size = 0 is not accepted"]),
        ({"size": "12", "antialias": "blur"}, {"antialias": "blur"}, ["size = 12 is not accepted: 17 to 8192"]),
        ({"pin": "groups=0", "block": "basic"}, {"block": "basic"}, ["pin = groups=0 is not accepted"]),
        ({"preset": "vgg"}, {}, ["preset = vgg is not accepted"]),
        (
            {"groups": "32", "block": "basic", "shortcut": "Q"},
            {"block": "basic"},
            ["shortcut = Q", "groups = 32 is not accepted: only the bottleneck block has it"],
        ),
        ({"**x**": ":red[y]"}, {}, ["option = **x** is not accepted"]),
        ({"at": "<b>nowhere</b>"}, {"at": "<b>nowhere</b>"}, []),
    ],
)
def test_a_link_with_mistakes(query: dict[str, str], kept: dict[str, str], words: list[str]) -> None:
    app = opened(**query)
    assert link(app) == kept
    warnings = said(app.warning)
    assert len(warnings) == len(words)
    for warning, expected in zip(warnings, words, strict=True):
        assert expected in warning
        assert warning.endswith(".")
    assert not any("<b>" in markdown for markdown in texts(app))
    assert figures(app) == figures(opened(**kept))


def test_the_warning_goes_with_the_next_change() -> None:
    app = opened(layers="3-x")
    assert len(app.warning) == 1
    choose(app, "block", "basic")
    assert not app.warning
    assert link(app) == {"block": "basic"}


@pytest.mark.parametrize(
    ("option", "typed", "words"),
    [
        ("layers", "3-x", "from 1 to 500"),
        ("layers", "0", "from 1 to 500"),
        ("layers", "9999999999999", "from 1 to 500"),
        ("layers", "", "(empty) is not accepted"),
        ("layers", "500-500-500", "at most 1000 blocks"),
        ("layers", "1-1-1-1-1-1-1", "1 to 6 of them"),
        ("planes", "64-128", "each of the 4 stages"),
        ("planes", "64, 128", "each of the 4 stages"),
        ("planes", "64-128-256-0", "from 1 to 16384"),
        ("stem_width", "-1", "from 1 to 16384"),
        ("size", "0", "1 to 8192 pixels"),
        ("size", "224x", "height × width"),
        ("size", "٢٢٤", "height × width"),
        ("groups", "4.0", "from 1 to 1024"),
        ("base_width", "*1*", "*1* is not accepted"),
        ("drop_path", "2", "from 0 to 0.99"),
        ("drop_path", "nan", "from 0 to 0.99"),
        ("in_channels", "1e3", "from 1 to 1024"),
        ("num_classes", "0", "from 1 to 100000"),
    ],
)
def test_a_mistake_in_the_sidebar_changes_nothing(option: str, typed: str, words: str) -> None:
    app = choose(opened(block="bottleneck", attention="eca"), option, typed)
    before = opened(attention="eca")
    (warning,) = said(app.warning)
    assert " is not accepted: " in warning
    assert words in warning
    assert warning.endswith("The network is unchanged.")
    assert figures(app) == figures(before)
    assert link(app) == {"attention": "eca"}
    assert app.text_input(key=option if option == "size" else f"option {option}").value == typed
    choose(app, "attention", "none")
    assert not app.warning
    assert figures(app) == RESNET50
    for widget in app.sidebar.text_input:
        assert widget.key is not None
        assert widget.value == before.text_input(key=widget.key).value


def test_the_warning_about_a_size_quotes_it_as_typed() -> None:
    (warning,) = said(choose(opened(antialias="blur"), "size", "12").warning)
    assert re.search(r"= 12 is not accepted", warning)


def test_what_had_to_follow_is_told() -> None:
    app = choose(opened(groups="32", base_width="4"), "block", "basic")
    (note,) = said(app.info)
    assert "Groups went from 32 to 1" in note
    assert "Base width went from 4 to 64" in note
    assert not app.warning
    assert link(app) == {"block": "basic"}
    choose(app, "block", "bottleneck")
    assert not app.info


def test_the_image_grows_where_an_operation_needs_it() -> None:
    app = choose(opened(preset="resnet20", size="1x160"), "antialias", "blur")
    assert said(app.info) == [
        "Image size went from 1x160 to 3x160: below 3 pixels a map is too small for one of the network's operations."
    ]
    assert app.text_input(key="size").value == "3x160"
    assert not app.warning


def test_a_small_image_is_kept_and_said_to_be_small() -> None:
    app = choose(opened(preset="resnet20", size="4x160"), "stem", "7x7")
    assert app.text_input(key="size").value == "4x160"
    assert (
        "A side of 4 px is less than the network's total stride of 8: from layer2.0.conv1 on the maps are one unit high"
        in captions(app)
    )
    assert not app.info
    assert "total stride" not in captions(choose(app, "size", "8"))


NARROW = {"layers": "1-1-1-1", "planes": "8-16-32-64"}


@pytest.mark.parametrize("size", ["1", "7", "31", "1x40"])
@pytest.mark.parametrize("page", ["architecture", "inference", "experiments", "choose", "source"])
def test_every_panel_takes_a_small_image(page: str, size: str) -> None:
    extra = {"image": "coffee", "at": "conv1", "weights": "random"}
    extra = {"with": "resnet50,resnet20"} if page == "choose" else extra
    app = opened(page, size=size, **NARROW, **extra)
    assert not app.error
    panels = {
        "architecture": ARCHITECTURE_TABS,
        "inference": TABS,
        "experiments": ("Degradation", "Gradients", "Paths", "Identity"),
    }
    for name in panels.get(page, ()):
        tab(app, name)
        assert not app.error
        assert not app.warning


def test_a_field_is_said_to_be_more_than_its_window() -> None:
    """Headline, inspector, table and chart with group norm; nowhere without."""
    words = "depend on the whole map through group norm"
    for norm, said_so in (("group", True), ("batch", False)):
        app = tab(opened(norm=norm, at="layer1.0.conv1"), "Receptive field")
        (facts,) = (html.proto.body for html in app.get("html") if "<dt>Receptive field" in html.proto.body)
        metric = next(metric for metric in app.metric if metric.label == "Receptive field")
        chart, table = captions(app), captions(tab(app, "Layers"))
        assert [words in text for text in (facts, metric.proto.help, chart, table)] == [said_so] * 4
        (first,) = (
            html.proto.body for html in opened(norm=norm, at="conv1").get("html") if "<dt>Receptive" in html.proto.body
        )
        assert "whole map" not in first


@pytest.mark.parametrize(("typed", "name"), [("ResNet-34", "resnet34"), ("timm/resnet50d.ra2_in1k", "resnet50d")])
def test_a_preset_can_be_typed(typed: str, name: str) -> None:
    app = typed_into(opened(), "preset", typed)
    assert app.selectbox(key="preset").value == name
    assert View.from_query(link(app)).config == preset(name)
    assert View.from_query(link(opened(preset=typed))).config == preset(name)
    typed_into(app, "preset", "vgg16")
    assert "Preset = vgg16 is not accepted" in said(app.warning)[0]
    assert app.selectbox(key="preset").value == "vgg16"  # to be mended
    app.selectbox(key="preset").options.append("vgg16")
    assert View.from_query(link(app)).config == preset(name)
    typed_into(app, "preset", "resnet18")
    assert app.selectbox(key="preset").value == "resnet18"


def test_a_session_that_has_forgotten_its_view_takes_it_from_its_link() -> None:
    """As after Streamlit cleared it."""
    app = opened(block="basic")
    for key in ("view", "hand"):
        del app.session_state[key]
    choose(app, "shortcut", "C")
    assert link(app) == {"block": "basic", "shortcut": "C"}


@pytest.mark.parametrize(
    ("query", "options", "reason"),
    [
        ({"block": "basic"}, ("groups", "base_width", "stride_in"), "only the bottleneck block has it"),
        ({"shortcut": "none"}, ("zero_init_residual", "drop_path"), "a plain network has no shortcut"),
        ({}, ("se_reduction",), "only squeeze-and-excitation has it"),
    ],
)
def test_what_does_not_apply_says_why(query: dict[str, str], options: tuple[str, ...], reason: str) -> None:
    app = opened(**query)
    for name, option in OPTIONS.items():
        widget: Any = app.get_by_key(f"option {name}")
        applies = option.unless(app.session_state["view"].config) is None
        assert widget.disabled is not applies
        assert widget.help.startswith(option.help)
        assert ("does not apply" in widget.help) is not applies
    for name in options:
        assert reason in widget_of(app, f"option {name}").help


# -- presets and pins ---------------------------------------------------------------------


def test_a_preset_brings_its_image_size() -> None:
    app = opened(at="layer4.0.conv1", pin="default")
    select(app, "preset", "resnet20")
    assert app.text_input(key="size").value == "32"
    assert figures(app)["Parameters"] == "269.72 k"
    assert "size" not in link(app)
    assert "at" not in link(app)
    assert link(app)["pin"] == "default"
    choose(app, "num_classes", "100")
    assert app.selectbox(key="preset").value == "custom"
    select(app, "preset", "resnet20_fashion")
    assert app.text_input(key="size").value == "28"
    select(app, "preset", "resnet50")
    assert app.text_input(key="size").value == "224"
    assert {label: value for label, value in figures(app).items() if label in RESNET50} == RESNET50


@pytest.mark.parametrize(
    "name",
    [
        "resnet1202",
        "resnetrs50",
        "resnetv2_50d",
        "plain34",
        "resnext101_64x4d",
        "ecaresnet26t",
        "seresnextaa201d_32x8d",
        "resnetblur50",
        "resnet50_gn",
        "resnet20_fashion",
        "resnet14t",
        "ecaresnetlight",
    ],
)
def test_presets_open(name: str) -> None:
    app = opened(preset=name)
    assert app.selectbox(key="preset").value == name
    assert app.session_state["view"].config == preset(name)
    assert not app.warning
    if name in TIMM:
        assert figures(app)["Parameters"] == f"{TIMM[name]['params_exact'] / 1e6:.2f} M"
    assert opened(**link(app)).session_state["view"] == app.session_state["view"]


def test_pin_and_unpin() -> None:
    app = click(opened(), "Pin to compare")
    assert link(app) == {"pin": "default", "with": "resnet50"}
    choose(choose(app, "block", "basic"), "layers", "2-2-2-2")
    assert figures(app)["Parameters"] == "11.69 M"
    assert deltas(app)[0] == "-13.87 M"
    assert compared_with(app) == {"against ResNet-50"}

    other = opened(**link(app))
    assert deltas(other) == deltas(app)
    assert compared_with(other) == {"against ResNet-50"}
    click(other, "Pin to compare")
    assert link(other)["pin"] == "layers=2-2-2-2&block=basic"
    assert deltas(other) == [""] * 4
    assert link(other)["with"] == "resnet50,resnet18"
    click(other, "Unpin")
    assert "pin" not in link(other)
    assert link(other)["with"] == "resnet50"
    click(app, "Pin to compare")
    choose(app, "layers", "3-4-6-3")
    assert deltas(app)[0] == "+10.11 M"
    assert compared_with(app) == {"against ResNet-18"}


# -- tabs and selection -------------------------------------------------------------------


def test_every_tab() -> None:
    app = opened()
    assert [shown.label for shown in app.tabs] == [*ARCHITECTURE_TABS]
    frame = app.dataframe[0].value
    assert len(frame) == len(trace(ResNetConfig()).layers)
    assert frame["params"].sum() == 25_557_032

    tab(app, "torchinfo")
    assert not app.dataframe
    assert any(re.search(r"Total params: 25,557,032", code.value) for code in app.code)
    tab(app, "graphviz")
    (drawing,) = app.get("graphviz_chart")
    assert '"layer4.2.add" -> "layer4.2.act"' in drawing.proto.spec
    tab(app, "Receptive field")
    assert app.get("plotly_chart")
    tab(app, "Layers")
    assert len(app.dataframe) == 1


def test_the_link_opens_its_tab() -> None:
    app = opened(tab="torchinfo")
    assert any("Total params" in code.value for code in app.code)
    assert link(app)["tab"] == "torchinfo"
    app = opened(tab="Weather")
    (warning,) = said(app.warning)
    assert warning.startswith("tab = Weather is not one of Layers, Cost,")
    assert len(app.dataframe) == 1


@pytest.mark.parametrize(
    ("measure", "total"), [("MACs", 4_089_184_256), ("Parameters", 25_557_032), ("Activations", None)]
)
@pytest.mark.parametrize(("grain", "title"), [("by stage", "by stage"), ("by layer", "layer by layer")])
def test_the_cost_chart_adds_up(measure: str, total: int | None, grain: str, title: str) -> None:
    app = tab(opened(), "Cost")
    select(app, "cost measure", measure)
    select(app, "cost grain", grain)
    (chart,) = app.get("plotly_chart")
    figure = json.loads(chart.proto.spec)
    bars = {bar["name"]: sum(bar["y"]) for bar in figure["data"]}
    assert list(bars) == ["stem", "stage 1", "stage 2", "stage 3", "stage 4", "head"]
    assert figure["layout"]["title"]["text"] == f"{measure} {title}"
    expected = total or sum(torch.Size(layer.out_shape).numel() for layer in trace(ResNetConfig()).layers)
    assert sum(bars.values()) == expected


def test_deep_networks_are_summarised_on_demand() -> None:
    app = tab(opened(preset="resnet1202"), "torchinfo")
    assert not any("Total params" in code.value for code in app.code)
    assert any(button.label == "Run torchinfo on this deep network" for button in app.button)


@pytest.mark.parametrize(
    ("at", "layer"),
    [("layer3.2.conv3", "layer3.2.conv3"), ("layer1.0", "layer1.0.conv2"), ("nowhere", "layer2.0.conv2")],
)
def test_the_link_says_what_is_selected(at: str, layer: str) -> None:
    app = opened(at=at)
    assert any(text.endswith(f" `{layer}`") for text in (header.value for header in app.header))
    block = layer.rpartition(".")[0]
    assert any(text.endswith(f" `{block}`") for text in (header.value for header in app.header))


# -- inference ----------------------------------------------------------------------------


def verdict(app: AppTest) -> str:
    """The bold line above the five classes."""
    found = [text for text in texts(app) if re.match(r"\*\*.*\*\*(, [\d.]+%)?$", text)]
    (line,) = [text for text in found if text.endswith("%")]
    return line


def buttons(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def asks(app: AppTest) -> str:
    """The question that stands in place of the image, where nothing is run."""
    assert not any(" MACs at " in caption for caption in captions(app).splitlines())
    assert app.selectbox(key="weights").value is None
    (words,) = [text for text in texts(app) if text.startswith("**Which weights?**")]
    return words


def test_the_first_minute() -> None:
    """Whoever asks for nothing sees a network that knows its image, the way to ImageNet's, and the way back."""
    app = opened("inference")
    assert verdict(app).startswith("**Sneaker**")
    assert "ten things" in captions(app)
    assert link(app) == preset("resnet20_fashion").to_query()
    assert app.selectbox(key="preset").value == "resnet20_fashion"
    assert app.selectbox(key="weights").value == "bundled"
    assert app.text_input(key="size").value == "28"
    assert app.title[0].value == "ResNet-20 for Fashion-MNIST · Inference"
    assert sum("No ImageNet weights are on this machine yet" in text for text in texts(app)) == 1
    assert [button.label for button in app.button if button.proto.type == "primary"] == [IMAGENET]
    look_at(app, tab="Weights")
    click(app, "Back to ResNet-50")
    assert link(app) == {}
    assert asks(app) == "**Which weights?** None for ResNet-50 are on this machine yet."
    click(app, TRAINED)
    assert verdict(app).startswith("**Sneaker**")
    assert not any("yet" in text for text in texts(app))
    assert TRAINED not in buttons(app)


@pytest.mark.parametrize("asked", [{"at": "layer3.0.conv2"}, {"unit": "3-3"}, {"channel": "3"}, {"class": "sandal"}])
def test_a_link_that_asks_for_something_is_not_greeted(asked: dict[str, str]) -> None:
    """The usual network is left out of links."""
    app = opened("inference", **asked)
    asks(app)
    assert link(app) == asked


def test_going_back_in_the_browser_leaves_the_first_minute() -> None:
    """The link before is the usual network's, which is not left again."""
    app = opened("inference")
    app.query_params.clear()
    asks(run(app))
    assert link(app) == {}


@pytest.mark.parametrize(
    "query", [{"image": "coffee"}, {"size": "64"}, {"off": "layer1.1"}, {"weights": "none"}, {"preset": "resnet18"}]
)
def test_who_asks_for_something_gets_that(query: dict[str, str]) -> None:
    app = opened("inference", **query)
    asks(app)
    assert link(app) == View.from_query(query).to_query()


def test_a_link_that_names_the_usual_network_gets_it() -> None:
    """And keeps it when the link has left its name out."""
    app = closed(preset="resnet50")
    asks(run(app.switch_page("../pages/inference.py")))
    asks(run(app))


@pytest.mark.parametrize("query", [{"num_classes": ""}, {"size": "99999"}])
def test_a_wrong_link_is_told_and_not_greeted(query: dict[str, str]) -> None:
    app = closed(**query)
    asks(run(app.switch_page("../pages/inference.py")))
    (warning,) = said(app.warning)
    assert "is not accepted" in warning
    assert app.title[0].value == "ResNet-50 · Inference"
    asks(run(app))
    assert said(app.warning) == [warning]


def test_imagenet_is_one_click_away() -> None:
    app = opened("inference", image="0030-bag", preset="resnet20_fashion", off="layer1.1")
    before = link(app)
    click(app, IMAGENET)
    (warning,) = said(app.warning)
    assert warning.startswith("resnet50-11ad3fa6.pth could not be downloaded (no network in this test);")
    assert link(app) == before
    assert verdict(app).startswith("**Bag**")
    assert "Try again" in buttons(app)


def test_who_has_imagenet_weights_begins_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "at_hand", lambda one: True)
    app = opened("inference")
    assert link(app) == {}
    assert app.selectbox(key="weights").value == "IMAGENET1K_V2"


def test_a_network_without_weights_is_drawn_and_asks() -> None:
    app = opened("inference", preset="resnet18", size="64")
    assert asks(app) == "**Which weights?** None for ResNet-18 are on this machine yet."
    assert any(re.fullmatch(r"resnet18\.\w+ · 7\d\.\d% · 45 MiB · [\w.-]+", label) for label in buttons(app))
    assert "The network, input to output" in page_text(app)
    click(app, "Random weights")
    assert UNTRAINED in captions(app)
    choose(app, "activation", "elu")  # for which nobody has weights
    assert link(app)["weights"] == "random"
    assert UNTRAINED in captions(app)
    app = opened("inference", preset="resnet18", activation="elu")
    asks(app)
    assert not any("MiB" in label for label in buttons(app))


UNTRAINED = "Untrained, so no verdict: its scores mean nothing."


@pytest.mark.parametrize("off", ["", "layer1.1"])
def test_an_untrained_network_has_no_verdict_but_ways_to_trained_ones(off: str) -> None:
    app = opened("inference", preset="resnet18", weights="random", size="64", off=off)
    assert UNTRAINED in captions(app)
    assert not [text for text in texts(app) if re.match(r"\*\*.*\*\*, [\d.]+%$", text)]
    assert not [html for html in app.get("html") if 'class="bars"' in html.proto.body]
    (published,) = [label for label in buttons(app) if "MiB" in label]
    assert published.startswith("resnet18.")
    click(app, "Use the shipped ResNet-20, trained on clothing")
    assert UNTRAINED not in captions(app)
    assert verdict(app)
    assert re.search(r"^First pass: \d+ ms on ", captions(app), re.MULTILINE)


def test_an_untrained_network_without_published_weights_offers_the_one_that_ships() -> None:
    app = opened("inference", preset="resnet18", weights="random", size="64", activation="elu")
    assert not [label for label in buttons(app) if "MiB" in label]
    assert "Use the shipped ResNet-20, trained on clothing" in buttons(app)


def test_random_weights_are_the_same_for_everybody() -> None:
    first, second = (opened("inference", preset="resnet20", weights="random", image="coffee") for _ in "12")
    charts = [[chart.proto.spec for chart in app.get("plotly_chart")] for app in (first, second)]
    assert charts[0] == charts[1]
    assert "Coffee cup" in captions(first)


@pytest.mark.parametrize("query", [{"weights": "IMAGENET1K_V9"}, {"weights": "[x](y)"}])
def test_weights_that_do_not_fit_are_told(query: dict[str, str]) -> None:
    app = opened("inference", preset="resnet20", **query)
    (warning,) = said(app.warning)
    assert warning.startswith(
        f"weights = {query['weights']} is not accepted: a name in the list, or a model of the Hugging"
    )
    asks(app)


def test_weights_that_are_used_instead_are_named() -> None:
    app = opened("inference", preset="resnet20_fashion", weights="IMAGENET1K_V1")
    assert not app.warning
    assert (
        "torchvision publishes no IMAGENET1K_V1 for ResNet-20 for Fashion-MNIST; Trained on Fashion-MNIST, shipped are used "
        "instead."
    ) in page_text(app)
    assert verdict(app).startswith("**Sneaker**")


def test_an_image_that_is_no_sample_is_told() -> None:
    app = opened("inference", preset="resnet20_fashion", image="nobody")
    (warning,) = said(app.warning)
    assert warning.startswith("image = nobody is not a sample")
    assert verdict(app).startswith("**Sneaker**")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"layers": "1", "planes": "16384"}, r"its weights take 18\.3 GiB.*the limit is 1\.0 GiB"),
        (
            {
                "layers": "200-200-200",
                "planes": "64-128-256",
                "block": "basic",
                "shortcut": "A",
                "stem": "3x3",
                "stem_pool": "none",
            },
            r"its weights take 1\.\d GiB.*the limit is 1\.0 GiB",
        ),
        ({"block": "basic", "layers": "1", "size": "8192"}, r"an image takes 9\.\d GiB.*the limit is 1\.0 GiB"),
    ],
)
def test_too_large_to_run(query: dict[str, str], words: str) -> None:
    app = opened("inference", weights="random", **query)
    (error,) = said(app.error)
    assert re.search(words, error), error
    assert not any(uploader.key == "upload" for uploader in app.file_uploader)
    assert not app.get("plotly_chart")
    choose(app, "activation", "elu")
    assert link(app)["activation"] == "elu"  # the link follows, though the page stops
    click(app, TRAINED)
    assert verdict(app).startswith("**Sneaker**")


def test_what_runs_is_judged_at_the_image_size() -> None:
    """Weights with a size of their own run at the one that is set, where it is not too large."""
    (error,) = said(opened("inference", preset="resnet20_fashion", size="4096").error)
    assert "too large to run" in error
    app = opened("inference", preset="resnet20_fashion", size="56")
    assert not app.error
    assert "at 56×56 pixels" in captions(app)


@pytest.mark.usefixtures("nothing_loaded")
@pytest.mark.parametrize("at", ["conv1", "fc"])
def test_overflow_is_told(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflowing(weights: Weights, **given: Any) -> ResNet:
        network = load(weights, **given)
        with torch.no_grad():
            network.get_parameter("conv1.weight").mul_(1e38)
        return network

    monkeypatch.setattr(cached, "load", overflowing)
    (error,) = said(opened("inference", preset="resnet20", weights="random", norm="none", at=at).error)
    assert "overflowed" in error


@pytest.mark.parametrize(
    "at", ["layer2.0.conv1", "fc", "avgpool", "layer3.0.attention.gate", "layer1.0.attention.conv"]
)
@pytest.mark.parametrize("attention", ["se", "eca"])
def test_every_kind_of_layer_can_be_looked_at(at: str, attention: str) -> None:
    app = opened("inference", preset="resnet20", weights="random", attention=attention, at=at)
    names = trace(app.session_state["view"].config, 32).by_name
    shown = at if at in names else "layer2.0.act"
    assert any(f"› `{shown}`" in text for text in texts(app))


# -- attribution and weights --------------------------------------------------------------


def test_any_class_is_explained() -> None:
    app = looked("Why this class", preset="resnet20_fashion")
    (words,) = [m.value for m in app.markdown if m.value.startswith("The pixels add")]
    total, difference = map(float, re.findall(r"\*\*([+-][0-9.]+)\*\*", words))
    assert abs(total - difference) < 0.1 * abs(difference)
    select(app, "explained class", "Bag")
    (other,) = [m.value for m in app.markdown if m.value.startswith("The pixels add")]
    assert other != words
    assert app.selectbox(key="explained class").options[:2] == ["The prediction", "Sneaker"]


def verdict_of(app: AppTest) -> str:
    """The class that the verdict names."""
    return next(found[1] for text in texts(app) if (found := re.match(r"\*\*(.+?)\*\*, [\d.]+%$", text)))


def explained_in(app: AppTest) -> set[str]:
    """The classes that the Attribution tab says it explains: beside the box, over Grad-CAM and over the pixels."""
    patterns = (r"Explained: \*\*(.+)\*\*,", r"Grad-CAM: .* speaks for (.+)", r"Integrated .* score of (.+)")
    said = [*texts(app), *(header.value for header in app.header)]
    return {found[1] for text in said for pattern in patterns if (found := re.match(pattern, text))}


@pytest.mark.parametrize("off", [(), ("layer1.0", "layer2.2")])
def test_a_class_that_nobody_chose_is_the_predicted_one(off: tuple[str, ...]) -> None:
    app, seen = looked("Why this class", preset="resnet20_fashion"), set()
    for sample in CLOTHES[::4]:
        for blocks in ((), off):
            look_at(app, image=sample.name, off=blocks)
            assert explained_in(app) == {verdict_of(app)}
            assert app.selectbox(key="explained class").value == "The prediction"
            seen.add(verdict_of(app))
    assert len(seen) > 3
    assert "class" not in link(app)


def test_a_class_that_was_chosen_stays() -> None:
    """With another image, block, tab and page, and for whoever opens the link."""
    app = select(looked("Why this class", preset="resnet20_fashion"), "explained class", "Bag")
    for sample in CLOTHES[:3]:
        look_at(app, image=sample.name, off=("layer1.0",))
        assert explained_in(app) == {"Bag"}
        assert app.selectbox(key="explained class").value == "Bag"
    tab(app, "Receptive field")
    select(app, "grid shown", ["Grad-CAM"])
    assert "Pink: Grad-CAM for Bag." in captions(app).replace("\\", "")
    run(app.switch_page("../pages/source.py"))
    tab(run(app.switch_page("../pages/inference.py")), "Why this class")
    assert explained_in(app) == {"Bag"}
    assert link(app)["class"] == "Bag"
    assert explained_in(opened("inference", **link(app))) == {"Bag"}
    look_at(select(app, "explained class", "The prediction"), off=())
    assert "class" not in link(app)
    assert explained_in(app) == {verdict_of(app)} != {"Bag"}


def test_a_class_that_is_none_is_told() -> None:
    app = opened("inference", preset="resnet20_fashion", tab="Why this class", **{"class": "hen"})
    (words,) = said(app.warning)
    assert "class = hen is none of the 10 classes that these weights know, T-shirt/top to Ankle boot." in words
    assert explained_in(app) == {verdict_of(app)}


# -- rectangles ---------------------------------------------------------------------------

RECTANGLE = {"preset": "resnet20", "size": "32x48", "weights": "random"}


def test_random_weights_run_at_height_and_width() -> None:
    """The size stands beside every result, and the cost is the trace's."""
    app = opened("inference", **RECTANGLE)
    macs = trace(preset("resnet20"), (32, 48)).macs
    assert f"{macs / 1e6:,.0f} M MACs at 32×48 pixels" in captions(app)
    assert not app.info
    images = seen(app)
    assert any(words.endswith("What the network sees: 32×48") for words in images)


@pytest.mark.parametrize(
    ("name", "action", "words"),
    [
        ("Maps", "", "<dd>32×48 px</dd><dt>Shape</dt><dd>32×16×24</dd>"),
        ("Addition", "", "of one pass at 32×48 pixels."),
        ("Blocks off", "Each one in turn", "on this image at 32×48 pixels"),
        ("Why this class", "", "What the network sees, 32×48"),
        ("Several images", "", "The prediction for each image, at 32×48 pixels"),
        ("Speed", "Measure the layers", "A pass at 32×48 pixels takes"),
        ("Speed", "Measure precision and layout", "The median time of a pass at 32×48 pixels"),
    ],
)
def test_every_tab_takes_a_rectangle(name: str, action: str, words: str) -> None:
    app = looked(name, at="layer2.0.act", **RECTANGLE)
    if action:
        click(app, action)
    shown = [
        *texts(app),
        *(header.value for header in app.header),
        captions(app),
        *(html.proto.body for html in app.get("html")),
    ]
    shown += seen(app)
    shown += [chart.proto.spec for chart in app.get("plotly_chart")]
    assert any(words in text.encode().decode("unicode_escape", "ignore") or words in text for text in shown)


@pytest.mark.parametrize(
    ("query", "own"),
    [({"preset": "resnet20_fashion"}, "28×28"), ({"preset": "resnet18", "weights": "IMAGENET1K_V1"}, "224×224")],
)
def test_weights_with_a_size_of_their_own_say_so(query: dict[str, str], own: str) -> None:
    app = opened("inference", size="32x48", **query)
    words = f"These weights are made for {own} pixels, at which their accuracy was measured. They run at 32×48"
    assert words in page_text(app)
    if "weights" not in query:  # others would have to be downloaded
        assert "at 32×48 pixels" in captions(app)
    assert "These weights are made for" not in page_text(opened("inference", **query))


# -- what a choice means when its label changes -------------------------------------------


def channels_in(app: AppTest) -> set[str]:
    """The channels that one large map, or one over all images, is said to be of."""
    patterns = r"Channel (\d+) of \S+ over the image", r"Channel (\d+) of `.*` across", r"Channel (\d+) of `"
    said = [*(shown.value for shown in (*app.header, *app.markdown, *app.caption)), *seen(app)]
    return {found[1] for text in said for pattern in patterns if (found := re.match(pattern, text))}


@pytest.mark.parametrize("chosen", [None, 5, 60])
def test_one_channel_is_selected_in_all_tabs(chosen: int | None) -> None:
    """The strongest of the image until somebody chooses one, which then stays, shown among the tiles or not."""
    app = opened("inference", preset="resnet20_fashion", at="layer3.0.act")
    found: list[Any] = []
    if chosen is not None:
        look_at(app, channel=chosen)
    for sample in CLOTHES[:9:4]:
        look_at(app, image=sample.name)
        there = [channels_in(look_at(app, tab=name)) for name in ("Maps", "Receptive field", "Several images")]
        assert there[0] == there[1] == there[2]
        found += there[0]
    assert set(found) == {str(chosen)} if chosen is not None else len(set(found)) > 1


def test_how_many_channels_are_shown_stays() -> None:
    app = opened("inference", preset="resnet18", weights="random", at="layer1.0.act")
    shown = lambda: len(tile_labels(app, "channel tiles"))  # noqa: E731
    assert shown() == 32
    select(app, "shown of 64", 128)
    assert shown() == 64
    for at, count in (("layer4.0.act", 128), ("layer1.0.act", 64), ("layer2.0.act", 128)):
        look_at(app, at=at)
        assert shown() == count
    select(app, "shown of 128", 32)
    look_at(app, at="layer1.0.act")
    assert shown() == 32


def test_the_channel_of_an_addition_stays() -> None:
    """With another image, whose channels come in another order, and after a look at another block."""
    app = looked("Addition", preset="resnet20_fashion", at="layer3.1.act")
    select(app, "channel of layer3.1", 17)
    orders = set()
    for sample in CLOTHES[:9:4]:
        look_at(app, image=sample.name)
        assert app.selectbox(key="channel of layer3.1").value == 17
        orders.add(tuple(app.selectbox(key="channel of layer3.1").options))
    assert len(orders) > 1
    look_at(look_at(app, at="layer1.0.act"), at="layer3.1.act")
    assert app.selectbox(key="channel of layer3.1").value == 17


def test_a_large_network_is_explained_when_asked() -> None:
    app = looked("Why this class", preset="resnet18", weights="random")
    assert not any(m.value.startswith("The pixels add") for m in app.markdown)
    (button,) = [b for b in app.button if b.label.startswith("Compute, about")]
    button.click()
    run(app)
    assert any(m.value.startswith("The pixels add") for m in app.markdown)
    run(app)  # it stays without being asked again
    assert any(m.value.startswith("The pixels add") for m in app.markdown)


@pytest.mark.parametrize("at", ["conv1", "layer2.0.add", "avgpool", "fc", "layer1.0.se.fc1"])
def test_weights_of_any_layer(at: str) -> None:
    app = looked("Weights", preset="resnet20", weights="random", attention="se", at=at)
    assert "16 kernels of 3×3, in colour" in captions(app)
    (chart,) = [c for c in app.get("plotly_chart") if "weights of" in c.proto.spec]
    shown = {"layer2.0.add": "layer2.1.conv1", "avgpool": "fc"}.get(at, at)
    assert f"The weights of {shown}" in chart.proto.spec


# -- downloads ----------------------------------------------------------------------------


def test_nothing_is_downloaded_unasked() -> None:
    app = opened("inference", preset="resnet18", size="64")
    asks(app)
    assert not app.error
    label = next(option for option in app.selectbox(key="weights").options if "torchvision" in option)
    assert label == "torchvision V1, ImageNet-1k · 69.8% · 45 MiB · bsd-3-clause"


def test_a_download_that_fails_is_told() -> None:
    app = opened("inference", preset="resnet18", weights="IMAGENET1K_V1")
    (error,) = said(app.error)
    assert error.startswith("resnet18-f37072fd.pth could not be downloaded (no network in this test);")
    click(app, TRAINED)
    assert verdict(app).startswith("**Sneaker**")


def test_another_depth_downloads_nothing() -> None:
    """torchvision calls the weights of its networks by the same names."""
    app = opened("inference", preset="resnet18", weights="IMAGENET1K_V1")
    choose(app, "layers", "3-4-6-3")
    assert asks(app) == "**Which weights?** None for ResNet-34 are on this machine yet."
    assert "weights" not in link(app)
    assert not app.error
    assert not app.warning


@pytest.mark.usefixtures("nothing_loaded")
def test_downloaded_weights_name_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = resnet18()
    with torch.no_grad():
        network.fc.weight.zero_()
        network.fc.bias.zero_()[285] = 3.0  # Egyptian cat
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    answered: list[str] = []

    def answer(request: urllib.request.Request) -> Any:
        answered.append(request.full_url)
        response = io.BytesIO(buffer.getvalue())
        response.headers = Message()  # type: ignore[attr-defined]
        response.headers["Content-Length"] = str(len(buffer.getvalue()))  # type: ignore[attr-defined]
        return response

    monkeypatch.setattr(resnet.servers, "_open", answer)
    # The served file is not torchvision's, so neither is its hash.
    monkeypatch.setattr(resnet.sources, "cache_path", lambda url: tmp_path / "served.pth")
    app = opened("inference", preset="resnet18", weights="random")
    select(app, "weights", "IMAGENET1K_V1")
    assert verdict(app).startswith("**Egyptian cat**, 2.0%")
    assert link(app)["weights"] == "IMAGENET1K_V1"
    run(app)  # the browser sends the label that it has been showing
    choose(app, "size", "192")
    again = opened("inference", **link(app))
    assert verdict(again) == verdict(app)
    assert answered == ["https://download.pytorch.org/models/resnet18-f37072fd.pth"]


# -- uploads ------------------------------------------------------------------------------


def uploaded(data: bytes, name: str = "image.jpg", mime: str = "image/jpeg") -> AppTest:
    app = select(opened("inference", preset="resnet20_fashion"), "source", "Upload")
    assert said(app.info) == ["Upload or take an image, or pick a sample, to see what the network makes of it."]
    images_uploader(app).set_value((name, data, mime))
    return run(app)


def jpeg(image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=92, **options)
    return stream.getvalue()


def trousers() -> Image.Image:
    sample = next(sample for sample in samples() if sample.label == "Trouser")
    return open_image(sample.open()).resize((280, 280))


def test_a_photograph_is_turned_as_its_camera_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = trousers().transpose(Image.Transpose.ROTATE_90)
    app = uploaded(jpeg(lying, exif=exif.tobytes()), "my *trousers*.jpg")
    assert verdict(app).startswith("**Trouser**")
    assert not app.error
    assert [words.endswith("What the network sees: 28×28") for words in seen(app)] == [True]
    assert "my \\*trousers\\*\\.jpg" in captions(app)
    assert not verdict(uploaded(jpeg(lying))).startswith("**Trouser**")


def test_a_dark_thing_on_white_is_inverted_unless_one_says_no() -> None:
    app = uploaded(jpeg(ImageOps.invert(trousers())))
    assert verdict(app).startswith("**Trouser**")
    assert [words.endswith("What the network sees: 28×28, inverted") for words in seen(app)] == [True]
    select(app, "invert", "no")
    assert not verdict(app).startswith("**Trouser**")
    select(app, "invert", "yes")
    assert verdict(app).startswith("**Trouser**")


def seen(app: AppTest) -> list[str]:
    """The captions of images, such as of what the network sees; a map that can be clicked has its own."""
    own = [caption.value for caption in app.caption if "What the network sees" in caption.value]
    return own + [image.caption for shown in app.image for image in shown.proto.imgs if image.caption]


def bomb() -> bytes:
    """A PNG that says it is 60,000 pixels a side."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = (60_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("notes.jpg", b"only words\n" * 50, "cannot be read as an image"),
        ("*empty*.jpg", b"", "is empty"),
        ("half.jpg", jpeg(trousers())[:2000], "cannot be decoded"),
        ("bomb.png", bomb(), "60000 × 60000 pixels"),
        ("page.svg.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be read as an image"),
    ],
    ids=["text", "empty", "truncated", "bomb", "svg"],
)
def test_what_is_no_image_gets_a_sentence(name: str, data: bytes, words: str) -> None:
    app = uploaded(data, name)
    (error,) = said(app.error)
    assert error.startswith(f"{name}: ")
    assert words in error
    assert error.endswith(".")
    assert not app.get("plotly_chart")
    select(app, "source", "Samples")
    assert verdict(app).startswith("**Sneaker**")


# -- several images ---------------------------------------------------------------------


def tile_labels(app: AppTest, key: str) -> list[str]:
    """The captions of a grid of tiles."""
    for component in app.get("bidi_component"):
        data = json.loads(component.proto.json)
        if key in component.proto.id and "items" in data:
            return [item["label"] for item in data["items"]]
    raise AssertionError(f"no tiles {key}")


def test_one_sample_of_each_kind() -> None:
    labels = tile_labels(looked("Several images", preset="resnet20_fashion"), "several")
    assert len(labels) == len({sample.label for sample in samples()})
    right = [label for label in labels if label.rpartition(" ")[0] in FASHION_MNIST.categories]
    assert len(right) == len(labels)


def test_several_uploads() -> None:
    app = select(opened("inference", preset="resnet20_fashion"), "source", "Upload")
    clothes = [sample for sample in samples() if sample.label in FASHION_MNIST.categories][:18]
    files = [(f"{sample.name}.png", sample.open(), "image/png") for sample in clothes]
    images_uploader(app).set_value([*files[:2], ("bad.png", b"no image", "image/png")])
    run(app)
    (error,) = said(app.error)
    assert error.startswith("bad.png: ")
    assert tile_labels(app, "uploads") == [name for name, *_ in files[:2]]
    tab(app, "Several images")
    expected = {sample.label for sample in clothes[:2]}
    assert {label.rpartition(" ")[0] for label in tile_labels(app, "several")} == expected
    images_uploader(app).set_value(files)
    run(app)
    (warning,) = said(app.warning)
    assert warning == "18 images were uploaded; the first 16 are used."
    assert len(tile_labels(app, "across tiles")) == 16


def test_the_same_image_twice_counts_once() -> None:
    app = select(opened("inference", preset="resnet20_fashion"), "source", "Upload")
    data = samples()[0].open()
    images_uploader(app).set_value([("a.png", data, "image/png"), ("b.png", data, "image/png")])
    run(app)
    assert verdict(app)
    with pytest.raises(AssertionError, match="no tiles"):
        tile_labels(app, "uploads")


# -- what stays while a person looks elsewhere --------------------------------------------


def images_uploader(app: AppTest) -> Any:
    """Where images are uploaded; checkpoints are elsewhere."""
    (uploader,) = [one for one in app.file_uploader if not str(one.key).startswith("checkpoint")]
    return uploader


def elsewhere(app: AppTest) -> AppTest:
    """To another page and back."""
    return run(run(app.switch_page("../pages/kernels.py")).switch_page("../pages/inference.py"))


def clothes(*labels: str) -> list[tuple[str, bytes, str]]:
    known = {sample.label: sample for sample in reversed(samples())}
    return [(label.lower(), known[label].open(), "") for label in labels]  # names without extension


def test_uploads_stay_and_can_be_removed() -> None:
    app = select(opened("inference", preset="resnet20_fashion"), "source", "Upload")
    files = clothes("Trouser", "Bag", "Dress")
    images_uploader(app).set_value([*files[:2], ("*bad*", b"no image", "")])
    run(app)
    before = verdict(app)
    assert before.startswith("**Trouser**")
    assert tile_labels(app, "uploads") == ["trouser", "bag"]
    elsewhere(app)
    assert verdict(app) == before
    assert tile_labels(app, "uploads") == ["trouser", "bag"]
    assert not app.error
    images_uploader(app).set_value(files[2:])
    run(app)
    assert tile_labels(app, "uploads") == ["trouser", "bag", "dress"]
    select(select(app, "source", "Samples"), "source", "Upload")
    assert tile_labels(app, "uploads") == ["trouser", "bag", "dress"]
    click(app, "Remove this image")
    assert verdict(app).startswith("**Bag**")
    click(elsewhere(app), "Remove this image")
    assert verdict(app).startswith("**Dress**")
    click(app, "Remove this image")
    assert said(app.info) == ["Upload or take an image, or pick a sample, to see what the network makes of it."]
    assert not images_uploader(elsewhere(app)).value


def test_a_link_says_that_an_upload_is_shown() -> None:
    """And no sample: that comes back with its name where no upload is shown any more."""
    assert UPLOAD not in {sample.name for sample in samples()}
    app = opened("inference", preset="resnet20_fashion", image="0030-bag")
    before = link(app)
    select(app, "source", "Upload")
    assert link(app) == before
    images_uploader(app).set_value(clothes("Trouser", "Dress"))
    assert link(run(app)) == before | {"image": UPLOAD}
    assert link(select(app, "source", "Samples")) == before
    assert verdict(app).startswith("**Bag**")
    assert link(select(app, "source", "Upload")) == before | {"image": UPLOAD}
    look_at(app, image="0000-ankle-boot")  # as by a step back
    assert verdict(app).startswith("**Ankle boot**")
    look_at(app, image=UPLOAD)
    assert verdict(app).startswith("**Trouser**")
    click(select(app, "weights", "random"), TRAINED)
    assert link(app) == before | {"image": UPLOAD}
    click(app, "Remove all")
    assert link(app) == before | {"image": "0030-bag"}


def test_an_upload_that_is_gone_is_said_to_be_gone() -> None:
    """After a reload, and to whoever else opens its link; a sample is shown."""
    app = select(opened("inference", preset="resnet20_fashion", image="0030-bag"), "source", "Upload")
    images_uploader(app).set_value(clothes("Trouser"))
    run(app)
    assert not app.warning
    other = opened("inference", **link(app))
    (words,) = said(other.warning)
    assert words.startswith("The uploaded image is gone: ")
    assert words.endswith(", and a sample is shown in its place.")
    assert verdict(other).startswith("**Sneaker**")
    look_at(other, image="0030-bag")
    assert not other.warning
    other = opened("inference", preset="resnet20_fashion", weights=UPLOAD)
    (words,) = said(other.warning)
    assert words.startswith("A checkpoint stays with the person who uploaded it, in memory alone, ")
    assert words.endswith("; Trained on Fashion-MNIST, shipped are used instead.")


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen images, and nothing of what was removed; Streamlit's own copies go as soon as they are read."""
    released: list[str] = []
    monkeypatch.setattr(session, "release_files", released.extend)
    app = select(opened("inference", preset="resnet20_fashion"), "source", "Upload")
    known = [(sample.name, sample.open(), "") for sample in samples()[:18]]
    images_uploader(app).set_value(known[:10])
    run(app)
    assert len(released) == 10
    assert not images_uploader(app).value
    elsewhere(app)
    images_uploader(app).set_value(known[10:])
    run(app)
    assert said(app.warning) == ["18 images were uploaded; the first 16 are used."]
    elsewhere(app)
    assert not app.warning
    brought = held(app).uploads["Upload"]
    assert [one.name for one in brought.images] == [name for name, *_ in known[:16]]
    assert len(set(released)) == 18
    click(app, "Remove all")
    assert not held(app).uploads["Upload"].images


@pytest.mark.usefixtures("nothing_loaded")
def test_a_damaged_sample_gets_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tile is grey, and the others work; where one of several is damaged, the tab says so, once, and shows the rest."""
    shutil.copytree(_SAMPLES, tmp_path / "samples")
    monkeypatch.setattr("explorer.inference.samples._SAMPLES", tmp_path / "samples")
    first, second = samples()[:2]
    clothing = next(sample for sample in samples() if sample.file.startswith("fashion/"))
    astronaut = next(sample for sample in samples() if sample.name == "astronaut")
    for sample in {first, clothing, astronaut}:
        (tmp_path / "samples" / sample.file).unlink()

    def words(sample: Sample) -> list[str]:
        return [f"The sample {sample.name} is missing or damaged: installing the app again mends it."]

    assert said(opened("inference", preset="resnet20_fashion", image=first.name).error) == words(first)
    app = opened("inference", preset="resnet20_fashion", image=second.name)
    assert verdict(app)
    assert said(tab(app, "Several images").error) == words(first)
    assert said(tab(app, "Receptive field").error) == words(clothing)
    assert app.selectbox(key="grid channel").options
    assert "additions up to" in captions(app)
    app = tab(opened("kernels"), "The 1×1 convolution")
    assert said(app.error) == words(astronaut)
    assert "The same matrix at every pixel" in page_text(app)


def test_images_are_kept_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session's own, and the server's; each with a sentence, and what was there before stays."""
    files = clothes("Trouser", "Bag", "Dress")
    monkeypatch.setattr(images, "MAX_SESSION_BYTES", sum(len(data) for _, data, _ in files[:2]) + 2**15)
    app = select(opened("inference", preset="resnet20_fashion"), "source", "Upload")
    images_uploader(app).set_value([*files[:2], ("large.png", files[2][1] + bytes(2**16), "")])
    run(app)
    assert said(app.error) == ["large.png finds no room: your images may take 0 MiB together; remove some first."]
    monkeypatch.setattr(images, "HELD_FILES", Holdings(100))
    images_uploader(app).set_value(files[2:])
    run(app)
    (words,) = said(app.error)
    assert words.startswith("dress finds no room: this server already holds 0.0 GiB of people's files")
    assert tile_labels(app, "uploads") == ["trouser", "bag"]


@pytest.mark.usefixtures("nothing_loaded")
def test_what_was_made_of_an_upload_goes_with_it() -> None:
    """When it is removed, and when its session ends; what was made of samples stays."""

    def made() -> set[str]:
        return {own for work in list(RESULTS._works.values()) for own in work.digests}

    samples = verdict(opened("inference", preset="resnet20_fashion"))
    app = select(opened("inference", preset="resnet20_fashion"), "source", "Upload")
    images_uploader(app).set_value(clothes("Trouser", "Bag"))
    run(app)
    tab(app, "Why this class")
    assert len(made()) == 2
    click(app, "Remove this image")
    assert len(made()) == 1
    RESULTS.leave("test session id")  # that of every AppTest
    assert not made()
    assert verdict(opened("inference", preset="resnet20_fashion")) == samples


def test_a_photograph_stays_until_the_next_one() -> None:
    app = select(opened("inference", preset="resnet20_fashion"), "source", "Camera")
    for label in ("Trouser", "Bag"):
        app.camera_input[0].set_value(
            ("photo.jpg", jpeg(open_image(clothes(label)[0][1]).resize((280, 280))), "image/jpeg")
        )
        run(app)
        assert verdict(app).startswith(f"**{label}**")
        assert verdict(elsewhere(app)).startswith(f"**{label}**")
    click(app, "Remove this image")
    assert app.info


@pytest.mark.parametrize(
    ("name", "at", "key", "value"),
    [
        ("Maps", "layer1.0.conv1", "source", "Upload"),
        ("Maps", "layer1.0.conv1", "invert", "no"),
        ("Maps", "layer1.0.conv1", "blend", 0.25),
        ("Maps", "layer3.0.conv1", "shown of 64", 128),
        ("Addition", "layer1.0.conv1", "channel of layer1.0", 3),
        ("Receptive field", "layer1.0.conv1", "grid shown", ["Activation"]),
        ("Receptive field", "layer1.0.conv1", "opacity of Effective field", 0.3),
        ("Speed", "layer1.0.conv1", "form layout", "last"),
    ],
)
def test_what_was_chosen_stays(name: str, at: str, key: str, value: Any) -> None:
    """While another tab is open, and while another page is."""
    app = looked(name, preset="resnet20_fashion", at=at)

    def widget() -> Any:
        return app.get_by_key(key)

    assert widget().value != value
    widget().set_value(value)
    run(app)
    assert widget().value == value
    tab(tab(elsewhere(app), "Weights"), name)
    assert widget().value == value


def test_what_was_chosen_of_the_costs_stays_and_stands_in_the_link() -> None:
    app = tab(opened(preset="resnet18"), "Cost")
    select(select(app, "cost measure", "Parameters"), "cost grain", "by layer")
    assert link(app)["cost"] == "measure-Parameters_grain-by.layer"
    again = opened(**link(app))
    run(run(app.switch_page("../pages/kernels.py")).switch_page("../pages/architecture.py"))
    for one in (tab(app, "Cost"), again):
        assert [widget_of(one, key).value for key in ("cost measure", "cost grain")] == ["Parameters", "by layer"]
    wrong = opened(tab="Cost", cost="measure-Euro")
    assert said(wrong.warning) == [
        "measure = Euro is not accepted: one of MACs, Parameters, Activations. The defaults are shown instead."
    ]


# -- blocks switched off ------------------------------------------------------------------


def changed(app: AppTest) -> str:
    (words,) = [text for text in texts(app) if "off. The whole network" in text]
    return words


def test_blocks_off_change_the_prediction_and_everything_after_it() -> None:
    whole = opened("inference", preset="resnet20_fashion", tab="Several images")
    app = opened("inference", preset="resnet20_fashion", tab="Several images", off="layer2.2,layer1.0")
    assert link(app)["off"] == "layer1.0,layer2.2"
    assert verdict(app) != verdict(whole)
    name, probability = re.fullmatch(r"\*\*(.*)\*\*, ([\d.]+)%", verdict(whole)).groups()  # type: ignore[union-attr]
    assert changed(app).startswith(f"2 blocks are off. The whole network says **{name}**, {probability}%")
    before, points, after = map(float, re.findall(r"([\d.]+)(?:%|points| points)", changed(app)))
    assert before - after == pytest.approx(points, abs=0.11)
    (chart,) = [html.proto.body for html in app.get("html") if "with blocks off" in html.proto.body]
    assert "whole network" in chart
    assert tile_labels(app, "several") != tile_labels(whole, "several")
    click(app, "All blocks on")
    assert verdict(app) == verdict(whole)
    assert "off" not in link(app)


@pytest.mark.parametrize("name", ["Maps", "Receptive field", "Why this class", "Weights", "Speed", "Addition"])
@pytest.mark.parametrize("network", ["resnet20_fashion", "plain20_fashion"])
def test_every_tab_works_inside_a_block_that_is_off(name: str, network: str) -> None:
    app = looked(name, preset=network, off="layer1.1", at="layer1.1.conv1")
    assert not app.error
    assert changed(app).startswith("`layer1.1` is off.")


def test_the_addition_of_the_selected_block() -> None:
    app = looked("Addition", preset="resnet20_fashion", at="layer2.1.conv1", off="layer1.0")
    assert "Inside the addition of `layer2.1`" in page_text(app)
    assert re.search(r"the branch is \*\*[\d.]+ times\*\* as large", captions(app))
    assert "Hollow bars" in captions(app)
    select(app, "channel of layer2.1", 3)
    assert "Inside the addition of `layer2.1`" in page_text(app)
    plain = looked("Addition", preset="plain20_fashion")
    assert any("no shortcuts" in info.value for info in plain.info)


def test_each_block_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shipped network beside its twin on labelled images, another on the image."""
    few = ablation.labelled_images()
    monkeypatch.setattr(ablation, "labelled_images", lambda: type(few)(few.images[:20], few.labels[:20]))
    app = click(looked("Blocks off", preset="plain20_fashion"), "Each one in turn")
    for name in ("Plain-20", "ResNet-20"):
        (words,) = [text for text in texts(app) if text.startswith(f"**{name}** gets")]
        assert "at the median with one block off" in words
    assert "first 20 images" in captions(app)
    select(app, "judged by", "Probability of the right class")
    assert any(text.startswith("**Plain-20** gives the right class") for text in texts(app))
    other = click(looked("Blocks off", preset="resnet18", weights="random", size="64"), "Each one in turn")
    assert any(text.startswith("**ResNet-18** gives the right class") for text in texts(other))
    assert "counts as the right one" in captions(other)


def test_blocks_that_another_network_lacks_are_forgotten() -> None:
    app = opened("inference", preset="resnet20_fashion", off="layer1.0,layer3.2")
    choose(app, "layers", "2-2-2")
    assert link(app)["off"] == "layer1.0"
    assert any("are forgotten" in info for info in said(app.info))

"""One number as a visitor sees it: what stands on the page, and the trail that its link holds."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from streamlit.testing.v1 import AppTest

from explorer.analysis.trace import trace
from explorer.drawing.explain import OPEN, products, short_number, summands
from explorer.inference.explain import explain
from explorer.inference.images import open_image
from explorer.inference.preprocess import prepare
from explorer.link import MAX_TRAIL, View, tolerant
from helpers import CLOTHES, CPU, captions, hold, link, opened, page_text, said, select, small
from resnet import ConfigError
from resnet.weights import BUNDLED, bundled, load

pytestmark = pytest.mark.usefixtures("one_thread")
QUERY = {"preset": "resnet20_fashion", "image": CLOTHES[0].name, "tab": "One number"}
WEIGHTS = bundled(BUNDLED["resnet20"])[0]
IMAGE = prepare(open_image(CLOTHES[0].open()), WEIGHTS.data.preprocessing)


def sums(app: AppTest) -> dict[str, list[float]]:
    """Of each layer in the table: the sum, torch's value and the difference."""
    (table,) = (one.proto.body for one in app.get("html") if "checks" in one.proto.body)
    rows = re.findall(r"<th scope=row>(.*?)</th>" + "<td>(.*?)</td>" * 3, table)
    return {name: [float(text.replace("−", "-")) for text in numbers] for name, *numbers in rows}


def terms(app: AppTest) -> set[str]:
    """The units that can be chosen in the drawing of the terms."""
    (drawing,) = (one for one in app.get("bidi_component") if one.proto.id.endswith("-terms"))
    return set(re.findall(r'data-id="(.*?)"', json.loads(drawing.proto.json)["layouts"][0]))


def test_the_page_shows_torchs_value_and_the_sum_beside_it() -> None:
    app = opened("inference", at="layer2.0.act1", channel="5", unit="5-12", **QUERY)
    found = sums(app)
    assert [*found] == ["layer2.0.act1", "layer2.0.bn1", "layer2.0.conv1"]
    network = load(WEIGHTS)
    outputs = {}
    for name in found:
        network.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out}))
    with torch.no_grad():
        network(IMAGE.tensor)
    for name, (total, value, difference) in found.items():
        assert value == pytest.approx(float(outputs[name][0, 5, 5, 12]), rel=1e-6)
        assert abs(difference) < 1e-4 * abs(value)
        assert total == pytest.approx(value, rel=1e-4)
    expected = explain(load(WEIGHTS), IMAGE.tensor, "layer2.0.conv1", 5, 5, 12)
    assert terms(app) < {
        f"{t.unit.layer}.{t.unit.channel}.{t.unit.row}-{t.unit.column}" for t in expected.terms if t.unit
    }
    assert "Channel 5 of `layer2.0.act1`, row 5, column 12 is" in page_text(app)
    assert "bf16" not in captions(app)
    hold(app, form=replace(CPU, half=True))
    app.run()
    assert "All of this is in fp32. The maps are those of bf16, in which the network runs." in captions(app)
    assert sums(app) == found


def test_the_rest_is_one_row_with_its_count_and_sum() -> None:
    found = explain(load(WEIGHTS), IMAGE.tensor, "layer3.1.conv1", 7, 3, 3)
    rows = summands(found)
    assert len(rows) == OPEN + 1
    assert rows[-1].label == f"{64 - OPEN} more channels"
    assert sum(row.value or 0 for row in rows) == pytest.approx(found.total)
    by_channel = abs(found.window.products.sum((1, 2))) if found.window else []
    assert [abs(row.value or 0) for row in rows[:OPEN]] == pytest.approx(sorted(by_channel)[: -OPEN - 1 : -1])
    assert f">{rows[-1].label}<" in products(found).body


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.25, "−0.25"),
        (0.0996, "0.10"),
        (-0.0124, "−0.012"),
        (1e-9, "1e-9"),
        (9.996, "10.0"),
        (123.4, "123"),
        (-54321, "−5e4"),
    ],
)
def test_a_number_in_a_cell_is_short(value: float, text: str) -> None:
    assert short_number(value) == text.replace("e-", "e−")


def test_the_trail_is_in_the_link_until_another_unit_is_selected() -> None:
    trail = ("fc.3.0-0", "flatten.5.0-0")
    app = opened("inference", at="layer3.2.act", channel="5", unit="2-3", trail=",".join(trail), **QUERY)
    assert link(app)["trail"] == ",".join(trail)
    assert not app.warning
    select(app, "grid channel", 6)
    assert "trail" not in link(app)
    assert link(app)["channel"] == "6"


def test_a_pixel_ends_the_way() -> None:
    app = opened("inference", at="act1", channel="1", unit="12-20", trail="fc.3.0-0,image.0.12-19", **QUERY)
    byte, value = int(IMAGE.input_image[12, 19, 0]), float(IMAGE.tensor[0, 0, 12, 19])
    assert f"The pixel at row 12, column 19 is {value:.4g}".replace("-", "−") in page_text(app)
    assert any(f"{byte}/255" in latex.value for latex in app.latex)


@pytest.mark.parametrize("trail", ["nowhere.3.0-0", "fc.10.0-0", "conv1.3.28-0", "image.0.3-3,fc.3.0-0"])
def test_a_trail_that_is_not_this_networks_is_told(trail: str) -> None:
    app = opened("inference", at="layer3.2.act", trail=trail, **QUERY)
    (sentence,) = said(app.warning)
    assert sentence.startswith(f"trail = {trail.split(',')[0]} is not accepted: ")
    assert sums(app).keys() == {"layer3.2.act", "layer3.2.add"}


@pytest.mark.parametrize("trail", ["x", "fc.3", "fc.3.0-0,", "<b>.1.0-0", ",".join(["fc.3.0-0"] * (MAX_TRAIL + 1))])
def test_a_trail_that_is_none_is_one_sentence(trail: str) -> None:
    with pytest.raises(ConfigError):
        View.from_query({"trail": trail})
    view, (problem,) = tolerant({"trail": trail, "tab": "Speed"})
    assert view == View(tab="Speed")
    assert "LAYER.CHANNEL.ROW-COLUMN such as layer2.0.conv1.5.3-4. The way back is left out." in problem


def test_a_trail_holds_every_layer() -> None:
    for more in ({"drop_path": 0.5, "attention": "eca"}, {"stem": "deep", "shortcut": "D", "output_stride": 8}):
        units = tuple(f"{layer.name}.0.0-0" for layer in trace(small(**more), 64).layers)
        assert View.from_query({"trail": ",".join(units)}).trail == units


def test_a_title_says_the_place_on_a_map_one_unit_high() -> None:
    app = opened("inference", preset="resnet18", weights="random", size="32x96", at="layer4.1.act", tab="One number")
    assert re.search(r"Channel \d+ of `layer4.1.act`, row 0, column \d is", page_text(app))


def test_the_longest_trail_opens() -> None:
    view = View(trail=("layer2.0.se.conv.1234.12-13",) * MAX_TRAIL)
    assert View.from_query(view.to_query()) == view

"""The maps of a layer on the inference page: their scale, their names, and what the link holds of them."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from explorer.inference.images import open_image
from explorer.inference.predict import activation, by_strength
from explorer.inference.preprocess import prepare
from helpers import CLOTHES, CPU, held, link, look_at, opened, said, select
from resnet.weights import BUNDLED, bundled, load

pytestmark = pytest.mark.usefixtures("one_thread")
QUERY = {"preset": "resnet20_fashion", "image": CLOTHES[0].name, "size": "37x91"}
"""Of a trained network at a size that is odd and no square."""
SIGNED, NEVER_NEGATIVE = "layer2.0.conv1", "layer2.0.act1"


def maps_of(layer: str) -> np.ndarray:
    """A layer's output for `QUERY`, C×H×W, by a pass of its own."""
    weights = bundled(BUNDLED["resnet20"])[0].at((37, 91))
    prepared = prepare(open_image(CLOTHES[0].open()), weights.data.preprocessing)
    return activation(load(weights), prepared.tensor, layer, CPU)


def tiles(app: AppTest) -> list[dict[str, Any]]:
    """The grid's buttons: what each is called, and what a pointer over it reads."""
    (grid,) = (one for one in app.get("bidi_component") if "channel tiles" in one.proto.id)
    return json.loads(grid.proto.json)["items"]


def legends(app: AppTest) -> list[list[str]]:
    """The numbers and words on the scale of the grid, and on that of the large map."""
    bodies = [html.proto.body for html in app.get("html") if 'class="scale"' in html.proto.body]
    return [re.findall("<span>(.*?)</span>", body) for body in bodies]


def text(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def ends(maps: np.ndarray) -> list[str]:
    """What stands on the scale of such maps."""
    largest = text(np.abs(maps).max())
    return [f"−{largest}", "0", largest] if (maps < 0).any() else [text(maps.min()), text(maps.max())]


@pytest.mark.parametrize("layer", [SIGNED, NEVER_NEGATIVE])
def test_maps_have_a_scale(layer: str) -> None:
    maps = maps_of(layer)
    assert (maps.min() < 0) == (layer == SIGNED)
    app = opened("inference", at=layer, channel="3", **QUERY)
    grid, one = legends(app)
    assert not any(character.isdigit() and character != "0" for mark in grid for character in mark)
    assert one == ends(maps[3])
    select(app, "range", "shared")
    assert legends(app) == [ends(maps), ends(maps)]  # all 32 channels are shown
    hints = {item["id"]: item["hint"] for item in tiles(app)}
    assert hints == {
        str(channel): f"Channel {channel}: {text(own.min())} to {text(own.max())}" for channel, own in enumerate(maps)
    }


def test_a_tile_says_its_channel_and_rank() -> None:
    app = opened("inference", at=SIGNED, **QUERY)
    order = by_strength(maps_of(SIGNED))
    assert [item["label"] for item in tiles(app)] == [str(channel) for channel in order]
    assert [item["name"] for item in tiles(app)] == [
        f"Channel {channel}, rank {rank} of 32 by mean magnitude" for rank, channel in enumerate(order, start=1)
    ]


def over_the_image(app: AppTest) -> list[int]:
    """The channels that are shown over the image."""
    return [
        int(found[1]) for one in app.caption if (found := re.match(r"Channel (\d+) of \S+ over the image", one.value))
    ]


def test_the_link_holds_how_maps_are_looked_at() -> None:
    """What a widget chooses, the link opens; what is usual it leaves out."""
    app = opened("inference", at=SIGNED, **QUERY)
    usual = link(app)
    select(select(app, "range", "shared"), "blend", 0.25)
    look_at(app, channel=5)
    asked = {"channel": "5", "blend": "0.25", "range": "shared"}
    assert link(app) == usual | asked
    other = opened("inference", **usual, **asked)
    assert (other.slider(key="blend").value, legends(other)) == (0.25, legends(app))
    assert over_the_image(other) == [5]
    look_at(select(select(app, "range", "own"), "blend", 0.6), channel=None)
    assert link(app) == usual


def test_a_change_of_them_concerns_the_panels_alone() -> None:
    app = opened("inference", at=SIGNED, **QUERY)
    before = held(app).drawn_state
    assert before is not None
    look_at(app, channel=5, blend=0.25, range="shared")
    assert held(app).drawn_state == before
    assert held(look_at(app, at=NEVER_NEGATIVE)).drawn_state == before
    assert held(look_at(app, off=("layer1.0",))).drawn_state != before


def test_a_channel_that_a_layer_has_not_is_told() -> None:
    app = opened("inference", at="layer3.0.act1", channel="40", **QUERY)
    assert not app.warning
    strongest = int(by_strength(maps_of(SIGNED))[0])
    look_at(app, at=SIGNED)
    assert said(app.warning) == ["channel = 40 is not accepted: 0 to 31 in this layer. The strongest is shown instead."]
    assert over_the_image(app) == [strongest]
    look_at(app, at="layer3.0.act1")
    assert not app.warning
    assert over_the_image(app) == [40]

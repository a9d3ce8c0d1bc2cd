"""Drawings a person can click into, as components: no network, no frame, the page's theme."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import streamlit as st
from PIL import Image

from ..charts import data_url, npz, png, sheet
from ..diagram import Drawing

ASSETS = Path(__file__).parents[1] / "assets"


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


_picture = st.components.v2.component(
    "resnet_explorer.picture",
    html="""<div class="picture">
      <div class="tools">
        <button class="out" title="Zoom out (−)" aria-label="zoom out">−</button>
        <button class="in" title="Zoom in (+)" aria-label="zoom in">+</button>
        <button class="fit" title="Fit (0)" aria-label="fit">⤢</button>
      </div>
      <div class="view"></div>
    </div>""",
    css=_asset("picture.css"),
    js=_asset("picture.js"),
)

_tiles = st.components.v2.component(
    "resnet_explorer.tiles",
    html='<div class="tiles" role="group"></div>',
    css=_asset("tiles.css"),
    js=_asset("tiles.js"),
)


def picture(drawing: Drawing, key: str, on_choose: Callable[[str], None]) -> None:
    """A drawing whose parts can be chosen; `on_choose` gets the `data-id`, before the next run.

    A drawing that would become illegible scrolls inside its card.
    """

    def chosen() -> None:
        if identifier := st.session_state[key].get("chosen"):
            on_choose(identifier)

    _picture(key=key, data={"svg": drawing.svg()}, on_chosen_change=chosen)


COLUMNS = 8


def tiles(
    pictures: Sequence[np.ndarray], labels: Mapping[str, str], selected: str, key: str, on_choose: Callable[[str], None]
) -> None:
    """Pictures H×W×3 of one size as a grid of buttons, one for each of `labels` (identifier: caption).

    `on_choose` gets the identifier, before the next run.
    """

    def chosen() -> None:
        if identifier := st.session_state[key].get("chosen"):
            on_choose(identifier)

    height, width = pictures[0].shape[:2]
    data = {
        "sheet": data_url(sheet(pictures, COLUMNS)), "columns": COLUMNS, "selected": selected,
        "items": [{"id": identifier, "label": label} for identifier, label in labels.items()],
        "aspect": f"{width} / {height}",
    }  # fmt: skip
    _tiles(key=key, data=data, on_chosen_change=chosen)


def downloads(
    stem: str, picture: Callable[[], Image.Image] | None, arrays: Callable[[], Mapping[str, np.ndarray]]
) -> None:
    """Buttons for a picture as PNG and the numbers behind it as NPZ, made when they are clicked."""
    with st.container(horizontal=True):
        if picture:
            st.download_button(
                "PNG", lambda: png(picture()), f"{stem}.png", "image/png", key=f"{stem} png", icon=":material/download:",
                on_click="ignore", type="tertiary", help="This picture",
            )  # fmt: skip
        st.download_button(
            "NPZ", lambda: npz(arrays()), f"{stem}.npz", "application/octet-stream", key=f"{stem} npz",
            icon=":material/download:", on_click="ignore", type="tertiary", help="The numbers, as NumPy arrays",
        )  # fmt: skip

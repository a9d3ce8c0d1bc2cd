"""The picture beside a panel: what the network sees, with what lies on it."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from PIL import Image
from streamlit.delta_generator import DeltaGenerator

from ...drawing import rasters
from ...inference.samples import Sample
from .. import session
from .images import MAX_SHOWN_SIDE, credit
from .running import Run


def seen(
    result: Run,
    picture: Image.Image | None = None,
    words: str = "",
    legend: str = "",
    draw: Callable[[], None] | None = None,
) -> None:
    """What the network really sees, with what lies on it as a `picture` of the same pixels, which `words` name and a `legend`
    in HTML explains; and the image that it was made of. Where there is a `draw`, it shows the picture.
    """
    sees = f"What the network sees: {result.size}" + (", inverted" if result.prepared.inverted else "")
    caption = ". ".join(filter(None, (words, sees)))
    if draw:
        draw()
        st.caption(caption)
    else:
        shown = picture or rasters.displayed_pixels(result.prepared.input_image, MAX_SHOWN_SIDE)
        st.image(shown, caption=caption, width="stretch", alt=words or sees)
    if legend:
        st.html(legend)
    origin(result)


def origin(result: Run) -> None:
    """The image that what the network sees was made of, small, with whose it is."""
    image = result.image
    given, said = st.columns([2, 3], vertical_alignment="center")
    given.image(image.preview, width="stretch", alt=image.name)
    said.caption(credit(image.source) if isinstance(image.source, Sample) else session.escape_markdown(image.name))


def beside(panel: Callable[[Run], None]) -> Callable[[Run], None]:
    """A panel on the left, and on the right the picture, which stays in view."""

    def draw(result: Run) -> None:
        left, right = picture_columns()
        with left:
            session.show_or_say(panel, result)
        with right:
            seen(result)

    return draw


def picture_columns() -> tuple[DeltaGenerator, DeltaGenerator]:
    """The place of a panel, and beside it that of the picture."""
    with st.container(key="beside"):
        left, right = st.columns([13, 7])
    return left, right.container(border=True, key="seen")

"""Two checks of the explanations, computed when they are asked for: under random weights, and without their pixels."""

from __future__ import annotations

import math

import numpy as np
import streamlit as st

from ...analysis.layers import Layer
from ...drawing import rasters
from ...figures.sanity import cascade_figure, deletion_figure
from ...inference import attribution, sanity
from ...inference.ablation import batch_size
from ...inference.sanity import CAM, PIXELS, Checks
from .. import session
from ..cached import cached_result, may_compute
from ..components import plot
from ..headline import section
from .running import Run


def checks(result: Run, layer: Layer, target: int, name: str) -> None:
    """Grad-CAM at a layer and integrated gradients for class `target`, which is called `name`, put to two checks."""
    section("Can these explanations be believed? Two checks")
    if result.weights.key == "random":
        st.caption("These weights are untrained: they have learned nothing that an explanation could be checked by.")
        return
    key = ("sanity", result.key.plain, layer.name, target)
    seconds = sanity.passes(result.network) * result.prediction.seconds
    if may_compute(f"Check them, about {max(1, seconds):.0f} s by the first pass", key):
        found: Checks = cached_result(
            key,
            "Checking the explanations …",
            lambda progress: sanity.check(
                result.network,
                result.prepared.tensor,
                layer.name,
                target,
                result.device,
                result.off,
                batch_size(result.trace),
                attribution.batch_size(result.trace),
                progress,
            ),
        )
        cascade_row(result, layer, found)
        plot(cascade_figure(found), key="cascade chart")
        st.markdown(cascade_words(found))
        plot(deletion_figure(found, name), key="deletion chart")
        st.markdown(deletion_words(found, session.escape_markdown(name)))
    st.caption(
        "First, the weights are made random from the head down to the stem: an explanation that stays the same does not tell "
        "what was learned (Adebayo 2018, https://arxiv.org/abs/1810.03292). Second, pixels are set to the mean colour, those "
        "that the explanation names first: the sooner the score falls, the more it rests on them (Petsiuk 2018, "
        "https://arxiv.org/abs/1806.07421). One image and one draw of weights; removed pixels make images that no network was "
        "trained on."
    )


def cascade_row(result: Run, layer: Layer, found: Checks) -> None:
    """Both maps of each network of the cascade, in two rows."""
    seen, side = result.prepared.input_image, 160
    rows = {
        f"{CAM} at {layer.name}": [rasters.overlay(one.cam, seen, 0.55, layer.field, side) for one in found.cascade],
        PIXELS: [
            rasters.enlarged(rasters.diverging(one.pixels, float(np.quantile(np.abs(one.pixels), 0.995)) or None), side)
            for one in found.cascade
        ],
    }
    for title, images in rows.items():
        st.caption(f"{title}, the weights random from the head down to …")
        with st.container(key=f"cascade {title.partition(' at ')[0]}"):
            for column, one, image in zip(st.columns(len(images)), found.cascade, images, strict=True):
                column.image(image, caption=one.name, width="stretch", alt=f"{title}, {one.name}")


def cascade_words(found: Checks) -> str:
    """How like the maps of the random network are to those of the trained one, in numbers."""
    last = found.cascade[-1]
    return (
        f"With all weights random, the rank correlation with the trained network's map is **{rank_text(last.cam_rank)}** for "
        f"{CAM} and **{rank_text(last.pixel_rank)}** for {PIXELS.lower()}, whose magnitudes alone keep "
        f"**{rank_text(last.magnitude_rank)}**: each is the pixel less the mean, times a gradient, so the image itself can show in them."
        + (
            " A map that is the same everywhere has no ranks, and leaves a gap."
            if any(math.isnan(one.cam_rank + one.pixel_rank) for one in found.cascade)
            else ""
        )
    )


def rank_text(value: float) -> str:
    return "undefined, as the map is even" if math.isnan(value) else f"{value:.2f}".replace("-", "−")


def deletion_words(found: Checks, name: str) -> str:
    """Which curve falls soonest, in numbers, whether that speaks for the explanation or not."""
    areas = {each: sanity.area(curve) for each, curve in found.curves.items()}
    chance = [sanity.area(curve) for curve in found.random]
    said = ", ".join(f"**{value:.3f}** for {each}" for each, value in areas.items())
    sooner = [each for each, value in areas.items() if value < min(chance)]
    verdict = {
        2: "Both remove the score sooner than every random order.",
        1: f"Only {sooner[0] if sooner else ''} removes it sooner than every random order.",
        0: "Neither removes it sooner than every random order: scattered pixels of the mean colour undo it as "
        "soon, and on this image the check does not speak for them.",
    }[len(sooner)]
    return (
        f"Area under the curve, lower where the score of {name} falls sooner: {said}, and {np.mean(chance):.3f} "
        f"({min(chance):.3f} to {max(chance):.3f}) for {len(chance)} random orders. {verdict}"
    )

"""An image through the network: what it says, and what every layer does on the way."""

import streamlit as st

from explorer.inference.images import ImageError
from explorer.inference.limits import check_runnable
from explorer.inference.turns import PassError, TooLargeError
from explorer.navigation import INFERENCE
from explorer.views import network, session, tabs
from explorer.views.cached import cached_trace
from explorer.views.headline import heading
from explorer.views.inference import (
    ablation,
    addition,
    attribution,
    channels,
    explain,
    images,
    latency,
    maps,
    picture,
    receptive_field,
    running,
    selection,
    several,
    speed,
    strip,
    verdict,
    weights,
    whatif,
)
from resnet.weights import FASHION_MNIST

PANELS = {
    "Maps": maps.panel,
    "One number": explain.panel,
    "Channel": channels.panel,
    "Addition": addition.panel,
    "Receptive field": receptive_field.panel,
    "Why this class": attribution.panel,
    "What if": whatif.panel,
    "Blocks off": picture.beside(ablation.panel),
    "Several images": several.panel,
    "Weights": picture.beside(attribution.weights_panel),
    "Speed": speed.panel,
}
"""What can be looked at in one run, by the name of its tab; each takes the run."""


view = session.view()
drawn = cached_trace(view.config, view.image_size)
heading(drawn, INFERENCE)
found = selection.select(view)
if found.hub:
    found = selection.from_hub(view, found)
if found.current is None:
    waiting = weights.question(found)
    layer = network.selected_layer(drawn, view.at)
    network.overview(drawn, layer)
    network.block_detail(drawn, layer)
    if found.awaited:  # last: whatever stands above is seen meanwhile, and after Stop
        with waiting:
            selection.wait_for(found.hub)
    st.stop()

band = st.container(horizontal=True, vertical_alignment="center", key="band")
below = st.container(gap="small", key="below")
with band:
    asked = weights.chip(found.current)
with below:
    weights.said(found, found.current)
    waiting = st.container()  # a download is seen where it was asked for
trace = running.weights_trace(found.current)
try:
    check_runnable(trace)
except TooLargeError as error:
    with below:
        st.error(str(error), icon=":material/block:")
        if found.current.key == "random":  # else the card offers it
            weights.offer_trained_instead(found)
    st.stop()

with band.container(horizontal=True, vertical_alignment="center", key="images"):
    chosen = images.choose_images(found.current.data.name == FASHION_MNIST.name, below)
if not chosen:
    below.info("Upload or take an image, or pick a sample, to see what the network makes of it.")
    st.stop()

inverted = running.choose_inversion(found.current, asked)
try:
    with waiting:
        result = running.run(chosen, found.current, inverted)
except PassError as error:
    with below:
        st.error(session.escape_markdown(str(error)), icon=":material/memory:")
        latency.offer_cpu()
    st.stop()
except ImageError as error:
    below.error(session.escape_markdown(str(error)), icon=":material/broken_image:")
    st.stop()
with band:
    verdict.verdict(result)
with below:
    verdict.no_verdict(result)
    if found.current.key == "random":
        weights.offer_trained_instead(found)
tabs.tabs(PANELS, result, above=strip.strip)
with below:  # last, since it may take seconds
    session.show_or_say(ablation.right_on_test_images, result)

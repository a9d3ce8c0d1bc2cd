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
    images,
    latency,
    receptive_field,
    running,
    selection,
    several,
    weights,
)
from resnet.weights import FASHION_MNIST

PANELS = {
    "Activations": running.activations,
    "Inside the addition": addition.panel,
    "Blocks off": ablation.panel,
    "Receptive field": receptive_field.panel,
    "Attribution": attribution.panel,
    "Weights": attribution.weights_panel,
    "Several images": several.panel,
    "Speed": latency.panel,
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

left, right = st.columns(2)
card = left.container(border=True, key="image")
with card:
    weights.card(found, found.current)
    waiting = st.container()  # a download is seen where it was asked for
trace = running.weights_trace(found.current)
try:
    check_runnable(trace)
except TooLargeError as error:
    with right:
        st.error(str(error), icon=":material/block:")
        if found.current.key == "random":  # else the card offers it
            weights.offer_trained_instead(found)
    st.stop()

with card:
    chosen = images.choose_images(fashion=found.current.data.name == FASHION_MNIST.name)
if not chosen:
    with right:
        st.info("Upload or take an image, or pick a sample, to see what the network makes of it.")
    st.stop()

inverted = running.choose_inversion(found.current, card)
try:
    with waiting:
        result = running.run(chosen, found.current, inverted)
except PassError as error:
    with right:
        st.error(session.escape_markdown(str(error)), icon=":material/memory:")
        latency.offer_cpu()
    st.stop()
except ImageError as error:
    right.error(session.escape_markdown(str(error)), icon=":material/broken_image:")
    st.stop()
with right.container(border=True, key="seen"):
    running.input_images(result)
answer = right.container(border=True, key="verdict")
with answer:
    running.verdict(result)
    if found.current.key == "random":
        weights.offer_trained_instead(found)
network.overview(trace, result.layer, running.thumbnails(result), switches=True)
network.block_detail(trace, result.layer)
tabs.tabs(PANELS, result)
with answer:  # last, since it may take seconds
    session.show_or_say(ablation.right_on_test_images, result)

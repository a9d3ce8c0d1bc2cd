"""Why this class: Grad-CAM at each depth, integrated gradients on the pixels, and the weights themselves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import streamlit as st

from ...analysis.layers import IMAGE, Layer
from ...drawing import rasters
from ...figures import inference
from ...inference import attribution
from ...inference.attribution import Attribution
from ...inference.limits import check_gradients
from .. import session
from ..cached import Key, cached_result, may_compute, shared
from ..components import contact_sheet, downloads, plot, tiles
from ..headline import section
from . import sanity
from .maps import chosen_channel, scale_legend
from .picture import picture_columns, seen
from .running import Run
from .verdict import NO_CLASSIFIER

AT_ONCE_MACS = 3e9
"""MACs up to which a result is computed without being asked for."""


def panel(result: Run) -> None:
    """Which places of the image speak for a class."""
    if not result.prediction.finite:
        st.error("The activations overflowed, so no class has a score to explain.")
        return
    if result.headless:
        st.info(f"{NO_CLASSIFIER} Attribution explains the score of a class.")
        return
    check_gradients(result.trace)
    left, right = picture_columns()
    with left:
        choose_class(result)
    target, name = explained_class(result), explained_name(result)
    with left, st.container(border=True, key="grad-cam"):
        section(f"Grad-CAM: where each depth finds what speaks for {session.escape_markdown(name)}")
        layers = explained_layers(result)
        named = result.key.plain, tuple(layer.name for layer in layers), target, result
        maps = cached_cams(*named)
        pixels = result.prepared.input_image
        images = [rasters.overlay(maps[layer.name], pixels, 0.55, layer.field, 224) for layer in layers]
        for column, layer, image in zip(st.columns(len(layers)), layers, images, strict=True):
            column.image(
                image,
                caption=f"`{layer.name}`, {layer.out_shape[1]}×{layer.out_shape[2]}",
                width="stretch",
                alt=f"Grad-CAM at {layer.name} over the image",
            )
        st.caption(
            "The maps of a layer, each weighed by how much the score rises with it, added, and negative sums cut off "
            "(Selvaraju 2017). Bright places speak for the class. The first images are the ends of the stages"
            + (", the last the selected layer." if layers[-1] == result.layer else ".")
        )
        downloads(
            "grad-cam",
            lambda: rasters.sheet([np.asarray(image) for image in images], len(images)),
            lambda: cached_cams(*named),
            sum(one.nbytes for one in maps.values()),
        )
    with right:
        last = layers[-1]
        picture = rasters.overlay(maps[last.name], pixels, 0.55, last.field)
        seen(result, picture, f"What speaks for {name} at {last.name}, by Grad-CAM")
    with left, st.container(border=True, key="integrated gradients"):
        section(f"Integrated gradients: what each pixel adds to the score of {session.escape_markdown(name)}")
        if found := integrated_attribution(result, target):
            integrated_images(result, found)
    with left, st.container(border=True, key="sanity"):
        sanity.checks(result, layers_of_stages(result)[-1], target, name)


PREDICTION = "The prediction"


def explained_class(result: Run) -> int:
    """The class that is explained: the one that a person chose where the weights know it, else the predicted one."""
    names, asked = result.weights.data.categories, session.view().explained
    return names.index(asked) if asked in names else result.prediction.top(1)[0][0]


def explained_name(result: Run) -> str:
    return result.weights.data.categories[explained_class(result)]


def choose_class(result: Run) -> None:
    """The prediction, whatever it is, or one class, the most probable ones first; with how probable it is."""
    names, asked = result.weights.data.categories, session.view().explained
    if asked and asked not in names:
        words = (
            f"class = {asked} is none of the {len(names)} classes that these weights know, {names[0]} to {names[-1]}."
        )
        st.warning(session.escape_markdown(f"{words} The prediction is explained instead."))
    session.set_widget("explained class", asked if asked in names else PREDICTION)

    def chosen() -> None:
        choice = st.session_state["explained class"]
        session.choose(explained="" if choice == PREDICTION else choice)

    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            "Class",
            [PREDICTION, *(names[index] for index, _ in result.prediction.top(len(names)))],
            key="explained class",
            on_change=chosen,
            width=320,
            help="Any class can be explained, also one that the network does not believe in.",
        )
        probability = result.prediction.probabilities[explained_class(result)]
        st.markdown(f"Explained: **{session.escape_markdown(explained_name(result))}**, {probability:.1%}")


def explained_layers(result: Run) -> list[Layer]:
    """The last layer of each stage, and the selected layer where its map has more than one position."""
    last = layers_of_stages(result)
    chosen = result.layer
    on_path = len(chosen.out_shape) == 3 and chosen.out_shape[1] * chosen.out_shape[2] > 1
    return list(dict.fromkeys([*last, chosen] if on_path else last))


def layers_of_stages(result: Run) -> list[Layer]:
    """The last layer of each stage."""
    return [layers[-1] for layers in result.trace.stages]


@shared()
def cached_cams(key: Key, layers: tuple[str, ...], target: int, _result: Run) -> Mapping[str, np.ndarray]:
    return attribution.grad_cam(_result.network, _result.prepared.tensor, layers, target, key.form)


def integrated_attribution(result: Run, target: int) -> Attribution | None:
    """Integrated gradients at once for a small network, else when they are asked for."""
    key = ("integrated", result.key.plain, target)
    seconds = 3 * attribution.STEPS * result.prediction.seconds
    at_once = result.trace.macs * attribution.STEPS <= AT_ONCE_MACS
    if not may_compute(f"Compute, about {max(1, seconds):.0f} s by the first pass", key, at_once=at_once):
        return None
    return cached_result(
        key,
        "Integrating the gradients …",
        lambda progress: attribution.integrated_gradients(
            result.network,
            result.prepared.tensor,
            target,
            result.device,
            progress,
            attribution.batch_size(result.trace),
        ),
    )


def integrated_images(result: Run, gradients: Attribution) -> None:
    seen, pixels, words = st.columns(3)
    side = 336
    seen.image(
        rasters.enlarged(rasters.as_rgb(result.prepared.input_image), side),
        caption=f"What the network sees, {result.size}",
        width="stretch",
        alt="What the network sees",
    )
    limit = float(np.quantile(np.abs(gradients.pixels), 0.995)) or None
    pixels.image(
        rasters.enlarged(rasters.diverging(gradients.pixels, limit), side),
        caption="Red adds, blue takes away",
        width="stretch",
        alt="What each pixel adds to the score",
    )
    words.markdown(
        f"The pixels add **{gradients.total:+.2f}** in all. The class scores **{gradients.difference:+.2f}** above the mean "
        f"image, and the two agree in the limit: {attribution.STEPS} steps from one image to the other leave "
        f"{abs(gradients.total - gradients.difference):.2f} unexplained."
    )
    with words:
        downloads(
            "integrated-gradients",
            lambda: rasters.enlarged(rasters.diverging(gradients.pixels, limit), side),
            lambda: {"attribution": gradients.pixels, "pixels": result.prepared.pixels},
            2 * gradients.pixels.nbytes,
        )
    words.caption("Computed by captum (Sundararajan 2017). The scale ends where 99.5 % of the pixels do.")


# -- weights ------------------------------------------------------------------------------


def weights_panel(result: Run) -> None:
    """The first convolution's kernels as images, and the selected layer's weights as a histogram."""
    left, right = st.columns(2)
    with left, st.container(border=True, key="kernels"):
        name, kernels = attribution.first_convolution(result.network)
        count, channels, size, _ = kernels.shape
        section(f"What `{name}` looks for in the image")

        def select(identifier: str) -> None:
            session.choose(at=name, channel=int(identifier))

        images = [rasters.enlarged(image, 48) for image in attribution.kernel_images(kernels)]
        with st.container(height=420 if count > 48 else "content", border=False):
            labels = {str(index): str(index) for index in range(count)}
            selected = str(chosen_channel(result.channels(name))) if result.layer.name == name else ""
            tiles(contact_sheet([np.asarray(image) for image in images]), labels, selected, "kernel tiles", select)
        kind = "in colour" if channels == 3 else "grey" if channels == 1 else f"the mean of {channels} channels"
        st.caption(
            f"{count} kernels of {size}×{size}, {kind}, on one scale; middle grey is zero. A click selects its channel."
        )
    with right, st.container(border=True, key="histogram"):
        layer = layer_with_weights(result)
        if result.headless and result.layer.name == "fc":
            st.info(f"{NO_CLASSIFIER} `fc` is zeros here, so these are the weights of `{layer.name}`.")
        histogram(result, layer)
    with st.container(border=True, key="kernel"):
        convolution = selected_convolution(result)
        channel = chosen_channel(result.channels(convolution.name))
        section(f"Kernel {channel} of `{convolution.name}`, a slice for each channel that it reads")
        kernel_slices(result, convolution, channel, "slice tiles")
        opens = "A click opens the maps of the channel that a slice reads. " if convolution.inputs[0] != IMAGE else ""
        st.caption(f"{opens}Another layer is selected above.")


def selected_convolution(result: Run) -> Layer:
    """The selected layer, or the last convolution before it; the first one where there is none."""
    before = [layer for layer in result.trace.convolutions if layer.index <= result.layer.index]
    return before[-1] if before else result.trace.convolutions[0]


MAX_SLICES = 64
"""Slices of a kernel that are shown, the largest first."""


def kernel_slices(result: Run, convolution: Layer, channel: int, key: str) -> None:
    """One kernel of a convolution as pictures, a slice for each channel that it reads, of which a click opens the maps."""
    found = attribution.slices(result.network, convolution.name, channel)
    order, largest = found.order[:MAX_SLICES], float(np.abs(found.values).max())
    source = result.trace.layers[convolution.inputs[0]].name if convolution.inputs[0] >= 0 else ""

    def select(identifier: str) -> None:
        if source:
            session.choose(tab="", at=source, channel=int(identifier))

    pictures = [rasters.enlarged(rasters.diverging(found.values[one], largest), 48) for one in order]
    labels = {str(found.first + one): str(found.first + one) for one in order.tolist()}
    tiles(contact_sheet([np.asarray(picture) for picture in pictures]), labels, "", key, select)
    st.html(scale_legend(rasters.Scale(-largest, largest, True)))
    size = "×".join(map(str, found.values.shape[1:]))
    few = f" The {len(order)} largest are shown." if len(order) < len(found.values) else ""
    reads = f"of `{source}`" if source else "of the image"
    st.caption(
        f"{len(found.values)} slices of {size}, the largest first, each named by the channel {reads} that it reads: blue below "
        f"zero, red above, on one scale.{few}"
    )


def layer_with_weights(result: Run) -> Layer:
    """The selected layer, or the next one that has weights."""
    start = result.layer.index
    layers = [layer for layer in result.trace.layers if not (result.headless and layer.name == "fc")]
    return next(layer for layer in (*layers[start:], *reversed(layers[:start])) if layer.params)


def histogram(result: Run, layer: Layer) -> None:
    module = result.network.get_submodule(layer.name)
    values = module.weight.detach().float().cpu().numpy().ravel()  # type: ignore[operator]
    start = attribution.initial_deviation(module)
    plot(inference.histogram_figure(values, f"The weights of {layer.name}", start), key="weights chart")
    words = f"{values.size:,} weights with deviation {values.std():.3g}."
    if start:
        words += f" He initialisation draws them with deviation {start:.3g}: the grey line."
    st.caption(words)

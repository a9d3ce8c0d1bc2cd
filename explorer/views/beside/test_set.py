"""Networks side by side on the labelled test images: accuracy by class, what is taken for what, where one is right and the
other wrong, and the nearest images by pooled features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import streamlit as st

from resnet.datasets import FASHION_MNIST

from ...drawing.rasters import as_rgb
from ...figures.beside import class_figure, confusion_figure
from ...inference.samples import labelled_images, labelled_name
from ...link import natural_size
from ...navigation import INFERENCE
from .. import session
from ..components import contact_sheet, plot, tiles
from ..headline import section
from ..inference.images import ChosenImage
from ..inference.running import Run
from .networks import Network, knowing, readings, runs, said

CLASSES = FASHION_MNIST.categories
MOST_SHOWN, NEAREST = 24, 8
"""Images of a disagreement that are shown, and of the nearest."""


def panel(networks: Sequence[Network], images: Sequence[ChosenImage]) -> None:
    """What each network makes of the test images."""
    open_destination()
    known = knowing(networks)
    if not known:
        st.info("Networks that know Fashion-MNIST are needed here: the list above has four that ship.")
        return
    truth = np.asarray(labelled_images().labels)
    names = {one: said(one) for one in known}
    with st.container(border=True, key="by class"):
        section("How often each is right")
        shares = {
            one.label: [float((given[truth == k] == k).mean()) for k in range(len(CLASSES))]
            for one, given in names.items()
        }
        plot(class_figure(shares, CLASSES), key="class chart")
        for one, given in names.items():
            st.markdown(overall(one.label, given, truth))
        st.caption(
            f"On the {len(truth)} images that ship, the first of Fashion-MNIST's test set, {np.bincount(truth).min()} to "
            f"{np.bincount(truth).max()} of each class: a class's share moves by about 2% with each image."
        )
    with st.container(border=True, key="confusion"):
        section("Confusion matrices")
        for places in range(0, len(known), 2):
            for column, one in zip(st.columns(2), known[places : places + 2], strict=False):
                counts = confusion(names[one], truth)
                plot(confusion_figure(counts, CLASSES, one.label), f"confusion {one.label}", column)
    if len(known) > 1:
        disagreement(names, truth)
    if images:
        nearest(known, images)


def overall(label: str, given: np.ndarray, truth: np.ndarray) -> str:
    """How many a network gets right, and which two classes it mixes up most."""
    counts = confusion(given, truth)
    np.fill_diagonal(counts, 0)
    row, column = divmod(int(counts.argmax()), len(CLASSES))
    words = f"**{session.escape_markdown(label)}** is right on {(given == truth).sum()} of {len(truth)}, {(given == truth).mean():.1%}"
    if counts.max() == 0:
        return f"{words}."
    return f"{words}. Its most frequent error: {CLASSES[row]} named {CLASSES[column]}, {counts.max()} times."


def confusion(given: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How many images of each class (rows) are given which name (columns), K×K."""
    counts = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    np.add.at(counts, (truth, given), 1)
    return counts


# -- where they disagree ------------------------------------------------------------------


def disagreement(names: dict[Network, np.ndarray], truth: np.ndarray) -> None:
    """The images that one network gets right and another wrong, each of which Inference opens in the one that is wrong."""
    pairs = list(permutations(names, 2))
    places = {pair: np.flatnonzero((names[pair[0]] == truth) & (names[pair[1]] != truth)) for pair in pairs}
    labels = [f"{one.label} right, {other.label} wrong: {len(places[one, other])}" for one, other in pairs]
    with st.container(border=True, key="disagreement"):
        section("One right, the other wrong")
        number = st.selectbox(
            "Images",
            range(len(pairs)),
            key="disagreement pair",
            format_func=labels.__getitem__,
            persist_state="session",
        )
        _, other = pair = pairs[number if number < len(pairs) else 0]
        found = places[pair][:MOST_SHOWN]
        if not len(found):
            st.caption("There is none.")
            return
        captions = {labelled_name(int(index)): CLASSES[names[other][index]] for index in found}
        hints = {
            labelled_name(
                int(index)
            ): f"Test image {index}: {CLASSES[truth[index]]}, which {other.label} names {CLASSES[names[other][index]]}"
            for index in found
        }
        test_tiles(found, captions, hints, "disagreement tiles", other)
        st.caption(
            f"{len(found)} of {len(places[pair])}, in the order of the test set, below each what {session.escape_markdown(other.label)} names "
            "it. A click opens one on Inference, in the network that is wrong."
        )


def test_tiles(
    indices: np.ndarray, captions: dict[str, str], hints: dict[str, str], key: str, network: Network
) -> None:
    """Test images to click, each of which Inference opens in a network."""
    images = labelled_images().images
    pictures = [as_rgb(images[index][:, :, None]).repeat(2, 0).repeat(2, 1) for index in indices]

    def choose(name: str) -> None:
        session.hold(destination=inference_view(network, name))

    tiles(contact_sheet(pictures), captions, "", key, choose, hints, hints)


def inference_view(network: Network, image: str) -> session.View:
    """What Inference opens on: an image in a network with its weights."""
    config = network.weights.config
    here = session.view()
    own = (config, network.weights.key) == (here.config, here.weights)
    size, weights = (here.image_size, here.weights) if own else (natural_size(config), network.weights.key)
    shipped = "" if network.shipped else weights
    return replace(
        here,
        config=config,
        image_size=size,
        weights=shipped,
        image=image,
        tab="",
        at="",
        unit="",
        trail=(),
        off=(),
        channel=None,
    )


def open_destination() -> None:
    """Go to Inference where a click on an image asked for it."""
    if there := session.held().destination:
        session.hold(destination=None)
        st.switch_page(INFERENCE.file, query_params=session.query_to(there))


# -- the nearest images -------------------------------------------------------------------


def nearest(networks: Sequence[Network], images: Sequence[ChosenImage]) -> None:
    """The test images whose pooled features at the last block are nearest to this image's, for each network."""
    truth = np.asarray(labelled_images().labels)
    with st.container(border=True, key="nearest"):
        section("The nearest test images")
        for one, run in runs(networks, images).items():
            st.markdown(f"**{session.escape_markdown(one.label)}**")
            order, cosines = neighbours(np.asarray(readings(one).features[one.blocks[-1]]), last_features(run))
            index = getattr(run.image.source, "index", None)
            found = np.array([place for place in order if place != index and cosines[place] < 1 - 1e-6][:NEAREST])
            if not len(found):  # all are alike, or the activations overflowed
                st.caption("No test image can be told from another by these features.")
                continue
            captions = {labelled_name(int(place)): f"{CLASSES[truth[place]]} {cosines[place]:.2f}" for place in found}
            hints = {
                labelled_name(int(place)): f"Test image {place}: {captions[labelled_name(int(place))]}"
                for place in found
            }
            test_tiles(found, captions, hints, f"nearest {one.label}", one)
        st.caption(
            "By the cosine between the channels' means after the last block, which is what the classifier reads; the image itself is left "
            "out. The classes are the true ones, of which the network was told nothing here."
        )


def last_features(run: Run) -> np.ndarray:
    """The pooled output of the last block on an image, C."""
    last = run.trace.blocks[run.trace.config.blocks[-1]][-1]
    return run.maps(last.name).mean((1, 2))


def neighbours(features: np.ndarray, one: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of N×C by their cosine to C, the largest first, and the cosines N."""
    norms = np.linalg.norm(features, axis=1) * np.linalg.norm(one)
    cosines = np.divide(features @ one, norms, out=np.zeros(len(features)), where=norms > 0)
    return np.argsort(-cosines, kind="stable"), cosines

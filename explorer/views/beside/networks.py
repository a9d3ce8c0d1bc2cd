"""Which trained networks stand side by side, and what they make of the test images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import streamlit as st

from resnet import ConfigError
from resnet.config import stage_and_index
from resnet.presets import preset, short_title
from resnet.shipped import NAMES
from resnet.weights import FASHION_MNIST, Weights, bundled

from ...experiments import probes
from ...experiments.probes import Readings
from ...inference.limits import check_runnable
from ...inference.samples import labelled_images
from ...inference.turns import TooLargeError
from ...link import MAX_NETWORKS, SHOWN, TRAINED, parse_networks
from ...sharing.threads import single_thread
from .. import session
from ..cached import cached_result, device
from ..inference.ablation import knows_test_images, test_inputs, too_large
from ..inference.images import ChosenImage
from ..inference.running import Run, run_with, weights_trace
from ..inference.selection import select
from ..inference.weights import say
from ..weights import loaded

USUAL = ("resnet56_fashion", "plain56_fashion")
"""The networks where a link names none."""


class Network(NamedTuple):
    """A trained network by what a page calls it."""

    label: str
    weights: Weights

    @property
    def shipped(self) -> str:
        """Its name in `BUNDLED` where these are the weights that ship, at the size that they were measured at; else ""."""
        own = self.weights.key == "bundled" and self.weights.data.preprocessing == FASHION_MNIST.preprocessing
        return NAMES.get(self.weights.config, "") if own else ""

    @property
    def blocks(self) -> tuple[str, ...]:
        return self.weights.config.blocks


def choose_networks() -> list[Network]:
    """The networks that the link names, to choose others in their place; without those that cannot run here, which is said.

    Raises:
        WeightsError: where weights that ship are missing or damaged.
    """
    names = session.view().networks or USUAL
    options = [*TRAINED, SHOWN]
    labels = {name: label_of(name) for name in options}
    session.set_widget("networks", list(names), list(labels.values()))
    st.multiselect(
        "Networks",
        options,
        key="networks",
        format_func=labels.__getitem__,
        max_selections=MAX_NETWORKS,
        on_change=networks_chosen,
        help="Two to four. Those that ship were trained on Fashion-MNIST; the one that the link shows runs with the weights "
        "that Inference chose, your own checkpoint too.",
    )
    found = []
    for name in names:
        if name != SHOWN:
            found.append(Network(labels[name], *bundled(preset(name))))
            continue
        selection = select(session.view())
        say(selection)
        if selection.current:
            found.append(Network(labels[name], selection.current))
        else:
            title = session.escape_markdown(short_title(session.view().config))
            st.info(f"The link shows {title}, and no weights for it are at hand here: Inference has some to choose.")
    return [one for one in found if fits(one)]


def fits(network: Network) -> bool:
    """Whether the network is small enough to run here; where it is not, that is said."""
    try:
        check_runnable(weights_trace(network.weights), network.label)
    except TooLargeError as error:
        st.error(session.escape_markdown(str(error)), icon=":material/block:")
        return False
    return True


def label_of(name: str) -> str:
    """ResNet-56, or "ResNet-50, as shown"."""
    return f"{short_title(session.view().config)}, as shown" if name == SHOWN else short_title(preset(name))


def networks_chosen() -> None:
    """Take what was chosen, where it is enough."""
    names = tuple(st.session_state["networks"])
    try:
        parse_networks(",".join(names))
    except ConfigError:
        words = ", ".join(map(label_of, names)) or "(none)"
        session.refuse(ConfigError("networks", words, f"two to {MAX_NETWORKS} of the list"), unchanged=UNCHANGED)
    else:
        session.change_view(networks=() if names == USUAL else names)


UNCHANGED = "The networks are unchanged."


def all_blocks(networks: Sequence[Network]) -> list[str]:
    """The names of all blocks that any of them has, in order of depth."""
    return sorted({name for one in networks for name in one.blocks}, key=stage_and_index)


def runs(networks: Sequence[Network], images: Sequence[ChosenImage]) -> list[Run]:
    """The first image through each of them, with all blocks, on the session's device in fp32."""
    view, image = session.view(), images[:1]
    return [run_with(image, one.weights, None, (), device(), view.at) for one in networks]


# -- on the test images -------------------------------------------------------------------


def knowing(networks: Sequence[Network]) -> list[Network]:
    """Those that know what the test images show and are small enough; which others there are is said."""
    known = [one for one in networks if knows_test_images(one.weights) and not too_large(one.weights)]
    if left_out := [session.escape_markdown(one.label) for one in networks if one not in known]:
        words = "is left out: it does" if len(left_out) == 1 else "are left out: they do"
        st.info(
            f"{' and '.join(left_out)} {words} not know Fashion-MNIST at 28×28 pixels, of which the labelled images that ship "
            "are, or all of these at once take too much memory."
        )
    finite = [one for one in known if one.shipped or np.isfinite(scores(one)).all()]
    if overflowing := [session.escape_markdown(one.label) for one in known if one not in finite]:
        st.error(f"{' and '.join(overflowing)}: the activations overflow on the test images, so nothing is measured.")
    return finite


def readings(network: Network) -> Readings:
    """What the network's blocks make of the test images, as arrays."""
    key = ("readings", network.weights, device())
    words = f"{network.label} looks at {len(labelled_images().labels)} test images …"

    def compute(move: Callable[[float], None]) -> Readings:
        with single_thread():
            found = probes.read_blocks(loaded(network.weights), test_inputs(network.weights), device(), move)
        return Readings(*({name: one.numpy() for name, one in each.items()} for each in found))  # type: ignore[arg-type]

    return cached_result(key, words, compute)


def scores(network: Network) -> np.ndarray:
    """The network's scores of the test images, N×K."""
    return np.asarray(readings(network).early[network.blocks[-1]])


def said(network: Network) -> np.ndarray:
    """The class that the network names for each test image, N."""
    return scores(network).argmax(1)


def cannot_measure(known: Sequence[Network]) -> bool:
    """Whether fewer than two are left, which is said."""
    if len(known) < 2:
        st.info("Two networks that know Fashion-MNIST are needed here: the list above has four that ship.")
    return len(known) < 2

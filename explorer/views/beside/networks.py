"""Which trained networks stand side by side, and what they make of the test images."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from resnet import ConfigError
from resnet.config import stage_and_index
from resnet.errors import WeightsError
from resnet.presets import preset, short_title
from resnet.shipped import NAMES
from resnet.weights import FASHION_MNIST, Weights, bundled, full_name, fully_named, published

from ...experiments import probes
from ...experiments.probes import Readings
from ...inference.checkpoint import cannot_run
from ...inference.device import Device
from ...inference.limits import check_runnable
from ...inference.samples import labelled_images
from ...inference.turns import PassError, TooLargeError
from ...link import MAX_NETWORKS, SHOWN, TRAINED, UPLOAD, natural_size, parse_networks
from ...sharing.threads import single_thread
from .. import session
from ..cached import cached_result, device, model, shared
from ..inference.ablation import knows_test_images, test_inputs, too_large
from ..inference.images import ChosenImage
from ..inference.running import Run, run_with, weights_trace
from ..inference.selection import CHECKPOINT_GONE, Selection, every_tag, from_hub, here, is_kept, note_on, select
from ..inference.weights import label, say, typed_models
from ..own_checkpoint import uploaded_checkpoint, uploaded_weights
from ..weights import fetch, is_here, loaded, on_hub

USUAL = ("resnet56_fashion", "plain56_fashion")
"""The networks where a link names none."""


class Network(NamedTuple):
    """A network with weights by what a page calls it."""

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


class Choice(NamedTuple):
    """The networks that run here, those that are `awaited` as they have to be downloaded first, by their names in the link and
    with their weights where those are known before, and the place on the page where they are.
    """

    networks: tuple[Network, ...]
    awaited: Mapping[str, Weights | None]
    place: DeltaGenerator


def choose_networks() -> Choice:
    """The networks that the link names, to choose others in their place; without those that cannot run here, which is said."""
    names = session.view().networks or USUAL
    labels = list_labels(names)
    session.set_widget("networks", list(names), list(labels.values()))
    st.multiselect(
        "Networks",
        labels,
        key="networks",
        format_func=lambda name: labels.get(name, name),
        max_selections=MAX_NETWORKS,
        on_change=networks_chosen,
        accept_new_options=True,
        help="Two to four: those that ship, trained on Fashion-MNIST; the one that the link shows, with the weights that Inference "
        "chose; your own checkpoint, which is uploaded on Inference; and all weights that are published. A model of the Hugging "
        "Face hub can be typed: OWNER/NAME, or its address.",
    )
    place = st.container(key="awaited")
    networks, awaited = [], {}
    for name in names:
        try:
            found = stands_for(name)
        except WeightsError as error:
            say_unavailable(name, str(error))
            continue
        say(found)
        network = Network(label_of(name), found.current) if found.current else None
        if network and not fits(network):
            continue
        if found.awaited or (network and not is_here(network.weights)):
            awaited[name] = found.current
        elif network and is_built(name, network):
            networks.append(network)
    return Choice(tuple(networks), awaited, place)


def stands_for(name: str) -> Selection:
    """The weights that a name in the link stands for, or why there are none.

    Raises:
        WeightsError: where they cannot be had, or could not when they were asked for.
    """
    view = session.view()
    if why := session.held().unavailable.get(asked(name)):
        raise WeightsError(why)
    if name == SHOWN:
        found = select(view)
        found = from_hub(view, found) if found.hub else found
        if not (found.current or found.awaited or found.problem or found.note):
            title = short_title(view.config)
            words = f"The link shows {title}, and no weights for it are at hand here: Inference has some to choose."
            found = found._replace(problem=words)
        return found
    if name == UPLOAD:
        return own_checkpoint()
    if name in TRAINED:
        offered = bundled(preset(name))
        return Selection(offered, offered[0])
    if one := fully_named(name):
        return Selection((one,), one)
    if not is_kept(name):
        return Selection((), hub=name, awaited=True)
    opened = on_hub(name)
    if opened.not_finite:
        return Selection((), problem=f"{name}: {cannot_run(opened.not_finite)}.")
    note = note_on(opened)
    return Selection((), opened.weights, note=f"{name}: {note}" if note else "")


def own_checkpoint() -> Selection:
    """The session's uploaded checkpoint in its own network."""
    checkpoint = uploaded_checkpoint()
    if checkpoint is None:
        return Selection((), problem=f"{CHECKPOINT_GONE}. Inference takes it.")
    if checkpoint.not_finite:
        return Selection((), problem=f"{checkpoint.name}: {cannot_run(checkpoint.not_finite)}.")
    offered = uploaded_weights(checkpoint.config, natural_size(checkpoint.config))
    if not offered:
        return Selection(
            (), problem=f"The weights of {checkpoint.name} do not fit the network that they were taken for."
        )
    return Selection(offered, offered[0])


def fits(network: Network) -> bool:
    """Whether the network is small enough to run here; where it is not, that is said."""
    try:
        check_runnable(weights_trace(network.weights), network.label)
    except TooLargeError as error:
        st.error(session.escape_markdown(str(error)), icon=":material/block:")
        return False
    return True


def is_built(name: str, network: Network) -> bool:
    """Whether the network of weights that are here can be built; where it cannot, that is said."""
    try:
        return cached_built(network.weights.source, device(), network.weights)
    except WeightsError as error:
        give_up(name, error)
        say_unavailable(name, str(error))
    except PassError as error:
        st.error(session.escape_markdown(f"{network.label}: {error}"), icon=":material/memory:")
    return False


@shared()
def cached_built(source: Hashable, form: Device, _weights: Weights) -> bool:
    """True once a network was built: of many large ones only some are kept, and none is built again just to know."""
    model(_weights, form)
    return True


# -- choosing -----------------------------------------------------------------------------


def label_of(name: str) -> str:
    """What the page calls a network by its name in the link: ResNet-56, or "ResNet-50, as shown", or that name."""
    if name == SHOWN:
        return f"{short_title(session.view().config)}, as shown"
    if name == UPLOAD:
        return "Your checkpoint"
    return short_title(preset(name)) if name in TRAINED else name


def list_labels(names: Sequence[str]) -> dict[str, str]:
    """What the list calls each network that can be chosen, by its name in the link: those that ship, that of the link, the
    session's checkpoint, all that are published, models of the hub that are here, and those that are chosen.
    """
    own = [UPLOAD] if uploaded_checkpoint() or UPLOAD in names else []
    labels = {name: label_of(name) for name in (*TRAINED, SHOWN, *own)}
    with suppress(WeightsError):  # the page says that the list of timm's is damaged
        every = sorted(published(), key=full_name)
        kept = here(every)
        labels |= {full_name(one): label(one, one.key in kept, full_name(one)) for one in every}
        labels |= typed_models(every_tag())
    return labels | {name: label_of(name) for name in names if name not in labels}


def networks_chosen() -> None:
    """Take what was chosen or typed, where it is accepted; what could not be had is asked for again."""
    chosen = st.session_state["networks"]
    session.hold(unavailable={})
    try:
        names = parse_networks(",".join(chosen))
    except ConfigError as error:
        whole = error.value == ",".join(chosen)
        words = (", ".join(map(label_of, chosen)) or "(none)") if whole else error.value
        session.refuse(ConfigError("networks", words, ACCEPTED), unchanged=UNCHANGED)
    else:
        session.change_view(networks=() if names == USUAL else names)


ACCEPTED = f"two to {MAX_NETWORKS} of the list, or models of the Hugging Face hub as OWNER/NAME"
UNCHANGED = "The networks are unchanged."


# -- downloading --------------------------------------------------------------------------


def asked(name: str) -> tuple[Hashable, ...]:
    """What a name in the link asks for, which for the link's own network is what the rest of it says."""
    view = session.view()
    return (name, view.config, view.weights) if name == SHOWN else (name,)


def fetch_awaited(choice: Choice) -> None:
    """Download what is awaited, one after the other, and draw the page again: whatever stands there is seen meanwhile."""
    moved = False
    for name, weights in choice.awaited.items():
        with choice.place:
            moved = bool(session.show_or_say(has_ended, name, weights)) or moved
    if moved:
        st.rerun()


def has_ended(name: str, weights: Weights | None) -> bool:
    """Wait for a download, until it is over or has failed, which the session then holds.

    Raises:
        StoppedError: where it was stopped; a button to resume it is there.
    """
    try:
        if weights:
            fetch(weights)
        else:
            on_hub(session.view().weights if name == SHOWN else name)
    except WeightsError as error:
        give_up(name, error)
    return True


def give_up(name: str, error: WeightsError) -> None:
    """Hold why a network cannot be had, so that it is not asked for again until a person does."""
    session.hold(unavailable={**session.held().unavailable, asked(name): str(error)})


def say_unavailable(name: str, why: str) -> None:
    """Why a network cannot be had, and the way to try again."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.warning(session.escape_markdown(f"{label_of(name)} is left out: {why}"), icon=":material/cloud_off:")
        st.button("Try again", key=f"again {name}", on_click=forget, args=(name,), icon=":material/refresh:")


def forget(name: str) -> None:
    """Ask for a network again."""
    held = session.held().unavailable
    session.hold(unavailable={key: why for key, why in held.items() if key != asked(name)})


# -- running ------------------------------------------------------------------------------


def escaped(network: Network) -> str:
    """What the page calls a network, in Markdown."""
    return session.escape_markdown(network.label)


def all_blocks(networks: Sequence[Network]) -> list[str]:
    """The names of all blocks that any of them has, in order of depth."""
    return sorted({name for one in networks for name in one.blocks}, key=stage_and_index)


def runs(networks: Sequence[Network], images: Sequence[ChosenImage]) -> dict[Network, Run]:
    """The first image through each of them, with all blocks, on the session's device in fp32, without those for which a pass is
    not made or not finished, which is said.

    Raises:
        ImageError: where the image cannot be read.
    """
    found = {}
    for one in networks:
        try:
            found[one] = run_with(images[:1], one.weights, None, (), device())
        except PassError as error:
            st.error(session.escape_markdown(f"{one.label}: {error}"), icon=":material/memory:")
    return found


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

"""Which weights the inference page runs: what there is for a network, what runs, and the question where nothing does."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import streamlit as st

from resnet import ResNetConfig, title
from resnet.checkpoint import WeightsError
from resnet.presets import short_title
from resnet.weights import BUNDLED, Weights, available, bundled, is_cached, random_weights, torchvision_weights

from ...analysis.layers import shape_text
from ...link import View, natural_size
from .. import session
from . import checkpoint


class Selection(NamedTuple):
    """The weights that fit a view's network; those that run, None where none are at hand; and what is wrong with those
    that the view names, in a sentence.
    """

    offered: tuple[Weights, ...]
    current: Weights | None
    problem: str = ""

    @property
    def published(self) -> list[Weights]:
        """Those that can be downloaded, the most accurate first."""
        return sorted((one for one in self.offered if one.url), key=accuracy, reverse=True)


def selection(view: View) -> Selection:
    """The weights that a view names; where it names none, the most accurate of those that are on this machine.

    Random ones only run where they are named.
    """
    config, size, problem = view.config, view.image_size, ""
    try:
        fitting = available(config, size)
    except WeightsError as error:
        fitting, problem = (*torchvision_weights(config), random_weights(config, size)), str(error)
    *published, untrained = fitting
    offered = (*published, *checkpoint.uploaded_weights(config, size), untrained)
    named = next((one for one in offered if one.key == view.weights), None)
    known = [one for one in offered if one.key != "random" and at_hand(one)]
    current = named or max(known, key=accuracy, default=None)
    if view.weights and not (named or problem):
        problem = misfit(view, current)
    return Selection(offered, current, problem)


def at_hand(weights: Weights) -> bool:
    """Whether there is nothing to download."""
    return not weights.url or is_cached(weights.url)


def accuracy(weights: Weights) -> float:
    """As published, 0 where nobody knows."""
    return weights.accuracy or 0.0


def misfit(view: View, instead: Weights | None) -> str:
    """Why the weights that a view names do not run, in a sentence; nothing where the card of the checkpoint says it."""
    if view.weights == "upload":
        if checkpoint.uploaded_checkpoint():
            return ""
        return "A checkpoint stays with the person who uploaded it, so this link does not bring its weights."
    words = f"weights = {view.weights} do not fit {title(view.config)}"
    return f"{words}; {label(instead)} are used instead." if instead else f"{words}."


def label(weights: Weights) -> str:
    """What a list calls them: title, accuracy, and what there is to download."""
    parts = [weights.title]
    if weights.accuracy is not None:
        parts.append(f"{weights.accuracy:.1%} right")
    if weights.url:
        parts.append(size_text(weights))
    return " · ".join(parts)


def size_text(weights: Weights) -> str:
    return f"{weights.bytes / 2**20:.0f} MiB"


# -- choosing -----------------------------------------------------------------------------


def weights_list() -> None:
    """All weights that fit the network, in the sidebar; nothing is downloaded before a person chooses it."""
    found = selection(session.view())
    choices = {weights.key: weights for weights in found.offered}
    session.set_widget("weights", found.current and found.current.key, [label(one) for one in found.offered])
    st.selectbox(
        "Weights",
        list(choices),
        index=0 if found.current else None,
        key="weights",
        format_func=lambda key: label(choices[key]),
        placeholder="None at hand",
        on_change=lambda: session.choose(weights=st.session_state.weights or ""),
    )


def open_network(config: ResNetConfig, weights: str = "") -> None:
    """Look at a network with weights by their name in a link, on a sample that suits them."""
    session.show(
        replace(
            session.view(),
            config=config,
            image_size=natural_size(config),
            weights=weights,
            image="",
            at="",
            unit="",
            off=(),
            explained="",
        )
    )


TRAINED = BUNDLED["resnet20"]


def offer_trained() -> None:
    """The way to a network that knows something without a download."""
    st.button(
        "Use the shipped ResNet-20, trained on clothing",
        on_click=open_network,
        args=(TRAINED,),
        icon=":material/checkroom:",
    )


def offer_imagenet() -> None:
    """The way to a network that knows photographs, and what it costs to come by."""
    best = max(torchvision_weights(ResNetConfig()), key=accuracy)
    st.button(
        f"{title(best.config)} with ImageNet weights" + ("" if at_hand(best) else f" ({size_text(best)})"),
        on_click=open_network,
        args=(best.config, best.key),
        type="primary",
        icon=":material/image_search:",
    )


# -- the first minute ---------------------------------------------------------------------


def greet() -> None:
    """Open the network that ships for a visitor who has asked for nothing yet, where the usual one has no weights."""
    now, default = session.view(), View()
    chosen = [
        getattr(now, name) != getattr(default, name) for name in ("config", "image_size", "weights", "image", "off")
    ]
    chosen.append("preset" in (session.held().query or {}))
    if any(chosen) or session.held().previous_config or selection(now).current:
        return
    with suppress(WeightsError):  # those that ship are damaged: then the page asks
        bundled(TRAINED)
        open_network(TRAINED)
        session.hold(before_greeting=now)


def back() -> None:
    """Return to what was shown before the network that ships was opened unasked."""
    if before := session.held().before_greeting:
        session.show(before)


# -- on the page --------------------------------------------------------------------------


def card(found: Selection, weights: Weights) -> None:
    """What is said of the weights that run, and the ways to others."""
    say_problem(found)
    if before := session.held().before_greeting:
        st.markdown(
            f"No ImageNet weights are on this machine yet, so this is the {short_title(TRAINED)} that ships, "
            "on a piece of clothing, which it knows."
        )
    with st.container(horizontal=True):
        if weights.key == "bundled":
            offer_imagenet()
        else:
            offer_trained()
        if before:
            st.button(f"Back to {title(before.config)}", on_click=back, type="tertiary", icon=":material/undo:")
    image_size = session.view().image_size
    if (own := weights.data.preprocessing.size) != image_size:
        st.info(
            f"These weights run at {shape_text(own)} pixels, the size that they were made for, and not at "
            f"{shape_text(image_size)}, as the image size is set. Random weights run at any size."
        )
    checkpoint.upload_card(weights)


def question(found: Selection) -> None:
    """The card in place of the image's, where no weights are at hand: what there is, to choose from."""
    config = session.view().config
    with st.container(border=True, key="question"):
        say_problem(found)
        none = (
            f"None for {title(config)} are on this machine yet."
            if found.published
            else "None are published for this network."
        )
        st.markdown(f"**Which weights?** {none}")
        with st.container(horizontal=True):
            for best in found.published[:1]:
                st.button(
                    label(best),
                    on_click=session.choose,
                    kwargs={"weights": best.key},
                    type="primary",
                    icon=":material/download:",
                )
            st.button(
                "Random weights",
                on_click=session.choose,
                kwargs={"weights": "random"},
                icon=":material/casino:",
                help="Untrained: what the architecture alone does to an image.",
            )
            offer_trained()
        if others := found.published[1:]:
            st.caption(f"{len(others)} more are published for this network: the list Weights in the sidebar has them.")
        checkpoint.upload_card(None)


def say_problem(found: Selection) -> None:
    if found.problem:
        st.warning(session.escape_markdown(found.problem), icon=":material/error:")

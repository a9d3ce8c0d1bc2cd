"""Which weights the inference page runs: what there is for a network, what a view names, and what runs in its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from typing import NamedTuple

import streamlit as st

from resnet import ResNetConfig, hub_cache, huggingface, title
from resnet.checkpoint import Opened, UnsureNormError, WeightsError, fitted, mismatches
from resnet.weights import Weights, at_hand, available, hub_name, named, published, random_weights, torchvision_weights

from ...analysis.layers import shape_text
from ...inference.checkpoint import cannot_run, said_of
from ...link import UPLOAD, View
from .. import session
from ..own_checkpoint import uploaded_checkpoint, uploaded_weights
from ..weights import OnHub, on_hub


class Selection(NamedTuple):
    """The weights that fit a view's network, and those that run, None where none are at hand.

    Where others run than the view names, a sentence says why: a `problem` where nobody knows what it names, else a `note`.
    `kin` are those of the same recipe as it names, for its network; `other` those that it names, for another one. `hub` is
    the model of the Hugging Face hub that it names (`from_hub`): its network as it was `opened`, whether it would be where its
    norms are said to be group norms (`unsure`), or whether it has to be waited for (`awaited`).
    """

    offered: tuple[Weights, ...]
    current: Weights | None = None
    problem: str = ""
    note: str = ""
    kin: Weights | None = None
    other: Weights | None = None
    hub: str = ""
    opened: Opened | None = None
    unsure: bool = False
    awaited: bool = False

    @property
    def published(self) -> list[Weights]:
        """Those that can be downloaded: of the recipe that was asked for, then the most accurate."""
        found = [one for one in self.offered if one.bytes]
        return sorted(found, key=lambda one: (one is self.kin, accuracy(one)), reverse=True)


def select(view: View) -> Selection:
    """The weights that a view names; where it names none, the most accurate of those that are on this machine.

    Random ones only run where they are named.
    """
    config, size, problem, asked = view.config, view.image_size, "", None
    try:
        fitting = available(config, size)
        asked = named(view.weights, config)
    except WeightsError as error:
        fitting, problem = (*torchvision_weights(config), random_weights(config, size)), str(error)
    *rest, untrained = fitting
    offered = (*rest, *uploaded_weights(config, size), untrained)
    key = asked.key if asked else view.weights
    if current := next((one for one in offered if one.key == key), None):
        return at_image_size(view, Selection(offered, current, problem))
    if not asked and "/" in view.weights:
        return Selection(offered, hub=view.weights)
    known = here(offered) - {"random"}
    kin = next((one for one in offered if asked and recipe(one.key) == recipe(asked.key)), None)
    likeliest = ((one is kin, accuracy(one), one) for one in offered if one.key in known)
    instead = max(likeliest, key=lambda found: found[:2], default=(False, 0, None))[2]
    note = ""
    if view.weights and not problem:
        problem, note = why_others(view, asked, f"; {name(instead)} are used instead." if instead else ".")
    return at_image_size(view, Selection(offered, instead, problem, note, kin, asked))


def at_image_size(view: View, found: Selection) -> Selection:
    """The selection with its weights at the image size of a view, and that said where it is not theirs; at their own where
    the view's is the usual one of the network.
    """
    if found.current is None or view.image_size in (view.natural_size, found.current.data.preprocessing.size):
        return found
    theirs, asked = map(shape_text, (found.current.data.preprocessing.size, view.image_size))
    measured = "" if found.current.accuracy is None else ", at which their accuracy was measured"
    sentence = f"These weights are made for {theirs} pixels{measured}. They run at {asked}, as the image size is set."
    note = f"{sentence} {found.note}".strip()
    return found._replace(current=found.current.at(view.image_size), note=note)


def why_others(view: View, asked: Weights | None, end: str) -> tuple[str, str]:
    """Why the weights that a view names do not run: what is wrong, or what is only to be known, each in a sentence or "".

    `asked` are those that it names where they are published for another network.
    """
    network = title(view.config)
    if view.weights == UPLOAD:
        if uploaded_checkpoint():  # its card says why it does not fit
            return "", ""
        return f"{CHECKPOINT_GONE}{end}", ""
    if asked:
        return "", f"{asked.key} are for {title(asked.config)}{end}"
    if view.weights == "bundled":
        return "", f"No weights for {network} ship with the app{end}"
    if view.weights in torchvision_names():
        return "", f"torchvision publishes no {view.weights} for {network}{end}"
    return f"weights = {view.weights} is not accepted: {accepted(view.weights, view.config)}{end}", ""


CHECKPOINT_GONE = (
    "A checkpoint stays with the person who uploaded it, in memory alone, so that neither a reload nor another's link brings it "
    "back"
)


def accepted(text: str, config: ResNetConfig) -> str:
    """What can be chosen, in words, with the names that are nearest to what was typed beside a network."""
    near = nearest(text, config)
    such = f", such as {', '.join(near)}" if near else ""
    return f"a name in the list{such}, or a model of the Hugging Face hub as OWNER/NAME such as microsoft/resnet-50"


def nearest(text: str, config: ResNetConfig) -> list[str]:
    """Up to three of timm's names that hold a text, or are spelled like it; those for the network first, then the most
    accurate.
    """
    tags: Mapping[str, Weights] = {}
    with suppress(WeightsError):  # the page says that their list is damaged
        tags = every_tag()
    text = text.strip().lower()
    found = [one for key, one in tags.items() if text and text in key]
    if not found:
        return get_close_matches(text, tags, n=3)
    return [one.key for one in sorted(found, key=lambda one: (one.config != config, -accuracy(one)))[:3]]


def from_hub(view: View, found: Selection) -> Selection:
    """The selection with the model of the Hugging Face hub that a view names, opened; or `awaited`, where it is not on this
    machine.

    Whoever typed its name sees its network; where a link has another one, its tensors are tried in that.
    """
    refused, model = session.held().refused, None
    if refused is None or refused[0] != found.hub:
        if session.held().arrived != found.hub and not is_kept(found.hub):
            return found._replace(awaited=True)
        model = had(found.hub)
        refused = session.held().refused
    if not model:
        return found._replace(problem=refused[1], unsure=refused[2]) if refused else found
    weights, opened = model.weights, model.opened
    if session.held().opening == view.weights:
        session.hold(opening="")
        take(weights)
        st.rerun()
    note = note_on(model)
    if weights.config != view.config:
        found = found._replace(other=weights)
        if wrong := mismatches(view.config, fitted(opened, view.config)):
            return found._replace(
                note=f"{weights.key} do not fit {title(view.config)}; first {wrong[0]}. {note}".strip()
            )
    if model.not_finite:
        return found._replace(note=f"{weights.key}: {cannot_run(model.not_finite)}. {note}".strip())
    found = found._replace(current=replace(weights, config=view.config), note=note, opened=opened)
    return at_image_size(view, found)


def note_on(model: OnHub) -> str:
    """What was left out of a model of the hub, with which answers it is read, and what is assumed, in sentences."""
    return " ".join([*said_of(model.opened, hub_name(model.weights.key)[1]), *model.notes])


def is_kept(name: str) -> bool:
    """Whether a model of the hub is on this machine, by what a link calls it."""
    try:
        return huggingface.cached_model(hub_name(name)[0]) is not None
    except WeightsError:  # which `on_hub` says
        return True


def had(name: str) -> OnHub | None:
    """`on_hub`; None where it is refused, which the session then holds, unless the page goes back to what it showed before.

    Raises:
        StoppedError: where the download was stopped.
    """
    model, refused = None, None
    try:
        model = on_hub(name)
    except WeightsError as error:
        refused = name, str(error), isinstance(error.__cause__, UnsureNormError)
        if not refused[2] and session.keep_shown(error):  # else an answer may open it
            st.rerun()
    session.hold(refused=refused)
    session.write_link()  # where it was refused, the network stays
    return model


def wait_for(name: str) -> None:
    """Wait for a model of the hub, and draw the page again once it is here or refused.

    Raises:
        StoppedError: where the download was stopped.
    """
    if had(name):
        session.hold(arrived=name)
    st.rerun()


def here(weights: Iterable[Weights]) -> frozenset[str]:
    """The names of those that need no download."""
    kept = hub_cache.kept_models()
    return frozenset(one.key for one in weights if (not one.hub or one.hub in kept) and at_hand(one))


def accuracy(weights: Weights) -> float:
    """As published, 0 where nobody knows."""
    return weights.accuracy or 0.0


def recipe(key: str) -> str:
    """What weights of several networks have in common: "a1_in1k" of "resnet50.a1_in1k"; torchvision's name as it is."""
    return key.rpartition(".")[2]


@cache
def torchvision_names() -> frozenset[str]:
    return frozenset(one.key for one in published() if one.url)


def name(weights: Weights) -> str:
    return weights.key if weights.hub else weights.title


@cache
def every_tag() -> Mapping[str, Weights]:
    """All that timm publishes, by its name, in the order of the names."""
    return {one.key: one for one in sorted(published(), key=lambda one: one.key) if one.hub}


def take(weights: Weights) -> None:
    """Look at the network of these weights at their size, and run them."""
    now, size = session.view(), weights.data.preprocessing.size
    if weights.config == now.config:
        session.choose(weights=weights.key, image_size=size)
    else:
        new = replace(now, config=weights.config, image_size=size, weights=weights.key)
        session.show(replace(new, at="", unit="", channel=None, off=(), explained=""))

"""Which weights the inference page runs: what there is for a network, what runs, and the question where nothing does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from functools import cache, lru_cache, partial
from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from resnet import OPTIONS, ConfigError, ResNetConfig, hub_cache, huggingface, owner, title
from resnet.checkpoint import FIXED, Opened, UnsureNormError, WeightsError, fitted, mismatches
from resnet.datasets import Preprocessing
from resnet.options import to_text
from resnet.presets import short_title
from resnet.weights import (
    BUNDLED,
    Weights,
    at_hand,
    available,
    bundled,
    hub_key,
    hub_name,
    named,
    published,
    random_weights,
    torchvision_weights,
)

from ...analysis.layers import shape_text
from ...inference.limits import TOO_LARGE
from ...link import LONGEST, View, natural_size
from .. import session
from ..weights import OnHub, choose_random, look_up, on_hub, too_large
from . import checkpoint


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


def selection(view: View) -> Selection:
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
    offered = (*rest, *checkpoint.uploaded_weights(config, size), untrained)
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
    if view.weights == "upload":
        if checkpoint.uploaded_checkpoint():  # its card says why it does not fit
            return "", ""
        return "A checkpoint stays with the person who uploaded it, so this link does not bring its weights.", ""
    if asked:
        return "", f"{asked.key} are for {title(asked.config)}{end}"
    if view.weights == "bundled":
        return "", f"No weights for {network} ship with the app{end}"
    if view.weights in torchvision_names():
        return "", f"torchvision publishes no {view.weights} for {network}{end}"
    return f"weights = {view.weights} is not accepted: {accepted(view.weights, view.config)}{end}", ""


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
    answers = checkpoint.answers_text(hub_name(weights.key)[1])
    said = [checkpoint.left_out(opened.left_out)] if opened.left_out else []
    said += [f"Read with {answers}."] if answers else []
    note = " ".join([*said, *model.notes])
    if weights.config != view.config:
        found = found._replace(other=weights)
        if wrong := mismatches(view.config, fitted(opened, view.config)):
            return found._replace(
                note=f"{weights.key} do not fit {title(view.config)}; first {wrong[0]}. {note}".strip()
            )
    if model.not_finite:
        return found._replace(note=f"{weights.key}: {checkpoint.cannot_run(model.not_finite)}. {note}".strip())
    found = found._replace(current=replace(weights, config=view.config), note=note, opened=opened)
    return at_image_size(view, found)


def is_kept(name: str) -> bool:
    """Whether a model of the hub is on this machine, by what a link calls it."""
    try:
        return huggingface.cached_model(hub_name(name)[0]) is not None
    except WeightsError:  # which `on_hub` says
        return True


def had(name: str) -> OnHub | None:
    """`on_hub`; None where it is refused, which the session then holds.

    Raises:
        StoppedError: where the download was stopped.
    """
    model, refused = None, None
    try:
        model = on_hub(name)
    except WeightsError as error:
        refused = name, str(error), isinstance(error.__cause__, UnsureNormError)
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


def ask_hub(key: str, follow: bool = True) -> None:
    """Look at a model of the hub by what a link calls it, and at its own network where that is to `follow`.

    A name that a link would not hold leaves the view as it is.
    """
    if len(key) > LONGEST:
        accepted_ = f"at most {LONGEST} characters, with what is answered of the model, as a link holds"
        session.refuse(ConfigError("weights", key, accepted_), unchanged="The weights are unchanged.")
        return
    session.change_view(weights=key)
    session.hold(opening=key if follow else "", refused=None)


def hub_answered(key: str, config: ResNetConfig, name: str) -> None:
    """Take an answer about a model of the hub, called `key` in the link, which was opened as `config`: into the
    configuration, or into the link.
    """
    value, (repo, answers) = st.session_state[f"{ASKED_OF_HUB} {name}"], hub_name(key)
    if name in OPTIONS:
        session.change(name, value)
    elif name in FIXED:
        session.hold(problems=(checkpoint.never_so(name, value, repo),))
    else:
        ask_hub(hub_key(repo, {**answers, name: to_text(value)}), session.view().config == config)


def norms_are_groups(key: str) -> None:
    """Answer so about a model of the hub."""
    repo, answers = hub_name(key)
    ask_hub(hub_key(repo, {**answers, "norm": "group"}), session.held().opening == key)


ASKED_OF_HUB = "asked of the hub"
"""With what the widgets begin that ask about its models."""


def here(weights: Iterable[Weights]) -> frozenset[str]:
    """The names of those that need no download."""
    kept = hub_cache.kept_models()
    return frozenset(one.key for one in weights if (not one.hub or one.hub in kept) and at_hand(one))


def may_fetch(weights: Weights) -> bool:
    """Whether the owner of this server lets published ones be downloaded."""
    return owner.hub_allowed() if weights.hub else owner.downloads_allowed()


def accuracy(weights: Weights) -> float:
    """As published, 0 where nobody knows."""
    return weights.accuracy or 0.0


def recipe(key: str) -> str:
    """What weights of several networks have in common: "a1_in1k" of "resnet50.a1_in1k"; torchvision's name as it is."""
    return key.rpartition(".")[2]


@cache
def torchvision_names() -> frozenset[str]:
    return frozenset(one.key for one in published() if one.url)


# -- in words -----------------------------------------------------------------------------


def name(weights: Weights) -> str:
    return weights.key if weights.hub else weights.title


def label(weights: Weights, is_here: bool = False) -> str:
    """What a list calls them: name, accuracy, what there is to download, and whose leave it takes."""
    parts = [name(weights)]
    if weights.accuracy is not None:
        parts.append(f"{weights.accuracy:.1%}")
    if weights.key in TOO_LARGE:
        parts.append("too large to run here")
    elif weights.bytes:
        parts.append(size_text(weights) + ", here" * is_here)
    if weights.bytes and weights.data.licence:
        parts.append(weights.data.licence)
    return " · ".join(parts)


def size_text(weights: Weights) -> str:
    return f"{weights.bytes / 2**20:.0f} MiB"


def facts(weights: Weights) -> str:
    """How often weights are right, on what, whose they are, and how an image becomes their input, as Markdown."""
    data, parts = weights.data, []
    if weights.accuracy is not None:
        parts.append(f"{weights.accuracy:.1%} of {data.name} right")
    elif data.name not in ("nothing", "unknown"):
        parts.append(session.escape_markdown(data.name))
    if data.pretraining:
        parts.append(f"before that {data.pretraining}")
    if data.licence:
        parts.append(session.escape_markdown(data.licence))
    if data.source.startswith("https://"):
        parts.append(f"[source]({data.source})")
    return " · ".join([*parts, preparation(data.preprocessing)])


def preparation(how: Preprocessing) -> str:
    """How an image becomes the input: "input 288 px, crop 1.0, bicubic"."""
    height, width = how.size
    side = f"{height}" if height == width else f"{height}×{width}"
    part = "the whole image" if how.fit else f"crop {round(min(how.size) / how.resize, 3)}"
    return f"input {side} px, {part}, {how.interpolation}"


# -- choosing -----------------------------------------------------------------------------


@cache
def every_tag() -> Mapping[str, Weights]:
    """All that timm publishes, by its name, in the order of the names."""
    return {one.key: one for one in sorted(published(), key=lambda one: one.key) if one.hub}


@lru_cache(4)
def tag_labels(kept: frozenset[str]) -> Mapping[str, str]:
    """What the list calls each of them, `kept` being on this machine."""
    return {key: label(one, key in kept) for key, one in every_tag().items()}


def weights_list() -> None:
    """All weights that there are, in the sidebar: those that fit the network first, then models of the Hugging Face hub that
    are here; others can be typed. Nothing is downloaded before a person chooses it.
    """
    view = session.view()
    found = selection(view)
    tags: Mapping[str, Weights] = {}
    with suppress(WeightsError):  # the page says that their list is damaged
        tags = every_tag()
    kept = here((*found.offered, *tags.values()))
    labels = {one.key: label(one, one.key in kept) for one in found.offered}
    labels |= (
        {key: text for key, text in tag_labels(kept.intersection(tags)).items() if key not in labels} if tags else {}
    )
    others = frozenset() if owner.token() else hub_cache.fetched_models()  # with a token, some may be private
    for repo in sorted(others - {one.hub for one in tags.values()}):
        labels[repo] = f"{repo} · here"
    current = found.hub or (found.current and found.current.key)
    session.set_widget("weights", session.held().typed.get("weights", current), list(labels.values()))
    st.selectbox(
        "Weights",
        labels if current in labels else [*labels, *([current] if current else [])],
        index=0 if current else None,
        key="weights",
        format_func=lambda key: labels.get(key, key),
        placeholder="None at hand",
        on_change=weights_chosen,
        accept_new_options=True,
        help="With their accuracy, what there is to download, and their licence; those that fit this network stand first. "
        "Others bring their own network. A model of the Hugging Face hub can be typed: OWNER/NAME, or its address.",
    )
    find_typed()


def weights_chosen() -> None:
    """Take what was chosen or typed in the list."""
    text, now = str(st.session_state.weights or "").strip(), session.view()
    with suppress(WeightsError):  # the page says that the list of timm's is damaged
        one = next((one for one in selection(now).offered if one.key == text), None) or named(text, now.config)
        if one:
            take(one)
            return
    try:
        session.hold(typed={"weights": hub_key(*hub_name(text))}, problems=(), notes=())
    except WeightsError:
        error = ConfigError("weights", text, accepted(text, now.config))
        session.refuse(error, {"weights": text}, "The weights are unchanged.")


def find_typed() -> None:
    """Look at the model of the hub whose name was typed last; where the hub has none, say so and change nothing."""
    key = session.held().typed.get("weights")
    if not key or session.held().problems:
        return
    try:
        look_up(hub_name(key)[0])
    except WeightsError as error:
        session.refuse(error, {"weights": key}, "The weights are unchanged.")
    else:
        ask_hub(key)
        st.rerun()


def take(weights: Weights) -> None:
    """Look at the network of these weights at their size, and run them."""
    now, size = session.view(), weights.data.preprocessing.size
    if weights.config == now.config:
        session.choose(weights=weights.key, image_size=size)
    else:
        new = replace(now, config=weights.config, image_size=size, weights=weights.key)
        session.show(replace(new, at="", unit="", off=(), explained=""))


def open_network(config: ResNetConfig, weights: str = "") -> None:
    """Look at a network with weights by their name in a link, on a sample that suits them."""
    now, size = session.view(), natural_size(config)
    new = replace(now, config=config, image_size=size, weights=weights, image="")
    session.show(replace(new, at="", unit="", off=(), explained=""))


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
    if not (at_hand(best) or owner.downloads_allowed()):
        return
    st.button(
        f"{title(best.config)} with ImageNet weights" + ("" if at_hand(best) else f" ({size_text(best)})"),
        on_click=open_network,
        args=(best.config, best.key),
        type="primary",
        icon=":material/image_search:",
    )


def offer_trained_instead(found: Selection) -> None:
    """In place of an untrained network's verdict: the ways to one that knows something, and to this one's published weights."""
    with st.container(horizontal=True):
        offer_trained()
        for best in [one for one in found.published if may_fetch(one) and not too_large(one)][:1]:
            st.button(label(best), on_click=take, args=(best,), icon=":material/download:")


def offer_other(weights: Weights) -> None:
    """The way to the network of weights that were named."""
    st.button(f"Open {title(weights.config)}, their network", on_click=take, args=(weights,), icon=":material/undo:")


# -- the first minute ---------------------------------------------------------------------


def greet() -> None:
    """Open the network that ships for a visitor who has asked for nothing yet, where the usual one has no weights."""
    now, default = session.view(), View()
    fields = ("config", "image_size", "weights", "image", "off", "at", "unit", "explained")
    chosen = [getattr(now, name) != getattr(default, name) for name in fields]
    if any(chosen) or session.held().asked or session.held().previous_config or selection(now).current:
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
    if not found.opened:
        say(found)
    how = weights.data.preprocessing
    means, deviations = (", ".join(map(to_text, numbers[:3])) for numbers in (how.mean, how.std))
    with st.container(gap="xxsmall"):
        st.markdown(f"**{session.escape_markdown(weights.title)}**")
        st.caption(facts(weights), help=f"Each channel less a mean of {means}, over a deviation of {deviations}.")
    if found.opened:  # what is said is of these weights
        say(found)
    if found.opened and (questions := checkpoint.in_order(found.opened)):
        answered = partial(hub_answered, weights.key, found.opened.config)
        checkpoint.question_widgets(session.view().config, questions, answered, ASKED_OF_HUB)
    if before := session.held().before_greeting:
        none = " yet" if owner.downloads_allowed() else ", and its owner has switched downloads off"
        st.markdown(
            f"No ImageNet weights are on this machine{none}, so this is the {short_title(TRAINED)} that ships, "
            "on a piece of clothing, which it knows."
        )
    with st.container(horizontal=True):
        if found.other:
            offer_other(found.other)
        if weights.key == "bundled":
            offer_imagenet()
        elif weights.key != "random":  # beside the verdict that those have not
            offer_trained()
        if before:
            st.button(f"Back to {title(before.config)}", on_click=back, type="tertiary", icon=":material/undo:")
    checkpoint.upload_card(weights)


def question(found: Selection) -> DeltaGenerator:
    """The card in place of the image's, where no weights run: what there is, to choose from. Returns its place for a
    download.
    """
    config, choices = session.view().config, found.published
    with st.container(border=True, key="question"):
        say(found)
        waiting = st.container()
        kept, runnable = here(choices), [one for one in choices if not too_large(one)]
        offered = [one for one in runnable if one.key in kept or may_fetch(one)]
        offered.sort(key=lambda one: one.key not in kept)
        if not choices:
            words = "None are published for this network."
        elif kept:
            words = f"Some for {title(config)} are on this machine."
        else:
            words = f"None for {title(config)} are on this machine{' yet' if offered else ''}."
        st.markdown(f"**Which weights?** {words}")
        with st.container(horizontal=True):
            for best in offered[:1]:
                icon = ":material/play_arrow:" if best.key in kept else ":material/download:"
                st.button(label(best, best.key in kept), on_click=take, args=(best,), type="primary", icon=icon)
            if found.unsure:
                st.button("They are group norms", on_click=norms_are_groups, args=(found.hub,), icon=":material/check:")
            elif found.hub and found.problem:
                again = {"refused": None}
                st.button("Try again", on_click=session.hold, kwargs=again, icon=":material/refresh:")
            if found.other:
                offer_other(found.other)
            st.button(
                "Random weights",
                on_click=choose_random,
                icon=":material/casino:",
                help="Untrained: what the architecture alone does to an image.",
            )
            offer_trained()
        if choices and not runnable:
            st.caption(session.escape_markdown(too_large(choices[0])))
        if withheld := [name(one) for one in runnable if one not in offered]:
            why = f"set {owner.OFFLINE}" if owner.downloads_allowed() else "switched downloads off"
            words = f"The owner of this server has {why}, so not: {checkpoint.listed(withheld)}."
            st.caption(session.escape_markdown(words))
        if others := offered[1:]:
            st.caption(f"{len(others)} more are published for this network: the list Weights in the sidebar has them.")
        checkpoint.upload_card(None)
    return waiting


def say(found: Selection) -> None:
    """Why others run than were named."""
    if found.problem:
        st.warning(session.escape_markdown(found.problem), icon=":material/error:")
    if found.note:
        st.container(key="said").markdown(session.escape_markdown(found.note))

"""The weights of the inference page: their list, the chip of those that run, and the question where none do."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from resnet import OPTIONS, ConfigError, ResNetConfig, hub_cache, owner, title
from resnet.checkpoint import FIXED, WeightsError
from resnet.datasets import Preprocessing
from resnet.options import to_text
from resnet.presets import short_title
from resnet.sources import torch_cache_name
from resnet.weights import BUNDLED, Weights, at_hand, bundled, cache_path, hub_key, hub_name, named, torchvision_weights

from ...inference.checkpoint import in_order, listed
from ...inference.limits import TOO_LARGE
from ...link import LONGEST, UPLOAD, View, natural_size
from .. import session
from ..weights import RESUME, choose_random, look_up, too_large
from . import checkpoint
from .selection import Selection, accepted, accuracy, every_tag, here, name, select, take


def ask_hub(key: str, follow: bool = True) -> None:
    """Look at a model of the hub by what a link calls it, and at its own network where that is to `follow`.

    A name that a link would not hold leaves the view as it is.
    """
    if len(key) > LONGEST:
        accepted_ = f"at most {LONGEST} characters, with what is answered of the model, as a link holds"
        session.refuse(ConfigError("weights", key, accepted_), unchanged=UNCHANGED)
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
UNCHANGED = "The weights are unchanged."
"""What is said beside why others cannot be had."""


def may_fetch(weights: Weights) -> bool:
    """Whether the owner of this server lets published ones be downloaded."""
    return owner.hub_allowed() if weights.hub else owner.downloads_allowed()


# -- in words -----------------------------------------------------------------------------


def label(weights: Weights, is_here: bool = False, called: str = "") -> str:
    """What a list calls them: name, or else what they are `called`, accuracy, what there is to download, and whose leave it takes."""
    parts = [called or name(weights)]
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


@lru_cache(4)
def tag_labels(kept: frozenset[str]) -> Mapping[str, str]:
    """What the list calls each of them, `kept` being on this machine."""
    return {key: label(one, key in kept) for key, one in every_tag().items()}


def typed_models(tags: Mapping[str, Weights]) -> dict[str, str]:
    """What a list calls the models of the Hugging Face hub that are here since somebody typed them, which are none of timm's
    `tags`.
    """
    others = frozenset() if owner.token() else hub_cache.fetched_models()  # with a token, some may be private
    return {repo: f"{repo} · here" for repo in sorted(others - {one.hub for one in tags.values()})}


def weights_list() -> None:
    """All weights that there are, in the sidebar: those that fit the network first, then models of the Hugging Face hub that
    are here; others can be typed. Nothing is downloaded before a person chooses it.
    """
    view = session.view()
    found = select(view)
    tags: Mapping[str, Weights] = {}
    with suppress(WeightsError):  # the page says that their list is damaged
        tags = every_tag()
    kept = here((*found.offered, *tags.values()))
    labels = {one.key: label(one, one.key in kept) for one in found.offered}
    labels |= (
        {key: text for key, text in tag_labels(kept.intersection(tags)).items() if key not in labels} if tags else {}
    )
    labels |= typed_models(tags)
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
        one = next((one for one in select(now).offered if one.key == text), None) or named(text, now.config)
        if one:
            take(one)
            return
    try:
        session.hold(typed={"weights": hub_key(*hub_name(text))}, problems=(), notes=(), failed=None)
    except WeightsError:
        error = ConfigError("weights", text, accepted(text, now.config))
        session.refuse(error, {"weights": text}, UNCHANGED)


def find_typed() -> None:
    """Look at the model of the hub whose name was typed last; where the hub has none, say so and change nothing."""
    key, held = session.held().typed.get("weights"), session.held()
    if not key or held.problems or held.failed:
        return
    try:
        look_up(hub_name(key)[0])
    except WeightsError as error:
        if held.shown and len(key) <= LONGEST:
            session.hold(failed=session.Failure.of(error, replace(session.view(), weights=key), key))
        else:
            session.refuse(error, {"weights": key}, UNCHANGED)
    else:
        ask_hub(key)
        st.rerun()


def open_network(config: ResNetConfig, weights: str = "") -> None:
    """Look at a network with weights by their name in a link, on a person's own image or a sample that suits them."""
    now, size = session.view(), natural_size(config)
    image = UPLOAD if now.image == UPLOAD else ""
    new = replace(now, config=config, image_size=size, weights=weights, image=image)
    session.show(replace(new, at="", unit="", channel=None, off=(), explained=""))


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
    fields = ("config", "image_size", "weights", "image", "off", "at", "unit", "channel", "explained")
    chosen = [getattr(now, name) != getattr(default, name) for name in fields]
    if any(chosen) or session.held().asked or session.held().previous_config or select(now).current:
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


def chip(weights: Weights) -> DeltaGenerator:
    """The weights that run, which open on what is known of them and the ways to others. Returns the
    place for more that is asked.
    """
    how = weights.data.preprocessing
    means, deviations = (", ".join(map(to_text, numbers[:3])) for numbers in (how.mean, how.std))
    words = session.escape_markdown(weights.title)
    with st.popover(words, icon=":material/deployed_code:", key="weights chip"), st.container(key="card"):
        with st.container(gap="xxsmall"):
            st.markdown(f"**{words}**")
            st.caption(facts(weights), help=f"Each channel less a mean of {means}, over a deviation of {deviations}.")
        asked = st.container()
        with st.container(horizontal=True):
            if weights.key == "bundled":
                if not session.held().before_greeting:
                    offer_imagenet()
            elif weights.key != "random":  # beside the verdict that those have not
                offer_trained()
        if not beside_the_images():
            checkpoint.upload_card(weights, folded=False)
    return asked


def beside_the_images() -> bool:
    """Whether a file, or the lack of one, is what the page is about, so that its card is seen without a click."""
    return checkpoint.is_brought() or session.held().failed is not None


def said(found: Selection, weights: Weights) -> None:
    """Why others run than were named, what is asked of those that run, what was understood of a file, and what a visitor sees
    who has asked for nothing; with the ways out.
    """
    failure()
    say(found)
    if found.opened and (questions := in_order(found.opened)):
        answered = partial(hub_answered, weights.key, found.opened.config)
        checkpoint.question_widgets(session.view().config, questions, answered, ASKED_OF_HUB)
    if beside_the_images():
        checkpoint.upload_card(weights)
    before = session.held().before_greeting
    with st.container(horizontal=True, vertical_alignment="center", key="ways"):
        if before:
            none = " yet" if owner.downloads_allowed() else ", and its owner has switched downloads off"
            with st.container(key="said to a visitor"):
                st.markdown(
                    f"No ImageNet weights are on this machine{none}, so this is the {short_title(TRAINED)} that ships, "
                    "on a piece of clothing, which it knows."
                )
            offer_imagenet()
        if found.other:
            offer_other(found.other)
        if before:
            st.button(f"Back to {title(before.config)}", on_click=back, type="tertiary", icon=":material/undo:")


def question(found: Selection) -> DeltaGenerator:
    """The card in place of the image's, where no weights run: what there is, to choose from. Returns its place for a
    download.
    """
    config, choices = session.view().config, found.published
    if not found.awaited:
        session.hold(shown=None)  # what was asked for is a question by now
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
            words = f"The owner of this server has {why}, so not: {listed(withheld)}."
            st.caption(session.escape_markdown(words))
        if others := offered[1:]:
            st.caption(f"{len(others)} more are published for this network: the list Weights in the sidebar has them.")
        checkpoint.upload_card(None)
    return waiting


def failure() -> None:
    """Why the weights that were asked for last cannot be had, where others are shown instead, and the ways on."""
    failed = session.held().failed
    if failed is None:
        return
    icon = ":material/pause_circle:" if failed.stopped else ":material/cloud_off:"
    with st.container(key="failure"):
        st.warning(session.escape_markdown(f"{failed.reason} {UNCHANGED}"), icon=icon)
        with st.container(horizontal=True):
            again = RESUME if failed.stopped else "Try again"
            st.button(again, key="ask again", on_click=ask_again, args=(failed,), icon=":material/refresh:")
            st.button("Back", on_click=leave, help="Leaves it at what is shown.", icon=":material/undo:")
            if owner.uploads_allowed():
                st.button("Upload a file", on_click=checkpoint.open_card, icon=":material/upload_file:")
        if failed.wants_file and (words := where_to_put(failed.asked)):
            st.caption(words)


def ask_again(failed: session.Failure) -> None:
    session.show(failed.asked)
    session.hold(opening=failed.opening, refused=None)


def leave() -> None:
    """Have no more to do with weights that cannot be had."""
    session.hold(failed=None, typed={})


def where_to_put(asked: View) -> str:
    """Where the owner of this server can put the file of the weights that a view names, as Markdown; "" where nobody knows."""
    with suppress(WeightsError):  # the page says that the list of timm's is damaged
        one = named(asked.weights, asked.config)
        if one and one.url:
            file, folder = cache_path(one.url).name, torch_cache_name()
            return f"The owner of this server can put `{file}` into the server's torch.hub cache, `{folder}`."
        repo = one.hub if one else hub_name(asked.weights)[0]
        into = f"into the server's Hugging Face cache, `{hub_cache.cache_name()}`"
        return f"The owner of this server can put it {into}, as `hf download {repo}` does."
    return ""


def say(found: Selection) -> None:
    """Why others run than were named."""
    if found.problem:
        st.warning(session.escape_markdown(found.problem), icon=":material/error:")
    if found.note:
        st.container(key="said").markdown(session.escape_markdown(found.note))

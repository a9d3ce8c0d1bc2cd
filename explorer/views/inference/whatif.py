"""What if the image were another: changed by sliders and a patch, what the network says then, and where the change goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import streamlit as st
import torch
from PIL import Image

from resnet.shipped import NAMES
from resnet.weights import Weights

from ...drawing import rasters
from ...experiments.beside import shipped_beside
from ...figures.whatif import effect_figure
from ...inference import whatif
from ...inference.ablation import batch_size
from ...inference.consistency import REACH, Consistency, antialiased, consistency, takes_blur
from ...inference.limits import check_gradients
from ...inference.samples import labelled_images
from ...inference.whatif import Change, Effect
from .. import session, settings, take
from ..cached import Key, cached_result, device, may_compute, shared
from ..components import Outline, Sheet, pixels, plot
from ..headline import section
from ..weights import loaded
from .ablation import knows_test_images, test_inputs, too_large
from .maps import number_text
from .picture import origin, picture_columns
from .running import Run, weights_trace
from .verdict import bars

UNCHANGED = "The image is unchanged."
STEPS = {"blur": 0.1, "contrast": 0.05, "epsilon": 0.5}
"""How finely a slider moves, where that is not by one."""


def panel(result: Run) -> None:
    """The image with what is done to it, beside the sliders for that; the prediction, and the change of every layer."""
    settings.problem(Change)
    if not result.prediction.finite:
        st.error("The activations overflowed, so there is nothing to compare.")
        return
    left, right = picture_columns()
    with left, st.container(border=True, key="changes"):
        sliders(result)
    change = settings.chosen(Change)
    if change.epsilon and result.headless:
        left.info("FGSM climbs the loss of a class, and this checkpoint has no classifier: ε is left out.")
        change = replace(change, epsilon=0.0)
    if change.epsilon:
        with left:
            check_gradients(result.trace)
    given = cached_changed(result.key.plain, change, explained(result), result)
    with right:
        answer_place = st.container(key="verdict of the change")
        picture(result, change, given)
    found = None
    if change.active:
        whatif.check_effect(result.trace)
        found = cached_effect(result.key, change, explained(result), result)
    with answer_place:
        st.markdown(verdict(result, found))
    if found:
        with left:
            told(result, found)
    with left, st.container(border=True, key="consistency"):
        shifts(result)


def explained(result: Run) -> int:
    """The class that FGSM makes less likely: what the network names for the image as it is."""
    return result.prediction.top(1)[0][0]


# -- what is done -------------------------------------------------------------------------


def sliders(result: Run) -> None:
    """What is done to the image, in its order."""
    now, longest = settings.chosen(Change), max(result.trace.image_size)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        section("What is changed before the network sees it")
        if now != Change():
            st.button("As it was", on_click=session.choose, kwargs={"change": ""}, type="tertiary")
    reach = min(64, longest)
    rows = [
        {"right": reach, "down": reach, "rotate": 180},
        {"blur": 8, "contrast": 4, "noise": 128},
        {"patch": min(512, longest), "epsilon": 64},
    ]
    for row in rows:
        for column, (name, most) in zip(st.columns(3), row.items(), strict=False):
            with column:
                slider(name, most)
    if now.patch or now.noise:
        first, second, _ = st.columns(3)
        if now.patch:
            with first:
                settings.setting(Change, "place", UNCHANGED)
        if now.noise:
            with second if now.patch else first:
                settings.setting(Change, "seed", UNCHANGED)
    st.caption(
        f"Done in this order to the {result.size} pixels that the network sees, values from 0 to 255, before they are "
        "normalised; FGSM last, against the class that is named for the image as it is."
    )


def slider(name: str, most: float) -> None:
    """One of the changes, up to `most` or what the link says."""
    option, value, key = Change.options()[name], getattr(settings.chosen(Change), name), f"change {name}"
    kind = type(value)
    low = -most if option.low < 0 else option.low
    session.set_widget(key, value)

    def moved() -> None:
        chosen = st.session_state[key]
        changes = {name: round(chosen, 2) if kind is float else chosen}
        if name == "patch" and not value:
            changes["place"] = middle()
        settings.change(Change, UNCHANGED, **changes)

    st.slider(
        option.label,
        kind(min(low, value)),
        kind(max(most, value)),
        step=kind(STEPS.get(name, 1)),
        key=key,
        on_change=moved,
        help=option.help,
    )


def middle() -> tuple[int, int]:
    """The pixel in the middle of what the network sees, where a new patch is put."""
    shown = session.view().image_size
    return shown[0] // 2, shown[1] // 2


def put(row: int, column: int, side: int) -> None:
    """The patch around a pixel; a new one of a `side` where there is none."""
    settings.change(Change, UNCHANGED, patch=settings.chosen(Change).patch or side, place=(row, column))


# -- the image ----------------------------------------------------------------------------


@shared(most=2**24)
def cached_changed(key: Key, change: Change, target: int, _result: Run) -> np.ndarray:
    """C×H×W in 0…255."""
    preprocessing = key.weights.data.preprocessing
    given = whatif.changed(whatif.pixels_of(_result.prepared), change, preprocessing)
    if change.epsilon:
        given = whatif.fgsm(_result.network, given, target, change.epsilon, preprocessing, key.form)
    return given.numpy()


def picture(result: Run, change: Change, given: np.ndarray) -> None:
    """What the network sees, changed, in which a patch is dragged."""
    height, width = result.trace.image_size
    shown = Image.fromarray(rasters.as_rgb(given.round().astype(np.uint8).transpose(1, 2, 0)))
    outlines, at = [], (height // 2, width // 2)
    if change.patch:
        row, column = at = change.place[0], change.place[1]
        top, left, bottom, right = whatif.patch_box(row, column, change.patch)
        outlines = [Outline("patch", (left, top, right - left, bottom - top))]
        if bottom <= 0 or right <= 0 or top >= height or left >= width:
            st.warning(f"The patch lies outside of the {result.size} pixels, and hides nothing.")
    side = max(1, min(height, width) // 4)
    pixels(
        (0, 0, width, height),
        [Sheet("image", shown, (0, 0, width, height))],
        outlines,
        at,
        max(1, max(height, width) // 28),
        "The changed image; arrow keys move the patch",
        "changed image",
        lambda row, column: put(row, column, side),
        drag=True,
    )
    words = "Drag the patch, or move it by the arrow keys." if change.patch else "A click puts a patch there, to drag."
    st.caption(f"What the network sees: {result.size}{', changed' * change.active}. {words}")
    origin(result)


# -- what the network says ----------------------------------------------------------------


@shared()
def cached_effect(key: Key, change: Change, target: int, _result: Run) -> Effect:
    after = whatif.network_input(
        torch.tensor(cached_changed(key.plain, change, target, _result)), key.weights.data.preprocessing
    )
    names = [layer.name for layer in _result.trace.layers]
    return whatif.effect(_result.runner, _result.prepared.tensor, after, names, key.form)


def verdict(result: Run, found: Effect | None) -> str:
    """What the network names, and what it named for the image as it is, in a line."""
    if result.headless or result.weights.key == "random":
        return "No verdict: there is no classifier." if result.headless else "Untrained, so no verdict."
    names = result.weights.data.categories
    best, before = result.prediction.top(1)[0]
    if found is None:
        return f"**{session.escape_markdown(names[best])}** {before:.1%}, nothing changed yet"
    if not np.isfinite(found.probabilities).all():
        return "The activations overflow with this change."
    after = int(found.probabilities.argmax())
    share = found.probabilities[after]
    name, old = (session.escape_markdown(names[index]) for index in (after, best))
    if after == best:
        return f"Still **{name}**: {share:.1%}, was {before:.1%}"
    return f"**{name}** {share:.1%}, was {old} {before:.1%}"


def told(result: Run, found: Effect) -> None:
    """The probabilities with the change and without it, and how far the change reaches."""
    if not (result.headless or result.weights.key == "random") and np.isfinite(found.probabilities).all():
        with st.container(border=True, key="answer"):
            section("What the network says")
            both = found.probabilities, result.prediction.probabilities
            order = np.argsort(-np.maximum(*both), kind="stable")[:5]
            names = [result.weights.data.categories[int(index)] for index in order]
            after, before = ([float(one[index]) for index in order] for one in both)
            st.html(bars(names, after, before, ("changed", "as it is")))
    with st.container(border=True, key="reach"):
        parts = whatif.parts_in_use(result.trace, result.off, result.headless)
        plot(effect_figure(found, result.trace.layers, [part.layers[-1] for part in parts]), key="effect chart")
        outputs = {part.identifier: part.layers[-1].name for part in parts}
        st.caption(reach_words(found, outputs, result.size))


def reach_words(found: Effect, outputs: dict[str, str], size: str) -> str:
    """Where the difference grows and where it is absorbed, in numbers."""
    scores = f", the scores by {number_text(found.distances['fc'])}" if "fc" in outputs else ""
    said = (
        f"Euclidean norms over all channels and positions of one pass at {size} pixels, a′ with the change and a without. "
        f"The normalised image changes by {number_text(found.image)}{scores}."
    )
    known = whatif.steps(found, outputs)
    if known:
        most, least = (pick(known, key=lambda step: step.factor) for pick in (max, min))
        grown, absorbed = (
            f"`{step.name}`, from {number_text(step.before)} to {number_text(step.after)}" for step in (most, least)
        )
        if most.factor > 1:
            said += f" The difference grows most in {grown}."
        said += f" It is absorbed most in {absorbed}." if least.factor < 1 else " No part absorbs any of it."
    return f"{said} A large change of a layer need not change the class."


# -- shifts of the test images ------------------------------------------------------------


def shifts(result: Run) -> None:
    """How often the class stays with the test images moved, and with a blur put in where the network subsamples."""
    section("Shift consistency, and what anti-aliasing is for")
    weights, count = result.weights, len(labelled_images().labels)
    if result.headless or weights.key == "random" or not knows_test_images(weights) or too_large(weights):
        st.caption(
            "The labelled images that ship are of Fashion-MNIST, so the share of shifts that keep the class is counted for small "
            "trained networks that know it: the shipped ones, such as ResNet-20."
        )
        return
    found = consistencies(weights)
    if found:
        named = dict(zip(("Weights as they are", "The same, a blur put in at each stride"), found, strict=False))
        rows = [
            {
                "Network": name,
                "Same class": f"{one.same:.1%} ± {one.error * 100:.1f}",
                "Right, unmoved": f"{one.accuracy:.1%}",
                "Right, all shifts": f"{one.shifted:.1%}",
            }
            for name, one in named.items()
        ]
        data = {
            "Network": [*named],
            "Same class": [one.same for one in found],
            "Standard error": [one.error for one in found],
            "Right, unmoved": [one.accuracy for one in found],
            "Right, all shifts": [one.shifted for one in found],
        }
        take.texts(rows, "shift rows", "Shift consistency", data)
        if len(found) > 1:
            st.markdown(blur_words(*found))
    st.caption(
        f"Same class: the share of pairs of {(2 * REACH + 1) ** 2} shifts of an image, by up to {REACH} pixels each way, that are "
        f"named alike, ± the standard error over the first {count} images of Fashion-MNIST's test set, with all blocks and channels "
        "on, in fp32 "
        "(Zhang 2019, https://arxiv.org/abs/1904.11486). What comes in is black, and what goes beyond an edge is lost. A stride "
        "skips positions, so a shift can change what is read; the option Anti-aliasing blurs there, but a shortcut keeps its stride."
    )


def consistencies(weights: Weights) -> tuple[Consistency, ...]:
    """That of the network, and with the blur where it takes one: measured beforehand of weights that ship; none of others before
    that is asked for.
    """
    if weights.key == "bundled":
        return shipped_beside().shifts[NAMES[weights.config]]
    blurs = (False, True) if takes_blur(weights.config, weights.data.preprocessing.size) else (False,)
    keys = {blurred: ("consistency", blurred, weights, device()) for blurred in blurs}
    label = f"Move {len(labelled_images().labels)} test images by up to {REACH} pixels each way"
    if not may_compute(label, *keys.values()):
        return ()
    return tuple(measured(key, blurred, weights) for blurred, key in keys.items())


def measured(key: tuple[object, ...], blurred: bool, weights: Weights) -> Consistency:
    """The consistency of the whole network, or of it with the blur."""
    at, preprocessing = device(), weights.data.preprocessing

    def compute(move: Callable[[float], None]) -> Consistency:
        network = loaded(weights, at)
        network = antialiased(network) if blurred else network
        return consistency(
            network,
            test_inputs(weights),
            labelled_images().labels.tolist(),
            -preprocessing.mean[0] / preprocessing.std[0],
            at,
            batch_size(weights_trace(weights)),
            move,
        )

    return cached_result(
        key, "Moving the test images with the blur …" if blurred else "Moving the test images …", compute
    )


def blur_words(plain: Consistency, blurred: Consistency) -> str:
    """What the blur does to weights that were trained without it, in a sentence."""
    same, right = (
        f"{'+' if d >= 0 else '−'}{abs(d) * 100:.1f}"
        for d in (blurred.same - plain.same, blurred.accuracy - plain.accuracy)
    )
    return (
        f"These weights were trained without anti-aliasing. Put in afterwards, it changes the share of the same class by "
        f"**{same} points** and the share that is right by **{right} points**. It is made for a network that "
        "is trained with it, which these weights cannot show."
    )

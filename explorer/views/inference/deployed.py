"""The network as it is deployed: batch norms folded, other layouts and precisions, compiled, in integers of 8 bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pandas
import streamlit as st
import torch

from ...analysis import cost
from ...export import deployed, onnx
from ...export.deployed import AS_IT_IS, FORMS, HALF, INT8, SLOW_FORMS, Form, Images, Refusal, Result
from ...export.errors import ExportError
from ...export.folding import fold, folded_config
from ...inference.ablation import batch_size
from ...inference.samples import labelled_images
from ...sharing.store import Progress
from ...sharing.tidying import LARGE_BYTES, tidy
from ...units import scientific
from .. import session, take
from ..cached import Key, attempt, cached_result, cached_trace, may_compute, offer_again, shared
from ..headline import section
from .ablation import knows_test_images, test_inputs, too_large
from .images import ChosenImage
from .latency import measurement_stamp
from .running import Run, network_of, prepared
from .several import sample_of_each_label
from .verdict import bars

CALIBRATION = 100
"""Of the test images that ship, the last so many calibrate, and the others are tested on."""


def panel(result: Run) -> None:
    """The whole network, without what is switched off, in its forms."""
    with st.container(border=True, key="folded"):
        section("Batch norms folded")
        session.show_or_say(folding, result)
    with st.container(border=True, key="deployed"):
        section("As it is deployed")
        session.show_or_say(forms, result)


# -- folding ------------------------------------------------------------------------------


class Folding(NamedTuple):
    """Class probabilities of an image before and after folding, and the largest change of a score as a share of the largest."""

    before: np.ndarray
    after: np.ndarray
    difference: float


def folding(result: Run) -> None:
    """What the network says of the image before and after its batch norms are folded, and what becomes of its layers; or why
    it cannot be folded."""
    config, size = result.weights.config, result.weights.data.preprocessing.size
    try:
        folded = folded_config(config)
    except ExportError as error:
        st.caption(session.escape_markdown(str(error)))
        return
    before, after = (cost.count(cached_trace(one, size)) for one in (config, folded))
    found = cached_folding(result.key.whole.plain, result)
    st.markdown(
        f"{said(result, found)} There are {before.layers - after.layers:,} layers fewer, the same "
        f"{after.macs / 1e6:,.0f} M MACs, and {1 - after.moved_bytes / before.moved_bytes:.0%} fewer bytes to move."
    )
    if result.headless or result.weights.key == "random" or not np.isfinite(found.before).all():
        return
    best = np.argsort(-found.before, kind="stable")[:5]
    names = [result.weights.data.categories[index] for index in best]
    st.html(bars(names, found.after[best].tolist(), found.before[best].tolist(), ("folded", "as it is")))


def said(result: Run, found: Folding) -> str:
    """The best class before and after where there is one, and what becomes of the scores, in sentences."""
    if not np.isfinite(found.before).all():
        return "The activations overflow, before as after."
    if result.headless:
        return "Without a classifier there are no scores to compare."
    scores = f"No score changes by more than {scientific(found.difference)} of the largest."
    if result.weights.key == "random":
        return f"The weights are random, so that classes mean nothing. {scores}"
    first, second = int(found.before.argmax()), int(found.after.argmax())
    name, other = (session.escape_markdown(result.weights.data.categories[index]) for index in (first, second))
    if first != second:
        return f"Before folding the network says **{name}**, after it **{other}**. {scores}"
    shares = f"{found.before[first]:.2%} and {found.after[first]:.2%}"
    return f"Before and after folding the network says **{name}**, {shares}. {scores}"


@shared()
def cached_folding(key: Key, _run: Run) -> Folding:
    image, network = key.form.tensor(_run.prepared.tensor), network_of(key)

    @torch.inference_mode()
    def run() -> Folding:
        before = network(image)[0].float().cpu()
        after = key.form.network(fold(network))(image)[0].float().cpu()
        return Folding(before.softmax(0).numpy(), after.softmax(0).numpy(), onnx.change(before, after))

    return key.form.turn(network, image).run(run)


# -- all forms ----------------------------------------------------------------------------

BUTTON, COMPILE_BUTTON = "Measure the forms", "Compile and measure"


class Measured(NamedTuple):
    """What forms do, on how many images, and when that was measured."""

    results: tuple[Result | Refusal, ...]
    images: int
    when: datetime


def forms(result: Run) -> None:
    """Each form's file, time and effect, measured when asked for: those that come within seconds, and apart from them the one
    that is compiled.
    """
    images, labelled = tested(result)
    place, kept = st.container(), list[Measured]()
    for button, some in MEASUREMENTS.items():
        if found := session.show_or_say(measured, result, images, labelled, button, some):
            kept.append(found)
    if kept:
        with place:
            table(result, kept, labelled)


def measured(
    result: Run, images: Sequence[ChosenImage], labelled: bool, button: str, some: Mapping[str, Form]
) -> Measured | None:
    """What some forms do, and a button to measure it again; None, and a button that says what it does, until that is asked for.

    Raises:
        StoppedError: where a person stopped it.
        PassError: where a pass is not made or not finished.
    """
    key = measurement_key(result, images, button)
    if not may_compute(button, key):
        st.caption(WHAT[button])
        return None
    found = cached_result(key, WORDS[button], lambda move: compute(result, images, labelled, some, move))
    offer_again(button, measurement_key(result, images, button, 1))
    return found


MEASUREMENTS = {BUTTON: FORMS, COMPILE_BUTTON: SLOW_FORMS}
WORDS = {BUTTON: "Measuring the forms …", COMPILE_BUTTON: "Compiling, which takes a minute or so …"}
WHAT = {
    BUTTON: "Makes each form, times it in turn with the network as it is, and runs it on the images: batch norms folded, channels "
    "last, half precision, ONNX in onnxruntime, and there in integers of 8 bits.",
    COMPILE_BUTTON: "torch.compile generates code for this network and processor, in a process of its own: that takes a minute "
    "or so.",
}


def measurement_key(result: Run, images: Sequence[ChosenImage], button: str, more: int = 0) -> tuple[object, ...]:
    """All that a measurement depends on, and how often it was asked for in this session, or `more` often."""
    digests = tuple(image.digest for image in images)
    return (
        "deployed",
        button,
        result.weights,
        result.device,
        result.invert if digests else None,
        digests,
        attempt(button) + more,
    )


def tested(result: Run) -> tuple[tuple[ChosenImage, ...], bool]:
    """The images that forms are tested on, the person's and without several of these the samples, and False; none and True
    where the test images that ship are known to the network."""
    weights = result.weights
    if knows_test_images(weights) and not result.headless and not too_large(weights):
        return (), True
    if len(result.images) > 1:
        return result.images, False
    others = [image for image in sample_of_each_label() if image.digest != result.image.digest]
    return (result.image, *others), False


def compute(
    result: Run, images: Sequence[ChosenImage], labelled: bool, some: Mapping[str, Form], move: Progress
) -> Measured:
    """Measure some forms on the images, or on the labelled ones that ship."""
    weights, key = result.weights, result.key.whole.plain
    if labelled:
        inputs, labels = test_inputs(weights), labelled_images().labels.tolist()
        given = Images(inputs[-CALIBRATION:], inputs[:-CALIBRATION], tuple(labels[:-CALIBRATION]))
    else:
        inputs = torch.cat([prepared(image, weights, result.invert).tensor for image in images])
        given = Images(inputs, inputs)
    batch = batch_size(cached_trace(weights.config, weights.data.preprocessing.size))
    found = deployed.measure(network_of(key), key.form, given, some, batch, move)
    if 4 * result.trace.params > LARGE_BYTES:
        tidy()
    return Measured(found, len(given.tested), datetime.now(UTC))


def table(result: Run, kept: Sequence[Measured], labelled: bool) -> None:
    """A sentence, a row a form, and what was measured on what."""
    results, refusals = deployed.kinds([one for measured in kept for one in measured.results])
    count, when = kept[0].images, max(measured.when for measured in kept)
    if results:
        st.markdown(sentence(results, count, result.headless))
        half = replace(result.device, half=True).form
        named = [one._replace(form=f"{one.form}, {half}") if one.form == HALF else one for one in results]
        take.table(frame(named, count, result.headless), "forms table", "As it is deployed", column_config=COLUMNS)
    for refusal in refusals:
        st.caption(f"**{refusal.form}**: {session.escape_markdown(refusal.reason)}")
    forms = [one.form for one in results]
    on = f"the first {count} of Fashion-MNIST's test images that ship" if labelled else f"{count} images"
    if INT8 in forms:
        on += (
            f"; the {CALIBRATION} after them calibrated the integers"
            if labelled
            else ", which calibrated the integers too"
        )
    noise = " (the first row's tells how far apart equal ones come out)" if AS_IT_IS in forms else ""
    st.caption(
        f"Each form's file with its weights; passes over one image at {result.size} pixels, and their ratio to those of the "
        f"network as it is that alternate with them{noise}; the best class and the scores on {on}. "
        f"{measurement_stamp(result.device, when)}"
    )
    if INT8 in forms:
        st.caption(
            "ONNX runs in onnxruntime, another engine: what the integers gain is the step from ONNX in fp32 to int8, with "
            "weights in a scale for each output channel and activations in one of each tensor."
        )


def sentence(results: Sequence[Result], count: int, headless: bool = False) -> str:
    """The fastest of the forms that are faster than the network as it is in three quarters of the rounds."""
    faster = [one for one in results if one.form != AS_IT_IS and one.ratio.upper < 1]
    if not faster:
        return "No form is faster here than the network as it is, beyond the spread of the passes."
    fastest = min(faster, key=lambda one: one.ratio.median)
    size = next(
        (f", in a file of {fastest.bytes / one.bytes:.2f} times the size" for one in results if one.form == AS_IT_IS),
        "",
    )
    same = "" if headless else f", with the same best class on {fastest.same} of {count} images"
    return (
        f"The fastest form here is **{fastest.form}**: a pass takes {fastest.ratio.median:.2f} times as long as one of the "
        f"network as it is{size}{same}."
    )


COLUMNS = {
    name: st.column_config.NumberColumn(format="%.2f")
    for name in ("File in MB", "Median ms", "Lower quartile", "Upper quartile", "Ratio")
}


def frame(results: Sequence[Result], count: int, headless: bool = False) -> pandas.DataFrame:
    """A row a form."""
    columns = {
        "Form": [one.form for one in results],
        "File in MB": [one.bytes / 1e6 for one in results],
        "Median ms": [1000 * one.seconds.median for one in results],
        "Lower quartile": [1000 * one.seconds.lower for one in results],
        "Upper quartile": [1000 * one.seconds.upper for one in results],
        "Ratio": [one.ratio.median for one in results],
        "Ratio's quartiles": [f"{one.ratio.lower:.2f} to {one.ratio.upper:.2f}" for one in results],
        "Passes": [one.rounds for one in results],
    }
    if any(one.right is not None for one in results):
        columns["Right"] = [
            f"{one.right / count:.1%} ({one.right})" if one.right is not None else "" for one in results
        ]
    if not headless:
        columns["Same best class"] = [f"{one.same} of {count}" for one in results]
        columns["Largest change of a score"] = [change(one.difference) for one in results]
    return pandas.DataFrame(columns)


def change(difference: float) -> str:
    """As a share of the largest score."""
    return "overflow" if np.isnan(difference) else scientific(difference)

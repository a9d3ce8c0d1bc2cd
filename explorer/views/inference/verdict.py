"""What the network says of an image: the verdict, what is behind it, and what changes with blocks off."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from resnet.weights import Numbered

from ...analysis.parts import off_channel
from ...drawing.palette import ACCENT, STEM
from .. import session
from .running import Run

NO_CLASSIFIER = "This checkpoint has no classifier that reads the last stage, so it names no classes."


def took(result: Run) -> str:
    """On what device the pass was, and how fast: once, unlike the medians of Speed."""
    prediction = result.prediction
    return (
        f"First pass: {prediction.seconds * 1000:.0f} ms on {prediction.device.name} in {prediction.device.form}, "
        f"{result.trace.macs / 1e6:,.0f} M MACs at {result.size} pixels"
    )


def verdict(result: Run) -> None:
    """The most probable class as a chip, which opens on `details`; nothing of a network that has no verdict (`no_verdict`)."""
    if not result.prediction.finite or result.weights.key == "random":
        return
    if result.headless:
        words = "No classifier"
    else:
        ((best, probability),) = result.prediction.top(1)
        words = f"**{session.escape_markdown(result.weights.data.categories[best])}** {probability:.1%}"
        if result.off:
            words += f", {len(result.off)} off"
    with st.popover(words, key="verdict chip"), st.container(key="verdict"):
        details(result)


def no_verdict(result: Run) -> None:
    """Why there is none, in a line: of an untrained network, or where numbers overflowed."""
    if not result.prediction.finite:
        st.error("The activations overflowed, so there is no prediction; normalisation keeps deep networks finite.")
    elif result.weights.key == "random":
        st.caption(f"Untrained, so no verdict: its scores mean nothing. {took(result)}")


def details(result: Run) -> None:
    """The five most probable classes, on what device and how fast, and what the weights know.

    With blocks off, beside the probabilities of the whole network, and what changed. Of a network without its classifier only
    the device and the time are left.
    """
    data = result.weights.data
    if result.headless:
        st.markdown(f"**No classifier**, so no scores\n\n{NO_CLASSIFIER} What its layers make of the image is below.")
        st.caption(took(result))
        return
    answer(result)
    if not result.off:
        st.caption(took(result))
    if result.weights.key == "bundled":
        known = ", ".join(data.categories)
        st.caption(
            f"These weights know ten things: {known}. An image of anything else gets one of these names too, "
            "often with high confidence."
        )
    elif isinstance(data.categories, Numbered) and data.name not in ("unknown", "nothing"):
        st.caption(f"This network has {len(data.categories):,} classes, which have numbers here and no names.")


def answer(result: Run) -> None:
    """The five most probable classes as bars, and with blocks off what changed."""
    prediction, data = result.prediction, result.weights.data
    top = prediction.top(5)
    if result.off and (best := result.whole.top(1)[0][0]) not in dict(top):
        top = [*top[:-1], (best, float(prediction.probabilities[best]))]
    names = [data.categories[index] for index, _ in top]
    st.markdown(
        f"**{session.escape_markdown(names[0])}**, {top[0][1]:.1%}", help="The class of the highest score, by softmax."
    )
    if result.off:
        st.markdown(change_sentence(result))
    whole = [float(result.whole.probabilities[index]) for index, _ in top] if result.off else None
    labels = f"with {kinds_off(result.off)} off", "whole network"
    st.html(bars(names, [probability for _, probability in top], whole, labels))


def bars(
    names: Sequence[str],
    probabilities: Sequence[float],
    whole: Sequence[float] | None = None,
    labels: tuple[str, str] = ("with blocks off", "whole network"),
) -> str:
    """Probabilities as bars in HTML; with blocks off, over those of the `whole` network, or of two others by their `labels`.

    A Plotly chart would take the browser longer than the prediction takes the server.
    """
    series = {labels[0]: (probabilities, ACCENT)}
    if whole is not None:
        series[labels[1]] = (whole, STEM)

    def bar(share: float, shade: str) -> str:
        return f'<div title="{share:.2%}"><i style="width:{share:.2%};background:{shade}"></i>{share:.1%}</div>'

    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{''.join(bar(values[row], shade) for values, shade in series.values())}</dd>"
        for row, name in enumerate(names)
    )
    legend = "".join(f'<span><i style="background:{shade}"></i>{words}</span>' for words, (_, shade) in series.items())
    return f'<dl class="bars">{rows}</dl>' + (f'<div class="legend">{legend}</div>' if whole is not None else "")


def kinds_off(off: tuple[str, ...]) -> str:
    """What kinds are off: blocks, channels, or blocks and channels."""
    return " and ".join(sorted({"channels" if ":" in name else "blocks" for name in off}))


def off_words(off: tuple[str, ...]) -> str:
    """What is off, with its verb: a block or a channel by its name, several by their number."""
    if len(off) == 1:
        channel = off_channel(off[0])
        return f"Channel {channel[1]} of `{channel[0]}` is" if channel else f"`{off[0]}` is"
    channels = sum(":" in name for name in off)
    counts = {"block": len(off) - channels, "channel": channels}
    named = [f"{count} {noun}{'s' * (count > 1)}" for noun, count in counts.items() if count]
    return f"{' and '.join(named)} are"


def change_sentence(result: Run) -> str:
    """What the prediction does when blocks or channels are switched off, in a sentence."""
    names, whole = result.weights.data.categories, result.whole
    count = off_words(result.off)
    if not whole.finite:
        return f"{count} off. The activations of the whole network overflow."
    best, before = whole.top(1)[0]
    after = float(result.prediction.probabilities[best])
    same = result.prediction.top(1)[0][0] == best
    return (
        f"{count} off. The whole network says **{session.escape_markdown(names[best])}**{' too' if same else ''}, {before:.1%}: "
        f"that class went {'down' if after < before else 'up'} by {abs(after - before) * 100:.1f} points to {after:.1%}."
    )

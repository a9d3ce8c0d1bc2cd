"""How fast the network runs here: layer by layer against the roofline, and what precision and layout change."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from datetime import UTC, datetime
from math import isnan
from typing import TypeVar

import pandas
import streamlit as st

from ...figures import inference
from ...inference import latency
from ...inference.device import Device
from ...inference.latency import Effect, Latency, Roof, TimedLayer
from ...sharing.store import Progress
from ...units import seconds_text
from .. import take
from ..cached import cached_devices, device, form
from ..components import plot
from ..headline import section
from ..session import held, hold
from .running import Run
from .verdict import NO_CLASSIFIER

Value = TypeVar("Value")
LAYOUTS = ["first", "last"]


def panel(result: Run) -> None:
    """In which form it runs, and each layer's time."""
    with st.container(border=True, key="form"):
        section("How it runs")
        choose_form()
        show_effects(result)
    with st.container(border=True, key="latency"):
        section("Where the time goes")
        show_layers(result)


def measured_on_click(
    slot: str, key: Hashable, label: str, compute: Callable[[Progress], Value]
) -> tuple[Value, datetime] | None:
    """What a button measured last in this session, and when; None before that, or where it was of something else."""
    again = held().timings.get(slot)
    fresh = again is not None and again[0] == key
    if st.button(label, key=f"{slot} button", icon=":material/timer:"):
        bar = st.progress(0.0, "Measuring …")

        def move(share: float) -> None:
            bar.progress(share, "Measuring …")

        try:
            value = compute(move)
        finally:
            bar.empty()
        again, fresh = (key, value, datetime.now(UTC)), True
        hold(timings={**held().timings, slot: again})
    return again[1:] if again and fresh else None


def measurement_stamp(on_device: Device, when: datetime) -> str:
    """Where and when something was measured, in two sentences."""
    return (
        f"Measured on this server, {on_device.name}, at {when:%H:%M:%S} UTC. Whatever else the server does "
        "at the time slows it, so measure again before you trust a small difference."
    )


# -- precision and layout -----------------------------------------------------------------


def choose_form() -> None:
    """The device, where there are two, the precision and the memory layout of predictions and activations."""
    now, known = form(), {place.name: place for place in cached_devices()}
    half = replace(now.plain, half=True).form
    columns = st.columns(2 if len(known) == 1 else 3)

    def choose() -> None:
        chosen = st.session_state
        place = known[chosen["form place"]] if len(known) > 1 else now
        half, last = chosen["form precision"] != "fp32", chosen["form layout"] == LAYOUTS[1]
        hold(form=replace(place, half=half, channels_last=last))

    st.session_state["form precision"] = half if now.half else "fp32"
    st.session_state["form layout"] = LAYOUTS[now.channels_last]
    columns[0].segmented_control("Precision", ["fp32", half], required=True, key="form precision", on_change=choose)
    columns[1].segmented_control(
        "Channels in memory",
        LAYOUTS,
        required=True,
        key="form layout",
        on_change=choose,
        help="First: one whole map after another. Last: all channels of one pixel together, as many fast kernels read.",
    )
    if len(known) > 1:
        st.session_state["form place"] = now.name
        columns[2].segmented_control("Device", list(known), required=True, key="form place", on_change=choose)
    picked = f"Runs on {now.name}, the fastest that was found. " if now.torch == cached_devices()[0].torch else ""
    st.caption(f"{picked}The choice holds for the prediction and the activations; gradients are always taken in fp32.")


def offer_cpu() -> None:
    """The way out where a GPU's memory does not do."""
    if form().torch != "cpu":
        st.button("Run on the CPU", on_click=lambda: hold(form=cached_devices()[-1]), icon=":material/memory:")


def show_effects(result: Run) -> None:
    """What each precision and layout changes for this image, measured when asked for."""
    found = measured_on_click(
        "effects",
        result.key.plain,
        "Measure precision and layout",
        lambda progress: latency.effects(result.network, result.prepared.tensor, result.device, progress),
    )
    if not found:
        st.caption(
            f"Measures four ways to run this image at {result.size} pixels: fp32 and half precision, channels first and "
            "last."
        )
        return
    effects, when = found
    take.table(effect_frame(effects, result.headless), "effect table", "Ways to run it")
    change = "" if result.headless else "; the largest change of any class probability"
    if result.headless:
        st.caption(f"{NO_CLASSIFIER} So what a form changes of the scores is not listed.")
    st.caption(
        f"The median time of a pass at {result.size} pixels, that of the passes in fp32 with channels first that "
        f"alternate with it, and their ratio{change}. " + measurement_stamp(device(), when)
    )
    half = effects[-1]
    if half.device.torch == "cpu" and half.ratio > 1:
        st.caption("bf16 is faster only on processors with units for it, such as AMX or AVX-512 BF16.")


def effect_frame(effects: tuple[Effect, ...], headless: bool = False) -> pandas.DataFrame:
    columns = {
        "Form": [effect.device.form for effect in effects],
        "Time": [seconds_text(effect.seconds) for effect in effects],
        "Measured as": [passes_text(effect.rounds) for effect in effects],
        "fp32 in turn": [seconds_text(effect.base_seconds) for effect in effects],
        "Ratio": [f"{effect.ratio:.2f}×" for effect in effects],
    }
    if not headless:
        columns |= {
            "Largest change": [change_text(effect.probability_change) for effect in effects],
            "Best class": ["the same" if effect.same_class else "another" for effect in effects],
        }
    return pandas.DataFrame(columns)


def passes_text(rounds: int) -> str:
    """Of which passes a time is: of the first where there are no `rounds` after it."""
    return f"median of {rounds} passes" if rounds > 1 else "one pass, warmed up" if rounds else "first pass"


def change_text(change: float) -> str:
    if isnan(change):
        return "overflow"
    return f"{change:.2%}" if change >= 1e-4 or not change else "below 0.01%"


# -- layer by layer -----------------------------------------------------------------------


def show_layers(result: Run) -> None:
    """Each layer's time beside its roofline bound, measured when asked for."""
    how = result.key.form

    def compute(progress: Progress) -> tuple[Latency, Roof]:
        found = latency.roof(how, lambda share: progress(share / 2))
        times = latency.latency(
            result.runner, result.prepared.tensor, how, progress=lambda share: progress(0.5 + share / 2)
        )
        return times, found

    found = measured_on_click("layers", result.key, "Measure the layers", compute)
    if not found:
        st.caption(
            f"Times every layer in several passes of this image at {result.size} pixels, and what the device can do at "
            "most."
        )
        return
    (times, roof), when = found
    layers = latency.timed_layers(result.trace, times, roof, how.dtype.itemsize)
    view = st.segmented_control(
        "Show",
        ["Layer by layer", "Roofline"],
        required=True,
        default="Layer by layer",
        key="speed chart",
        persist_state="session",
    )
    if view == "Roofline":
        plot(inference.roofline_figure(layers, roof), key="roofline chart")
    else:
        plot(inference.latency_figure(layers, passes_text(times.rounds)), key="latency chart")
    st.markdown(ROOFLINE)
    section("Slow for their arithmetic")
    take.table(slow_frame(layers), "slow layers", "Slow for their arithmetic")
    st.caption(
        f"Of the layers that take at least 2 % of the time, those furthest above their bound. A pass at "
        f"{result.size} pixels takes {times.whole_pass * 1000:,.1f} ms; the layers sum to {sum(times.layers.values()) * 1000:,.1f} ms "
        f"(each the {passes_text(times.rounds)}). The roof: "
        f"{roof.flops / 1e9:,.0f} GFLOP/s by the faster of a matrix product and a convolution, "
        f"{roof.bandwidth / 1e9:,.0f} GB/s by a copy, both in {how.form}. " + measurement_stamp(how, when)
    )


ROOFLINE = (
    "A layer has to do its arithmetic and has to move its numbers through memory. Whichever takes longer at the "
    "device's best measured speed is its **roofline bound**: no layer of this shape could be much faster here. Layers "
    "with few FLOPs per byte, such as batch norm, ReLU and addition, are bound by memory; convolutions of many "
    "channels by arithmetic. Small layers stay far above their bound, because starting a kernel takes time too; a "
    "layer whose numbers still lie in a cache can even beat its bound."
)


def slow_frame(layers: tuple[TimedLayer, ...]) -> pandas.DataFrame:
    total = sum(timed.seconds for timed in layers)
    chosen = latency.slowest_layers(layers)
    return pandas.DataFrame(
        {
            "Layer": [timed.layer.name for timed in chosen],
            "Operation": [timed.layer.label for timed in chosen],
            "MACs": [f"{timed.layer.macs:,}" if timed.layer.macs else "none" for timed in chosen],
            "Time": [seconds_text(timed.seconds) for timed in chosen],
            "Bound": [seconds_text(timed.bound) for timed in chosen],
            "Time / bound": [f"{timed.ratio:,.1f}×" for timed in chosen],
            "Share of time": [f"{timed.seconds / total:.1%}" for timed in chosen],
        }
    )

"""Published accuracies over what networks cost, the current one among them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import streamlit as st

from resnet import title

from ..analysis.published import Result, published
from ..analysis.trace import Trace
from ..figures.accuracy import accuracy_figure, cost
from ..units import amount, mebibytes
from . import session
from .cached import cached_trace, shared


@shared("Tracing the published networks …")
def cached_costs(measure: str) -> tuple[tuple[Result, int], ...]:
    """Every published result with the cost of its network at the size it was measured at, by our own trace."""
    return tuple((result, cost(cached_trace(result.config, (result.size,) * 2), measure)) for result in published())


def chart(trace: Trace, measure: str) -> None:
    """The scatter; a click on a point opens its network."""
    points = cached_costs(measure)
    key = f"accuracy {measure}"

    def open_network() -> None:
        result = None
        with suppress(LookupError, TypeError):  # no point, or one that no browser sends
            result = points[st.session_state[key]["selection"]["points"][0]["customdata"][0]][0]
        if result:
            view = session.view()
            session.show(replace(view, config=result.config, image_size=(result.size,) * 2, at="", weights=""))

    figure = accuracy_figure(points, measure, cost(trace, measure), title(trace.config), trace.config)
    st.plotly_chart(figure, key=key, on_select=open_network, selection_mode="points")
    st.caption(
        "A click on a point opens its network. Each stands at its cost at the image size it was measured at; the dotted "
        "line is the current network's cost at the size that is set."
    )


def findings(trace: Trace) -> None:
    """What the recipe does, what depth does, and what is published for the current network."""
    results = published()
    fifty = sorted(result.top1 for result in results if result.network == "resnet50")
    first = {result.network: result.top1 for result in results if result.recipe == "torchvision V1"}
    st.markdown(
        f"**The recipe matters more than the depth.** The same ResNet-50 scores from {fifty[0]:.1%} to {fifty[-1]:.1%} "
        f"under {len(fifty)} published recipes, {100 * (fifty[-1] - fifty[0]):.1f} points apart. Under one recipe "
        f"(torchvision V1), going from 50 layers to 152 adds {100 * (first['resnet152'] - first['resnet50']):.1f}."
    )
    own = sorted((result for result in results if result.config == trace.config), key=lambda result: -result.top1)
    st.markdown(f"**Published for {title(trace.config)}**")
    if not own:
        st.caption(f"Nothing is published for this configuration; it costs {summary(trace)}.")
        return
    st.dataframe(
        [
            {"Recipe": result.recipe, "Top-1": 100 * result.top1, "Image": f"{result.size} px", "Source": result.source}
            for result in own
        ],
        hide_index=True,
        column_config={
            "Top-1": st.column_config.NumberColumn(format="%.2f %%"),
            "Source": st.column_config.LinkColumn(help="Where the recipe or the measurement is described"),
        },
    )


def summary(trace: Trace) -> str:
    """25.56 M parameters, 4.09 GMACs and 11.3 MiB of activations at once."""
    return (
        f"{amount(trace.params)} parameters, {amount(trace.macs)}MACs and "
        f"{mebibytes(trace.inference_memory.bytes)} of activations at once"
    )

"""What is published: every result to open, what the recipe does, and the results of the current network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from resnet import title
from resnet.weights import Weights

from ...analysis.compare import common_size
from ...analysis.published import Result, published
from ...analysis.trace import Trace
from ...export.tables import LINK
from ...link import View, relative
from ...navigation import INFERENCE
from ...units import amount, mebibytes
from .. import session, take
from ..headline import figures, section
from ..session import escape_markdown
from ..weights import too_large


def open_result(result: Result) -> None:
    """Look at the network of a published result, at the image size that is set."""
    view = session.view()
    size = common_size((result.config,), view.image_size)
    session.show(replace(view, config=result.config, image_size=size, at="", weights=""))
    session.hold(result=result)


def choose_result(trace: Trace) -> None:
    """Every published result in a list, the way of the keyboard, which selects no point of the chart and presses no button in a
    cell of the table.
    """
    results = {result_label(result): result for result in published()}

    def chosen() -> None:
        if result := results.get(st.session_state.result):
            open_result(result)

    current = session.held().result
    session.set_widget("result", result_label(current) if current and current.config == trace.config else None)
    st.selectbox(
        "Published result",
        list(results),
        index=None,
        key="result",
        placeholder="Click a point, or choose or type one here",
        on_change=chosen,
        help="Opens its network; what is published of its weights can then be run on your image.",
        label_visibility="collapsed",
    )


def result_label(result: Result) -> str:
    """resnet50 · timm a1 · 81.24% at 288 px."""
    return f"{result.network} · {result.recipe} · {result.top1:.2%} at {result.size} px"


RUN = "Run it on my image"


def clicked(trace: Trace) -> None:
    """What the point stands for that was clicked, as long as its network is looked at, and the way to its weights."""
    result = session.held().result
    if result is None or result.config != trace.config:
        return
    weights = result.weights
    top5 = f", top-5 {weights.top5:.2%}," if weights and weights.top5 else ""
    st.markdown(f"**{title(result.config)}, {result.recipe}**: top-1 {result.top1:.2%}{top5} at {result.size} px")
    if weights is None:
        st.caption(f"The weights of this result are not published. [Source]({result.source})")
        return
    st.caption(
        f"Trained on {training(weights)}. Licence: {weights.data.licence}. {mebibytes(weights.bytes)}. "
        f"[Source]({result.source})"
    )
    if reason := too_large(weights):
        st.caption(escape_markdown(reason))
    elif st.button(RUN, key="run", type="primary", icon=INFERENCE.icon):
        run_on_image(weights)


def training(weights: Weights) -> str:
    """What weights were trained on: "ImageNet-12k, then ImageNet-1k"."""
    before = weights.data.pretraining
    return f"{before}, then {weights.data.name}" if before else weights.data.name


def run_on_image(weights: Weights) -> None:
    """Open the inference page on a network with these weights."""
    size = weights.data.preprocessing.size
    view = replace(session.view(), config=weights.config, weights=weights.key, image_size=size)
    view = replace(view, at="", unit="", channel=None, trail=(), tab="", explained="", off=())
    st.switch_page(INFERENCE.file, query_params=view.to_query())


def findings(trace: Trace) -> None:
    """What the recipe does, what depth does, and what is published for the current network."""
    results = published()
    side = 224  # of torchvision V1 too; other recipes' results at larger images would be credited to the recipe
    fifty = sorted(
        result.top1
        for result in results
        if result.network == "resnet50" and result.size == side and not result.more_data
    )
    first = {result.network: result.top1 for result in results if result.recipe == "torchvision V1"}
    st.markdown(
        f"**The recipe matters more than the depth.** The same ResNet-50 at {side} pixels scores from {fifty[0]:.1%} to "
        f"{fifty[-1]:.1%} under {len(fifty)} published recipes, {100 * (fifty[-1] - fifty[0]):.1f} points apart. Under one recipe "
        f"(torchvision V1), going from 50 layers to 152 adds {100 * (first['resnet152'] - first['resnet50']):.1f}."
    )
    own = sorted((result for result in results if result.config == trace.config), key=lambda result: -result.top1)
    reasons = {result.weights: too_large(result.weights) for result in own if result.weights}
    runnable = [weights for weights, reason in reasons.items() if not reason]
    section(title(trace.config))
    figures(trace)
    section(f"Published for {title(trace.config)}")
    if not own:
        st.caption(f"Nothing is published for this configuration; it costs {summary(trace)}.")
        return
    rows: list[dict[str, Any]] = [
        {
            "Recipe": result.recipe,
            "Top-1": 100 * result.top1,
            "Image": f"{result.size} px",
            "Weights": RUN if result.weights in runnable else None,
            "Trained on": training(result.weights) if result.weights else "ImageNet-1k",
            "Licence": result.weights.data.licence if result.weights else "",
            "Source": result.source,
        }
        for result in own
    ]
    names = [result.weights.key if result.weights else "" for result in own]
    take.table(
        rows,
        "published results",
        "Published results",
        whole=lambda: [
            {**row, "Weights": name, LINK: relative(View(one.config, (one.size, one.size), weights=name))}
            for row, name, one in zip(rows, names, own, strict=True)
        ],
        column_config={
            "Top-1": st.column_config.NumberColumn(format="%.2f %%"),
            "Source": st.column_config.LinkColumn(help="Where the recipe or the weights are described"),
            "Weights": st.column_config.ButtonColumn(type="tertiary", key="run one"),
        },
    )
    chosen = st.session_state.get("run one")
    weights = own[chosen.row].weights if chosen and 0 <= chosen.row < len(own) else None
    if weights in runnable:
        run_on_image(weights)
    for weights, reason in reasons.items():
        if reason:
            st.caption(escape_markdown(f"{weights.key}: {reason}"))


def summary(trace: Trace) -> str:
    """25.56 M parameters, 4.09 GMACs and 11.3 MiB of activations at once."""
    return (
        f"{amount(trace.params)} parameters, {amount(trace.macs)}MACs and "
        f"{mebibytes(trace.inference_memory.bytes)} of activations at once"
    )

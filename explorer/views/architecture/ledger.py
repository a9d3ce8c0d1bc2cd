"""The ledger: how other tools arrive at their totals for the same network."""

from __future__ import annotations

from collections.abc import Mapping

import pandas
import streamlit as st
import torch

from resnet import ResNetConfig, build

from ...analysis import cost
from ...analysis.trace import Trace
from ...export.errors import ExportError
from ...export.folding import folded_config
from ...inference.turns import ONE_AT_A_TIME
from .. import session, take
from ..cached import cached_trace, shared
from ..headline import section
from .others import MAX_UNASKED_LAYERS

PAPER = "paper"
AMOUNT, OURS, TOTAL, REST, PRINTED = "This network", "Our MACs", "Total", "Not explained", "The tool prints"
UNITS = (
    "How much of it this network does for one image: multiply-adds of convolutions, linear layers and blurs, input "
    "values of poolings, parameters of norms, and output values of the rest."
)


@shared("torch and torchinfo count …")
def cached_tool_counts(config: ResNetConfig, image_size: tuple[int, int]) -> Mapping[str, int]:
    """What torch's counter and torchinfo print for one image, each run on the meta device."""
    from torch.utils.flop_counter import FlopCounterMode
    from torchinfo import summary

    network = build(config, device="meta").eval()
    image = torch.empty(1, config.in_channels, *image_size, device="meta")

    @torch.no_grad()
    def count() -> int:
        with FlopCounterMode(display=False) as counter:  # its hooks are on all modules
            network(image)
        return counter.get_total_flops()

    flops = ONE_AT_A_TIME.run(count)
    adds = summary(network, tuple(image.shape), device="meta", verbose=0).total_mult_adds
    return {"torch": flops, "torchinfo": adds}


def ledger(trace: Trace) -> None:
    """One column a tool, from our MACs down to its total; then what each tool counts, in words."""
    st.markdown(
        "**One convention, and the way to the others.** Our MACs are the multiply-adds of convolutions and linear "
        "layers for one image, biases not counted: what the paper calls FLOPs. Each column starts there and adds what "
        "that tool counts differently."
    )
    given, folded = trace, folded_trace(trace)
    if isinstance(folded, Trace) and st.toggle("Batch norms folded", key="folded ledger", persist_state="session"):
        trace = folded
    printed: Mapping[str, int] = {}
    if len(trace.layers) <= MAX_UNASKED_LAYERS or st.button("Run torch's counter and torchinfo on this deep network"):
        printed = cached_tool_counts(trace.config, trace.image_size)
    frame = table(trace, printed)
    narrow = {name: st.column_config.NumberColumn(name, format="accounting", width=100) for name in frame.columns[1:]}
    narrow[AMOUNT] = st.column_config.NumberColumn(format="accounting", width=100, help=UNITS)
    take.table(
        frame,
        "ledger",
        "One convention",
        placeholder="",
        height="content",
        column_config={"Line": st.column_config.TextColumn(pinned=True, width=176), **narrow},
    )
    words = [f"**{tool.name}** {tool.words}" for tool in cost.TOOLS]
    if PAPER in frame:
        words.append("**paper** prints two digits for v1, where a bottleneck has its stride in the first 1×1.")
    else:
        words.append("The **paper** gives a figure for ResNet-18, 34, 50, 101 and 152 at 224 pixels only.")
    st.markdown("\n".join(f"- {line}" for line in words))
    st.caption(
        "A number in brackets is subtracted. The last row is what torch and torchinfo print when they are run on this network here. fvcore, ptflops and thop "
        "are no part of the app; this project's tests run them on fifteen networks and find the totals above exactly."
    )
    folding(given, folded)


def folded_trace(trace: Trace) -> Trace | ExportError:
    """The trace with batch norms folded into convolutions, or why there is none."""
    try:
        return cached_trace(folded_config(trace.config), trace.image_size)
    except ExportError as error:
        return error


def folding(trace: Trace, folded: Trace | ExportError) -> None:
    """What taking the batch norms into the convolutions makes of the counts."""
    section("As it is deployed")
    if isinstance(folded, ExportError):
        st.caption(session.escape_markdown(str(folded)))
        return
    before, after = cost.count(trace), cost.count(folded)
    st.markdown(
        f"With each batch norm folded into the convolution before it, the network has {before.layers - after.layers:,} layers "
        f"fewer and the same MACs, and its layers move {1 - after.moved_bytes / before.moved_bytes:.0%} fewer bytes. Its outputs "
        "stay the same to five digits."
    )
    take.table(folded_frame(before, after), "folded counts", "Batch norms folded", column_config=FOLDED_COLUMNS)


FOLDED_COLUMNS = {
    name: st.column_config.NumberColumn(format="localized") for name in ("As it is", "Folded", "Difference")
}


def folded_frame(before: cost.Count, after: cost.Count) -> pandas.DataFrame:
    """A row a count, before and after folding."""
    names = ["Layers", "Parameters", "MACs for one image", "Bytes moved for one image in fp32"]
    differences = [new - old for old, new in zip(before, after, strict=True)]
    return pandas.DataFrame(
        {"Count": names, "As it is": list(before), "Folded": list(after), "Difference": differences}
    )


def table(trace: Trace, printed: Mapping[str, int]) -> pandas.DataFrame:
    """One row a line; the columns are the tools. `printed` is what a tool gave when it was run. Missing where nothing is added."""
    lines = cost.ledger(trace)
    bridges = {tool.name: cost.bridge(lines, tool) for tool in cost.TOOLS}
    if (flops := cost.paper_flops(trace)) is not None:
        v1 = trace.config if trace.config.block == "basic" else trace.config.with_(stride_in="1x1")[0]
        bridges[PAPER] = cost.paper_bridge(trace, cached_trace(v1, trace.image_size))
        printed = {**printed, PAPER: flops}
    totals = {tool: trace.macs + sum(terms.values()) for tool, terms in bridges.items()}

    def row(name: str, amount: int | None = None) -> dict[str, object]:
        return {"Line": name, AMOUNT: amount, **{tool: terms[name] for tool, terms in bridges.items() if name in terms}}

    rows = [row(line.name, line.amount) for line in lines if line.name in cost.OURS]
    rows.append({"Line": OURS, AMOUNT: trace.macs} | dict.fromkeys(bridges, trace.macs))
    rows += [row(line.name, line.amount) for line in lines if line.name not in cost.OURS]
    rows += [row(name) for name in (cost.DOUBLED, cost.STRIDE) if any(name in terms for terms in bridges.values())]
    rows.append({"Line": TOTAL, **totals})
    rows.append({"Line": REST, **{tool: value - totals[tool] for tool, value in printed.items()}})
    rows.append({"Line": PRINTED, **printed})
    columns = ["Line", AMOUNT, *bridges]
    return pandas.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[1:], "Int64"))

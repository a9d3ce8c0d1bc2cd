"""Start: deeper got worse, shortcuts fixed it; the paper's Table 1, every cell a link; and three doors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from html import escape
from typing import Any
from urllib.parse import urlencode

import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from resnet import preset
from resnet.options import Settings, option
from resnet.presets import name_title

from ..analysis.published import PAPER
from ..analysis.table1 import FLOPS, V1, V15, names, stages
from ..drawing import sketch
from ..experiments.degradation import shipped_runs, summarise
from ..figures.degradation import spread_figure
from ..lessons.tour import STOPS
from ..link import View, natural_size
from ..navigation import ARCHITECTURE, CHOOSE, START
from ..units import amount
from . import session, settings, take
from .cached import cached_trace, shared
from .components import markup, plot
from .walk import stop_query

OFF, ON = "off", "on"


@dataclass(frozen=True)
class StartSettings(Settings):
    """What the two cards show.

    Raises:
        ConfigError: for a value outside its range.
    """

    key = "start"
    example = "shortcuts-on"

    shortcuts: str = option(OFF, "Shortcuts", "", choices=(OFF, ON))
    table: str = option(V1, "Table 1", "", choices=(V1, V15))


CALLED = {V1: "paper (v1)", V15: "torchvision (v1.5)"}


def heading() -> None:
    """What it is about, in a line, with the paper and the post."""
    st.title("Deeper got worse. Shortcuts fixed it.", anchor=False)
    st.markdown(
        f'{START.purpose} After [He et al. 2015]({PAPER} "Deep Residual Learning for Image Recognition") and the blog post '
        "*ResNet: annotated version* (2019)."
    )


def doors() -> None:
    """Who a person may be, and where to go then."""
    now = session.view()
    stop = STOPS[0]
    every = (
        (
            stop.page,
            "I am reading the paper",
            ":material/menu_book:",
            "A tour of seven stops, from problem to code.",
            stop_query(stop, 1, now),
        ),
        (CHOOSE, "I need a backbone", CHOOSE.icon, "What fits a budget: accuracy, costs, latency.", now.to_query()),
        (
            START,
            "I teach",
            ":material/school:",
            "These pages for a projector, in larger type.",
            replace(now, present=True).way(),
        ),
    )
    with st.container(key="doors"):
        for column, (page, label, icon, words, query) in zip(st.columns(3, gap="small"), every, strict=True):
            with column.container(border=True, height="stretch"):
                st.page_link(page.file, label=f"**{label}**", icon=icon, query_params=query)
                st.caption(words)


def body() -> None:
    """Why, and what came of it: curves and a block beside Table 1."""
    settings.problem(StartSettings)
    chosen = settings.chosen(StartSettings)
    left, right = st.columns([4, 7], gap="small")
    with left, st.container(border=True, height="stretch", key="why"):
        switch("shortcuts")
        shortcuts = chosen.shortcuts == ON
        plot(cached_curves(shortcuts), key="start curves", config={"displayModeBar": False})
        st.caption(cached_words(shortcuts))
        markup(sketch.block(shortcuts).themed(), "start block")
    with right, st.container(border=True, height="stretch", key="table 1"):
        with switch("table"):
            take.offer("table 1", f"Table 1, {chosen.table}", partial(table_data, chosen.table))
        table(chosen.table)


def switch(name: str) -> DeltaGenerator:
    """One of the settings, in a line with what it is about; that line."""
    line = st.container(horizontal=True, vertical_alignment="center")
    with line:
        st.header(StartSettings.options()[name].label, anchor=False, width="content")
        look: dict[str, Any] = {
            "format_func": lambda choice: CALLED.get(choice, choice),
            "label_visibility": "collapsed",
            "width": "content",
        }
        settings.setting(StartSettings, name, "The page is unchanged.", segmented=True, **look)
    return line


# -- why ----------------------------------------------------------------------------------


@shared()
def cached_curves(shortcuts: bool) -> go.Figure:
    """The shipped runs of most steps, of 20 and 56 layers, with shortcuts or without, on one scale."""
    runs = max(shipped_runs().groups.items(), key=lambda group: group[0].steps)[1]
    figure = spread_figure(runs, "Training loss by step", "residual" if shortcuts else "plain")
    figure.update_layout(height=210, margin={"l": 0, "r": 4, "t": 30, "b": 0})
    figure.update_layout(legend={"x": 1, "xanchor": "right", "y": 1, "yanchor": "top", "orientation": "v"})
    figure.update_xaxes(title=None, tickvals=[0, 250, 500, 750])
    figure.update_yaxes(title=None, range=[0, 2.4])
    return figure


@shared()
def cached_words(shortcuts: bool) -> str:
    """How the two depths end, and what was trained on what."""
    runs = max(shipped_runs().groups.items(), key=lambda group: group[0].steps)[1]
    summary, kind = summarise(runs), "residual" if shortcuts else "plain"
    shallow, deep = summary.row(kind, False), summary.row(kind, True)
    return (
        f"{deep.network.name} ends at {deep.loss.mean:.2f}, {shallow.network.name} at {shallow.loss.mean:.2f}: means of "
        f"{len(runs)} seeds on small Fashion-MNIST, bands from least to greatest."
    )


# -- Table 1 ------------------------------------------------------------------------------


def table(version: str) -> None:
    """The paper's Table 1, whose heads open a network and whose cells a stage of it."""

    def chosen(identifier: str) -> None:
        name, _, at = identifier.partition(" ")
        if name in names(version).values() and at in ("", *cached_trace(preset(name), (224, 224)).by_name):
            session.hold(destination=stage_view(name, at))

    markup(table_html(version), f"table {version}", chosen)
    st.caption(
        "A head opens its network on Architecture, a cell that stage. The paper's FLOPs are multiply-adds, as our MACs, cut to "
        "two or three digits."
    )
    if view := session.held().destination:
        session.hold(destination=None)
        st.switch_page(ARCHITECTURE.file, query_params=view.to_query())


def stage_view(name: str, at: str = "") -> View:
    """A network of the table, with a layer selected; what else the link holds stays."""
    config = preset(name)
    view = replace(session.view(), config=config, image_size=natural_size(config), at=at)
    return replace(view, weights="", unit="", channel=None, trail=(), tab="", explained="", off=())


def link(name: str, at: str, label: str, inside: str) -> str:
    """A link to a network or to a stage of it."""
    query = escape(urlencode(stage_view(name, at).to_query()))
    identifier = escape(f"{name} {at}".strip())
    return f'<a href="{ARCHITECTURE.path}?{query}" data-id="{identifier}" aria-label="{escape(label)}">{inside}</a>'


STEM, HEAD = "7×7, 64, stride 2; then 3×3 max pool, stride 2", "average pool, 1000-d fc, softmax"


def table_html(version: str) -> str:
    """The table with our counts below the paper's."""
    columns = names(version)
    traces = {depth: cached_trace(preset(name), (224, 224)) for depth, name in columns.items()}
    heads = "".join(
        f'<th scope="col">{link(name, "", f"{depth} layers: {name_title(name)} on Architecture", f"{depth} layers")}</th>'
        for depth, name in columns.items()
    )
    rows = [f'<tr><th scope="row">conv1</th><td>112</td><td colspan="5">{STEM}</td></tr>']
    every = {depth: stages(traced) for depth, traced in traces.items()}
    for number in range(4):
        cells = []
        for depth, name in columns.items():
            stage = every[depth][number]
            label = f"{' '.join(stage.convolutions)} ×{stage.blocks}: {name_title(name)}, stage {number + 1}"
            lines = "<br>".join(stage.convolutions)
            inside = f'<span class="stage"><span>{lines}</span>×{stage.blocks}</span>'
            cells.append(f"<td>{link(name, f'{stage.path}.conv1', label, inside)}</td>")
        side = every[50][number].side
        rows.append(f'<tr><th scope="row">conv{number + 2}_x</th><td>{side}</td>{"".join(cells)}</tr>')
    rows.append(f'<tr><td></td><td>1</td><td colspan="5">{HEAD}</td></tr>')
    paper = "".join(f"<td>{FLOPS[depth]}</td>" for depth in columns)
    rows.append(f'<tr><th scope="row" colspan="2">FLOPs, paper</th>{paper}</tr>')
    rows.append(counted("MACs, ours", [traced.macs for traced in traces.values()]))
    rows.append(counted("Parameters", [traced.params for traced in traces.values()]))
    head = f'<tr><th scope="col">layer</th><th scope="col">output</th>{heads}</tr>'
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def table_data(version: str) -> dict[str, list[str | int]]:
    """The table's lines by layer, output and network, to take away."""
    columns: dict[str, list[str | int]] = {
        "layer": [
            "conv1",
            *(f"conv{number}_x" for number in range(2, 6)),
            "",
            "FLOPs, paper",
            "MACs, ours",
            "Parameters",
        ]
    }
    for depth, name in names(version).items():
        traced = cached_trace(preset(name), (224, 224))
        every = stages(traced)
        blocks = [f"{'; '.join(one.convolutions)} ×{one.blocks}" for one in every]
        columns["output"] = [112, *(one.side for one in every), 1, "", "", ""]
        columns[f"{depth}-layer"] = [STEM, *blocks, HEAD, FLOPS[depth], traced.macs, traced.params]
    return columns


def counted(label: str, numbers: list[int]) -> str:
    """A row of our own counts, exact where the pointer rests."""
    cells = "".join(f'<td class="ours" title="{number:,}">{amount(number)}</td>' for number in numbers)
    return f'<tr><th scope="row" colspan="2">{label}</th>{cells}</tr>'

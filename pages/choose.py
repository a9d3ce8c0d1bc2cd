"""Choose: all networks under a budget as a table and a chart, those that are ticked beside each other, and designs to search."""

import streamlit as st

from explorer.analysis.compare import labels
from explorer.navigation import CHOOSE
from explorer.views import compare, session
from explorer.views.cached import cached_trace
from explorer.views.choose import chart, designs, latency, limits, published, table
from explorer.views.headline import title_with_buttons

view = session.view()
trace = cached_trace(view.config, view.image_size)
budget, own = limits.budget(), table.own_networks(view)
names = labels(compare.configs())
height = 320 if view.present else 400  # of table and chart, in pixels: both are on the first screen


def choice() -> None:
    """What fits, as a table and a chart, and the result that was clicked."""
    limits.verdict(budget, table.cached_rows(budget, own))
    left, right = st.columns([5, 4], gap="small")
    with left, st.container(key="choice", gap="small"):
        published.choose_result(trace)
        table.show(budget, own, designs.best(view, budget), height)
    with right, st.container(key="scatter", gap="small"):
        chart.chart(budget, height)
    below = f" [The {len(names)} that are ticked are compared below.](#compared)" if len(names) > 1 else ""
    st.caption(chart.words(budget) + below)
    published.clicked(trace)


title_with_buttons(CHOOSE, view.config)
limits.fields()
session.show_or_say(choice)
search = st.container()

st.header("Beside each other", anchor="compared")
compare.ready_comparisons()
compare.networks(names)
if len(names) > 1:
    traces = compare.traces()
    compare.remark(traces)
    compare.figures(traces, names)
    detail = compare.link_detail(len(traces))
    pair, both = compare.choose_pair(traces, names, detail)
    with st.container(border=True, key="bill card"):
        compare.bill(pair, both)
    compare.drawings(traces, names)
    compare.by_stage(traces, names, detail)
    compare.layers(pair, both, detail)
    latency.latency_panel(compare.configs(), traces[0].image_size)
session.show_or_say(published.findings, trace)
with search:  # last, so that all of the page is there while it takes long
    session.show_or_say(designs.panel, budget)

"""Two to six networks beside each other."""

import streamlit as st

from explorer.analysis.compare import labels
from explorer.navigation import COMPARE
from explorer.views import compare, latency
from explorer.views.headline import page_heading

page_heading(COMPARE)
compare.ready_comparisons()
names = labels(compare.configs())
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

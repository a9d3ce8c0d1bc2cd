"""Accuracy against cost: what is published, and where the current network stands."""

import streamlit as st

from explorer.figures.accuracy import COSTS
from explorer.navigation import ACCURACY
from explorer.views import accuracy, session, tabs
from explorer.views.cached import cached_trace
from explorer.views.headline import figures, heading

view = session.view()
trace = cached_trace(view.config, view.image_size)

heading(trace, ACCURACY)
figures(trace)
left, right = st.columns((2, 3))
with left:
    measure = tabs.segments("Against", list(COSTS), "against")
with right:  # above the chart, which fills a window
    accuracy.choose_result(trace)
    accuracy.clicked(trace)
with st.container(border=True, key="scatter"):
    accuracy.chart(trace, measure)
accuracy.findings(trace)

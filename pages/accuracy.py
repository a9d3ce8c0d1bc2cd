"""Accuracy against cost: what is published, and where the current network stands."""

import streamlit as st

from explorer import state
from explorer.accuracy_charts import COSTS
from explorer.views import accuracy
from explorer.views.cached import traced
from explorer.views.headline import figures, heading

view = state.view()
trace = traced(view.config, view.image_size)

heading(trace)
figures(trace)
measure = state.segments("Against", list(COSTS), "against")
with st.container(border=True, key="scatter"):
    accuracy.chart(trace, measure)
accuracy.words(trace)

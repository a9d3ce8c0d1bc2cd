"""The experiments behind residual networks, run on the spot."""

import streamlit as st

from explorer.navigation import EXPERIMENTS
from explorer.views import session, tabs
from explorer.views.cached import cached_trace
from explorer.views.experiments import degradation, gradients, identity, paths

PANELS = {
    "Degradation": degradation.panel,
    "Gradients": gradients.panel,
    "Shattered gradients": gradients.shattered_panel,
    "Paths": paths.panel,
    "Identity": identity.panel,
}
"""The experiments by the name of their tab; each takes the trace of the network that is shown."""

view = session.view()
trace = cached_trace(view.config, view.image_size)
st.title(EXPERIMENTS.title, anchor=False)
tabs.tabs(PANELS, trace)

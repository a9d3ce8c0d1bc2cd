"""The experiments behind residual networks, run on the spot."""

import streamlit as st

from explorer import state
from explorer.views import degradation, ensembles, gradients, identity
from explorer.views.cached import traced

PANELS = {
    "Degradation": degradation.panel,
    "Gradients": gradients.panel,
    "Shattered gradients": gradients.shattered,
    "Paths": ensembles.panel,
    "Identity": identity.panel,
}
"""The experiments by the name of their tab; each takes the trace of the network that is shown."""

view = state.view()
trace = traced(view.config, view.image_size)
st.title("Why it works", anchor=False)
state.tabs(PANELS, trace)

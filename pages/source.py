"""The network's own source beside notes on it."""

import streamlit as st

from explorer.views import session, source
from explorer.views.cached import cached_trace
from explorer.views.network import selected_layer
from resnet import title

view = session.view()
st.title("Annotated source", anchor=False)
st.caption(
    f"The lines that build and run {title(view.config)}, read from their files, beside notes on them. Faint lines are "
    "those that this network passes over. ×n: a line made n layers."
)
trace = cached_trace(view.config, view.image_size)
source.annotated_source(trace, selected_layer(trace, view.at))

"""The post, checked: what a blog post on ResNet claims, beside the numbers."""

import streamlit as st

from explorer.navigation import CLAIMS
from explorer.views import claims

st.title(CLAIMS.title, anchor=False)
st.caption(
    "“ResNet: annotated version”, a blog post of 2 February 2019, goes through torchvision's ResNet line by line. These are its claims in our own words. Every "
    "number is computed when this page runs. Links lead to the line that a claim is about, to the view where its numbers "
    "are seen, and to a change that puts it to the test."
)
claims.cards()

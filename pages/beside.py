"""Trained networks side by side."""

import streamlit as st

from explorer.navigation import BESIDE
from explorer.views import tabs
from explorer.views.beside import depth, image, lesions, networks, test_set
from explorer.views.headline import page_heading
from explorer.views.inference import images

PANELS = {
    "On this image": image.panel,
    "On the test set": test_set.panel,
    "By depth": depth.panel,
    "Blocks out and swapped": lesions.panel,
}
"""What can be looked at, by the name of its tab; each takes the networks and the images."""

page_heading(BESIDE)
chosen = networks.choose_networks()
with st.container(horizontal=True, vertical_alignment="center", key="images"):
    found = images.choose_images(True, st.container())
if chosen:
    tabs.tabs(PANELS, chosen, found)

"""Networks with weights side by side."""

import streamlit as st

from explorer.navigation import BESIDE
from explorer.views import tabs
from explorer.views.beside import depth, image, lesions, networks, several, test_set
from explorer.views.headline import page_heading
from explorer.views.inference import images

PANELS = {
    "On this image": image.panel,
    "On several images": several.panel,
    "On the test set": test_set.panel,
    "By depth": depth.panel,
    "Blocks out and swapped": lesions.panel,
}
"""What can be looked at, by the name of its tab; each takes the networks and the images."""

page_heading(BESIDE)
choice = networks.choose_networks()
with st.container(horizontal=True, vertical_alignment="center", key="images"):
    found = images.choose_images(True, st.container())
if choice.networks:
    tabs.tabs(PANELS, choice.networks, found)
networks.fetch_awaited(choice)  # last: whatever stands above is seen meanwhile, and after Stop

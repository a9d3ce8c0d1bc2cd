"""What a visitor sees: the sidebar and the pages. Streamlit runs it anew for every click."""

import os

import streamlit as st

from explorer.navigation import INSTALLED, PACKAGE, page
from explorer.views import session, sidebar

# Streamlit then watches `resnet`, too, and reloads it after an edit.
root, theirs = str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")
if not INSTALLED and root not in theirs.split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, theirs)))

st.set_page_config("ResNet Explorer", str(PACKAGE / "assets" / "icon.svg"), layout="wide", initial_sidebar_state=300)
st.html(PACKAGE / "assets" / "page.css")
pages = [
    st.Page(page("architecture"), title="Architecture", icon=":material/account_tree:", default=True),
    st.Page(page("inference"), title="Inference", icon=":material/image_search:"),
    st.Page(page("compare"), title="Compare", icon=":material/compare_arrows:"),
    st.Page(page("accuracy"), title="Accuracy and cost", icon=":material/scatter_plot:"),
    st.Page(page("kernels"), title="Kernels and blocks", icon=":material/grid_on:"),
    st.Page(page("experiments"), title="Why it works", icon=":material/science:"),
    st.Page(page("source"), title="Source", icon=":material/code:"),
    st.Page(page("claims"), title="The post, checked", icon=":material/fact_check:"),
]
chosen = st.navigation(pages, position="hidden")
session.open_link()
with st.sidebar:
    st.markdown("### ResNet Explorer")
    session.links(pages)
    sidebar.sidebar()
session.messages()
session.show_or_say(chosen.run)
session.write_link()  # the page may have settled the view

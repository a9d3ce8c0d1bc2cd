"""What a visitor sees: the sidebar and the pages. Streamlit runs it anew for every click."""

import os

import streamlit as st

from explorer.navigation import INFERENCE, INSTALLED, PACKAGE, PAGES
from explorer.views import session, sidebar, walk
from explorer.views.headline import browser_title
from explorer.views.inference import weights

# Streamlit then watches `resnet`, too, and reloads it after an edit.
root, theirs = str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")
if not INSTALLED and root not in theirs.split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, theirs)))

icon = str(PACKAGE / "assets" / "icon.svg")  # before st.navigation, which would fetch a page's icon from elsewhere
st.set_page_config("ResNet Explorer", icon, layout="wide", initial_sidebar_state=300)
pages = {page: st.Page(page.file, title=page.title, icon=page.icon, default=not page.path) for page in PAGES}
page = st.navigation([*pages.values()], position="hidden")
shown = next(one for one, its in pages.items() if its == page)
session.hold(page=shown)
session.open_link()
names = ("page", shown.name, *(["present"] if session.view().present else []))
sheets = [PACKAGE / "assets" / f"{name}.css" for name in names]
st.html(f"<style>{''.join(sheet.read_text(encoding='utf-8') for sheet in sheets if sheet.exists())}</style>")
on_inference = shown == INFERENCE
if on_inference:
    weights.greet()
st.set_page_config(browser_title(shown))
if not session.view().present:
    with st.sidebar:
        st.markdown("### ResNet Explorer")
        walk.links()
        if on_inference:
            weights.weights_list()
        if shown.shows_network(session.view().tab):
            sidebar.sidebar()
walk.bar()
session.messages()
session.show_or_say(page.run)
session.write_link()  # the page may have settled the view

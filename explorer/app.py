"""The app: `streamlit run explorer/app.py`."""

import gc
import os
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).parents[1]
# Before torch is imported: its threads sleep where they wait for each other. By default they spin, and where other people
# use the cores, a pass through a small network then takes up to fifty times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Streamlit then watches `resnet`, too, and reloads it after an edit.
theirs = os.environ.get("PYTHONPATH", "")
if str(ROOT) not in theirs.split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), theirs)))

from explorer import state  # noqa: E402


@st.cache_resource(max_entries=1, show_spinner=False)
def freeze_imports() -> None:
    """Take what the imports made, which is never garbage, out of what Python looks through for it."""
    gc.collect()
    gc.freeze()


st.set_page_config(
    "ResNet Explorer", str(ROOT / "explorer" / "assets" / "icon.svg"), layout="wide", initial_sidebar_state=300
)
freeze_imports()
st.html(ROOT / "explorer" / "assets" / "page.css")
pages = [
    st.Page("../pages/architecture.py", title="Architecture", icon=":material/account_tree:", default=True),
    st.Page("../pages/inference.py", title="Inference", icon=":material/image_search:"),
    st.Page("../pages/compare.py", title="Compare", icon=":material/compare_arrows:"),
    st.Page("../pages/accuracy.py", title="Accuracy and cost", icon=":material/scatter_plot:"),
    st.Page("../pages/kernels.py", title="Kernels and blocks", icon=":material/grid_on:"),
    st.Page("../pages/experiments.py", title="Why it works", icon=":material/science:"),
    st.Page("../pages/source.py", title="Source", icon=":material/code:"),
    st.Page("../pages/claims.py", title="The post, checked", icon=":material/fact_check:"),
]
page = st.navigation(pages, position="hidden")
state.open_link()
with st.sidebar:
    st.markdown("### ResNet Explorer")
    state.links(pages)
    state.sidebar()
state.messages()
state.show_or_say(page.run)
state.write_link()  # the page may have settled the view

"""Small experiments: kernel stacks, one block up close, a 1×1 convolution by hand."""

import streamlit as st

from explorer import state
from explorer.views import stacks

PARTS = {
    "Kernel stacks": stacks.kernel_stacks,
    "The block": stacks.one_block,
    "The 1×1 convolution": stacks.pointwise_by_hand,
}

st.title("Kernels and blocks", anchor=False)
st.caption("Why networks stack small kernels, what a bottleneck saves, and what a 1×1 convolution does.")
stacks.problem()
state.tabs(PARTS)

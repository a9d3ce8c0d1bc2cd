"""Small experiments: kernel stacks, one block up close, a 1×1 convolution by hand."""

import streamlit as st

from explorer.navigation import KERNELS
from explorer.views import kernels, tabs

PARTS = {
    "Kernel stacks": kernels.kernel_stacks,
    "The block": kernels.one_block,
    "The 1×1 convolution": kernels.pointwise_by_hand,
}

st.title(KERNELS.title, anchor=False)
st.caption("Why networks stack small kernels, what a bottleneck saves, and what a 1×1 convolution does.")
kernels.problem()
tabs.tabs(PARTS)

"""Small experiments: kernel stacks, one block up close, a 1×1 convolution by hand."""

from explorer.navigation import KERNELS
from explorer.views import kernels, tabs
from explorer.views.headline import page_heading

PARTS = {
    "Kernel stacks": kernels.kernel_stacks,
    "The block": kernels.one_block,
    "The 1×1 convolution": kernels.pointwise_by_hand,
}

page_heading(KERNELS)
kernels.problem()
tabs.tabs(PARTS)

"""The paper: each table and figure of He et al. 2015 beside what stands for it here."""

from explorer.navigation import PAPER
from explorer.views import paper
from explorer.views.headline import page_heading

page_heading(
    PAPER,
    "Our own words and the paper's numbers (https://arxiv.org/abs/1512.03385). **Reproduces**: the same numbers or the same order "
    "at the paper's scale. **In small**: the same effect in smaller networks on smaller images. **Not at this budget**: it does "
    "not show here, or what it takes is not here. What is computed is computed when this page runs.",
)
paper.cards()

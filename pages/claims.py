"""Claims checked: what a blog post on ResNet claims, beside the numbers."""

from explorer.navigation import CLAIMS
from explorer.views import claims
from explorer.views.headline import page_heading

page_heading(
    CLAIMS,
    "“ResNet: annotated version”, a blog post of 2 February 2019, goes through torchvision's ResNet line by line. These are its claims in our own words, and at the end one of Li et al. 2018. Every "
    "number is computed when this page runs. Links lead to the line that a claim is about, to the view where its numbers "
    "are seen, and to a change that puts it to the test.",
)
claims.cards()

"""The pages of the app: what each is called, and where it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parent
INSTALLED = (PACKAGE / "_pages").is_dir()
"""Whether this is an installed copy, which nobody edits: the pages are in it, and in a checkout beside it."""


@dataclass(frozen=True)
class Page:
    """`name` is its script's, without the ending, `icon` a Material symbol in Streamlit's words."""

    name: str
    title: str
    icon: str

    @property
    def file(self) -> Path:
        """The script."""
        return (PACKAGE / "_pages" if INSTALLED else PACKAGE.parent / "pages") / f"{self.name}.py"

    @property
    def path(self) -> str:
        """What a link has between the app's address and the query; the app itself opens on the first page."""
        return "" if self == PAGES[0] else self.name


ARCHITECTURE = Page("architecture", "Architecture", ":material/account_tree:")
INFERENCE = Page("inference", "Inference", ":material/image_search:")
COMPARE = Page("compare", "Compare", ":material/compare_arrows:")
ACCURACY = Page("accuracy", "Accuracy and cost", ":material/scatter_plot:")
KERNELS = Page("kernels", "Kernels and blocks", ":material/grid_on:")
EXPERIMENTS = Page("experiments", "Why it works", ":material/science:")
SOURCE = Page("source", "Source", ":material/code:")
CLAIMS = Page("claims", "The post, checked", ":material/fact_check:")

PAGES = (ARCHITECTURE, INFERENCE, COMPARE, ACCURACY, KERNELS, EXPERIMENTS, SOURCE, CLAIMS)
"""In the order of the menu."""

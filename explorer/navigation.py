"""The pages of the app: what each is called, and where it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parent
INSTALLED = (PACKAGE / "_pages").is_dir()
"""Whether this is an installed copy, which nobody edits: the pages are in it, and in a checkout beside it."""


LEARN, EXPLORE, DECIDE = "Learn", "Explore", "Decide"
"""What a person comes for: the groups of the menu, in its order."""


@dataclass(frozen=True)
class Page:
    """`name` is its script's, without the ending, `icon` a Material symbol in Streamlit's words.

    `purpose` is one sentence on what the page is for; `of_network` whether it shows the network that the link holds, and
    `apart` are the tabs of such a page that do not, "" for the one that is open at first. Links that have one of the `former`
    names in the place of its path lead to it, each to the heading with its anchor, "" for the top.
    """

    name: str
    title: str
    icon: str
    group: str
    purpose: str
    of_network: bool = True
    apart: tuple[str, ...] = ()
    former: tuple[tuple[str, str], ...] = ()

    def shows_network(self, tab: str) -> bool:
        """Whether a tab shows the network that the link holds, so that it changes with it."""
        return self.of_network and tab not in self.apart

    @property
    def file(self) -> Path:
        """The script."""
        return (PACKAGE / "_pages" if INSTALLED else PACKAGE.parent / "pages") / f"{self.name}.py"

    @property
    def path(self) -> str:
        """What a link has between the app's address and the query; the app itself opens on Start."""
        return "" if self == START else self.name


START = Page(
    "start",
    "Start",
    ":material/home:",
    LEARN,
    "Residual networks to understand, to take apart and to choose from.",
    of_network=False,
)
EXPERIMENTS = Page(
    "experiments",
    "Why it works",
    ":material/science:",
    LEARN,
    "Deeper plain networks train worse, and shortcuts mend it: experiments on why, with networks that ship and with yours.",
    apart=("", "Degradation"),
)
KERNELS = Page(
    "kernels",
    "Kernels and blocks",
    ":material/grid_on:",
    LEARN,
    "Why networks stack small kernels, what a bottleneck saves, and what a 1×1 convolution does.",
    of_network=False,
)
SOURCE = Page(
    "source",
    "Source",
    ":material/code:",
    LEARN,
    "The code that builds and runs the network, beside notes on its lines.",
)
CLAIMS = Page(
    "claims",
    "Claims checked",
    ":material/fact_check:",
    LEARN,
    "What a blog post says of residual networks, beside the numbers that decide it.",
    of_network=False,
)
PAPER = Page(
    "paper",
    "The paper",
    ":material/article:",
    LEARN,
    "Each table and figure of He et al. 2015 beside what stands for it here.",
    of_network=False,
)
ARCHITECTURE = Page(
    "architecture",
    "Architecture",
    ":material/account_tree:",
    EXPLORE,
    "What the network is made of: every layer's shape, parameters, MACs and receptive field.",
)
INFERENCE = Page(
    "inference",
    "Inference",
    ":material/image_search:",
    EXPLORE,
    "What the network says of an image, and what each layer makes of it on the way.",
)
BESIDE = Page(
    "beside",
    "Side by side",
    ":material/view_column_2:",
    EXPLORE,
    "Two to four networks with weights on the same images: what each says, and where in depth they part.",
    of_network=False,
)
CHOOSE = Page(
    "choose",
    "Choose",
    ":material/scatter_plot:",
    DECIDE,
    "Which network fits a budget at your image size: what each costs, and what was measured of it.",
    former=(("compare", "compared"), ("accuracy", "")),
)

PAGES = (START, EXPERIMENTS, KERNELS, SOURCE, CLAIMS, PAPER, ARCHITECTURE, INFERENCE, BESIDE, CHOOSE)
"""In the order of the menu."""

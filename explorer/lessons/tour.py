"""A tour of the app in the order of the paper's argument: stops on the real pages, each with one sentence."""

from __future__ import annotations

from typing import NamedTuple

from resnet import ResNetConfig, preset

from ..link import TOUR_STOPS, View, natural_size
from ..navigation import ARCHITECTURE, CHOOSE, EXPERIMENTS, INFERENCE, KERNELS, SOURCE, START, Page
from .notes import NOTES


class Stop(NamedTuple):
    """A page, what it shows there, what the stop is called, and a sentence on what to look at."""

    page: Page
    view: View
    title: str
    words: str


def shown(name: str, **chosen: str) -> View:
    """A preset at its usual size, with what is chosen on a page."""
    config = preset(name)
    return View(config, natural_size(config), **chosen)  # type: ignore[arg-type]


A, B, C = (ResNetConfig(block="basic", shortcut=option) for option in "ABC")
BASIC_BLOCK = next(note.key for note in NOTES if note.title == "The basic block")

STOPS = (
    Stop(
        EXPERIMENTS,
        shown("resnet56"),
        "Degradation",
        "The plain network of 56 layers ends above that of 20 on the very images they learn; with shortcuts it does not.",
    ),
    Stop(
        ARCHITECTURE,
        shown("resnet34", at="layer1.1.add"),
        "A block",
        "Two convolutions compute F(x), and the ⊕ adds x, which went past them: the block learns a difference.",
    ),
    Stop(
        CHOOSE,
        View(A, others=(B, C), at="layer2.0"),
        "Where shapes differ",
        "Where a stage begins, x has another shape than F(x): option A pads it with zeros, B projects there, C everywhere.",
    ),
    Stop(
        KERNELS,
        shown("resnet50", tab="The block"),
        "The bottleneck",
        "Two 1×1 convolutions around a narrow 3×3 make a block of many channels as cheap as a basic one of few.",
    ),
    Stop(
        START,
        View(),
        "Table 1",
        "The five networks of the paper are these two blocks, repeated; a cell opens its stage.",
    ),
    Stop(
        INFERENCE,
        shown("resnet20_fashion", image="0000-ankle-boot", at="layer2.0.conv1"),
        "An image through it",
        "A trained network looks at an ankle boot: choose a block, and see what its channels make of the image.",
    ),
    Stop(
        SOURCE,
        shown("resnet34", at="layer1.1.add", tab=BASIC_BLOCK),
        "The code",
        "The block again, as code: the lines that compute F(x) and add x, with how often this network runs them.",
    ),
)
assert len(STOPS) == TOUR_STOPS

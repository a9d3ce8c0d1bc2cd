"""`list` and `search`: networks that fit a budget, those that have a name and designs of a space."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer
from typer.models import OptionInfo

from .parameters import AsJson, Format, Output, Scheduler, Size, amount, parse_view, presets

if TYPE_CHECKING:
    from ..analysis.search import Limits, Part
    from ..analysis.space import Space
    from ..link import View


def limit(most: str) -> OptionInfo:
    """The option for a limit on `most`."""
    return typer.Option(parser=amount, metavar="AMOUNT", show_default=False, help=f"At most so many {most}.")


ImageSize = Annotated[str, typer.Option(metavar="PIXELS", help="Image size: 224, or 320x640 (height × width).")]
MaxMacs = Annotated[int | None, limit("multiply-adds for one image: 5e9, or 5G")]
MaxParams = Annotated[int | None, limit("parameters: 30e6, or 30M")]
MaxMemory = Annotated[
    int | None, limit("bytes of feature maps at once in a forward pass in fp32, weights not counted: 64MiB")
]


def budget(
    size: str | None, macs: int | None, params: int | None, memory: int | None, view: View | None = None
) -> Limits:
    """The limits that were given, else those of a link's view.

    Raises:
        ConfigError: for a size that is not accepted, and for limits of the link that are not.
    """
    from resnet import ConfigError
    from resnet.sizes import MAX_IMAGE_SIDE

    from ..analysis.choose import Budget
    from ..analysis.search import Limits
    from ..link import View, parse_size

    view = view or View()
    sides = view.image_size if size is None else parse_size(size)
    if not 1 <= min(sides) <= max(sides) <= MAX_IMAGE_SIDE:
        accepted = f"1 to {MAX_IMAGE_SIDE} pixels a side, as one number or as height and width such as 320x640"
        raise ConfigError("size", size, accepted)
    linked = Budget.from_text(view.limits)
    return Limits(sides, macs or linked.macs, params or linked.params, memory or linked.memory)


def parse_space(text: str) -> tuple[View, Space]:
    """The view of the network that the text of a space begins with, and the designs around it: along the axes of its link, then
    along those of the text.

    Raises:
        ConfigError: for anything in the text that is not accepted.
        WeightsError: as `parse_view`.
    """
    from ..analysis.space import Space
    from ..link import View

    words = text.split()
    begins = "=" not in words[0] or words[0].startswith("preset=") or re.search(r"[?&]|://", words[0])
    view = parse_view(words.pop(0), None) if begins else View()
    return view, Space.around(view.config, " ".join([view.space, *words]))


def list_(
    size: ImageSize = "224",
    max_macs: MaxMacs = None,
    max_params: MaxParams = None,
    max_memory: MaxMemory = None,
    form: Format = None,
    json: AsJson = False,
    output: Output = None,
) -> None:
    """Print which presets fit a budget at an image size.

    Below them stand the nearest of the others: why they do not fit, and what they would fit with.

    \b
    resnet-explorer list --max-macs 2e9
    resnet-explorer list --size 320x640 --max-macs 5e9 --max-params 30e6
    resnet-explorer list --size 192 --max-macs 4G --max-memory 8MiB --json

    --json prints one object with all presets; its units are those of `summary --json`:

    \b
    schema              1; another number for another form
    limits              {image_size, macs, parameters, memory}: null without one
    networks            [{name, title, preset, config, image_size, depth,
                        parameters, macs, memory: {peak, training},
                        receptive_field, over}]: those within the limits, then
                        the nearest first; without figures where an image of this
                        size is too small for the network
    over                [{limit, value, ratio}]: the limits that it is over, its
                        own value, and how many times the limit that is
    """
    from ..analysis.search import fits
    from .documents.list import Listed

    Listed(fits(budget(size, max_macs, max_params, max_memory))).write_as(form, json, output)


def search(
    space: Annotated[
        str,
        typer.Argument(
            metavar="SPACE",
            autocompletion=presets,
            show_default=False,
            help="A preset's name, a link, or the part of it after the question mark; then options with their values, such as "
            "groups=1,32.",
        ),
    ],
    size: Size = None,
    max_macs: MaxMacs = None,
    max_params: MaxParams = None,
    max_memory: MaxMemory = None,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Print only the designs that no other one beats by all goals.")
    ] = False,
    goals: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            show_default=False,
            help="Of --pareto, more (+) or less (-) of params, macs, memory, training, moved, field, depth, pixels. Without it "
            "+params -macs -memory.",
        ),
    ] = "",
    scheduler: Scheduler = None,
    form: Format = None,
    json: AsJson = False,
    output: Output = None,
) -> None:
    """Print the designs of a space that fit a budget.

    A space is a network and the values that its options take; every combination is a design. Values are joined by commas. A
    number may be a range, 2..6, or one with a step, 32..128/32. `size` is an option too and goes before --size. Designs that
    cannot be built are counted and left out. A link of Choose brings its designs, its limits and its size; those that are typed
    go before the last two.

    \b
    resnet-explorer search 'resnet50 layers=1..3-1..4-1..6-1..3' --max-macs 2e9
    resnet-explorer search 'resnet18 planes=32..64/16-64..128/32-128-256 attention=none,se' --size 64x96 --pareto
    resnet-explorer search 'resnet50 groups=1,32 base_width=4,64 size=160,224' --pareto --goals '+depth -macs' --json
    resnet-explorer search '?preset=resnet50&space=groups%3D1%2C32&limits=macs-4200000000' --size 192

    --json prints one object; its units are those of `summary --json`:

    \b
    schema              1; another number for another form
    limits              as in `list --json`
    space               the space, as it can be typed again
    designs             {all, within, over, invalid}: how many there are, are
                        within the limits, are over one, cannot be built
    goals               of --pareto, or null
    networks            [{index, query, title, preset, config, image_size,
                        depth, parameters, macs, memory: {peak, training},
                        receptive_field}], in the order of the space; index is
                        the place in it, query what a NETWORK is typed as
    """
    from ..analysis.search import GOALS, joined, parse_goals, parts
    from ..analysis.search import pareto as unbeaten
    from .documents.search import Searched
    from .progress import progress

    if not space.strip():
        raise typer.BadParameter(
            "SPACE is empty: a network is accepted, then options with their values such as groups=1,32"
        )
    view, designs = parse_space(space)
    limits = budget(size, max_macs, max_params, max_memory, view)
    asked = goals or (GOALS if pareto else "")
    if asked:
        parse_goals(asked)  # a mistake is said before the work
    with (
        progress("designs", len(designs)) as advance,
        nullcontext() if scheduler is None else scheduler.executor() as workers,
    ):

        def watched() -> Iterator[Part]:
            for part in parts(designs, limits, workers):
                advance("designs", part.stop - part.start)
                yield part

        found = joined(watched())
    shown = unbeaten(found.candidates, asked) if asked else found.candidates
    Searched(designs, limits, found, shown, asked).write_as(form, json, output)

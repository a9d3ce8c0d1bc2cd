"""What several subcommands take, how it is completed in a shell, and how lists are written."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.models import OptionInfo

from resnet.options import plain
from resnet.owner import SCHEDULER

from ..units import AN_AMOUNT, read_amount
from .progress import fetched_model

if TYPE_CHECKING:
    from ..link import View
    from ..sharing.engine import Engine, Run, RunEach

LISTS = ("--steps", "--seeds", "--only", "--attacks", "--calibrate")
"""The options that take several values: `--steps 200 1000`."""


def repeat_list_options(arguments: Sequence[str]) -> list[str]:
    """A command line whose lists name their option before every value, as Typer reads them.

    `--steps 200 1000` becomes `--steps 200 --steps 1000`.
    """
    found: list[str] = []
    option = ""
    for word in arguments:
        if re.match("-[^0-9]", word):  # a short one too, and no negative number
            option = word
        elif option in LISTS and found[-1] != option:
            found.append(option)
        found.append(word)
    return found


def whole_number(text: str) -> int:
    """A whole number, of no more digits than anybody means.

    Raises:
        BadParameter: for other text.
    """
    if not re.fullmatch(r"-?[0-9]{1,100}", text):
        raise typer.BadParameter(f"{plain(text) or '(empty)'} is not a whole number")
    return int(text)


def between(least: int, most: int, text: str) -> int:
    """A whole number in a range.

    Raises:
        BadParameter: for another.
    """
    if not least <= (number := whole_number(text)) <= most:
        raise typer.BadParameter(f"{text} is not a whole number from {least} to {most:,}")
    return number


def amount(text: str) -> int:
    """A whole number as people write it: 5000000000, 5e9, 5G, 256MiB.

    Raises:
        BadParameter: for other text, and for what is not above 0.
    """
    try:
        return read_amount(text)
    except ValueError as error:
        raise typer.BadParameter(f"{plain(text) or '(empty)'} is not {AN_AMOUNT}") from error


def presets(incomplete: str) -> list[str]:
    """The names of presets that begin as what was typed does."""
    from resnet.presets import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


def parse_view(text: str, size: str | None) -> View:
    """The view of what `parse_network` reads, at `size` if that is given. A network that a link leaves to the hub is asked for there,
    as the app does: by its weights, which are downloaded.

    Raises:
        ConfigError: for an unknown name or a value that is not accepted.
        WeightsError: for weights of the hub that cannot be had.
    """
    from resnet.sizes import check_image_size

    from ..link import View, left_to_hub, network_query, parse_size

    query = network_query(text)
    if left_to_hub(query):
        from ..inference.weights import of_hub

        query |= of_hub(query["weights"], fetched_model).network.config.to_query()
    seen = View.from_query(query)
    return seen if size is None else replace(seen, image_size=check_image_size(seen.config, parse_size(size)))


Network = Annotated[
    str,
    typer.Argument(
        metavar="NETWORK",
        autocompletion=presets,
        show_default=False,
        help="A preset's name, a link, or the part of it after the question mark.",
    ),
]
Size = Annotated[
    str | None,
    typer.Option(metavar="PIXELS", help="Image size: 224, or 224x320 (height × width). Without it the network's own."),
]
Output = Annotated[
    Path | None, typer.Option(parser=Path, metavar="FILE", help="File to write, UTF-8. Without it, standard output.")
]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        parser=Path,
        metavar="FOLDER",
        show_default=False,
        help="Folder with Fashion-MNIST's idx files. Without it they are downloaded.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with every number in full.")]
FormName = Literal["csv", "json", "latex", "markdown"]
"""The names of `export.tables.FORMS`."""
Format = Annotated[
    FormName | None,
    typer.Option(
        "--format",
        metavar="FORM",
        show_default=False,
        help="Print the table alone, to take away: csv, json (with its JSON Schema), markdown, or latex (for booktabs).",
    ),
]


def scheduler(text: str) -> Engine:
    """The cluster whose scheduler is at an address.

    Raises:
        BadParameter: for other text.
    """
    from resnet.options import ConfigError
    from resnet.owner import scheduler_address

    from ..sharing.engine import Engine

    try:
        return Engine(scheduler_address(text, "--scheduler"))
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None


def run_by(engine: Engine | None) -> Run:
    """Where a command has its work done: on the cluster that `--scheduler` names, else in this process."""
    from ..sharing.engine import here

    return here if engine is None else partial(engine.run_on, lost=say_lost)


def run_each_by(engine: Engine | None) -> RunEach:
    """As `run_by`, of work in several pieces: on a cluster they are done side by side."""
    from ..sharing.engine import each_here

    return each_here if engine is None else partial(engine.run_each, lost=say_lost)


def say_lost(error: Exception) -> None:
    """Say what was lost, and what comes of it."""
    print(f"explorer: {error}; what it was at begins anew, and what was there stays", file=sys.stderr)


Scheduler = Annotated[
    Any,
    typer.Option(
        parser=scheduler,
        envvar=SCHEDULER,
        metavar="ADDRESS",
        show_default=False,
        help="Dask scheduler whose workers do it, such as tcp://127.0.0.1:8786. Without it, this process does.",
    ),
]


def results_file(instead: str) -> OptionInfo:
    """The option for the file that results are written into, which is `instead` where none is named."""
    words = f"File to write. Without it {instead} in the current folder."
    return typer.Option(parser=Path, metavar="FILE", show_default=False, help=words)

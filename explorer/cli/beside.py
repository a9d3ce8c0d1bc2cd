"""`beside`: the networks that ship, beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .parameters import Scheduler, results_file, run_by, whole_number


def beside(
    draws: Annotated[
        int | None,
        typer.Option(parser=whole_number, metavar="COUNT", show_default=False, help="By chance. Without it 10."),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            parser=whole_number,
            metavar="COUNT",
            show_default=False,
            help="Test images for disturbed networks. Without it 500.",
        ),
    ] = None,
    scheduler: Scheduler = None,
    output: Annotated[Path | None, results_file("beside.json")] = None,
) -> None:
    """Measure how alike the blocks of the networks that ship are, and what they lose with ever more blocks taken out or swapped, up
    to all that can be, and with images moved by a few pixels.

    The results are written into a file.

    \b
    resnet-explorer beside
    resnet-explorer beside --draws 15 --images 500 --output results.json
    resnet-explorer beside --output explorer/samples/beside.json
    """
    from resnet.shipped import BUNDLED

    from ..experiments.beside import DISTURBED, DRAWS, RESULTS, record
    from .progress import progress

    path = output or Path(RESULTS.name)
    count = DRAWS if draws is None else draws
    total = len(BUNDLED) * count
    with progress("draws", total) as advance:
        for what in record(path, count, DISTURBED if images is None else images, run=run_by(scheduler)):
            advance(what)
    print(f"{total} draws written to {path}")

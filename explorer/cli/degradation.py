"""`degradation`: plain and residual networks, trained side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .parameters import AsJson, Scheduler, results_file, run_each_by, whole_number
from .progress import watch


def degradation(
    steps: Annotated[
        list[int] | None,
        typer.Option(parser=whole_number, metavar="COUNT", show_default=False, help="Steps of each network."),
    ] = None,
    seeds: Annotated[
        list[int] | None,
        typer.Option(
            parser=whole_number,
            metavar="SEED",
            show_default=False,
            help="Seeds, with each of which they are trained. Without it 0, 1 and 2.",
        ),
    ] = None,
    settings: Annotated[
        str, typer.Option(metavar="TEXT", show_default=False, help="The rest, as in a link: deep-110_rate-0.1.")
    ] = "",
    scheduler: Scheduler = None,
    json: AsJson = False,
    output: Annotated[Path | None, results_file("degradation.json, or with --cut fashion-train.npz,")] = None,
    cut: Annotated[
        Path | None,
        typer.Option(
            parser=Path,
            metavar="FOLDER",
            show_default=False,
            help="Cut the training images from the set's idx files instead.",
        ),
    ] = None,
) -> None:
    """Train plain and residual networks side by side.

    What came out is printed, and the runs are written into a file. On a cluster as many run side by side as it has workers.

    \b
    resnet-explorer degradation --steps 200 1000 --seeds 0 1 2
    resnet-explorer degradation --settings deep-110_rate-0.1 --output deep.json
    resnet-explorer degradation --scheduler tcp://127.0.0.1:8786
    resnet-explorer degradation --cut FOLDER

    --json prints one object:

    \b
    schema              1; another number for another form
    file                where the runs were written, with every step
    seeds               with which each network was trained
    runs                [{steps, settings, networks}]: settings as in a link,
                        without the steps' number where it is the default
    networks            [{name, kind, depth, loss, accuracy, seconds}] over the
                        seeds: training loss at the end, share of test images
    loss, accuracy, seconds
                        {mean, low, high}
    """
    from ..experiments.degradation import IMAGE_COUNT, IMAGES, RUNS, Settings, from_json, record, write_training_images
    from .documents.degradation import Degradation

    if cut is not None:
        if json:
            raise typer.BadParameter("--json prints what runs came to, and --cut makes none")
        path = output or Path(IMAGES.name)
        write_training_images(cut, path)
        print(f"{IMAGE_COUNT:,} images written to {path}")
        return
    path, every, starts = output or Path(RUNS.name), steps or [Settings().steps], seeds or [0, 1, 2]
    taken = record(every, starts, path, Settings.from_text(settings), run_each_by(scheduler))
    names = (f"{given.networks[step.network].name}, seed {given.seed}" for given, step in taken)
    watch(names, "steps", len(starts) * 4 * sum(every))
    Degradation(from_json(path.read_text(encoding="utf-8")).groups, path).write(json, None)

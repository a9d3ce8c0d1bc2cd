"""`checkpoint`: what a checkpoint file is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from resnet.options import plain

from .parameters import AsJson, Output


class Answer(NamedTuple):
    """What a person says of a checkpoint, NAME=VALUE."""

    name: str
    value: str


def answer(text: str) -> Answer:
    """The name and the value of NAME=VALUE.

    Raises:
        BadParameter: for other text, and the name of what is never asked.
    """
    from resnet.checkpoint import OTHER_QUESTIONS
    from resnet.config import OPTIONS

    name, equals, value = text.partition("=")
    if not equals or name not in {*OPTIONS, *OTHER_QUESTIONS}:
        others = ", ".join(OTHER_QUESTIONS)
        raise typer.BadParameter(
            f"{plain(text, 80) or '(empty)'} is no answer such as stem_pool=none: an option of a configuration or {others} "
            "has a value"
        )
    return Answer(name, value)


Answers = Annotated[
    list[Answer] | None,
    typer.Option(
        "--answer",
        parser=answer,
        metavar="NAME=VALUE",
        show_default=False,
        help="What no tensor of a checkpoint shows, such as stem_pool=none; once for each.",
    ),
]


def checkpoint(
    file: Annotated[
        str, typer.Argument(metavar="FILE", show_default=False, help="A checkpoint, or the index beside its shards.")
    ],
    answers: Answers = None,
    json: AsJson = False,
    output: Output = None,
) -> None:
    """Print which residual network a checkpoint file holds.

    Nothing in the file is run: its tensors' names and shapes are read. What they do not show is assumed, and answered by
    --answer where something else is right.

    \b
    resnet-explorer checkpoint resnet50.pth
    resnet-explorer checkpoint model.safetensors --json
    resnet-explorer checkpoint cifar.pt --answer stem_pool=max --answer activation=silu

    --json prints one object:

    \b
    schema              1; another number for another form
    file                its name
    title, preset       what to call the network; its preset's name, or null
    config              its options, without those at their default
    query               what a NETWORK is typed as
    declared            whether the file itself says its configuration
    depth, parameters   of the network
    classes             null where it has no classifier that reads the network
    left_out            what else stands in the file, by prefix
    questions           [{name, assumed, choices, tell}]: what no tensor shows,
                        the value that is taken, all that fit, how to tell
    notes               what was done, in sentences
    not_finite          its tensors with NaN or infinity, which do not run
    data, preprocessing
                        what it is taken to be trained on, and {size, resize,
                        fit, bright_on_dark, interpolation, mean, std} of images
    tensors             [{name, shape, stored_as}]: by the network's names; what
                        the file calls it, null where it does not hold it
    """
    from resnet import open_checkpoint

    from .documents.checkpoint import Checkpoint

    path, given = Path(file), dict(answers or ())
    if not file:
        raise typer.BadParameter("FILE is empty: the path of a checkpoint is accepted")
    if len(given) < len(answers or ()):
        raise typer.BadParameter("a question is answered twice by --answer: once is accepted")
    Checkpoint(path.name, open_checkpoint(path, **given), given).write(json, output)

"""`predict`: what a network takes images for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .parameters import AsJson, Output, parse_view, presets
from .progress import fetched, fetched_model, progress

if TYPE_CHECKING:
    from ..inference.weights import Chosen


def chosen_network(network: str | None, weights: str | None, size: str | None) -> Chosen:
    """The network that is asked for, with its weights and their preprocessing at the size that is asked for.

    Raises:
        BadParameter: where neither is named.
        ExplainedError: for a network, weights or a size that are not accepted.
    """
    from resnet.sizes import check_image_size

    from ..inference.weights import with_own_network, with_weights
    from ..link import parse_size

    if network is None and weights is None:
        raise typer.BadParameter("name weights by --weights, such as resnet50.a1_in1k, or a network by --network")
    sides = None
    if network is not None:
        view = parse_view(network, size)
        sides = view.image_size if view.image_size != view.natural_size else None
        choice = view.weights if weights is None else weights
        chosen = with_weights(view.config, view.image_size, choice, fetched, fetched_model)
    else:
        chosen = with_own_network(weights or "", fetched, fetched_model)
    if size is not None:
        sides = check_image_size(chosen.network.config, parse_size(size))
    return chosen._replace(weights=chosen.weights.at(sides)) if sides else chosen


def predict(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", show_default=False, help="Files of images, such as JPEG or PNG.")
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHTS",
            show_default=False,
            help="Weights with their network: a checkpoint file, a name such as resnet50.a1_in1k or resnet50.IMAGENET1K_V2, "
            "resnet20_fashion, or a model of the Hugging Face hub such as microsoft/resnet-50. With --network those that "
            "`export` takes.",
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NETWORK",
            autocompletion=presets,
            show_default=False,
            help="A preset's name, a link, or the part of it after the question mark. Without it the weights' own.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="PIXELS", help="Image size: 224, or 224x320 (height × width). Without it the weights' own."
        ),
    ] = None,
    json: AsJson = False,
    output: Output = None,
) -> None:
    """Print what a network takes images for: five classes of each, with their probabilities.

    Images are prepared as the weights ask for. One that cannot be read is left out: the others are printed, then a sentence
    names it, and the exit status is 2.

    \b
    resnet-explorer predict dog.jpg --weights resnet50.a1_in1k
    resnet-explorer predict *.png --weights mine.pth --json
    resnet-explorer predict dog.jpg --weights microsoft/resnet-50
    resnet-explorer predict shoe.png --weights resnet20_fashion
    resnet-explorer predict dog.jpg --network resnet50 --weights IMAGENET1K_V2 --size 288

    --json prints one object:

    \b
    schema              1; another number for another form
    title, preset       what to call the network; its preset's name, or null
    config              its options, without those at their default
    weights             what they are, in words
    data                what they were trained on
    preprocessing       of images: {size, resize, fit, bright_on_dark,
                        interpolation, mean, std}, as in `checkpoint --json`
    device              where it ran
    notes               what was done and assumed, in sentences
    images              [{image, inverted, classes, problem}]: a path, whether
                        its brightness was inverted first, and null, or why
                        there are no classes
    classes             [{number, name, probability}], the best first
    """
    from resnet.errors import ExplainedError

    from ..inference.classify import classified
    from ..inference.device import devices
    from ..inference.weights import check_predicts
    from .documents.predict import Prediction

    chosen = chosen_network(network, weights, size)
    check_predicts(chosen)
    device = devices()[0]
    chosen = chosen._replace(network=device.network(chosen.network))
    found = []
    with progress("images", len(images)) as advance:
        for image in images:
            found.append(classified(image, chosen, device))
            advance("images")
    problems = [one for one in found if one.problem]
    if len(problems) < len(found):
        Prediction(found, chosen, device).write(json, output)
    if problems:
        left_out = f"{len(problems)} of {len(found)} images are left out. " if len(problems) > 1 else ""
        raise ExplainedError(left_out + " ".join(f"{one.image}: {one.problem}" for one in problems))

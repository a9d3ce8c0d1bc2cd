"""`summary` and `compare`: a network's layers and costs, and what differs between networks."""

from __future__ import annotations

from typing import Annotated

import typer

from .parameters import AsJson, Format, Network, Output, Size, parse_view, presets


def summary(
    network: Network, size: Size = None, form: Format = None, json: AsJson = False, output: Output = None
) -> None:
    """Print the layer table and the totals.

    \b
    resnet-explorer summary resnet50
    resnet-explorer summary ResNet-50d --size 28
    resnet-explorer summary 'block=basic&layers=2-2-2-2' --json
    resnet-explorer summary resnet18 --format latex

    --json prints one object. Sizes are height and width in pixels, memory is in bytes for one image in fp32, MACs are
    multiply-adds of convolutions and linear layers for one image, receptive fields are {size, effective_stride, start} in pixels:

    \b
    schema              1; another number for another form
    title, preset       what to call it; its preset's name, or null
    config              its options, without those at their default
    image_size, depth
    parameters, macs
    memory              {peak, peak_at, least, training}: the most at once and
                        after which layer, the least possible, kept for training
    receptive_field     of the last stage
    remarks             what the figures alone do not say, in sentences
    layers              [{name, operation, part, inputs, output, kernel, stride,
                        padding, dilation, groups, parameters, macs,
                        receptive_field}], in order of execution
    """
    from ..analysis.trace import trace
    from .documents.summary import Summary

    seen = parse_view(network, size)
    Summary(trace(seen.config, seen.image_size)).write_as(form, json, output)


def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            autocompletion=presets,
            show_default=False,
            help="A preset's name, a link, or the part of it after the question mark.",
        ),
    ],
    b: Annotated[
        str, typer.Argument(metavar="B", autocompletion=presets, show_default=False, help="The other network.")
    ],
    others: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="C", autocompletion=presets, show_default=False, help="More networks, up to six in all."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="PIXELS", help="Image size of all: 224, or 224x320. Without it the first network's."),
    ] = None,
    form: Format = None,
    json: AsJson = False,
    output: Output = None,
) -> None:
    """Print what differs between two networks, and why; of more, between each and the first.

    \b
    resnet-explorer compare resnet34 resnet50
    resnet-explorer compare resnet50 wide_resnet50_2 resnext50_32x4d
    resnet-explorer compare resnet50 'preset=resnet50&shortcut=D' --size 320
    resnet-explorer compare resnet50_v1 resnet50 --json

    --json prints one object; its units are those of `summary --json`, and differences are B minus A:

    \b
    schema              1; another number for another form
    image_size          of all
    a, b                what `summary --json` says of each, without its layers
    difference          {parameters, macs, bytes, receptive_field}; bytes of all
                        layers' outputs, receptive field in pixels a side
    layers              [{name, a, b, output_a, output_b, parameters, macs,
                        bytes, receptive_field}] of those that differ; null where
                        a network has no such layer
    bill                [{options, change, parameters, macs, bytes,
                        receptive_field}]: the difference by changed option, in
                        the order in which they are applied
    others              [{b, difference, layers, bill}] of the third network and
                        those after it, each against the first
    """
    from ..analysis.compare import common_size
    from ..analysis.compare import compare as compared
    from ..link import MAX_OTHERS
    from .documents.compare import Compared

    if len(others or ()) >= MAX_OTHERS:
        raise typer.BadParameter(f"{len(others or ()) + 2} networks are compared: up to {MAX_OTHERS + 1} are accepted")
    first, *rest = (parse_view(text, size) for text in (a, b, *(others or ())))
    configs = [view.config for view in rest]
    sides = common_size((first.config, *configs), first.image_size)
    Compared(tuple(compared(first.config, config, image_size=sides) for config in configs)).write_as(form, json, output)

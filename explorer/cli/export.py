"""`export`: the network in another form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from resnet.command import writable, write
from resnet.options import plain

from .parameters import Network, Size, parse_view

if TYPE_CHECKING:
    from torch import Tensor

    from resnet import ResNetConfig
    from resnet.weights import Weights

    from ..analysis.trace import Trace
    from ..export.files import Made
    from ..export.libraries import Call
    from ..inference.weights import Chosen
    from ..link import View

Kind = Literal[
    "code", "csv", "dot", "json", "onnx", "pdf", "png", "pt2", "py", "safetensors", "svg", "timm", "torchvision"
]


def table(traced: Trace) -> str:
    """The layer table, as CSV."""
    return traced.frame().to_csv(index=False, lineterminator="\n")


def graph(traced: Trace) -> str:
    """The graph, in DOT."""
    from ..drawing import dot

    return dot.graph(traced).source


def drawing(traced: Trace, kind: str) -> bytes:
    """The diagram, as SVG, PDF or PNG."""
    from ..drawing import network
    from ..export import drawings
    from ..link import View, origin

    drawn, says = network.overview(traced), origin(View(traced.config, image_size=traced.image_size))
    if kind == "svg":
        return f"{drawings.svg(drawn, says)}\n".encode()
    return (drawings.pdf if kind == "pdf" else drawings.png)(drawn, says)


def code(traced: Trace) -> str:
    """Python that needs torch alone."""
    from ..export.code import code

    return code(traced.config)


EXPORTS: dict[str, Callable[[Trace], str]] = {
    "code": code,
    "csv": table,
    "dot": graph,
    "json": lambda traced: traced.config.to_json() + "\n",
    "py": lambda traced: traced.config.to_code(),
    "svg": lambda traced: drawing(traced, "svg").decode(),
}
"""What every network can be as text: code that stands alone, the layer table, the graph, the configuration, code that builds
it with this package, the drawing."""


def timm(config: ResNetConfig) -> Call:
    from ..export.libraries import timm_call

    return timm_call(config)


def torchvision(config: ResNetConfig) -> Call:
    from ..export.libraries import torchvision_call

    return torchvision_call(config)


CALLS: dict[str, Callable[[ResNetConfig], Call]] = {"timm": timm, "torchvision": torchvision}
"""Libraries whose own call is a form of the networks that they can build."""


PICTURES = ("pdf", "png")
"""What else shows the drawing, by the extra `pdf`."""
WITH_WEIGHTS = ("onnx", "pt2", "safetensors")
"""What holds weights too: `export.files.FORMS`."""


def in_int8(images: Sequence[str], chosen: Chosen, view: View, says: Mapping[str, str]) -> Made:
    """ONNX in integers of 8 bits, calibrated on the images at some paths, without them on those that ship.

    Raises:
        ExplainedError: for an image that cannot be read, and as `int8.model` does.
    """
    from ..export import int8
    from ..export.files import Made

    weights = chosen.weights.at(view.image_size)
    given = calibration(images, weights) if images else int8.shipped_images(weights)
    made = int8.model(chosen.network, given, {**says, "weights": f"{says['weights']}, int8"})
    found = (
        f"; in integers of 8 bits, in onnxruntime, the best class is the same on {made.same} of the {made.images} images "
        f"that calibrated them, and scores differ by up to {made.change:.0e} of the largest"
    )
    return Made(made.file, found)


def calibration(images: Sequence[str], weights: Weights) -> Tensor:
    """The images at some paths as a network with these weights takes them, N×C×H×W.

    Raises:
        ExplainedError: for one that cannot be read.
    """
    import torch

    from resnet.errors import ExplainedError

    from ..inference.classify import prepared_file
    from ..inference.images import ImageError

    found = []
    for image in images:
        try:
            found.append(prepared_file(image, weights.data.preprocessing).tensor)
        except ImageError as error:
            raise ExplainedError(f"{plain(image, 80)}: {error}") from error
    return torch.cat(found)


def export(
    network: Network,
    kind: Annotated[
        Kind,
        typer.Argument(
            metavar="KIND",
            show_default=False,
            help="Text: code (PyTorch that stands alone), timm and torchvision (their own call), py (a call of this "
            "package), csv (layer table), dot (graph), json (configuration), svg (drawing). The drawing as pdf or png. With weights: onnx, pt2 (a "
            "program of torch.export), safetensors.",
        ),
    ],
    size: Size = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHTS",
            show_default=False,
            help="A checkpoint file, a name such as resnet50.a1_in1k or IMAGENET1K_V2, a model of the Hugging Face hub such as "
            "microsoft/resnet-50, bundled or random. Without it those of the link, else those that ship, else random.",
        ),
    ] = None,
    folded: Annotated[
        bool, typer.Option("--folded", help="Take batch norms into the convolutions before them.")
    ] = False,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Of onnx: convolutions and linear layers in integers of 8 bits, batch norms folded where they can be.",
        ),
    ] = False,
    calibrate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE...",
            show_default=False,
            help="Of --int8: files of images that set the ranges of activations. Without it the images that ship.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what the file holds as JSON; needs --output.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", parser=Path, metavar="FILE", help="File to write. Without it text is printed, UTF-8."
        ),
    ] = None,
) -> None:
    """Write the network in another form.

    \b
    resnet-explorer export resnet50 dot --output resnet50.dot
    resnet-explorer export resnet18 csv --size 64x96
    resnet-explorer export 'block=basic&layers=2-2-2-2' py
    resnet-explorer export resnet50d code
    resnet-explorer export resnet50d timm
    resnet-explorer export resnet20_fashion onnx --output resnet20.onnx
    resnet-explorer export resnet20_fashion onnx --int8 --output small.onnx
    resnet-explorer export resnet50 onnx --int8 --calibrate a.jpg b.jpg --weights mine.pth --output small.onnx
    resnet-explorer export resnet50 safetensors --weights mine.pth --output resnet50.safetensors

    Files with weights say which network, weights and link they hold, and open again in the app as the same configuration
    with the same weights.

    --json prints one object on what was written:

    \b
    schema              1; another number for another form
    title, preset       what to call the network; its preset's name, or null
    config              its options, without those at their default
    image_size          height and width in pixels
    kind, file, bytes   the form, where it was written, and its size
    query               what a NETWORK is typed as that opens it again
    weights             what they are, in words; null where it holds none
    """
    seen = parse_view(network, size)
    if json and output is None:
        raise typer.BadParameter("--json prints what was written into a file: name one by --output")
    if int8 and kind != "onnx":
        raise typer.BadParameter(f"{kind} is not written in integers of 8 bits: onnx is, with --int8")
    if calibrate and not int8:
        raise typer.BadParameter("--calibrate sets the ranges of integers: it is accepted with --int8")
    if kind in (*WITH_WEIGHTS, *PICTURES) and output is None:
        raise typer.BadParameter(f"{kind} is no text: name a file by --output")
    if kind in WITH_WEIGHTS and output:
        chosen, images = seen.weights if weights is None else weights, (calibrate or []) if int8 else None
        seen, *found = write_network(kind, seen, chosen, folded, writable(output), images)
    else:
        if weights is not None:
            raise typer.BadParameter(f"{kind} holds no weights: {', '.join(WITH_WEIGHTS)} do")
        seen, found = write_form(kind, seen, folded, output), []
    if output is not None and (json or found):
        from .documents.export import Exported

        Exported(seen, kind, output, *found).write(json, None)


def write_form(kind: str, view: View, folded: bool, output: Path | None) -> View:
    """Write a form without weights, and give the view that it is of.

    Raises:
        ExplainedError: where the form, or folding, does not take the network.
        OSError: where the file cannot be written.
    """
    if folded:
        from ..export.folding import folded_config

        view = replace(view, config=folded_config(view.config))
    if kind in CALLS:
        write(CALLS[kind](view.config).script(), output)
    else:
        from ..analysis.trace import trace

        traced = trace(view.config, view.image_size)
        if kind in PICTURES and output:
            writable(output).write_bytes(drawing(traced, kind))
        else:
            write(EXPORTS[kind](traced), output)
    return view


def write_network(
    kind: str, view: View, weights: str, folded: bool, output: Path, images: Sequence[str] | None = None
) -> tuple[View, str, str]:
    """Write a network with weights to a file, in integers where there are `images` to calibrate them (none for those that
    ship), and give the view that opens it again, what the weights are, and what was found out about the file.

    Raises:
        ExplainedError: for weights that it does not have, and where the form, or folding, does not take it.
        OSError: where the file cannot be written.
    """
    from ..export.files import FORMS, as_taken
    from ..export.folding import fold
    from ..export.provenance import provenance
    from ..inference.weights import with_weights
    from ..link import natural_size
    from .progress import fetched, fetched_model

    chosen = with_weights(view.config, view.image_size, weights, fetched, fetched_model)
    size = natural_size(view.config, chosen.key) if view.image_size == view.natural_size else view.image_size
    view = replace(view, config=chosen.network.config, image_size=size, weights=chosen.key)
    view, words = as_taken(view, chosen.words, folded)
    chosen, says = chosen._replace(network=fold(chosen.network) if folded else chosen.network), provenance(view, words)
    made = FORMS[kind](chosen.network, size, says) if images is None else in_int8(images, chosen, view, says)
    output.write_bytes(made.file)
    return view, words, made.found

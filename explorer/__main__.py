"""The command line.

    python -m explorer summary resnet50                  layers, shapes, fields and costs
    python -m explorer summary 'block=basic&layers=2-2-2-2' --size 32
    python -m explorer compare resnet34 resnet50         what differs, and which option makes it
    python -m explorer export resnet50 dot --output resnet50.dot  (csv, dot, json, py, svg)
    python -m explorer degradation --seeds 0 1 2         plain and residual networks, trained side by side
    python -m explorer bench                             our speed beside the peers'

A network is a preset's name, or a link, or the part of it after the question mark. What goes into a file is UTF-8.
The exit status is 0, or 2 with a sentence on standard error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from resnet import title
from resnet.command import Parser, status, write
from resnet.sizes import check_image_size

from .analysis.compare import Comparison, common_size, compare, remarks
from .analysis.layers import Layer
from .analysis.trace import Trace, trace
from .drawing import dot, network
from .link import View, parse_network, parse_size


def view(text: str, size: str | None) -> View:
    """The view of `parse_network`, at `size` if that is given.

    Raises:
        ConfigError: for an unknown name or a value that is not accepted.
    """
    seen = parse_network(text)
    return seen if size is None else replace(seen, image_size=check_image_size(seen.config, parse_size(size)))


def summary(traced: Trace) -> str:
    """The layer table and the totals, as text."""
    field, memory = traced.field, traced.inference_memory
    height, width = traced.image_size
    name = title(traced.config)
    totals = (
        f"{name} at {height}×{width}" + ("" if "depth" in name else f", depth {traced.config.depth}"),
        f"parameters        {traced.params:,}",
        f"MACs              {traced.macs:,}",
        f"peak activations  {memory.bytes:,} bytes at {memory.layer.name}",
        f"  at the least    {traced.least_memory.bytes:,} bytes, if each output is let go of after its last reader",
        f"kept for training {traced.training_memory:,} bytes",
        f"receptive field   {field.size:,} px, jump {field.jump}, start {field.start:,}",
        *(words for words in (traced.beyond_windows(), traced.too_small) if words),
    )
    return "\n".join([traced.frame().drop(columns="inputs").to_string(index=False), "", *totals, ""])


def comparison(found: Comparison) -> str:
    """The totals of two networks, the layers that differ, and the bill, as text."""
    import pandas

    a, b = found.a, found.b
    names = [title(a.config), title(b.config)]

    def cell(layer: Layer | None) -> str:
        return f"{layer.label}, {'×'.join(map(str, layer.out_shape))}" if layer else "–"

    rows = [
        (*(cell(layer) for layer in (row.a, row.b)), row.params, row.macs, row.memory, "–" if row.field is None else row.field)
        for row in found.rows if row.differs
    ]  # fmt: skip
    index = [(row.a or row.b).name for row in found.rows if row.differs]  # type: ignore[union-attr]
    deltas = ["Δparams", "ΔMACs", "Δbytes", "Δfield"]
    layers = pandas.DataFrame(rows, index, [f"a: {names[0]}", f"b: {names[1]}", *deltas]).to_string() if rows else ""
    charges = [(charge.words, charge.params, charge.macs, charge.memory, charge.reach) for charge in found.bill]
    charges.append(("total", found.params, found.macs, found.memory, found.field))
    bill = pandas.DataFrame(charges, columns=["applied in this order", *deltas]).to_string(index=False)
    totals = (
        ("parameters", a.params, b.params), ("MACs", a.macs, b.macs), ("peak activations", a.inference_memory.bytes, b.inference_memory.bytes),
        ("receptive field", a.field.size, b.field.size),
    )  # fmt: skip
    height, width = a.image_size
    return "\n".join(
        [
            f"{names[1]} against {names[0]} at {height}×{width}",
            *(f"{name:16}  {one:>16,}  {two:>16,}  {two - one:>+16,}  ×{two / one:.3g}" for name, one, two in totals),
            *remarks((a, b), names), "", f"{len(rows)} of {len(found.rows)} layers differ", *([layers] if rows else []), "", bill, "",
        ]
    )  # fmt: skip


def degradation(given: argparse.Namespace) -> None:
    """Cut the training images, or train the four networks for every seed, print what came out and write it.

    Raises:
        ConfigError: for steps or seeds that are not accepted.
        MissingError, OSError, ShippedError: where the images cannot be had or the file cannot be written.
    """
    from tqdm import tqdm

    from .experiments.degradation import COUNT, IMAGES, RUNS, Settings, cut, from_json, record, summarise

    if given.cut is not None:
        output = given.output or Path(IMAGES.name)
        cut(given.cut, output)
        print(f"{COUNT:,} images written to {output}")
        return
    output, every = given.output or Path(RUNS.name), given.steps or [Settings().steps]
    steps = record(every, given.seeds, output, Settings.from_text(given.settings))
    with tqdm(unit="step", mininterval=2) as bar:
        for settings, step in steps:
            bar.total = len(given.seeds) * 4 * sum(every)
            bar.set_description(f"{settings.networks[step.network].name}, seed {settings.seed}", refresh=False)
            bar.update()
    for settings, runs in from_json(output.read_text(encoding="utf-8")).groups.items():
        for row in summarise(runs).rows:
            print(
                f"{settings.steps:5} steps  {row.network.name:12}  training loss {row.loss.mean:.3f} "
                f"({row.loss.low:.3f} to {row.loss.high:.3f})  test accuracy {row.accuracy.mean:.1%}"
            )
    print(f"{len(given.seeds)} seeds, written to {output}")


EXPORTS = {
    "csv": lambda traced: traced.frame().to_csv(index=False, lineterminator="\n"),
    "dot": lambda traced: dot.graph(traced).source,
    "json": lambda traced: traced.config.to_json() + "\n",
    "py": lambda traced: traced.config.to_code(),
    "svg": lambda traced: network.overview(traced).svg() + "\n",
}
"""What can be exported: the layer table, the graph, the configuration, code that builds it, the drawing."""


def execute(arguments: Sequence[str] | None) -> None:
    """Do what the command line asks for.

    Raises:
        ConfigError: for a network, a size or settings that are not accepted.
        MissingError, OSError, ShippedError: where a file cannot be written, or something that is needed is not there.
        SystemExit: for what is no command, with its usage on standard error.
    """
    parser = Parser(
        prog="python -m explorer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    document = Parser(add_help=False)
    document.add_argument("--output", type=Path, metavar="FILE", help="file to write; standard output if not given")
    for name, words in (("summary", "print the layer table"), ("export", "write the network in another form")):
        command = commands.add_parser(name, help=words, parents=[document])
        command.add_argument("network", help="a preset's name or a link's query")
        if name == "export":
            command.add_argument("kind", choices=sorted(EXPORTS))
        command.add_argument("--size", help="image size in pixels: 224, or 224x320 (height × width)")
    command = commands.add_parser("compare", help="print what differs between two networks", parents=[document])
    command.add_argument("a", help="a preset's name or a link's query")
    command.add_argument("b", help="the other network")
    command.add_argument("--size", help="image size of both; the first network's if not given")
    command = commands.add_parser("degradation", help="train plain and residual networks side by side, write the runs")
    command.add_argument("--steps", type=int, nargs="+", help="steps of each network")
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    command.add_argument("--settings", default="", metavar="TEXT", help="the rest, as in a link: deep-110_rate-0.1")
    command.add_argument(
        "--output", type=Path, metavar="FILE",
        help="file to write; degradation.json, or with --cut fashion-train.npz, in the current folder if not given",
    )  # fmt: skip
    command.add_argument(
        "--cut", type=Path, metavar="FOLDER", help="cut the training images from the set's idx files instead"
    )
    bench = commands.add_parser("bench", help="measure our speed beside the peers'")
    bench.add_argument(
        "--only", nargs="+", choices=("traces", "captures", "clicks", "visitors", "hostile", "links"),
        help="measure these; hostile, a quarter of an hour, and links, twice as long, only where they are named",
    )  # fmt: skip
    bench.add_argument(
        "--attacks", nargs="+", default=(), metavar="WORD",
        help="of hostile: the attacks with one of these in their name",
    )  # fmt: skip
    bench.add_argument("--no-browser", action="store_true", help="leave out the clicks, which need Chromium")
    given = parser.parse_args(arguments)
    if given.command == "bench":
        from .bench.measure import USUAL, run

        run([name for name in given.only or USUAL if name != "clicks" or not given.no_browser], given.attacks)
    elif given.command == "degradation":
        degradation(given)
    elif given.command == "compare":
        first, second = view(given.a, given.size), view(given.b, given.size)
        size = common_size((first.config, second.config), first.image_size)
        write(comparison(compare(first.config, second.config, image_size=size)), given.output)
    else:
        asked = view(given.network, given.size)
        traced = trace(asked.config, asked.image_size)
        write(summary(traced) if given.command == "summary" else EXPORTS[given.kind](traced), given.output)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status of the command line."""
    return status("explorer", lambda: execute(arguments))


if __name__ == "__main__":
    sys.exit(main())

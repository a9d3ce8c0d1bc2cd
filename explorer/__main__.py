"""The command line.

    python -m explorer summary resnet50                  layers, shapes, fields and costs
    python -m explorer summary 'block=basic&layers=2-2-2-2' --size 32
    python -m explorer export resnet50 dot > resnet50.dot  (csv, dot, json, py, svg)
    python -m explorer bench                             our speed beside the peers'

A network is a preset's name, or a link, or the part of it after the question mark.
"""

from __future__ import annotations

import argparse
import sys
from urllib.parse import parse_qsl

from resnet import ConfigError, title

from . import diagram
from .trace import Trace, trace
from .view import View


def view(text: str, size: str | None) -> View:
    """The view that a preset's name or a link's query stands for, at `size` if that is given.

    Raises:
        ConfigError: for an unknown name or a value that is not accepted.
    """
    query = dict(parse_qsl(text.partition("?")[2] or text, keep_blank_values=True)) if "=" in text else {"preset": text}
    return View.from_query(query | ({"size": size} if size is not None else {}))


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
        f"kept for training {traced.training_memory:,} bytes",
        f"receptive field   {field.size:,} px, jump {field.jump}, start {field.start:,}",
    )
    return "\n".join([traced.frame().drop(columns="inputs").to_string(index=False), "", *totals])


EXPORTS = {
    "csv": lambda traced: traced.frame().to_csv(index=False),
    "dot": lambda traced: diagram.graph(traced).source,
    "json": lambda traced: traced.config.to_json() + "\n",
    "py": lambda traced: traced.config.to_code(),
    "svg": lambda traced: diagram.overview(traced).svg() + "\n",
}
"""What can be exported: the layer table, the graph, the configuration, code that builds it, the drawing."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m explorer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in (("summary", "print the layer table"), ("export", "write a file to standard output")):
        command = commands.add_parser(name, help=words)
        command.add_argument("network", help="a preset's name or a link's query")
        if name == "export":
            command.add_argument("kind", choices=sorted(EXPORTS))
        command.add_argument("--size", help="image size in pixels: 224, or 224x320 (height × width)")
    bench = commands.add_parser("bench", help="measure our speed beside the peers'")
    bench.add_argument("--no-browser", action="store_true", help="leave out the clicks, which need Chromium")
    given = parser.parse_args(arguments)
    try:
        if given.command == "bench":
            from .bench import run

            run(browser=not given.no_browser)
            return 0
        asked = view(given.network, given.size)
        traced = trace(asked.config, asked.image_size)
        print(summary(traced) if given.command == "summary" else EXPORTS[given.kind](traced), end="")
        if given.command == "summary":
            print()
    except (ConfigError, RuntimeError) as error:
        print(f"explorer: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head` has seen enough
        sys.stderr.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

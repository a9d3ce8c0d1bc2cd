"""The command line: one file a subcommand.

`python -m explorer` and the installed `resnet-explorer` do the same; the second opens the app where no subcommand is named.
What goes into a file is UTF-8. The exit status is 0, or 2 with a sentence on standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import cast

import typer

from resnet.command import forget_output, status
from resnet.options import plain

from . import (
    app,
    bench,
    beside,
    channels,
    checkpoint,
    degradation,
    experiments,
    export,
    landscape,
    latency,
    memory,
    notebooks,
    predict,
    probes,
    search,
    summary,
)
from .parameters import repeat_list_options

MODULE, COMMAND = "python -m explorer", "resnet-explorer"
"""How it is called from a checkout, and where it is installed."""
UsageError = cast("type[Exception]", typer.BadParameter.__base__)
"""What is raised for every command line that cannot be read; Typer gives it no name of its own."""
INTERRUPTED = 130
"""The exit status after Ctrl-C, as a shell has it."""


def application(*, completion: bool = False, rich: bool = False) -> typer.Typer:
    """All subcommands; `completion` offers to install the shell's, `rich` draws the help for a terminal."""
    made = typer.Typer(
        add_completion=completion,
        rich_markup_mode="rich" if rich else None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    made.callback(invoke_without_command=True)(app.app)
    for work in (
        summary.summary,
        summary.compare,
        search.list_,
        search.search,
        checkpoint.checkpoint,
        predict.predict,
        latency.latency,
        memory.memory,
        export.export,
        notebooks.notebooks,
        degradation.degradation,
        experiments.experiments,
        channels.channels,
        beside.beside,
        probes.probes,
        landscape.landscape,
        bench.bench,
    ):
        made.command(work.__name__.rstrip("_"))(work)  # `list_`, since `list` is Python's
    return made


def execute(arguments: Sequence[str], name: str) -> None:
    """Do what the command line of the command `name` asks for.

    Raises:
        ExplainedError: for a network, a size or settings that are not accepted, or where something that is needed is
            not there.
        OSError: where a file cannot be written.
        SystemExit: for what is no command, with its usage on standard error.
    """
    installed = name == COMMAND
    group = typer.main.get_command(application(completion=installed, rich=sys.stdout.isatty()))
    if f"_{name.upper().replace('-', '_')}_COMPLETE" in os.environ:  # a shell asks what could be typed next
        group.main(prog_name=name)
    try:
        with group.make_context(name, repeat_list_options(arguments), obj=app.App(opens=installed)) as context:
            group.invoke(context)
    except typer.Exit:  # after the help
        pass
    except UsageError as error:
        print(usage(error, name), file=sys.stderr)
        raise SystemExit(2) from None


def usage(error: Exception, name: str) -> str:
    """How a command is used, then what is wrong with the one that was typed, in a sentence on its last line."""
    context: typer.Context | None = getattr(error, "ctx", None)
    path = context.command_path if context else name
    used = context.get_usage() if context else f"Usage: {name} [OPTIONS] COMMAND [ARGS]..."
    said = str(error.format_message()).replace("Value error, ", "")  # type: ignore[attr-defined]
    words = plain(" ".join(said.split()), 1000).rstrip(".")
    commands = getattr(context.command, "commands", {}) if context else {}
    if commands and not isinstance(error, typer.BadParameter):
        words += f"; the commands are {', '.join(commands)}"
    return f"u{used[1:]}\nexplorer: {words}; see `{path} --help`."


def main(arguments: Sequence[str] | None = None, name: str = MODULE) -> int:
    """The exit status of the command line."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        return status("explorer", lambda: execute(given, name))
    except KeyboardInterrupt:
        forget_output()
        return INTERRUPTED


def command() -> int:
    """The exit status of the installed command."""
    return main(name=COMMAND)

"""The app, from any folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from resnet.options import plain

from .. import __version__
from .parameters import whole_number

SCRIPT = Path(__file__).parents[1] / "app.py"
"""What Streamlit runs; it reads the configuration in `.streamlit` beside it, wherever it is started."""


class App(NamedTuple):
    """Whether the command opens the app where it names no subcommand."""

    opens: bool = True


def port_number(text: str) -> int:
    """A port of this machine.

    Raises:
        BadParameter: for what is none.
    """
    if not 1 <= whole_number(text) <= 65535:
        raise typer.BadParameter(f"{plain(text)} is not a port, a whole number from 1 to 65535")
    return int(text)


def say_version(requested: bool) -> None:
    """Print which version this is, and end."""
    if requested:
        print(f"resnet-explorer {__version__}")
        raise typer.Exit


def app(
    context: typer.Context,
    port: Annotated[
        int | None,
        typer.Option(parser=port_number, metavar="PORT", help="Port of the app. Without it 8501 or the next."),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser: print the address.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=say_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Residual networks from the shell. `resnet-explorer` alone opens the app in a browser.

    A NETWORK is a preset's name such as resnet50, a link of the app, or the part of it after the question mark.

    \b
    resnet-explorer --port 8080 --no-browser
    resnet-explorer summary resnet50
    resnet-explorer summary 'block=basic&layers=2-2-2-2' --size 32
    resnet-explorer compare resnet34 resnet50
    resnet-explorer list --size 320x640 --max-macs 5e9 --max-params 30e6
    resnet-explorer checkpoint model.pth
    resnet-explorer predict dog.jpg --weights resnet50.a1_in1k
    resnet-explorer latency resnet50 resnet50d
    resnet-explorer memory resnet50 --batch 32 --precision bf16 --within 24GiB
    resnet-explorer export resnet50 dot --output resnet50.dot
    """
    alone = context.invoked_subcommand is None
    if not alone and (port is not None or no_browser):
        raise typer.BadParameter("--port and --no-browser are for the app, which opens without a subcommand.")
    if alone and not context.ensure_object(App).opens:
        context.fail("Missing command.")
    if alone:
        replace_process(streamlit(None if port is None else free_port(port), browser=not no_browser))


def free_port(port: int) -> int:
    """The port, where nothing else listens on it.

    Raises:
        OSError: where something does, or the machine does not allow it.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
    except OSError as error:
        raise OSError(f"port {port} cannot be opened ({error.strerror}): name another one by --port.") from error
    return port


def streamlit(port: int | None, *, browser: bool) -> list[str]:
    """The command that serves the app."""
    options = [f"--server.port={port}"] * (port is not None) + ["--server.headless=true"] * (not browser)
    return [sys.executable, "-m", "streamlit", "run", str(SCRIPT), *options]


def replace_process(command: Sequence[str]) -> None:
    """Run a command in the place of this process, so that signals reach it; Windows runs it below this one.

    Raises:
        SystemExit: with its status, on Windows.
    """
    sys.stdout.flush()
    if os.name == "nt":
        raise SystemExit(subprocess.call(command))
    os.execv(command[0], list(command))

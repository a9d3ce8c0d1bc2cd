"""A server of our own, and a browser to look at it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from resnet.command import MissingError

if TYPE_CHECKING:
    from playwright.sync_api import Browser


ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "explorer" / ".streamlit"
"""Streamlit reads it beside the script that it runs."""


# -- clicks -------------------------------------------------------------------------------

IDLE = '[data-testid=stApp][data-test-script-state="notRunning"][data-test-connection-state="CONNECTED"]'

# -- servers and browsers -----------------------------------------------------------------


ENDS_WITH_US = """
import os, threading
from streamlit.web.cli import main
def end():
    os.read(0, 1)
    os._exit(0)
threading.Thread(target=end, daemon=True).start()
main(prog_name="streamlit")
"""
"""Streamlit, until the other end of its standard input is closed: the system does that however this process ends."""


class Server(NamedTuple):
    """A server that runs."""

    address: str
    process: subprocess.Popen[bytes]


@contextmanager
def server(
    script: Path,
    folder: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    output: int | IO[bytes] = subprocess.DEVNULL,
    prefix: Sequence[str] = (),
    **settings: object,
) -> Iterator[Server]:
    """A Streamlit server of its own on a free port of this machine, with these settings of `server`.

    It is started in `folder`, with `environment` beside that of this process, by a command that `prefix` runs; what it
    says goes to `output`. It ends with this context, and with this process, however that ends.

    Raises:
        MissingError: where it does not answer within a minute.
    """
    import socket
    import urllib.request

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"port": port, "address": "127.0.0.1", "headless": "true", "fileWatcherType": "none"} | settings
    command = [*prefix, sys.executable, "-c", ENDS_WITH_US, "run", str(script)]
    command += [f"--server.{name}={value}" for name, value in options.items()]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | (environment or {}),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=2).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise MissingError(f"the server of {script.name} ended with status {process.returncode}.") from None
                time.sleep(0.25)
        else:
            raise MissingError(f"the server of {script.name} did not answer within a minute.")
        yield Server(address, process)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()  # closes its standard input, and waits


INSTALL = "install it by `make browser`, or by `python -m playwright install chromium`"


def chromium_path() -> str | None:
    """Debian's or a system's Chromium or Chrome; None leaves the choice to Playwright."""
    import shutil

    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium.

    Raises:
        MissingError: where Playwright or the browser is missing, with the command that installs it.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        raise MissingError("Playwright is missing: install it by `pip install -e .[test]`.") from None

    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=chromium_path(),
                args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"],
            )
        except Error as error:
            raise MissingError(f"Chromium does not start ({str(error).splitlines()[0]}): {INSTALL}.") from error
        try:
            yield browser
        finally:
            browser.close()

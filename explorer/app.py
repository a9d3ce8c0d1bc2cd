"""The app: `streamlit run explorer/app.py`."""

import gc
import os
import sys
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import MappingProxyType
from urllib.parse import parse_qsl

# Before torch is imported: its threads sleep where they wait for each other. By default they spin, and where other people
# use the cores, a pass through a small network then takes up to fifty times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What takes a while, for which everybody would wait while somebody needs it first.
import plotly.animation
import plotly.offline
import plotly.tools  # noqa: F401
import torchvision.models  # noqa: F401
from starlette.middleware import Middleware
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import App, config, secrets
from streamlit.errors import StreamlitSecretNotFoundError
from streamlit.web.server.server_util import get_url

from explorer import views
from explorer.link import names_view
from explorer.navigation import ARCHITECTURE, PAGES
from resnet import ConfigError, owner


def take_secrets() -> None:
    """Put what the owner of the server has set in Streamlit's secrets into the environment; a sentence ends the start where
    they cannot be read.
    """
    try:
        found = secrets.to_dict()
    except (OSError, StreamlitSecretNotFoundError, UnicodeDecodeError) as error:
        if any(Path(path).exists() for path in config.get_option("secrets.files")):  # else there are none
            sys.exit(
                f"The settings in Streamlit's secrets are not accepted ({error}): TOML is, with each word in quotes."
            )
        return
    # What stands there is in the environment by now, but for truth values.
    os.environ.update({name: str(found[name]) for name in owner.SETTINGS if name in found})


take_secrets()
try:
    owner.check()
    # Some modules read how much memory they may take.
    from explorer.guard.middleware import Guard

    for module in walk_packages(views.__path__, f"{views.__name__}."):
        import_module(module.name)
except ConfigError as error:
    sys.exit(str(error))

# Python lets go of a thread after 5 ms where another one can run. A page's thread tells the server's of each of its
# hundreds of parts, and on a busy machine each change takes as long again.
sys.setswitchinterval(0.02)

# What the imports made is never garbage: Python need not look through it for some, during which nobody is served.
gc.collect()
gc.freeze()
gc.set_threshold(10_000, 20, 20)  # a click makes that many objects, and little of it is garbage


@asynccontextmanager
async def opened(_: App) -> AsyncIterator[None]:
    """Streamlit opens a browser for a script, but not for an App."""
    if not config.get_option("server.headless"):
        webbrowser.open(get_url(config.get_option("browser.serverAddress")))
    yield


class OldLinks:
    """Links of before: to pages by their former names, and those that name a view from when the app's address itself was
    Architecture."""

    former = MappingProxyType({name: (page, anchor) for page in PAGES for name, anchor in page.former})

    def __init__(self, app: ASGIApp):
        self.app = app
        base = config.get_option("server.baseUrlPath").strip("/")
        self.root = f"/{base}/" if base else "/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self.app
        if scope["type"] == "http" and scope["path"].startswith(self.root):
            name = scope["path"].removeprefix(self.root)
            query = scope["query_string"].decode("ascii", "replace")
            if name in self.former:
                page, anchor = self.former[name]
                answer = RedirectResponse(f"{page.path}?{query}#{anchor}")
            elif not name and names_view(dict(parse_qsl(query, keep_blank_values=True))):
                answer = RedirectResponse(f"{ARCHITECTURE.path}?{query}")
        await answer(scope, receive, send)


app = App(Path(__file__).with_name("script.py"), lifespan=opened, middleware=[Middleware(Guard), Middleware(OldLinks)])

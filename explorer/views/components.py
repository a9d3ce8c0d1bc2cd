"""Drawings a person can click into, as components: no network, no frame, the page's theme."""

from __future__ import annotations

import base64
import re
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple
from urllib.parse import urlencode

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from PIL import Image
from streamlit import runtime
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import add_script_run_ctx, get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_run_context import ScriptRunContext

from resnet import preset_name
from resnet.command import MissingError
from resnet.confined import Places

from ..drawing import picture as drawn
from ..drawing.picture import asset
from ..drawing.rasters import data_url, npz, png, sheet
from ..drawing.svg import Drawing
from ..export import drawings
from ..figures.base import figure_words
from ..link import origin
from ..navigation import PAGES, Page
from ..sharing.holdings import NoRoomError
from ..sharing.tidying import tidy
from . import session

_picture = st.components.v2.component(
    "resnet_explorer.picture", html=drawn.HTML, css=drawn.CSS, js=f"{drawn.JS}\nexport default picture;"
)

_figure = st.components.v2.component(
    "resnet_explorer.figure",
    html="""<div class="tools files">
      <button class="file" data-kind="svg" title="This figure as SVG" aria-label="download the figure as SVG">SVG</button>
      <button class="file" data-kind="png" title="This figure as PNG" aria-label="download the figure as PNG">PNG</button>
    </div>""",
    css=drawn.FILES_CSS,
    js=drawn.FILES_JS + asset("figure.js"),
)

_tiles = st.components.v2.component(
    "resnet_explorer.tiles", html='<div class="tiles" role="group"></div>', css=asset("tiles.css"), js=asset("tiles.js")
)

_pixels = st.components.v2.component(
    "resnet_explorer.pixels", html='<div class="pixels"></div>', css=asset("pixels.css"), js=asset("pixels.js")
)


_markup = st.components.v2.component(
    "resnet_explorer.markup", html='<div class="markup"></div>', css=asset("markup.css"), js=asset("markup.js")
)


def markup(html: str, key: str, on_choose: Callable[[str], None] = lambda _: None) -> None:
    """HTML or SVG of our own; `on_choose` gets the `data-id` of a link that was clicked, before the next run."""

    def chosen() -> None:
        identifier = st.session_state[key].get("chosen")
        if isinstance(identifier, str) and 0 < len(identifier) <= LONGEST:
            on_choose(identifier)

    _markup(key=key, data={"html": html}, on_chosen_change=chosen)


_theme = st.components.v2.component(
    "resnet_explorer.theme", html="<button></button>", css=asset("theme.css"), js=asset("theme.js")
)


def theme_switch(paths: Sequence[str]) -> None:
    """A button between light and dark, for the pages of these paths; it loads the page anew, as its link says."""
    _theme(key="theme", data={"paths": list(paths)})


def menu_html() -> str:
    """A link to each page, in its group."""
    groups = groupby(PAGES, lambda page: page.group)
    return (
        '<nav class="pages" aria-label="Pages">'
        + "".join(
            f'<p id="{group}">{group}</p><ul aria-labelledby="{group}">'
            + "".join(
                f'<li><a data-path="{page.path}"><span aria-hidden="true">{page.icon.strip(":").removeprefix("material/")}</span>'
                f"{page.title}</a></li>"
                for page in pages
            )
            + "</ul>"
            for group, pages in groups
        )
        + "</nav>"
    )


_menu = st.components.v2.component(
    "resnet_explorer.menu",
    html=menu_html(),
    css=asset("menu.css"),
    js=asset("menu.js"),
    isolate_styles=False,  # axe looks for a page's first link in the page's own tree
)


def menu(here: Page, query: Mapping[str, str], others: Mapping[Page, Mapping[str, str]]) -> None:
    """A link to each page, with this query or that of its own; a click opens it in this session. A page is `here`.

    It is one component, where Streamlit's link to a page for each would be drawn anew with every click.
    """
    data = {
        "here": here.path,
        "query": urlencode(query),
        "queries": {page.path: urlencode(its) for page, its in others.items()},
    }
    _menu(key="menu", data=data)


LONGEST = 100
"""Characters of a `data-id`."""


def stem(words: str) -> str:
    """What a file about the network that is shown is called, without its ending: resnet50-layers."""
    name = preset_name(session.view().config) or "network"
    return f"{name}-{re.sub(r'[^a-z0-9]+', '-', words.lower()).strip('-')}"


def plot(figure: go.Figure, key: str | None = None, place: DeltaGenerator | None = None, **more: Any) -> None:
    """A Plotly figure, here or in its `place`, which says in words what it shows; `more` is as `st.plotly_chart` takes it.

    With a key it can be taken away as SVG and PNG, on white; a surface stands in the SVG as a picture, as WebGL draws it.
    """
    title, words = figure.layout.title.text or key or "", figure_words(figure)
    name = stem(re.sub("<[^>]*>", " ", title))
    config = {"toImageButtonOptions": {"filename": name, "scale": 2}} | more.pop("config", {})
    with (place or st).container(gap=None):
        st.plotly_chart(figure, key=key, alt=words, config=config, **more)
        if key:
            says = drawn.words(origin(session.view()))
            _figure(key=f"{key} files", data={"name": name, "title": words, "says": says})


def picture(
    drawing: Drawing, key: str, name: str, on_choose: Callable[[str], None], narrow: Drawing | None = None
) -> None:
    """A drawing whose parts can be chosen, and that can be taken away as a file called `name`.

    `on_choose` gets the `data-id`, before the next run. Where the card is too narrow for the drawing with legible text,
    `narrow` stands in its place, its runs (`data-run`) go on several lines, and what is too wide even so scrolls.
    """

    def chosen() -> None:
        identifier = st.session_state[key].get("chosen")
        if isinstance(identifier, str) and 0 < len(identifier) <= LONGEST:
            on_choose(identifier)

    says = origin(session.view())
    data = drawn.data([one for one in (drawing, narrow) if one], name, says)
    data |= {"pdf": True, "file": pdf_file(key, drawing, says)}
    _picture(key=key, data=data, on_chosen_change=chosen, on_asked_change=lambda: None)


def pdf_file(key: str, drawing: Drawing, says: Mapping[str, str]) -> Mapping[str, str] | None:
    """A drawing's PDF in the run that a click on its button starts; where it cannot be made, a sentence says why."""
    if key not in st.session_state or st.session_state[key].get("asked") != "pdf":
        return None
    try:
        file = drawings.pdf(drawing, says)
    except MissingError as error:
        st.toast(session.escape_markdown(str(error)), icon=":material/error:")
        return None
    return {"id": secrets.token_hex(8), "bytes": base64.b64encode(file).decode()}


COLUMNS = 8


class ContactSheet(NamedTuple):
    """Pictures of one size on one sheet, which is an address; `aspect` is the CSS ratio of one picture."""

    sheet: str
    aspect: str


def contact_sheet(pictures: Sequence[np.ndarray]) -> ContactSheet:
    """Pictures H×W×3 of one size, for `tiles`."""
    height, width = pictures[0].shape[:2]
    return ContactSheet(data_url(sheet(pictures, COLUMNS)), f"{width} / {height}")


def tiles(
    pictures: ContactSheet,
    labels: Mapping[str, str],
    selected: str,
    key: str,
    on_choose: Callable[[str], None],
    names: Mapping[str, str] | None = None,
    hints: Mapping[str, str] | None = None,
    row: bool = False,
) -> None:
    """Pictures as a grid of buttons, one for each of `labels` (identifier: caption); in a `row` they are small, and scroll.

    `on_choose` gets the identifier, before the next run. `names` are the buttons' accessible names where those say more
    than the captions, which they hold; `hints` what a pointer over them reads.
    """

    def chosen() -> None:
        identifier = st.session_state[key].get("chosen")
        if isinstance(identifier, str) and identifier in labels:
            on_choose(identifier)

    data = {
        "sheet": pictures.sheet,
        "columns": COLUMNS,
        "selected": selected,
        "row": row,
        "aspect": pictures.aspect,
        "items": [
            {
                "id": identifier,
                "label": label,
                "name": (names or labels)[identifier],
                "hint": (hints or labels)[identifier],
            }
            for identifier, label in labels.items()
        ],
    }
    _tiles(key=key, data=data, on_chosen_change=chosen)


Rectangle = tuple[float, float, float, float]
"""Left, top, width and height on a grid of pixels, pixel p reaching from p to p + 1."""


class Sheet(NamedTuple):
    """A picture, or its address, that lies over a grid of pixels, 1 hiding what is below."""

    name: str
    picture: Image.Image | str
    place: Rectangle
    opacity: float = 1.0


class Outline(NamedTuple):
    """A frame on a grid of pixels."""

    name: str
    place: Rectangle
    dashed: bool = False


def pixels(
    view: Rectangle,
    sheets: Sequence[Sheet],
    outlines: Sequence[Outline],
    at: tuple[int, int],
    step: int,
    label: str,
    key: str,
    on_choose: Callable[[int, int], None],
    drag: bool = False,
) -> None:
    """Pictures over each other on one grid of pixels, of which `view` is seen.

    `on_choose` gets the row and column of the pixel that was clicked, or that lies `step` pixels from
    `at` (row, column) in an arrow key's direction, before the next run. With `drag` the outlines follow the pointer while it is
    down, and the pixel where it comes up is chosen; they follow the arrow keys too.
    """

    def chosen() -> None:
        match st.session_state[key].get("chosen"):
            case [int() as row, int() as column]:
                on_choose(row, column)

    data = {
        "view": view,
        "at": at,
        "step": step,
        "drag": drag,
        "label": label,
        "clip": f"clip-{key.replace(' ', '-')}",
        "layers": [
            {
                "id": s.name,
                "url": s.picture if isinstance(s.picture, str) else data_url(s.picture),
                "box": s.place,
                "opacity": s.opacity,
            }
            for s in sheets
        ],
        "outlines": [{"id": o.name, "box": o.place, "dashed": o.dashed} for o in outlines],
    }
    _pixels(key=key, data=data, on_chosen_change=chosen)


MAX_DOWNLOAD_BYTES = 2**28
"""What the arrays of a download may hold: for a while the server has them twice."""


def downloads(
    stem: str, picture: Callable[[], Image.Image] | None, arrays: Callable[[], Mapping[str, np.ndarray]], size: int
) -> None:
    """Buttons for a picture as PNG and the numbers behind it as NPZ, made when they are clicked and let go soon after.

    `size` is that of the arrays in bytes; above `MAX_DOWNLOAD_BYTES` they are not offered. A page keeps both functions while it
    is open, so they hold nothing large.
    """
    with st.container(horizontal=True):
        if picture:
            download("PNG", lambda: png(picture()), f"{stem}.png", "image/png", "This picture")
        if size <= MAX_DOWNLOAD_BYTES:
            words = "The numbers, as NumPy arrays"
            download("NPZ", lambda: npz(arrays()), f"{stem}.npz", "application/octet-stream", words)
        else:
            words = (
                f"These numbers take {size / 2**20:,.0f} MiB, and downloads of at most {MAX_DOWNLOAD_BYTES // 2**20} MiB are made. "
                "A smaller image has fewer."
            )
            st.download_button(
                "NPZ",
                b"",
                f"{stem}.npz",
                key=f"{stem}.npz",
                icon=":material/download:",
                type="tertiary",
                help=words,
                disabled=True,
            )


def download(label: str, make: Callable[[], bytes], name: str, kind: str, words: str, slow: bool = False) -> None:
    """A button for a file that is made when it is clicked, where the `DESK` has a place: one of its own for `slow` ones."""
    context = get_script_run_ctx()

    def made() -> bytes:
        if context is None or not runtime.exists():
            return make()
        with DESK.place(context.session_id, slow):
            data = make()
            hand_out(data, name, kind, context)
            return data

    st.download_button(
        label, made, name, kind, key=name, icon=":material/download:", on_click="ignore", type="tertiary", help=words
    )


HANDED_OUT = 60.0
"""Seconds for which a file that was made waits for the browser to fetch it."""
OUT_OF_ONE, OUT_OF_ALL = 2**28, 2**30
"""Bytes of such files from which no more are made for a session, and for anybody."""
LEAST_OUT = 2**22
"""Bytes that a file counts as at least: each has a thread that waits."""


class Desk:
    """Where downloads are made, one after the other, one for each session; slow ones keep only each other waiting.

    `out` are the bytes that wait for the browsers of each session.
    """

    def __init__(self) -> None:
        self.out: Counter[str] = Counter()
        self._making: set[str] = set()
        self._places = {slow: Places(1) for slow in (False, True)}
        self._lock = threading.Lock()

    @contextmanager
    def place(self, session: str, slow: bool = False) -> Iterator[None]:
        """The place to make a file for a session.

        Raises:
            NoRoomError: where the session has asked for another that is not made yet, or too much waits to be fetched.
            TimeoutError: where others' files take long.
        """
        with self._lock:
            if session in self._making:
                raise NoRoomError("A file is being made already; try again when it is there.")
            if self.out[session] >= OUT_OF_ONE or self.out.total() >= OUT_OF_ALL:
                raise NoRoomError("Too many files wait to be fetched; try again in a minute.")
            self._making.add(session)
        try:
            with self._places[slow].place(HANDED_OUT):
                yield
        finally:
            with self._lock:
                self._making.discard(session)

    def count(self, session: str, size: int) -> None:
        """Bytes that wait from here on, or that do not wait any longer where `size` is negative."""
        with self._lock:
            self.out[session] += size
            self.out = +self.out  # without what is zero


DESK = Desk()


def hand_out(data: bytes, name: str, kind: str, context: ScriptRunContext) -> None:
    """Keep a file for the session until its browser has fetched it.

    Streamlit knows a file made on a click by no session: it lets it go when anybody's script ends, fetched or not, and
    keeps it where nobody's does. So the session holds it in the place of an element of its own, and then an empty one.
    """
    files = runtime.get_instance().media_file_mgr

    def put(data: bytes) -> None:
        thread = threading.Thread(
            target=files.add, args=(data, kind, f"download {name}", name), kwargs={"is_for_static_download": True}
        )
        add_script_run_ctx(thread, context)
        thread.start()
        thread.join()

    def take_back() -> None:
        put(b"")
        for _ in range(2):  # at first they are marked
            files.remove_orphaned_files()
        DESK.count(context.session_id, -size)
        tidy()

    size = max(len(data), LEAST_OUT)
    DESK.count(context.session_id, size)
    put(data)
    timer = threading.Timer(HANDED_OUT, take_back)
    timer.daemon = True
    timer.start()

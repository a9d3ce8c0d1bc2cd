"""The view of one session, kept in step with the link and the sidebar.

`open_link` reads the link at the start of a run, widgets change the view through `change`,
and `write_link` puts it back, so that link, sidebar and page agree. What a session holds besides is `held`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

import streamlit as st
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx

from resnet import OPTIONS, ConfigError, Option, ResNetConfig, owner
from resnet.checkpoint import Mismatch
from resnet.errors import ExplainedError, WeightsError
from resnet.options import plain, to_text
from resnet.servers import DownloadError
from resnet.sizes import least_side
from resnet.weights import at_hand, torchvision_weights

from ..analysis.choose import Here, Searched
from ..analysis.compare import common_size
from ..analysis.layers import Layer
from ..analysis.parts import switched_off
from ..analysis.published import Result
from ..inference.device import Device
from ..inference.turns import PassError
from ..link import View, left_to_hub, names_view, size_text, tolerant, without_network
from ..navigation import INFERENCE, START, Page
from ..sharing.store import StoppedError
from .uploads import FileAnswers, ImageSet, SourceUploads, UploadedCheckpoint

Value = TypeVar("Value")


@dataclass(frozen=True)
class Failure:
    """Weights that cannot be had: the view that asks for them, with what was to be `SessionState.opening`, and why, in a
    sentence; whether a person `stopped` their download, and whether they are there where their file is put here.
    """

    asked: View
    opening: str
    reason: str
    stopped: bool
    wants_file: bool

    @classmethod
    def of(cls, error: WeightsError, asked: View, opening: str, stopped: bool = False) -> Failure:
        fetching = isinstance(error, DownloadError) or isinstance(error.__cause__, DownloadError)
        return cls(asked, opening, str(error), stopped, fetching or not owner.hub_allowed())


@dataclass(frozen=True)
class SessionState:
    """What a session holds and its link does not; what widgets say is Streamlit's to hold."""

    query: Mapping[str, str] | None = None
    """The link as it was last read or written."""
    asked: bool = False
    """Whether a link has named something that its view does not tell: the usual network, or what was not accepted."""
    page: Page | None = None
    """The page that is drawn."""
    drawn_state: tuple[Any, ...] | None = None
    """What a page with tabs was drawn with: `page_state`."""
    problems: tuple[str, ...] = ()
    """What was wrong with the last link or edit, in sentences; `notes` say what had to follow from it."""
    notes: tuple[str, ...] = ()
    typed: Mapping[str, str] = field(default_factory=dict)
    """What was typed and not accepted, by its widget, to be mended; or not yet, where there is no problem:
    `inference.weights.find_typed`.
    """
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What a list's options were called, by its widget: `set_widget`."""
    previous_config: ResNetConfig | None = None
    """The configuration before the one that is shown."""
    before_greeting: View | None = None
    """What was shown before a network was opened that nobody had asked for: `inference.weights.greet`."""
    opening: str = ""
    """The model of the Hugging Face hub whose network is shown as soon as it is known: `inference.weights.from_hub`."""
    refused: tuple[str, str, bool] | None = None
    """The model of the Hugging Face hub that could not be had, which is not asked for again until a person does; why, in a
    sentence; and whether it is since its norms may be others.
    """
    arrived: str = ""
    """The model of the Hugging Face hub, as a link calls it, that the inference page has waited for."""
    unfolded: frozenset[str] = frozenset()
    """Stages whose blocks are all drawn."""
    form: Device | None = None
    """Where and how this session predicts, where it has chosen: `cached.form`."""
    requested: frozenset[str] = frozenset()
    """Results that a click asked for in this run, by their short names; `stopped` are those that were stopped."""
    stopped: frozenset[str] = frozenset()
    timings: Mapping[str, tuple[Hashable, Any, datetime]] = field(default_factory=dict)
    """What was timed last, of what, and when, by the button's name."""
    visitor: str = ""
    """A name for the session in the queue of training runs."""
    uploads: Mapping[str, SourceUploads] = field(default_factory=dict)
    """Images by their source: `images.source_uploads`."""
    image_widget: str = ""
    """The widget for images that was last drawn."""
    image_set: ImageSet | None = None
    """Images of which those that excite a channel most are looked for; `image_set_problems` are sentences on the last files
    that were brought for it, and `image_set_widget` is the number of their widget: `channel_set`.
    """
    image_set_problems: tuple[str, ...] = ()
    image_set_widget: int = 0
    selected_upload: str = ""
    """The digest of the upload that is run first."""
    checkpoint: UploadedCheckpoint | None = None
    """The checkpoint that was uploaded: `own_checkpoint.uploaded_checkpoint`."""
    checkpoint_problem: str = ""
    """Why the last file for one could not be opened, in a sentence."""
    answers: FileAnswers | None = None
    """What was answered of a file for one that has to be chosen again for it."""
    checkpoint_widget: int = 0
    """How many files for checkpoints came, which is the number of their widget."""
    mismatches: tuple[str, ResNetConfig, list[Mismatch]] | None = None
    """What keeps a checkpoint, by its digest, from fitting a configuration."""
    channels_shown: int | None = None
    """How many channels are shown at most, where a person has chosen."""
    unit: tuple[str, Layer] | None = None
    """The link's unit, and the layer that it is one of."""
    ready: tuple[str, tuple[ResNetConfig, ...]] | None = None
    """The ready comparison that was asked for, by its name, and the networks that stood in its way: `compare.ready_comparisons`."""
    result: Result | None = None
    """The published result whose point was clicked last."""
    timed_here: Mapping[tuple[ResNetConfig, tuple[int, int]], Here] = field(default_factory=dict)
    """What was measured last of each network at an image size, beside others: `choose.latency`."""
    searched: tuple[Hashable, Searched] | None = None
    """How far the last search of designs has come, by what it depends on: `choose.designs`."""
    destination: View | None = None
    """What a click on Start's table asked for, which Architecture opens in the same run."""
    source_note: str = ""
    """The note of the source page that the link named last."""
    source_layer: tuple[ResNetConfig, str] | None = None
    """The layer, by its network and name, whose line the source page has chosen."""
    shown: View | None = None
    """What the inference page shows a result of, or did before weights were asked for that are not here yet; None where it
    asks for some.
    """
    failed: Failure | None = None
    """The weights that were asked for last and cannot be had, so that the view before is shown: `keep_shown`."""
    unavailable: Mapping[Hashable, str] = field(default_factory=dict)
    """Why networks that are to stand side by side cannot be had, in a sentence, by what asks for them: `beside.networks.asked`."""
    sample: str = ""
    """The view's image before the one that was uploaded."""
    attempts: Mapping[str, int] = field(default_factory=dict)
    """How often what a button measures was asked for anew, by the button's name."""
    steps: Mapping[str, int] = field(default_factory=dict)
    """Where the source page has come to in running a function, by its anchor."""
    inspected: Mapping[str, str] = field(default_factory=dict)
    """The layer that is selected in each block of the kernels page, by the block's kind."""


@dataclass
class Hand:
    """What a session holds at the moment.

    It is replaced in here and not in Streamlit's state, which keeps what a key stood for until a run ends: uploads that
    were let go would stay as long.
    """

    held: SessionState = SessionState()


def hand() -> Hand:
    return st.session_state.setdefault("hand", Hand())


def held() -> SessionState:
    """What this session holds."""
    return hand().held


def hold(**changes: Any) -> None:
    """Hold something else."""
    mine = hand()
    mine.held = replace(mine.held, **changes)


def open_link() -> None:
    """Take the view from the link where the link is new: opened, or gone back or forward to.

    A link that says nothing of what is looked at, as Start's, leaves that as it is.
    """
    query = st.query_params.to_dict()
    hold(drawn_state=None)
    old: View | None = st.session_state.get("view")
    if held().query != query or old is None:
        view, problems = tolerant(query)
        if old is not None and held().page == START and not names_view(query):
            view = replace(old, tour=view.tour, present=view.present, start=view.start)
        show(view)
        hold(asked=held().asked or bool(problems) or "preset" in query, shown=None, unit=None)
        hold(problems=tuple(problems), query=query, opening=view.weights if left_to_hub(query) else "")


def link_query() -> dict[str, str]:
    """What this page's link says."""
    return view().way() if held().page == START else view().to_query()


def query_to(there: View) -> dict[str, str]:
    """The query of a link to another view, walked to in the same way: on the tour, before a projector."""
    return there.to_query() | view().way()


def write_link() -> None:
    """Put the view into the link where it is not there yet, but for a network that its weights are to replace."""
    now, query = view(), link_query()
    if now.weights and now.weights == held().opening and (now.config == ResNetConfig() or not held().refused):
        query = without_network(query)
    if query != held().query:
        st.query_params.from_dict(query)
        hold(query=query)


def view() -> View:
    """What this session is looking at: what its link says where it has forgotten."""
    if "view" not in st.session_state:
        open_link()
    return st.session_state.view


def show(new: View, *notes: str) -> None:
    """Look at something else; `notes` say what had to follow."""
    old: View | None = st.session_state.get("view")
    if old is not None and old.config != new.config:
        hold(previous_config=old.config)
        if new.trail == old.trail:  # units of the network before, which no link has named
            new = replace(new, trail=())
        kept = switched_off(new.off, new.config)
        if kept != new.off:
            channels = any(":" in name for name in set(new.off) - set(kept))
            lost = "Blocks and channels" if channels else "Blocks"
            notes += (f"{lost} that were off and are not in this network are forgotten.",)
            new = replace(new, off=kept)
    st.session_state.view = new
    hold(notes=notes, problems=(), typed={}, before_greeting=None, opening="", failed=None)


def change_view(**changes: Any) -> None:
    """Change what is chosen on a page, but not the configuration; what was wrong before has been read. An image size that
    nobody has set follows the weights. Who selects another unit by hand begins a new trail.
    """
    if "trail" not in changes and not changes.keys().isdisjoint({"at", "channel", "unit"}):
        changes["trail"] = ()
    old, new = view(), replace(view(), **changes)
    if "image_size" not in changes and old.image_size == old.natural_size:
        new = replace(new, image_size=new.natural_size)
    st.session_state.view = new
    hold(notes=(), problems=(), typed={})
    if "weights" in changes:
        hold(failed=None)
    elif held().shown == old:
        hold(shown=new)


def keep_shown(error: WeightsError, stopped: bool = False) -> bool:
    """Go back from weights that cannot be had to what the inference page showed a result of; whether there is such a view, of
    another network or with other weights.
    """
    shown = held().shown
    if shown is None or held().page != INFERENCE:
        return False
    asked = view()
    if (asked.config, asked.weights) == (shown.config, shown.weights):
        return False
    st.session_state.view = shown
    hold(failed=Failure.of(error, asked, held().opening, stopped), opening="", notes=(), problems=())
    return True


def choose(**changes: Any) -> None:
    """`change_view` in a widget's callback; where only the tabs and the links show the change, they alone are drawn again, and
    what is above the tabs where another layer is looked at.
    """
    at = view().at
    change_view(**changes)
    if page_state() == held().drawn_state:
        draw_only("links", *(["above"] if view().at != at else []), "panels")


def draw_only(*fragments: str) -> None:
    """Let these be drawn in a widget's callback, and where the run draws no fragment, nothing else: then it begins again.

    Streamlit asks for other fragments by a second run, which the browser draws as well, and takes as long for. But it looks
    at which ones to draw only after the callbacks.
    """
    context = get_script_run_ctx()
    if context and (drawn := context.fragment_ids_this_run):
        drawn[:] = dict.fromkeys((*context.fragment_storage.resolve_target(fragments), *drawn))
    else:
        st.rerun(list(fragments))


def page_state() -> tuple[Any, ...]:
    """What the rest of a page depends on where it has tabs; what it was drawn with is held, None where it has none."""
    only_tabs: dict[str, Any] = dict.fromkeys(
        (
            *("unit", "lab", "training", "landscape", "experiment", "appended", "tab", "explained", "cost", "memory"),
            *("run", "change"),
        ),
        "",
    )
    rest, now = replace(view(), **only_tabs), held()
    rest = replace(rest, channel=View.channel, blend=View.blend, range=View.range, trail=View.trail)
    if now.page == INFERENCE:  # there the drawing is above the tabs
        rest = replace(rest, at="")
    edited = now.page is not None and now.page.shows_network(view().tab)
    return rest, now.problems, now.notes, now.selected_upload, now.form, now.unfolded, edited


def release_files(files: Sequence[str]) -> None:
    """Let go of uploaded files, by the numbers that Streamlit gives them: it keeps each one as long as the session."""
    context = get_script_run_ctx()
    if context and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        for file in files:
            context.uploaded_file_mgr.remove_file(context.session_id, file)


def compared_config() -> ResNetConfig | None:
    """What the headline figures are compared with: the pinned configuration, else the previous one."""
    return view().pinned or held().previous_config


def change(name: str, value: Any, typed: str | None = None) -> None:
    """Change one option of the configuration; a value that is not accepted leaves the view as it is.

    `typed` is the text that stood for the value, which then stays to be mended.
    """
    now = view()
    try:
        config, notes = now.config.with_(**{name: value})
    except ConfigError as error:
        refuse(error, {f"option {name}": to_text(value) if typed is None else typed})
        return
    size = common_size((config,), now.image_size)
    if size != now.image_size:
        notes += (
            f"Image size went from {size_text(now.image_size)} to {size_text(size)}: below {least_side(config)} pixels a "
            "map is too small for one of the network's operations.",
        )
    show(replace(now, config=config, image_size=size, weights=kept_weights(now.weights, config)), *notes)


def kept_weights(key: str, config: ResNetConfig) -> str:
    """What names weights in a link, when its network has become `config`: nothing where that would download others."""
    others = [one for one in torchvision_weights(config) if one.key == key and not at_hand(one)]
    return "" if others else key


def refuse(
    error: ExplainedError,
    typed: Mapping[str, str] | None = None,
    unchanged: str = "The network is unchanged.",
    options: Mapping[str, Option] = OPTIONS,
) -> None:
    """Keep the view, and by its widget the text as it was typed, beside the reason, which names the widget by its label."""
    reason = str(error)
    if isinstance(error, ConfigError):
        label = options[error.field].label if error.field in options else LABELS.get(error.field, error.field)
        reason = error.named(label)
    hold(problems=(f"{reason} {unchanged}",), notes=(), typed=typed or {})


LABELS = {"size": "Image size", "weights": "Weights", "preset": "Preset", "networks": "Networks"}
"""Of widgets that set no option."""


def set_widget(key: str, value: Any, labels: Sequence[str] = ()) -> None:
    """The view decides what a widget shows.

    `labels` are those of a list's options where the same option may be called something else tomorrow. The browser
    keeps a list's choice by its label, and has to be told when that changes.
    """
    before = held().labels
    if st.session_state.get(key) != value or before.get(key, labels) != labels:
        st.session_state[key] = value
    if labels:
        hold(labels={**before, key: labels})


def show_or_say(panel: Callable[..., Value], *arguments: Any) -> Value | None:
    """Call a panel; where what it needs cannot be had, the rest of it is the sentence that says so, and it gives None."""
    try:
        return panel(*arguments)
    except StoppedError:
        pass  # the button to compute it is the panel's end
    except PassError as error:
        st.error(escape_markdown(str(error)), icon=":material/memory:")
    except ExplainedError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
    return None


def messages() -> None:
    """What was wrong with the last link or edit, and what had to follow from it."""
    for problem in held().problems:
        st.warning(escape_markdown(problem), icon=":material/error:")
    if held().notes:
        st.info(escape_markdown(" ".join(held().notes)), icon=":material/info:")


def escape_markdown(words: str) -> str:
    """Text a person typed, shown as text.

    Addresses become links and -> an arrow even where each character is escaped, so an
    invisible word joiner parts them.
    """
    words = plain(re.sub(r"\s+", " ", words), sys.maxsize)
    words = re.sub(r"(?i)(?<=\bwww)(?=\.)|(?<=\S)(?=@)|(?<=\w)(?=://)|(?<=[-<=~])(?=[-=>])", "\u2060", words)
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|$~:&])", r"\\\1", words)

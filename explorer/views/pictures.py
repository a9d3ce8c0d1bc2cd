"""Which pictures to run: samples, uploads, the camera."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import streamlit as st
from PIL import Image, ImageOps
from streamlit.runtime.uploaded_file_manager import UploadedFile

from .. import state
from ..images import ACCEPTED, MAX_BYTES, ImageError, Sample, open_image, samples
from .cached import shared
from .picture import Contacts, contacts, tiles

SOURCES = ("Samples", "Upload", "Camera")
MOST = 16
"""Pictures that are run at once."""


class Chosen(NamedTuple):
    """The picture to run: a sample's name or the digest of an upload's bytes, what to call it, and its pixels, H×W×3,
    which everybody shares.
    """

    digest: str
    name: str
    pixels: np.ndarray

    @property
    def image(self) -> Image.Image:
        """A picture of the caller's own: saving one writes into it for a moment."""
        return Image.fromarray(self.pixels)


@shared(64)
def decoded(digest: str, _data: bytes) -> np.ndarray:
    """The pixels of the file with this digest, H×W×3."""
    return np.asarray(open_image(_data))


@shared(1)
def sample_tiles() -> Contacts:
    """Every shipped sample as a small square."""
    return contacts([thumbnail(open_image(sample.open())) for sample in samples()])


def choose_pictures(fashion: bool) -> list[Chosen]:
    """Up to `MOST` pictures, the chosen one first: a sample, uploads, or a photograph from the camera.

    Empty, with a sentence, where there is none yet. `fashion` says which sample to begin with.
    """
    source = st.segmented_control(
        "Picture from", SOURCES, required=True, default=SOURCES[0], key="source", label_visibility="collapsed",
        persist_state="session",
    )  # fmt: skip
    if source == "Samples":
        return [sample_picture(fashion)]
    if source == "Upload":
        limit = MAX_BYTES // 2**20
        held = bring(source, lambda **shared: st.file_uploader(
            f"Up to {MOST} pictures of at most {limit} MB: {ACCEPTED}", max_upload_size=limit,
            accept_multiple_files=True, **shared,
        ))  # fmt: skip
    else:
        held = bring(source, lambda **shared: st.camera_input("Take a picture", **shared))
    for problem in held.problems:
        st.error(state.escape_markdown(problem), icon=":material/broken_image:")
    if held.unread:
        st.warning(f"{len(held.all) + held.unread} pictures were uploaded; the first {MOST} are used.")
    pictures = [Chosen(one.digest, one.name, decoded(one.digest, one.data)) for one in held.all]
    if not pictures:
        st.caption("Pictures stay in the server's memory: nothing is written to disk, and nobody else sees them.")
        return []
    pictures = chosen_first(pictures)
    with st.container(horizontal=True):
        first = pictures[0].digest
        st.button(
            "Remove this picture", on_click=remove, args=(source, [first]), icon=":material/delete:", type="tertiary"
        )
        if len(pictures) > 1:
            every = [picture.digest for picture in pictures]
            st.button("Remove all", on_click=remove, args=(source, every), type="tertiary")
    return pictures


# -- what a person brought ----------------------------------------------------------------


@dataclass(frozen=True)
class Upload:
    """A picture's file that could be opened, told apart by its bytes' digest."""

    digest: str
    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Brought:
    """What a session holds of one source, longer than Streamlit, which forgets a widget's files when it is not drawn.

    `fresh` are the pictures of the widget as it is, `files` the numbers by which Streamlit knows them, and `problems`
    sentences on its files that are no pictures, and `unread` how many of its files are too many; `kept` are the pictures
    of earlier widgets, of which this is number `widget`.
    """

    kept: tuple[Upload, ...] = ()
    fresh: tuple[Upload, ...] = ()
    files: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    unread: int = 0
    widget: int = 0

    @property
    def all(self) -> tuple[Upload, ...]:
        """Each picture once, in the order in which they came."""
        return tuple({one.digest: one for one in (*self.kept, *self.fresh)}.values())

    def anew(self, without: Sequence[str] = ()) -> Brought:
        """What is held when the widget is empty again, less what was removed."""
        return Brought(tuple(one for one in self.all if one.digest not in without), widget=self.widget)


def brought() -> dict[str, Brought]:
    """What this session holds, by source."""
    return st.session_state.setdefault("brought", {source: Brought() for source in SOURCES})


def bring(source: str, widget: Callable[..., UploadedFile | list[UploadedFile] | None]) -> Brought:
    """What a person brought by a widget for files, which gets the key and the callback, and in earlier ones like it."""
    key = f"{source} {brought()[source].widget}"

    def taken() -> None:
        value, held = st.session_state[key], brought()[source]
        several = isinstance(value, list)
        files = [file for file in (value if several else [value]) if isinstance(file, UploadedFile)]
        kept = held.kept if several else ()  # a photograph takes the place of the last
        found = [read(file) for file in files[: MOST - len(kept)]]
        brought()[source] = Brought(
            kept, tuple(one for one in found if isinstance(one, Upload)), tuple(file.file_id for file in files),
            tuple(one for one in found if isinstance(one, str)), len(files) - len(found), held.widget,
        )  # fmt: skip

    if not widget(key=key, on_change=taken) and brought()[source].files:  # its page was left
        state.release(brought()[source].files)
        brought()[source] = brought()[source].anew()
    return brought()[source]


def read(file: UploadedFile) -> Upload | str:
    """An uploaded picture, or a sentence."""
    data = file.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    try:
        decoded(digest, data)
    except ImageError as error:
        return f"{file.name}: {error}"
    return Upload(digest, file.name, data)


def remove(source: str, digests: Sequence[str]) -> None:
    """Forget pictures, and the server's copies of their files."""
    held = brought()[source]
    state.release(held.files)
    for digest in digests:
        decoded.clear(digest, b"")
    brought()[source] = replace(held.anew(digests), widget=held.widget + 1)


# -- choosing one of them -----------------------------------------------------------------


def chosen_first(pictures: list[Chosen]) -> list[Chosen]:
    """The pictures as tiles to choose from where there are several; the chosen one goes to the front."""
    if len(pictures) < 2:
        return pictures

    def choose(digest: str) -> None:
        st.session_state.uploaded = digest

    digests = [picture.digest for picture in pictures]
    current = st.session_state.get("uploaded")
    current = current if current in digests else digests[0]
    labels = {picture.digest: picture.name for picture in pictures}
    tiles(contacts([thumbnail(picture.image) for picture in pictures]), labels, current, "uploads", choose)
    return sorted(pictures, key=lambda picture: picture.digest != current)


def thumbnail(picture: Image.Image) -> np.ndarray:
    """The middle of a picture as 56×56×3 bytes."""
    return np.asarray(ImageOps.fit(picture, (56, 56)))


def sample_picture(fashion: bool) -> Chosen:
    known = {sample.name: sample for sample in samples()}
    name = state.view().picture
    if name and name not in known:
        st.warning(state.escape_markdown(f"picture = {name} is not a sample; the first one is shown instead."))
    sample = known.get(name) or next(s for s in known.values() if not fashion or s.label == "Sneaker")
    with st.container(height=330, border=False):
        labels = {sample.name: sample.label for sample in known.values()}
        tiles(sample_tiles(), labels, sample.name, "samples", lambda name: state.choose(picture=name))
    st.caption(credit(sample))
    return from_sample(sample)


def from_sample(sample: Sample) -> Chosen:
    return Chosen(sample.name, sample.label, decoded(sample.name, sample.open()))


def credit(sample: Sample) -> str:
    return f"{sample.label}. {sample.source}, {sample.licence}."

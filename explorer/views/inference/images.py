"""Which images to run: samples, uploads, the camera."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import streamlit as st
from PIL import Image, ImageOps
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.uploaded_file_manager import UploadedFile

from resnet import owner

from ...inference import images
from ...inference.decode import ACCEPTED
from ...inference.images import MAX_BYTES, ImageError
from ...inference.samples import Sample, labelled_image, samples
from ...inference.turns import in_turn
from ...link import UPLOAD
from ...sharing.holdings import HELD_FILES, NoRoomError
from ...sharing.scheduler import PAGES
from ...sharing.store import RESULTS, FileDigest
from .. import session
from ..cached import shared
from ..components import ContactSheet, contact_sheet, tiles
from ..uploads import SourceUploads, Upload

Value = TypeVar("Value")

SOURCES = ("Samples", "Upload", "Camera")
MAX_IMAGES = 16
"""Images that are run at once."""
MAX_SESSION_BYTES = 128 * 2**20
"""What the files of one session's images may hold together."""
MAX_SHOWN_SIDE = 1460
"""Pixels of the longer side of what a network sees, as a page shows it, at most."""
PREVIEW_SIDE = 480
"""Of an image that stands beside that."""


class ChosenImage(NamedTuple):
    """The image to run: a sample's name or the digest of an upload's bytes, what to call it, and where it comes from.

    Its pixels are looked up where they are needed: everybody shares them.
    """

    digest: str
    name: str
    source: Sample | Upload

    def apply(self, make: Callable[[Image.Image], Value]) -> Value:
        """What `make` returns for a copy of the image, in a turn where it is large."""
        return apply_to(cached_pixels(self.digest, self.source.pixels), make)

    @property
    def preview(self) -> Image.Image:
        """The image, at most `PREVIEW_SIDE` pixels a side; the caller's own, as saving one writes into it for a moment."""
        return Image.fromarray(cached_preview(self.digest, self))


def apply_to(pixels: np.ndarray, make: Callable[[Image.Image], Value]) -> Value:
    """What `make` returns for an image of these pixels, in a turn where it is large."""
    return in_turn(pixels.size, lambda: make(Image.fromarray(pixels)))


@shared()
def cached_pixels(image: str, _pixels: Callable[[], np.ndarray]) -> np.ndarray:
    """An image's pixels, H×W×3."""
    return _pixels()


@shared()
def cached_preview(image: str, _chosen: ChosenImage) -> np.ndarray:
    def reduce(image: Image.Image) -> np.ndarray:
        image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        return np.asarray(image)

    return _chosen.apply(reduce)


@shared()
def cached_sample_tiles() -> ContactSheet:
    """Every shipped sample as a small square."""
    return contact_sheet([sample_tile(sample) for sample in samples()])


def sample_tile(sample: Sample) -> np.ndarray:
    """A sample as a small square, grey where its file is missing or damaged."""
    try:
        return thumbnail(sample.image())
    except ImageError:
        return np.full((56, 56, 3), 128, np.uint8)


def choose_images(fashion: bool, below: DeltaGenerator) -> list[ChosenImage]:
    """Up to `MAX_IMAGES` images, the chosen one first: a sample, uploads, or a photograph from the camera, in a row.

    Empty, with a sentence `below`, where there is none yet. `fashion` says which sample to begin with.
    """
    if not owner.uploads_allowed():  # as the card of the checkpoint says
        return [sample_image(fashion, below)]
    source = shown_source()
    session.set_widget("source", source)
    st.segmented_control(
        "Image from",
        SOURCES,
        required=True,
        key="source",
        label_visibility="collapsed",
        persist_state="session",
        on_change=lambda: mark_upload(st.session_state["source"]),
        width="content",
    )
    if source == "Samples":
        return [sample_image(fashion, below)]
    key, held = f"{source} {source_uploads(source).widget}", source_uploads(source)
    if key not in st.session_state and session.held().image_widget == key:  # its page was left
        held = hold_uploads(source, SourceUploads(held.images, widget=held.widget))
    session.hold(image_widget=key)
    images = chosen_first(held.images)
    with below:
        for problem in held.problems:
            st.error(session.escape_markdown(problem), icon=":material/broken_image:")
        if held.unread:
            st.warning(f"{len(held.images) + held.unread} images were uploaded; the first {MAX_IMAGES} are used.")
    if not images:
        with below:
            upload_widget(source, key)
            st.caption(PRIVACY_NOTE)
        return []
    with st.popover("Change", icon=":material/edit:", type="tertiary", key="change images"):
        upload_widget(source, key)
        with st.container(horizontal=True):
            first = images[0].digest
            st.button(
                "Remove this image",
                on_click=remove,
                args=(source, [first]),
                icon=":material/delete:",
                type="tertiary",
                help=PRIVACY_NOTE,
            )
            if len(images) > 1:
                every = [image.digest for image in images]
                st.button("Remove all", on_click=remove, args=(source, every), type="tertiary")
    return images


def upload_widget(source: str, key: str) -> None:
    """Where images are uploaded, or taken by the camera."""
    widget: dict[str, Any] = {"key": key, "on_change": read_uploads, "args": (source,)}
    if source == "Camera":
        st.camera_input("Take an image", **widget)
        return
    limit = MAX_BYTES // 2**20
    st.file_uploader(
        f"Up to {MAX_IMAGES} images of at most {limit} MB: {ACCEPTED}",
        max_upload_size=limit,
        accept_multiple_files=True,
        **widget,
    )


PRIVACY_NOTE = (
    "Images are kept in the server's memory until you remove them or close the page, and nobody else sees them. While one "
    "arrives, a part of it may lie in a temporary file without a name; nothing else is written to disk."
)


def shown_source() -> str:
    """Where the image comes from: the view says whether it was uploaded, unless a person has just chosen where to upload one."""
    chosen = st.session_state.get("source", SOURCES[0])
    brought = [source for source in SOURCES if source_uploads(source).images]
    if session.view().image == UPLOAD:
        return next((source for source in (chosen, *brought) if source in brought), chosen)
    return SOURCES[0] if chosen in brought else chosen


def mark_upload(source: str) -> None:
    """Let the view, and the link, say whether an image of this source was uploaded; where none was, the sample before it
    comes back.
    """
    now, uploaded = session.view().image, bool(source_uploads(source).images)
    if uploaded and now != UPLOAD:
        session.hold(sample=now)
        session.change_view(image=UPLOAD)
    elif now == UPLOAD and not uploaded:
        session.change_view(image=session.held().sample)


# -- what a person brought ----------------------------------------------------------------


def source_uploads(source: str) -> SourceUploads:
    """What this session holds of a source."""
    return session.held().uploads.get(source, SourceUploads())


def hold_uploads(source: str, new: SourceUploads) -> SourceUploads:
    """Hold this of a source, which is returned, in place of what is held."""
    session.hold(uploads={**session.held().uploads, source: new})
    return new


def read_uploads(source: str) -> None:
    """Read what a widget brought, and let go of Streamlit's own copies."""
    held = source_uploads(source)
    value = st.session_state[f"{source} {held.widget}"]
    several = isinstance(value, list)
    files = [file for file in (value if several else [value]) if isinstance(file, UploadedFile)]
    images = {one.digest: one for one in held.images if several}  # a photograph takes the place of the last
    problems, unread = [], len(files[MAX_IMAGES:])
    for file in files[:MAX_IMAGES]:
        data = file.getvalue()
        digest = FileDigest(hashlib.sha256(data).hexdigest())
        if digest not in images and len(images) == MAX_IMAGES:
            unread += 1
        elif digest not in images:
            try:
                images[digest] = read_upload(file.name, data, digest, sum(one.nbytes for one in images.values()))
            except ImageError as error:
                problems.append(f"{file.name}: {error}")
            except NoRoomError as error:
                problems.append(str(error))
    session.release_files([file.file_id for file in files])
    hold_uploads(source, SourceUploads(tuple(images.values()), tuple(problems), unread, held.widget + 1))
    mark_upload(source)


def read_upload(name: str, data: bytes, digest: FileDigest, held_bytes: int) -> Upload:
    """An uploaded image; `held_bytes` are the bytes that the session holds already.

    Raises:
        ImageError: where it is none.
        NoRoomError: where the session or the server holds too much already.
    """
    if held_bytes + len(data) > MAX_SESSION_BYTES:
        raise NoRoomError(
            f"{name} finds no room: your images may take {MAX_SESSION_BYTES // 2**20} MiB together; remove some first."
        )
    with HELD_FILES.room(len(data), name) as hold, PAGES.aside():
        pixels = cached_pixels(digest, lambda: images.pixels(data))
        upload = Upload(digest, name, data, apply_to(pixels, thumbnail))
        hold(upload)
        return upload


def remove(source: str, digests: Sequence[str]) -> None:
    """Forget images, and what was made of them."""
    held = source_uploads(source)
    left = tuple(one for one in held.images if one.digest not in digests)
    hold_uploads(source, SourceUploads(left, widget=held.widget))
    mark_upload(source)
    for digest in digests:
        RESULTS.forget(digest)


# -- choosing one of them -----------------------------------------------------------------


def chosen_first(images: Sequence[Upload]) -> list[ChosenImage]:
    """The images as tiles to choose from where there are several; the chosen one goes to the front."""
    chosen = [ChosenImage(one.digest, one.name, one) for one in images]
    if len(images) < 2:
        return chosen

    def choose(digest: str) -> None:
        session.hold(selected_upload=digest)

    labels: dict[str, str] = {one.digest: one.name for one in images}
    current = session.held().selected_upload
    current = current if current in labels else images[0].digest
    tiles(contact_sheet([one.tile for one in images]), labels, current, "uploads", choose, row=True)
    return sorted(chosen, key=lambda image: image.digest != current)


def thumbnail(image: Image.Image) -> np.ndarray:
    """The middle of an image as 56×56×3 bytes."""
    return np.asarray(ImageOps.fit(image, (56, 56)))


def sample_image(fashion: bool, below: DeltaGenerator) -> ChosenImage:
    known = {sample.name: sample for sample in samples()}
    name = session.view().image
    if name == UPLOAD:
        below.warning(GONE, icon=":material/hide_image:")
    elif name and name not in known and not labelled_image(name):
        below.warning(session.escape_markdown(f"image = {name} is not a sample; the first one is shown instead."))
    sample = (
        known.get(name)
        or labelled_image(name)
        or next(s for s in known.values() if not fashion or s.label == "Sneaker")
    )
    labels = {sample.name: sample.label for sample in known.values()}
    tiles(cached_sample_tiles(), labels, sample.name, "samples", lambda name: session.choose(image=name), row=True)
    return from_sample(sample)


def from_sample(sample: Sample) -> ChosenImage:
    return ChosenImage(sample.name, sample.label, sample)


GONE = (
    "The uploaded image is gone: it stays with the person who uploaded it, in memory alone, so that neither a reload nor "
    "another's link brings it back, and a sample is shown in its place."
)


def credit(sample: Sample) -> str:
    return f"{sample.label}. {sample.source}, {sample.licence}."

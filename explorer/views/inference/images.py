"""Which images to run: samples, uploads, the camera."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import streamlit as st
from PIL import Image, ImageOps
from streamlit.runtime.uploaded_file_manager import UploadedFile

from ...inference import images
from ...inference.decode import ACCEPTED
from ...inference.images import MAX_BYTES, ImageError
from ...inference.samples import Sample, samples
from ...inference.turns import in_turn
from ...sharing.holdings import HELD, NoRoomError
from ...sharing.scheduler import PAGES
from ...sharing.store import RESULTS, Own
from .. import session
from ..cached import shared
from ..components import Contacts, contacts, tiles
from ..uploads import Brought, Upload

Value = TypeVar("Value")

SOURCES = ("Samples", "Upload", "Camera")
MAX_IMAGES = 16
"""Images that are run at once."""
MAX_SESSION_BYTES = 128 * 2**20
"""What the files of one session's images may hold together."""
SHOWN = 1460
"""Pixels of the longer side of an image as a page shows it, at most."""


class Chosen(NamedTuple):
    """The image to run: a sample's name or the digest of an upload's bytes, what to call it, and where it comes from.

    Its pixels are looked up where they are needed: everybody shares them.
    """

    digest: str
    name: str
    source: Sample | Upload

    def made(self, make: Callable[[Image.Image], Value]) -> Value:
        """What `make` returns for a copy of the image, in a turn where it is large."""
        return made(decoded(self.digest, self.source.pixels), make)

    @property
    def small(self) -> Image.Image:
        """The image, at most `SHOWN` pixels a side; the caller's own, as saving one writes into it for a moment."""
        return Image.fromarray(reduced(self.digest, self))


def made(pixels: np.ndarray, make: Callable[[Image.Image], Value]) -> Value:
    """`Chosen.made` of these pixels."""
    return in_turn(pixels.size, lambda: make(Image.fromarray(pixels)))


@shared()
def decoded(image: str, _pixels: Callable[[], np.ndarray]) -> np.ndarray:
    """An image's pixels, H×W×3."""
    return _pixels()


@shared()
def reduced(image: str, _chosen: Chosen) -> np.ndarray:
    def reduce(image: Image.Image) -> np.ndarray:
        image.thumbnail((SHOWN, SHOWN))
        return np.asarray(image)

    return _chosen.made(reduce)


@shared()
def sample_tiles() -> Contacts:
    """Every shipped sample as a small square."""
    return contacts([sample_tile(sample) for sample in samples()])


def sample_tile(sample: Sample) -> np.ndarray:
    """A sample as a small square, grey where its file is missing or damaged."""
    try:
        return thumbnail(sample.image())
    except ImageError:
        return np.full((56, 56, 3), 128, np.uint8)


def choose_images(fashion: bool) -> list[Chosen]:
    """Up to `MAX_IMAGES` images, the chosen one first: a sample, uploads, or a photograph from the camera.

    Empty, with a sentence, where there is none yet. `fashion` says which sample to begin with.
    """
    source = st.segmented_control(
        "Image from",
        SOURCES,
        required=True,
        default=SOURCES[0],
        key="source",
        label_visibility="collapsed",
        persist_state="session",
    )
    if source == "Samples":
        return [sample_image(fashion)]
    key, held = f"{source} {brought(source).widget}", brought(source)
    if key not in st.session_state and session.held().image_widget == key:  # its page was left
        held = bring(source, Brought(held.images, widget=held.widget))
    session.hold(image_widget=key)
    widget: dict[str, Any] = {"key": key, "on_change": take, "args": (source,)}
    if source == "Upload":
        limit = MAX_BYTES // 2**20
        st.file_uploader(
            f"Up to {MAX_IMAGES} images of at most {limit} MB: {ACCEPTED}",
            max_upload_size=limit,
            accept_multiple_files=True,
            **widget,
        )
    else:
        st.camera_input("Take an image", **widget)
    for problem in held.problems:
        st.error(session.escape_markdown(problem), icon=":material/broken_image:")
    if held.unread:
        st.warning(f"{len(held.images) + held.unread} images were uploaded; the first {MAX_IMAGES} are used.")
    if not held.images:
        st.caption(KEPT)
        return []
    images = chosen_first(held.images)
    with st.container(horizontal=True):
        first = images[0].digest
        st.button(
            "Remove this image",
            on_click=remove,
            args=(source, [first]),
            icon=":material/delete:",
            type="tertiary",
            help=KEPT,
        )
        if len(images) > 1:
            every = [image.digest for image in images]
            st.button("Remove all", on_click=remove, args=(source, every), type="tertiary")
    return images


KEPT = (
    "Images are kept in the server's memory until you remove them or close the page, and nobody else sees them. While one "
    "arrives, a part of it may lie in a temporary file without a name; nothing else is written to disk."
)


# -- what a person brought ----------------------------------------------------------------


def brought(source: str) -> Brought:
    """What this session holds of a source."""
    return session.held().brought.get(source, Brought())


def bring(source: str, new: Brought) -> Brought:
    """Hold this of a source, which is returned, in place of what is held."""
    session.hold(brought={**session.held().brought, source: new})
    return new


def take(source: str) -> None:
    """Read what a widget brought, and let go of Streamlit's own copies."""
    held = brought(source)
    value = st.session_state[f"{source} {held.widget}"]
    several = isinstance(value, list)
    files = [file for file in (value if several else [value]) if isinstance(file, UploadedFile)]
    images = {one.digest: one for one in held.images if several}  # a photograph takes the place of the last
    problems, unread = [], len(files[MAX_IMAGES:])
    for file in files[:MAX_IMAGES]:
        data = file.getvalue()
        digest = Own(hashlib.sha256(data).hexdigest())
        if digest not in images and len(images) == MAX_IMAGES:
            unread += 1
        elif digest not in images:
            try:
                images[digest] = read(file.name, data, digest, sum(one.nbytes for one in images.values()))
            except ImageError as error:
                problems.append(f"{file.name}: {error}")
            except NoRoomError as error:
                problems.append(str(error))
    session.release([file.file_id for file in files])
    bring(source, Brought(tuple(images.values()), tuple(problems), unread, held.widget + 1))


def read(name: str, data: bytes, digest: Own, mine: int) -> Upload:
    """An uploaded image; `mine` are the bytes that the session holds already.

    Raises:
        ImageError: where it is none.
        NoRoomError: where the session or the server holds too much already.
    """
    if mine + len(data) > MAX_SESSION_BYTES:
        raise NoRoomError(
            f"{name} finds no room: your images may take {MAX_SESSION_BYTES // 2**20} MiB together; remove some first."
        )
    with HELD.room(len(data), name) as hold, PAGES.aside():
        pixels = decoded(digest, lambda: images.pixels(data))
        upload = Upload(digest, name, data, made(pixels, thumbnail))
        hold(upload)
        return upload


def remove(source: str, digests: Sequence[str]) -> None:
    """Forget images, and what was made of them."""
    held = brought(source)
    left = tuple(one for one in held.images if one.digest not in digests)
    bring(source, Brought(left, widget=held.widget))
    for digest in digests:
        RESULTS.forget(digest)


# -- choosing one of them -----------------------------------------------------------------


def chosen_first(images: Sequence[Upload]) -> list[Chosen]:
    """The images as tiles to choose from where there are several; the chosen one goes to the front."""
    chosen = [Chosen(one.digest, one.name, one) for one in images]
    if len(images) < 2:
        return chosen

    def choose(digest: str) -> None:
        session.hold(uploaded=digest)

    labels: dict[str, str] = {one.digest: one.name for one in images}
    current = session.held().uploaded
    current = current if current in labels else images[0].digest
    tiles(contacts([one.tile for one in images]), labels, current, "uploads", choose)
    return sorted(chosen, key=lambda image: image.digest != current)


def thumbnail(image: Image.Image) -> np.ndarray:
    """The middle of an image as 56×56×3 bytes."""
    return np.asarray(ImageOps.fit(image, (56, 56)))


def sample_image(fashion: bool) -> Chosen:
    known = {sample.name: sample for sample in samples()}
    name = session.view().image
    if name and name not in known:
        st.warning(session.escape_markdown(f"image = {name} is not a sample; the first one is shown instead."))
    sample = known.get(name) or next(s for s in known.values() if not fashion or s.label == "Sneaker")
    with st.container(height=330, border=False):
        labels = {sample.name: sample.label for sample in known.values()}
        tiles(sample_tiles(), labels, sample.name, "samples", lambda name: session.choose(image=name))
    st.caption(credit(sample))
    return from_sample(sample)


def from_sample(sample: Sample) -> Chosen:
    return Chosen(sample.name, sample.label, sample)


def credit(sample: Sample) -> str:
    return f"{sample.label}. {sample.source}, {sample.licence}."

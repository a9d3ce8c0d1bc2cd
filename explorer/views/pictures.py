"""Which pictures to run: samples, uploads, the camera."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import streamlit as st
from PIL import Image, ImageOps
from streamlit.runtime.uploaded_file_manager import UploadedFile

from .. import state
from ..images import MAX_BYTES, ImageError, Sample, open_image, samples
from .cached import shared
from .picture import Contacts, contacts, tiles

FORMATS = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"]
SOURCES = ("Samples", "Upload", "Camera")
MOST = 16
"""Pictures that are run at once."""


class Chosen(NamedTuple):
    """The picture to run: its bytes' digest, what to call it, and the picture."""

    digest: str
    name: str
    image: Image.Image


@shared(64)
def decoded(digest: str, _data: bytes) -> np.ndarray:
    """The pixels of the file with this digest, H×W×3."""
    return np.asarray(open_image(_data))


def opened(digest: str, data: bytes) -> Image.Image:
    """A picture of this session's own: saving one writes into it for a moment."""
    return Image.fromarray(decoded(digest, data))


@shared(1)
def sample_tiles() -> Contacts:
    """Every shipped sample as a small square."""
    return contacts([thumbnail(open_image(sample.open())) for sample in samples()])


def choose_pictures(fashion: bool) -> list[Chosen]:
    """Up to `MOST` pictures, the chosen one first: a sample, uploads, or a photograph from the camera.

    Empty, with a sentence, where there is none yet. `fashion` says which sample to begin with.
    """
    source = st.segmented_control(
        "Picture from", SOURCES, required=True, default=SOURCES[0], key="source", label_visibility="collapsed"
    )
    if source == "Samples":
        return [sample_picture(fashion)]
    if source == "Upload":
        limit = MAX_BYTES // 2**20
        files = st.file_uploader(
            f"Up to {MOST} of JPEG, PNG, WebP, GIF, BMP or TIFF, at most {limit} MB each", FORMATS, key="upload",
            max_upload_size=limit, accept_multiple_files=True,
        )  # fmt: skip
    else:
        taken = st.camera_input("Take a picture", key="camera")
        files = [taken] if taken else []
    if len(files) > MOST:
        st.warning(f"{len(files)} pictures were uploaded; the first {MOST} are used.")
    pictures = [picture for file in files[:MOST] if (picture := open_file(file))]
    if not files:
        st.caption("Nothing is kept: the pictures stay in this session's memory.")
    return chosen_first(list({picture.digest: picture for picture in pictures}.values()))


def open_file(file: UploadedFile) -> Chosen | None:
    """An uploaded picture, or None with a sentence."""
    data = file.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    try:
        return Chosen(digest, file.name, opened(digest, data))
    except ImageError as error:
        st.error(state.escape_markdown(f"{file.name}: {error}"), icon=":material/broken_image:")
        return None


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
    return Chosen(sample.name, sample.label, opened(sample.name, sample.open()))


def credit(sample: Sample) -> str:
    return f"{sample.label}. {sample.source}, {sample.licence}."

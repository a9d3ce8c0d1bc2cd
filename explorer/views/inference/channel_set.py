"""The images that a person brings to see which of them excite the channels of a network most."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import streamlit as st
import torch
from PIL import Image
from streamlit.runtime.uploaded_file_manager import UploadedFile
from torch import Tensor

from resnet import owner
from resnet.options import plain

from ...drawing import rasters
from ...inference import archives, channels, images, preprocess
from ...inference.ablation import batch_size
from ...inference.channels import Extremes, Responses
from ...inference.decode import ACCEPTED
from ...inference.images import ImageError
from ...inference.preprocess import Prepared
from ...inference.unzip import MAX_BYTES, MAX_FILES, NAME
from ...sharing.holdings import HELD_FILES, NoRoomError
from ...sharing.scheduler import PAGES
from ...sharing.store import RESULTS, FileDigest, Progress
from .. import session
from ..cached import cached_result, may_compute
from ..uploads import ImageSet
from .images import PRIVACY_NOTE, apply_to
from .running import Run

MAX_PROBLEMS = 5
"""Files that cannot be opened and are named."""
TILE_SIDE = 112
"""Pixels of the longer side at which the images of a set are kept, at most."""


class Measured(NamedTuple):
    """What the channels of every place answer to the images of a set that could be opened: their names, and each as the
    network sees it, with a longer side of at most `TILE_SIDE`; `problems` are sentences on those that could not.
    """

    responses: Mapping[str, Responses]
    names: tuple[str, ...]
    tiles: tuple[np.ndarray, ...]
    problems: tuple[str, ...]


def measured_set(result: Run) -> Measured | None:
    """The channels of a run's network on the images that the session holds, when asked for; None before that."""
    held = session.held().image_set
    if held is None:
        choose_files()
        return None
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{len(held.files)} files**, {held.nbytes / 2**20:.1f} MiB", width="content")
        st.button("Remove them", on_click=remove, icon=":material/delete:", type="tertiary", help=PRIVACY_NOTE)
    say_problems()
    key = ("channels", result.weights, result.off, result.device, result.invert, held.digest)
    if not may_compute(f"Run the network on {len(held.files)} images", key):
        return None
    found: Measured = cached_result(
        key, f"Running {len(held.files)} images …", lambda move: measure(result, held.files, move)
    )
    if found.problems:
        more = len(found.problems) - MAX_PROBLEMS
        words = [*found.problems[:MAX_PROBLEMS], *([f"{more} more cannot be opened."] if more > 0 else [])]
        st.warning(session.escape_markdown(" ".join(words)), icon=":material/broken_image:")
    return found if found.names else None


def measure(result: Run, files: Sequence[tuple[str, bytes]], move: Progress) -> Measured:
    """The channels on images that are opened one after the other, each in a process of its own, and run in batches."""
    layers = {place: layer.name for place, layer in channels.places(result.trace).items()}
    ends: dict[tuple[str, bool], Extremes] = {}
    values: dict[str, list[np.ndarray]] = {place: [] for place in layers}
    names: list[str] = []
    tiles: list[np.ndarray] = []
    problems: list[str] = []
    waiting: list[Tensor] = []
    size = batch_size(result.trace)
    for number, (name, data) in enumerate(files, start=1):
        try:
            prepared = opened(data, result)
        except ImageError as error:
            problems.append(f"{name}: {error}")
        else:
            names.append(name)
            tiles.append(tile(prepared.input_image))
            waiting.append(prepared.tensor)
        if waiting and (len(waiting) == size or number == len(files)):
            found = channels.peaks(result.network, torch.cat(waiting), list(layers.values()), result.device)
            for place, layer in layers.items():
                values[place].append(found[layer].values)
                for lowest in (False, True):
                    new = channels.extremes(found[layer], len(names) - len(waiting), lowest)
                    old = ends.get((place, lowest))
                    ends[place, lowest] = channels.joined(old, new, lowest) if old else new
            waiting.clear()
        move(number / len(files))
    answers = {
        place: Responses(ends[place, False], ends[place, True], channels.quantiles(np.concatenate(values[place])))
        for place in layers
        if names
    }
    return Measured(answers, tuple(names), tuple(tiles), tuple(problems))


def opened(data: bytes, result: Run) -> Prepared:
    """An image file as a run's network takes it.

    Raises:
        ImageError: where it cannot be opened.
    """
    preprocessing = result.weights.data.preprocessing
    return apply_to(images.pixels(data), lambda image: preprocess.prepare(image, preprocessing, result.invert))


def tile(seen: np.ndarray) -> np.ndarray:
    """What a network saw, H×W×C bytes, with a longer side of at most `TILE_SIDE` pixels, in colours."""
    picture = Image.fromarray(rasters.as_rgb(seen))
    picture.thumbnail((TILE_SIDE, TILE_SIDE))
    return np.asarray(picture)


# -- what a person brings -----------------------------------------------------------------


def choose_files() -> None:
    """Where the files are uploaded, and what was wrong with the last ones."""
    if not owner.uploads_allowed():
        st.info(owner.NO_UPLOADS)
        return
    key = f"image set {session.held().image_set_widget}"
    st.file_uploader(
        f"Up to {MAX_FILES} images, as files or in a ZIP archive, of {MAX_BYTES // 2**20} MiB together: {ACCEPTED}",
        accept_multiple_files=True,
        max_upload_size=MAX_BYTES // 2**20,
        key=key,
        on_change=read_files,
        args=(key,),
    )
    say_problems()
    st.caption(PRIVACY_NOTE)


def say_problems() -> None:
    for problem in session.held().image_set_problems:
        st.error(session.escape_markdown(problem), icon=":material/broken_image:")


def read_files(key: str) -> None:
    """Take what a widget brought, archives unpacked, and let go of Streamlit's own copies."""
    uploads = [file for file in st.session_state[key] or () if isinstance(file, UploadedFile)]
    problems: list[str] = []
    with PAGES.aside():
        found_in = [read_file(upload.name, upload.getvalue(), problems) for upload in uploads]
    session.release_files([upload.file_id for upload in uploads])
    files, count = [one for some, _ in found_in for one in some], sum(len(some) + more for some, more in found_in)
    kept = files[:MAX_FILES]
    if count > MAX_FILES:
        problems.insert(0, f"{count:,} images were brought, as files or in archives: the first {MAX_FILES} are used.")
    found = None
    if kept:
        # With the names, which are shown: others may have the same images under names of their own.
        every = repr([(name, hashlib.sha256(data).hexdigest()) for name, data in kept])
        found = ImageSet(FileDigest(hashlib.sha256(every.encode()).hexdigest()), tuple(kept))
        try:
            if found.nbytes > MAX_BYTES:
                words = f"{found.nbytes / 2**20:,.0f} MiB of images find no room: at most {MAX_BYTES // 2**20} MiB are accepted."
                raise NoRoomError(words)
            with HELD_FILES.room(found.nbytes, f"A set of {len(kept)} images") as hold:
                hold(found)
        except NoRoomError as error:
            problems, found = [*problems, str(error)], None
    widget = session.held().image_set_widget + 1
    session.hold(image_set=found, image_set_problems=tuple(problems[:MAX_PROBLEMS]), image_set_widget=widget)


def read_file(name: str, data: bytes, problems: list[str]) -> tuple[list[tuple[str, bytes]], int]:
    """An image's name and bytes, or those of the first images in an archive, and how many more are in it; none, and one of
    `problems` more, where it is refused.
    """
    name = plain(name, NAME)
    try:
        if archives.is_archive(data):
            return archives.unpack(name, data)
        if len(data) > images.MAX_BYTES:
            limit = images.MAX_BYTES // 2**20
            raise ImageError(f"{name} has {len(data) / 2**20:.1f} MiB: images of at most {limit} MiB are accepted.")
    except ImageError as error:
        problems.append(str(error))
        return [], 0
    return [(name, data)], 0


def remove() -> None:
    """Forget the images, and what was made of them."""
    held = session.held().image_set
    session.hold(image_set=None, image_set_problems=())
    if held:
        RESULTS.forget(held.digest)

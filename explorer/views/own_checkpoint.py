"""A person's own checkpoint as their session keeps it: read, answered, and held within the room that the server has for such
files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any

from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile
from torch import Tensor

from resnet import OPTIONS, ResNetConfig, WeightsError, open_checkpoint
from resnet.checkpoint import MAX_TENSOR_BYTES, Mismatch, Opened, UnsureNormError, fitted, mismatches, not_finite
from resnet.confined import Places
from resnet.options import plain
from resnet.shards import join
from resnet.weights import Weights, own_weights

from ..inference.checkpoint import listed
from ..sharing.holdings import HELD_FILES, NoRoomError
from ..sharing.scheduler import PAGES
from ..sharing.store import RESULTS, FileDigest
from . import session
from .uploads import FileAnswers, UploadedCheckpoint

MAX_NETWORKS = 4
"""Of the networks in a file, such as one and its averages, those that are kept."""


def read_upload(data: bytes, name: str, **answers: Any) -> UploadedCheckpoint:
    """The checkpoint in a file's bytes, with what is answered of it beforehand.

    Raises:
        WeightsError: where it cannot be read, or is of no residual network that a configuration can express.
    """
    opened = open_checkpoint(data, name, **answers)
    chosen = opened.questions["weights"].choices[0] if "weights" in opened.questions else ""
    return as_answered(UploadedCheckpoint(name, file_digest(data), {chosen: opened}, chosen, answers=answers))


def file_digest(data: bytes) -> FileDigest:
    return FileDigest(hashlib.sha256(data).hexdigest())


def as_answered(checkpoint: UploadedCheckpoint) -> UploadedCheckpoint:
    """A checkpoint whose digest tells it from the same file answered otherwise, with the chosen network's tensors that are not
    finite.
    """
    questions = checkpoint.opened.questions.items()
    taken = [
        (name, question.choices[0]) for name, question in questions if name not in OPTIONS
    ]  # the file's name may say
    answered = repr((sorted(checkpoint.answers.items()), checkpoint.chosen, sorted(taken)))
    digest = FileDigest(f"{checkpoint.file}/{hashlib.sha256(answered.encode()).hexdigest()}")
    return replace(checkpoint, digest=digest, not_finite=tuple(not_finite(checkpoint.tensors)))


def with_others(checkpoint: UploadedCheckpoint, data: bytes, size: int) -> UploadedCheckpoint:
    """The checkpoint with the other networks of its file, as far as there is room beside its `size` bytes; a note names each
    that is not kept.
    """
    question = checkpoint.opened.questions.get("weights")
    names = question.choices[1:] if question else ()
    notes = []
    for name in names[: MAX_NETWORKS - 1]:
        try:
            networks = {**checkpoint.networks, name: another(checkpoint, data, name, size)}
        except (WeightsError, NoRoomError) as error:
            notes.append(f"The weights {plain(name, 40)} cannot be chosen: {error}")
        else:
            checkpoint = replace(checkpoint, networks=networks)
    if more := names[MAX_NETWORKS - 1 :]:
        notes.append(f"{MAX_NETWORKS} of its {len(names) + 1} networks can be chosen, and not {listed(more)}.")
    return replace(checkpoint, notes=tuple(notes))


def another(checkpoint: UploadedCheckpoint, data: bytes, name: str, size: int) -> Opened:
    """Another of the networks in a checkpoint's file, which is taken to be as large as the first until it is opened.

    Raises:
        WeightsError, NoRoomError: where it cannot be opened, or there is no room for it.
    """
    with room_beside(checkpoint, checkpoint.opened.nbytes, size):
        opened = open_checkpoint(data, checkpoint.name, **{**checkpoint.answers, "weights": name})
    with room_beside(checkpoint, opened.nbytes, size):
        return opened


def room_beside(checkpoint: UploadedCheckpoint, more: int, size: int) -> AbstractContextManager[object]:
    """Room for a network of `more` bytes beside those of its file that are kept, where there is room for `size` already.

    Raises:
        WeightsError: where the networks of the file would be too large together.
        NoRoomError: where all sessions together would hold too much.
    """
    needed = checkpoint.nbytes + more
    if needed > MAX_TENSOR_BYTES:
        raise WeightsError(f"the networks of a file may take {MAX_TENSOR_BYTES / 2**30:.1f} GiB together.")
    return HELD_FILES.room(max(0, needed - size), checkpoint.name, instead=uploaded_checkpoint())


ALONE_BYTES = 2**26
"""Bytes from which a file is read while no other is."""
READING = Places(2)
"""Files that are read at one time, or one large file: while it is, its bytes and its tensors are both in memory."""
PATIENCE_SECONDS = 15.0
"""Seconds for which a file waits until others are read."""


def keep_upload(*files: UploadedFile) -> None:
    """Read an uploaded checkpoint, of one file or of an index and its shards, and keep it for this session, in place of
    what it has; the files themselves are let go.

    Raises:
        WeightsError: where it cannot be read, or is of no residual network that a configuration can express.
        NoRoomError: where all sessions together would hold too much, or others' files take long to read.
    """
    answers, whole = session.held().answers, {file.name: file.getvalue() for file in files}
    name, size = next(iter(whole)), sum(map(len, whole.values()))
    if len(whole) < len(files):
        raise WeightsError(
            f"{len(files)} files were chosen, of which several are called {plain(name, 80)}: one checkpoint is accepted."
        )
    with ExitStack() as stack:
        try:
            stack.enter_context(READING.place(PATIENCE_SECONDS, size=1 if size < ALONE_BYTES else 2))
        except TimeoutError:
            raise NoRoomError(f"{name} cannot be read now (others are read): try again in a moment.") from None
        stack.enter_context(HELD_FILES.room(size, name, instead=uploaded_checkpoint()))
        with PAGES.aside():
            name, data = join(whole)
            given = answers.given if answers and answers.file == file_digest(data) else {}
            try:
                checkpoint = with_others(read_upload(data, name, **given), data, size)
            except WeightsError as error:
                if isinstance(error.__cause__, UnsureNormError):
                    session.hold(answers=FileAnswers(name, file_digest(data)))
                raise
        with HELD_FILES.room(max(0, checkpoint.nbytes - size), name, instead=uploaded_checkpoint()) as hold:
            drop()
            hold(checkpoint)
            session.hold(checkpoint=checkpoint, answers=None if given else answers)


def drop() -> None:
    """Let go of the checkpoint that this session holds, and of what was made of it."""
    if checkpoint := uploaded_checkpoint():
        session.hold(checkpoint=None)
        RESULTS.forget(checkpoint.digest)


def uploaded_checkpoint() -> UploadedCheckpoint | None:
    """The checkpoint that this session has uploaded."""
    return session.held().checkpoint


def uploaded_weights(config: ResNetConfig, image_size: tuple[int, int]) -> tuple[Weights, ...]:
    """The uploaded weights where they fit a configuration and can be run."""
    checkpoint = uploaded_checkpoint()
    if checkpoint is None or checkpoint.not_finite or known_mismatches(checkpoint, config):
        return ()
    return (own_weights(config, image_size, checkpoint.name, checkpoint.digest, checkpoint.opened.headless),)


def uploaded_tensors(weights: Weights) -> Mapping[str, Tensor] | None:
    """The tensors that uploaded weights stand for, where this session holds them.

    A download is made outside of any session, for one that held them when it was offered.
    """
    if get_script_run_ctx(suppress_warning=True) is None:
        mine = [one for one in HELD_FILES if isinstance(one, UploadedCheckpoint)]
    else:
        mine = [one] if (one := uploaded_checkpoint()) else []
    asked = (one for one in mine if weights.key == "upload" and weights.digest == one.digest)
    return next((fitted(one.opened, weights.config) for one in asked), None)


def known_mismatches(checkpoint: UploadedCheckpoint, config: ResNetConfig) -> list[Mismatch]:
    """What keeps the tensors from fitting a configuration; looked for once for each."""
    known = session.held().mismatches
    if known is None or known[:2] != (checkpoint.digest, config):
        known = checkpoint.digest, config, mismatches(config, fitted(checkpoint.opened, config))
        session.hold(mismatches=known)
    return known[2]


def keep_answered(checkpoint: UploadedCheckpoint) -> bool:
    """Keep a checkpoint as it was answered, in place of what this session holds: what was made of that is another's. Whether its
    network is another one by that, or runs otherwise."""
    before, checkpoint = uploaded_checkpoint(), as_answered(checkpoint)
    with HELD_FILES.room(0, checkpoint.name, instead=before) as hold:
        drop()
        hold(checkpoint)
        session.hold(checkpoint=checkpoint)
    now = checkpoint.config, bool(checkpoint.not_finite)
    return before is not None and (before.config, bool(before.not_finite)) != now

"""A person's own checkpoint: uploaded, understood, opened, and kept in their session."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile
from torch import Tensor

from resnet import OPTIONS, ResNetConfig, WeightsError, open_checkpoint, owner, title
from resnet.checkpoint import (
    BOTH,
    MAX_FILE_BYTES,
    Mismatch,
    UnsureNormError,
    fitted,
    mismatches,
    not_finite,
    with_option_a,
)
from resnet.confined import Places
from resnet.errors import ExplainedError
from resnet.options import plain, to_text
from resnet.shards import join
from resnet.weights import Weights, own_weights

from ...link import natural_size
from ...sharing.holdings import HELD_FILES, NoRoomError
from ...sharing.scheduler import PAGES
from ...sharing.store import RESULTS, FileDigest
from .. import session, settings
from ..session import change, choose, escape_markdown, release_files, set_widget, show, view
from ..uploads import UploadedCheckpoint

MAX_NETWORKS = 4
"""Of the networks in a file that have the same tensors, such as one and its averages, those that are kept."""


def read_upload(data: bytes, name: str, **answers: Any) -> UploadedCheckpoint:
    """The checkpoint in a file's bytes, with what is answered of it beforehand.

    Raises:
        WeightsError: where it cannot be read, or is of no residual network that a configuration can express.
    """
    opened = open_checkpoint(data, name, **answers)
    digest = FileDigest(" ".join([hashlib.sha256(data).hexdigest(), *map(repr, sorted(answers.items()))]))
    chosen = opened.questions["weights"].choices[0] if "weights" in opened.questions else ""
    return UploadedCheckpoint(name, digest, {chosen: opened}, chosen, tuple(not_finite(opened.state_dict)))


def others(checkpoint: UploadedCheckpoint) -> tuple[str, ...]:
    """The other networks of a file that are kept with the one that was opened."""
    question = checkpoint.opened.questions.get("weights")
    return question.choices[1:MAX_NETWORKS] if question else ()


def beside(checkpoint: UploadedCheckpoint, data: bytes, other: str, **answers: Any) -> UploadedCheckpoint:
    """The checkpoint with another of the networks in its file, where that can be opened."""
    try:
        opened = open_checkpoint(data, checkpoint.name, **answers, weights=other)
    except WeightsError:
        return checkpoint
    return replace(checkpoint, networks={**checkpoint.networks, other: opened})


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
    with ExitStack() as stack:
        try:
            stack.enter_context(READING.place(PATIENCE_SECONDS, size=1 if size < ALONE_BYTES else 2))
        except TimeoutError:
            raise NoRoomError(f"{name} cannot be read now (others are read): try again in a moment.") from None
        stack.enter_context(HELD_FILES.room(size, name, instead=uploaded_checkpoint()))
        with PAGES.aside():
            name, data = join(whole)
            checkpoint = read_upload(data, name, **answers)
            for other in others(checkpoint):
                with HELD_FILES.room(max(0, checkpoint.nbytes - size), name, instead=uploaded_checkpoint()):
                    checkpoint = beside(checkpoint, data, other, **answers)
        with HELD_FILES.room(max(0, checkpoint.nbytes - size), name, instead=uploaded_checkpoint()) as hold:
            drop()
            hold(checkpoint)
            session.hold(checkpoint=checkpoint)


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


# -- the card -----------------------------------------------------------------------------


def upload_card(weights: Weights | None) -> None:
    """Where a checkpoint is uploaded; what was understood of it, what is asked, and what does not fit."""
    checkpoint, problem = uploaded_checkpoint(), session.held().checkpoint_problem
    card = st.expander(
        "Your own checkpoint",
        icon=":material/upload_file:",
        expanded=bool(checkpoint or problem),
        key="own checkpoint",
        on_change="rerun",
    )
    if not card.open:
        return
    with card:
        if not owner.uploads_allowed():
            st.info(owner.NO_UPLOADS, icon=":material/block:")
            return
        limit = MAX_FILE_BYTES // 2**20
        st.file_uploader(
            f"A residual network in PyTorch or safetensors, by any file name, at most {limit} MB",
            key=f"checkpoint {session.held().checkpoint_widget}",
            on_change=file_chosen,
            accept_multiple_files=True,
            max_upload_size=limit,
            help="Such as .pth, .pth.tar, .ckpt, .bin, .pkl or .safetensors; a .safetensors.index.json together with its "
            "shards. Read without running anything in the file. Its weights are kept in the server's memory until you forget "
            "them or close the page, and nobody else sees them. While the file arrives, a part of it may lie in a "
            "temporary file without a name; nothing else is written to disk.",
        )
        if problem:
            st.error(escape_markdown(problem), icon=":material/broken_image:")
        if session.held().norm_is_unsure and "norm" not in session.held().answers:
            st.button("They are group norms", on_click=answer_again, args=("norm", "group"), icon=":material/check:")
        if answers := session.held().answers:
            given = ", ".join(f"{label(name)} = {choice_words(name, value)}" for name, value in answers.items())
            st.info(escape_markdown(f"Choose the file again: it is read with {given}."), icon=":material/upload_file:")
        if checkpoint:
            checkpoint_summary(checkpoint, weights)


def file_chosen() -> None:
    """Read what was uploaded and open its network; the files themselves are not kept."""
    number = session.held().checkpoint_widget
    value = st.session_state[f"checkpoint {number}"]
    files = [file for file in (value if isinstance(value, list) else [value]) if isinstance(file, UploadedFile)]
    if not files:
        return
    session.hold(checkpoint_widget=number + 1, checkpoint_problem="", norm_is_unsure=False)
    try:
        keep_upload(*files)
    except ExplainedError as error:
        unsure = isinstance(error.__cause__, UnsureNormError)
        session.hold(checkpoint_problem=f"{error} The network is unchanged.", norm_is_unsure=unsure)
    else:
        reopen()
    finally:
        session.hold(answers={})  # they were of one file
        release_files([file.file_id for file in files])


def reopen() -> None:
    """Look at the checkpoint's network, with its weights where they can be run."""
    checkpoint = uploaded_checkpoint()
    if checkpoint is None:
        return
    config, now = checkpoint.config, view()
    usable = not checkpoint.not_finite and not known_mismatches(checkpoint, config)
    source = "says which network it is for" if checkpoint.opened.declared else "was understood by its tensors"
    show(
        replace(
            now, config=config, image_size=natural_size(config), at="", unit="", weights="upload" if usable else ""
        ),
        f"{checkpoint.name} {source}: {title(config)}.",
    )


def forget() -> None:
    drop()
    session.hold(checkpoint_problem="", norm_is_unsure=False, answers={})
    if view().weights == "upload":
        choose(weights="")


def checkpoint_summary(checkpoint: UploadedCheckpoint, weights: Weights | None) -> None:
    config, opened = view().config, checkpoint.opened
    theirs = [tensor for name, tensor in checkpoint.tensors.items() if not (opened.headless and name.startswith("fc."))]
    amount = sum(tensor.numel() for tensor in theirs)
    st.markdown(f"**{escape_markdown(checkpoint.name)}**: {len(theirs)} tensors, {amount / 1e6:,.2f} M numbers")
    if said := [*([left_out(opened.left_out)] if opened.left_out else []), *opened.notes]:
        st.markdown(escape_markdown(" ".join(said)))
    with st.container(horizontal=True):
        if config != checkpoint.config:
            st.button("Open its network", on_click=reopen, icon=":material/undo:")
        st.button("Forget it", on_click=forget, icon=":material/delete:")
    if checkpoint.not_finite:
        first = escape_markdown(checkpoint.not_finite[0])
        st.warning(
            f"NaN or infinite numbers are in {len(checkpoint.not_finite)} of its tensors, first in {first}, "
            "so its network can be looked at but its weights cannot be run."
        )
    if found := known_mismatches(checkpoint, config):
        list_mismatches(found)
    elif opened.questions:
        question_widgets(checkpoint, config)
    if weights and weights.key == "upload":
        st.caption(assumptions_text(weights))


MAX_NAMED = 6
"""Parts of a file that are named where they are left out."""


def left_out(parts: Sequence[str]) -> str:
    """What else stood in the file, in a sentence."""
    named = [plain(part or "tensors beside it", 40) for part in parts[:MAX_NAMED]]
    more = f" and {len(parts) - MAX_NAMED} more" if len(parts) > MAX_NAMED else ""
    return f"{', '.join(named)}{more} left out."


def list_mismatches(differences: list[Mismatch]) -> None:
    """By name and both shapes."""
    count = "one tensor differs" if len(differences) == 1 else f"{len(differences)} tensors differ"
    st.warning(f"Its weights do not fit this network: {count}.")
    rows = [
        {"Tensor": one.name, "Network": shape_words(one.expected), "File": shape_words(one.found)}
        for one in differences
    ]
    st.dataframe(rows, hide_index=True, key="mismatches", width="stretch", height="auto" if len(rows) < 6 else 240)


def shape_words(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else "×".join(map(str, shape)) or "one number"


LABELS = {"option_a": "Zeros of option A", "standardised": "Standardised weights", "weights": "Weights in the file"}
"""What a question is called that is no option of a configuration."""


def label(name: str) -> str:
    return OPTIONS[name].label if name in OPTIONS else LABELS.get(name, name.capitalize())


def choice_words(name: str, value: Any) -> str:
    if name == "option_a":
        return "on both sides" if value == BOTH else "after the channels"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plain(value, 60) if name == "weights" else settings.choice_text(value)


def question_widgets(checkpoint: UploadedCheckpoint, config: ResNetConfig) -> None:
    """What the tensors do not show, to be set here or, where it is an option of the configuration, in the sidebar."""
    st.caption("The tensors do not show these, and the likeliest is assumed. Set what you know:")
    columns = st.columns(2)
    questions = sorted(checkpoint.opened.questions.items(), key=lambda asked: asked[0] in OPTIONS)
    for place, (name, question) in enumerate(questions):
        key = f"asked {name}"
        current = getattr(config, name) if name in OPTIONS else question.choices[0]
        choices = tuple(checkpoint.networks) if name == "weights" else question.choices
        set_widget(key, current)
        with columns[place % 2]:
            st.selectbox(
                label(name),
                dict.fromkeys((*choices, current)),
                key=key,
                format_func=partial(choice_words, name),
                on_change=question_answered,
                args=(name,),
                help=question.tell,
            )


def question_answered(name: str) -> None:
    """Take an answer: into the configuration, into the tensors, or, where only the file has what it takes, to the next
    file.
    """
    value, checkpoint = st.session_state[f"asked {name}"], uploaded_checkpoint()
    if name in OPTIONS:
        change(name, value)
    elif checkpoint and name == "weights":
        keep(replace(checkpoint, chosen=value))
    elif checkpoint and name == "option_a":
        networks = {one: with_option_a(opened, value) for one, opened in checkpoint.networks.items()}
        keep(replace(checkpoint, networks=networks))
    else:
        answer_again(name, value)


def answer_again(name: str, value: Any) -> None:
    session.hold(answers={**session.held().answers, name: value})


def keep(checkpoint: UploadedCheckpoint) -> None:
    """Keep a checkpoint as it was answered, in place of what this session holds: what was made of that is another's."""
    before = uploaded_checkpoint()
    digest = checkpoint.digest.partition("/")[0]
    form = checkpoint.opened.questions.get("option_a")
    answers = [hashlib.sha256(checkpoint.chosen.encode()).hexdigest(), form.choices[0] if form else ""]
    checkpoint = replace(
        checkpoint,
        digest=FileDigest("/".join([digest, *map(str, answers)])),
        not_finite=tuple(not_finite(checkpoint.tensors)),
    )
    with HELD_FILES.room(0, checkpoint.name, instead=before) as hold:
        drop()
        hold(checkpoint)
        session.hold(checkpoint=checkpoint)
    if before and before.config != checkpoint.config:
        reopen()


def assumptions_text(weights: Weights) -> str:
    """What is assumed of the data, which no tensor shows."""
    data = weights.data
    names = "" if weights.headless else ", and classes by number"
    if data.name != "unknown":
        names = f", and the classes of {data.name}"
    numbers = ", ".join(map(to_text, data.preprocessing.mean[:3]))
    return f"Assumed as well: images of {shape_words(data.preprocessing.size)} pixels less a mean of {numbers}{names}."

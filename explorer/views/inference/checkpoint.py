"""A person's own checkpoint: uploaded, understood, opened, and kept in their session."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile
from torch import Tensor

from resnet import OPTIONS, ResNetConfig, WeightsError, open_checkpoint, owner, title
from resnet.checkpoint import (
    FIXED,
    MAX_FILE_BYTES,
    MAX_TENSOR_BYTES,
    Mismatch,
    Opened,
    Question,
    UnsureNormError,
    fitted,
    mismatches,
    not_finite,
    with_option_a,
)
from resnet.confined import Places
from resnet.errors import ExplainedError
from resnet.options import plain
from resnet.shards import join
from resnet.weights import Weights, own_weights

from ...inference.checkpoint import (
    answers_text,
    assumed_text,
    assumptions_text,
    cannot_run,
    choice_words,
    in_force,
    in_order,
    label,
    listed,
    said_of,
    shape_words,
)
from ...link import natural_size
from ...sharing.holdings import HELD_FILES, NoRoomError
from ...sharing.scheduler import PAGES
from ...sharing.store import RESULTS, FileDigest
from .. import session, take
from ..session import change, choose, escape_markdown, release_files, set_widget, show, view
from ..uploads import FileAnswers, UploadedCheckpoint

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


# -- the card -----------------------------------------------------------------------------


def is_brought() -> bool:
    """Whether a person has brought a checkpoint, or a file that is none."""
    mine = session.held()
    return bool(uploaded_checkpoint() or mine.checkpoint_problem or mine.answers)


def upload_card(weights: Weights | None, folded: bool = True) -> None:
    """Where a checkpoint is uploaded; what was understood of it, what is asked, and what does not fit; where nothing may
    be uploaded, a sentence.
    """
    if not owner.uploads_allowed():
        st.caption(owner.NO_UPLOADS)
        return
    checkpoint, problem = uploaded_checkpoint(), session.held().checkpoint_problem
    card: DeltaGenerator
    if folded:
        card = expander = st.expander(
            "Your own checkpoint",
            icon=":material/upload_file:",
            expanded=bool(checkpoint or problem),
            key=OPEN,
            on_change="rerun",
        )
        if not expander.open:
            return
    else:
        card = st.container(key=OPEN)
        card.markdown("**Your own checkpoint**")
    with card:
        above = st.container()
        limit = MAX_FILE_BYTES // 2**20
        st.file_uploader(
            "A residual network's checkpoint, by any file name",
            key=f"checkpoint {session.held().checkpoint_widget}",
            on_change=file_chosen,
            accept_multiple_files=True,
            max_upload_size=limit,
            label_visibility="collapsed" if checkpoint else "visible",  # its summary takes that room
            help="Such as .pth, .pth.tar, .ckpt, .bin, .pkl or .safetensors; a .safetensors.index.json together with its "
            "shards; an .onnx or .pt2 that was taken away here. Read without running anything in the file. Its weights are kept in the server's memory until you forget "
            "them or close the page, and nobody else sees them. While the file arrives, a part of it may lie in a "
            "temporary file without a name; nothing else is written to disk.",
        )
        if problem:
            st.error(escape_markdown(problem), icon=":material/broken_image:")
        if answers := session.held().answers:
            file_answers(answers)
        if checkpoint:
            with above:
                checkpoint_summary(checkpoint, weights)


OPEN = "own checkpoint"
"""The card's key: whether it is open."""


def open_card() -> None:
    st.session_state[OPEN] = True


def file_answers(answers: FileAnswers) -> None:
    """What was answered of a file that has to be chosen again for it; where nothing was yet, the answer that would open it."""
    if not answers.given:
        norm = {"norm": "group"}
        st.button("They are group norms", on_click=answer_again, args=(answers, norm), icon=":material/check:")
        return
    words = f"Choose {answers.name} again: it is read with {answers_text(answers.given)}. Other files are read without."
    st.info(escape_markdown(words), icon=":material/upload_file:")
    st.button("Withdraw the answer", on_click=withdraw, icon=":material/undo:")


def file_chosen() -> None:
    """Read what was uploaded and open its network; the files themselves are not kept."""
    number = session.held().checkpoint_widget
    value = st.session_state[f"checkpoint {number}"]
    files = [file for file in (value if isinstance(value, list) else [value]) if isinstance(file, UploadedFile)]
    if not files:
        return
    answers = session.held().answers
    session.hold(
        checkpoint_widget=number + 1, checkpoint_problem="", answers=answers if answers and answers.given else None
    )
    try:
        keep_upload(*files)
    except ExplainedError as error:
        session.hold(checkpoint_problem=f"{error} The network is unchanged.")
    else:
        reopen()
    finally:
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
    session.hold(checkpoint_problem="", answers=None)
    if view().weights == "upload":
        choose(weights="")


def checkpoint_summary(checkpoint: UploadedCheckpoint, weights: Weights | None) -> None:
    config, opened = view().config, checkpoint.opened
    theirs = [tensor for name, tensor in checkpoint.tensors.items() if not (opened.headless and name.startswith("fc."))]
    amount = sum(tensor.numel() for tensor in theirs)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{escape_markdown(checkpoint.name)}**: {len(theirs)} tensors, {amount / 1e6:,.2f} M numbers")
        if config != checkpoint.config:
            st.button("Open its network", on_click=reopen, icon=":material/undo:")
        st.button("Forget it", on_click=forget, icon=":material/delete:")
    notes = (plain(note, 400) for note in (*opened.notes, *checkpoint.notes))
    if said := [*said_of(opened, checkpoint.answers), *notes]:
        st.container(key="said of the upload").markdown(escape_markdown(" ".join(said)))
    if checkpoint.not_finite:
        instead = f": others run here, {weights.title}" if weights else ""
        st.warning(escape_markdown(f"{cannot_run(checkpoint.not_finite)}{instead}."))
    if found := known_mismatches(checkpoint, config):
        list_mismatches(found)
    elif questions := asked(checkpoint):
        question_widgets(config, questions, question_answered, networks=tuple(checkpoint.networks))
    if weights and weights.key == "upload":
        st.caption(assumptions_text(weights))


def list_mismatches(differences: list[Mismatch]) -> None:
    """By name and both shapes."""
    count = "one tensor differs" if len(differences) == 1 else f"{len(differences)} tensors differ"
    st.warning(f"Its weights do not fit this network: {count}.")
    rows = [
        {"Tensor": one.name, "Network": shape_words(one.expected), "File": shape_words(one.found)}
        for one in differences
    ]
    take.table(rows, "mismatches", "Tensors that differ", width="stretch", height="auto" if len(rows) < 6 else 240)


def asked(checkpoint: UploadedCheckpoint) -> list[tuple[str, Question]]:
    """What is asked of a checkpoint; which of its networks where several are kept."""
    return [each for each in in_order(checkpoint.opened) if each[0] != "weights" or len(checkpoint.networks) > 1]


def question_widgets(
    config: ResNetConfig,
    questions: Iterable[tuple[str, Question]],
    answered: Callable[[str], None],
    place: str = "asked",
    networks: Sequence[str] = (),
) -> None:
    """What the tensors do not show: what can be answered nowhere else is asked here; the others, which are options of the
    configuration or have one answer that is accepted, stand in a line and open on demand.

    `answered` is called with the question's name, whose widget begins with `place`. `networks` are those of the file that can
    be chosen, where not all that it is asked about can.
    """
    questions = list(questions)
    others = [(name, question) for name, question in questions if name in OPTIONS or name in FIXED]
    words = "Assumed until you change it, as no tensor shows it:"
    if seen := [one for one in questions if one not in others]:
        st.caption(words)
        words = ""
    for name, question in seen:
        choices = networks or question.choices if name == "weights" else question.choices
        question_widget(config, name, question, choices, answered, place)
    if not others:
        return
    with st.container(horizontal=True, vertical_alignment="bottom", key=f"{place} line"):
        st.caption(f"{words} {assumed_text(config, others)}".strip())
        with st.popover("Change", type="tertiary", icon=":material/tune:", key=f"{place} others"):
            columns = st.container(key=place).columns(2)
            for number, (name, question) in enumerate(others):
                with columns[number % 2]:
                    question_widget(config, name, question, question.choices, answered, place)


def question_widget(
    config: ResNetConfig,
    name: str,
    question: Question,
    choices: Iterable[Any],
    answered: Callable[[str], None],
    place: str,
) -> None:
    key, current = f"{place} {name}", in_force(config, name, question)
    set_widget(key, current)
    st.selectbox(
        label(name),
        dict.fromkeys((*choices, current)),
        key=key,
        format_func=partial(choice_words, name),
        on_change=answered,
        args=(name,),
        help=question.tell,
    )


def question_answered(name: str) -> None:
    """Take an answer: into the configuration, into the tensors, or, where only the file has what it takes, to when it is
    chosen again. What no configuration has is said.
    """
    value, checkpoint = st.session_state[f"asked {name}"], uploaded_checkpoint()
    if name in OPTIONS:
        change(name, value)
    elif checkpoint and name == "weights":
        keep(replace(checkpoint, chosen=value))
    elif checkpoint and name == "option_a":
        networks = {one: with_option_a(opened, value) for one, opened in checkpoint.networks.items()}
        keep(replace(checkpoint, networks=networks))
    elif checkpoint and name in FIXED:
        session.hold(checkpoint_problem=never_so(name, value, checkpoint.name))
    elif checkpoint:
        answers = session.held().answers
        mine = answers if answers and answers.file == checkpoint.file else None
        answer_again(mine or FileAnswers(checkpoint.name, checkpoint.file), {name: value})


def never_so(name: str, value: Any, file: str) -> str:
    """That a file is answered to be what no configuration has."""
    words, fixed, _ = FIXED[name]
    other = f"{words} {str(value).partition(',')[0]}"
    return f"No configuration has {other}, so {file} computes something else here than where it was trained: {fixed} is accepted."


def answer_again(answers: FileAnswers, more: Mapping[str, Any]) -> None:
    session.hold(answers=replace(answers, given={**answers.given, **more}))


def withdraw() -> None:
    """Take back what was answered of a file."""
    session.hold(answers=None)


def keep(checkpoint: UploadedCheckpoint) -> None:
    """Keep a checkpoint as it was answered, in place of what this session holds: what was made of that is another's."""
    before, checkpoint = uploaded_checkpoint(), as_answered(checkpoint)
    with HELD_FILES.room(0, checkpoint.name, instead=before) as hold:
        drop()
        hold(checkpoint)
        session.hold(checkpoint=checkpoint)
    if before and (before.config, bool(before.not_finite)) != (checkpoint.config, bool(checkpoint.not_finite)):
        reopen()

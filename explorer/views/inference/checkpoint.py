"""The card of a person's own checkpoint: where it is uploaded, what was understood of it, and what is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.uploaded_file_manager import UploadedFile

from resnet import OPTIONS, ResNetConfig, owner, title
from resnet.checkpoint import FIXED, MAX_FILE_BYTES, Mismatch, Question, with_option_a
from resnet.errors import ExplainedError
from resnet.options import plain
from resnet.weights import Weights

from ...inference.checkpoint import (
    answers_text,
    assumed_text,
    assumptions_text,
    cannot_run,
    choice_words,
    in_force,
    in_order,
    label,
    said_of,
    shape_words,
)
from ...link import natural_size
from .. import session, take
from ..own_checkpoint import drop, keep_answered, keep_upload, known_mismatches, uploaded_checkpoint
from ..session import change, choose, escape_markdown, release_files, set_widget, show, view
from ..uploads import FileAnswers, UploadedCheckpoint


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
    """Keep a checkpoint as it was answered, and look at its network where that is another one by that."""
    if keep_answered(checkpoint):
        reopen()

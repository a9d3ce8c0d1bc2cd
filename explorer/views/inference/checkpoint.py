"""A person's own checkpoint: uploaded, understood, opened, and kept in their session."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile
from torch import Tensor

from resnet import OPTIONS, ConfigError, ResNetConfig, infer_config, title
from resnet.checkpoint import MAX_FILE_BYTES, Mismatch, mismatches, not_finite, read_file, unseen
from resnet.confined import Places
from resnet.errors import ExplainedError
from resnet.options import to_text
from resnet.weights import Weights, own_weights

from ...link import natural_size
from ...sharing.holdings import HELD, NoRoomError
from ...sharing.scheduler import PAGES
from ...sharing.store import RESULTS, Own
from .. import session, settings
from ..session import change, choose, escape_markdown, release, set_widget, show, view
from ..uploads import Checkpoint


def read(data: bytes, name: str) -> Checkpoint:
    """The checkpoint in a file's bytes.

    Raises:
        WeightsError: where it cannot be read.
        ConfigError: where it is of no residual network that a configuration can express.
    """
    file = read_file(data, name)
    tensors, declared = file.tensors, file.declared_config
    if declared is not None and mismatches(declared, tensors):
        declared = None
    config = declared or infer_config(tensors)
    asked = {} if declared else unseen(config, tensors)
    digest = Own(hashlib.sha256(data).hexdigest())
    return Checkpoint(name, digest, config, declared is not None, asked, tuple(not_finite(tensors)), tensors)


ALONE_BYTES = 2**26
"""Bytes from which a file is read while no other is."""
READING = Places(2)
"""Files that are read at one time, or one large file: while it is, its bytes and its tensors are both in memory."""
PATIENCE = 15.0
"""Seconds for which a file waits until others are read."""


def take(file: UploadedFile) -> None:
    """Read an uploaded checkpoint and keep it for this session, in place of what it has; the file itself is let go.

    Raises:
        WeightsError: where it cannot be read.
        ConfigError: where it is of no residual network that a configuration can express.
        NoRoomError: where all sessions together would hold too much, or others' files take long to read.
    """
    data = file.getvalue()
    with ExitStack() as stack:
        try:
            stack.enter_context(READING.place(PATIENCE, size=1 if len(data) < ALONE_BYTES else 2))
        except TimeoutError:
            raise NoRoomError(f"{file.name} cannot be read now (others are read): try again in a moment.") from None
        stack.enter_context(HELD.room(len(data), file.name, instead=held()))
        with PAGES.aside():
            checkpoint = read(data, file.name)
        with HELD.room(max(0, checkpoint.nbytes - len(data)), file.name, instead=held()) as hold:
            drop()
            hold(checkpoint)
            session.hold(checkpoint=checkpoint)


def drop() -> None:
    """Let go of the checkpoint that this session holds, and of what was made of it."""
    if checkpoint := held():
        session.hold(checkpoint=None)
        RESULTS.forget(checkpoint.digest)


def held() -> Checkpoint | None:
    """The checkpoint that this session has uploaded."""
    return session.held().checkpoint


def uploaded_weights(config: ResNetConfig, image_size: tuple[int, int]) -> tuple[Weights, ...]:
    """The uploaded weights where they fit a configuration and can be run."""
    checkpoint = held()
    if checkpoint is None or checkpoint.broken or wrong(checkpoint, config):
        return ()
    return (own_weights(config, image_size, checkpoint.name, checkpoint.digest),)


def uploaded_tensors(weights: Weights) -> Mapping[str, Tensor] | None:
    """The tensors that uploaded weights stand for, where this session holds them.

    A download is made outside of any session, for one that held them when it was offered.
    """
    if get_script_run_ctx(suppress_warning=True) is None:
        mine = [one for one in HELD if isinstance(one, Checkpoint)]
    else:
        mine = [one] if (one := held()) else []
    return next((one.tensors for one in mine if weights.key == "upload" and weights.digest == one.digest), None)


def wrong(checkpoint: Checkpoint, config: ResNetConfig) -> list[Mismatch]:
    """What keeps the tensors from fitting a configuration; looked for once for each."""
    known = session.held().mismatches
    if known is None or known[:2] != (checkpoint.digest, config):
        known = checkpoint.digest, config, mismatches(config, checkpoint.tensors)
        session.hold(mismatches=known)
    return known[2]


# -- the card -----------------------------------------------------------------------------


def upload_card(weights: Weights) -> None:
    """Where a checkpoint is uploaded; what was understood of it, what is asked, and what does not fit."""
    checkpoint, problem = held(), session.held().checkpoint_problem
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
        limit = MAX_FILE_BYTES // 2**20
        st.file_uploader(
            f".safetensors, .pt or .pth of a residual network, at most {limit} MB",
            ["safetensors", "pt", "pth"],
            key=f"checkpoint {session.held().checkpoints}",
            on_change=file_chosen,
            max_upload_size=limit,
            help="Read without running anything in the file. Its weights are kept in the server's memory until you forget "
            "them or close the page, and nobody else sees them. While the file arrives, a part of it may lie in a "
            "temporary file without a name; nothing else is written to disk.",
        )
        if problem:
            st.error(escape_markdown(problem), icon=":material/broken_image:")
        if checkpoint:
            understood(checkpoint, weights)


def file_chosen() -> None:
    """Read what was uploaded and open its network; the file itself is not kept."""
    number = session.held().checkpoints
    file = st.session_state[f"checkpoint {number}"]
    if not isinstance(file, UploadedFile):
        return
    session.hold(checkpoints=number + 1, checkpoint_problem="")
    try:
        take(file)
    except ConfigError as error:
        said = f"{file.name} could be read, but its network cannot be inferred: {error} The network is unchanged."
        session.hold(checkpoint_problem=said)
    except ExplainedError as error:
        session.hold(checkpoint_problem=f"{error} The network is unchanged.")
    else:
        reopen()
    finally:
        release([file.file_id])


def reopen() -> None:
    """Look at the checkpoint's network, with its weights where they can be run."""
    checkpoint = held()
    if checkpoint is None:
        return
    config, now = checkpoint.config, view()
    usable = not checkpoint.broken and not wrong(checkpoint, config)
    source = "says which network it is for" if checkpoint.declared else "was understood by its tensors"
    show(
        replace(
            now, config=config, image_size=natural_size(config), at="", unit="", weights="upload" if usable else ""
        ),
        f"{checkpoint.name} {source}: {title(config)}.",
    )


def forget() -> None:
    drop()
    session.hold(checkpoint_problem="")
    if view().weights == "upload":
        choose(weights="")


def understood(checkpoint: Checkpoint, weights: Weights) -> None:
    config = view().config
    amount = sum(tensor.numel() for tensor in checkpoint.tensors.values())
    st.markdown(
        f"**{escape_markdown(checkpoint.name)}**: {len(checkpoint.tensors)} tensors, {amount / 1e6:,.2f} M numbers"
    )
    with st.container(horizontal=True):
        if config != checkpoint.config:
            st.button("Open its network", on_click=reopen, icon=":material/undo:")
        st.button("Forget it", on_click=forget, icon=":material/delete:")
    if checkpoint.broken:
        first = escape_markdown(checkpoint.broken[0])
        st.warning(
            f"NaN or infinite numbers are in {len(checkpoint.broken)} of its tensors, first in {first}, "
            "so its network can be looked at but its weights cannot be run."
        )
    if found := wrong(checkpoint, config):
        list_mismatches(found)
    elif checkpoint.asked:
        ask(checkpoint, config)
    if weights.key == "upload":
        st.caption(assumed(weights))


def list_mismatches(found: list[Mismatch]) -> None:
    """By name and both shapes."""
    count = "one tensor differs" if len(found) == 1 else f"{len(found)} tensors differ"
    st.warning(f"Its weights do not fit this network: {count}.")
    rows = [{"Tensor": one.name, "Network": shape_words(one.expected), "File": shape_words(one.found)} for one in found]
    st.dataframe(rows, hide_index=True, key="mismatches", width="stretch", height="auto" if len(rows) < 6 else 240)


def shape_words(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else "×".join(map(str, shape)) or "one number"


def ask(checkpoint: Checkpoint, config: ResNetConfig) -> None:
    """What the tensors do not show, to be set here or in the sidebar."""
    st.caption("The tensors do not show these, and the usual values are assumed. Set what you know:")
    columns = st.columns(2)
    for place, (name, values) in enumerate(checkpoint.asked.items()):
        key = f"asked {name}"
        set_widget(key, getattr(config, name))
        columns[place % 2].selectbox(
            OPTIONS[name].label,
            values,
            key=key,
            format_func=settings.choice_text,
            on_change=answered,
            args=(name,),
            help=OPTIONS[name].help,
        )


def answered(name: str) -> None:
    change(name, st.session_state[f"asked {name}"])


def assumed(weights: Weights) -> str:
    """What is assumed of the data, which no tensor shows."""
    data, config = weights.data, weights.config
    names = f"the classes of {data.name}" if data.name != "unknown" else "classes by number"
    numbers = ", ".join(map(to_text, data.preprocessing.mean[:3]))
    extra = ""
    if config.order == "pre" and config.norm == "group":
        extra = " Weight standardisation, which timm's BiT networks have, is not applied."
    return f"Assumed as well: images of {shape_words(data.preprocessing.size)} pixels less a mean of {numbers}, and {names}.{extra}"

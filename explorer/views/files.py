"""The network that is shown, with the weights that run, as a file to take away."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import streamlit as st

from resnet import ResNetConfig, preset_name
from resnet.weights import Weights

from ..export.errors import ExportError
from ..export.files import ELSEWHERE, as_taken, made_apart
from ..export.folding import folded_config
from ..export.provenance import provenance
from ..export.weights import safetensors
from ..inference.device import Device
from ..link import View
from . import session
from .cached import cached_devices, cached_trace, model
from .components import MAX_DOWNLOAD_BYTES, download
from .inference.selection import from_hub, is_kept, select
from .weights import is_here

FORMS = {
    "safetensors": ("Weights, safetensors", "The state dict under torchvision's names, which opens again here"),
    "onnx": ("ONNX", "For batches of any size; compared with this network in onnxruntime before it comes"),
    "pt2": ("torch.export", "A program that torch.export.load reads, for batches of any size; takes some seconds"),
}
"""The files with weights, by their ending: what the button says, and what it is."""
NO_ONNX = "ONNX needs the packages onnx and onnxruntime on this server: `pip install 'resnet-explorer[onnx]'`."


def network_files() -> None:
    """The buttons for the network with its weights, folded or not; in place of what cannot be had, a sentence."""
    view = session.view()
    weights = shown_weights(view)
    st.caption(f"This network with its weights: {session.escape_markdown(weights.title)}")
    if reason := why_not(weights):
        st.caption(reason)
        return
    folds = why_unfolded(view.config)
    words = (
        folds or "Each batch norm is taken into the convolution before it, as networks are deployed; the scores stay."
    )
    folded = st.checkbox("Batch norms folded", key="take folded", disabled=bool(folds), help=words) and not folds
    view = replace(view, weights=weights.key, image_size=weights.data.preprocessing.size)
    has_onnx = bool(find_spec("onnx") and find_spec("onnxruntime"))
    with st.container(horizontal=True):
        for kind, (label, help_) in FORMS.items():
            if kind != "onnx" or has_onnx:
                name = f"{preset_name(view.config) or 'network'}{'-folded' * folded}.{kind}"
                make = partial(file_of, kind, weights, view, folded)
                download(label, make, name, "application/octet-stream", help_, slow=True)
    if not has_onnx:
        st.caption(NO_ONNX)


def shown_weights(view: View) -> Weights:
    """The weights that the inference page runs for a view; random ones where none are at hand."""
    found = select(view)
    if found.hub and is_kept(found.hub):
        found = from_hub(view, found)
    return found.current or found.offered[-1]


def why_not(weights: Weights) -> str:
    """Why no files with these weights are made here, in a sentence; "" where they are."""
    if not is_here(weights):
        return "They are not on this server: where Inference is opened they are downloaded."
    size = 4 * cached_trace(weights.config, weights.data.preprocessing.size).params
    if size > MAX_DOWNLOAD_BYTES:
        return f"They take {size / 2**20:,.0f} MiB, and files of at most {MAX_DOWNLOAD_BYTES // 2**20} MiB are made here: {ELSEWHERE}"
    return ""


def why_unfolded(config: ResNetConfig) -> str:
    """Why the batch norms of a network cannot be folded, in a sentence; "" where they can."""
    try:
        folded_config(config)
    except ExportError as error:
        return str(error)
    return ""


def file_of(kind: str, weights: Weights, view: View, folded: bool) -> bytes:
    """The file of a network with weights, as a view has it.

    Raises:
        ExportError: where it cannot be made.
        WeightsError: where the weights cannot be had.
    """
    says = provenance(*as_taken(view, weights.title, folded))
    network = model(weights, processor())
    if kind == "safetensors" and not folded:
        return safetensors(network, says)
    return made_apart(kind, network, view.image_size, says, folded)


def processor() -> Device:
    """The server's processor, in fp32 with channels first."""
    return next(one for one in cached_devices() if one.torch == "cpu").plain

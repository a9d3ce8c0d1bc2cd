"""A network with its weights, which a page waits for where they have to be downloaded."""

from __future__ import annotations

import streamlit as st

from resnet import ResNet
from resnet.checkpoint import WeightsError
from resnet.weights import Weights, download, is_cached

from ..inference.device import Device
from .cached import device, model
from .session import escape_markdown


def loaded(weights: Weights, how: Device | None = None) -> ResNet:
    """The network on a device in its form, the session's in fp32 unless another is named.

    Stops the page with a sentence where the weights cannot be had.
    """
    try:
        if weights.url and not is_cached(weights.url):
            fetch(weights)
        return model(weights, how or device())
    except WeightsError as error:
        st.error(escape_markdown(str(error)), icon=":material/cloud_off:")
        st.stop()


def fetch(weights: Weights) -> None:
    """Download weights with a progress bar."""
    words = f"Downloading {weights.title}"
    bar = st.progress(0.0, f"{words} …")

    def progress(done: int, total: int) -> None:
        share = min(done / total, 1.0) if total else 0.0
        bar.progress(share, f"{words}: {done / 2**20:.0f} of {(total or weights.bytes) / 2**20:.0f} MiB")

    try:
        download(weights.url, progress)
    finally:
        bar.empty()

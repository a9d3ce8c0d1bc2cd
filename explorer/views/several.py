"""Several pictures at once: what the network says of each, and one channel across all of them."""

from __future__ import annotations

import numpy as np
import streamlit as st

from .. import charts, state
from ..images import samples
from .network import chosen_layer
from .picture import contacts, downloads, tiles
from .pictures import Chosen, from_sample
from .running import Run, chosen_channel


def panel(result: Run) -> None:
    """The uploads where there are several, else one sample of each kind."""
    pictures = sorted(result.pictures, key=lambda picture: picture.digest) if len(result.pictures) > 1 else kinds()
    runs = all_runs(result, pictures)
    predictions(result, runs)
    one_channel(result, runs)
    if len(result.pictures) == 1:
        st.caption("One sample of each kind. Upload several pictures to see them here instead.")


def kinds() -> list[Chosen]:
    """The first sample of each label."""
    first = {sample.label: sample for sample in reversed(samples())}
    return [from_sample(sample) for sample in reversed(first.values())]


def all_runs(result: Run, pictures: list[Chosen]) -> list[Run]:
    """The same weights on each picture, with a bar while they run."""
    layer, runs = chosen_layer(result.trace).name, []
    bar = st.progress(0.0, "Running the pictures …")
    for number, picture in enumerate(pictures, start=1):
        runs.append(result.on(picture))
        runs[-1].maps(layer)
        bar.progress(number / len(pictures))
    bar.empty()
    return runs


def predictions(result: Run, runs: list[Run]) -> None:
    names = result.weights.data.categories

    def choose(digest: str) -> None:
        if any(picture.digest == digest for picture in result.pictures):
            st.session_state.uploaded = digest
        else:
            state.choose(picture=digest)

    with st.container(border=True, key="grid"):
        st.markdown(f"**What it says of each, at {result.size} pixels**")
        labels = {}
        for run in runs:
            ((best, probability),) = run.prediction.top(1)
            labels[run.picture.digest] = f"{names[best]} {probability:.0%}" if run.prediction.finite else "overflowed"
        pictures = [np.asarray(charts.enlarged(charts.shown(run.prepared.pixels), 112)) for run in runs]
        tiles(contacts(pictures), labels, result.picture.digest, "several", choose)
        downloads(
            "predictions", lambda: charts.sheet(pictures, 4),
            lambda: {
                "names": np.array([run.picture.name for run in runs]), "classes": np.array(names),
                "probabilities": np.stack([run.prediction.probabilities for run in runs]),
                "pixels": np.stack([run.prepared.pixels for run in runs]),
            },
        )  # fmt: skip


def one_channel(result: Run, runs: list[Run]) -> None:
    """One channel of the selected layer on every picture, on one scale."""
    layer = chosen_layer(result.trace)
    everything = np.stack([run.maps(layer.name) for run in runs])
    channel = chosen_channel(result.maps(layer.name))
    maps = everything[:, channel]
    with st.container(border=True, key="across"):
        st.markdown(f"**Channel {channel} of `{layer.name}` across the pictures**")
        low, high = float(np.nan_to_num(maps).min()), float(np.nan_to_num(maps).max())
        pictures = [np.asarray(charts.enlarged(charts.coloured(one, low, high), 112)) for one in maps]
        labels = {
            run.picture.digest: f"mean {one.mean():.2g}".replace("-", "−") for run, one in zip(runs, maps, strict=True)
        }
        tiles(contacts(pictures), labels, result.picture.digest, "across tiles", lambda _: None)
        st.caption(
            f"All on one scale, {low:.2g} to {high:.2g}. The layer is chosen in the drawing, the channel among the activations."
        )
        downloads(
            f"{layer.name}-channel-{channel}", lambda: charts.sheet(pictures, 4),
            lambda: {"names": np.array([run.picture.name for run in runs]), "maps": maps},
        )  # fmt: skip

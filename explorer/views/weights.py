"""A network with its weights, which a page waits for where they have to be downloaded."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import NamedTuple

import streamlit as st

from resnet import OPTIONS, ConfigError, ResNet, hub, huggingface, owner
from resnet.checkpoint import Opened, WeightsError, not_finite
from resnet.hub_cache import snapshot
from resnet.huggingface import HubModel
from resnet.servers import DownloadError, Progress
from resnet.sources import torch_source
from resnet.weights import Weights, at_hand, download, hub_name, hub_notes, hub_weights

from ..inference import turns
from ..inference.device import Device
from ..inference.limits import check_runnable
from ..inference.turns import TooLargeError
from ..sharing.scheduler import PAGES
from .cached import BUILDING, cached_trace, device, model, shared, short_key, stoppable
from .session import choose, escape_markdown, held, hold, keep_shown, view

RESUME = "Resume the download"
STOP_MEANS = "Ends the download. What has arrived is kept, and it goes on from there where it is asked for again."


def too_large(weights: Weights) -> str:
    """Why a network with these weights is too large to run here, in sentences; "" where it is not."""
    try:
        check_runnable(cached_trace(weights.config, weights.data.preprocessing.size))
    except TooLargeError as error:
        return str(error)
    return ""


def loaded(weights: Weights, form: Device | None = None) -> ResNet:
    """The network on a device in its form, the session's in fp32 unless another is named.

    Where the weights cannot be had, the inference page goes back to what it showed before; else a sentence, and ways on, are
    the page's end.

    Raises:
        StoppedError: where the download was stopped; a button to resume it is the page's end.
    """
    try:
        if not is_here(weights):
            fetch(weights)
        return model(weights, form or device())
    except WeightsError as error:
        if keep_shown(error):
            st.rerun()
        st.error(escape_markdown(str(error)), icon=":material/cloud_off:")
        with st.container(horizontal=True):
            st.button("Try again", key="fetch again", icon=":material/refresh:")
            if weights.bytes:  # else nothing had to be fetched for them
                st.button("Random weights", key="random instead", on_click=choose_random, icon=":material/casino:")
        st.stop()


def is_here(weights: Weights) -> bool:
    """Whether nothing is left to be downloaded for these weights."""
    return at_hand(weights) and (not weights.hub or snapshot(weights.hub, weights.digest).is_whole)


def choose_random() -> None:
    """Run random weights, which need no file."""
    choose(weights="random")


def fetch(weights: Weights) -> None:
    """Download weights with a progress bar and a button to stop that.

    Raises:
        WeightsError: where that fails.
        StoppedError: where it was stopped.
    """
    if weights.hub:
        fetch_model(cached_look_up(owner.endpoint(), weights.hub, weights.digest), weights.title)
        return
    source = torch_source(weights.url)
    _fetch(
        ("download", weights.url),
        weights.title,
        lambda: hub.bytes_so_far(source),
        lambda progress: download(weights.url, progress),
        weights.bytes,
    )


class OnHub(NamedTuple):
    """What a model of the hub is: its weights, and the network in its file, with tensors on the meta device, which have shapes
    and no numbers; what was done and assumed, in sentences; and the tensors with NaN or infinity.
    """

    weights: Weights
    opened: Opened
    notes: tuple[str, ...]
    not_finite: tuple[str, ...]


def on_hub(name: str) -> OnHub:
    """A model of the hub by what a link calls it (`hub_name`), which the page waits for: looked up and downloaded where it is
    not on this machine, and opened.

    Raises:
        WeightsError: where that fails.
        StoppedError: where the download was stopped; a button to resume it is the page's end.
    """
    repo, answers = hub_name(name)
    found = huggingface.cached_model(repo)
    if found is None:
        found = _listed(repo)
        fetch_model(found, found.id)
    return cached_on_hub(found, tuple(answers.items()))


def look_up(repo: str) -> HubModel:
    """A model of the hub as it is on this machine, else as the hub lists it; nothing large is downloaded.

    Raises:
        WeightsError: where there is none, it cannot be had, or what its repository says is too large to run here.
    """
    return huggingface.cached_model(repo) or _listed(repo)


def _listed(repo: str) -> HubModel:
    """`look_up` of a model that is not on this machine."""
    found = cached_look_up(owner.endpoint(), repo, "")
    try:
        if found.network:
            trace = cached_trace(found.network, _size_of_run(repo, found))
            check_runnable(trace, found.id, "Nothing of it was downloaded")
    except ConfigError:
        pass  # it takes no such image, which the page says
    except TooLargeError as error:
        raise WeightsError(str(error)) from error
    return found


def _size_of_run(repo: str, found: HubModel) -> tuple[int, int]:
    """The image size (height, width) at which a model would run: its own, but where the link that names it has another."""
    theirs, now = found.preprocessing.size if found.preprocessing else (224, 224), view()
    is_opened = now.weights.partition("?")[0] == repo and held().opening != now.weights
    return now.image_size if is_opened and now.image_size not in (now.natural_size, theirs) else theirs


def fetch_model(found: HubModel, title: str) -> None:
    """`fetch` of a model of the hub."""
    _fetch(
        ("download", found.id, found.revision),
        title,
        lambda: huggingface.bytes_so_far(found),
        lambda progress: huggingface.download_model(found, progress),
        found.bytes,
    )


@shared("Asking the Hugging Face hub …")
def cached_look_up(endpoint: str, repo: str, revision: str) -> HubModel:
    """What the hub at an address says of a model."""
    with PAGES.aside():
        return huggingface.look_up(repo, revision, lambda done, total: turns.waiting())


@shared("Opening the network …")
def cached_on_hub(found: HubModel, answers: tuple[tuple[str, str], ...]) -> OnHub:
    """The network in a model's weights, which are on this machine; its tensors are read again where it runs."""
    with PAGES.aside(), BUILDING.place(size=found.bytes, waiting=turns.waiting):
        opened = huggingface.open_model(found, **dict(answers))
        broken = tuple(not_finite(opened.state_dict))
    if unasked := [name for name, _ in answers if name not in OPTIONS and name not in opened.questions]:
        raise WeightsError(f"{found.id} does not need the answer {unasked[0]}: leave it out.")
    shapes = {name: tensor.to("meta") for name, tensor in opened.state_dict.items()}
    notes = (*found.notes, *hub_notes(found, opened), *opened.notes)
    return OnHub(hub_weights(found, opened, dict(answers)), replace(opened, state_dict=shapes), notes, broken)


def _fetch(
    key: Hashable, title: str, arrived: Callable[[], tuple[int, int]], get: Callable[[Progress], object], size: int
) -> None:
    """Wait for a download of about `size` bytes; once it was stopped, say how far it had come."""
    if (name := short_key(key)) in held().stopped:
        done, total = arrived()
        stopped = f"{title}: stopped at {_amount(done, total or size)}."
        if keep_shown(DownloadError(stopped), stopped=True):
            hold(stopped=held().stopped - {name})  # whoever asks again goes on
            st.rerun()
        st.info(escape_markdown(stopped), icon=":material/pause_circle:")
    words = f"Downloading {title}"
    with stoppable(key, f"{words} …", RESUME, STOP_MEANS) as bar:

        def progress(done: int, total: int) -> None:
            bar.progress(min(done / total, 1.0) if total else 0.0, f"{words}: {_amount(done, total or size)}")

        get(progress)


def _amount(done: int, total: int) -> str:
    """Of bytes, in the unit that suits all of them."""
    unit, name = (2**20, "MiB") if total >= 2**20 else (2**10, "KiB")
    return f"{done / unit:.0f} of {total / unit:.0f} {name}"

"""Several images through networks side by side: what each says of each, and how often they agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import streamlit as st

from .. import session
from ..cached import device, stoppable
from ..components import contact_sheet, tiles
from ..headline import section
from ..inference.images import ChosenImage
from ..inference.running import Run
from ..inference.several import cached_tile, said, sample_of_each_label
from .image import explained
from .networks import Network, escaped, runs

MAX_NAMED = 5
"""Images on which two networks disagree that are named."""


def panel(networks: Sequence[Network], images: Sequence[ChosenImage]) -> None:
    """The uploads where there are several, else one sample of each kind, as each network sees and names them.

    Raises:
        StoppedError: where a person stopped it.
    """
    chosen = sorted(images, key=lambda image: image.digest) if len(images) > 1 else sample_of_each_label()
    found = all_runs(networks, chosen)
    with st.container(border=True, key="agreement"):
        section("How often they agree")
        for words in agreements(found):
            st.markdown(words)
        st.caption(
            "Whether they name the same class; which one is right, nobody has said of these images. "
            + ("" if len(images) > 1 else "One sample of each kind: upload several images to see them here instead.")
        )
    for network, its in found.items():
        with st.container(border=True, key=f"several {network.label}"):
            section(session.escape_markdown(network.label))
            shown = {run.image.digest: said(run) if network.weights.key != "random" else run.image.name for run in its}
            hints = {run.image.digest: f"{run.image.name}: {shown[run.image.digest]}" for run in its}
            pictures = [cached_tile(run.key, run) for run in its]
            tiles(contact_sheet(pictures), shown, "", f"tiles {network.label}", choose(images), hints, hints)


def choose(images: Sequence[ChosenImage]) -> Callable[[str], None]:
    """What a click on an image does: it is the one that the other tabs are about."""

    def take(digest: str) -> None:
        if any(image.digest == digest for image in images):
            session.hold(selected_upload=digest)
        else:
            session.choose(image=digest)

    return take


def all_runs(networks: Sequence[Network], images: Sequence[ChosenImage]) -> dict[Network, list[Run]]:
    """Each image through each network, with a bar while they run.

    Raises:
        StoppedError: where a person stopped it.
    """
    found: dict[Network, list[Run]] = {one: [] for one in networks}
    key = (
        "several images beside",
        tuple(one.weights for one in networks),
        device(),
        tuple(image.digest for image in images),
    )
    words = "Running the images …"
    with stoppable(key, words) as bar:
        for number, image in enumerate(images, start=1):
            for one, run in runs(networks, [image]).items():
                found[one].append(run)
            bar.progress(number / len(images), words)
    return {one: its for one, its in found.items() if its}


def agreements(found: Mapping[Network, Sequence[Run]]) -> list[str]:
    """On how many of the images each two networks name the same class, and on which others they do not, in a sentence; of two
    that know other classes, and of one that names none, that it is so.
    """
    named = {one: {run.image.digest: explained(run) for run in its} for one, its in found.items()}
    words = [f"{escaped(one)} names no classes." for one, names in named.items() if not any(names.values())]
    naming = [one for one, names in named.items() if any(names.values())]
    called = {run.image.digest: session.escape_markdown(run.image.name) for its in found.values() for run in its}
    for one, other in combinations(naming, 2):
        if tuple(one.weights.data.categories) != tuple(other.weights.data.categories):
            words.append(f"{escaped(one)} and {escaped(other)} know different classes: their names are not compared.")
            continue
        both = [image for image, name in named[one].items() if name and named[other].get(image)]
        apart = [image for image in both if named[one][image] != named[other][image]]
        which = [
            f"{called[image]} ({', '.join(session.escape_markdown(named[each][image]) for each in (one, other))})"
            for image in apart
        ]
        more = f" and {len(apart) - MAX_NAMED} more" if len(apart) > MAX_NAMED else ""
        end = f"; apart: {', '.join(which[:MAX_NAMED])}{more}" if apart else ""
        words.append(
            f"{escaped(one)} and {escaped(other)} name the same class on **{len(both) - len(apart)} of {len(both)}** images{end}."
        )
    return words

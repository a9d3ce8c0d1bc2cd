"""Where in depth networks part: what a probe reads at every block, the own classifier early, and how alike the blocks are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import combinations

import numpy as np
import streamlit as st
import torch

from ...experiments.beside import block_grams, shipped_beside, shipped_blocks
from ...experiments.probes import BlockProbe, shipped_probes
from ...experiments.similarity import cka
from ...figures.beside import Line, depth_figure, similarity_figure
from ...inference.features import pooled
from ...inference.samples import labelled_images
from ...inference.turns import TooLargeError
from ...sharing.threads import single_thread
from .. import session, take
from ..cached import cached_result, device, shared
from ..components import plot
from ..headline import section
from ..inference.ablation import test_inputs
from ..inference.images import ChosenImage
from ..inference.running import Run
from ..weights import loaded
from .networks import Network, all_blocks, cannot_measure, escaped, knowing, readings, runs

AHEAD = 0.02
"""By how much a probe is ahead of another one's accuracy where that counts as a difference: two percentage points."""
MAX_BLOCKS = 200
"""Blocks whose similarity is computed here: for each there are products of all test images with all, twice, in 4 MB."""


def panel(networks: Sequence[Network], images: Sequence[ChosenImage]) -> None:
    """One chart over the depth, the same on one image, and all blocks against all."""
    known = knowing(networks)
    if cannot_measure(known):
        return
    blocks, alike = all_blocks(known), similarity(known)
    probes, early = probe_accuracies(known), early_accuracies(known)
    with st.container(border=True, key="depth"):
        section("What can be read after each block")
        plot(
            depth_figure(
                depth_lines(known, probes, early, alike), blocks, "Accuracy and CKA over the depth", "accuracy, or CKA"
            ),
            key="depth chart",
        )
        for words in statements(known, probes, early, alike):
            st.markdown(words)
        st.caption(method(bool(probes)))
    if probes and images:
        on_image(known, images, blocks)
    with st.container(border=True, key="similarity"):
        section("How alike the blocks are")
        left, right = st.columns([3, 2], vertical_alignment="center")
        plot(similarity_figure(alike, rows_of(known)), "similarity chart", left)
        with right:
            st.markdown(" ".join([similarity_words(known, alike), *undefined_words(known, alike)]))
            st.caption(CANNOT_SAY)
    with st.expander("The numbers"):
        numbers = numbers_by_block(known, probes, early, alike)
        columns = {name: [values.get(block) for block in blocks] for name, (values, _) in numbers.items()}
        take.ledger(
            number_rows(numbers, blocks), "depth numbers", "Numbers by depth", {"Block": blocks, **columns}, "many"
        )


# -- what is measured ---------------------------------------------------------------------

Accuracies = Mapping[str, Mapping[str, float]]
"""By the network's label and the block."""


def shipped_block_probes(network: Network) -> Mapping[str, BlockProbe]:
    """The probes of a network that ships, by their blocks; none of another."""
    if not network.shipped:
        return {}
    return {one.block: one for one in shipped_probes().networks[network.shipped].probes}


def probe_accuracies(networks: Sequence[Network]) -> Accuracies:
    """The mean accuracy over the seeds of the probes at each block, of the networks that have some."""
    found = {one.label: {name: probe.accuracy for name, probe in shipped_block_probes(one).items()} for one in networks}
    return {label: values for label, values in found.items() if values}


def early_accuracies(networks: Sequence[Network]) -> Accuracies:
    """The accuracy of each network's own classifier after each block of its last stage: on the whole test set of those that
    ship, else on the test images that do.
    """
    found = {}
    for one in networks:
        if one.shipped:
            found[one.label] = {each.block: each.accuracy for each in shipped_probes().networks[one.shipped].early}
        else:
            labels = labelled_images().labels
            scores = readings(one).early
            found[one.label] = {
                name: float((np.asarray(each).argmax(1) == labels).mean()) for name, each in scores.items()
            }
    return found


def rows_of(networks: Sequence[Network]) -> list[tuple[str, str]]:
    """The label and the block of each row of `similarity`."""
    return [(one.label, block) for one in networks for block in one.blocks]


def similarity(networks: Sequence[Network]) -> np.ndarray:
    """CKA between all blocks of all networks on the test images, K×K: as it ships, else computed here.

    Raises:
        TooLargeError: where they have too many blocks for that.
    """
    if all(one.shipped for one in networks):
        every = shipped_blocks()
        own = [every.index((one.shipped, block)) for one in networks for block in one.blocks]
        return np.array(shipped_beside().similarity)[np.ix_(own, own)]
    weights = tuple(one.weights for one in networks)
    if (count := len(rows_of(networks))) > MAX_BLOCKS:
        raise TooLargeError(
            f"These networks have {count} blocks together: the similarity of up to {MAX_BLOCKS} is computed here."
        )

    def compute(move: Callable[[float], None]) -> np.ndarray:
        grams = []
        with single_thread():
            for number, one in enumerate(weights, start=1):
                grams += block_grams(loaded(one), test_inputs(one), device())
                move(number / len(weights))
        return cka(grams).numpy()

    return cached_result(("similarity", weights, device()), "Comparing all blocks …", compute)


def same_block(networks: Sequence[Network], alike: np.ndarray, one: Network, other: Network) -> dict[str, float]:
    """CKA between the blocks of two networks that have one name, where it is defined."""
    rows = rows_of(networks)
    values = {
        block: float(alike[rows.index((one.label, block)), rows.index((other.label, block))])
        for block in one.blocks
        if block in other.blocks
    }
    return {block: value for block, value in values.items() if not np.isnan(value)}


def depth_lines(networks: Sequence[Network], probes: Accuracies, early: Accuracies, alike: np.ndarray) -> list[Line]:
    """What the chart draws: of each network its probes and its own classifier, and the CKA of each to the first one."""
    lines = []
    for number, one in enumerate(networks):
        if values := probes.get(one.label):
            spread = {
                name: (min(each.accuracies), max(each.accuracies)) for name, each in shipped_block_probes(one).items()
            }
            lines.append(Line(f"Probe, {one.label}", number, "probe", values, spread))
        lines.append(Line(f"Own classifier, {one.label}", number, "own classifier", early[one.label]))
    first, *rest = networks
    for number, other in enumerate(rest, start=1):
        values = same_block(networks, alike, first, other)
        lines.append(Line(f"CKA, {first.label} and {other.label}", number, "CKA", values))
    return lines


# -- in words -----------------------------------------------------------------------------


def statements(networks: Sequence[Network], probes: Accuracies, early: Accuracies, alike: np.ndarray) -> list[str]:
    """What the chart says, from its numbers."""
    found = [parting(one, other, probes) for one, other in combinations(probes, 2)][:1]
    found += [course(label, values) for label, values in probes.items()]
    found.append(early_words(early))
    first, second, *_ = networks
    if values := same_block(networks, alike, first, second):
        least = min(values, key=values.__getitem__)
        start, *_, end = (*values, *values)
        found.append(
            f"Blocks of the same name in {escaped(first)} and {escaped(second)} have a CKA of {values[start]:.2f} at `{start}`, "
            f"{values[end]:.2f} at `{end}` and the least, {values[least]:.2f}, at `{least}`."
        )
    return found + undefined_words(networks, alike)


def undefined_words(networks: Sequence[Network], alike: np.ndarray) -> list[str]:
    """For which blocks of each network CKA is not defined, and why, in a sentence each."""
    found = []
    for one in networks:
        constant = [
            block
            for place, (label, block) in enumerate(rows_of(networks))
            if label == one.label and np.isnan(alike[place, place])
        ]
        if constant:
            named = (
                f"`{constant[0]}`" if len(constant) == 1 else f"`{constant[0]}` to `{constant[-1]}` ({len(constant)})"
            )
            found.append(
                f"CKA is not defined for {named} of {escaped(one)}: what is put out there is the same for every image."
            )
    return found


def parting(one: str, other: str, probes: Accuracies) -> str:
    """From which block on a probe of one network stays ahead of that of another, by `AHEAD` at least."""
    common = [block for block in probes[one] if block in probes[other]]
    ahead = [probes[one][block] - probes[other][block] for block in common]
    better, worse = (one, other) if ahead[-1] >= 0 else (other, one)
    signs = [gap * (1 if better == one else -1) >= AHEAD for gap in ahead]
    since = next((place for place in range(len(signs)) if all(signs[place:])), None)
    if since is None:
        return (
            f"**{one} and {other} do not part**: at the last block that both have, their probes differ by "
            f"{points(ahead[-1])}, less than the {AHEAD * 100:.0f} that count here."
        )
    block, most = common[since], max(range(len(ahead)), key=lambda place: abs(ahead[place]))
    start = "From the first block on" if since == 0 else f"From `{block}` on"
    return (
        f"**{start}, a probe of {better} stays ahead of one of {worse}** by {AHEAD * 100:.0f} points or more: "
        f"{probes[better][block]:.1%} against {probes[worse][block]:.1%} there, {probes[better][common[-1]]:.1%} against "
        f"{probes[worse][common[-1]]:.1%} at `{common[-1]}`. The widest gap is {points(ahead[most])}, at `{common[most]}`."
    )


def points(difference: float) -> str:
    """How far two shares are apart: "3.4 points"."""
    return f"{abs(difference) * 100:.1f} points"


def course(label: str, values: Mapping[str, float]) -> str:
    """How a network's probes rise, and whether something is lost on the way: by how much they fall below the best before."""
    names, shares = list(values), list(values.values())
    best = int(np.argmax(shares))
    fallen = np.maximum.accumulate(shares) - shares
    deepest = int(np.argmax(fallen))
    words = f"**{label}**: {shares[0]:.1%} after `{names[0]}`, {shares[-1]:.1%} after `{names[-1]}`"
    words += (
        f", the best is {shares[best]:.1%} after `{names[best]}`." if best != len(names) - 1 else ", which is the best."
    )
    if fallen[deepest] >= AHEAD:
        return (
            f"{words} On the way something is lost: after `{names[deepest]}` a probe is {points(fallen[deepest])} below the "
            "best before it."
        )
    return f"{words} After no block is a probe {AHEAD * 100:.0f} points or more below the best before it."


def early_words(early: Accuracies) -> str:
    """Where in the last stage each network's own classifier begins to work: at nine tenths of what it gets right at the end."""
    parts = []
    for label, values in early.items():
        names, shares = list(values), list(values.values())
        since = next(place for place in range(len(shares)) if min(shares[place:]) >= 0.9 * shares[-1])
        parts.append(
            f"{session.escape_markdown(label)}'s gets {shares[0]:.1%} right after `{names[0]}`, and from `{names[since]}` on at "
            f"least nine tenths of its final {shares[-1]:.1%}"
        )
    return f"The network's **own classifier**, read early: {'; '.join(parts)}."


def similarity_words(networks: Sequence[Network], alike: np.ndarray) -> str:
    """How alike blocks are within each network and across two, and each network's neighbours."""
    rows = [label for label, _ in rows_of(networks)]
    places = {one.label: [place for place, label in enumerate(rows) if label == one.label] for one in networks}

    def mean(one: list[int], other: list[int]) -> str:
        part = alike[np.ix_(one, other)]
        part = part[~np.eye(len(part), dtype=bool)] if one == other else part
        return cka_text(float(np.nanmean(part)) if np.isfinite(part).any() else np.nan)

    words = [
        f"within {session.escape_markdown(label)} {mean(own, own)} ({cka_text(alike[own[0], own[-1]])} between its first and "
        "its last block)"
        for label, own in places.items()
    ]
    words += [
        f"across {session.escape_markdown(one)} and {session.escape_markdown(other)} {mean(places[one], places[other])}"
        for one, other in combinations(places, 2)
    ]
    return f"Mean CKA of two different blocks: {', '.join(words)}."


def cka_text(value: float) -> str:
    """CKA in two digits, or that there is none."""
    return "not defined" if np.isnan(value) else f"{value:.2f}"


def method(has_probes: bool) -> str:
    """How it was measured, and on what."""
    count = len(labelled_images().labels)
    words = (
        f"**CKA**: linear, with the unbiased estimate of HSIC (Kornblith 2019, https://arxiv.org/abs/1905.00414), on the first {count} "
        "images of Fashion-MNIST's test set; each image's whole map is one row, since pooled maps would not tell where on the "
        "image something is. Blocks are matched by their names. **Own classifier**: what follows the last block, reading the "
        "output of an earlier block of the last stage, which it was not trained on; its accuracy is that on the whole test set "
        f"for networks that ship, and on these {count} images for another."
    )
    if has_probes:
        shipped = shipped_probes()
        words = (
            "**Probe**: a linear classifier on the mean of each channel of a block's output (Alain and Bengio 2016, "
            f"https://arxiv.org/abs/1610.01644), trained on {shipped.trained_on:,} images with each of {len(shipped.seeds)} seeds, "
            f"and judged on {shipped.tested_on:,} test images that neither it nor the network was trained on; whiskers span the seeds. What it "
            "does not read may still be there in a form that is not linear, or in places that the mean drops. " + words
        )
    return words


CANNOT_SAY = (
    "What CKA cannot say: whether two networks do the same. It compares how far apart images lie, and not what is done with that. "
    "Moving a few images far away changes it greatly and leaves every decision as it was, and it can be made high or low "
    "without changing what a network does (Davari 2022, https://arxiv.org/abs/2210.16156). One training of each network is shown; "
    "another seed's would differ."
)


# -- on one image -------------------------------------------------------------------------


@shared()
def cached_probe_readings(key: object, name: str, _run: Run) -> dict[str, tuple[float, ...]]:
    """The probabilities that a probe of each block gives the classes on an image."""
    from ...inference.features import block_outputs

    probes = {one.block: one.probe for one in shipped_probes().networks[name].probes}
    return {
        block: tuple(torch.softmax(probes[block].scores(pooled(maps))[0], 0).tolist())
        for block, maps in block_outputs(_run.network, _run.prepared.tensor, _run.device)
    }


def on_image(networks: Sequence[Network], images: Sequence[ChosenImage], blocks: Sequence[str]) -> None:
    """The probability that a probe of each block gives the image's class."""
    having = runs([one for one in networks if one.shipped], images)
    found = {one.label: run for one, run in having.items()}
    if not found:
        return
    first = next(iter(found.values()))
    categories = list(first.weights.data.categories)
    truth = getattr(first.image.source, "label", "")
    name = truth if truth in categories else categories[first.prediction.top(1)[0][0]]
    target = categories.index(name)
    lines, words = [], []
    for number, one in enumerate(networks):
        if one.label not in found:
            continue
        run = found[one.label]
        read = cached_probe_readings(run.key, one.shipped, run)
        lines.append(Line(one.label, number, "probe", {block: each[target] for block, each in read.items()}))
        names = {block: int(np.argmax(each)) for block, each in read.items()}
        since = since_when(list(names.values()), target)
        words.append(
            f"{escaped(one)}'s probes "
            + (
                f"name it from `{list(names)[since]}` on"
                if since is not None
                else f"end on {categories[names[one.blocks[-1]]]}"
            )
        )
    with st.container(border=True, key="depth on image"):
        whose = "which it is" if truth in categories else f"as {escaped(next(iter(having)))} says"
        section(f"On this image: how sure a probe is of {session.escape_markdown(name)}, {whose}")
        plot(
            depth_figure(lines, blocks, f"Probability of {name}, by a probe of each block", "probability"),
            key="image depth chart",
        )
        st.markdown(f"{'; '.join(words)}.")
        st.caption("The first seed's probes. A single image says little of a network: the chart above is over many.")


def since_when(names: Sequence[int], target: int) -> int | None:
    """The place from which on all are the target."""
    return next((place for place in range(len(names)) if all(name == target for name in names[place:])), None)


Numbers = dict[str, tuple[Mapping[str, float], Callable[[float], str]]]
"""What was measured at the blocks, and how that is written, by the name of its column."""


def numbers_by_block(networks: Sequence[Network], probes: Accuracies, early: Accuracies, alike: np.ndarray) -> Numbers:
    """Accuracies of all networks, and the CKA of the first one with each other at the blocks that both have."""
    first, *rest = networks
    columns: Numbers = {}
    for one in networks:
        if one.label in probes:
            columns[f"Probe, {one.label}"] = probes[one.label], "{:.1%}".format
        columns[f"Own classifier, {one.label}"] = early[one.label], "{:.1%}".format
    for other in rest:
        values = same_block(networks, alike, first, other)
        both = {block: values.get(block, np.nan) for block in first.blocks if block in other.blocks}
        columns[f"CKA, {first.label} and {other.label}"] = both, cka_text
    return columns


def number_rows(columns: Numbers, blocks: Sequence[str]) -> list[str]:
    """A table of every block's numbers in HTML; a cell is empty where there is none."""
    rows = [f"<tr><th>Block</th>{''.join(f'<th>{escape(name)}</th>' for name in columns)}</tr>"]
    for block in blocks:
        cells = (text(values[block]) if block in values else "" for values, text in columns.values())
        rows.append(f"<tr><th>{block}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return rows

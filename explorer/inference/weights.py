"""Weights as a person names them on a command line, and the network that has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from resnet import ConfigError, ResNet, ResNetConfig, WeightsError, huggingface, open_checkpoint, title
from resnet.checkpoint import fitted, not_finite
from resnet.checkpoint import network as network_of
from resnet.huggingface import HubModel
from resnet.options import plain
from resnet.presets import preset
from resnet.shipped import NAMES
from resnet.weights import (
    Weights,
    available,
    bundled,
    fully_named,
    hub_name,
    hub_notes,
    hub_weights,
    load,
    named,
    own_weights,
)

from ..link import natural_size
from .checkpoint import assumptions_text, cannot_run


class Chosen(NamedTuple):
    """A network with chosen weights in evaluation mode, what these are in words, what a link calls them ("" for those of a
    file), their preprocessing and classes, and sentences on what was done and assumed."""

    network: ResNet
    words: str
    key: str
    weights: Weights
    notes: tuple[str, ...] = ()


Loader = Callable[[Weights], ResNet]
Fetch = Callable[[HubModel], object]
FILES = frozenset({".bin", ".ckpt", ".h5", ".json", ".npz", ".pkl", ".pt", ".pth", ".safetensors", ".tar"})
"""How the names of files with weights end: what ends so and is not there is no model of the hub."""


def fetch_model(model: HubModel) -> None:
    """Download a model's weights, where they are not on this machine.

    Raises:
        WeightsError: where they cannot be had.
    """
    huggingface.download_model(model, lambda done, total: None)


def with_weights(
    config: ResNetConfig, image_size: tuple[int, int], choice: str, loader: Loader = load, fetch: Fetch = fetch_model
) -> Chosen:
    """The network with chosen weights.

    A choice is "random", the name of published weights, "bundled" for those that ship, a file, or a model of the Hugging Face
    hub, OWNER/NAME; without one it is those that ship, else "random". `loader` and `fetch` get what is on no disk here.

    Raises:
        ConfigError: for weights that this network does not have.
        WeightsError: where they cannot be had, or do not fit.
    """
    choice = choice or ("bundled" if config in NAMES else "random")
    if choice not in ("bundled", "random") and (weights := named(choice, config)) and weights.config == config:
        return Chosen(loader(weights), weights.title, weights.key, weights)
    every = {weights.key: weights for weights in available(config, image_size)}
    if choice in every:
        words = "random, untrained" if choice == "random" else every[choice].title
        return Chosen(loader(every[choice]), words, choice, every[choice])
    if (path := Path(choice)).is_file():
        return of_file(path, config)
    if names_model(choice):
        return of_hub(choice, fetch, config)
    raise unknown(choice, f"a file, a model of the Hugging Face hub as OWNER/NAME, or one of {', '.join(every)}")


def with_own_network(choice: str, loader: Loader = load, fetch: Fetch = fetch_model) -> Chosen:
    """The network that chosen weights are of, with them: a file's, that of published weights such as "resnet50.a1_in1k" and
    "resnet50.IMAGENET1K_V2", one that ships, by its preset's name, or that of a model of the Hugging Face hub, OWNER/NAME.

    Raises:
        ConfigError: for what names no network.
        WeightsError: where they cannot be had.
    """
    if (path := Path(choice)).is_file():
        return of_file(path)
    if weights := fully_named(choice):
        return Chosen(loader(weights), weights.title, weights.key, weights)
    try:
        shipped = bundled(preset(choice))
    except ConfigError:
        shipped = ()
    if shipped:
        return Chosen(loader(shipped[0]), shipped[0].title, shipped[0].key, shipped[0])
    if names_model(choice):
        return of_hub(choice, fetch)
    raise unknown(
        choice,
        "a file, weights with their network such as resnet50.a1_in1k or resnet20_fashion, or a model of the Hugging Face hub "
        "such as microsoft/resnet-50",
    )


def of_file(path: Path, config: ResNetConfig | None = None) -> Chosen:
    """The weights in a checkpoint, in the network that it is of, or another that they fit.

    Raises:
        WeightsError: where it cannot be opened, or does not fit.
    """
    opened = open_checkpoint(path)
    network = network_of(config or opened.config, fitted(opened, config or opened.config))
    weights = own_weights(network.config, natural_size(network.config), path.name, "", opened.headless)
    notes = (*(plain(note, 400) for note in opened.notes), assumptions_text(weights))
    return Chosen(network, f"the file {plain(path.name, 80)}", "", weights, notes)


def names_model(choice: str) -> bool:
    """Whether this may be a model of the hub: OWNER/NAME or the address of its page, and no path of a file."""
    if Path(choice.partition("?")[0]).suffix.lower() in FILES:
        return False
    try:
        return bool(huggingface.model_id(choice))
    except WeightsError:
        return "://" in choice  # `hub_name` says what is wrong with it


def of_hub(choice: str, fetch: Fetch, config: ResNetConfig | None = None) -> Chosen:
    """The weights of a model of the Hugging Face hub, in the network that it is of, or another that they fit.

    Raises:
        WeightsError: where there is none, it cannot be had or opened, or does not fit.
    """
    repo, answers = hub_name(choice)
    model = huggingface.cached_model(repo) or huggingface.look_up(repo)
    fetch(model)
    opened = huggingface.open_model(model, **answers)
    network = network_of(config or opened.config, fitted(opened, config or opened.config))
    weights = replace(hub_weights(model, opened, answers), config=network.config)
    notes = (*model.notes, *hub_notes(model, opened), *(plain(note, 400) for note in opened.notes))
    return Chosen(network, plain(model.id, 80), weights.key, weights, notes)


def unknown(choice: str, accepted: str) -> ConfigError | WeightsError:
    """That nothing is called so."""
    path = Path(choice)
    if path.suffix.lower() in FILES and path.parent != Path():
        return WeightsError(f"{plain(choice, 80)} is no file: the path of a checkpoint is accepted.")
    return ConfigError("weights", choice, accepted)


def check_predicts(chosen: Chosen) -> None:
    """That a network says something of an image.

    Raises:
        WeightsError: where it has no classifier, or numbers that cannot be run.
    """
    if chosen.weights.headless:
        raise WeightsError(
            f"{title(chosen.network.config)} with {chosen.words} has no classifier, so it names no class: weights with one are "
            "accepted."
        )
    if broken := not_finite(chosen.network.state_dict()):
        raise WeightsError(f"{cannot_run(broken)}: others are accepted.")

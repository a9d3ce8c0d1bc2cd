"""Where weights come from: shipped with this package, torchvision's hub, Hugging Face's, a person's own file, or chance.

A set of weights is worth nothing without its preprocessing and its labels, so the three travel together, and are imported
from here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from urllib.parse import parse_qsl, urlencode

import torch
from torch import Tensor, nn

from . import huggingface
from .checkpoint import OTHER_QUESTIONS, Opened, fitted, network
from .config import OPTIONS, ResNetConfig
from .datasets import FASHION_MNIST, DataSet, ImageNet, Numbered, Preprocessing
from .errors import WeightsError
from .hub import download
from .hub_cache import snapshot
from .huggingface import HubModel
from .model import ResNet
from .options import plain, to_text
from .presets import preset, preset_name, without_hub
from .published import tags
from .servers import INSTEAD, Progress
from .shipped import BUNDLED, NAMES, Checkpoint, bundled_checkpoint, bundled_path, read_checkpoint, save_checkpoint
from .sources import cache_path, hash_in, is_cached

__all__ = [
    "BUNDLED",
    "FASHION_MNIST",
    "Checkpoint",
    "DataSet",
    "ImageNet",
    "Numbered",
    "Preprocessing",
    "Progress",
    "Weights",
    "at_hand",
    "available",
    "bundled",
    "bundled_path",
    "cache_path",
    "download",
    "full_name",
    "fully_named",
    "hub_key",
    "hub_name",
    "hub_notes",
    "hub_weights",
    "is_cached",
    "load",
    "named",
    "noise_side",
    "own_weights",
    "published",
    "random_weights",
    "randomly",
    "read_checkpoint",
    "save_checkpoint",
    "timm_weights",
    "torchvision_weights",
]


@dataclass(frozen=True)
class Weights:
    """One set of weights for one configuration.

    `key` names it in a link: "bundled", "upload", "random", torchvision's own name for it, timm's, or a model of the Hugging
    Face hub with what was answered of it (`hub_key`).
    `digest` tells uploads apart, a title nothing. Where `headless`, the classifier is zeros in place of one that the file
    does not have: its scores mean nothing.
    `accuracy` is the share of its data set's test (or validation) images it gets right, `top5` of those with the right
    class among five. A file is at `url`, or in the repository `hub` of the Hugging Face hub, and has so many `bytes`.
    """

    key: str
    title: str = field(compare=False)
    config: ResNetConfig
    data: DataSet
    accuracy: float | None = None
    url: str = ""
    bytes: int = 0
    digest: str = ""
    headless: bool = False
    hub: str = ""
    top5: float | None = None

    @property
    def source(self) -> tuple[str, ResNetConfig, str, str]:
        """What the network depends on: not on the images, nor on their size."""
        return self.key, self.config, self.url, self.digest

    def at(self, size: tuple[int, int]) -> Weights:
        """The same for images of another size (height, width) in pixels."""
        return replace(self, data=replace(self.data, preprocessing=self.data.preprocessing.at(size)))


def available(config: ResNetConfig, image_size: tuple[int, int]) -> tuple[Weights, ...]:
    """The weights that fit a configuration, best first; random ones always do.

    `image_size` (height, width) is what random weights take; the others have a size of their own.

    Raises:
        WeightsError: where those that ship are missing or damaged.
    """
    return (*bundled(config), *published(config), random_weights(config, image_size))


# -- bundled ------------------------------------------------------------------------------


def bundled(config: ResNetConfig) -> tuple[Weights, ...]:
    """The shipped weights of a configuration, if there are any.

    Raises:
        WeightsError: where their file is missing or damaged, as far as its header tells.
    """
    checkpoint = bundled_checkpoint(config)
    if checkpoint is None:
        return ()
    title = f"Trained on {checkpoint.data.name}, shipped"
    return (Weights("bundled", title, config, checkpoint.data, checkpoint.accuracy),)


# -- published ----------------------------------------------------------------------------


def published(config: ResNetConfig | None = None) -> tuple[Weights, ...]:
    """What torchvision and timm publish, for all networks or for one configuration, the most accurate first.

    Raises:
        WeightsError: where the list of timm's is missing or damaged.
    """
    if config is None:
        found = chain(chain.from_iterable(_torchvision().values()), chain.from_iterable(_timm().values()))
    else:
        found = chain(torchvision_weights(config), timm_weights(config))
    return tuple(sorted(found, key=lambda weights: -(weights.accuracy or 0)))


def named(key: str, config: ResNetConfig) -> Weights | None:
    """The published weights that a link calls `key`: torchvision's for this configuration, or timm's by their tag, such
    as "resnet50.a1_in1k", with "timm/" before it or without; None where there are none.

    They are for this configuration where they fit it, else timm's for that of their tag.

    Raises:
        WeightsError: where the list of timm's is missing or damaged.
    """
    names = {key, without_hub(key)}
    every = chain(torchvision_weights(config), timm_weights(config), chain.from_iterable(_timm().values()))
    return next((weights for weights in every if weights.key in names), None)


def full_name(weights: Weights) -> str:
    """What names published weights and their network together: timm's tag, and torchvision's as a tag would,
    "resnet50.IMAGENET1K_V2".
    """
    return f"{preset_name(weights.config)}.{weights.key}" if weights.url else weights.key


def fully_named(name: str) -> Weights | None:
    """The published weights of a `full_name`, in letters of any case and with "timm/" before it or without; None where there are
    none.

    Raises:
        WeightsError: where the list of timm's is missing or damaged.
    """
    return _by_full_name().get(without_hub(name))


@cache
def _by_full_name() -> Mapping[str, Weights]:
    return {full_name(one).lower(): one for one in published()}


def torchvision_weights(config: ResNetConfig) -> tuple[Weights, ...]:
    """What torchvision publishes for a configuration, newest recipe first."""
    return _fitting(_torchvision(), config)


def timm_weights(config: ResNetConfig) -> tuple[Weights, ...]:
    """What timm publishes for a configuration, in its order.

    Raises:
        WeightsError: where the list of them is missing or damaged.
    """
    return _fitting(_timm(), config)


def _fitting(every: Mapping[ResNetConfig, tuple[Weights, ...]], config: ResNetConfig) -> tuple[Weights, ...]:
    """Those for a configuration. Options that leave the weights' meaning alone (dilation, initialisation, stochastic
    depth) are not compared.
    """
    same, _ = config.with_(output_stride=32, zero_init_residual=False, drop_path=0.0)
    found = every.get(same, ())
    return found if same == config else tuple(replace(weights, config=config) for weights in found)


def _by_config(found: Iterable[Weights]) -> Mapping[ResNetConfig, tuple[Weights, ...]]:
    groups = defaultdict(list)
    for weights in found:
        groups[weights.config].append(weights)
    return {config: tuple(group) for config, group in groups.items()}


TORCHVISION_LICENCE = "bsd-3-clause"
"""Of torchvision, which says no other of its weights; so does timm, of its copies of them."""


@cache
def _torchvision() -> Mapping[ResNetConfig, tuple[Weights, ...]]:
    """All of torchvision's, by the networks that they are for."""
    from torchvision import models

    found = []
    for name in models.list_models(models, include=["*resnet*", "*resnext*"]):
        for entry in reversed(list(models.get_model_weights(name))):
            transforms, meta = entry.transforms(), entry.meta
            preprocessing = Preprocessing(
                transforms.resize_size[0], transforms.crop_size[0], tuple(transforms.mean), tuple(transforms.std)
            )
            data = DataSet("ImageNet-1k", meta["recipe"], TORCHVISION_LICENCE, preprocessing, ImageNet())
            top1, top5 = (meta["_metrics"]["ImageNet-1K"][name] / 100 for name in ("acc@1", "acc@5"))
            title = f"torchvision {entry.name.removeprefix('IMAGENET1K_')}, ImageNet-1k"
            size = int(meta["_file_size"] * 2**20)
            found.append(Weights(entry.name, title, preset(name), data, top1, entry.url, size, top5=top5))
    return _by_config(found)


@cache
def _timm() -> Mapping[ResNetConfig, tuple[Weights, ...]]:
    """All of timm's, by the networks that they are for."""
    return _by_config(
        Weights(
            tag.name,
            f"timm {tag.name}",
            tag.config,
            tag.data,
            tag.top1,
            bytes=tag.bytes,
            headless=not tag.classes,
            hub=tag.hub,
            top5=tag.top5,
        )
        for tag in tags()
    )


# -- a person's own -----------------------------------------------------------------------


def own_weights(
    config: ResNetConfig, image_size: tuple[int, int], name: str, digest: str, headless: bool = False
) -> Weights:
    """The weights of a person's checkpoint called `name`. No file says what it was trained on, so that is assumed."""
    title = f"Your checkpoint {plain(name, 80)}"
    data = _assumed(config, image_size, not headless)
    return Weights("upload", title, config, data, digest=digest, headless=headless)


def _assumed(config: ResNetConfig, image_size: tuple[int, int], known: bool) -> DataSet:
    """What a network was trained on where nobody says. Where it may be data that are `known` here: Fashion-MNIST where its
    tensors have the shapes of the networks that ship, ImageNet where colour images have 1000 classes. Images are prepared
    as for these, others as ImageNet's at `image_size`, but grey ones with a mean of 0.5 and a deviation of 0.25.
    """
    if known and _is_like_shipped(config):
        return replace(FASHION_MNIST, source="", licence="")  # its own nobody knows
    side, channels = min(image_size), config.in_channels
    colour = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    mean, std = colour if channels == 3 else ((0.5,) * channels, (0.25,) * channels)
    preprocessing = Preprocessing(side * 8 // 7 if side >= 128 else side, image_size, mean, std)
    imagenet = known and config.num_classes == 1000 and channels == 3
    names = ImageNet() if imagenet else Numbered(config.num_classes)
    return DataSet("ImageNet-1k" if imagenet else "unknown", "", "", preprocessing, names)


def _is_like_shipped(config: ResNetConfig) -> bool:
    """Whether a network has tensors like those that ship, at any depth."""
    shipped = BUNDLED["resnet20"]
    shown = ("in_channels", "num_classes", "stem", "block", "planes")
    return all(getattr(config, name) == getattr(shipped, name) for name in shown)


# -- a model of the hub --------------------------------------------------------------------


def hub_name(text: str) -> tuple[str, dict[str, str]]:
    """The id of a model of the hub, and what is answered of it to `open_checkpoint`, in a link or as a person typed it: its
    id, "OWNER/NAME?option_a=both", or the address of its page, which answers nothing.

    Raises:
        WeightsError: for what is no model's name, and an answer to what is never asked.
    """
    repo = huggingface.model_id(text)
    answers = _answers(text) if text.partition("?")[0].strip() == repo else {}
    for name in answers:
        if name not in OPTIONS and name not in OTHER_QUESTIONS:
            raise WeightsError(
                f"{repo} has no question {plain(name)}: an option of the configuration or {', '.join(OTHER_QUESTIONS)} is one."
            )
    return repo, answers


def hub_key(repo: str, answers: Mapping[str, str]) -> str:
    """What a link calls a model of the hub that is read with these answers: `hub_name` reads it."""
    return f"{repo}?{urlencode(answers)}" if answers else repo


def _answers(key: str) -> dict[str, str]:
    return dict(parse_qsl(key.partition("?")[2], keep_blank_values=True))


def hub_weights(model: HubModel, opened: Opened, answers: Mapping[str, str] = MappingProxyType({})) -> Weights:
    """The weights of a model of the hub that holds the network `opened`, which was read with these answers, with the labels
    and the preprocessing that its repository says. What it does not say, or not of such a network, is assumed: `hub_notes`.
    """
    config, how = opened.config, model.preprocessing
    assumed = _assumed_of(model, opened)
    if how is None or len(how.mean) != config.in_channels:
        how = assumed.preprocessing
    labels = model.labels if len(model.labels) == config.num_classes and not opened.headless else assumed.categories
    data = DataSet(model.data or assumed.name, model.address, model.licence, how, labels)
    return Weights(
        hub_key(model.id, answers),
        model.id,
        config,
        data,
        bytes=model.bytes,
        digest=model.revision,
        headless=opened.headless,
        hub=model.id,
    )


def hub_notes(model: HubModel, opened: Opened) -> tuple[str, ...]:
    """Sentences on what `hub_weights` assumes, where the repository does not say it."""
    config, how, labels, notes = opened.config, model.preprocessing, len(model.labels), []
    assumed = _assumed_of(model, opened)
    mean = ", ".join(map(to_text, assumed.preprocessing.mean[:3]))
    if how is None:
        whose = ", as for ImageNet" if config.in_channels == 3 else ""
        whose = f", as for {FASHION_MNIST.name}" if assumed.name == FASHION_MNIST.name else whose
        height, width = assumed.preprocessing.size
        notes.append(f"Images are prepared at {height}×{width} pixels with a mean of {mean}{whose}.")
    elif len(how.mean) != config.in_channels:
        notes.append(
            f"Its preprocessing is of {len(how.mean)}-channel images and its network takes {config.in_channels}-channel ones, "
            f"which are prepared with a mean of {mean}."
        )
    if not opened.headless and labels != config.num_classes:
        if labels:
            notes.append(
                f"It names {labels:,} classes and its network has {config.num_classes:,}: its names are left out."
            )
        if isinstance(assumed.categories, ImageNet):
            notes.append("Its 1,000 classes are taken for ImageNet's.")
        if assumed.name == FASHION_MNIST.name:
            notes.append(
                f"Its 10 classes are taken for {FASHION_MNIST.name}'s: its tensors have the shapes of the networks that ship."
            )
    return tuple(notes)


def _assumed_of(model: HubModel, opened: Opened) -> DataSet:
    """`_assumed` of a model of the hub; one that was trained on other data has none of the classes that are known here."""
    size = (32, 32) if opened.config.stem == "3x3" else (224, 224)
    assumed = _assumed(opened.config, size, not opened.headless)
    called = CALLED.get(assumed.name)
    other = called and model.data and not called.fullmatch(model.data)
    renamed = assumed.name == FASHION_MNIST.name and model.labels not in ((), FASHION_MNIST.categories)
    return _assumed(opened.config, size, False) if other or renamed else assumed


CALLED = {
    "ImageNet-1k": re.compile(r"(.*/)?(ilsvrc.*|imagenet([-_ ]?(1k|2012)([-_].*)?)?)", re.I),
    FASHION_MNIST.name: re.compile(r"(.*/)?fashion[-_ ]?mnist", re.I),
}
"""What cards of the hub call the data sets whose classes are known here: ImageNet with its 1000, and not with more or fewer."""


# -- random -------------------------------------------------------------------------------


def random_weights(config: ResNetConfig, image_size: tuple[int, int]) -> Weights:
    """Untrained weights: what the architecture alone does to an image."""
    channels = config.in_channels
    preprocessing = Preprocessing(min(image_size), image_size, (0.5,) * channels, (0.25,) * channels)
    data = DataSet("nothing", "", "", preprocessing, Numbered(config.num_classes))
    return Weights("random", "Random, untrained", config, data)


def noise_side(config: ResNetConfig) -> int:
    """The side in pixels of the noise that `randomly` calibrates norms on: their statistics take more than one unit."""
    return max(32, 2 * config.total_stride)


def randomly(config: ResNetConfig, seed: int = 0) -> ResNet:
    """A network at its initialisation, norms calibrated on noise so that deep ones stay finite.

    All chance comes from a generator of this seed: torch's own, which all threads share, is left alone.
    """
    chance = torch.Generator().manual_seed(seed)
    model = ResNet(config)
    model.initialise(chance)
    model.eval()  # stochastic depth would ask torch's own generator
    side = noise_side(config)
    noise = torch.randn(2, config.in_channels, side, side, generator=chance)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train().momentum = 1.0
    with torch.no_grad():
        model(noise)
    for norm in norms:
        norm.eval().momentum = 0.1
    return model


def at_hand(weights: Weights) -> bool:
    """Whether nothing has to be fetched for these weights; those of an upload are their session's."""
    if weights.hub:
        return bool(snapshot(weights.hub, weights.digest).weights)
    return not weights.url or is_cached(weights.url)


def load(
    weights: Weights, progress: Progress = lambda done, total: None, state_dict: Mapping[str, Tensor] | None = None
) -> ResNet:
    """The network with these weights in eval mode; `state_dict` holds those of an upload.

    Raises:
        WeightsError: where they have to be downloaded and cannot be, their file is missing or damaged, or they do not
            fit. A damaged file in a cache is downloaded again, once.
    """
    if weights.key == "upload":
        return network(weights.config, state_dict or {})
    if weights.key == "random":
        return randomly(weights.config)
    if weights.key == "bundled":
        return read_checkpoint(bundled_path(NAMES[weights.config]))[0]
    if weights.hub:
        model = huggingface.weights_of(weights.hub, weights.digest)
        huggingface.download_model(model, progress)
        answers = ({"norm": "group"} if weights.config.norm == "group" else {}) | _answers(weights.key)
        return network(weights.config, fitted(huggingface.open_model(model, **answers), weights.config))
    path = download(weights.url, progress)
    try:
        return _published(weights.config, path)
    except WeightsError:
        if hash_in(path.name):
            raise
    with suppress(OSError):  # no hash had told that it is damaged
        path.unlink()
    return _published(weights.config, download(weights.url, progress))


def _published(config: ResNetConfig, path: Path) -> ResNet:
    """The network with the weights of a file in torch.hub's cache, which may be anybody's, in eval mode and fp32.

    Raises:
        WeightsError: where the file cannot be read or holds something else.
    """
    model = ResNet(config)
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # given damaged bytes, torch raises nearly anything
        raise WeightsError(f"{path.name} in torch.hub's cache holds no weights of this network; {INSTEAD}.") from error
    return model.float().eval()

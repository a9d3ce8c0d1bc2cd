"""What a repository of the Hugging Face hub says of its model: network, labels, preprocessing, licence and data.

It is read from the texts of three files, which strangers wrote, and nothing else.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from .config import ResNetConfig
from .datasets import Interpolation, Preprocessing
from .errors import WeightsError
from .options import plain
from .presets import PRESETS

CONFIG, PROCESSOR, CARD = DESCRIPTIONS = ("config.json", "preprocessor_config.json", "README.md")
"""What a repository says of a network, of the images that it takes, and of itself."""
MAX_LABELS, MAX_SIDE = 100_000, 4096
MAX_MEAN, MIN_DEVIATION = 1e3, 1e-6
"""Of the numbers 0…1 of an image; with others a network overflows, which would look like a fault of its own."""


class Description(NamedTuple):
    """What a repository says of its model: where they are not said, `licence` and `data` (what it was trained on) are "",
    `labels` are none, and `preprocessing` and `network` are None. `notes` are sentences on what was not understood.
    """

    licence: str = ""
    data: str = ""
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()
    network: ResNetConfig | None = None


def describe(repo: str, config_text: str, processor_text: str, card: str) -> Description:
    """What these files say, each "" where there is none.

    Raises:
        WeightsError: where a file is damaged, or the model is no network for images.
    """
    config, processor = _object(repo, CONFIG, config_text), _object(repo, PROCESSOR, processor_text)
    if "vocab_size" in config:
        raise WeightsError(f"{repo} is no network for images: its {CONFIG} says vocab_size.")
    timm = config.get("pretrained_cfg") or (config if "input_size" in config else None)
    how, notes = _by_timm(timm) if isinstance(timm, Mapping) else _by_transformers(processor)
    return Description(*_licence_and_data(card), _labels(config), how, notes, _network(config))


def _network(config: Mapping[str, Any]) -> ResNetConfig | None:
    """The network that timm or transformers would build; None where it is another, or not understood."""
    try:
        return _of_transformers(config) if config.get("model_type") == "resnet" else _of_timm(config)
    except (AttributeError, LookupError, TypeError, ValueError):  # a ConfigError is one of the last
        return None


def _of_timm(config: Mapping[str, Any]) -> ResNetConfig | None:
    channels, _, _ = (config.get("pretrained_cfg") or config)["input_size"]
    classes = config.get("num_classes") or 1000
    network, _ = PRESETS[config["architecture"]].with_(in_channels=channels, num_classes=classes)
    return None if config.get("model_args") else network


def _of_transformers(config: Mapping[str, Any]) -> ResNetConfig | None:
    """https://huggingface.co/docs/transformers/model_doc/resnet says what is meant, and where nothing is said."""
    block = config.get("layer_type", "bottleneck")
    network = ResNetConfig(
        layers=tuple(config.get("depths", (3, 4, 6, 3))),
        planes=tuple(
            size // (4 if block == "bottleneck" else 1) for size in config.get("hidden_sizes", (256, 512, 1024, 2048))
        ),
        block=block,
        stride_in="1x1" if config.get("downsample_in_bottleneck") and block == "bottleneck" else "3x3",
        stem_width=config.get("embedding_size", 64),
        activation=config.get("hidden_act", "relu"),
        in_channels=config.get("num_channels", 3),
        num_classes=len(config.get("id2label", (0, 1))),
    )
    return None if config.get("downsample_in_first_stage") else network


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the classes, as transformers or timm write them; none where they are numbers."""
    names = config.get("label_names")
    named = config.get("id2label")
    if isinstance(named, Mapping):
        names = [named.get(str(number)) for number in range(len(named))]
    if (
        not isinstance(names, list)
        or not 0 < len(names) <= MAX_LABELS
        or not all(isinstance(one, str) for one in names)
    ):
        return ()
    if all(re.fullmatch(r"LABEL_\d+", one) for one in names):
        return ()
    return tuple(plain(one, 120) for one in names)


def _by_timm(given: Mapping[str, Any]) -> tuple[Preprocessing | None, tuple[str, ...]]:
    """How images are prepared as timm says it, at the size at which it evaluates."""
    try:
        _, height, width = given.get("test_input_size") or given["input_size"]
        share = _number(given.get("test_crop_pct") or given.get("crop_pct") or 0.875)
        notes = []
        if (mode := given.get("crop_mode") or "center") != "center":
            notes.append(f"timm fits images by {plain(mode)}; the middle is cut out here.")
        return _preprocessing(
            math.floor(min(height, width) / share),
            (height, width),
            given.get("mean"),
            given.get("std"),
            given.get("interpolation") or "bilinear",
            notes,
        )
    except (LookupError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None, (NOT_UNDERSTOOD.format(CONFIG),)


def _by_transformers(given: Mapping[str, Any]) -> tuple[Preprocessing | None, tuple[str, ...]]:
    """How images are prepared as an image processor of transformers says it."""
    if not given:
        return None, (f"It has no {PROCESSOR}.",)
    try:
        size, notes = given.get("size", 224), []
        kind = str(given.get("image_processor_type") or given.get("feature_extractor_type") or "")
        if isinstance(size, int):
            size = {"shortest_edge": size} if kind.startswith(("ConvNext", "CLIP")) else {"height": size, "width": size}
        if kind.startswith("ConvNext"):
            side = size["shortest_edge"]
            resize = int(side / _number(given.get("crop_pct") or 224 / 256)) if side < 384 else side
            crop, stretched = (side, side), side >= 384
        elif given.get("do_center_crop"):
            crop, stretched = _pair(given.get("crop_size", 224)), "height" in size
            resize = min(_pair(size)) if stretched else size["shortest_edge"]
        else:
            crop, stretched = _pair(size), "height" in size
            resize = min(crop)
        if given.get("do_resize", True) is not True:
            notes.append("Its processor leaves images at their size; they are scaled here.")
        if stretched:
            notes.append("Its processor stretches images into a square; the middle is cut out here.")
        plain_scale = _number(given.get("rescale_factor", 1 / 255))
        if given.get("do_rescale", True) is not True or abs(255 * plain_scale - 1) > 0.01:
            notes.append("Its processor scales numbers in another way than to 0…1, which is done here.")
        normalised = given.get("do_normalize", True)
        return _preprocessing(
            resize,
            crop,
            given.get("image_mean") if normalised else [0.0] * 3,
            given.get("image_std") if normalised else [1.0] * 3,
            {2: "bilinear", 3: "bicubic"}.get(given.get("resample", 2), f"PIL's {given.get('resample')}"),
            notes,
        )
    except (AttributeError, LookupError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None, (NOT_UNDERSTOOD.format(PROCESSOR),)


NOT_UNDERSTOOD = "How its {} prepares images is not understood."


def _preprocessing(
    resize: int, crop: tuple[int, int], mean: Any, std: Any, interpolation: str, notes: list[str]
) -> tuple[Preprocessing, tuple[str, ...]]:
    """What both say, checked.

    Raises:
        TypeError, ValueError: for what cannot be.
    """
    for side in (resize, *crop):
        if not isinstance(side, int) or not 1 <= side <= MAX_SIDE:
            raise ValueError("no side of an image")
    means, deviations = tuple(map(_number, mean)), tuple(map(_number, std))
    if not means or len(means) != len(deviations):
        raise ValueError("no mean and deviation for each channel")
    if max(map(abs, means)) > MAX_MEAN or min(deviations) < MIN_DEVIATION:
        raise ValueError("images would become numbers that no network takes")
    if interpolation not in ("bilinear", "bicubic"):
        notes.append(f"Its images are scaled by {plain(interpolation)}; here bilinearly.")
        interpolation = "bilinear"
    shape = crop[0] if crop[0] == crop[1] else crop
    how = cast(Interpolation, interpolation)
    return Preprocessing(resize, shape, means, deviations, interpolation=how), tuple(notes)


def _pair(size: Any) -> tuple[int, int]:
    """Height and width of a size as transformers writes it."""
    if isinstance(size, Mapping):
        return (size["height"], size["width"]) if "height" in size else (size["shortest_edge"],) * 2
    return (size, size)


def _number(value: Any) -> float:
    """A number as JSON has it; ValueError for NaN, infinity and what is none."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("no number")
    return float(value)


def _licence_and_data(card: str) -> tuple[str, str]:
    """The licence and the data set that the head of a model's card names, "" for each that it does not."""
    head = re.match(r"---\r?\n(.*?)\n---", card, re.DOTALL)
    text = head[1] if head else ""
    licence = re.search(r"^license: *(\S+)", text, re.MULTILINE)
    data = re.search(r"^datasets: *(?:\[ *|\r?\n *- *)?([^\s,\]]+)", text, re.MULTILINE)
    return _plain(licence), _plain(data)


def _plain(found: re.Match[str] | None) -> str:
    return plain(found[1].strip("'\""), 80) if found else ""


def _object(repo: str, name: str, text: str) -> Mapping[str, Any]:
    """The JSON object in a file of a repository; an empty one where there is no file.

    Raises:
        WeightsError: for what is none.
    """
    try:
        found = json.loads(text or "{}")
    except (RecursionError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise WeightsError(f"{name} of {repo} is damaged: it is no JSON object.")
    return found

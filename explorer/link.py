"""What a person is looking at, as one value that fits into a link."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from resnet import OPTIONS, ConfigError, ResNetConfig, preset, preset_name, title
from resnet.options import Option, from_text, normalise, to_text
from resnet.presets import without_hub
from resnet.published import Tag, tags
from resnet.sizes import check_image_size
from resnet.weights import BUNDLED, FASHION_MNIST, WeightsError, full_name, fully_named, hub_key, hub_name

from .analysis.parts import block_channels, fixed_blocks, off_channel, switched_off
from .analysis.trace import Trace
from .analysis.trace import trace as trace_config

Size = tuple[int, int]


UPLOAD = "upload"
"""What a link calls an image or weights that somebody uploaded, which it does not bring along."""


def natural_size(config: ResNetConfig, weights: str = "") -> Size:
    """The image size (height, width) in pixels at which a network is usually shown: what these weights take, where timm
    publishes them for it, or those that ship with it; else 32 pixels for CIFAR-like ones, and 224.
    """
    if (tag := published_tag(weights)) and tag.config == config:
        return tag.test_size, tag.test_size
    if config in BUNDLED.values():
        return FASHION_MNIST.preprocessing.size
    return (32, 32) if config.stem == "3x3" and config.total_stride <= 8 else (224, 224)


def own_network(weights: str) -> ResNetConfig | None:
    """The network of a link that names weights and no configuration: their own; None where only the hub knows it."""
    if tag := published_tag(weights):
        return tag.config
    return None if "/" in weights else ResNetConfig()


def published_tag(weights: str) -> Tag | None:
    """What timm publishes under a name."""
    with suppress(WeightsError):  # the page says that the list of timm's is damaged
        return next((tag for tag in tags() if tag.name == without_hub(weights)), None)
    return None


def names_network(query: Mapping[str, str]) -> bool:
    """Whether a link's query says which network it is of."""
    return any(name in OPTIONS or name == "preset" for name in query)


def left_to_hub(query: Mapping[str, str]) -> bool:
    """Whether a link's query names no network, and weights of which the hub alone knows it."""
    return "weights" in query and not names_network(query) and own_network(query["weights"]) is None


def without_network(query: Mapping[str, str]) -> dict[str, str]:
    """A link's query without its network, and without what is of that one alone."""
    left_out = {"preset", "size", "at", "unit", "channel", "trail", "off", "class", *OPTIONS}
    return {name: text for name, text in query.items() if name not in left_out}


@dataclass(frozen=True)
class View:
    """A configuration, the image size (height, width) in pixels, and what is chosen on the pages.

    `at` is the selected layer or block, `pinned` a configuration that the figures are compared
    with, `others` up to five that the comparison page sets beside this one, `weights`
    and `image` the chosen weights and sample (or `UPLOAD`) of the inference page, `unit` a place of the
    selected layer's map as "row-column", `lab` the settings of the kernels page,
    `limits` the budget on Choose, `space` the designs that are searched there, `training` those of the degradation runs,
    `landscape` those of the loss landscape, `memory` what the network is to fit into memory with, `appended` the blocks of
    the identity experiment,
    `shown` what the comparison page shows in detail, `cost` the chart of the architecture page, `start` the switches of
    Start (all six, and `change`, as `Settings.to_text` writes them), `run` the steps of the shipped runs that the degradation page shows,
    `experiment` the networks that an experiment is made with, `tab` the open tab of a page that has some, the note of the
    source page, the verdict of the claims or what accuracies are held against on Choose, `find` what is looked for in the source, `off` the
    blocks that are switched off and the channels ("layer2.0:31"), in order of depth, `change` what is done to the image before
    the network sees it,
    `explained` the name of the class whose score is explained, empty for the one that the network predicts.
    `channel` is the channel of the layer that is looked at, None for the strongest on the image, `blend` how far its map hides
    the image, `range` whether each map of a layer is coloured in its own range or all in one that they share.
    `trail` are the units that led to the one that is selected, each "layer.channel.row-column", the first one first; the last may
    be a pixel of the "image".
    `networks` are those with weights that stand side by side, as `network_name` writes them; empty for the usual two.
    `tour` is the stop of the tour that is open, 0 for none, `present` whether the page is for a projector: without
    sidebar, in larger type.
    """

    config: ResNetConfig = field(default_factory=ResNetConfig)
    image_size: Size = (224, 224)
    at: str = ""
    pinned: ResNetConfig | None = None
    weights: str = ""
    image: str = ""
    unit: str = ""
    lab: str = ""
    training: str = ""
    landscape: str = ""
    experiment: str = ""
    appended: str = ""
    shown: str = ""
    tab: str = ""
    find: str = ""
    cost: str = ""
    limits: str = ""
    space: str = ""
    memory: str = ""
    run: str = ""
    start: str = ""
    change: str = ""
    others: tuple[ResNetConfig, ...] = ()
    networks: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    explained: str = ""
    channel: int | None = None
    blend: float = 0.6
    range: str = "own"
    trail: tuple[str, ...] = ()
    tour: int = 0
    present: bool = False

    def way(self) -> dict[str, str]:
        """The part of `to_query` that says how pages are walked through, whatever they show, and what Start shows."""
        asked = {
            "tour": str(self.tour) if self.tour else "",
            "present": "1" if self.present else "",
            "start": self.start,
        }
        return {key: text for key, text in asked.items() if text}

    @property
    def natural_size(self) -> Size:
        """The image size where a link names none."""
        return natural_size(self.config, self.weights)

    def to_query(self) -> dict[str, str]:
        """The view as a link's query; what is at its default is left out, but for a network that is not that of its weights."""
        query = self.config.to_query()
        if not query and own_network(self.weights) != self.config:
            query["preset"] = preset_name(self.config) or ""
        if self.image_size != self.natural_size:
            query["size"] = size_text(self.image_size)
        if self.pinned is not None:
            query["pin"] = urlencode(self.pinned.to_query()) or "default"
        if self.others:
            query["with"] = ",".join(preset_name(other) or urlencode(other.to_query()) for other in self.others)
        if self.networks:
            query["networks"] = ",".join(self.networks)
        if self.off:
            query["off"] = ",".join(self.off)
        if self.trail:
            query["trail"] = ",".join(self.trail)
        plain = {key: value for name, key in _PLAIN.items() if (value := getattr(self, name))}
        maps = {name: to_text(value) for name in MAP_OPTIONS if (value := getattr(self, name)) != getattr(View, name)}
        return query | plain | maps | self.way()

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> View:
        """The inverse of `to_query`. `preset` may name a network for the rest to start from; where weights are named and no
        network, it is theirs, as far as it is known (`own_network`).

        Raises:
            ConfigError: for anything in the query that is not accepted, and for a query of endless length or parts.
        """
        length = sum(len(name) + len(text) for name, text in query.items())
        if length > MAX_CHARACTERS or len(query) > MAX_PARTS:
            raise ConfigError(
                "link",
                f"{length:,} characters in {len(query):,} parts",
                f"at most {MAX_CHARACTERS:,} characters in {MAX_PARTS} parts",
            )
        query = _renamed(query)
        for key in _PLAIN.values():
            if len(query.get(key, "")) > LONGEST:
                raise ConfigError(key, query[key], f"at most {LONGEST} characters")
        options = {name: text for name, text in query.items() if name not in _OWN_KEYS}
        base = None if options else own_network(query.get("weights", ""))
        if "preset" in query:
            base = preset(query["preset"])
        config = ResNetConfig.from_query(options, base)
        size = parse_size(query["size"]) if "size" in query else natural_size(config, query.get("weights", ""))
        pinned = None
        if "pin" in query:
            given = [] if query["pin"] == "default" else parse_qsl(query["pin"], keep_blank_values=True)
            try:
                pinned = ResNetConfig.from_query(dict(given))
            except ConfigError as error:
                raise ConfigError("pin", query["pin"], f"{error.field} in it takes {error.accepted}") from error
        others = parse_others(query["with"]) if "with" in query else ()
        networks = parse_networks(query["networks"]) if "networks" in query else ()
        off = parse_off(query.get("off", ""), config)
        plain: dict[str, Any] = {name: query.get(key, "") for name, key in _PLAIN.items()}
        plain["tab"] = _RENAMED_TABS.get(plain["tab"], plain["tab"])
        maps = {
            name: normalise(name, option, from_text(name, option, query[name]))
            for name, option in MAP_OPTIONS.items()
            if name in query
        }
        if (tour := query.get("tour", "0")) not in map(str, range(TOUR_STOPS + 1)):
            raise ConfigError("tour", tour, f"a stop from 1 to {TOUR_STOPS}")
        if (present := query.get("present", "0")) not in ("0", "1"):
            raise ConfigError("present", present, "1 for a projector, or 0")
        return cls(
            config,
            check_image_size(config, size),
            pinned=pinned,
            others=others,
            networks=networks,
            off=off,
            trail=parse_trail(query.get("trail", "")),
            tour=int(tour),
            present=present == "1",
            **plain,
            **maps,
        )


MAX_CHARACTERS, MAX_PARTS = 16_000, 64
"""Of a link's query: more than any view takes."""

WAY = ("tour", "present", "start")
"""The keys of `View.way`."""
TOUR_STOPS = 7
_PLAIN = {
    name: name
    for name in (
        *("at", "weights", "image", "unit", "lab", "training", "experiment", "appended", "shown", "tab", "find"),
        *("cost", "run", "start", "change", "landscape", "limits", "space", "memory"),
    )
}
_PLAIN["explained"] = "class"
"""The fields that a link holds as they are, each with its key there."""
MAP_OPTIONS = {
    "channel": Option(0, "Channel", "The strongest where none is chosen.", high=999_999),
    "blend": Option(View.blend, "Blend", "0 shows the image alone, 1 the map alone.", high=1),
    "range": Option(
        View.range,
        "Colour range",
        "Own: each map from its lowest to its highest value, so that faint ones are seen too. Shared: all maps in one, so "
        "that the same colour is the same value.",
        choices=("own", "shared"),
    ),
}
"""The fields that say how a layer's maps are looked at, each by its key in a link."""
_OWN_KEYS = {*("size", "pin", "with", "networks", "off", "trail", "preset"), *MAP_OPTIONS, *WAY, *_PLAIN.values()}
_RENAMED_KEYS = {"picture": "image"}
_RENAMED_TABS = {
    "Several pictures": "Several images",
    "Ledger": "MACs and other tools' counts",
    "Activations": "Maps",
    "Inside the addition": "Addition",
    "Attribution": "Why this class",
}
"""Keys and tabs as older links name them."""
VIEW_KEYS = {*OPTIONS, *_OWN_KEYS, *_RENAMED_KEYS} - {*WAY}
LONGEST = 200
"""Characters of such a field: as many as all settings of the kernels page take."""


def _renamed(query: Mapping[str, str]) -> dict[str, str]:
    """A link's query by the keys that links have today."""
    return {_RENAMED_KEYS.get(name, name): text for name, text in query.items()}


MAX_OTHERS = 5


def parse_network(text: str) -> View:
    """The view that a preset's name, a link, or the part of one after the question mark stands for.

    Raises:
        ConfigError: for an unknown name or a value that is not accepted, and for a link that leaves its network to the hub.
    """
    query = network_query(text)
    if left_to_hub(query):
        accepted = "beside the network that they are of, as in preset=resnet50&weights=OWNER/NAME"
        raise ConfigError("weights", query["weights"], accepted)
    return View.from_query(query)


def network_query(text: str) -> dict[str, str]:
    """The query of what `parse_network` reads."""
    if "huggingface.co/timm/" in text:  # a model's page there, not a link of this app
        return {"preset": text}
    text, link, query = text.strip().partition("?")
    if link or "://" in text:
        return dict(parse_qsl(query, keep_blank_values=True))
    return dict(parse_qsl(text, keep_blank_values=True)) if "=" in text else {"preset": text}


def query_text(view: View) -> str:
    """The part of a view's link after the question mark, which `parse_network` reads; the default network is named."""
    return urlencode(view.to_query()) or f"preset={preset_name(view.config)}"


def relative(view: View) -> str:
    """A view's link without the server's address, as it stands in what is taken away."""
    return f"?{query_text(view)}"


def origin(view: View) -> dict[str, str]:
    """What is taken away says of itself, texts by their names: the network, the weights that a link names, and the link that
    opens what was seen again.
    """
    weights = {"weights": view.weights} if view.weights else {}
    return {"network": title(view.config)} | weights | {"link": relative(view), "producer": "ResNet Explorer"}


def trace(network: ResNetConfig | str, image_size: int | Size | None = None) -> Trace:
    """Trace a configuration, or what `parse_network` reads: a preset's name or a link.

    The image size is one side, or (height, width), in pixels; without it a link's own, and 224 for a configuration.

    Raises:
        ConfigError: for an unknown name, a value that is not accepted, or an image that the network cannot take.
    """
    if not isinstance(network, str):
        return trace_config(network, 224 if image_size is None else image_size)
    view = parse_network(network)
    return trace_config(view.config, view.image_size if image_size is None else image_size)


def names_view(query: Mapping[str, str]) -> bool:
    """Whether a link says anything of what is looked at."""
    return not query.keys().isdisjoint(VIEW_KEYS)


def parse_others(text: str) -> tuple[ResNetConfig, ...]:
    """Configurations joined by commas, each a preset's name or a query.

    Raises:
        ConfigError: for more than five, or one that is not accepted.
    """
    pieces = text.split(",")
    if len(pieces) > MAX_OTHERS:
        raise ConfigError("with", text, f"at most {MAX_OTHERS} networks joined by commas")
    try:
        return tuple(
            ResNetConfig.from_query(dict(parse_qsl(piece, keep_blank_values=True))) if "=" in piece else preset(piece)
            for piece in pieces
        )
    except ConfigError as error:
        raise ConfigError("with", text, f"{error.field} in it takes {error.accepted}") from error


SHOWN = "shown"
"""What a link calls the network that it shows, with its weights, among those that stand side by side."""
TRAINED = tuple(f"{name}_fashion" for name in BUNDLED)
"""The presets of the networks that ship with weights."""
MAX_NETWORKS = 4


def parse_networks(text: str) -> tuple[str, ...]:
    """Two to four different networks with weights, joined by commas.

    Raises:
        ConfigError: for fewer or more, and for one that is none.
    """
    names = tuple(map(network_name, text.split(",")))
    if not 2 <= len(names) == len(set(names)) <= MAX_NETWORKS:
        raise ConfigError("networks", text, ACCEPTED_NETWORKS)
    return names


def network_name(text: str) -> str:
    """What a link calls a network with weights that stands beside others: a preset's name for one that ships, `SHOWN`, `UPLOAD`,
    the `full_name` of published weights, or a model of the Hugging Face hub with what is answered of it (`hub_key`).

    Raises:
        ConfigError: for what is none of these.
    """
    text = text.strip()
    if text in (*TRAINED, SHOWN, UPLOAD):
        return text
    with suppress(WeightsError):  # the page says that the list of timm's is damaged
        if published := fully_named(text):
            return full_name(published)
    with suppress(WeightsError):
        if len(name := hub_key(*hub_name(text))) <= LONGEST:
            return name
    raise ConfigError("networks", text, ACCEPTED_NETWORKS)


ACCEPTED_NETWORKS = (
    f"two to {MAX_NETWORKS} different ones of {', '.join(TRAINED)}, {SHOWN} (the network of the link), {UPLOAD} (your own "
    "checkpoint), weights that are published such as resnet50.a1_in1k and resnet50.IMAGENET1K_V2, and models of the Hugging "
    "Face hub as OWNER/NAME, joined by commas"
)


MAX_OFF_CHANNELS = 500
"""Channels that a link holds beside all blocks of a network."""


def parse_off(text: str, config: ResNetConfig) -> tuple[str, ...]:
    """The blocks of a network named in `text`, and channels of their outputs ("layer2.0:31"), joined by commas, in order of
    depth.

    Raises:
        ConfigError: where one is no block of this network or no channel of it, or a block that cannot be switched off, and for
            too many channels.
    """
    asked, known, reasons = set(text.split(",")) - {""}, config.blocks, fixed_blocks(config)
    channels, wide = {name: found for name in asked if (found := off_channel(name))}, block_channels(config)
    blocks = asked - set(channels)
    if (blocks | {block for block, _ in channels.values()}) - set(known):
        accepted = f"blocks of this network joined by commas, {known[0]} to {known[-1]}"
        raise ConfigError("off", text, f"{accepted}, and channels of them such as {known[0]}:0")
    for name in sorted(blocks & set(reasons)):
        raise ConfigError("off", text, f"any block but {name}: {reasons[name]}")
    if len(channels) > MAX_OFF_CHANNELS:
        raise ConfigError("off", text, f"at most {MAX_OFF_CHANNELS} channels")
    for block, channel in sorted(channels.values()):
        if channel >= wide[block]:
            raise ConfigError("off", text, f"channels {block}:0 to {block}:{wide[block] - 1} of that block")
    return switched_off(asked, config)


MAX_TRAIL = 100
"""Units on the way that a link holds."""


def parse_trail(text: str) -> tuple[str, ...]:
    """Units "layer.channel.row-column", joined by commas; whether the network has them is seen where it is traced.

    Raises:
        ConfigError: for other text, or too many of them.
    """
    units = tuple(text.split(",")) if text else ()
    if len(units) > MAX_TRAIL or not all(re.fullmatch(_UNIT, unit) for unit in units):
        such = "each LAYER.CHANNEL.ROW-COLUMN such as layer2.0.conv1.5.3-4"
        raise ConfigError("trail", text, f"up to {MAX_TRAIL} units joined by commas, {such}")
    return units


_UNIT = r"[a-z0-9_]{1,20}(\.[a-z0-9_]{1,20}){0,4}\.[0-9]{1,6}\.[0-9]{1,4}-[0-9]{1,4}"


def parse_size(text: str) -> Size:
    """(height, width) from "224" or "224x320".

    Raises:
        ConfigError: for other text.
    """
    match = re.fullmatch(r"([0-9]{1,6})(?:\s*[x×,]\s*([0-9]{1,6}))?", text.strip())
    if not match:
        raise ConfigError("size", text, "one number of pixels such as 224, or height × width such as 224x320")
    height = int(match[1])
    return height, int(match[2]) if match[2] else height


def size_text(size: Size) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def tolerant(query: Mapping[str, str]) -> tuple[View, list[str]]:
    """The view of a link that may hold mistakes, and a sentence for each of them.

    What is wrong is left out and the rest kept; where the rest does not fit together, the
    default network is shown. Of many mistakes the first `MAX_PROBLEMS` are named.
    """
    rest = _renamed(query)  # what is wrong is named, and left out, by the key that it has today
    wrong: list[tuple[ConfigError, str]] = []
    while True:
        try:
            view = View.from_query(rest)
        except ConfigError as error:
            name = str(error.value) if error.field == "option" else error.field
            if name not in rest:
                named = [f"{each} {instead(key, View())}" for each, key in wrong[: MAX_PROBLEMS - 1]]
                return View(), [*named, f"{error} The default network is shown instead."]
            del rest[name]
            wrong.append((error, name))
        else:
            more = len(wrong) - MAX_PROBLEMS
            named = [f"{each} {instead(key, view)}" for each, key in wrong[:MAX_PROBLEMS]]
            return view, named + [f"{more} more of the link's parts are left out."] * (more > 0)


MAX_PROBLEMS = 5


def instead(name: str, view: View) -> str:
    """What a link's mistake is replaced by in the view that is shown, in a sentence."""
    if name == "size":
        return "The network's usual image size is used instead."
    if name == "pin":
        return "Nothing is pinned instead."
    if name == "off":
        return "All blocks are on instead."
    if name == "trail":
        return "The way back is left out."
    if name == "with":
        return "Nothing is set beside the network instead."
    if name == "networks":
        return "The usual two stand side by side instead."
    if name == "channel":
        return "The strongest is shown instead."
    if name in OPTIONS or name in MAP_OPTIONS:
        value = getattr(view.config if name in OPTIONS else view, name)
        if value not in ((), 0, None):
            return f"{to_text(value)} is used instead."
    return "It is left out."

"""Where weights come from: shipped with this package, torchvision's hub, a person's own file, or chance.

A set of weights is worth nothing without its preprocessing and its labels, so the
three travel together.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, overload

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from . import confined
from .checkpoint import WeightsError, network
from .config import ResNetConfig
from .errors import ExplainedError
from .model import ResNet
from .options import plain
from .presets import preset, preset_name

FOLDER = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input that a set of weights was trained on.

    The image is scaled until it just covers `crop`, whose shorter side then stands for `resize`
    pixels, and the middle is kept: for a square, the shorter side becomes `resize` pixels, as in
    torchvision. With `fit` the whole image is scaled into `crop` and the rest is background.
    Then (x − mean) / std, x in 0…1, one entry a channel.
    """

    resize: int
    crop: int | tuple[int, int]
    """The side of a square, or (height, width), in pixels."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: bool = False
    bright_on_dark: bool = False
    """Trained on bright objects on black: a picture with a bright border is inverted first."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of what the network takes, in pixels."""
        return (self.crop, self.crop) if isinstance(self.crop, int) else self.crop


@dataclass(frozen=True)
class DataSet:
    """What a network was trained on, as the app states it."""

    name: str
    source: str
    licence: str
    preprocessing: Preprocessing
    categories: Sequence[str]
    """Their names, in what can be hashed; whatever is kept of these weights holds them."""


FASHION_MNIST = DataSet(
    name="Fashion-MNIST",
    source="Xiao, Rasul, Vollgraf 2017, https://arxiv.org/abs/1708.07747",
    licence="MIT",
    preprocessing=Preprocessing(28, 28, (0.2860,), (0.3530,), fit=True, bright_on_dark=True),
    categories=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
)


@dataclass(frozen=True)
class Weights:
    """One set of weights for one configuration.

    `key` names it in a link: "bundled", "upload", "random", or torchvision's own name for it.
    `digest` tells uploads apart, a title nothing.
    `accuracy` is the share of its data set's test (or validation) images it gets right.
    """

    key: str
    title: str = field(compare=False)
    config: ResNetConfig
    data: DataSet
    accuracy: float | None = None
    url: str = ""
    bytes: int = 0
    digest: str = ""

    @property
    def source(self) -> tuple[str, ResNetConfig, str, str]:
        """What the network depends on: not on the pictures, nor on their size."""
        return self.key, self.config, self.url, self.digest


def available(config: ResNetConfig, image_size: tuple[int, int]) -> tuple[Weights, ...]:
    """The weights that fit a configuration, best first; random ones always do.

    `image_size` (height, width) is what random weights take; the others have a size of their own.

    Raises:
        WeightsError: where those that ship are missing or damaged.
    """
    return (*bundled(config), *torchvision_weights(config), random_weights(config, image_size))


# -- bundled ------------------------------------------------------------------------------


class ShippedError(ExplainedError, RuntimeError):
    """A file that ships and is missing or damaged, in one sentence."""


@contextmanager
def intact(
    path: Path, kind: type[RuntimeError] = ShippedError, instead: str = "it ships with this app, so install that again"
) -> Iterator[None]:
    """Inside, whatever the reader of a file raises becomes one sentence, which ends on what to do `instead`.

    Raises:
        RuntimeError: of this kind, where the file is missing or damaged.
    """
    try:
        yield
    except Exception as error:  # a damaged file makes its reader raise nearly anything
        raise kind(f"{_wrong(path, error)}: {instead}.") from error


def _wrong(path: Path, error: Exception) -> str:
    """What is wrong with a file, by what reading it raised."""
    if isinstance(error, FileNotFoundError):
        return f"{path.name} is missing"
    if isinstance(error, OSError):
        return f"{path.name} cannot be read ({error.strerror or error})"
    return f"{path.name} is damaged"


BUNDLED: Mapping[str, ResNetConfig] = {
    name: preset(f"{name}_fashion") for name in ("resnet20", "plain20", "resnet56", "plain56")
}
"""The networks whose Fashion-MNIST weights ship with the package."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file says of itself; `accuracy` is the share of test images it gets right."""

    config: ResNetConfig
    data: DataSet
    accuracy: float
    command: str

    def metadata(self) -> dict[str, str]:
        return {
            "config": self.config.to_json(),
            "data": json.dumps({"name": self.data.name, "source": self.data.source, "licence": self.data.licence}),
            "preprocessing": json.dumps(asdict(self.data.preprocessing)),
            "categories": json.dumps(list(self.data.categories)),
            "accuracy": repr(self.accuracy),
            "command": self.command,
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Checkpoint:
        """The inverse of `metadata`."""
        given: dict[str, Any] = json.loads(metadata["preprocessing"])
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        preprocessing = Preprocessing(**given)
        data = DataSet(
            **json.loads(metadata["data"]),
            preprocessing=preprocessing,
            categories=tuple(json.loads(metadata["categories"])),
        )
        config = ResNetConfig.from_json(metadata["config"])
        return cls(config, data, float(metadata["accuracy"]), metadata["command"])


def save_checkpoint(model: nn.Module, checkpoint: Checkpoint, path: Path) -> None:
    """Write weights and their description as safetensors.

    Raises:
        OSError: where the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    try:
        save_file(tensors, path, metadata=checkpoint.metadata())
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written ({error}).") from error


def read_checkpoint(path: Path) -> tuple[ResNet, Checkpoint]:
    """A network in eval mode with the weights of a file that `save_checkpoint` wrote, and its description.

    Raises:
        WeightsError: where the file is missing or damaged.
    """
    with _intact_checkpoint(path), safe_open(path, framework="pt") as file:
        checkpoint = Checkpoint.from_metadata(file.metadata())
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        model = ResNet(checkpoint.config)
        model.load_state_dict(state)
    return model.eval(), checkpoint


def _intact_checkpoint(path: Path) -> AbstractContextManager[None]:
    """`intact` for a checkpoint: what is raised is a WeightsError."""
    ships = "it ships with this app, so install that again; random weights work without it"
    return intact(path, WeightsError, ships if path.parent == FOLDER else "a file that resnet.train wrote is accepted")


def bundled_path(name: str) -> Path:
    return FOLDER / f"{name}.safetensors"


def bundled(config: ResNetConfig) -> tuple[Weights, ...]:
    """The shipped weights of a configuration, if there are any.

    Raises:
        WeightsError: where their file is missing or damaged, as far as its header tells.
    """
    name = next((name for name, known in BUNDLED.items() if known == config), None)
    if name is None:
        return ()
    with _intact_checkpoint(bundled_path(name)), safe_open(bundled_path(name), framework="pt") as file:
        checkpoint = Checkpoint.from_metadata(file.metadata())
        if checkpoint.config != config:
            raise ValueError(f"weights of {checkpoint.config}")
    title = f"Trained on {checkpoint.data.name}, shipped"
    return (Weights("bundled", title, config, checkpoint.data, checkpoint.accuracy),)


# -- torchvision --------------------------------------------------------------------------


@dataclass(frozen=True)
class ImageNet(Sequence[str]):
    """The 1000 classes of ImageNet-1k, as torchvision calls them; whatever holds this holds none of the names."""

    def __len__(self) -> int:
        return len(_imagenet_names())

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return _imagenet_names()[index]


@cache
def _imagenet_names() -> tuple[str, ...]:
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


def torchvision_weights(config: ResNetConfig) -> tuple[Weights, ...]:
    """What torchvision publishes for a configuration, newest recipe first.

    Options that leave the weights' meaning alone (dilation, initialisation, stochastic
    depth) are not compared.
    """
    from torchvision.models import get_model_weights, list_models

    same, _ = config.with_(output_stride=32, zero_init_residual=False, drop_path=0.0)
    name = preset_name(same)
    if name not in list_models(include=["*resnet*", "*resnext*"]):
        return ()
    found = []
    for entry in reversed(list(get_model_weights(name))):
        transforms, meta = entry.transforms(), entry.meta
        preprocessing = Preprocessing(
            transforms.resize_size[0], transforms.crop_size[0], tuple(transforms.mean), tuple(transforms.std)
        )
        data = DataSet("ImageNet-1k", meta["recipe"], "see torchvision", preprocessing, ImageNet())
        accuracy = meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100
        title = f"torchvision {entry.name.removeprefix('IMAGENET1K_')}, ImageNet-1k"
        size = int(meta["_file_size"] * 2**20)
        found.append(Weights(entry.name, title, config, data, accuracy, entry.url, size))
    return tuple(found)


Progress = Callable[[int, int], None]
"""Called with bytes so far and bytes in all (0 where the server does not say)."""


def cache_path(url: str) -> Path:
    """Where torch.hub keeps, or would keep, the file at `url`."""
    return Path(torch.hub.get_dir(), "checkpoints", Path(urllib.parse.urlparse(url).path).name)


def is_cached(url: str) -> bool:
    """Whether the file at `url` is on this machine already, and is what the hash in its name says."""
    path = cache_path(url)
    try:
        stat = path.stat()
        return _is_whole(path, stat.st_size, stat.st_mtime_ns)
    except OSError:
        return False


@lru_cache(256)
def _is_whole(path: Path, size: int, changed: int) -> bool:
    """`is_cached` of a file that has not changed since: it is read once.

    Raises:
        OSError: where it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(_hash_in(path.name))


def _hash_in(name: str) -> str:
    """The SHA-256, or its beginning, that a file's name ends on as torch.hub's do: "resnet18-f37072fd.pth"; else ""."""
    found = re.search(r"-([0-9a-f]{8,})\.", name)
    return found[1] if found else ""


MAX_DOWNLOAD_BYTES = 2 * 2**30
LEAST_RATE, PATIENCE = 16 * 2**10, 30.0
"""Nobody waits for a download of which fewer bytes a second than this arrive over so many seconds."""
STALE = 3600.0
"""Seconds after which a part that nothing was added to is what a server left that was killed."""
LOOK = 0.1
"""Seconds between two looks of somebody who waits for a download."""
INSTEAD = "random weights, and the shipped ones of resnet20, work without a network"


class _Download:
    """A file on its way into the cache, for all who wait for it: bytes so far and in all, and how it ended."""

    def __init__(self) -> None:
        self.done = self.total = self.waiting = 0
        self.error: WeightsError | None = None
        self.over = threading.Event()


_DOWNLOADS: dict[Path, _Download] = {}
_LOCK = threading.Lock()


def download(url: str, progress: Progress, timeout: float = 20.0) -> Path:
    """The file at `url` in torch.hub's cache, fetched where it is not there or damaged, and checked by its hash.

    Who asks for a file that is on its way waits for that download, which ends when nobody waits any more. What `progress`
    raises ends the wait. `timeout` is how many seconds the server may be silent.

    Raises:
        WeightsError: where the server cannot be reached, sends something else, more than 2 GiB or less than 16 KiB a
            second, or where the file cannot be written.
    """
    if is_cached(url):
        return cache_path(url)
    path = cache_path(url)
    with _LOCK:
        first = path not in _DOWNLOADS
        ours = _DOWNLOADS.setdefault(path, _Download())
        ours.waiting += 1
    try:
        if first:
            threading.Thread(target=_fetch, args=(url, path, ours, timeout), name="download", daemon=True).start()
        with confined.aside():
            _wait(ours, path, progress)
    finally:
        with _LOCK:
            ours.waiting -= 1
            if not ours.waiting:
                del _DOWNLOADS[path]
    if ours.error is not None:
        raise WeightsError(str(ours.error)) from ours.error
    progress(ours.done, ours.total)
    return path


def _wait(ours: _Download, path: Path, progress: Progress) -> None:
    """Until a download is over.

    Raises:
        WeightsError: where it is too slow.
    """
    start, before = time.monotonic(), ours.done
    while not ours.over.wait(LOOK):
        progress(ours.done, ours.total)
        if (seconds := time.monotonic() - start) > PATIENCE:
            if ours.done - before < LEAST_RATE * seconds:
                words = f"less than {LEAST_RATE // 2**10} KiB a second arrived over {PATIENCE:.0f} s"
                raise _not_downloaded(path, words)
            start, before = time.monotonic(), ours.done


def _fetch(url: str, path: Path, ours: _Download, timeout: float) -> None:
    """Do a download, and tell those who wait how it ended."""
    try:
        if not is_cached(url):  # it may just have arrived
            _write(url, path, ours, timeout)
    except Exception as error:  # whatever a server makes of it, those who wait are told
        reason = getattr(error, "reason", None) or error
        ours.error = _not_downloaded(path, str(getattr(reason, "strerror", None) or reason))
    finally:
        ours.over.set()


def _not_downloaded(path: Path, reason: str) -> WeightsError:
    words = plain(" ".join(reason.split()), 100)
    return WeightsError(f"{path.name} could not be downloaded ({words}); {INSTEAD}.")


def _write(url: str, path: Path, ours: _Download, timeout: float) -> None:
    """Fetch a file under another name, and give it its own once it is whole.

    Raises:
        OSError, ValueError, http.client.HTTPException: where that fails; nothing of it is left then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f"{path.name}.*.part"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > STALE:
                old.unlink()
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response, part.open("wb") as file:
            if response.headers.get_content_type() == "text/html":
                raise ValueError("the server sent a page instead of the file")
            ours.total = max(0, int(response.headers.get("Content-Length") or 0))
            while chunk := response.read1(2**20):  # what has arrived: so much may take for ever
                ours.done += len(chunk)
                if max(ours.done, ours.total) > MAX_DOWNLOAD_BYTES:
                    raise ValueError(f"it has more than {MAX_DOWNLOAD_BYTES / 2**30:.0f} GiB")
                if not ours.waiting:
                    return
                file.write(chunk)
                digest.update(chunk)
        if ours.done < ours.total or not digest.hexdigest().startswith(_hash_in(path.name)):
            raise ValueError(f"what arrived is not that file: {ours.done:,} bytes")
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


# -- a person's own -----------------------------------------------------------------------


def own_weights(config: ResNetConfig, image_size: tuple[int, int], name: str, digest: str) -> Weights:
    """The weights of a person's checkpoint called `name`.

    No file says what it was trained on, so that is assumed: Fashion-MNIST for one channel and
    ten classes, else ImageNet's preprocessing at `image_size`, and its classes where there are 1000.
    """
    title = f"Your checkpoint {plain(name, 80)}"
    if (config.in_channels, config.num_classes) == (1, 10):
        return Weights("upload", title, config, FASHION_MNIST, digest=digest)
    side, channels = min(image_size), config.in_channels
    colour = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    mean, std = colour if channels == 3 else ((0.5,) * channels, (0.25,) * channels)
    preprocessing = Preprocessing(side * 8 // 7 if side >= 128 else side, image_size, mean, std)
    imagenet = config.num_classes == 1000 and channels == 3
    names = ImageNet() if imagenet else Numbered(config.num_classes)
    data = DataSet("ImageNet-1k" if imagenet else "unknown", "", "", preprocessing, names)
    return Weights("upload", title, config, data, digest=digest)


@dataclass(frozen=True)
class Numbered(Sequence[str]):
    """ "class 0", "class 1" and so on, made when they are asked for."""

    number: int

    def __len__(self) -> int:
        return self.number

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        numbers = range(self.number)[index]
        return f"class {numbers}" if isinstance(numbers, int) else [f"class {number}" for number in numbers]

    def __contains__(self, name: object) -> bool:  # a person may ask for a class among 100,000
        found = re.fullmatch(r"class ([0-9]{1,9})", name) if isinstance(name, str) else None
        return found is not None and int(found[1]) < self.number and name == f"class {int(found[1])}"


# -- random -------------------------------------------------------------------------------


def random_weights(config: ResNetConfig, image_size: tuple[int, int]) -> Weights:
    """Untrained weights: what the architecture alone does to a picture."""
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


def load(
    weights: Weights, progress: Progress = lambda done, total: None, state_dict: Mapping[str, Tensor] | None = None
) -> ResNet:
    """The network with these weights in eval mode; `state_dict` holds those of an upload.

    Raises:
        WeightsError: where they have to be downloaded and cannot be, their file is missing or damaged, or they do not
            fit. A damaged file in torch.hub's cache is downloaded again, once.
    """
    if weights.key == "upload":
        return network(weights.config, state_dict or {})
    if weights.key == "random":
        return randomly(weights.config)
    if weights.key == "bundled":
        name = next(name for name, config in BUNDLED.items() if config == weights.config)
        return read_checkpoint(bundled_path(name))[0]
    path = download(weights.url, progress)
    try:
        return _published(weights.config, path)
    except WeightsError:
        if _hash_in(path.name):
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

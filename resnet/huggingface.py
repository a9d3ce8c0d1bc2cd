"""Models of the Hugging Face hub: what their repositories say of them, and their files in the hub's own cache.

huggingface_hub knows where a file is and where it belongs; whatever is built on it finds what was fetched here, and the
other way round. Files come as all others do (`hub`): huggingface_hub begins again where a download was left, checks no hash
and cannot be stopped. What a repository holds is asked by https://huggingface.co/docs/hub/api.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache
from safetensors import SafetensorError
from safetensors.torch import load_file

from . import hub, owner
from .checkpoint import MAX_FILE_BYTES, Opened, WeightsError, open_checkpoint
from .datasets import Preprocessing
from .hub import INSTEAD, DownloadError, Progress, Source
from .model import build
from .options import plain
from .published import Tag, tags
from .shards import INDEX, join

WEIGHTS, PICKLED = "model.safetensors", "pytorch_model.bin"
SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
CONFIG, PROCESSOR, CARD = "config.json", "preprocessor_config.json", "README.md"
"""What a repository says of a network, of the images that it takes, and of itself."""
MAX_DESCRIPTION_BYTES, MAX_LISTING_BYTES = 2**20, 2**22
"""Of each of these files, and of the list of a repository's files."""
MAX_LABELS, MAX_SIDE = 100_000, 4096
MAX_NAME_CHARACTERS = 300
"""Of what a person types for a model, its page's address at the longest."""


class HubFile(NamedTuple):
    """A file of a repository: its name, bytes and digest, its SHA-256 or, with `git`, the SHA-1 that git names it by; ""
    where neither is known."""

    name: str
    bytes: int
    digest: str
    git: bool


@dataclass(frozen=True)
class HubModel:
    """A model of the hub as it was at the commit `revision`.

    `files` hold its weights: one, or an index and its shards. Where they are not said, `licence` and `data` (what it was
    trained on) are "", `labels` are none, and `preprocessing` is None. `notes` are sentences on what was not understood.
    """

    id: str
    revision: str
    files: tuple[HubFile, ...]
    licence: str = ""
    data: str = ""
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def address(self) -> str:
        """Its page on the public hub."""
        return f"{owner.PUBLIC_HUB}/{self.id}"


# -- names --------------------------------------------------------------------------------


def model_id(text: str) -> str:
    """The id of a model, OWNER/NAME, of what a person typed: that, or the address of its page.

    Raises:
        WeightsError: for anything else, and for another revision than a model's newest.
    """
    hosts = "|".join(map(re.escape, ("huggingface.co", "hf.co", urlsplit(owner.endpoint()).netloc)))
    name = rest = ""
    if len(text) <= MAX_NAME_CHARACTERS:
        path = re.split("[?#]", text.strip(), maxsplit=1)[0]
        path = re.sub(rf"^(https?://)?({hosts})/", "", path).rstrip("/")
        name = "/".join(path.split("/")[:2])
        rest = path.removeprefix(name)
    part = r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
    is_id = re.fullmatch(f"{part}/{part}", name) and not re.search(r"--|\.\.|\.git$|^(datasets|spaces|models)/", name)
    page = re.fullmatch(r"(?:/discussions|/(?:tree|blob|resolve|raw|commits)/([^/]+))(/.*)?", rest, re.DOTALL)
    if not is_id or (rest and not page):
        raise WeightsError(
            f"{plain(text.strip(), 80) or 'Nothing'} is no model's name: OWNER/NAME such as microsoft/resnet-50 is "
            "accepted, or the address of its page on huggingface.co."
        )
    if page and page[1] not in (None, "main"):
        raise WeightsError(
            f"The revision {plain(page[1])} of {name} is not accepted: {name} alone is, which is its newest, main."
        )
    return name


def host() -> str:
    """The hub that this server asks."""
    return urlsplit(owner.endpoint()).netloc


# -- what a repository says ---------------------------------------------------------------


def look_up(repo: str, revision: str = "", progress: Progress = lambda done, total: None) -> HubModel:
    """What the hub says of a model, as it is or as it was at a commit; its descriptions are in the cache then, its weights
    where they were. What `progress` raises, which is called now and then, ends that.

    Raises:
        WeightsError: for what is no model's name, a model that is not there, not open to this server, has no weights that
            are accepted or is no network for images, and where the hub cannot be asked.
    """
    asked = repo = model_id(repo)
    _check_allowed(repo)
    commit = f"/revision/{revision}" if revision else ""
    address, token = f"{owner.endpoint()}/api/models/{repo}{commit}?blobs=true", owner.token()
    try:
        listing = json.loads(hub.read(address, repo, MAX_LISTING_BYTES, token, progress))
        repo, found = model_id(listing["id"]), listing["sha"]  # it may have another name by now
        files = {file.name: file for file in map(_listed, listing["siblings"])}
        if not re.fullmatch("[0-9a-f]{40}", found):
            raise ValueError("no commit")
    except DownloadError as error:
        if error.status in (401, 403, 404):
            words = "there is none of that name, or it is private and asks for a login"
            raise WeightsError(f"{repo} is no public model of {host()}: {words}.") from error
        raise
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise WeightsError(f"{host()} does not answer as the Hugging Face hub does, asked for {asked}.") from error
    weights = _weights(repo, files)
    task = listing.get("pipeline_tag")
    if isinstance(task, str) and not re.search("image|object|depth|mask|keypoint|^feature", task):
        raise WeightsError(f"{repo} is no network for images: it is for {plain(task)}.")
    for name in (CONFIG, PROCESSOR, CARD):
        if name in files and not (name == CARD and files[name].bytes > MAX_DESCRIPTION_BYTES):
            _fetch(repo, found, files[name], MAX_DESCRIPTION_BYTES, progress)
    return _described(repo, found, weights)


def cached_model(repo: str) -> HubModel | None:
    """A model whose weights are on this machine, whole, and what its repository says, as it was when they were fetched, or
    None. Where this app did not fetch it, nobody knows that a `config.json` which is not here is not there either.

    Raises:
        WeightsError: for what is no model's name, or no network for images.
    """
    repo = model_id(repo)
    revision = _revision(repo)
    weights = _whole(repo, revision)
    if weights is None or (_path(repo, revision, CONFIG) is None and repo not in fetched_models()):
        return None
    return _described(repo, revision, weights)


def is_cached(model: HubModel) -> bool:
    """Whether a model's weights are on this machine, whole."""
    return all(
        _path(model.id, model.revision, file.name) is not None
        and (not file.digest or hub.is_whole(_source(model.id, model.revision, file)))
        for file in model.files
    )


def has_weights(repo: str, revision: str = "") -> bool:
    """Whether weights of a repository are on this machine, by the names of its files: of a commit, or of the last that was
    fetched. They may be damaged: `is_whole`.
    """
    return _weights_here(repo, revision or _revision(repo)) is not None


def is_whole(repo: str, revision: str = "") -> bool:
    """Whether weights of a repository are on this machine, and what their digests say; each file is read once for that."""
    return _whole(repo, revision or _revision(repo)) is not None


def weights_of(repo: str, revision: str = "") -> HubModel:
    """A model by its weights alone where these are on this machine, whole, of a commit or of the last that was fetched, else
    looked up.

    Raises:
        WeightsError: as `look_up`.
    """
    commit = revision or _revision(repo)
    here = _whole(repo, commit)
    return look_up(repo, revision) if here is None else HubModel(repo, commit, here)


def _listed(sibling: Mapping[str, Any]) -> HubFile:
    """A file from the hub's list; large ones lie elsewhere than in git, which has a pointer in their place."""
    large = sibling.get("lfs")
    size, digest = (large["size"], large["sha256"]) if large else (sibling.get("size"), sibling.get("blobId"))
    if type(size) is not int or size < 0 or not re.fullmatch("[0-9a-f]{64}" if large else "[0-9a-f]{40}", str(digest)):
        return HubFile("", 0, "", False)  # of which nobody could say whether it has arrived
    return HubFile(str(sibling["rfilename"]), size, str(digest), not large)


def _weights(repo: str, files: Mapping[str, HubFile]) -> tuple[HubFile, ...]:
    """Those of a repository's files that hold its weights.

    Raises:
        WeightsError: where there are none, or too large ones.
    """
    shards = sorted(name for name in files if SHARD.fullmatch(name))
    index = f"{WEIGHTS}{INDEX}"
    if WEIGHTS in files:
        found = [WEIGHTS]
    elif index in files and shards and len(shards) == int(SHARD.fullmatch(shards[0])[2]):  # type: ignore[index]
        found = [index, *shards]
    elif PICKLED in files:
        found = [PICKLED]
    else:
        others = [
            plain(name) for name in files if re.search(r"\.(h5|msgpack|onnx|bin|pth?|ckpt|gguf|safetensors)$", name)
        ]
        has = f" (it has {', '.join(others[:3])})" if others else ""
        raise WeightsError(f"{repo} has no weights that are accepted{has}: {WEIGHTS}, its shards or {PICKLED} are.")
    size = sum(files[name].bytes for name in found)
    most = hub.MAX_DOWNLOAD_BYTES if _tag(repo) else MAX_FILE_BYTES
    if size > most:
        raise WeightsError(
            f"{repo} has weights of {size / 2**20:,.0f} MiB: at most {most // 2**20:,} MiB are accepted."
        )
    return tuple(files[name] for name in found)


def _described(repo: str, revision: str, weights: tuple[HubFile, ...]) -> HubModel:
    """A model by what its files in the cache say.

    Raises:
        WeightsError: where it is no network for images.
    """
    config, processor, card = (_text(repo, revision, name) for name in (CONFIG, PROCESSOR, CARD))
    return _understood(repo, revision, weights, config, processor, card)


@lru_cache(4)  # these may be 3 MiB of text each, which strangers choose
def _understood(
    repo: str, revision: str, weights: tuple[HubFile, ...], config_text: str, processor_text: str, card: str
) -> HubModel:
    """`_described` of files of which these are the texts, "" for each that is not there: a page asks at every click."""
    config, processor = _object(repo, CONFIG, config_text), _object(repo, PROCESSOR, processor_text)
    if "vocab_size" in config:
        raise WeightsError(f"{repo} is no network for images: its {CONFIG} says vocab_size.")
    timm = config.get("pretrained_cfg") or (config if "input_size" in config else None)
    how, notes = _by_timm(timm) if isinstance(timm, Mapping) else _by_transformers(processor)
    return HubModel(repo, revision, weights, *_front(card), _labels(config), how, notes)


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
        return None, (f"It has no {PROCESSOR}, so images are prepared as for ImageNet.",)
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


NOT_UNDERSTOOD = "How its {} prepares images is not understood, so they are prepared as for ImageNet."


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
    if not means or len(means) != len(deviations) or min(deviations) <= 0:
        raise ValueError("no mean and deviation for each channel")
    if interpolation not in ("bilinear", "bicubic"):
        notes.append(f"Its images are scaled by {plain(interpolation)}; here bilinearly.")
        interpolation = "bilinear"
    shape = crop[0] if crop[0] == crop[1] else crop
    return Preprocessing(resize, shape, means, deviations, interpolation=interpolation), tuple(notes)  # type: ignore[arg-type]


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


def _front(card: str) -> tuple[str, str]:
    """The licence and the data set that the head of a model's card names, "" for each that it does not."""
    head = re.match(r"---\r?\n(.*?)\n---", card, re.DOTALL)
    text = head[1] if head else ""
    licence = re.search(r"^license: *(\S+)", text, re.MULTILINE)
    data = re.search(r"^datasets: *(?:\[ *|\r?\n *- *)?([^\s,\]]+)", text, re.MULTILINE)
    return tuple(plain(found[1].strip("'\""), 80) if found else "" for found in (licence, data))  # type: ignore[return-value]


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


def _text(repo: str, revision: str, name: str) -> str:
    """A description of a repository in the cache, "" where there is none."""
    path = _path(repo, revision, name)
    try:
        if path is None or path.stat().st_size > MAX_DESCRIPTION_BYTES:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# -- files in the cache -------------------------------------------------------------------


def download_model(model: HubModel, progress: Progress) -> tuple[Path, ...]:
    """The files of a model's weights, fetched where they are not there or damaged: `hub.fetch`, for bytes of all of them.

    Raises:
        WeightsError: as there, and where the hub asks for a login.
    """
    paths, before = [], 0
    for file in model.files:
        start = before
        told = lambda done, _, start=start: progress(start + done, model.bytes)  # noqa: E731
        paths.append(_fetch(model.id, model.revision, file, hub.MAX_DOWNLOAD_BYTES, told))
        before += file.bytes
    if not is_whole(model.id):  # from then on it is what the hub's cache calls the last; an older one is not, beside it
        reference = _folder(model.id) / "refs" / "main"
        with _writing(model.id):
            reference.parent.mkdir(parents=True, exist_ok=True)
            reference.write_text(model.revision, encoding="utf-8")
    return tuple(paths)


def arrived(model: HubModel) -> tuple[int, int]:
    """Bytes of a model's weights that have arrived, and in all."""
    return sum(hub.arrived(_source(model.id, model.revision, file))[0] for file in model.files), model.bytes


def open_model(model: HubModel, **answers: Any) -> Opened:
    """The network in a model's weights, which are on this machine: `open_checkpoint`.

    Raises:
        WeightsError: as there, and where they are not.
    """
    paths = {file.name: _path(model.id, model.revision, file.name) for file in model.files}
    files = {name: path for name, path in paths.items() if path is not None}
    if len(files) < len(paths):
        raise WeightsError(f"The weights of {model.id} are not on this server any more; {INSTEAD}.")
    if len(files) == 1:
        ((name, path),) = files.items()
        if (tag := _tag(model.id)) and model.bytes > MAX_FILE_BYTES:
            return _open_tag(tag, path)
        return open_checkpoint(path, f"{name} of {model.id}", **answers)
    try:
        _, data = join({name: path.read_bytes() for name, path in files.items()})
    except OSError as error:
        raise WeightsError(f"The weights of {model.id} cannot be read ({error.strerror}); {INSTEAD}.") from error
    return open_checkpoint(data, f"{WEIGHTS} of {model.id}", **answers)


def _tag(repo: str) -> Tag | None:
    """What timm publishes in a repository."""
    return next((tag for tag in tags() if tag.hub == repo), None)


def _open_tag(tag: Tag, path: Path) -> Opened:
    """The network of a tag whose file is larger than what a process of its own looks through: its names are ours, its
    shapes known.

    Raises:
        WeightsError: where it is no such file.
    """
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path.name} of {tag.hub} holds no weights of this network; {INSTEAD}.") from error
    expected = build(tag.config, "meta").state_dict()
    return Opened(
        tag.config,
        {name: tensor.to(expected[name].dtype) if name in expected else tensor for name, tensor in state.items()},
    )


def _fetch(repo: str, revision: str, file: HubFile, most: int, progress: Progress = lambda done, total: None) -> Path:
    """A file of a repository in the hub's cache, under its name."""
    here = _path(repo, revision, file.name)
    if here is not None and not file.digest:
        return here
    if file.bytes > most:
        raise WeightsError(f"{file.name} of {repo} has more than {most // 2**10:,} KiB, which is not accepted.")
    source = _source(repo, revision, file)
    if not hub.is_whole(source):
        _check_allowed(f"{file.name} of {repo}")
    try:
        blob = hub.fetch(source, progress)
    except DownloadError as error:
        if error.status in (401, 403):
            raise WeightsError(
                f"{repo} asks for a login: its owners let those have it who ask at {host()}, and this server's owner has set no "
                "HF_TOKEN that may."
            ) from error
        raise
    pointer = _folder(repo) / "snapshots" / revision / file.name
    with _writing(repo):
        pointer.parent.mkdir(parents=True, exist_ok=True)
        if not pointer.exists():
            try:
                pointer.symlink_to(os.path.relpath(blob, pointer.parent))
            except FileExistsError:
                pass  # it led to this file before, which was gone
            except OSError:  # Windows lets not everybody make one
                os.link(blob, pointer)
    return pointer


def _check_allowed(name: str) -> None:
    """That the hub may be asked for something that is not here.

    Raises:
        WeightsError: where the owner of this server says that it may not.
    """
    if not owner.downloads_allowed():
        raise WeightsError(f"{name} is not on this server, and its owner has switched downloads off; {INSTEAD}.")
    if not owner.hub_allowed():
        raise WeightsError(
            f"{name} is not on this server, which asks the Hugging Face hub for nothing: {owner.OFFLINE} is set."
        )


@contextmanager
def _writing(repo: str) -> Iterator[None]:
    """Whatever goes wrong with the cache's own files is a WeightsError."""
    try:
        yield
    except OSError as error:
        raise WeightsError(f"{repo} cannot be kept in the hub's cache ({error.strerror}); {INSTEAD}.") from error


def _source(repo: str, revision: str, file: HubFile) -> Source:
    return Source(
        hf_hub_url(repo, file.name, revision=revision, endpoint=owner.endpoint()),
        _folder(repo) / "blobs" / file.digest,
        f"{file.name} of {repo}",
        file.bytes,
        file.digest,
        file.git,
        owner.token(),
        typed=_tag(repo) is None,
    )


def cache_folder() -> Path:
    """Where huggingface_hub keeps files, which reads these variables where it is imported."""
    home = os.environ.get("HF_HOME")
    return Path(os.environ.get("HF_HUB_CACHE") or (home and Path(home, "hub")) or constants.HF_HUB_CACHE).expanduser()


def _folder(repo: str) -> Path:
    """https://huggingface.co/docs/huggingface_hub/guides/manage-cache says how it is called."""
    return cache_folder() / f"models--{repo.replace('/', '--')}"


def kept_models() -> frozenset[str]:
    """The ids of all repositories of which the cache may have something, by a look at one folder."""
    with suppress(OSError):
        names = (path.name.split("--") for path in cache_folder().iterdir())
        return frozenset("/".join(parts[1:]) for parts in names if parts[0] == "models" and len(parts) == 3)
    return frozenset()


def fetched_models() -> frozenset[str]:
    """The ids of the models whose weights this app downloaded because somebody typed them, and which are here: others in
    the cache are not its own.
    """
    with suppress(OSError):  # nobody can say
        return frozenset(filter(has_weights, _repositories(hub.recorded(typed=True), str(cache_folder()))))
    return frozenset()


@lru_cache(1)
def _repositories(paths: frozenset[str], folder: str) -> frozenset[str]:
    """The ids of the repositories in a cache of which these are files of weights: large ones are called by their SHA-256,
    descriptions by a SHA-1.
    """
    sep = re.escape(os.sep)
    name = re.compile(f"{re.escape(folder)}{sep}models--(.+)--(.+){sep}blobs{sep}[0-9a-f]{{64}}")
    return frozenset(f"{found[1]}/{found[2]}" for found in map(name.fullmatch, paths) if found)


def _revision(repo: str) -> str:
    """The commit of a repository that was fetched last, "" where none was."""
    reference = _folder(repo) / "refs" / "main"
    if not reference.is_file():  # a page asks this of all that is published
        return ""
    with suppress(OSError, UnicodeDecodeError):
        found = reference.read_text(encoding="utf-8").strip()
        if re.fullmatch("[0-9a-f]{40}", found):
            return found
    return ""


def _path(repo: str, revision: str, name: str) -> Path | None:
    """Where a file of a repository is, None where it is not."""
    found = try_to_load_from_cache(repo, name, cache_folder(), revision) if revision else None
    return Path(found) if isinstance(found, str) else None


def _weights_here(repo: str, revision: str) -> tuple[HubFile, ...] | None:
    """The files in the cache that hold a repository's weights, None where some are not there or too large."""
    if not revision:
        return None
    with suppress(OSError, WeightsError):
        folder = _folder(repo) / "snapshots" / revision
        return _weights(repo, {path.name: _kept(path) for path in folder.iterdir() if path.is_file()})
    return None


def _whole(repo: str, revision: str) -> tuple[HubFile, ...] | None:
    """`_weights_here`, None also where one of them is damaged: then nothing here says how long it should be."""
    files = _weights_here(repo, revision)
    return files if files is not None and is_cached(HubModel(repo, revision, files)) else None


def _kept(path: Path) -> HubFile:
    """A file of the cache, which leads to one that is called by its digest."""
    digest = Path(os.readlink(path)).name if path.is_symlink() else ""
    known = re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", digest)
    return HubFile(path.name, path.stat().st_size, digest if known else "", len(digest) == 40)

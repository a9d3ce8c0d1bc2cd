"""Models of the Hugging Face hub: looked up, downloaded into the hub's own cache, and opened.

Files come as all others do (`hub`): huggingface_hub begins again where a download was left, checks no hash and cannot be
stopped. What a repository holds is asked by https://huggingface.co/docs/hub/api.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import hf_hub_url
from safetensors import SafetensorError
from safetensors.torch import load_file

from . import hub, owner
from .checkpoint import Opened, open_checkpoint
from .config import ResNetConfig
from .datasets import Preprocessing
from .errors import WeightsError
from .hub_cache import (
    WEIGHTS,
    HubFile,
    Snapshot,
    blob_path,
    fetched_models,
    make_room,
    mark_used,
    reference_path,
    replace_older,
    snapshot,
    tag_of,
    weights_files,
)
from .model import build
from .model_cards import CARD, CONFIG, DESCRIPTIONS, describe
from .options import plain
from .published import Tag
from .servers import INSTEAD, DownloadError, Progress, read
from .shards import MissingShardError, join
from .sources import Source, is_whole
from .tensor_files import MAX_FILE_BYTES

MAX_DESCRIPTION_BYTES, MAX_LISTING_BYTES = 2**20, 2**22
"""Of each file that describes a model, and of the list of a repository's files."""
MAX_NAME_CHARACTERS = 300
"""Of what a person types for a model, its page's address at the longest."""
LOOK_UP_SECONDS = 300.0
_LOOK_UPS: deque[float] = deque(maxlen=300)
"""When the hub was last asked for a model, for so many in so many seconds: whom it is asked by too often, it answers nothing
any more, whoever it is for.
"""
_LOCK = threading.Lock()


@dataclass(frozen=True)
class HubModel:
    """A model of the hub as it was at the commit `revision`.

    `files` hold its weights: one, or an index and its shards. `newest` says that the hub has none after that commit. The rest
    is what its repository says of it (`model_cards`).
    """

    id: str
    revision: str
    files: tuple[HubFile, ...]
    licence: str = ""
    data: str = ""
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()
    network: ResNetConfig | None = None
    newest: bool = field(default=False, compare=False)

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def address(self) -> str:
        """Its page on the public hub, as it was at its commit."""
        return f"{owner.PUBLIC_HUB}/{self.id}/tree/{self.revision}"


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
    _check_rate(repo)
    commit = f"/revision/{revision}" if revision else ""
    address, token = f"{owner.endpoint()}/api/models/{repo}{commit}?blobs=true", owner.token()
    try:
        listing = json.loads(read(address, repo, MAX_LISTING_BYTES, token, progress))
        repo, found = model_id(listing["id"]), listing["sha"]  # it may have another name by now
        files = {file.name: file for file in map(_file_in_listing, listing["siblings"])}
        if not re.fullmatch("[0-9a-f]{40}", found):
            raise ValueError("no commit")
    except DownloadError as error:
        if error.status == 401 and token:
            raise WeightsError(
                f"{repo} cannot be looked up: {host()} does not accept the {owner.TOKEN} that this server's owner has set; it may "
                "have expired."
            ) from error
        if error.status in (401, 403, 404):
            words = "there is none of that name, or it is private and asks for a login"
            raise WeightsError(f"{repo} is no public model of {host()}: {words}.") from error
        raise
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise WeightsError(f"{host()} does not answer as the Hugging Face hub does, asked for {asked}.") from error
    weights = weights_files(repo, files)
    task = listing.get("pipeline_tag")
    if isinstance(task, str) and not re.search("image|object|depth|mask|keypoint|^feature", task):
        raise WeightsError(f"{repo} is no network for images: it is for {plain(task)}.")
    for name in DESCRIPTIONS:
        if name in files and not (name == CARD and files[name].bytes > MAX_DESCRIPTION_BYTES):
            _fetch(repo, found, files[name], MAX_DESCRIPTION_BYTES, progress)
    return replace(_model_from_cache(Snapshot(repo, found), weights), newest=not revision)


def cached_model(repo: str) -> HubModel | None:
    """A model whose weights are on this machine, whole, and what its repository says, as it was when they were fetched, or
    None; None, too, where what it says is damaged. Where this app did not fetch it, nobody knows that a `config.json` which
    is not here is not there either.

    Raises:
        WeightsError: for what is no model's name, or no network for images.
    """
    here = snapshot(model_id(repo))
    if not here.is_whole or (here.path(CONFIG) is None and here.repo not in fetched_models()):
        return None
    mark_used(here, here.weights)
    described = filter(None, map(here.file, DESCRIPTIONS))
    return _model_from_cache(here, here.weights) if all(map(here.holds, described)) else None


def weights_of(repo: str, revision: str = "") -> HubModel:
    """A model by its weights alone where these are on this machine, whole, of a commit or of the last that was fetched, else
    looked up.

    Raises:
        WeightsError: as `look_up`.
    """
    here = snapshot(repo, revision)
    return HubModel(repo, here.revision, here.weights) if here.is_whole else look_up(repo, revision)


def _check_rate(repo: str) -> None:
    """That this server has not asked the hub too often.

    Raises:
        WeightsError: where it has.
    """
    with _LOCK:
        now = time.monotonic()
        if len(_LOOK_UPS) == _LOOK_UPS.maxlen and now - _LOOK_UPS[0] < LOOK_UP_SECONDS:
            raise WeightsError(
                f"{repo} cannot be looked up now: this server has asked {host()} for {_LOOK_UPS.maxlen} models in "
                f"{LOOK_UP_SECONDS / 60:.0f} minutes, and more are not accepted; try again in some minutes."
            )
        _LOOK_UPS.append(now)


def _file_in_listing(sibling: Mapping[str, Any]) -> HubFile:
    """A file from the hub's list; large ones lie elsewhere than in git, which has a pointer in their place."""
    large = sibling.get("lfs")
    size, digest = (large["size"], large["sha256"]) if large else (sibling.get("size"), sibling.get("blobId"))
    if type(size) is not int or size < 0 or not re.fullmatch("[0-9a-f]{64}" if large else "[0-9a-f]{40}", str(digest)):
        return HubFile("", 0, "", False)  # of which nobody could say whether it has arrived
    return HubFile(str(sibling["rfilename"]), size, str(digest), not large)


def _model_from_cache(here: Snapshot, weights: tuple[HubFile, ...]) -> HubModel:
    """A model by what its files in the cache say.

    Raises:
        WeightsError: where it is no network for images, or its files cannot be read.
    """
    try:
        return _model_from(here, weights, tuple(map(here.file, DESCRIPTIONS)))
    except OSError as error:
        raise WeightsError(f"What {here.repo} says of itself cannot be read ({error.strerror}); {INSTEAD}.") from error


@lru_cache(16)  # each may hold a megabyte of labels, which strangers choose
def _model_from(here: Snapshot, weights: tuple[HubFile, ...], files: tuple[HubFile | None, ...]) -> HubModel:
    """`_model_from_cache` of descriptions that have not changed since: a page asks at every click."""
    texts = (_text(here, file) if file and file.bytes <= MAX_DESCRIPTION_BYTES else "" for file in files)
    return HubModel(here.repo, here.revision, weights, *describe(here.repo, *texts))


def _text(here: Snapshot, file: HubFile) -> str:
    return (here.folder / file.name).read_text(encoding="utf-8", errors="replace")


# -- files in the cache -------------------------------------------------------------------


def download_model(model: HubModel, progress: Progress) -> tuple[Path, ...]:
    """The files of a model's weights, fetched where they are not there or damaged: `hub.fetch`, for bytes of all of them. The
    newest commit takes the place of those before it, once it is whole.

    Raises:
        WeightsError: as there, and where the hub asks for a login.
    """
    paths, before = [], 0
    for file in model.files:
        start = before
        told = lambda done, _, start=start: progress(start + done, model.bytes)  # noqa: E731
        paths.append(_fetch(model.id, model.revision, file, hub.MAX_DOWNLOAD_BYTES, told))
        before += file.bytes
    last, here = snapshot(model.id), Snapshot(model.id, model.revision)
    if last != here and (model.newest or not last.is_whole):  # from then on it is what the hub's cache calls the last
        reference = reference_path(model.id)
        with _writing(model.id):
            reference.parent.mkdir(parents=True, exist_ok=True)
            reference.write_text(model.revision, encoding="utf-8")
    if model.newest:
        replace_older(here)
    return tuple(paths)


def bytes_so_far(model: HubModel) -> tuple[int, int]:
    """Bytes of a model's weights that have arrived, and in all."""
    return sum(hub.bytes_so_far(_source(model.id, model.revision, file))[0] for file in model.files), model.bytes


def open_model(model: HubModel, **answers: Any) -> Opened:
    """The network in a model's weights, which are on this machine: `open_checkpoint`.

    Raises:
        WeightsError: as there, and where they are not.
    """
    here = Snapshot(model.id, model.revision)
    mark_used(here, model.files)
    paths = {file.name: here.path(file.name) for file in model.files}
    files = {name: path for name, path in paths.items() if path is not None}
    if len(files) < len(paths):
        raise WeightsError(f"The weights of {model.id} are not on this server any more; {INSTEAD}.")
    if len(files) == 1:
        ((name, path),) = files.items()
        if (tag := tag_of(model.id)) and model.bytes > MAX_FILE_BYTES:
            return _open_tag(tag, path)
        return open_checkpoint(path, f"{name} of {model.id}", **answers)
    try:
        _, data = join({name: path.read_bytes() for name, path in files.items()})
    except MissingShardError as error:
        raise WeightsError(
            f"{model.id} has no weights that are accepted: its index names {plain(error.shard, 80)}, which it does not have."
        ) from error
    except OSError as error:
        raise WeightsError(f"The weights of {model.id} cannot be read ({error.strerror}); {INSTEAD}.") from error
    return open_checkpoint(data, f"{WEIGHTS} of {model.id}", **answers)


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
    snap = Snapshot(repo, revision)
    here = snap.path(file.name)
    if here is not None and not file.digest:
        return here
    if file.bytes > most:
        raise WeightsError(f"{file.name} of {repo} has more than {most // 2**10:,} KiB, which is not accepted.")
    source, pointer = _source(repo, revision, file), snap.folder / file.name
    if not is_whole(source):
        _check_allowed(f"{file.name} of {repo}")
        with _writing(repo):  # first: what stays a part belongs to a commit, too
            pointer.parent.mkdir(parents=True, exist_ok=True)
        if source.by_id:
            make_room(source)
    try:
        blob = hub.fetch(source, progress)
    except DownloadError as error:
        if error.status in (401, 403):
            raise WeightsError(
                f"{host()} asks for a login for {repo}, which is private or gated: the owner of this server can set HF_TOKEN to "
                "the token of an account that may read it."
            ) from error
        raise
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
    hub.check_allowed(name)
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
        blob_path(repo, file),
        f"{file.name} of {repo}",
        file.bytes,
        file.digest,
        file.git,
        owner.token(),
        by_id=tag_of(repo) is None,
    )

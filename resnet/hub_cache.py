"""The cache that huggingface_hub keeps: what of the hub's repositories is on this machine, without asking anybody.

https://huggingface.co/docs/huggingface_hub/guides/manage-cache says how it is laid out; whatever is built on that library
finds what was fetched here, and the other way round.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import constants

from . import hub
from .errors import WeightsError
from .options import plain
from .published import Tag, tags
from .shards import INDEX
from .tensor_files import MAX_FILE_BYTES

WEIGHTS, PICKLED = "model.safetensors", "pytorch_model.bin"
SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")


class HubFile(NamedTuple):
    """A file of a repository: its name, bytes and digest, its SHA-256 or, with `git`, the SHA-1 that git names it by; ""
    where neither is known."""

    name: str
    bytes: int
    digest: str
    git: bool


def tag_of(repo: str) -> Tag | None:
    """What timm publishes in a repository."""
    return next((tag for tag in tags() if tag.hub == repo), None)


def weights_files(repo: str, files: Mapping[str, HubFile]) -> tuple[HubFile, ...]:
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
    most = hub.MAX_DOWNLOAD_BYTES if tag_of(repo) else MAX_FILE_BYTES
    if size > most:
        raise WeightsError(
            f"{repo} has weights of {size / 2**20:,.0f} MiB: at most {most // 2**20:,} MiB are accepted."
        )
    return tuple(files[name] for name in found)


@dataclass(frozen=True)
class Snapshot:
    """What is on this machine of a repository at a commit; nothing where `revision` is ""."""

    repo: str
    revision: str

    @property
    def folder(self) -> Path:
        """Where its files stand by their names."""
        return repository_folder(self.repo) / "snapshots" / self.revision

    def path(self, name: str) -> Path | None:
        """Where a file is, None where it is not."""
        path = self.folder / name
        return path if self.revision and path.is_file() else None

    def file(self, name: str) -> HubFile | None:
        """A file as the cache names it, None where it is not here."""
        with suppress(OSError):
            return _file_of(path) if (path := self.path(name)) else None
        return None

    def holds(self, file: HubFile) -> bool:
        """Whether a file is here and what its digest says; it is read once for that."""
        blob = blob_path(self.repo, file)
        return self.path(file.name) is not None and (
            not file.digest or hub.is_whole(hub.Source("", blob, file.name, file.bytes, file.digest, file.git))
        )

    @property
    def weights(self) -> tuple[HubFile, ...]:
        """The files that hold its weights; none where some are not here or too large. They may be damaged: `is_whole`."""
        if not self.revision:
            return ()
        with suppress(OSError):
            names = frozenset(os.listdir(self.folder))
            return _weights_among(self, cache_folder(), names, _changed(repository_folder(self.repo) / "blobs"))
        return ()

    @property
    def is_whole(self) -> bool:
        """Whether its weights are here, and what their digests say."""
        weights = self.weights
        return bool(weights) and all(map(self.holds, weights))


@lru_cache(1024)
def _weights_among(snapshot: Snapshot, cache: Path, names: frozenset[str], changed: int) -> tuple[HubFile, ...]:
    """`Snapshot.weights` by what they depend on: the names in its folder, and when files came or went for which these
    stand. A page asks this of all that is published.
    """
    with suppress(OSError, WeightsError):
        paths = (snapshot.path(name) for name in names)
        return weights_files(snapshot.repo, {path.name: _file_of(path) for path in paths if path})
    return ()


def _changed(path: Path) -> int:
    """When a folder was changed, 0 where there is none."""
    with suppress(OSError):
        return path.stat().st_mtime_ns
    return 0


def _file_of(path: Path) -> HubFile:
    """A file of the cache, which leads to one that is called by its digest."""
    digest = Path(os.readlink(path)).name if path.is_symlink() else ""
    known = re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", digest)
    return HubFile(path.name, path.stat().st_size, digest if known else "", len(digest) == 40)


def snapshot(repo: str, revision: str = "") -> Snapshot:
    """A repository at a commit, or at the last that was fetched."""
    return Snapshot(repo, revision or _latest(repo))


def _latest(repo: str) -> str:
    """The commit of a repository that was fetched last, "" where none was."""
    with suppress(OSError, UnicodeDecodeError):
        found = reference_path(repo).read_text(encoding="utf-8").strip()
        if re.fullmatch("[0-9a-f]{40}", found):
            return found
    return ""


# -- paths --------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where huggingface_hub keeps files, which reads these variables where it is imported."""
    home = os.environ.get("HF_HOME")
    return Path(os.environ.get("HF_HUB_CACHE") or (home and Path(home, "hub")) or constants.HF_HUB_CACHE).expanduser()


def cache_name() -> str:
    """`cache_folder` as the environment names it: never where it lies on this machine."""
    if os.environ.get("HF_HUB_CACHE"):
        return "$HF_HUB_CACHE"
    home = "$HF_HOME" if os.environ.get("HF_HOME") else f"{hub.home_cache_name()}/huggingface"
    return f"{home}/hub"


def repository_folder(repo: str) -> Path:
    return cache_folder() / f"models--{repo.replace('/', '--')}"


def blob_path(repo: str, file: HubFile) -> Path:
    """Where the bytes of a file belong."""
    return repository_folder(repo) / "blobs" / file.digest


def reference_path(repo: str) -> Path:
    """Where the commit stands that was fetched last."""
    return repository_folder(repo) / "refs" / "main"


# -- what there is ------------------------------------------------------------------------


def kept_models() -> frozenset[str]:
    """The ids of all repositories of which the cache may have something, by a look at one folder."""
    with suppress(OSError):
        names = (name.split("--") for name in os.listdir(cache_folder()))
        return frozenset("/".join(parts[1:]) for parts in names if parts[0] == "models" and len(parts) == 3)
    return frozenset()


def fetched_models() -> frozenset[str]:
    """The ids of the models whose weights this app downloaded because somebody typed them, and which are here: others in
    the cache are not its own.
    """
    with suppress(OSError):  # nobody can say
        recorded = _repositories(hub.recorded(by_id=True), str(cache_folder()))
        return frozenset(repo for repo in recorded & kept_models() if snapshot(repo).weights)
    return frozenset()


@lru_cache(1)
def _repositories(paths: frozenset[str], folder: str) -> frozenset[str]:
    """The ids of the repositories in a cache of which these are files of weights: large ones are called by their SHA-256,
    descriptions by a SHA-1.
    """
    sep = re.escape(os.sep)
    name = re.compile(f"{re.escape(folder)}{sep}models--(.+)--(.+){sep}blobs{sep}[0-9a-f]{{64}}")
    return frozenset(f"{found[1]}/{found[2]}" for found in map(name.fullmatch, paths) if found)

"""The cache that huggingface_hub keeps: what of the hub's repositories is on this machine, without asking anybody.

https://huggingface.co/docs/huggingface_hub/guides/manage-cache says how it is laid out; whatever is built on that library
finds what was fetched here, and the other way round.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import CachedRepoInfo, CachedRevisionInfo, CacheNotFound, HFCacheInfo, constants, scan_cache_dir

from . import confined, hub, sources
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
            not file.digest or sources.is_whole(sources.Source("", blob, file.name, file.bytes, file.digest, file.git))
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
    home = "$HF_HOME" if os.environ.get("HF_HOME") else f"{sources.home_cache_name()}/huggingface"
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


# -- letting go ---------------------------------------------------------------------------

IN_USE_SECONDS = 3600.0
"""For so long after somebody used a model, or something of it arrived, it is taken to be in use."""
_LETTING_GO = threading.Lock()


class _Spare(NamedTuple):
    """A model that could go: when it was last used, in seconds since 1970, the bytes that it takes, and what it is."""

    used: float
    bytes: int
    repo: CachedRepoInfo


def mark_used(here: Snapshot, weights: Iterable[HubFile]) -> None:
    """Note that somebody uses a model, as the time at which its weights were read: a page reads them once and keeps them."""
    for file in weights:
        with suppress(OSError):  # it is gone, or somebody else's
            path, now = here.folder / file.name, time.time_ns()
            stat = path.stat()
            if now - stat.st_atime_ns > IN_USE_SECONDS / 2 * 1e9:  # a page asks at every click
                os.utime(path, ns=(now, stat.st_mtime_ns))


def make_room(source: sources.Source) -> None:
    """Let go of models that people typed, the least recently used first, where a file that is one of those has no room.

    None goes that may be in use, or of which something is not this app's own: a file that others fetched, or a reference
    beside main. Where all that could go would not be enough, none does.
    """
    with _letting_go():
        if lacking := hub.lacking(source):
            cache = scan_cache_dir(cache_folder())
            others = (one for one in _spare(cache) if one.repo.repo_path.name != source.path.parents[1].name)
            spare = sorted(others, key=lambda one: one.used)
            totals = accumulate(one.bytes for one in spare)
            count = next((number for number, total in enumerate(totals, start=1) if total >= lacking), 0)
            for one in spare[:count]:
                _let_go(cache, one.repo, one.repo.revisions)


def replace_older(here: Snapshot) -> None:
    """Let go of a model's other commits that are whole, and of what no commit uses then; but of none that has a reference, or
    of which others fetched something.
    """
    with _letting_go():
        if len(os.listdir(here.folder.parent)) == 1:
            return
        cache, own = scan_cache_dir(cache_folder()), _own(by_id=True) | _own(by_id=False)
        for repo in cache.repos:
            if (repo.repo_type, repo.repo_id) == ("model", here.repo):
                older = [
                    one
                    for one in repo.revisions
                    if one.commit_hash != here.revision
                    and not one.refs
                    and Snapshot(here.repo, one.commit_hash).weights
                    and own.issuperset((repo.repo_path.name, file.blob_path.name) for file in one.files)
                ]
                _let_go(cache, repo, older)


@contextmanager
def _letting_go() -> Iterator[None]:
    """One at a time, while others have their turn; where the cache cannot be looked through, or written, all stays."""
    with confined.aside(), _LETTING_GO, suppress(OSError, ValueError, CacheNotFound):
        yield


def _let_go(cache: HFCacheInfo, repo: CachedRepoInfo, revisions: Iterable[CachedRevisionInfo]) -> None:
    """Remove these commits of a repository; a copy of it has the same ones, which stay."""
    if names := [one.commit_hash for one in revisions]:
        logging.getLogger(__name__).info("%s is let go of, at %s", repo.repo_id, ", ".join(names))
        replace(cache, repos=frozenset({repo})).delete_revisions(*names).execute()


def _spare(cache: HFCacheInfo) -> Iterator[_Spare]:
    """The models that `make_room` may let go of."""
    own, now = _own(by_id=True), time.time()
    for repo in cache.repos:
        with suppress(OSError), os.scandir(repo.repo_path / "blobs") as entries:
            stats = {hub.PART.sub("", entry.name): entry.stat() for entry in entries}
            used = max((max(stat.st_atime, stat.st_mtime) for stat in stats.values()), default=now)
            is_own = own.issuperset((repo.repo_path.name, name) for name in stats) and repo.refs.keys() <= {"main"}
            if is_own and now - used > IN_USE_SECONDS:
                yield _Spare(used, sum(stat.st_size for stat in stats.values()), repo)


def _own(by_id: bool) -> frozenset[tuple[str, str]]:
    """The files in the cache that this app fetched of either kind (`hub.recorded`), each as its repository's folder and its
    digest: the way to the cache may have another name.

    Raises:
        OSError: where nobody can say.
    """
    return frozenset(
        (path.parents[1].name, path.name) for path in map(Path, hub.recorded(by_id)) if len(path.parts) > 2
    )

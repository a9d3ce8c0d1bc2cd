"""Files that lie elsewhere: what is known of them, where they belong here, and whether they are."""

from __future__ import annotations

import hashlib
import os
import re
import urllib.parse
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from . import confined


@dataclass(frozen=True)
class Source:
    """A file elsewhere, and the path where it belongs here.

    `name` is what a sentence calls it. `bytes` and `digest` are what is known of it beforehand: how long it is (None:
    nobody knows), and its SHA-256 or the beginning of that ("": nobody knows), or, with `git`, the SHA-1 that git names it by. `token` is shown to the server of
    `url` alone, and not where that one leads on to. What is known `by_id` is there because somebody typed
    the id of a model.
    """

    url: str
    path: Path
    name: str
    bytes: int | None = None
    digest: str = ""
    git: bool = False
    token: str = field(default="", repr=False)
    by_id: bool = False

    @property
    def part(self) -> Path:
        """Where a part of it waits to be resumed."""
        return self.path.with_name(f"{self.path.name}.part")


def cache_path(url: str) -> Path:
    """Where torch.hub keeps, or would keep, the file at `url`."""
    return Path(torch.hub.get_dir(), "checkpoints", Path(urllib.parse.urlparse(url).path).name)


def torch_cache_name() -> str:
    """Where torch.hub keeps files, as the environment names it: never where it lies on this machine."""
    home = "$TORCH_HOME" if "TORCH_HOME" in os.environ else f"{home_cache_name()}/torch"
    return f"{home}/hub/checkpoints"


def home_cache_name() -> str:
    """Where caches lie that no variable of their own names."""
    return "$XDG_CACHE_HOME" if "XDG_CACHE_HOME" in os.environ else "~/.cache"


def hash_in(name: str) -> str:
    """The SHA-256, or its beginning, that a file's name ends on as torch.hub's do: "resnet18-f37072fd.pth"; else ""."""
    found = re.search(r"-([0-9a-f]{8,})\.", name)
    return found[1] if found else ""


def torch_source(url: str) -> Source:
    """The file at `url`, which belongs into torch.hub's cache."""
    path = cache_path(url)
    return Source(url, path, path.name, digest=hash_in(path.name))


def is_cached(url: str) -> bool:
    """Whether the file at `url` is on this machine already, and is what the hash in its name says."""
    return is_whole(torch_source(url))


def is_whole(source: Source) -> bool:
    """Whether a file is here, and is as long as it should be and what its digest says."""
    try:
        stat = source.path.stat()
        if source.bytes not in (None, stat.st_size):
            return False
        return not source.digest or _digest(source.path, source.git, stat.st_size, stat.st_mtime_ns).startswith(
            source.digest
        )
    except OSError:
        return False


@lru_cache(256)
def _digest(path: Path, git: bool, size: int, changed: int) -> str:
    """The digest of a file that has not changed since: it is read once.

    Raises:
        OSError: where it cannot be read.
    """
    digest = hasher(git, size)
    with confined.aside(), path.open("rb") as file:
        return hashlib.file_digest(file, lambda: digest).hexdigest()


def hasher(git: bool, size: int) -> Any:
    """Makes the digest of a file of so many bytes."""
    return hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False) if git else hashlib.sha256()

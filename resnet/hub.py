"""Files from elsewhere, into torch.hub's cache: each is fetched once for all who ask, and checked by its hash."""

from __future__ import annotations

import hashlib
import re
import threading
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import torch

from . import confined
from .checkpoint import WeightsError
from .options import plain

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
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(hash_in(path.name))


def hash_in(name: str) -> str:
    """The SHA-256, or its beginning, that a file's name ends on as torch.hub's do: "resnet18-f37072fd.pth"; else ""."""
    found = re.search(r"-([0-9a-f]{8,})\.", name)
    return found[1] if found else ""


MAX_DOWNLOAD_BYTES = 2 * 2**30
MIN_BYTES_PER_SECOND, PATIENCE_SECONDS = 16 * 2**10, 30.0
"""Nobody waits for a download of which fewer bytes a second than this arrive over so many seconds."""
STALE_SECONDS = 3600.0
"""Seconds after which a part that nothing was added to is what a server left that was killed."""
POLL_SECONDS = 0.1
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
    while not ours.over.wait(POLL_SECONDS):
        progress(ours.done, ours.total)
        if (seconds := time.monotonic() - start) > PATIENCE_SECONDS:
            if ours.done - before < MIN_BYTES_PER_SECOND * seconds:
                words = f"less than {MIN_BYTES_PER_SECOND // 2**10} KiB a second arrived over {PATIENCE_SECONDS:.0f} s"
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
            if time.time() - old.stat().st_mtime > STALE_SECONDS:
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
        if ours.done < ours.total or not digest.hexdigest().startswith(hash_in(path.name)):
            raise ValueError(f"what arrived is not that file: {ours.done:,} bytes")
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)

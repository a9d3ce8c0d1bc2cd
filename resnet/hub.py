"""Files from elsewhere: each is fetched once for all who ask, resumed where it was left, and checked by its hash."""

from __future__ import annotations

import glob
import http.client
import logging
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import torch

from . import confined, owner
from .errors import WeightsError
from .servers import (
    INSTEAD,
    SHORT_PLACES,
    AbandonedError,
    DownloadError,
    OtherFileError,
    Progress,
    answer,
    not_downloaded,
)
from .sources import Source, hasher, is_whole, torch_source

MAX_DOWNLOAD_BYTES = 2 * 2**30
CLAIM_BYTES = 2**24
"""For how much more at one time room is set aside where nobody knows how long a file is: the caches are looked through."""
RESERVE_BYTES = 2**30
"""Of the disk, what stays free."""
MIN_BYTES_PER_SECOND, PATIENCE_SECONDS = 16 * 2**10, 30.0
"""Nobody waits for a download of which fewer bytes a second than this arrive over so many seconds."""
STALE_SECONDS = 3600.0
"""Seconds after which a part that nothing was added to is what a server left that was killed."""
PLACES = confined.Places(4)
"""Downloads that run at one time."""
SMALL_BYTES = 2**20
"""Files of up to so many bytes, such as descriptions of others, have places of their own (`SHORT_PLACES`)."""


# -- one download for all who ask ---------------------------------------------------------


class _Download:
    """A file on its way, for all who wait for it: bytes so far, in all and that room is set aside for, whether it has
    begun, and how it ended.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.done, self.total, self.claimed, self.waiting = 0, source.bytes or 0, 0, 0
        self.begun = False
        self.error: WeightsError | None = None
        self.over = threading.Event()

    def check(self) -> None:
        """Raises AbandonedError where nobody waits any more."""
        if not self.waiting:
            raise AbandonedError


_DOWNLOADS: dict[Path, _Download] = {}
_LOCK = threading.Lock()


def download(url: str, progress: Progress) -> Path:
    """The file at `url` in torch.hub's cache: `fetch`."""
    return fetch(torch_source(url), progress)


def fetch(source: Source, progress: Progress) -> Path:
    """The path of a file, fetched where it is not there or damaged, and checked by its length and digest.

    Who asks for a file that is on its way waits for that download, which ends when nobody waits any more. What has
    arrived of a file with a digest then waits to be resumed. What `progress` raises ends the wait.

    Raises:
        WeightsError: where downloads are switched off, the server cannot be reached, sends something else, more than
            2 GiB, more than there is room for or less than 16 KiB a second, or where the file cannot be written.
    """
    if is_whole(source):
        return source.path
    check_allowed(source.name)
    with _LOCK:
        transfer = _DOWNLOADS.get(source.path)
        if transfer is None:
            transfer = _DOWNLOADS[source.path] = _Download(source)
            thread = threading.Thread(target=_run, args=(source, transfer), name="download", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # for want of a thread
                del _DOWNLOADS[source.path]
                raise not_downloaded(source.name, error) from error
        transfer.waiting += 1
    try:
        with confined.aside():
            _wait(source, transfer, progress)
    finally:
        with _LOCK:
            transfer.waiting -= 1
    if transfer.error is not None:
        raise DownloadError(str(transfer.error), getattr(transfer.error, "status", 0)) from transfer.error
    progress(transfer.done, transfer.total)
    return source.path


def check_allowed(name: str) -> None:
    """That something which is not here may be fetched.

    Raises:
        WeightsError: where the owner of this server says that nothing may.
    """
    if not owner.downloads_allowed():
        raise WeightsError(f"{name} is not on this server, and its owner has switched downloads off; {INSTEAD}.")


def bytes_so_far(source: Source) -> tuple[int, int]:
    """Bytes of a file that have arrived, whether it is on its way or waits to be resumed, and in all (0: unknown)."""
    transfer = _DOWNLOADS.get(source.path)
    if transfer is not None:
        return transfer.done, transfer.total
    return _size(source.path) or _size(source.part), source.bytes or 0


def _wait(source: Source, transfer: _Download, progress: Progress) -> None:
    """Until a download is over.

    Raises:
        WeightsError: where it is too slow.
    """
    start, before = time.monotonic(), transfer.done
    while not transfer.over.wait(confined.POLL_SECONDS):
        progress(transfer.done, transfer.total)
        if not transfer.begun or transfer.done < before:  # others are before it, or it has begun again
            start, before = time.monotonic(), transfer.done
        if (seconds := time.monotonic() - start) > PATIENCE_SECONDS:
            if transfer.done - before < MIN_BYTES_PER_SECOND * seconds:
                words = f"less than {MIN_BYTES_PER_SECOND // 2**10} KiB a second arrived over {PATIENCE_SECONDS:.0f} s"
                raise not_downloaded(source.name, words)
            start, before = time.monotonic(), transfer.done


def _run(source: Source, transfer: _Download) -> None:
    """Do a download, and tell those who wait how it ended."""
    while True:
        left = False
        try:
            with _places(source).place(waiting=transfer.check):
                transfer.begun = True
                if not is_whole(source):  # it may just have arrived
                    _write(source, transfer)
        except AbandonedError:
            left = True
        except WeightsError as error:
            transfer.error = error
        except (OSError, ValueError, http.client.HTTPException) as error:
            transfer.error = not_downloaded(source.name, error)
        except Exception:  # a fault of this program's: those who wait are told, and its owner finds it
            logging.getLogger(__name__).exception("%s could not be downloaded", source.name)
            transfer.error = not_downloaded(source.name, "by a fault of this app, which its log names")
        with _LOCK:
            if not (left and transfer.waiting):  # else somebody has come back
                del _DOWNLOADS[source.path]
                break
    transfer.over.set()


def _places(source: Source) -> confined.Places:
    """The places of which a download takes one."""
    return SHORT_PLACES if source.bytes is not None and source.bytes <= SMALL_BYTES else PLACES


# -- the way from a server to a file ------------------------------------------------------


def _write(source: Source, transfer: _Download) -> None:
    """Fetch a file under another name, from where it was left, and give it its own once it is whole.

    Raises:
        WeightsError: where there is no room for it.
        AbandonedError: where nobody waits any more.
        OSError, ValueError, http.client.HTTPException: where that fails.
    """
    source.path.parent.mkdir(parents=True, exist_ok=True)
    _record(source)
    part = _take_over_part(source)
    resumed = _size(part) > 0
    try:
        try:
            _receive(source, part, transfer)
        except OtherFileError:
            if not resumed:
                raise
            part.unlink()  # what was there may have been of another file
            _receive(source, part, transfer)
        part.replace(source.path)
    except OtherFileError:
        part.unlink()
        raise
    finally:
        with suppress(OSError):  # there is none where all went well
            if source.digest and _size(part):
                part.replace(source.part)
            else:  # by the next time its server may have another file, and nothing would tell
                part.unlink()


def _take_over_part(source: Source) -> Path:
    """A name for a part that nobody else writes. What waits to be resumed, or a server left that was killed, has it then."""
    part = source.path.with_name(f"{source.path.name}.{uuid.uuid4().hex}.part")
    for rest in (source.part, *source.path.parent.glob(f"{glob.escape(source.path.name)}.*.part")):
        with suppress(OSError):  # another server claims it
            if rest != source.part and time.time() - rest.stat().st_mtime <= STALE_SECONDS:
                continue
            if source.digest and not part.exists():
                rest.replace(part)
            else:
                rest.unlink()
    return part


def _receive(source: Source, part: Path, transfer: _Download) -> None:
    """Add to a part what it lacks.

    Raises:
        OtherFileError: where that makes another file than the source.
        WeightsError, AbandonedError, OSError, ValueError, http.client.HTTPException: as `_write`.
    """
    at, digest = _size(part), hasher(source.git, source.bytes or 0)
    if at:
        with part.open("rb") as before:
            while chunk := before.read(2**20):
                digest.update(chunk)
    transfer.done = at
    if not at or at != source.bytes:
        with answer(source.url, source.token, at) as (response, start), part.open("ab") as file:
            if start != at:
                file.truncate(0)
                transfer.done = at = 0
                digest = hasher(source.git, source.bytes or 0)
            announced = int(response.headers.get("Content-Length") or 0)
            transfer.total = at + announced if announced > 0 else source.bytes or 0
            if source.bytes not in (None, transfer.total):
                raise OtherFileError(f"it should have {source.bytes:,} bytes and its server sends {transfer.total:,}")
            _claim(source, transfer, transfer.total)
            while chunk := response.read1(2**20):  # what has arrived: so much may take for ever
                if source.bytes is not None and at + len(chunk) > source.bytes:
                    raise OtherFileError(f"it should have {source.bytes:,} bytes and its server sends more")
                if at + len(chunk) > transfer.claimed:  # its server does not say how long it is
                    _claim(source, transfer, max(at + len(chunk), min(at + CLAIM_BYTES, MAX_DOWNLOAD_BYTES)))
                _check_disk(source, len(chunk))  # which others fill, too
                file.write(chunk)
                digest.update(chunk)
                transfer.done = at = at + len(chunk)
                transfer.check()
    if at < transfer.total:
        raise ConnectionError(f"the connection broke off after {at:,} of {transfer.total:,} bytes")
    if source.bytes not in (None, at) or not digest.hexdigest().startswith(source.digest):
        raise OtherFileError(f"what arrived is not that file: {at:,} bytes")


# -- room ---------------------------------------------------------------------------------


def _claim(source: Source, transfer: _Download, size: int) -> None:
    """Set room aside for a file of `size` bytes, beside all that was downloaded before and all that is on its way.

    Raises:
        OtherFileError: where no file may have so many.
        WeightsError: where there is no room for them.
        OSError: where nobody can say what was downloaded before.
    """
    if size > MAX_DOWNLOAD_BYTES:
        raise OtherFileError(f"it has more than {MAX_DOWNLOAD_BYTES / 2**30:.0f} GiB")
    most = owner.cache_bytes()
    with _LOCK:
        others = {path: one for path, one in _DOWNLOADS.items() if one is not transfer}
        by_id, published = _taken(True, others, source), _taken(False, others, source)
        if source.by_id and size > most // 2 - by_id:
            raise _no_room(source, "the models whose names people typed", most / 2)
        if size > most - by_id - published:
            raise _no_room(source, "what it has downloaded", most)
        _check_disk(source, size - transfer.done + sum(max(0, one.claimed - one.done) for one in others.values()))
        transfer.claimed = size


def lacking(source: Source) -> int:
    """Bytes that have to go from what people typed before a file that is one of those has room; 0 where it has.

    Raises:
        OSError: where nobody can say what was downloaded before.
    """
    most = owner.cache_bytes()
    with _LOCK:
        others = {path: one for path, one in _DOWNLOADS.items() if path != source.path}
        by_id, published = _taken(True, others, source), _taken(False, others, source)
    return max(0, (source.bytes or 0) + by_id - min(most // 2, most - published))


def _no_room(source: Source, whose: str, most: float) -> WeightsError:
    return WeightsError(
        f"There is no room for {source.name} on this server: {whose} may take {most / 2**30:g} GiB together, and its owner can "
        f"delete some or set {owner.CACHE} higher; {INSTEAD}."
    )


def _check_disk(source: Source, size: int) -> None:
    """That the disk has room for so many bytes more.

    Raises:
        WeightsError: where it has not.
    """
    if size > shutil.disk_usage(source.path.parent).free - RESERVE_BYTES:
        raise WeightsError(
            f"There is no room for {source.name} on this server: {RESERVE_BYTES / 2**30:.0f} GiB of its disk stays free; {INSTEAD}."
        )


def _taken(by_id: bool, others: Mapping[Path, _Download], source: Source) -> int:
    """Bytes that files of either kind take, their parts too, and will take once the `others` have arrived; but `source`."""
    known = recorded(by_id)
    coming = {*map(str, others), str(source.path)}
    taken = sum(max(one.done, one.claimed) for one in others.values() if one.source.by_id == by_id)
    for folder in {os.path.dirname(path) for path in known}:
        with suppress(OSError, ValueError), os.scandir(folder) as entries:  # the second where the record is damaged
            for entry in entries:
                path = PART.sub("", entry.path)
                if path in known and path not in coming:
                    taken += _size(entry.path)
    return taken


PART = re.compile(r"(\.[0-9a-f]+)?\.part$")
"""How the name of a part ends: of one that waits to be resumed, or one that is written."""


def _record(source: Source) -> None:
    """Note that this file was downloaded: others share the caches, and what they have counts for nobody here."""
    if str(source.path) not in recorded(source.by_id):
        record = _record_path(source.by_id)
        record.parent.mkdir(parents=True, exist_ok=True)
        with record.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{source.path}\n")


def recorded(by_id: bool) -> frozenset[str]:
    """The paths of files of either kind that were downloaded, some of which may be gone.

    Raises:
        OSError: where the record of them cannot be read.
    """
    record = _record_path(by_id)
    try:
        stat = record.stat()
    except FileNotFoundError:
        return frozenset()
    return _read_record(record, stat.st_mtime_ns, stat.st_size)


@lru_cache(4)
def _read_record(path: Path, changed: int, size: int) -> frozenset[str]:
    """The lines of a record that has not changed since: pages ask at every click."""
    return frozenset(path.read_text(encoding="utf-8", errors="surrogateescape").splitlines())


def _record_path(by_id: bool) -> Path:
    return Path(torch.hub.get_dir(), "resnet-explorer-typed.txt" if by_id else "resnet-explorer.txt")


def _size(path: Path | str) -> int:
    """Bytes of a file, 0 where there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0

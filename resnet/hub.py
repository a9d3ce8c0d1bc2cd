"""Files from elsewhere: each is fetched once for all who ask, resumed where it was left, and checked by its hash.

Every byte that comes from a network comes through here.
"""

from __future__ import annotations

import glob
import hashlib
import http
import http.client
import logging
import os
import re
import shutil
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import torch

from . import confined, owner
from .errors import WeightsError
from .options import plain

Progress = Callable[[int, int], object]
"""Called with bytes so far and bytes in all (0 where the server does not say)."""


MAX_DOWNLOAD_BYTES = 2 * 2**30
CLAIM_BYTES = 2**24
"""For how much more at one time room is set aside where nobody knows how long a file is: the caches are looked through."""
RESERVE_BYTES = 2**30
"""Of the disk, what stays free."""
MIN_BYTES_PER_SECOND, PATIENCE_SECONDS = 16 * 2**10, 30.0
"""Nobody waits for a download of which fewer bytes a second than this arrive over so many seconds."""
SILENT_SECONDS = 20.0
"""How long a server may send nothing."""
STALE_SECONDS = 3600.0
"""Seconds after which a part that nothing was added to is what a server left that was killed."""
PLACES = confined.Places(4)
"""Downloads that run at one time."""
SMALL_BYTES, SMALL_PLACES = 2**20, confined.Places(8)
"""Files of up to so many bytes, such as descriptions of others, and lists wait for no place among those that take hours."""
INSTEAD = "random weights, and the shipped ones of resnet20, need no download"


class DownloadError(WeightsError):
    """A file that could not be fetched; `status` is what its server answered, 0 where it is something else."""

    def __init__(self, message: str, status: int = 0):
        super().__init__(message)
        self.status = status


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


# -- what is here -------------------------------------------------------------------------


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
    digest = _hasher(git, size)
    with confined.aside(), path.open("rb") as file:
        return hashlib.file_digest(file, lambda: digest).hexdigest()


def _hasher(git: bool, size: int) -> Any:
    return hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False) if git else hashlib.sha256()


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
        """Raises _Abandoned where nobody waits any more."""
        if not self.waiting:
            raise _Abandoned


class _Abandoned(Exception):  # noqa: N818 - no error
    """Nobody waits for a download."""


class _OtherFileError(ValueError):
    """What arrives is not the file: nothing of it is kept."""


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
                raise _not_downloaded(source.name, error) from error
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
                raise _not_downloaded(source.name, words)
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
        except _Abandoned:
            left = True
        except WeightsError as error:
            transfer.error = error
        except (OSError, ValueError, http.client.HTTPException) as error:
            transfer.error = _not_downloaded(source.name, error)
        except Exception:  # a fault of this program's: those who wait are told, and its owner finds it
            logging.getLogger(__name__).exception("%s could not be downloaded", source.name)
            transfer.error = _not_downloaded(source.name, "by a fault of this app, which its log names")
        with _LOCK:
            if not (left and transfer.waiting):  # else somebody has come back
                del _DOWNLOADS[source.path]
                break
    transfer.over.set()


def _places(source: Source) -> confined.Places:
    """The places of which a download takes one."""
    return SMALL_PLACES if source.bytes is not None and source.bytes <= SMALL_BYTES else PLACES


def _not_downloaded(name: str, reason: str | Exception) -> DownloadError:
    """That a file cannot be had, and why, without the address, which may hold a key."""
    status = reason.code if isinstance(reason, urllib.error.HTTPError) else 0
    words = plain(" ".join(_words(reason).split()), 100)
    return DownloadError(f"{name} could not be downloaded ({words}); {INSTEAD}.", status)


def _words(reason: str | Exception) -> str:
    if isinstance(reason, urllib.error.HTTPError):
        fault = f"its server has a fault, {reason.code}"
        return ANSWERS.get(reason.code, fault if reason.code >= 500 else str(reason.reason))
    inner = getattr(reason, "reason", None) or reason
    return str(getattr(inner, "strerror", None) or inner) or type(inner).__name__


ANSWERS = {
    401: "it asks for a login",
    403: "it asks for a login, or is closed to this server",
    404: "it is not there",
    429: "its server is asked too often: try again in some minutes",
}
"""What a server means by a status; by others, what it says itself."""


# -- the way from a server to a file ------------------------------------------------------


def _write(source: Source, transfer: _Download) -> None:
    """Fetch a file under another name, from where it was left, and give it its own once it is whole.

    Raises:
        WeightsError: where there is no room for it.
        _Abandoned: where nobody waits any more.
        OSError, ValueError, http.client.HTTPException: where that fails.
    """
    source.path.parent.mkdir(parents=True, exist_ok=True)
    _record(source)
    part = _take_over_part(source)
    resumed = _size(part) > 0
    try:
        try:
            _receive(source, part, transfer)
        except _OtherFileError:
            if not resumed:
                raise
            part.unlink()  # what was there may have been of another file
            _receive(source, part, transfer)
        part.replace(source.path)
    except _OtherFileError:
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
        _OtherFileError: where that makes another file than the source.
        WeightsError, _Abandoned, OSError, ValueError, http.client.HTTPException: as `_write`.
    """
    at, digest = _size(part), _hasher(source.git, source.bytes or 0)
    if at:
        with part.open("rb") as before:
            while chunk := before.read(2**20):
                digest.update(chunk)
    transfer.done = at
    if not at or at != source.bytes:
        with _answer(source.url, source.token, at) as (response, start), part.open("ab") as file:
            if start != at:
                file.truncate(0)
                transfer.done = at = 0
                digest = _hasher(source.git, source.bytes or 0)
            announced = int(response.headers.get("Content-Length") or 0)
            transfer.total = at + announced if announced > 0 else source.bytes or 0
            if source.bytes not in (None, transfer.total):
                raise _OtherFileError(f"it should have {source.bytes:,} bytes and its server sends {transfer.total:,}")
            _claim(source, transfer, transfer.total)
            while chunk := response.read1(2**20):  # what has arrived: so much may take for ever
                if source.bytes is not None and at + len(chunk) > source.bytes:
                    raise _OtherFileError(f"it should have {source.bytes:,} bytes and its server sends more")
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
        raise _OtherFileError(f"what arrived is not that file: {at:,} bytes")


@contextmanager
def _answer(url: str, token: str, at: int = 0) -> Iterator[tuple[Any, int]]:
    """What a server answers that is asked for a file from byte `at` on, and the byte at which the answer begins.

    Raises:
        _OtherFileError: where the file has no such byte.
        OSError, ValueError, http.client.HTTPException: where there is no answer, or a page in the file's place.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "resnet-explorer"})
    if at:
        request.add_header("Range", f"bytes={at}-")
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        response = _open(request)
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (401, 403) and _origin(error.url) != _origin(url):  # as of an address that has expired
                raise ConnectionError("where it is kept, it is refused: try again") from error
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise _OtherFileError("its server has a shorter file") from error
            raise
    with response:
        if response.headers.get_content_type() == "text/html":
            raise ValueError("the server sent a page instead of the file")
        found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range") or "")
        yield response, int(found[1]) if found else 0


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Goes where a server leads on to, but from no encrypted connection to another one, nor to another kind of server; what
    opens gated files goes along on the server that it is for.
    """

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urllib.parse.urlsplit(newurl).scheme not in ("https", req.type):
            raise ConnectionError("it leads on to an address that is not https")
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and _origin(newurl) == _origin(req.full_url) and (key := req.get_header("Authorization")):
            new.add_unredirected_header("Authorization", key)
        return new


def _open(request: urllib.request.Request) -> Any:
    return urllib.request.build_opener(_Redirects).open(request, timeout=SILENT_SECONDS)


def _origin(url: str) -> tuple[str, str]:
    """Of an address: how and which server is asked."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc.lower()


READ_SECONDS = 30.0


def read(url: str, name: str, most: int, token: str = "", progress: Progress = lambda done, total: None) -> bytes:
    """What a server answers at `url`, of at most `most` bytes, which is kept nowhere. What `progress` raises, which is called
    with zeros now and then, ends the wait.

    Raises:
        DownloadError: where it does not answer, with more, or not within half a minute.
    """
    answer, left = Future[bytes](), threading.Event()

    def check() -> None:
        if left.is_set():
            raise _Abandoned

    def run() -> None:
        try:
            with SMALL_PLACES.place(waiting=check):
                answer.set_result(_read(url, most, token, check))
        except BaseException as error:
            answer.set_exception(error)

    try:
        threading.Thread(target=run, name="read", daemon=True).start()
    except RuntimeError as error:  # for want of a thread
        raise _not_downloaded(name, error) from error
    try:
        with confined.aside():
            while not answer.done():
                wait([answer], confined.POLL_SECONDS)
                progress(0, 0)
    finally:
        left.set()
    try:
        return answer.result()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _not_downloaded(name, error) from error


def _read(url: str, most: int, token: str, check: Callable[[], object]) -> bytes:
    """`read`, which what `check` raises ends, too.

    Raises:
        OSError, ValueError, http.client.HTTPException: where that fails.
    """
    found, end = bytearray(), time.monotonic() + READ_SECONDS
    with _answer(url, token) as (response, _):
        while chunk := response.read1(2**16):
            found += chunk
            if len(found) > most:
                raise ValueError(f"it has more than {most // 2**10} KiB")
            if time.monotonic() > end:
                raise TimeoutError(f"it takes more than {READ_SECONDS:.0f} s")
            check()
    return bytes(found)


# -- room ---------------------------------------------------------------------------------


def _claim(source: Source, transfer: _Download, size: int) -> None:
    """Set room aside for a file of `size` bytes, beside all that was downloaded before and all that is on its way.

    Raises:
        _OtherFileError: where no file may have so many.
        WeightsError: where there is no room for them.
        OSError: where nobody can say what was downloaded before.
    """
    if size > MAX_DOWNLOAD_BYTES:
        raise _OtherFileError(f"it has more than {MAX_DOWNLOAD_BYTES / 2**30:.0f} GiB")
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

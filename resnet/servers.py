"""What servers answer: a file from some byte on, or a short text; where they do not, a sentence.

Every byte that comes from a network comes through here.
"""

from __future__ import annotations

import http
import http.client
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import IO, Any

from . import confined
from .errors import WeightsError
from .options import plain

Progress = Callable[[int, int], object]
"""Called with bytes so far and bytes in all (0 where the server does not say)."""
SILENT_SECONDS, READ_SECONDS = 20.0, 30.0
"""How long a server may send nothing, and take for a short text."""
SHORT_PLACES = confined.Places(8)
"""Short texts and small files that are fetched at one time: they wait for no place among those that take hours."""
INSTEAD = "random weights, and the shipped ones of resnet20, need no download"


class DownloadError(WeightsError):
    """A file that could not be fetched; `status` is what its server answered, 0 where it is something else."""

    def __init__(self, message: str, status: int = 0):
        super().__init__(message)
        self.status = status


class OtherFileError(ValueError):
    """What arrives is not the file: nothing of it is kept."""


class AbandonedError(Exception):
    """Nobody waits for an answer any more."""


def not_downloaded(name: str, reason: str | Exception) -> DownloadError:
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


# -- a file ------------------------------------------------------------------------------


@contextmanager
def answer(url: str, token: str, at: int = 0) -> Iterator[tuple[Any, int]]:
    """What a server answers that is asked for a file from byte `at` on, and the byte at which the answer begins.

    Raises:
        OtherFileError: where the file has no such byte.
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
                raise OtherFileError("its server has a shorter file") from error
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


# -- a short text ------------------------------------------------------------------------


def read(url: str, name: str, most: int, token: str = "", progress: Progress = lambda done, total: None) -> bytes:
    """What a server answers at `url`, of at most `most` bytes, which is kept nowhere. What `progress` raises, which is called
    with zeros now and then, ends the wait.

    Raises:
        DownloadError: where it does not answer, with more, or not within half a minute.
    """
    found, left = Future[bytes](), threading.Event()

    def check() -> None:
        if left.is_set():
            raise AbandonedError

    def run() -> None:
        try:
            with SHORT_PLACES.place(waiting=check):
                found.set_result(_read(url, most, token, check))
        except BaseException as error:
            found.set_exception(error)

    try:
        threading.Thread(target=run, name="read", daemon=True).start()
    except RuntimeError as error:  # for want of a thread
        raise not_downloaded(name, error) from error
    try:
        with confined.aside():
            while not found.done():
                wait([found], confined.POLL_SECONDS)
                progress(0, 0)
    finally:
        left.set()
    try:
        return found.result()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise not_downloaded(name, error) from error


def _read(url: str, most: int, token: str, check: Callable[[], object]) -> bytes:
    """`read`, which what `check` raises ends, too.

    Raises:
        OSError, ValueError, http.client.HTTPException: where that fails.
    """
    found, end = bytearray(), time.monotonic() + READ_SECONDS
    with answer(url, token) as (response, _):
        while chunk := response.read1(2**16):
            found += chunk
            if len(found) > most:
                raise ValueError(f"it has more than {most // 2**10} KiB")
            if time.monotonic() > end:
                raise TimeoutError(f"it takes more than {READ_SECONDS:.0f} s")
            check()
    return bytes(found)

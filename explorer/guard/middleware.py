"""One ASGI middleware around Streamlit.

It adds the headers that bind a browser, lets only such messages through as a browser of this app sends, ends sessions
as soon as they are left, and bounds connections, addresses and uploads.
"""

from __future__ import annotations

import asyncio
import errno
import math
import re
from base64 import b64encode
from collections.abc import Callable
from contextlib import ExitStack, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import file_util

from resnet import owner

from . import patches
from .connection import MAX_ADDRESS_CHARACTERS, Connection
from .sessions import Sessions
from .uploads import Uploads, content_length

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

MAX_WAIT_SECONDS, MAX_ANSWER_SECONDS = 30.0, 300.0
"""For which a request waits for its turn, and somebody may take to read an answer."""
SPARE, OF_SESSION, OF_REQUEST = 96, 4, 2
"""File descriptors of the process itself, of a session (its socket and its event loop) and of a request."""
ROUTES = ("health", "host-config", "upload_file/")
"""What of Streamlit's own a browser asks for."""
TRY_AGAIN_LATER = 1013
"""How a connection is closed for which there is no room."""


def session_and_request_limits() -> tuple[int, int]:
    """How many sessions, and how many requests and uploads at once, the process has file descriptors for.

    At most 200 and 100; where the system lets it, the process takes as many descriptors as these need.
    """
    sessions, requests = 200, 100
    if resource is None:
        return sessions, requests
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = SPARE + sessions * OF_SESSION + 2 * requests * OF_REQUEST
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
        free = soft - SPARE
        requests = max(8, min(requests, free // 8 // OF_REQUEST))
        sessions = max(8, min(sessions, (free - 2 * requests * OF_REQUEST) // OF_SESSION))
    return sessions, requests


def headers(page: str) -> list[tuple[bytes, bytes]]:
    """What is sent with every answer; `page` is Streamlit's HTML, whose own scripts are allowed by what they are.

    A component's script arrives as text, which the page loads from a blob. graphviz is WebAssembly. A camera's image is
    fetched from an address that holds it. The styles of Streamlit, plotly and our SVG are written into the page.
    """
    own = (
        b64encode(sha256(script.encode()).digest()).decode()
        for script in re.findall(r"(?s)<script>(.*?)</script>", page)
    )
    policy = {
        "default-src": "'none'",
        "script-src": " ".join(["'self'", "blob:", "'wasm-unsafe-eval'", *(f"'sha256-{one}'" for one in own)]),
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": "'self' data:",
        "frame-ancestors": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    sent = {
        "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
    }
    return [(name.lower().encode(), value.encode()) for name, value in sent.items()]


class Guard:
    """Streamlit's `app`, and what is kept from it.

    `requests` bounds what is answered at once, `sessions` and `uploads` what their names say.
    """

    def __init__(self, app: ASGIApp):
        patches.install()
        self.app = app
        self.headers = headers(Path(file_util.get_static_dir(), "index.html").read_text(encoding="utf-8"))
        most_sessions, most_requests = session_and_request_limits()
        self.requests = asyncio.Semaphore(most_requests)
        self.sessions = Sessions(most_sessions)
        self.uploads = Uploads(most_requests, self.sessions.is_there)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self.connection(scope, receive, send)
        else:
            asyncio.get_running_loop().set_exception_handler(rate_limited_error_handler())
            await self.app(scope, receive, send)

    async def request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or say in a sentence why not."""
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message.get("headers", ()), *self.headers]}
            else:
                place.close()  # who reads slowly takes no place from others
            await send(message)

        with ExitStack() as place:
            try:
                await self.let_in(scope, receive, answer, place)
            except HTTPException as refusal:
                await PlainTextResponse(refusal.detail, refusal.status_code)(scope, receive, answer)
            except Exception:
                if not started:  # Starlette's own answer would lack our headers
                    await PlainTextResponse("Something went wrong in the server.", 500)(scope, receive, answer)
                raise

    async def let_in(self, scope: Scope, receive: Receive, send: Send, place: ExitStack) -> None:
        """Hand a request on, once there is a place for it, which `place` gives back; or raise HTTPException."""
        given = dict(scope["headers"])
        route = scope["path"].partition("/_stcore/")[2]
        if len(scope["path"]) + len(scope["query_string"]) > MAX_ADDRESS_CHARACTERS:
            raise HTTPException(
                414, f"This address is longer than the {MAX_ADDRESS_CHARACTERS:,} characters that the app takes."
            )
        if route and not route.startswith(ROUTES):
            raise HTTPException(404, "There is nothing here.")
        if b"text/html" in given.get(b"accept", b"") and not self.sessions.room():
            raise HTTPException(503, "So many people are here that there is no room; try again in a minute.")
        if scope["method"] == "PUT" and route.startswith("upload_file/"):
            if not owner.uploads_allowed():
                raise HTTPException(403, owner.NO_UPLOADS)
            await self.uploads.let_in(self.app, scope, content_length(given), receive, send)
            return
        try:
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                await self.requests.acquire()
        except TimeoutError:
            raise HTTPException(
                503, "The server has too much to answer at the moment; try again in a minute."
            ) from None
        place.callback(self.requests.release)
        with suppress(TimeoutError):  # who reads so slowly gets no more
            async with asyncio.timeout(MAX_ANSWER_SECONDS):
                await self.app(scope, receive, send)

    async def connection(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one browser talk to Streamlit, where there is room for it or for the session that it comes back to."""
        if self.sessions.kept.keys().isdisjoint(scope["subprotocols"]) and not self.sessions.room():
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
            return
        line = Connection(receive, send, self.sessions.reconnected)
        self.sessions.open += 1
        try:
            await self.app(scope, line.receive, line.send)
        finally:
            self.sessions.open -= 1
            if line.session:
                self.sessions.disconnected(line.session, line.code)


def rate_limited_error_handler() -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """A handler of the event loop's errors, which would say thousands of times a second that no file can be opened."""
    last = -math.inf

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal last
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            if loop.time() < last + 60:
                return
            last = loop.time()
        loop.default_exception_handler(context)

    return handle

"""What a browser may say: such messages as a browser of this app sends, no faster than a person clicks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from google.protobuf.message import DecodeError
from starlette.types import Message, Receive, Send
from streamlit import runtime
from streamlit.proto.BackMsg_pb2 import BackMsg

MAX_ADDRESS_CHARACTERS = 2**15
"""Of an address with its query, and of a query in a message."""
MAX_MESSAGE_BYTES, MAX_FILES, MAX_WIDGETS = 2**20, 1000, 1000
"""Of a message: its size, and the files and widgets that it may name."""
PACE_SECONDS, BURST_SECONDS = 0.02, 1.0
"""From one message of a connection to the next, and what messages may come ahead of that."""
FIRST_WORD_SECONDS = 30.0
"""In which a connection has to ask for a page."""
PROTOCOL_ERROR, NO_TEXT, REFUSED, TOO_LARGE = 1002, 1003, 1008, 1009
"""How a connection is closed that says what no browser does."""
OPERATIONS = {"deferred_file", "dataframe_chunk"}


def welcome(message: BackMsg) -> bool:
    """Whether a browser of this app sends such a message."""
    kind = message.WhichOneof("type")
    if kind == "rerun_script":
        asked = message.rerun_script
        return len(asked.query_string) <= MAX_ADDRESS_CHARACTERS and len(asked.widget_states.widgets) <= MAX_WIDGETS
    if kind == "file_urls_request":
        return len(message.file_urls_request.file_names) <= MAX_FILES
    if kind == "backend_operation_request":
        return message.backend_operation_request.WhichOneof("payload") in OPERATIONS
    return kind in ("stop_script", "app_heartbeat")


class Line:
    """A connection as Streamlit sees it: only what a browser of this app says comes through.

    `session` is the session that it belongs to, empty before there is one, `code` says how it was closed.
    """

    def __init__(self, receive: Receive, send: Send, resumed: Callable[[str], None]):
        self._receive, self._send, self._resumed = receive, send, resumed
        self._asked = self._accepted = False
        self._due = 0.0
        self.session, self.code = "", 1000

    async def send(self, message: Message) -> None:
        if message["type"] == "websocket.close":
            self.code = message.get("code", self.code)
        await self._send(message)

    async def close(self, code: int) -> Message:
        await self.send({"type": "websocket.close", "code": code})
        return {"type": "websocket.disconnect", "code": code}

    async def receive(self) -> Message:
        """What the browser says next. Other messages are left out; what breaks the protocol ends the connection."""
        if not self._accepted:  # Streamlit makes the session before it listens for a second time
            self._accepted = True
            return await self._receive()
        if not self.session:
            # Streamlit tells the id only to the browser, and only when the first run starts.
            self.session = runtime.get_instance()._session_mgr.list_active_sessions()[-1].session.id
            self._resumed(self.session)
        while True:
            try:
                async with asyncio.timeout(None if self._asked else FIRST_WORD_SECONDS):
                    message = await self._receive()
            except TimeoutError:
                return await self.close(REFUSED)
            if message["type"] == "websocket.disconnect":
                self.code = message["code"]
                return message
            data = message.get("bytes")
            if data is None:
                return await self.close(NO_TEXT)
            if len(data) > MAX_MESSAGE_BYTES:
                return await self.close(TOO_LARGE)
            try:
                said = BackMsg.FromString(data)
            except DecodeError:
                return await self.close(PROTOCOL_ERROR)
            await self._pace()
            if welcome(said):
                self._asked = True
                return message

    async def _pace(self) -> None:
        """Wait where messages come faster than a person clicks."""
        now = asyncio.get_running_loop().time()
        self._due = max(self._due, now) + PACE_SECONDS
        await asyncio.sleep(max(0.0, self._due - now - BURST_SECONDS))

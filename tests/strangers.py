"""A guard without a server: who is let in, by what they say, and what Streamlit would hear of it."""

from __future__ import annotations

import asyncio
from operator import itemgetter
from types import SimpleNamespace
from typing import Any

from starlette.types import Message, Receive, Scope
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

from explorer.bench.hostile.attacks import messages
from explorer.guard.middleware import Guard


class Runtime:
    """Which sessions are connected, and which were closed."""

    def __init__(self) -> None:
        self.active: list[str] = ["a"]
        self.closed: list[str] = []
        self.state = {"a": {"brought": "an image"}}
        self.fragments = {"a": {"panels": "what draws them"}}
        self.uploaded_file_mgr = MemoryUploadedFileManager("")
        self._session_mgr = SimpleNamespace(
            list_active_sessions=lambda: [self.info(name) for name in self.active], get_session_info=self.info
        )

    def info(self, session: str) -> Any:
        """What Streamlit knows of a session, None where it has ended."""
        if session in self.closed:
            return None
        state, fragments = (kept.setdefault(session, {}) for kept in (self.state, self.fragments))
        return SimpleNamespace(session=SimpleNamespace(id=session, session_state=state, _fragment_storage=fragments))

    def is_active_session(self, session: str) -> bool:
        return session in self.active

    def close_session(self, session: str) -> None:
        self.closed.append(session)


class Told:
    """A server that says what it was told, and the sessions that the store was told to leave."""

    def __init__(self, *messages: Message):
        self.messages, self.sent = list(messages), list[Message]()

    async def receive(self) -> Message:
        if not self.messages:
            await asyncio.Event().wait()
        return self.messages.pop(0)

    async def send(self, message: Message) -> None:
        self.sent.append(message)


def said(message: BackMsg) -> dict[str, Any]:
    return {"type": "websocket.receive", "bytes": message.SerializeToString()}


RERUN = BackMsg(rerun_script=ClientState())


def ended(code: int) -> dict[str, Any]:
    return {"type": "websocket.disconnect", "code": code}


async def talk(receive: Receive) -> list[Message]:
    """What Streamlit hears of a connection until it ends."""
    heard: list[Message] = []
    while not heard or heard[-1]["type"] != "websocket.disconnect":
        heard.append(await receive())
    return heard


def request(method: str = "GET", path: str = "/", **headers: str) -> dict[str, Any]:
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": path, "query_string": b"", "headers": given}


def put(session: str = "a", file: str = "f", **headers: str) -> dict[str, Any]:
    return request("PUT", f"/_stcore/upload_file/{session}/{file}", **headers)


async def answered(one: Guard, scope: Scope, *messages: Message) -> tuple[int, str]:
    """The status and the text that a request is answered with; 200 where the app inside said nothing."""
    told = Told(*messages)
    await one(scope, told.receive, told.send)
    return (told.sent[0]["status"], told.sent[1]["body"].decode()) if told.sent else (200, "")


async def never(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


async def turns() -> None:
    """Whatever can go on does so."""
    for _ in range(20):
        await asyncio.sleep(0)


NAMES = (
    "set_run_on_save",
    "load_git_info",
    "nothing",
    "debug_disconnect_websocket",
    "debug_shutdown_runtime",
    "install_skills",
    "dismiss_skills_nudge",
    "file names",
    "a query",
)


UNSENT = (BackMsg(clear_cache=True), *map(BackMsg.FromString, itemgetter(*NAMES)(messages())))

"""The sessions of a server: how many there may be, and what ends them."""

from __future__ import annotations

import asyncio

from streamlit import config, runtime

from ..sharing.store import RESULTS
from ..sharing.tidying import tidy

MAX_KEPT = 100
"""Sessions whose connection was lost: Streamlit keeps 128, and forgets the oldest without a word where more are lost."""
LAST_RUN_SECONDS = 60.0
"""After which a session's last run has ended."""
LOST = {1005, 1006, 1011}
"""How a connection closes that nobody meant to close: without a word, or because nothing answered."""


class Sessions:
    """At most `most` sessions, of which `open` are connected.

    `kept` are those whose connection was lost, oldest first, each with the timer that ends it.
    """

    def __init__(self, most: int):
        self.most = most
        self.open = 0
        self.kept: dict[str, asyncio.TimerHandle] = {}

    def room(self) -> bool:
        """Whether there is room for one more session; of those whose connection was lost the oldest makes some."""
        if self.open + len(self.kept) >= self.most and self.kept:
            self.end(next(iter(self.kept)))
        return self.open + len(self.kept) < self.most

    def is_there(self, session: str) -> bool:
        """Whether a session has not ended: it has a connection, or may come back."""
        return session in self.kept or runtime.get_instance().is_active_session(session)

    def resumed(self, session: str) -> None:
        """A session has a connection, so that no timer ends it."""
        if timer := self.kept.pop(session, None):
            timer.cancel()

    def left(self, session: str, code: int) -> None:
        """The connection of a session was closed by a `code`: the session ends, or some time later where it was lost.

        Meanwhile it holds what the person brought, and little of what was made of that.
        """
        self.resumed(session)
        if code not in LOST:
            self.end(session)
            return
        if not runtime.get_instance().is_active_session(session):
            RESULTS.leave(session, ends=False)  # should it come back, they are made again
        # Streamlit looks for what is too old only when the next session is lost: so a second earlier.
        delay = max(0, config.get_option("server.disconnectedSessionTTL") - 1)
        self.kept[session] = asyncio.get_running_loop().call_later(delay, self.end, session)
        if len(self.kept) > MAX_KEPT:
            self.end(next(iter(self.kept)))

    def end(self, session: str) -> None:
        """Let go of a session and of what only it used, where it has no connection."""
        self.resumed(session)
        if runtime.get_instance().is_active_session(session):
            return
        known = runtime.get_instance()._session_mgr.get_session_info(session)
        runtime.get_instance().close_session(session)

        def let_go() -> None:
            RESULTS.leave(session)
            if known:  # else what the person brought stays until Python finds that the session is garbage
                known.session.session_state.clear()
                known.session._fragment_storage.clear()

        loop = asyncio.get_running_loop()
        for delay in (0, LAST_RUN_SECONDS):  # a run of its script may be under way
            loop.call_later(delay, let_go)
        tidy()

"""Connections of Dask's that nobody else on this machine can join: whoever connects says a secret before anything else.

Dask's own way is TLS, whose certificates take another package to make. Without either, everybody who has an account on this
machine could have their code run by whoever serves the app.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Any

from distributed.comm.registry import backends
from distributed.comm.tcp import TCP, BaseTCPBackend, TCPConnector, TCPListener
from tornado.iostream import IOStream, StreamClosedError

PROTOCOL = "guarded"
LENGTH = 32
"""Bytes of the secret."""


class Secret:
    """What this process says and wants to hear."""

    value = secrets.token_bytes(LENGTH)


class GuardedConnector(TCPConnector):
    """Says the secret."""

    prefix = f"{PROTOCOL}://"

    async def connect(self, address: str, deserialize: bool = True, **arguments: Any) -> TCP:
        comm: TCP = await super().connect(address, deserialize, **arguments)
        assert comm.stream is not None
        await comm.stream.write(Secret.value)
        return comm


class GuardedListener(TCPListener):
    """Closes a connection on which something else is said, unread."""

    prefix = f"{PROTOCOL}://"

    async def _prepare_stream(self, stream: IOStream, address: str) -> IOStream | None:
        try:
            said = await stream.read_bytes(LENGTH)
        except StreamClosedError:
            return None
        if not hmac.compare_digest(said, Secret.value):
            stream.close()
            return None
        return stream


class GuardedBackend(BaseTCPBackend):
    """The addresses that begin with guarded://."""

    _connector_class = GuardedConnector
    _listener_class = GuardedListener


backends[PROTOCOL] = GuardedBackend()

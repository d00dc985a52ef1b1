"""Connections under limits, below the application: slow ones, too many of them, floods of small messages."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode

from stylesdk.web.limits import Allowance, Limits

_PART = 2048  # bytes that are parsed before the allowance is looked at again


class Lobby:
    """Connections that have no place in the studio: each has only so long, and they are only so many."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.requests = Allowance(4 * limits.requests, time.monotonic())  # of all
        self._waiting: dict[asyncio.Transport, asyncio.TimerHandle] = {}  # the oldest first

    def enter(self, transport: asyncio.Transport) -> None:
        """Give ``transport`` the time of one request from now on; the oldest one gives way when there are too many."""
        self.leave(transport)
        loop = asyncio.get_running_loop()
        self._waiting[transport] = loop.call_later(self.limits.request, self._end, transport)
        if len(self._waiting) > self.limits.waiting:
            self._end(next(iter(self._waiting)))

    def leave(self, transport: asyncio.Transport) -> None:
        """``transport`` is gone, or has a place and all the time it likes."""
        if timer := self._waiting.pop(transport, None):
            timer.cancel()

    def _end(self, transport: asyncio.Transport) -> None:
        self.leave(transport)
        transport.abort()


class LimitedHttp(H11Protocol):
    """HTTP whose requests must be over in time, from the first byte of the connection to the last of the answer.

    Who asks for too much is hung up on: requests need no place, and those that are pipelined no patience.
    """

    def __init__(self, *args: Any, lobby: Lobby, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lobby = lobby
        self._requests = Allowance(lobby.limits.requests, time.monotonic())

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._lobby.enter(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lobby.leave(self.transport)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        now = time.monotonic()
        if self._requests.take(1, now) and self._lobby.requests.take(1, now):
            self._lobby.enter(self.transport)
        else:
            self.transport.abort()
        super().on_response_complete()


class Handshake(asyncio.Protocol):
    """TLS before HTTP: it waits in the lobby too, which asyncio's own handshakes do not."""

    def __init__(self, *, lobby: Lobby, context: ssl.SSLContext, server_state: ServerState, **options: Any) -> None:
        self._lobby, self._context, self._connections = lobby, context, server_state.connections
        self._http = LimitedHttp(lobby=lobby, server_state=server_state, **options)
        self._early = b""  # what comes with the last words of the handshake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)  # type: ignore[arg-type]
        self._lobby.enter(transport)
        self._work = asyncio.ensure_future(self._shake_hands())

    def data_received(self, data: bytes) -> None:
        self._early += data

    def shutdown(self) -> None:
        """The server stops."""
        self._transport.abort()

    async def _shake_hands(self) -> None:
        secure, limit = None, self._lobby.limits.request
        start_tls = asyncio.get_running_loop().start_tls
        try:
            secure = await start_tls(
                self._transport, self, self._context, server_side=True, ssl_handshake_timeout=limit
            )
        except (OSError, RuntimeError):  # no TLS, or the other side is gone
            self._transport.abort()
        finally:
            self._lobby.leave(self._transport)
            self._connections.discard(self)
        if secure and not self._transport.is_closing():
            secure.set_protocol(self._http)
            self._http.connection_made(secure)
            if self._early:
                self._http.data_received(self._early)


class LimitedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that takes only so many messages and bytes a second.

    The application says by ``scope["state"]["settle"]`` that the client has a place, by ``unsettle`` that it has
    none any more.
    """

    def __init__(self, *args: Any, lobby: Lobby, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lobby = lobby
        now = self.loop.time()
        self._messages = Allowance(lobby.limits.messages, now)
        self._bytes = Allowance(lobby.limits.rate, now)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.app_state["settle"] = lambda: self._lobby.leave(self.transport)
        self.app_state["unsettle"] = lambda: self._lobby.enter(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lobby.leave(self.transport)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse in small parts: a flood of tiny messages must not hold everyone else up."""
        good = self._bytes.take(len(data), self.loop.time())
        for start in range(0, len(data), _PART):
            if self.transport.is_closing():
                return
            if not good:
                self._too_much("bytes")
                return
            super().data_received(data[start : start + _PART])

    def handle_events(self) -> None:
        """Pass on what was parsed, when it is not too much."""
        if self._messages.take(len(self.conn.events), self.loop.time()):
            super().handle_events()
        else:
            self._too_much("messages")

    def _too_much(self, what: str) -> None:
        self.conn.fail(CloseCode.POLICY_VIOLATION, f"too many {what} a second")
        self.handle_parser_exception()

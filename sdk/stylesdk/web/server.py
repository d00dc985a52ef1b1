"""Bind, serve, stop."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from stylesdk.errors import SourceError
from stylesdk.web.connections import Handshake, LimitedHttp, LimitedWebSocket, Lobby
from stylesdk.web.guard import Door, is_loopback
from stylesdk.web.limits import Limits

_GRACE = 3  # seconds for connections to end when the server stops


@dataclass(frozen=True)
class Certificate:
    """PEM files for https."""

    file: Path
    key: Path


def bound(host: str, port: int) -> socket.socket:
    """A socket bound to ``host`` and ``port`` (0 takes a free one), not listening yet.

    Raises:
        SourceError: the port is taken or not allowed, or the host is not this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # IPv4 first: `localhost` is both, and browsers try both.
        family, kind, protocol, _, address = sorted(found, key=lambda entry: entry[0] != socket.AF_INET)[0]
        made = socket.socket(family, kind, protocol)
        try:
            if sys.platform == "win32":
                made.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            else:  # a port that was closed a moment ago can be had again
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            if sys.platform != "win32":
                made.listen()  # two may bind with SO_REUSEADDR; only one may listen
        except BaseException:
            made.close()
            raise
    except (OSError, OverflowError) as error:
        raise SourceError(
            f"{host}, port {port}: {getattr(error, 'strerror', None) or error}",
            expected="an address of this machine, and a port that no other program holds",
            do="stop the other program, or take another port: --port 8001",
        ) from error
    return made


def door_for(listening: socket.socket, host: str, token: str | None, tls: bool) -> Door:
    """The door of a bound socket: beyond this machine it always has a token."""
    chosen = token or ("" if is_loopback(host) else secrets.token_urlsafe(24))
    return Door(host, listening.getsockname()[1], chosen, tls)


class Server(uvicorn.Server):
    """uvicorn under our limits. It leaves signals to the caller, and stops when ``stop`` is set."""

    def __init__(
        self, app: ASGIApp, limits: Limits, stop: threading.Event, certificate: Certificate | None = None
    ) -> None:
        lobby = Lobby(limits)
        http: Callable[..., asyncio.Protocol] = partial(LimitedHttp, lobby=lobby)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.file, certificate.key)
            http = partial(Handshake, lobby=lobby, context=context)
        config = uvicorn.Config(
            app,
            http=http,  # type: ignore[arg-type]
            ws=partial(LimitedWebSocket, lobby=lobby),  # type: ignore[arg-type]
            ws_max_size=limits.message,
            ws_per_message_deflate=False,  # frames are compressed, and nothing small may become large
            h11_max_incomplete_event_size=16 << 10,
            timeout_graceful_shutdown=_GRACE,
            log_config=None,
            access_log=False,  # addresses have tokens in them
            server_header=False,
        )
        super().__init__(config)
        self._stop = stop

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to stop."""
        return await super().on_tick(counter) or self._stop.is_set()


def serve(
    app: ASGIApp,
    listening: socket.socket,
    limits: Limits,
    stop: threading.Event,
    certificate: Certificate | None = None,
) -> None:
    """Serve ``app`` on a bound socket until ``stop`` is set; the socket is closed then."""
    # Strangers' broken requests are not worth a line each.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    with listening:
        Server(app, limits, stop, certificate).run([listening])

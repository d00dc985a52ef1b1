"""The application: page, pictures, health, and a place in the studio over WebSocket or WebRTC."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from stylesdk import __version__
from stylesdk.live.styling import Look
from stylesdk.stylizer import Stylizer
from stylesdk.web.files import PAGE, config_file, page_files, picture_files
from stylesdk.web.guard import Door, Guard
from stylesdk.web.limits import FULL, TOO_BIG, Limits, Refusal
from stylesdk.web.messages import look_values
from stylesdk.web.studio import Studio
from stylesdk.web.thumbnails import thumbnails_from
from stylesdk.web.websocket import serve_websocket

if TYPE_CHECKING:
    from stylesdk.web.webrtc import Calls

_STATUS = {FULL: 503, TOO_BIG: 413}


def create_app(
    stylizer: Stylizer, door: Door, limits: Limits, page: Path = PAGE, look: Look | None = None
) -> Starlette:
    """The server's application. It uses ``stylizer`` until its lifespan ends; the caller closes it then.

    Args:
        stylizer: open; its thumbnails are made here, which also warms it up.
        door: address and token.
        limits: what clients may do.
        page: folder of the page's files.
        look: what every client begins with; its style is the stylizer's own.

    Raises:
        SourceError: no page in ``page``.
    """
    look = replace(look or Look(), style=stylizer.default_style, styles=stylizer.styles)
    told = {"max_side": limits.side, "max_bytes": limits.message}
    files = page_files(page) | picture_files(thumbnails_from(stylizer))
    studio = Studio(stylizer, limits.clients, limits.silent, look)
    codecs = ThreadPoolExecutor(min(os.cpu_count() or 1, 4), thread_name_prefix="stylesdk-codec")
    calls = _calls(studio, codecs, limits)
    transports = ["webrtc"] * (calls is not None) + ["websocket"]
    files["config.js"] = config_file(stylizer.styles, look_values(look), stylizer.backend, transports, told)

    async def file(request: Request) -> Response:
        found = files.get(request.path_params["name"])
        return found.answer(request) if found else PlainTextResponse("not found", 404)

    async def health(_: Request) -> Response:
        values = {"status": "ok", "version": __version__, "backend": studio.backend, "clients": studio.clients}
        return JSONResponse(values | {"places": studio.places, "frames": studio.frames})

    async def offer(request: Request) -> Response:
        try:
            if calls is None:
                raise Refusal(FULL, "no WebRTC: no package aiortc, or no network", "WebSocket")
            return JSONResponse(await calls.answer(await _body(request, limits)))
        except Refusal as refusal:
            return JSONResponse({"error": refusal.parts}, _STATUS.get(refusal.code, 400))
        except ClientDisconnect:
            return Response(None, 400)  # nobody reads it

    async def websocket(socket: WebSocket) -> None:
        await serve_websocket(socket, studio, codecs, limits)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        if calls is not None:
            await calls.close()
        studio.close()
        codecs.shutdown()

    routes = [
        Route("/healthz", health),
        WebSocketRoute("/ws", websocket),
        Route("/offer", offer, methods=["POST"]),
        Route("/{name:path}", file),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, door=door)], lifespan=lifespan)


def _calls(studio: Studio, codecs: ThreadPoolExecutor, limits: Limits) -> Calls | None:
    """WebRTC, where aiortc can be imported and there is an address to call."""
    try:
        from stylesdk.web.webrtc import Calls, has_addresses
    except ImportError as error:
        if (error.name or "").startswith("stylesdk"):
            raise
        return None
    return Calls(studio, codecs, limits) if has_addresses() else None


async def _body(request: Request, limits: Limits) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limits.offer:
            raise Refusal(TOO_BIG, "a body that does not end", f"{limits.offer} bytes at most")
    return bytes(body)

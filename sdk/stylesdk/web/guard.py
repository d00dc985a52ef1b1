"""Who is let in: by Host, Origin and token. And what browsers may do with what they get."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from stylesdk.web.limits import POLICY, Refusal
from stylesdk.web.websocket import refuse

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_CHANGES = frozenset({"/offer", "/ws"})  # what takes a place, and so must not be reached from other sites
_UNKNOWN = """<!doctype html><html lang="en"><meta charset="utf-8"><title>stylesdk: token needed</title>
<h1>This page needs a token</h1>
<p>Open the whole address that <code>stylesdk serve</code> printed when it was started.
It ends in <code>?token=</code> and the token. A restarted server prints a new one.</p></html>"""


@dataclass(frozen=True)
class Door:
    """What the server was started with.

    Args:
        host: address or name that it is bound to.
        port: its port.
        token: what clients must know; empty for none.
        tls: whether it speaks https.
    """

    host: str
    port: int
    token: str = ""
    tls: bool = False

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    @property
    def url(self) -> str:
        """What to open in a browser, token and all."""
        host = "localhost" if self.loopback else f"[{self.host}]" if ":" in self.host else self.host
        query = f"?token={self.token}" if self.token else ""
        return f"http{'s' * self.tls}://{host}:{self.port}/{query}"

    @property
    def cookie(self) -> str:
        """Its name: cookies know no ports, servers on one machine do."""
        return f"stylesdk-{self.port}"


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine, seen from itself."""
    address = _address(host)
    return host in _LOOPBACK or (address is not None and address.is_loopback)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


class Guard:
    """ASGI middleware that asks before ``app`` is."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in place of ``app``, or let it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self._refused(scope, headers)
        if scope["type"] == "websocket":
            if refused is None:
                await self._app(scope, receive, send)
            else:
                websocket = WebSocket(scope, receive, send)
                await websocket.accept()
                await refuse(websocket, Refusal(POLICY, *_WORDS[refused.status_code]))
            return
        app = self._app if refused is None else refused
        await app(scope, receive, lambda message: self._send(message, send, headers.get("host", "")))

    def _refused(self, scope: Scope, headers: Headers) -> Response | None:
        if not self._known_host(headers):
            return PlainTextResponse(". ".join(_WORDS[421]), 421)
        if scope["path"] in _CHANGES and not self._same_origin(headers):
            return PlainTextResponse(". ".join(_WORDS[403]), 403)
        if scope["path"] == "/healthz" or not self._door.token:
            return None
        if scope["path"] == "/" and scope["type"] == "http":
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if self._matches(given):
                return self._welcome()
        cookies = cookie_parser(headers.get("cookie", ""))
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if self._matches(cookies.get(self._door.cookie, "")) or self._matches(bearer):
            return None
        return HTMLResponse(_UNKNOWN, 401, {"WWW-Authenticate": "Bearer"})

    def _matches(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self._door.token.encode())

    def _welcome(self) -> Response:
        response = RedirectResponse("/", 303, {"Cache-Control": "no-store"})
        cookie = self._door.cookie
        response.set_cookie(cookie, self._door.token, httponly=True, samesite="strict", secure=self._door.tls)
        return response

    def _known_host(self, headers: Headers) -> bool:
        """Whether the request names this machine: another site's name that leads here does not count."""
        hosts = headers.getlist("host")
        try:
            host = urlsplit(f"//{hosts[0]}").hostname if len(hosts) == 1 else None
        except ValueError:
            host = None
        if not host:
            return False
        if is_loopback(host) or host == self._door.host.lower():
            return True
        # Bound to every address: any of them may be meant. A number cannot be led elsewhere by a name server.
        return not self._door.loopback and _address(host) is not None

    def _same_origin(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None:  # no browser
            return self._door.loopback or bool(self._door.token)
        return origin in (f"{scheme}://{headers['host']}" for scheme in ("http", "https"))

    async def _send(self, message: Message, send: Send, host: str) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            headers["Content-Security-Policy"] = _policy(host)
        await send(message)


def _policy(host: str) -> str:
    allowed: Mapping[str, str] = {
        "default-src": "'self'",
        # Safari before 15.4 does not take 'self' for a WebSocket.
        "connect-src": f"'self' ws://{host} wss://{host}",
        "img-src": "'self' blob: data:",
        "media-src": "'self' blob: data:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in allowed.items())


_WORDS = {
    401: ("no token, or another one", "the token that the server printed", "open the whole address that it printed"),
    403: ("another site's Origin", "the page of this server"),
    421: ("an unknown Host", "localhost or the server's own address", "open the address that the server printed"),
}

"""Who is let in: by Host, Origin and token. And what browsers may do with what they get."""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
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
_NAMED = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?")  # a Host that is a name or an IPv4 address
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
        return self.urls[0]

    @property
    def urls(self) -> list[str]:
        """Bound to every address, the machine is reached by its name, which a certificate has, and by its number."""
        if self.host in _LOOPBACK:  # other numbers of this machine, such as 127.0.0.2, are not called localhost
            hosts = ["localhost"]
        else:
            hosts = _hosts_of_this_machine(self.host) if _is_wildcard(self.host) else [self.host]
        query = f"?token={self.token}" if self.token else ""
        shown = (f"[{host}]" if ":" in host else host for host in hosts)
        return [f"http{'s' * self.tls}://{host}:{self.port}/{query}" for host in shown]

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


def _is_wildcard(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_unspecified


def _hosts_of_this_machine(wildcard: str) -> list[str]:
    """Its name, and the number by which it reaches others, where there is a network."""
    family, far = (socket.AF_INET6, "2001:db8::1") if ":" in wildcard else (socket.AF_INET, "192.0.2.1")
    hosts = [socket.gethostname()]
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))  # asks the system for the way there; nothing is sent
            hosts.append(probe.getsockname()[0])
    except OSError:
        pass
    return hosts


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
                await refuse(WebSocket(scope, receive, send), Refusal(POLICY, *_WORDS[refused.status_code]))
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
        # Lax: a strict cookie would be missing where the link was clicked on another site, in a mail or a chat.
        cookie = self._door.cookie
        response.set_cookie(cookie, self._door.token, httponly=True, samesite="lax", secure=self._door.tls)
        return response

    def _known_host(self, headers: Headers) -> bool:
        """Whether the request names this machine: another site's name that leads here does not count.

        With a token every name counts: the machine has names that it does not know, and another site's name that
        leads here brings no cookie, as browsers keep cookies by name.
        """
        hosts = headers.getlist("host")
        try:
            host = urlsplit(f"//{hosts[0]}").hostname if len(hosts) == 1 else None
        except ValueError:
            host = None
        if not host:
            return False
        if is_loopback(host) or host == self._door.host.lower():
            return True
        return bool(self._door.token) and (bool(_NAMED.fullmatch(hosts[0])) or _address(host) is not None)

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
        # Safari before 15.4 does not take 'self' for a WebSocket. A policy cannot name an IPv6 address.
        "connect-src": f"'self' ws://{host} wss://{host}" if _NAMED.fullmatch(host) else "'self'",
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

"""What a client may do, and how it is told that it did more."""

from __future__ import annotations

import json
from dataclasses import dataclass

from stylesdk.errors import StyleSDKError

NOT_A_FRAME, MALFORMED, POLICY, TOO_BIG, FAILED, FULL, IDLE = 1003, 1007, 1008, 1009, 1011, 1013, 1001


@dataclass(frozen=True)
class Limits:
    """Limits of the server.

    Args:
        clients: places, WebSocket and WebRTC together.
        side: longest side of a frame in pixels.
        pixels: of a frame.
        message: bytes of a WebSocket message, a frame in it.
        text: bytes of a text message.
        offer: bytes of a posted WebRTC offer.
        messages: WebSocket frames a second, control frames included; twice as many at once.
        rate: bytes a second of one connection; twice as many at once.
        sizes: changes of the frame size, at once and then in ten seconds: each may cost a runtime a new plan of memory.
        idle: seconds after which a client that sends nothing loses its place.
        silent: seconds after which one that sends no frame gives its place to a newcomer, where all are taken.
        stuck: seconds after which one that takes nothing loses its place.
        connect: seconds for a WebRTC client to connect after its offer; the page tries for 4.
        request: seconds for a whole request, to be given a place, and for the first frame over WebRTC.
        waiting: connections without a place; the oldest gives way to the next.
        requests: HTTP requests a second of one connection, and four times as many of all; twice as many at once.
        offers: WebRTC offers a second of all clients; twice as many at once.
    """

    clients: int = 4
    side: int = 1920
    pixels: int = 1920 * 1080
    message: int = 2 << 20
    text: int = 4096
    offer: int = 64 << 10
    messages: int = 120
    rate: int = 32 << 20
    sizes: int = 6
    idle: float = 60.0
    silent: float = 10.0
    stuck: float = 20.0
    connect: float = 5.0
    request: float = 15.0
    waiting: int = 64
    requests: int = 30
    offers: int = 8


class Refusal(Exception):  # noqa: N818 - an answer to a client, not an error of the server
    """The client did what it may not: it is told, and loses its place.

    Args:
        code: of the WebSocket's close.
        got: what came.
        expected: what should have come.
        do: what helps.
    """

    def __init__(self, code: int, got: str, expected: str = "", do: str = "") -> None:
        super().__init__(got)
        self.code = code
        self.parts = {"got": got, "expected": expected, "do": do}

    def message(self) -> str:
        """As JSON: ``{"error": {"code": ..., "got": ..., "expected": ..., "do": ...}}``."""
        return json.dumps({"error": {"code": self.code, **self.parts}})


def refusal_from(error: StyleSDKError, code: int = MALFORMED) -> Refusal:
    """An error of ours as the answer to a client."""
    parts = dict(line.split(": ", 1) for line in str(error).splitlines() if ": " in line)
    return Refusal(code, parts.get("got", ""), parts.get("expected", ""), parts.get("do this", ""))


class Allowance:
    """So much a second, and more than that at once (a token bucket).

    Args:
        rate: units a second.
        now: seconds, of the clock that ``take`` is told.
        at_once: units that may be used in one moment; None for twice ``rate``.
    """

    def __init__(self, rate: float, now: float, at_once: float | None = None) -> None:
        self._rate, self._at = rate, now
        self._most = self._left = 2 * rate if at_once is None else at_once

    def take(self, amount: float, now: float) -> bool:
        """Use ``amount``; False, and nothing is used, when there is not so much left."""
        self._left = min(self._left + (now - self._at) * self._rate, self._most)
        self._at = now
        if amount > self._left:
            return False
        self._left -= amount
        return True

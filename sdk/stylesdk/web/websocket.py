"""Frames as JPEG over a WebSocket."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from contextlib import suppress
from fractions import Fraction
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from stylesdk.live import clock
from stylesdk.live.sources import SourceFrame
from stylesdk.web.jpeg import frame_from_jpeg, jpeg_from_frame
from stylesdk.web.limits import FAILED, IDLE, POLICY, Allowance, Limits, Refusal
from stylesdk.web.messages import change_look, joined_frame, look_message, split_frame
from stylesdk.web.sessions import Newest, until_first
from stylesdk.web.studio import Studio, Styled

_MICROSECOND = Fraction(1, 1_000_000)
_GOODBYE = 2.0  # seconds for the last words to a client that may not listen


async def serve_websocket(websocket: WebSocket, studio: Studio, codecs: Executor, limits: Limits) -> None:
    """Style what one client sends, until it leaves or is refused.

    Args:
        websocket: not accepted yet.
        studio: where frames are styled.
        codecs: threads that decode and encode.
        limits: what the client may do.
    """
    state = websocket.scope.get("state", {})
    try:
        await websocket.accept()
        session = _Session(websocket, studio, codecs, limits)
        state.get("settle", _nothing)()
        try:
            await until_first(session.receive(), session.decode(), session.send(), session.tell())
        finally:
            session.leave()
            state.get("unsettle", _nothing)()
    except Refusal as refusal:
        await refuse(websocket, refusal)
    except WebSocketDisconnect:
        pass
    except RuntimeError:  # starlette's for each use of a socket that is gone
        if websocket.client_state is websocket.application_state is WebSocketState.CONNECTED:
            raise


async def refuse(websocket: WebSocket, refusal: Refusal) -> None:
    """Tell a client why, and close."""
    with suppress(WebSocketDisconnect, OSError, RuntimeError, asyncio.TimeoutError):  # it is gone, or does not listen
        await asyncio.wait_for(_say(websocket, refusal), _GOODBYE)


async def _say(websocket: WebSocket, refusal: Refusal) -> None:
    if websocket.client_state is WebSocketState.CONNECTING:
        await websocket.accept()
    if websocket.application_state is WebSocketState.CONNECTED:
        await websocket.send_text(refusal.message())
        await websocket.close(refusal.code, refusal.parts["got"][:100])


def _nothing() -> None:
    pass


class _Session:
    """One client that has a place: messages in, decoding, frames out and figures work side by side."""

    def __init__(self, websocket: WebSocket, studio: Studio, codecs: Executor, limits: Limits) -> None:
        self._websocket, self._studio, self._codecs, self._limits = websocket, studio, codecs, limits
        self._loop = asyncio.get_running_loop()
        self._received: Newest[tuple[float, bytes]] = Newest()
        self._styled: Newest[Styled | Exception] = Newest()
        self._seat = studio.enter(self._hand_over)
        self._start = clock.now()
        self._size: tuple[int, ...] = ()
        self._sizes = Allowance(limits.sizes / 10, self._start, at_once=limits.sizes)

    def leave(self) -> None:
        self._studio.leave(self._seat)

    def _hand_over(self, result: Styled | Exception) -> None:
        # In the studio's thread, mostly.
        self._loop.call_soon_threadsafe(lambda: self._count(self._styled.put(result)))

    def _count(self, dropped: bool) -> None:
        self._seat.figures.dropped += dropped

    async def receive(self) -> None:
        while True:
            try:
                message: dict[str, Any] = dict(await asyncio.wait_for(self._websocket.receive(), self._limits.idle))
            except asyncio.TimeoutError:
                raise Refusal(IDLE, f"nothing for {self._limits.idle:.0f} s", "frames", "connect again") from None
            if message["type"] == "websocket.disconnect":
                return
            if (data := message.get("bytes")) is not None:
                self._count(self._received.put((clock.now(), data)))
            else:
                change_look(self._seat.look, message["text"], self._limits)
                await self._websocket.send_text(look_message(self._seat.look))

    async def decode(self) -> None:
        while True:
            arrived, message = await self._received.take()
            number, jpeg = split_frame(message)
            image = await self._loop.run_in_executor(self._codecs, frame_from_jpeg, jpeg, self._limits)
            if image.shape != self._size and not self._sizes.take(1, arrived):
                raise Refusal(POLICY, "ever other frame sizes", f"{self._limits.sizes} in ten seconds at most")
            self._size = image.shape
            pts = round((arrived - self._start) / float(_MICROSECOND))
            self._studio.put(self._seat, number, SourceFrame(image, "", pts, _MICROSECOND, captured=arrived))

    async def send(self) -> None:
        while True:
            styled = await self._styled.take()
            if isinstance(styled, Refusal):
                raise styled
            if isinstance(styled, Exception):
                raise Refusal(FAILED, f"a frame that could not be styled ({type(styled).__name__})") from styled
            jpeg = await self._loop.run_in_executor(self._codecs, jpeg_from_frame, styled.image)
            age = clock.now() - styled.frame.captured
            message = joined_frame(styled.number, 1000 * age, jpeg)
            try:
                await asyncio.wait_for(self._websocket.send_bytes(message), self._limits.stuck)
            except asyncio.TimeoutError:
                got = f"a client that takes nothing for {self._limits.stuck:.0f} s"
                raise Refusal(POLICY, got, "one that reads what it is sent") from None
            self._seat.figures.sent(age)

    async def tell(self) -> None:
        while True:
            await asyncio.sleep(1)
            await self._websocket.send_text(self._seat.figures.message(clock.now(), self._studio.backend))

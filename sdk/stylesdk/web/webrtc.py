"""Frames as a WebRTC video track, there and back; looks and figures over a data channel."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from concurrent.futures import Executor
from typing import Any

import av
from aioice.ice import get_host_addresses
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError

from stylesdk.frames import Frame
from stylesdk.live import clock
from stylesdk.live.sources import SourceFrame
from stylesdk.web.jpeg import check_limits
from stylesdk.web.limits import FAILED, FULL, IDLE, MALFORMED, POLICY, Allowance, Limits, Refusal
from stylesdk.web.messages import change_look, look_message
from stylesdk.web.sessions import Newest, until_first
from stylesdk.web.studio import Studio, Styled
from stylesdk.web.vp8 import set_up_vp8

# Lines of an offer, more than a browser has: aiortc looks at each rtcp-fb for each rtpmap.
_LINES = {"": 600, "a=candidate": 64, "a=rtpmap": 100, "a=rtcp-fb": 200}
_GOODBYE = 2.0  # seconds for the last words

set_up_vp8()


def has_addresses() -> bool:
    """Whether this machine has an address but its own loopback: WebRTC has no use for that one."""
    return bool(get_host_addresses(use_ipv4=True, use_ipv6=True))


class Calls:
    """The WebRTC clients of a server.

    Args:
        studio: where frames are styled.
        codecs: threads that convert frames.
        limits: what a client may do.
    """

    def __init__(self, studio: Studio, codecs: Executor, limits: Limits) -> None:
        self._studio, self._codecs, self._limits = studio, codecs, limits
        self._tasks: set[asyncio.Task[None]] = set()
        self._offers = Allowance(limits.offers, clock.now())

    async def answer(self, offer: bytes) -> dict[str, str]:
        """Take a posted offer, ``{"sdp", "type"}``; returns the answer in the same form.

        Raises:
            Refusal: no such offer, too many of them, or all places taken.
        """
        if not self._offers.take(1, clock.now()):
            raise Refusal(FULL, "too many offers a second", f"{self._limits.offers} at most", "try again")
        description = _description(offer)
        call = _Call(self._studio, self._codecs, self._limits)
        try:
            answer = await asyncio.wait_for(call.answer(description), self._limits.request)
        except BaseException as error:
            await call.close()
            if isinstance(error, Refusal | asyncio.CancelledError):
                raise
            # Whatever a broken offer does to aiortc: it says ValueError, AssertionError, KeyError and more.
            raise Refusal(MALFORMED, f"an offer that cannot be answered ({type(error).__name__})", _OFFER) from None
        self._keep(call.run())
        return answer

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Hang up on everyone."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


_OFFER = '{"sdp": ..., "type": "offer"} with one VP8 video, sent and received, and a data channel'


def _description(offer: bytes) -> RTCSessionDescription:
    try:
        values = json.loads(offer)
        sdp, kind = values["sdp"], values["type"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise Refusal(MALFORMED, "a body that is no offer", _OFFER) from None
    if kind != "offer" or not isinstance(sdp, str):
        raise Refusal(MALFORMED, "a body that is no offer", _OFFER)
    lines = sdp.splitlines()
    for start, most in _LINES.items():
        if (found := sum(line.startswith(start) for line in lines)) > most:
            raise Refusal(MALFORMED, f"an offer of {found} lines {start}".strip(), f"{most} at most")
    media = [line for line in lines if line.startswith("m=")]
    videos = [line for line in media if line.startswith("m=video")]
    if len(videos) != 1 or len(media) > 2:
        raise Refusal(MALFORMED, f"an offer of {len(media)} media, {len(videos)} of them videos", _OFFER)
    return RTCSessionDescription(sdp, kind)


class _StyledTrack(MediaStreamTrack):  # type: ignore[misc]
    """The way back: the newest styled frame, whenever the sender asks for one."""

    kind = "video"

    def __init__(self, call: _Call) -> None:
        super().__init__()
        self._call = call

    async def recv(self) -> av.VideoFrame:
        return await self._call.next_frame()


class _Call:
    """One client: offer and answer, then frames and words until one side hangs up."""

    def __init__(self, studio: Studio, codecs: Executor, limits: Limits) -> None:
        self._studio, self._codecs, self._limits = studio, codecs, limits
        self._loop = asyncio.get_running_loop()
        self._received: Newest[tuple[float, av.VideoFrame]] = Newest()
        self._styled: Newest[Styled | Exception] = Newest()
        self._texts = Allowance(limits.messages, clock.now())
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._track: MediaStreamTrack | None = None
        self._channel: Any = None
        self._seat = studio.enter(self._hand_over)
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connection.on("track", self._on_track)
        self._connection.on("datachannel", self._on_channel)
        self._connection.on("connectionstatechange", self._on_state)

    async def answer(self, offer: RTCSessionDescription) -> dict[str, str]:
        both = self._connection.addTransceiver(_StyledTrack(self), direction="sendrecv")
        known = RTCRtpSender.getCapabilities("video").codecs
        both.setCodecPreferences([codec for codec in known if codec.mimeType.lower() in ("video/vp8", "video/rtx")])
        await self._connection.setRemoteDescription(offer)
        if self._track is None:
            raise Refusal(MALFORMED, "an offer whose video is not sent", _OFFER)
        await self._connection.setLocalDescription(await self._connection.createAnswer())
        ours = self._connection.localDescription
        return {"sdp": ours.sdp, "type": ours.type}

    async def run(self) -> None:
        """Until the client hangs up, or breaks a rule, of which it is told."""
        # The page has long tried another way by then, and must not find its own place taken.
        impatience = self._loop.call_later(self._limits.connect, self._end_unless_connected)
        try:
            await until_first(self._receive(), self._convert(), self._tell(), self._until_over())
        except Refusal as refusal:
            self._studio.leave(self._seat)
            await self._say(refusal.message())
        except MediaStreamError:
            pass
        finally:
            impatience.cancel()
            await asyncio.shield(self.close())

    async def close(self) -> None:
        self._studio.leave(self._seat)
        await self._connection.close()

    async def next_frame(self) -> av.VideoFrame:
        """The newest styled frame, with the time of the frame that came in."""
        styled = await self._styled.take()
        if isinstance(styled, Exception):
            error = f"a frame that could not be styled ({type(styled).__name__})"
            self._end(Refusal(FAILED, error))
            raise MediaStreamError
        frame = await self._loop.run_in_executor(self._codecs, _video_from_frame, styled.image)
        frame.pts, frame.time_base = styled.frame.pts, styled.frame.time_base
        self._seat.figures.sent(clock.now() - styled.frame.captured)
        return frame

    def _on_track(self, track: MediaStreamTrack) -> None:
        self._track = track

    def _on_channel(self, channel: Any) -> None:
        if channel.label == "control" and self._channel is None:
            self._channel = channel
            channel.on("message", self._on_message)

    def _on_message(self, message: str | bytes) -> None:
        try:
            if not self._texts.take(1, clock.now()):
                raise Refusal(POLICY, "too many messages a second", f"{self._limits.messages} at most")
            if isinstance(message, bytes):
                raise Refusal(MALFORMED, "bytes on the control channel", '{"look": {...}}')
            change_look(self._seat.look, message, self._limits)
            self._send(look_message(self._seat.look))
        except Refusal as refusal:
            self._end(refusal)

    def _on_state(self) -> None:
        if self._connection.connectionState in ("closed", "failed"):
            self._end(None)

    def _end_unless_connected(self) -> None:
        if self._connection.connectionState != "connected":
            self._end(None)

    def _end(self, refusal: Refusal | None) -> None:
        if self._over.done():
            return
        if refusal:
            self._over.set_exception(refusal)
        else:
            self._over.set_result(None)

    async def _until_over(self) -> None:
        await self._over

    def _hand_over(self, result: Styled | Exception) -> None:
        # In the studio's thread, mostly.
        if isinstance(result, Refusal):
            self._loop.call_soon_threadsafe(self._end, result)
        else:
            self._loop.call_soon_threadsafe(lambda: self._count(self._styled.put(result)))

    def _count(self, dropped: bool) -> None:
        self._seat.figures.dropped += dropped

    async def _receive(self) -> None:
        assert self._track is not None
        frames = Allowance(self._limits.messages, clock.now())
        wait = self._limits.request
        while True:
            try:
                frame = await asyncio.wait_for(self._track.recv(), wait)
            except asyncio.TimeoutError:
                raise Refusal(IDLE, f"no frame for {wait:.0f} s", "frames", "connect again") from None
            now, wait = clock.now(), self._limits.idle
            if not frames.take(1, now):
                raise Refusal(POLICY, "too many frames a second", f"{self._limits.messages} at most")
            self._count(self._received.put((now, frame)))

    async def _convert(self) -> None:
        number, size = 0, (0, 0)
        sizes = Allowance(self._limits.sizes / 10, clock.now(), at_once=self._limits.sizes)
        while True:
            arrived, frame = await self._received.take()
            check_limits(frame.height, frame.width, self._limits)
            if size != (frame.height, frame.width) and not sizes.take(1, arrived):
                raise Refusal(POLICY, "ever other frame sizes", f"{self._limits.sizes} in ten seconds at most")
            size = (frame.height, frame.width)
            image = await self._loop.run_in_executor(self._codecs, _frame_from_video, frame)
            source = SourceFrame(image, "", frame.pts, frame.time_base, captured=arrived)
            self._studio.put(self._seat, number, source)
            number += 1

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._send(self._seat.figures.message(clock.now(), self._studio.backend))

    def _send(self, text: str) -> None:
        # Nobody needs old words: a channel that is not open, or not read, gets none.
        if self._channel and self._channel.readyState == "open" and self._channel.bufferedAmount < self._limits.offer:
            self._channel.send(text)

    async def _say(self, text: str) -> None:
        """Last words: the channel may not be open yet, and what is sent has to leave before all is closed."""
        end = self._loop.time() + _GOODBYE
        while not self._channel and self._loop.time() < end:
            await asyncio.sleep(0.02)
        self._send(text)
        while self._channel and self._channel.bufferedAmount and self._loop.time() < end:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)  # what left the buffer is on its way


def _frame_from_video(frame: av.VideoFrame) -> Frame:
    found: Frame = frame.to_ndarray(format="bgr24")
    return found


def _video_from_frame(image: Frame) -> av.VideoFrame:
    # As the encoder wants it: converted here, not in the thread that all senders share.
    return av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format="yuv420p")

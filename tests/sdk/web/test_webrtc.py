"""WebRTC with a real peer: aiortc on the client's side too, over UDP of this machine."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import time
from collections.abc import Coroutine, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, rtcrtpreceiver
from aiortc.codecs.vpx import Vp8Encoder, vp8_depayload
from aiortc.jitterbuffer import JitterFrame
from aiortc.mediastreams import VIDEO_CLOCK_RATE, MediaStreamError, MediaStreamTrack
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from served import PATIENCE, Served, refused, served

from stylesdk.live.scene import render_frame
from stylesdk.web.limits import Limits
from stylesdk.web.vp8 import Backlog, monstrous

FPS = 15


class Camera(MediaStreamTrack):
    """One picture again and again."""

    kind = "video"

    def __init__(self, image: np.ndarray) -> None:
        super().__init__()
        self.image = image
        self.sent = 0

    async def recv(self) -> av.VideoFrame:
        await asyncio.sleep(1 / FPS)
        frame = av.VideoFrame.from_ndarray(self.image, format="bgr24")
        frame.pts, frame.time_base = self.sent * VIDEO_CLOCK_RATE // FPS, Fraction(1, VIDEO_CLOCK_RATE)
        self.sent += 1
        return frame


class Peer:
    """A browser as far as the server can tell: a camera, a control channel, and what came back."""

    def __init__(self, server: Served, image: np.ndarray) -> None:
        self.server, self.camera = server, Camera(image)
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.connection.addTrack(self.camera)
        self.channel = self.connection.createDataChannel("control")
        self.opened = asyncio.Event()
        self.channel.on("open", self.opened.set)
        self.messages: list[dict[str, Any]] = []
        self.channel.on("message", lambda text: self.messages.append(json.loads(text)))
        self.tracks: list[MediaStreamTrack] = []
        self.connection.on("track", self.tracks.append)

    async def connect(self) -> None:
        await self.connection.setLocalDescription(await self.connection.createOffer())
        ours = self.connection.localDescription
        answer = await self.post({"sdp": ours.sdp, "type": ours.type})
        assert answer.status_code == 200, answer.text
        await self.connection.setRemoteDescription(RTCSessionDescription(**answer.json()))

    async def post(self, offer: Any) -> httpx.Response:
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            return await client.post(self.server.url + "/offer", json=offer)

    async def frame_like(self, wanted: np.ndarray, tolerance: float) -> av.VideoFrame:
        """The first frame whose mean difference from ``wanted`` is at most ``tolerance`` of 255."""
        (track,), end, error = self.tracks, time.monotonic() + PATIENCE, np.inf
        while time.monotonic() < end:
            frame = await asyncio.wait_for(track.recv(), PATIENCE)
            image = frame.to_ndarray(format="bgr24")
            assert image.shape == wanted.shape
            error = np.abs(image.astype(float) - wanted).mean()
            if error <= tolerance:
                return frame
        pytest.fail(f"the nearest frame is {error:.1f} of 255 away")

    async def message(self, kind: str) -> Any:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for message in self.messages:
                if kind in message:
                    self.messages.remove(message)
                    return message[kind]
            await asyncio.sleep(0.02)
        pytest.fail(f"no {kind} in {self.messages}")

    async def close(self) -> None:
        await self.connection.close()

    async def until(self, state: str) -> None:
        """Wait until the connection is ``state``."""
        end = time.monotonic() + 3 * PATIENCE
        while self.connection.connectionState != state:
            assert time.monotonic() < end, self.connection.connectionState
            await asyncio.sleep(0.05)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 6 * PATIENCE))


@pytest.fixture(autouse=True)
def no_decoder_is_left() -> Iterator[None]:
    """aiortc has a thread for each track that it receives."""
    yield
    end = time.monotonic() + PATIENCE
    while left := [thread.name for thread in threading.enumerate() if thread.name.endswith("-decoder")]:
        assert time.monotonic() < end, left
        time.sleep(0.02)


@pytest.fixture
def picture() -> np.ndarray:
    return render_frame(0, 100, (240, 320))


def test_a_styled_track_comes_back(tmp_path: Path, picture: np.ndarray) -> None:
    async def call(server: Served) -> None:
        peer = Peer(server, picture)
        try:
            await peer.connect()
            await peer.frame_like(255.0 - picture, 8)
            await asyncio.wait_for(peer.opened.wait(), PATIENCE)
            peer.channel.send(json.dumps({"look": {"style": {"light": 1}}}))
            assert (await peer.message("look"))["style"] == {"light": 1}
            await peer.frame_like(np.full(picture.shape, 100.0), 4)
            figures = await peer.message("figures")
            while not figures["fps"]:
                figures = await peer.message("figures")
            assert figures["backend"] == "fake" and figures["age"] > 0
            assert server.health()["clients"] == 1
        finally:
            await peer.close()

    with served(tmp_path) as server:
        run(call(server))
        server.until(clients=0)


def test_frames_keep_their_time(tmp_path: Path, picture: np.ndarray) -> None:
    async def call(server: Served) -> None:
        peer = Peer(server, picture)
        try:
            await peer.connect()
            (track,) = peer.tracks
            times = [(await asyncio.wait_for(track.recv(), PATIENCE)).pts for _ in range(8)]
            steps = np.diff(times) / (VIDEO_CLOCK_RATE / FPS)  # in frames of the camera: some may be left out
            assert (steps > 0.5).all() and np.abs(steps - np.rint(steps)).max() < 0.01, times
        finally:
            await peer.close()

    with served(tmp_path) as server:
        run(call(server))


@pytest.mark.parametrize(
    ("limits", "text", "got"),
    [
        (Limits(connect=PATIENCE), '{"look": {"strength": 7}}', "strength"),
        (Limits(connect=PATIENCE), b"bytes", "bytes"),
        (Limits(side=200, connect=PATIENCE), None, "320x240"),
    ],
    ids=["no look", "bytes", "a large frame"],
)
def test_a_refusal_is_told_and_ends_the_call(
    tmp_path: Path, picture: np.ndarray, limits: Limits, text: str | bytes | None, got: str
) -> None:
    async def call(server: Served) -> None:
        peer = Peer(server, picture)
        try:
            await peer.connect()
            await asyncio.wait_for(peer.opened.wait(), PATIENCE)
            if text is not None:
                peer.channel.send(text)
            error = await peer.message("error")
            assert got in error["got"] and error["expected"] and error["code"] in (1007, 1009)
            server.until(clients=0)
        finally:
            await peer.close()

    with served(tmp_path, limits=limits) as server:
        run(call(server))


def test_places_are_shared_with_websockets(tmp_path: Path, picture: np.ndarray) -> None:
    async def call(server: Served) -> None:
        first, second = Peer(server, picture), Peer(server, picture)
        try:
            await first.connect()
            await second.connection.setLocalDescription(await second.connection.createOffer())
            ours = second.connection.localDescription
            answer = await second.post({"sdp": ours.sdp, "type": ours.type})
            assert answer.status_code == 503 and "1 places taken" in answer.json()["error"]["got"]
            with server.websocket() as client:
                assert refused(client)[0] == 1013
        finally:
            await first.close()
            await second.close()

    with served(tmp_path, limits=Limits(clients=1, connect=PATIENCE, silent=PATIENCE)) as server:
        run(call(server))
        server.until(clients=0)


def test_a_caller_that_never_connects_loses_its_place(tmp_path: Path, picture: np.ndarray) -> None:
    async def call(server: Served) -> None:
        peer = Peer(server, picture)
        try:
            await peer.connection.setLocalDescription(await peer.connection.createOffer())
            ours = peer.connection.localDescription
            assert (await peer.post({"sdp": ours.sdp, "type": ours.type})).status_code == 200
            assert server.health()["clients"] == 1
        finally:
            await peer.close()

    with served(tmp_path, limits=Limits(connect=1, request=10 * PATIENCE)) as server:
        run(call(server))
        server.until(clients=0)


def test_a_flood_of_offers_is_slowed_down(tmp_path: Path) -> None:
    with served(tmp_path, limits=Limits(offers=1)) as server:
        found = [server.post("/offer", content=b"{}") for _ in range(3)]
        assert [answer.status_code for answer in found[:2]] == [400, 400]
        while found[-1].status_code == 400:  # a machine so slow that another one was due
            found.append(server.post("/offer", content=b"{}"))
        assert found[-1].status_code == 503 and "offers" in found[-1].json()["error"]["got"]


def test_no_call_leaves_a_backlog() -> None:
    """aiortc's receiver waits for its decoder in the event loop, and so for what lies in this queue."""

    async def queue_of_a_receiver() -> Any:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        found = connection.addTransceiver("video").receiver._RTCRtpReceiver__decoder_queue
        await connection.close()
        return found

    backlog = asyncio.run(queue_of_a_receiver())
    assert isinstance(backlog, Backlog)
    for number in range(1000):
        backlog.put(number)
    assert 1 < backlog.qsize() < 100 and backlog.get() == 0
    backlog.put(None)
    assert backlog.get() is None
    with pytest.raises(queue.Empty):
        backlog.get_nowait()


def test_audio_is_not_taken(tmp_path: Path, picture: np.ndarray) -> None:
    async def call(server: Served) -> None:
        peer = Peer(server, picture)
        try:
            peer.connection.addTransceiver("audio")
            await peer.connection.setLocalDescription(await peer.connection.createOffer())
            ours = peer.connection.localDescription
            answer = await peer.post({"sdp": ours.sdp, "type": ours.type})
            assert answer.status_code == 400 and "3 media" in answer.json()["error"]["got"]
        finally:
            await peer.close()

    with served(tmp_path) as server:
        run(call(server))
        assert server.health()["clients"] == 0


def test_the_server_stops_in_the_middle_of_a_call(tmp_path: Path, picture: np.ndarray) -> None:
    async def call() -> None:
        with served(tmp_path) as server:
            peer = Peer(server, picture)
            await peer.connect()
            await peer.frame_like(255.0 - picture, 8)
        # The server is gone, and said so.
        await peer.until("closed")
        with pytest.raises(MediaStreamError):
            while True:
                await asyncio.wait_for(peer.tracks[0].recv(), PATIENCE)
        await peer.close()

    run(call())


def test_monsters_are_not_decoded(picture: np.ndarray) -> None:
    encoder = Vp8Encoder()
    frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
    frame.pts, frame.time_base = 0, Fraction(1, VIDEO_CLOCK_RATE)
    payloads, _ = encoder.encode(frame, force_keyframe=True)
    data = b"".join(vp8_depayload(payload) for payload in payloads)
    assert not monstrous(data)
    monster = data[:6] + (16383).to_bytes(2, "little") * 2 + data[10:]
    assert monstrous(monster)
    decoder = rtcrtpreceiver.get_decoder(RTCRtpCodecParameters("video/VP8", VIDEO_CLOCK_RATE))
    assert decoder.decode(JitterFrame(monster, 0)) == []
    (decoded,) = decoder.decode(JitterFrame(data, 0))
    assert (decoded.width, decoded.height) == (320, 240)

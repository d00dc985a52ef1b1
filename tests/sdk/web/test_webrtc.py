"""WebRTC with a real peer: aiortc on the client's side too, over UDP of this machine."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import VIDEO_CLOCK_RATE, MediaStreamTrack
from served import PATIENCE, Served, served

from stylesdk.live.scene import render_frame

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


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 3 * PATIENCE))


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
            await peer.connection.close()

    with served(tmp_path) as server:
        run(call(server))
        server.until(clients=0)

"""Chromium with a clip for a camera, a page in it that is watched, and the server behind it."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import httpx
import numpy as np
from playwright.sync_api import Browser, Page, Playwright, WebSocket

from installed import unavailable
from stylesdk.frames import Frame

# What a browser says of a server that is killed, gone, or has just begun to listen.
AWAY = ("ERR_CONNECTION", "ERR_EMPTY_RESPONSE", "ERR_INCOMPLETE", "ERR_ABORTED", "WebSocket connection")
PATIENCE = 60.0  # seconds, for anything that takes a moment on a machine that is not busy


def chromium(playwright: Playwright, *arguments: str) -> Browser:
    """A headless Chromium; skips where there is none, fails there under STYLESDK_REQUIRE_BROWSER=1."""
    named = [os.environ.get("STYLESDK_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    own = playwright.chromium.executable_path
    found = next((path for name in named if name and (path := shutil.which(name))), own if Path(own).exists() else None)
    if found is None:
        reason = "no Chromium: install one, name it in STYLESDK_CHROMIUM, or `playwright install chromium`"
        unavailable(reason)
    return playwright.chromium.launch(executable_path=found, args=["--no-sandbox", *arguments])


def camera_arguments(clip: Path) -> list[str]:
    """Chromium's arguments for a camera that everyone may use and that plays ``clip`` (.mjpeg or .y4m) for ever."""
    return [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={clip}",
    ]


def write_mjpeg(path: Path, frames: Sequence[Frame]) -> Path:
    """Frames as Chromium's fake camera reads them, at 30 a second."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
    path.write_bytes(b"".join(cv2.imencode(".jpg", frame, quality)[1].tobytes() for frame in frames))
    return path


def write_webm(path: Path, frames: list[Frame]) -> Path:
    """Frames at 25 a second, four times over, with a tone."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libvpx", rate=25, options={"deadline": "realtime", "crf": "4", "b": "4M"})
        video.height, video.width, video.pix_fmt = *frames[0].shape[:2], "yuv420p"
        audio = out.add_stream("libopus", rate=48000, layout="mono")
        for image in frames * 4:
            out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        out.mux(video.encode(None))
        seconds = np.arange(48000 * len(frames) * 4 // 25) / 48000
        tone = (0.5 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32)
        sound = av.AudioFrame.from_ndarray(tone[None], format="flt", layout="mono")
        sound.sample_rate, sound.pts = 48000, 0
        fifo = av.AudioFifo()
        fifo.write(sound)
        for part in fifo.read_many(960, partial=True):
            out.mux(audio.encode(part))
        out.mux(audio.encode(None))
    return path


def decoded(data: bytes) -> Frame:
    """BGR uint8 (H, W, 3) of a JPEG or PNG."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def distance(a: Frame, b: Frame) -> float:
    """Mean absolute difference, of 255; ``b`` is scaled to the size of ``a``."""
    if a.shape != b.shape:
        b = cv2.resize(b, (a.shape[1], a.shape[0]), interpolation=cv2.INTER_AREA)
    return float(np.abs(a.astype(np.int16) - b).mean())


def nearest(image: Frame, frames: Sequence[Frame]) -> float:
    """Distance to the frame of a clip that is most like ``image``."""
    return min(distance(image, frame) for frame in frames)


class Tab:
    """A page, what went wrong in it, and what its WebSocket carried.

    Chromium's script policy keeps ``wait_for_function`` out of the page: ``until`` asks from outside.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        page.set_default_timeout(1000 * PATIENCE)
        self.trouble: list[str] = []
        self.requests: list[str] = []
        self.sent: dict[int, bytes] = {}
        self.received: dict[int, bytes] = {}
        self.most_in_flight = 0
        page.on("console", lambda line: line.type in ("error", "warning") and self.trouble.append(line.text))
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("requestfailed", lambda request: self.trouble.append(f"{request.url}: {request.failure}"))
        page.on("response", lambda r: r.status >= 400 and self.trouble.append(f"{r.url}: {r.status}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", self._watch)

    def _watch(self, websocket: WebSocket) -> None:
        self.sent.clear()
        self.received.clear()
        websocket.on("framesent", self._sent)
        websocket.on("framereceived", self._received)

    def _sent(self, data: bytes | str) -> None:
        if isinstance(data, bytes):
            number = int.from_bytes(data[:4], "little")
            self.sent[number] = data[4:]
            self.most_in_flight = max(self.most_in_flight, number - max(self.received, default=0))

    def _received(self, data: bytes | str) -> None:
        if isinstance(data, bytes):
            self.received[int.from_bytes(data[:4], "little")] = data[8:]

    def until(self, what: Callable[[], Any], patience: float = PATIENCE) -> None:
        """Wait until ``what()`` holds."""
        end = time.monotonic() + patience
        while not what():
            assert time.monotonic() < end, (self.state, self.message, self.trouble)
            self.page.wait_for_timeout(100)

    @property
    def state(self) -> str | None:
        return self.page.get_attribute("body", "data-state")

    @property
    def message(self) -> str:
        return self.page.inner_text("#state")

    def start(self) -> None:
        """Press Start, and wait for the first styled frame."""
        self.page.click("#start")
        self.live()

    def live(self) -> None:
        self.until(lambda: self.state == "live")

    def pair(self) -> tuple[Frame, Frame]:
        """The newest frame that came back, as it went out and as it came."""
        self.until(lambda: self.sent.keys() & self.received.keys())  # none right after a new connection
        number = max(self.sent.keys() & self.received.keys())
        return decoded(self.sent[number]), decoded(self.received[number])

    def canvas(self) -> Frame:
        """What is drawn: BGR uint8 (H, W, 3)."""
        address = self.page.evaluate("document.getElementById('after').toDataURL('image/png')")
        return decoded(base64.b64decode(address.split(",")[1]))


def forgive(tab: Tab, *known: str) -> None:
    """Of the trouble in this tab, leave what is not one of ``known``."""
    tab.trouble = [line for line in tab.trouble if not any(part in line for part in known)]


class Server:
    """`stylesdk serve` in a process of its own, on a port that stays the same when it is started again."""

    def __init__(self, log: Path, *arguments: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://localhost:{self.port}/"
        self._log, self._arguments = log, arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        """Start, with more arguments where they are given, and wait until it answers."""
        command = [sys.executable, "-m", "stylesdk.cli", "serve", "--port", str(self.port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*command, *self._arguments, *arguments], stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE
        while not self._answers():
            assert time.monotonic() < end and self._process.poll() is None, self._log.read_text()
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=5).is_success
        except httpx.TransportError:
            return False

    @contextmanager
    def away(self) -> Iterator[None]:
        """Killed meanwhile; there again afterwards, whatever happened."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    def kill(self) -> None:
        """End it without a chance to say goodbye."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

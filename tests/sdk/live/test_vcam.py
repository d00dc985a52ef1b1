"""The virtual camera, through pyvirtualcam with a backend that keeps what it is sent."""

from __future__ import annotations

import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvirtualcam
from clips import ListSource

from stylesdk import Stylizer
from stylesdk.errors import SinkError
from stylesdk.live import open_sink, run_pipeline
from stylesdk.live.sources import SourceFrame


class Recorder:
    """A camera of the test's own: width, height, rate and format that it was opened with, and every frame."""

    opened: list[Recorder]

    def __init__(self, *, width: int, height: int, fps: float, fourcc: int, device: str | None) -> None:
        if device == "/dev/busy":
            raise RuntimeError("Virtual camera device /dev/busy could not be configured: Device or resource busy")
        if device == "/dev/none":
            raise RuntimeError("No v4l2 loopback device found at /dev/video[0-99].")
        self.size, self.fps, self.fourcc, self._device = (height, width), fps, fourcc, device or "first"
        self.frames: list[np.ndarray] = []
        self.times: list[float] = []
        self.closed = 0
        self.fails = False
        Recorder.opened.append(self)

    def send(self, frame: np.ndarray) -> None:
        if self.fails:
            raise RuntimeError("error writing frame")
        self.frames.append(frame.reshape(*self.size, 3).copy())
        self.times.append(time.monotonic())

    def close(self) -> None:
        self.closed += 1

    def device(self) -> str:
        return self._device

    def native_fourcc(self) -> int | None:
        return None


@pytest.fixture(autouse=True)
def only_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {})
    pyvirtualcam.register_backend("recorder", Recorder)
    Recorder.opened = []


def frame(image: np.ndarray, **times: Any) -> SourceFrame:
    return SourceFrame(image, "", **times)


def test_styled_frames_in_bgr_and_the_camera_goes_away(stylizer: Stylizer) -> None:
    source = ListSource(5, live=True)
    sink = open_sink("vcam", source)
    counts = run_pipeline(source, stylizer, sink)
    (camera,) = Recorder.opened
    assert (camera.size, camera.fps, camera.closed) == ((32, 48), 25.0, 1)
    assert camera.fourcc == pyvirtualcam.util.encode_fourcc(pyvirtualcam.PixelFormat.BGR.value)
    assert len(camera.frames) == counts.delivered >= 1
    assert {int(f[0, 0, 0]) for f in camera.frames} <= {255 - i for i in range(5)}

    blue = np.zeros((32, 48, 3), np.uint8)
    blue[..., 0] = 200
    sink = open_sink("vcam:/dev/video7", source)
    sink.write(blue, frame(blue))
    assert sink.name == "virtual camera /dev/video7"
    assert (Recorder.opened[1].frames[0] == blue).all()
    sink.close()
    sink.abort()
    assert Recorder.opened[1].closed == 1


def test_a_video_goes_out_at_its_own_speed(stylizer: Stylizer) -> None:
    source = ListSource(8)
    run_pipeline(source, stylizer, open_sink("vcam", source))
    (camera,) = Recorder.opened
    assert [int(f[0, 0, 0]) for f in camera.frames] == [255 - i for i in range(8)]
    assert camera.times[-1] - camera.times[0] >= 7 / 25 - 0.02


def test_live_frames_are_not_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("stylesdk.live.vcam.time.sleep", waits.append)
    sink = open_sink("vcam", ListSource(1, live=True))
    image = np.zeros((32, 48, 3), np.uint8)
    for seconds in (0, 60):
        sink.write(image, frame(image, pts=seconds, time_base=Fraction(1)))
    sink.close()
    assert waits == []
    assert len(Recorder.opened[0].frames) == 2


def test_every_frame_has_the_size_of_the_first() -> None:
    sink = open_sink("vcam", ListSource(1, live=True))
    for size in ((41, 61), (41, 61), (80, 40), (20, 30)):
        image = np.full((*size, 3), 200, np.uint8)
        sink.write(image, frame(image))
    sink.close()
    (camera,) = Recorder.opened
    assert camera.size == (40, 60)
    same, again, tall, small = camera.frames
    assert (same == 200).all() and (again == 200).all()  # an odd row and column less, nothing scaled
    assert (tall[:, 20:40] == 200).all() and not tall[:, :20].any() and not tall[:, 40:].any()
    assert (small == 200).all()


@pytest.mark.parametrize(
    ("device", "platform", "message"),
    [
        ("/dev/busy", "linux", r"resource busy(?s:.*)close the program that writes to it"),
        ("/dev/none", "linux", r"No v4l2 loopback(?s:.*)sudo modprobe v4l2loopback"),
        ("/dev/none", "win32", r"install OBS Studio"),
        ("/dev/none", "darwin", r"install OBS Studio(?s:.*)allow it in System Settings"),
    ],
)
def test_no_camera_to_be_had(monkeypatch: pytest.MonkeyPatch, device: str, platform: str, message: str) -> None:
    monkeypatch.setattr("sys.platform", platform)
    sink = open_sink(f"vcam:{device}", ListSource(1))
    image = np.zeros((32, 48, 3), np.uint8)
    with pytest.raises(SinkError, match=message):
        sink.write(image, frame(image))
    sink.abort()


def test_a_camera_that_fails_in_mid_run(stylizer: Stylizer) -> None:
    source = ListSource(8)
    source.before = lambda index: [setattr(camera, "fails", True) for camera in Recorder.opened]
    with pytest.raises(SinkError, match="error writing frame"):
        run_pipeline(source, stylizer, open_sink("vcam", source))
    assert (Recorder.opened[0].closed, source.closed) == (1, 1)


@pytest.mark.parametrize("kind", ["image", "images"])
def test_stills_are_refused(kind: Any) -> None:
    with pytest.raises(SinkError, match=r"(?s)a still.*-o window"):
        open_sink("vcam", ListSource(1, kind=kind))


@pytest.mark.skipif(sys.platform != "linux", reason="v4l2loopback is Linux's")
def test_the_command_line_says_what_to_do(tmp_path: Path) -> None:
    words = ["run", "test:64x48:3", "-o", "vcam:/dev/no-such-camera"]
    line = [sys.executable, "-m", "stylesdk.cli", *words]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, timeout=200, check=False)
    assert done.returncode == 1, done.stderr
    assert "sudo modprobe v4l2loopback" in done.stderr and "Traceback" not in done.stderr


def test_without_pyvirtualcam_the_extra_is_named(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["pyvirtualcam"] = None
from stylesdk.errors import MissingExtraError
from stylesdk.live import open_sink, open_source
source = open_source("test:64x48:3")
open_sink("null", source)  # nobody needs it for anything else
try:
    open_sink("vcam", source)
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert "pip install 'stylesdk[vcam]'" in done.stdout, done.stderr

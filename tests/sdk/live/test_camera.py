"""Cameras are found, asked, and say what they give. No camera is at hand: OpenCV's part is played."""

from __future__ import annotations

import itertools
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from stylesdk.errors import SourceError, SourceLostError
from stylesdk.live import camera as camera_module
from stylesdk.live import open_source, watchdog
from stylesdk.live.camera import is_camera
from stylesdk.live.sources import Source

MJPG, YUYV = cv2.VideoWriter.fourcc(*"MJPG"), cv2.VideoWriter.fourcc(*"YUYV")


class FakeCapture:
    """A USB 2 camera in OpenCV's clothes: 30 pictures a second, raw up to 640x480 and as JPEG up to 1280x720."""

    present = True
    pictures: int | None = None  # that it gives before it falls silent
    order: ClassVar[list[tuple[int, float]]] = []
    indices: ClassVar[list[int]] = []

    def __init__(self, index: int) -> None:
        FakeCapture.indices.append(index)
        self.size, self.code, self.left, self.open = (480, 640), YUYV, self.pictures, self.present
        self.pause = threading.Event()

    def isOpened(self) -> bool:  # noqa: N802
        return self.open

    def set(self, key: int, value: float) -> bool:
        FakeCapture.order.append((key, value))
        height, width = self.size
        if key == cv2.CAP_PROP_FOURCC:
            self.code = int(value)
        elif key == cv2.CAP_PROP_FRAME_WIDTH:
            width = int(value)
        elif key == cv2.CAP_PROP_FRAME_HEIGHT:
            height = int(value)
        raw = self.code != MJPG
        self.size = (min(height, 480 if raw else 720), min(width, 640 if raw else 1280))
        return True

    def get(self, key: int) -> float:
        height, width = self.size
        facts = {cv2.CAP_PROP_FRAME_WIDTH: width, cv2.CAP_PROP_FRAME_HEIGHT: height, cv2.CAP_PROP_FOURCC: self.code}
        return float(facts.get(key, 29.97 if key == cv2.CAP_PROP_FPS else -1))

    def read(self) -> tuple[bool, object]:
        self.pause.wait(0.01)
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                return False, None
        return True, np.full((*self.size, 3), 7, np.uint8)

    def release(self) -> None:
        self.open = False


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> type[FakeCapture]:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr(FakeCapture, "order", [])
    monkeypatch.setattr(FakeCapture, "indices", [])
    return FakeCapture


@pytest.fixture
def opened(capture: type[FakeCapture]) -> Iterator[Any]:
    sources: list[Source] = []

    def open_one(text: str, **wish: Any) -> Source:
        sources.append(open_source(text, **wish))
        return sources[-1]

    yield open_one
    for source in sources:
        source.close()


def test_camera_says_what_it_gives(opened: Any, caplog: pytest.LogCaptureFixture) -> None:
    source = opened("0")
    assert source.description == "camera 0: 640x480, 29.97 frames/s, YUYV"
    assert (source.live, source.kind, source.name, source.frames) == (True, "camera", "camera 0", None)
    assert float(source.fps) == pytest.approx(29.97, abs=1e-3)
    frame = next(iter(source))
    assert (frame.image.shape, frame.pts, frame.signal) == ((480, 640, 3), 0, True)
    assert FakeCapture.order == []
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("2@1280x720@30", {}),
        ("2@1280x720", {"fps": 30.0}),
        ("2", {"size": (720, 1280), "fps": 30}),
        ("2@1280x720@30", {"size": (1, 2), "fps": 99.0}),
    ],
)
def test_a_size_that_needs_jpeg_asks_for_it_first(
    opened: Any, text: str, wish: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    source = opened(text, **wish)
    assert source.description == "camera 2: 1280x720, 29.97 frames/s, MJPG"
    assert next(iter(source)).image.shape == (720, 1280, 3)
    assert FakeCapture.indices == [2]
    assert FakeCapture.order == [
        (cv2.CAP_PROP_FOURCC, MJPG),
        (cv2.CAP_PROP_FRAME_WIDTH, 1280),
        (cv2.CAP_PROP_FRAME_HEIGHT, 720),
        (cv2.CAP_PROP_FPS, 30),
    ]
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("0@320x240", "YUYV"),
        ("0@640x480@30", "YUYV"),
        ("0@60", "MJPG"),
        ("0@800x600", "MJPG"),
        ("0@640x360@15", "YUYV"),
    ],
)
def test_jpeg_is_asked_for_where_the_cable_needs_it(opened: Any, text: str, code: str) -> None:
    assert opened(text).description.endswith(f"29.97 frames/s, {code}")


@pytest.mark.parametrize(("text", "asked"), [("0@1920x1080", "1920x1080"), ("0@60", "60 frames/s")])
def test_another_answer_is_a_warning(opened: Any, text: str, asked: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        source = opened(text)
    assert source.description in caplog.text
    assert f"asked was {asked}" in caplog.text
    assert next(iter(source)).image.shape[1] == (1280 if "x" in text else 640)


@pytest.mark.parametrize("text", ["0@", "0@x", "0@0x480", "0@640x480x3", "camera:", "0@30@640x480", "0@0"])
def test_what_is_no_camera_gets_the_grammar(capture: type[FakeCapture], text: str) -> None:
    with pytest.raises(SourceError, match=r"(?s)got: camera .*expected: 0, 0@1280x720, .*camera:PART"):
        open_source(text)
    assert capture.indices == []


def test_what_is_a_camera() -> None:
    assert all(map(is_camera, ["0", "12", "0@60", "/dev/video1", "/dev/v4l/by-id/usb-a-index0", "camera:C920"]))
    assert not any(map(is_camera, ["0.png", "120@2x.png", "./0", "00a", "cameras", "/dev/sr0", "-1", "٣", ""]))


def test_camera_that_cannot_be_opened_says_what_to_check(
    capture: type[FakeCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "present", False)
    with pytest.raises(SourceError, match=r"(?s)camera 3.*check the cable.*close other video programs.*'test'"):
        open_source("3")


def test_no_camera_on_this_machine_says_what_to_check() -> None:
    """OpenCV itself, and a number that no machine has."""
    with pytest.raises(SourceError, match=r"(?s)camera 63, which cannot be opened.*do this: check the cable"):
        open_source("63")


def test_silent_camera_is_opened_again(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV only says False of a camera that was pulled out."""
    monkeypatch.setattr(watchdog, "_LATE", 0.2)
    monkeypatch.setattr(FakeCapture, "pictures", 3)
    source = opened("0")
    signals = []
    for frame in source:
        signals.append(frame.signal)
        assert frame.image.shape == (480, 640, 3)
        if len(FakeCapture.indices) == 2 and frame.signal:
            break
    assert False in signals
    assert signals[0] is signals[-1] is True


def test_failed_reads_are_a_loss_and_no_damage(
    opened: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Told by themselves, long before the time would tell."""
    monkeypatch.setattr(watchdog, "_LATE", 1000.0)
    monkeypatch.setattr(FakeCapture, "pictures", 3)
    source = opened("0")
    for frame in source:
        if len(FakeCapture.indices) == 2 and frame.signal:
            break
    assert source.damaged == 0
    assert "damaged" not in caplog.text and "camera 0 is lost (it ended)" in caplog.text


def test_a_camera_may_begin_with_nothing(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read, reads = FakeCapture.read, itertools.count()
    monkeypatch.setattr(FakeCapture, "read", lambda self: read(self) if next(reads) > 40 else (False, None))
    source = opened("0")
    assert next(iter(source)).signal and len(FakeCapture.indices) == 1


def test_macos_asks_its_user_in_the_main_thread(
    capture: type[FakeCapture], monkeypatch: pytest.MonkeyPatch, opened: Any
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    threads: list[threading.Thread] = []
    init = FakeCapture.__init__
    monkeypatch.setattr(
        FakeCapture, "__init__", lambda self, index: (threads.append(threading.current_thread()), init(self, index))[1]
    )
    opened("1")
    assert [thread is threading.main_thread() for thread in threads] == [True, False]
    monkeypatch.setattr(FakeCapture, "present", False)
    with pytest.raises(SourceError, match=r"(?s)camera 1.*answer the dialog.*then start again"):
        open_source("1")


def test_what_is_already_so_is_not_asked_for(opened: Any) -> None:
    opened("0@640x480")
    assert FakeCapture.order == []


def test_camera_that_vanished_is_given_up(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_LATE", 0.2)
    monkeypatch.setattr(FakeCapture, "pictures", 3)
    source = opened("0", give_up=1.0)
    monkeypatch.setattr(FakeCapture, "present", False)
    with pytest.raises(SourceLostError, match=r"camera 0, no frame for .*cannot be opened"):
        list(source)


def plug(sysfs: Path, number: int, name: str, index: int = 0) -> None:
    node = sysfs / f"video{number}"
    node.mkdir(parents=True)
    (node / "name").write_text(f"{name}\n")
    (node / "index").write_text(f"{index}\n")


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cameras, each with a node for metadata."""
    monkeypatch.setattr(camera_module, "_SYSFS", tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    for number, name in ((0, "Integrated Camera"), (2, "HD Pro Webcam C920")):
        plug(tmp_path, number, name)
        plug(tmp_path, number + 1, name, 1)
    return tmp_path


def test_camera_by_name(opened: Any, sysfs: Path) -> None:
    source = opened("camera:c920@1280x720")
    assert source.description == "camera c920: 1280x720, 29.97 frames/s, MJPG"
    assert FakeCapture.indices == [2]


def test_camera_comes_back_under_another_number(opened: Any, sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_LATE", 0.2)
    monkeypatch.setattr(FakeCapture, "pictures", 3)
    source = opened("camera:C920")
    (sysfs / "video2" / "name").unlink()
    plug(sysfs, 7, "HD Pro Webcam C920")
    for frame in source:
        if len(FakeCapture.indices) == 2 and frame.signal:
            break
    assert FakeCapture.indices == [2, 7]


@pytest.mark.parametrize(("part", "count"), [("logitech", 0), ("cam", 2)])
def test_name_of_none_or_many_lists_what_is_there(
    capture: type[FakeCapture], sysfs: Path, part: str, count: int
) -> None:
    message = rf"(?s){part}, which {count} cameras.*one of Integrated Camera \(camera 0\), .*C920 \(camera 2\)\n"
    with pytest.raises(SourceError, match=message):
        open_source(f"camera:{part}")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_camera_by_path(tmp_path: Path) -> None:
    (tmp_path / "video4").touch()
    links = tmp_path / "by-id"
    links.mkdir()
    (links / "usb-camera-index0").symlink_to(tmp_path / "video4")
    assert camera_module._index_of_path(links / "usb-camera-index0") == 4
    with pytest.raises(SourceError, match=r"(?s)nobody, no such camera.*one of .*usb-camera-index0"):
        camera_module._index_of_path(links / "nobody")
    with pytest.raises(SourceError, match="there is none"):
        open_source("/dev/v4l/by-nothing/nobody")


def test_names_are_linux_only(capture: type[FakeCapture], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SourceError, match=r"(?s)expected: a number.*on Linux only"):
        open_source("camera:FaceTime")

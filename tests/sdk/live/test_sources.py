"""One grammar, many sources; what cannot be read says so."""

from __future__ import annotations

import logging
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import make_clip

from stylesdk.errors import SourceError
from stylesdk.live import open_source
from stylesdk.live.camera import CameraSource
from stylesdk.live.hud import draw_hud
from stylesdk.live.sources import Source, SourceFrame, StillsSource


def write(path: Path, image: object) -> Path:
    assert cv2.imwrite(str(path), np.asarray(image))
    return path


def test_pattern_moves_keeps_time_and_ends() -> None:
    source = open_source("test:64x48:10")
    start = time.monotonic()
    frames = list(source)
    assert time.monotonic() - start >= 9 / 30
    assert (source.live, source.fps, source.frames, source.name) == (True, Fraction(30), 10, "test")
    assert [f.image.shape for f in frames] == [(48, 64, 3)] * 10
    assert [f.pts for f in frames] == list(range(10))
    assert all((a.image != b.image).any() for a, b in pairwise(frames))


@pytest.mark.parametrize(
    ("text", "size", "count"),
    [("test", (480, 640), None), ("test:7", (480, 640), 7), ("test:320x200", (200, 320), None)],
)
def test_pattern_grammar(text: str, size: tuple[int, int], count: int | None) -> None:
    source = open_source(text)
    assert (next(iter(source)).image.shape[:2], source.frames) == (size, count)


@pytest.mark.parametrize("text", ["nothing.jpg", "test:ax3", "no/*.png", "", "http:nowhere", "-1"])
def test_what_is_not_there(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError):
        open_source(text)


def test_missing_path_names_it_and_the_grammar() -> None:
    with pytest.raises(SourceError, match=r"(?s)got: 'nothing\.jpg', no such file.*expected: test, .*do this: "):
        open_source("nothing.jpg")


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((20, 30, 3), np.uint8), ((20, 30), np.uint8), ((20, 30, 4), np.uint8), ((20, 30, 3), np.uint16)],
)
def test_every_image_becomes_bgr(tmp_path: Path, shape: tuple[int, ...], dtype: type[np.integer]) -> None:
    full = np.full(shape, np.iinfo(dtype).max // 2, dtype)
    source = open_source(str(write(tmp_path / "größe 1.png", full)))
    frame = next(iter(source))
    assert (frame.image.shape, frame.image.dtype) == ((20, 30, 3), np.uint8)
    assert np.abs(frame.image.astype(int) - 127).max() <= 1
    assert (frame.name, frame.pts, source.kind, source.frames, source.live) == (
        "größe 1",
        None,
        "image",
        1,
        False,
    )


def test_photo_is_turned_upright_by_exif(tmp_path: Path) -> None:
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, :20] = 255
    data = cv2.imencode(".jpg", image)[1].tobytes()
    # Orientation 6: the camera was turned, the picture must be turned clockwise.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "a.jpg").write_bytes(data[:2] + segment + data[2:])
    upright = next(iter(open_source(str(tmp_path / "a.jpg")))).image
    assert upright.shape == (40, 20, 3)
    assert upright[:15].min() > 200
    assert upright[-15:].max() < 50


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n123"])
def test_one_broken_image_is_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(SourceError, match=r"a\.png, not a readable image"):
        list(open_source(str(tmp_path / "a.png")))


def test_broken_images_in_a_folder_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("b.png", "a.jpg", "d.webp"):
        write(tmp_path / name, np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "c.png").write_bytes(b"broken")
    (tmp_path / "notes.txt").write_text("not an image")
    source = open_source(str(tmp_path))
    assert isinstance(source, StillsSource)
    with caplog.at_level(logging.WARNING):
        assert [f.name for f in source] == ["a", "b", "d"]
    assert (source.skipped, source.frames, source.kind) == (1, 4, "images")
    assert "c.png" in caplog.text


def test_folder_with_only_broken_images_is_an_error(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"broken")
    with pytest.raises(SourceError, match="no readable image"):
        list(open_source(str(tmp_path)))


def test_glob_picks_and_sorts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x2", "x1", "y1"):
        write(tmp_path / f"{name}.png", np.zeros((8, 8, 3), np.uint8))
    assert [f.name for f in open_source(str(tmp_path / "x*.png"))] == ["x1", "x2"]
    monkeypatch.chdir(tmp_path)
    assert [f.name for f in open_source("?1.png")] == ["x1", "y1"]


def test_empty_folder_and_glob(tmp_path: Path) -> None:
    for text in (str(tmp_path), str(tmp_path / "*.png")):
        with pytest.raises(SourceError, match="no image in it"):
            open_source(text)


def test_video_knows_rate_and_length(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "v.mp4", times=range(12), base=Fraction(1, 25), last=1)
    source = open_source(str(clip))
    assert (source.kind, source.fps, source.frames, source.live, source.name) == ("video", 25, 12, False, "v")
    assert len(list(source)) == 12
    source.close()
    source.close()


class FakeCamera:
    """Three pictures, then silence."""

    opened = True

    def __init__(self, index: int) -> None:
        self.left, self.released = 3, 0

    def isOpened(self) -> bool:  # noqa: N802
        return self.opened

    def set(self, key: int, value: float) -> bool:
        return True

    def get(self, key: int) -> float:
        return 29.97

    def read(self) -> tuple[bool, object]:
        self.left -= 1
        return self.left >= 0, np.zeros((4, 6, 3), np.uint8) if self.left >= 0 else None

    def release(self) -> None:
        self.released += 1


def test_camera_knows_its_rate_and_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    source: Source = open_source("0")
    assert isinstance(source, CameraSource)
    assert (source.live, source.kind, source.name) == (True, "camera", "camera 0")
    assert source.fps is not None
    assert float(source.fps) == pytest.approx(29.97, abs=1e-3)
    frames = iter(source)
    first, second = next(frames), next(frames)
    assert first.pts == 0
    assert second.pts is not None
    assert 0 <= second.pts < 1_000_000


def test_lost_camera_shows_a_card_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three pictures, nothing, a card of the same size, then three pictures of the reopened camera."""
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    monkeypatch.setattr("stylesdk.live.camera._LOST", 0.1)
    monkeypatch.setattr("stylesdk.live.camera._CARD_EVERY", 0.01)
    frames = iter(open_source("0"))
    seen: list[SourceFrame] = []
    while sum(not frame.image.any() for frame in seen) < 6:  # the fake's pictures are black
        seen.append(next(frames))
    cards = [frame.image for frame in seen if frame.image.any()]
    assert all(card.shape == (4, 6, 3) for card in cards)
    times = [frame.pts or 0 for frame in seen]
    assert times == sorted(times)


def test_camera_that_stays_lost_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    source = open_source("0", give_up=0.2)
    monkeypatch.setattr(FakeCamera, "read", lambda self: (False, None))
    with pytest.raises(SourceError, match="no picture for"):
        list(source)


def test_camera_that_cannot_be_opened_says_what_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCamera, "opened", False)
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    with pytest.raises(SourceError, match=r"(?s)camera 3.*check the cable.*close other video programs"):
        open_source("3")


@pytest.mark.parametrize("size", [(1, 1), (8, 300), (48, 64), (480, 640), (2160, 3840)])
def test_hud_is_a_copy_and_fits(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 200, np.uint8)
    out = draw_hud(image, ["25.0 fps  640x480", "q quits"])
    assert (image == 200).all()
    assert out.shape == image.shape
    if min(size) >= 48:
        assert out.max() > 200 > out[4, 4].max()
        # Text ends inside the picture: its right edge and foot are untouched.
        assert (out[:, -1] == 200).all()
        assert (out[-1] == 200).all()

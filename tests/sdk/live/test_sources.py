"""One grammar, many sources; what cannot be read says so."""

from __future__ import annotations

import logging
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from clips import make_clip

from stylesdk.errors import SourceError
from stylesdk.live import open_source
from stylesdk.live.hud import draw_hud
from stylesdk.live.sources import StillsSource


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


@pytest.mark.parametrize(
    ("text", "wish", "message"),
    [
        ("test", {"size": (720, 1280)}, "a size of 1280x720 for 'test'"),
        ("demo", {"fps": 5.0}, "5 frames/s for 'demo'"),
        ("a.mp4", {"fps": 25.0}, "25 frames/s for 'a.mp4'"),
        ("tcp://127.0.0.1:9", {"size": (4, 6)}, "a size of 6x4"),
        ("screen", {"size": (4, 6)}, "a size of 6x4 for 'screen'"),
    ],
)
def test_what_has_a_size_or_rate_of_its_own_is_not_asked_for_another(
    text: str, wish: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=rf"(?s)got: {message}.*expected: a camera.*do this: leave"):
        open_source(text, **wish)


@pytest.mark.parametrize("wish", [{"fps": 0.0}, {"fps": -5.0}, {"fps": float("nan")}, {"size": (0, 640)}])
@pytest.mark.parametrize("text", ["0", "screen"])
def test_impossible_wishes(text: str, wish: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match=r"expected: .* 0\.1 to 1000"):
        open_source(text, **wish)


def test_error_lists_the_whole_grammar() -> None:
    words = ["test:WxH:N", "demo", "0@1280x720@60", "by-id", "camera:NAME", "rtsp://", "https://", "tcp://", "udp://"]
    with pytest.raises(SourceError) as caught:
        open_source("gopher://nowhere")
    assert all(word in str(caught.value) for word in [*words, "screen:X,Y,WxH", "an image", "a folder", "a glob"])


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

"""The test pattern: its grammar, its pace, and the stamp that survives whatever a frame goes through."""

from __future__ import annotations

import time
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from stylesdk import Stylizer
from stylesdk.backends.fake import FakeBackend
from stylesdk.errors import SourceError
from stylesdk.live import open_sink, run_pipeline
from stylesdk.live.pattern import PatternSource, pattern_from_text
from stylesdk.live.sources import SourceFrame
from stylesdk.live.stamp import Stamp, read_stamp, stamp_rows, write_stamp
from stylesdk.live.video import VideoSource


def pictures(size: str, count: int = 12) -> list[SourceFrame]:
    return list(pattern_from_text(f"test:{size}:{count}@max"))


def numbers(images: list[np.ndarray]) -> list[int | None]:
    stamps = [read_stamp(image) for image in images]
    return [stamp and stamp.index for stamp in stamps]


@pytest.mark.parametrize(
    ("text", "size", "count", "fps", "live"),
    [
        ("test", (480, 640), None, 30, True),
        ("test:7", (480, 640), 7, 30, True),
        ("test:320x200", (200, 320), None, 30, True),
        ("test:320x200:5", (200, 320), 5, 30, True),
        ("test@60", (480, 640), None, 60, True),
        ("test:320x200@29.97", (200, 320), None, Fraction("29.97"), True),
        ("test:320x200:5@max", (200, 320), 5, 30, False),
        ("test:5@0", (480, 640), 5, 30, False),
    ],
)
def test_grammar(text: str, size: tuple[int, int], count: int | None, fps: Fraction, live: bool) -> None:
    source = pattern_from_text(text)
    assert (source.frames, source.fps, source.live) == (count, fps, live)
    assert next(iter(source)).image.shape == (*size, 3)
    assert f"{size[1]}x{size[0]}" in source.description


@pytest.mark.parametrize(
    "text",
    ["test:ax3", "test:", "test@", "test@fast", "test:8x8", "test:9000x90", "test@1001", "test:1:2:3", "test:-1"],
)
def test_mistakes(text: str) -> None:
    with pytest.raises(SourceError, match="expected: "):
        pattern_from_text(text)


def test_paced_frames_are_captured_on_time_and_as_they_say() -> None:
    frames = list(pattern_from_text("test:160x120:9@100"))
    assert frames[-1].captured - frames[0].captured >= 8 / 100 - 0.001
    assert [f.seconds for f in frames] == pytest.approx([i / 100 for i in range(9)])
    for index, frame in enumerate(frames):
        stamp = read_stamp(frame.image)
        assert stamp is not None and stamp.index == index
        assert stamp.seconds == pytest.approx(frame.captured, abs=2e-6)


def test_unpaced_frames_wait_for_nobody() -> None:
    start = time.monotonic()
    frames = pictures("64x48", 300)
    assert len(frames) == 300 and time.monotonic() - start < 9, "300 frames at 30 a second would take 10 s"


@pytest.mark.parametrize("size", ["16x16", "17x64", "640x480"])
def test_every_frame_is_new_and_its_own(size: str) -> None:
    frames = pictures(size, 40)
    copies = [frame.image.copy() for frame in frames]
    below = stamp_rows(frames[0].image.shape[0])
    for a, b in pairwise(frames):
        assert (a.image[below:] != b.image[below:]).any() and not np.shares_memory(a.image, b.image)
    assert all((frame.image == copy).all() for frame, copy in zip(frames, copies, strict=True))


def test_pattern_goes_round_and_never_ends() -> None:
    source = PatternSource(32, 16, None, fps=Fraction(0))
    rows = stamp_rows(16)
    seen = [frame.image[rows:, :, :] for frame in islice(source, 200)]
    assert all(image.any() for image in seen)


# The stamp


@pytest.mark.parametrize("stamp", [Stamp(0, 0.0), Stamp(1, 123456.789012), Stamp(2**32 - 1, 2**47 / 1e6)])
def test_what_is_written_is_read(stamp: Stamp) -> None:
    image = np.full((120, 160, 3), 90, np.uint8)
    write_stamp(image, stamp)
    found = read_stamp(image)
    assert found is not None and found.index == stamp.index
    assert found.seconds == pytest.approx(stamp.seconds, abs=1e-6)
    assert (image[stamp_rows(120) :] == 90).all()


@pytest.mark.parametrize("size", ["64x48", "160x120", "641x479", "1920x1080", "123x457"])
def test_stamp_survives_jpeg(size: str) -> None:
    frames = pictures(size)
    coded = [cv2.imencode(".jpg", f.image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1] for f in frames]
    assert numbers([cv2.imdecode(data, cv2.IMREAD_COLOR) for data in coded]) == list(range(12))


@pytest.mark.parametrize("scale", [(0.5, 0.5), (0.9, 0.62), (1.31, 2.2)])
def test_stamp_survives_another_size(scale: tuple[float, float]) -> None:
    frames = pictures("320x240")
    resized = [cv2.resize(f.image, None, fx=scale[0], fy=scale[1]) for f in frames]
    assert numbers(resized) == list(range(12))


def test_stamp_survives_h264(tmp_path: Path) -> None:
    source = pattern_from_text("test:320x240:40@max")
    with Stylizer(backend=FakeBackend()) as stylizer:
        run_pipeline(source, stylizer, open_sink(str(tmp_path / "a.mp4"), source))
    video = VideoSource(tmp_path / "a.mp4")
    # Inverted, too: the fake's style is the negative.
    assert numbers([frame.image for frame in video]) == list(range(40))
    video.close()


@pytest.mark.parametrize("style", ["starry_night", "the_scream", "composition_vii", "wave", "udnie"])
def test_stamp_survives_a_style(style: str) -> None:
    with Stylizer(f"six:{style}", runtime="onnxruntime") as stylizer:
        for frame in pictures("640x480", 2):
            assert numbers([stylizer.run(frame.image, strength) for strength in (0.0, 0.5)]) == [frame.pts] * 2


def test_damage_is_noticed() -> None:
    image = pictures("240x120", 1)[0].image
    rows = stamp_rows(120)
    for place in range(0, 240, 10):  # the cells of the last row, one at a time
        damaged = image.copy()
        damaged[rows - 6 : rows, place : place + 10] = 255 - damaged[rows - 6 : rows, place : place + 10]
        assert read_stamp(damaged) is None
    faint = (image // 16 + 100).astype(np.uint8)
    shifted = np.roll(image, 10, axis=1)
    assert [read_stamp(faint), read_stamp(shifted), read_stamp(image[30:])] == [None] * 3


def test_pictures_without_a_stamp_have_none(frame: np.ndarray) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 120, 160, 3), np.uint8)
    assert [read_stamp(image) for image in (frame, np.zeros((1, 1, 3), np.uint8), *noise)] == [None] * 202

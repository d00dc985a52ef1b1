"""Clips of every kind through the pipeline: upright, in their colours, as long as before, sound with picture."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import read_clip
from flashes import MOMENTS, Seen, flash_clip, flash_picture, watch

from stylesdk import Stylizer
from stylesdk.live import Look, open_sink, open_source, run_pipeline
from stylesdk.live.sources import SourceFrame
from stylesdk.live.video import VideoSource
from stylesdk.live.video_sink import VideoSink

CLIPS = Path(__file__).parents[4] / "shared" / "assets" / "clips"
HEVC_QUIET = {"x265-params": "log-level=none"}


def copied(clip: Path, output: Path, stylizer: Stylizer) -> tuple[Seen, Seen]:
    """Run ``clip`` at strength 0, which gives the photo back."""
    source = open_source(str(clip))
    counts = run_pipeline(source, stylizer, open_sink(str(output), source), look=Look(strength=0.0))
    before, after = watch(clip), watch(output)
    assert counts.delivered == len(before.times) == len(after.times)
    assert {p.name for p in output.parent.iterdir()} == {clip.name, output.name}
    return before, after


def uneven_times() -> list[float]:
    rng, time, times = random.Random(5), 0.0, set(MOMENTS)
    while time < 1.75:
        times.add(time)
        time = round(time + rng.choice([0.01, 0.033, 0.05, 0.12]), 3)
    return sorted(times)


LATE_PICTURE = [0.4 + i / 25 for i in range(35)]
CUT: dict[str, Any] = {  # the first 0.4 s are in the file, and cut away by an edit list
    "shift": -0.4,
    "options": {"bf": "2", "g": "25"},
    "container_options": {"avoid_negative_ts": "disabled"},
}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "H.264 and AAC": (".mp4", ".mp4", {}),
    "to mkv": (".mp4", ".mkv", {}),
    "to mov": (".mp4", ".mov", {}),
    "to webm": (".mp4", ".webm", {}),
    "uneven times": (".mp4", ".mp4", {"times": uneven_times()}),
    "B-frames": (".mp4", ".mp4", {"options": {"bf": "3"}}),
    "portrait 90": (".mp4", ".mp4", {"rotation": 90}),
    "portrait 180": (".mp4", ".mp4", {"rotation": 180}),
    "portrait 270": (".mp4", ".mp4", {"rotation": 270}),
    "portrait to webm": (".mp4", ".webm", {"rotation": 90}),
    "10 bit H.264": (".mp4", ".mp4", {"pixels": "yuv420p10le"}),
    "10 bit HEVC": (".mp4", ".mp4", {"codec": "libx265", "pixels": "yuv420p10le", "options": HEVC_QUIET}),
    "odd size VP9": (".webm", ".mp4", {"codec": "libvpx-vp9", "size": (95, 127), "sound": "libopus"}),
    "odd size to webm": (".webm", ".webm", {"codec": "libvpx-vp9", "size": (95, 127), "sound": "libopus"}),
    "late sound": (".mp4", ".mp4", {"sound_span": (0.5, 1.8)}),
    "late sound to webm": (".mp4", ".webm", {"sound_span": (0.5, 1.8)}),
    "late picture": (".mp4", ".mp4", {"times": LATE_PICTURE, "sound_span": (0.0, 1.8)}),
    "late picture to mkv": (".mp4", ".mkv", {"times": LATE_PICTURE, "sound_span": (0.0, 1.8)}),
    "short sound": (".mp4", ".mp4", {"sound_span": (0.0, 1.2)}),
    "long sound": (".mp4", ".mp4", {"sound_span": (0.0, 2.4)}),
    "edit list": (".mp4", ".mp4", CUT),
    "edit list to mkv": (".mp4", ".mkv", CUT),
    "edit list to webm": (".mp4", ".webm", CUT),
    "clock from 5 s": (".mp4", ".mp4", {"shift": 5.0}),
    "raw sound": (".mkv", ".mp4", {"sound": "pcm_s16le"}),
    "FLAC": (".mkv", ".mp4", {"sound": "flac"}),
    "Opus": (".mkv", ".webm", {"sound": "libopus"}),
    "MP3 in AVI": (".avi", ".mp4", {"codec": "mpeg4", "sound": "libmp3lame"}),
    "no sound": (".mp4", ".mp4", {"sound": None}),
}


@pytest.mark.parametrize("case", CASES)
def test_picture_sound_and_times_are_those_of_the_source(tmp_path: Path, stylizer: Stylizer, case: str) -> None:
    suffix, out, options = CASES[case]
    before, after = copied(flash_clip(tmp_path / f"in{suffix}", **options), tmp_path / f"out{out}", stylizer)

    assert len(before.flashes) == len(after.flashes) == 3  # what is measured is there
    assert len(before.beeps) == {"no sound": 0, "short sound": 2}.get(case, 3)
    assert np.diff(after.times) == pytest.approx(np.diff(before.times), abs=0.0011)  # mkv and webm count in ms
    assert after.duration == pytest.approx(before.duration, abs=0.002)
    apart = [[beep - flash for flash, beep in zip(seen.flashes, seen.beeps, strict=False)] for seen in (before, after)]
    assert apart[1] == pytest.approx(apart[0], abs=0.005)
    assert len(after.beeps) == len(before.beeps)
    assert max(np.abs(apart[1]), default=0.0) < 0.04

    height, width = options.get("size", (96, 128))
    expected = np.rot90(flash_picture(False, (height, width)), options.get("rotation", 0) // 90)
    shown = after.first[: expected.shape[0], : expected.shape[1]].astype(int)
    rows, columns = expected.shape[:2]
    even = (rows + rows % 2, columns + columns % 2, 3)
    assert after.first.shape == (expected.shape if out == ".webm" else even)
    assert np.median(np.abs(shown - expected)) <= 4
    ends = (slice(4, 16), slice(-16, -4))
    for corner in itertools.product(ends, ends):  # they tell which way is up
        assert np.abs(shown[corner] - expected[corner]).mean() < 20


def test_sound_that_an_edit_list_cut_away_does_not_come_back(tmp_path: Path, stylizer: Stylizer) -> None:
    _, after = copied(flash_clip(tmp_path / "in.mp4", **CUT), tmp_path / "out.mkv", stylizer)
    assert after.times[0] < 0.05  # 0.4 s of cut sound before the first picture otherwise


@pytest.mark.parametrize("matrix", [1, 5, 6, 9], ids=["BT.709", "BT.601 PAL", "BT.601 NTSC", "BT.2020"])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize(
    ("codec", "pixels"), [("libx264", "yuv420p"), ("libx264", "yuv420p10le"), ("ffv1", "yuv420p")], ids=str
)
def test_colours_by_the_matrix_and_range_of_the_clip(
    tmp_path: Path, codec: str, pixels: str, matrix: int, full: bool
) -> None:
    def prepare(stream: av.VideoStream) -> None:
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full else 1

    clip = flash_clip(
        tmp_path / "a.mkv", times=[0.0], seconds=0.04, codec=codec, pixels=pixels, sound=None,
        options={"qp": "4"} if codec == "libx264" else {}, prepare=prepare,
    )  # fmt: skip
    with av.open(str(clip)) as file:
        frame = next(file.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (matrix, 2 if full else 1)
        expected = decoded_by_hand(frame, matrix, full)
    source = VideoSource(clip)
    image = next(iter(source)).image.astype(int)
    source.close()
    for row, column in ((12, 12), (12, 116), (70, 64)):  # red, green, grey
        assert image[row, column].tolist() == pytest.approx(expected[row, column].tolist(), abs=2)
    assert image[12, 12].tolist() == pytest.approx([30, 30, 200], abs=8)


def decoded_by_hand(frame: av.VideoFrame, matrix: int, full: bool) -> np.ndarray:
    """BGR float (H, W, 3) from the planes, as ITU-T H.273 defines it, chroma repeated."""
    depth, kind = (10, np.uint16) if "10" in frame.format.name else (8, np.uint8)
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width].astype(float)
        times = frame.width // plane.width
        planes.append(rows.repeat(times, 0).repeat(times, 1) / (1 << (depth - 8)))
    luma, blue, red = planes
    if not full:
        luma, blue, red = (luma - 16) * 255 / 219, (blue - 128) * 255 / 224 + 128, (red - 128) * 255 / 224 + 128
    kr, kb = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}.get(matrix, (0.299, 0.114))
    r, b = luma + 2 * (1 - kr) * (red - 128), luma + 2 * (1 - kb) * (blue - 128)
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    return np.clip(np.stack([b, g, r], -1), 0, 255)


@pytest.mark.parametrize(("size", "matrix"), [((576, 720), 6), ((544, 1280), 1), ((720, 576), 1)])
def test_clip_that_names_no_matrix_is_read_by_its_size(tmp_path: Path, size: tuple[int, int], matrix: int) -> None:
    clip = flash_clip(
        tmp_path / "a.mkv",
        times=[0.0],
        seconds=0.04,
        size=size,
        codec="ffv1",
        sound=None,
        prepare=lambda stream: setattr(stream.codec_context, "colorspace", 2),
    )
    with av.open(str(clip)) as file:
        expected = decoded_by_hand(next(file.decode(video=0)), matrix, full=False)
    source = VideoSource(clip)
    image = next(iter(source)).image.astype(int)
    source.close()
    assert np.abs(image - expected)[10:60, 10:60].max() <= 2


@pytest.mark.parametrize(("rotation", "pixel"), [(0, Fraction(16, 11)), (90, Fraction(11, 16))])
def test_pixels_that_are_not_square_stay_as_they_are(
    tmp_path: Path, stylizer: Stylizer, rotation: int, pixel: Fraction
) -> None:
    clip = flash_clip(
        tmp_path / "dv.mp4",
        rotation=rotation,
        prepare=lambda stream: setattr(stream.codec_context, "sample_aspect_ratio", Fraction(16, 11)),
    )
    copied(clip, tmp_path / "out.mkv", stylizer)
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert file.streams.video[0].sample_aspect_ratio == pixel


def test_hdr_is_read_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def prepare(stream: av.VideoStream) -> None:
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = 9, 9, 18

    clip = flash_clip(tmp_path / "a.mp4", times=[0.0], seconds=0.04, pixels="yuv420p10le", prepare=prepare)
    source = VideoSource(clip)
    assert len(list(source)) == 1
    source.close()
    assert "HDR (HLG)" in caplog.text


@pytest.mark.parametrize("name", ["carphone_pristine.mp4", "bigbuckbunny.mp4"])
def test_real_clip(tmp_path: Path, stylizer: Stylizer, name: str) -> None:
    if not (CLIPS / name).exists():
        pytest.skip("the real clips are not beside this checkout")
    source = open_source(str(CLIPS / name))
    run_pipeline(source, stylizer, open_sink(str(tmp_path / "out.mp4"), source), look=Look(strength=0.0))
    before, after = read_clip(CLIPS / name), read_clip(tmp_path / "out.mp4")
    assert after.times == pytest.approx(before.times, abs=1e-4)
    assert after.duration == pytest.approx(before.duration, abs=0.002)
    assert (after.sound, after.size) == (before.sound, before.size)
    assert after.sound_seconds == pytest.approx(before.sound_seconds, abs=0.03)


def test_frames_of_another_size_keep_their_shape(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "a.mp4", None, Fraction(25))
    for index, size in enumerate([(64, 128), (128, 64)]):
        image = np.full((*size, 3), 200, np.uint8)
        sink.write(image, SourceFrame(image, "", index, Fraction(1, 25)))
    sink.close()
    source = VideoSource(tmp_path / "a.mp4")
    tall = [f.image for f in source][1]
    source.close()
    # 32 of 128 columns are picture, the rest is black.
    assert tall[:, 52:76].min() > 180
    assert tall[:, :44].max() < 40 and tall[:, 84:].max() < 40

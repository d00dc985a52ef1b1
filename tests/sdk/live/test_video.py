"""Video in, video out: the same frames at the same times with the same sound, whatever the clip is like."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import RATE, TONE, Clip, make_clip, picture, read_clip

from stylesdk import Stylizer
from stylesdk.errors import SinkError, SourceError
from stylesdk.live import open_sink, open_source, run_pipeline
from stylesdk.live.encoder import Encoder
from stylesdk.live.sources import SourceFrame
from stylesdk.live.video import VideoSource
from stylesdk.live.video_sink import VideoSink


def styled(clip: Path, output: Path, stylizer: Stylizer) -> tuple[Clip, Clip]:
    source = open_source(str(clip))
    counts = run_pipeline(source, stylizer, open_sink(str(output), source))
    before, after = read_clip(clip), read_clip(output)
    assert counts.delivered == len(before.times)
    assert [p.name for p in output.parent.iterdir() if "part" in p.name] == []
    return before, after


def test_ten_seconds_with_sound(tmp_path: Path, stylizer: Stylizer) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=range(250), base=Fraction(1, 25), last=1, sound="aac")
    before, after = styled(clip, tmp_path / "out.mp4", stylizer)
    assert after.times == pytest.approx(before.times, abs=1e-4)
    assert after.duration == pytest.approx(10.0, abs=0.001)
    assert (after.sound, after.rate, after.codec) == ("aac", RATE, "h264")
    assert after.sound_seconds == pytest.approx(before.sound_seconds, abs=0.001)
    assert after.tone == pytest.approx(TONE, abs=1)


def test_ntsc_rate_stays_exact(tmp_path: Path, stylizer: Stylizer) -> None:
    base = Fraction(1001, 30000)
    clip = make_clip(tmp_path / "in.mp4", times=range(90), base=base, last=1, sound="aac")
    before, after = styled(clip, tmp_path / "out.mp4", stylizer)
    assert after.times == pytest.approx([float(i * base) for i in range(90)], abs=1e-6)
    assert after.duration == pytest.approx(before.duration, abs=1e-6)


def test_variable_times_and_odd_size(tmp_path: Path, stylizer: Stylizer) -> None:
    steps = np.random.default_rng(1).integers(1, 120, 60)
    times = [int(t) for t in np.cumsum(steps)]
    times = [t - times[0] for t in times]
    clip = make_clip(
        tmp_path / "in.mkv",
        times=times,
        base=Fraction(1, 1000),
        last=700,
        size=(67, 91),
        codec="ffv1",
        sound="aac",
    )
    before, after = styled(clip, tmp_path / "out.mp4", stylizer)
    assert before.times == pytest.approx([t / 1000 for t in times], abs=1e-6)
    assert after.times == pytest.approx(before.times, abs=1e-6)
    assert after.size == (68, 92)
    # A player shows the last frame for its own 0.7 s.
    assert after.duration == pytest.approx(times[-1] / 1000 + 0.7, abs=0.002)


@pytest.mark.parametrize(
    ("suffix", "sound", "expected"),
    [
        (".mkv", "pcm_s16le", "pcm_s16le"),
        (".mov", "pcm_s16le", "pcm_s16le"),
        (".mp4", "pcm_s16le", "aac"),
        (".mkv", "aac", "aac"),
        (".webm", "aac", "opus"),
    ],
)
def test_sound_is_copied_or_encoded(tmp_path: Path, stylizer: Stylizer, suffix: str, sound: str, expected: str) -> None:
    clip = make_clip(tmp_path / "in.mkv", times=range(0, 2000, 40), base=Fraction(1, 1000), last=40, sound=sound)
    before, after = styled(clip, tmp_path / f"out{suffix}", stylizer)
    assert (after.sound, len(after.times)) == (expected, 50)
    assert after.codec == ("vp9" if suffix == ".webm" else "h264")
    assert after.rate == (48000 if expected == "opus" else RATE)
    assert after.sound_seconds == pytest.approx(before.sound_seconds, abs=0.05)
    assert after.tone == pytest.approx(TONE, abs=1)
    assert after.times == pytest.approx(before.times, abs=0.0011)


def test_clip_that_starts_late_keeps_picture_and_sound_together(tmp_path: Path, stylizer: Stylizer) -> None:
    # MPEG-TS clocks start where they like: here at three seconds.
    clip = make_clip(tmp_path / "in.ts", times=range(75, 125), base=Fraction(1, 25), last=1, sound="aac")
    with av.open(str(clip)) as file:
        assert file.start_time and file.start_time > 2 * av.time_base
        apart = file.streams.video[0].start_time - file.streams.audio[0].start_time
        apart = float(apart * file.streams.video[0].time_base)
    source = open_source(str(clip))
    run_pipeline(source, stylizer, open_sink(str(tmp_path / "out.mp4"), source))
    with av.open(str(tmp_path / "out.mp4")) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        start = float(video.start_time * video.time_base)
        assert start - float(audio.start_time * audio.time_base) == pytest.approx(apart, abs=0.002)
        assert start < 0.2
        assert len(list(file.decode(video))) == 50


def test_colours_are_kept(tmp_path: Path) -> None:
    colours = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (128, 128, 128), (20, 230, 240)]
    image = np.repeat(np.array(colours, np.uint8)[None], 64, 0).repeat(32, 1)
    sink = VideoSink(tmp_path / "a.mp4", None, Fraction(25))
    sink.write(image, SourceFrame(image))
    sink.close()
    out = next(iter(VideoSource(tmp_path / "a.mp4"))).image
    for i, colour in enumerate(colours):
        assert out[32, 32 * i + 16].tolist() == pytest.approx(list(colour), abs=5)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_video_comes_upright(tmp_path: Path, degrees: int) -> None:
    turned = make_clip(tmp_path / "t.mp4", times=[0, 1], base=Fraction(1, 25), last=1, rotation=degrees)
    source = VideoSource(turned)
    image = next(iter(source)).image
    source.close()
    expected = np.rot90(picture(0, (96, 128)), degrees // 90)  # both turn counter-clockwise
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 6


def test_frames_of_changing_size_take_the_first_size(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "a.mp4", None, Fraction(25))
    for index, size in enumerate([(48, 64), (96, 128), (20, 30)]):
        image = np.full((*size, 3), 100, np.uint8)
        sink.write(image, SourceFrame(image, "", index, Fraction(1, 25)))
    sink.close()
    assert (read_clip(tmp_path / "a.mp4").size, len(read_clip(tmp_path / "a.mp4").times)) == ((48, 64), 3)


def test_times_that_repeat_or_run_backwards_are_put_in_order(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "a.mp4", None, Fraction(25))
    image = np.zeros((32, 32, 3), np.uint8)
    for pts in (0, 1, 1, 0, 5, None):
        sink.write(image, SourceFrame(image, "", pts, Fraction(1, 25)))
    sink.close()
    assert read_clip(tmp_path / "a.mp4").times == pytest.approx([0, 0.04, 0.08, 0.12, 0.2, 0.24])


def test_incomplete_video_is_playable_and_its_sound_ends_with_it(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=range(100), base=Fraction(1, 25), last=1, sound="aac")
    source = open_source(str(clip))
    sink = open_sink(str(tmp_path / "out.mp4"), source)
    for frame, _ in zip(source, range(30), strict=False):
        sink.write(frame.image, frame)
    sink.close(complete=False)
    source.close()
    after = read_clip(tmp_path / "out.mp4")
    assert len(after.times) == 30
    assert after.duration == pytest.approx(1.2, abs=0.001)
    assert after.sound_seconds == pytest.approx(1.2, abs=0.06)


def test_abort_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"old")
    sink = VideoSink(tmp_path / "a.mp4", None, Fraction(25))
    image = np.zeros((32, 32, 3), np.uint8)
    sink.write(image, SourceFrame(image))
    sink.abort()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.mp4", b"old")]


def test_damaged_clip_gives_the_frames_that_can_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip = make_clip(tmp_path / "in.mkv", times=range(0, 2000, 40), base=Fraction(1, 1000), last=40)
    data = bytearray(clip.read_bytes())
    clip.write_bytes(data[: len(data) * 2 // 3])
    frames = list(VideoSource(clip))
    assert 10 < len(frames) < 50


@pytest.mark.parametrize("content", [b"", b"only text\n" * 50, b"\x00\x00\x00\x18ftypmp42" + bytes(200)])
def test_not_a_video(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(SourceError, match="expected: a video or image file"):
        open_source(str(tmp_path / "a.mp4"))
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(SourceError, match="expected: a video or image file"):
        open_source(str(tmp_path / "a.txt"))


def test_sound_without_picture_is_not_a_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.wav"), "w") as out:
        track = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        out.mux(track.encode(frame))
    with pytest.raises(SourceError, match="without a picture track"):
        open_source(str(tmp_path / "a.wav"))


def test_missing_encoder_is_known_before_work_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stylesdk.live.video_sink.VP9", Encoder("no-such-encoder"))
    with pytest.raises(SinkError, match="an FFmpeg with no-such-encoder"):
        VideoSink(tmp_path / "a.webm", None, Fraction(25))
    assert list(tmp_path.iterdir()) == []


def test_opencv_reads_what_we_write(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "a.mp4", None, Fraction(25))
    for index in range(5):
        image = picture(index, (64, 96))
        sink.write(image, SourceFrame(image, "", index, Fraction(1, 25), 1))
    sink.close()
    reader = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    count = 0
    while reader.read()[0]:
        count += 1
    reader.release()
    assert count == 5

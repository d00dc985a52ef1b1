"""Which encoder is taken, and what happens when it fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import picture, read_clip

from stylesdk.errors import SinkError
from stylesdk.live import encoder as encoders
from stylesdk.live.encoder import Encoder, choose_encoder, why_not
from stylesdk.live.sources import SourceFrame
from stylesdk.live.video import VideoSource
from stylesdk.live.video_sink import VideoSink

BROKEN = {"preset": "no such preset"}


@pytest.fixture(autouse=True)
def tried_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("STYLESDK_ENCODER", raising=False)
    why_not.cache_clear()
    yield
    why_not.cache_clear()


def only(monkeypatch: pytest.MonkeyPatch, *those: Encoder) -> None:
    monkeypatch.setattr(encoders, "_H264", {e.name: e for e in those})


def pictures(sink: VideoSink, count: int) -> None:
    for index in range(count):
        image = picture(index, (64, 96))
        sink.write(image, SourceFrame(image, "", index, Fraction(1, 25), 1))


def test_the_real_trial_finds_one_that_works_without_a_word(tmp_path: Path) -> None:
    script = "from stylesdk.live.encoder import choose_encoder, why_not, _H264\n"
    script += "print(choose_encoder().name)\nfor name in _H264: why_not(name)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert why_not(done.stdout.strip()) is None
    assert why_not("libx264") is None


def test_each_encoder_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    real = encoders._try_to_encode

    def count(encoder: Encoder) -> str | None:
        tried.append(encoder.name)
        return real(encoder)

    monkeypatch.setattr(encoders, "_try_to_encode", count)
    assert choose_encoder().name == choose_encoder().name
    assert len(tried) == len(set(tried)) > 0


def test_hardware_that_works_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "_try_to_encode", lambda encoder: None if encoder.name == "h264_qsv" else "no")
    assert choose_encoder().name == "h264_qsv"
    with pytest.raises(SinkError, match=r"(?s)neither H.264 nor MPEG-4.*use .webm"):
        choose_encoder(hardware=False)


def test_without_libx264_another_one_is_taken_and_keeps_the_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = encoders._try_to_encode
    monkeypatch.setattr(encoders, "_try_to_encode", lambda e: real(e) if e.name == "mpeg4" else "not in this FFmpeg")
    sink = VideoSink(tmp_path / "a.mp4", None, Fraction(25))
    assert sink.encoder == "mpeg4"
    for index in range(10):  # microseconds, as a camera counts; MPEG-4 cannot
        image = picture(index, (64, 96))
        sink.write(image, SourceFrame(image, "", 33_367 * index, Fraction(1, 1_000_000)))
    sink.close()
    clip = read_clip(tmp_path / "a.mp4")
    assert (clip.codec, len(clip.times)) == ("mpeg4", 10)
    assert clip.times == pytest.approx([0.033367 * i for i in range(10)], abs=1e-4)
    source = VideoSource(tmp_path / "a.mp4")
    assert np.abs(next(iter(source)).image.astype(int) - picture(0, (64, 96))).mean() < 4
    source.close()


def test_what_the_environment_names_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLESDK_ENCODER", "mpeg4")
    assert VideoSink(tmp_path / "a.mp4", None, Fraction(25)).encoder == "mpeg4"
    assert VideoSink(tmp_path / "a.mp4", None, Fraction(25), encoder="libx264").encoder == "libx264"
    assert VideoSink(tmp_path / "a.webm", None, Fraction(25)).encoder == "libvpx-vp9"
    monkeypatch.setenv("STYLESDK_ENCODER", "x265")
    with pytest.raises(SinkError, match=r"(?s)encoder 'x265'.*expected: h264_nvenc.*unset STYLESDK_ENCODER"):
        VideoSink(tmp_path / "a.mp4", None, Fraction(25))
    # One that no machine has under two systems at once.
    absent = "h264_videotoolbox" if sys.platform != "darwin" else "h264_mf"
    with pytest.raises(SinkError, match=rf"encoder {absent}, which does not work here: this FFmpeg does not have it"):
        choose_encoder(absent)


def test_settings_that_no_encoder_takes_are_found_by_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, Encoder("libx264", options=BROKEN), Encoder("mpeg4"))
    assert choose_encoder().name == "mpeg4"
    assert "avcodec_open2" in str(why_not("libx264"))


def test_hardware_that_refuses_this_size_gives_way_to_software(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    only(monkeypatch, Encoder("libx264", options=BROKEN, hardware=True), Encoder("mpeg4"))
    monkeypatch.setattr(encoders, "_try_to_encode", lambda encoder: None)
    sink = VideoSink(tmp_path / "a.mp4", None, Fraction(25))
    assert sink.encoder == "libx264"
    pictures(sink, 5)
    assert sink.encoder == "mpeg4"
    sink.close()
    assert "no libx264 for 96x64" in caplog.text
    assert len(read_clip(tmp_path / "a.mp4").times) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]

    forced = VideoSink(tmp_path / "b.mp4", None, Fraction(25), encoder="libx264")
    with pytest.raises(SinkError, match="STYLESDK_ENCODER=libx264"):
        pictures(forced, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("keep", [False, True])
def test_hardware_that_fails_in_mid_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool) -> None:
    class Fails:
        """The encoder's stream, whose driver goes away."""

        def __init__(self, stream: av.VideoStream) -> None:
            self._stream, self.codec_context = stream, stream.codec_context

        def encode(self, frame: av.VideoFrame | None) -> list[av.Packet]:
            if frame is None or frame.pts >= 100:
                raise av.error.ExternalError(1, "device lost")
            packets: list[av.Packet] = self._stream.encode(frame)
            return packets

    only(monkeypatch, Encoder("libx264", "nv12", {"tune": "zerolatency"}, hardware=True))
    sink = VideoSink(tmp_path / "a.mp4", None, Fraction(25), keep=keep)
    pictures(sink, 1)
    sink._stream = Fails(sink._stream)
    with pytest.raises(SinkError, match=r"(?s)device lost.*set STYLESDK_ENCODER=libx264"):
        pictures(sink, 200)
    sink.abort()
    assert [p.name for p in tmp_path.iterdir()] == (["a.mp4"] if keep else [])
    if keep:
        assert 70 <= len(read_clip(tmp_path / "a.mp4").times) <= 100

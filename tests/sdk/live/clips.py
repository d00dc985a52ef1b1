"""Clips and stand-ins that the tests of the live package share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from stylesdk.frames import Frame
from stylesdk.live.sources import Kind, SourceFrame

TONE = 440.0
RATE = 44100


def picture(index: int, size: tuple[int, int]) -> Frame:
    """A grey ramp with a bright square that moves four pixels a frame."""
    height, width = size
    image = np.repeat(np.linspace(40, 120, width, dtype=np.uint8)[None, :, None], height, 0).repeat(3, 2)
    left = 4 * index % (width - 16)
    image[8:24, left : left + 16] = (40, 200, 230)
    return np.ascontiguousarray(image)


def make_clip(
    path: Path,
    *,
    times: Sequence[int],
    base: Fraction,
    last: int,
    size: tuple[int, int] = (96, 128),
    codec: str = "libx264",
    sound: str | None = None,
    rotation: int = 0,
) -> Path:
    """Write a clip: a frame at each of ``times`` in units of ``base``, the last one ``last`` units long."""
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=Fraction(25))
        video.height, video.width = size
        video.pix_fmt = "yuv444p" if codec == "ffv1" else "yuv420p"
        video.codec_context.time_base = base
        if rotation:
            video.set_display_rotation(rotation)
        audio = out.add_stream(sound, rate=RATE, layout="mono") if sound else None
        lengths = {t: u - t for t, u in zip(times, [*times[1:], times[-1] + last], strict=True)}
        for index, pts in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(index, size), format="bgr24")
            frame.pts, frame.time_base = pts, base
            _mux(out, video.encode(frame), lengths)
        _mux(out, video.encode(None), lengths)
        if audio is not None:
            _write_tone(out, audio, float(times[0] * base), float((times[-1] + last) * base))
    return path


def _mux(out: av.container.OutputContainer, packets: list[av.Packet], lengths: dict[int, int]) -> None:
    for packet in packets:
        packet.duration = lengths.get(packet.pts, packet.duration)
        out.mux(packet)


def _write_tone(out: av.container.OutputContainer, audio: av.AudioStream, begin: float, end: float) -> None:
    count, offset = round((end - begin) * RATE), round(begin * RATE)
    wave = (12000 * np.sin(2 * np.pi * TONE * np.arange(count) / RATE)).astype(np.int16)
    for start in range(0, count, 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, offset + start, Fraction(1, RATE)
        out.mux(audio.encode(frame))
    out.mux(audio.encode(None))


@dataclass(frozen=True)
class Clip:
    """What a player finds in a video file."""

    times: list[float]
    duration: float
    size: tuple[int, int]
    codec: str
    sound: str | None
    sound_seconds: float
    rate: int
    tone: float


def read_clip(path: Path) -> Clip:
    """Decode all of ``path``."""
    with av.open(str(path)) as file:
        video = file.streams.video[0]
        frames = [(float(f.time), (f.height, f.width)) for f in file.decode(video)]
        assert video.duration is None or file.duration
        duration = float(video.duration * video.time_base) if video.duration else file.duration / av.time_base
        codec, size = video.codec_context.name, frames[0][1]
    with av.open(str(path)) as file:
        track = next(iter(file.streams.audio), None)
        if track is None:
            return Clip([t for t, _ in frames], duration, size, codec, None, 0.0, 0, 0.0)
        blocks = [f.to_ndarray().astype(np.float64) for f in file.decode(track)]
        rate, planar = track.codec_context.sample_rate, track.codec_context.format.is_planar
        channels, name = track.codec_context.channels, track.codec_context.name
    wave = np.concatenate([b[0] if planar else b[0, ::channels] for b in blocks])
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    tone = float(np.argmax(spectrum) * rate / len(wave))
    return Clip([t for t, _ in frames], duration, size, codec, name, len(wave) / rate, rate, tone)


class ListSource:
    """A source made of given frames."""

    name = description = "list"
    paths: Sequence[Path] = ()
    fps: Fraction | None = Fraction(25)

    def __init__(self, count: int, *, live: bool = False, kind: Kind = "video") -> None:
        self.frames: int | None = count
        self.live, self.kind, self.closed = live, kind, 0
        self.before: Callable[[int], object] = lambda index: None

    def __iter__(self) -> Iterator[SourceFrame]:
        assert self.frames is not None
        for index in range(self.frames):
            self.before(index)
            image = np.full((32, 48, 3), index % 256, np.uint8)
            yield SourceFrame(image, "", index, Fraction(1, 25), 1)

    def close(self) -> None:
        self.closed += 1


class ListSink:
    """A sink that keeps what it is given."""

    name = "list"
    main_thread = False

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.ended: list[str] = []
        self.threads: set[str] = set()
        self.before: Callable[[int], object] = lambda count: None

    def write(self, image: Frame, frame: SourceFrame) -> None:
        self.before(len(self.seen))
        self.threads.add(threading.current_thread().name)
        assert frame.pts is not None
        self.seen.append((frame.pts, int(image[0, 0, 0])))

    def close(self, *, complete: bool = True) -> None:
        self.ended.append("complete" if complete else "cut")

    def abort(self) -> None:
        self.ended.append("aborted")


class Screen:
    """Stands in for OpenCV's windows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[np.ndarray] = []
        self.key: Callable[[], int] = lambda: -1
        self.open = True
        monkeypatch.setattr("stylesdk.live.window._no_screen", lambda: "")
        monkeypatch.setattr(cv2, "namedWindow", lambda *a: None)
        monkeypatch.setattr(cv2, "resizeWindow", lambda *a: None)
        monkeypatch.setattr(cv2, "imshow", lambda title, image: self.shown.append(image))
        monkeypatch.setattr(cv2, "getWindowProperty", lambda *a: float(self.open))
        monkeypatch.setattr(cv2, "destroyWindow", lambda title: setattr(self, "open", False))
        monkeypatch.setattr(cv2, "waitKeyEx", self.wait)

    def wait(self, milliseconds: int) -> int:
        time.sleep(milliseconds / 1000)
        return self.key()

"""Clips with a flash and a beep at the same moments, to measure what happened to picture, sound and their times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

from stylesdk.frames import Frame

RATE = 48000
MOMENTS = (0.6, 1.0, 1.5)  # seconds; a beep and the first bright frame
_BEEP = 0.05  # seconds


def flash_picture(bright: bool, size: tuple[int, int]) -> Frame:
    """Dark or bright, with a red block in the upper left corner and a green one in the upper right."""
    height, width = size
    image = np.full((height, width, 3), 210 if bright else 40, np.uint8)
    image[: height // 4, : width // 4] = (30, 30, 200)
    image[: height // 4, -(width // 4) :] = (30, 180, 30)
    return image


def flash_clip(
    path: Path,
    *,
    times: Sequence[float] | None = None,
    seconds: float = 1.8,
    size: tuple[int, int] = (96, 128),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    sound: str | None = "aac",
    sound_span: tuple[float, float] | None = None,
    rotation: int = 0,
    shift: float = 0.0,
    prepare: Callable[[av.VideoStream], None] = lambda stream: None,
) -> Path:
    """Write a clip with a flash and a beep at ``MOMENTS``.

    Args:
        times: of the frames, seconds; None: 25 a second. The last one lasts until ``seconds``.
        sound_span: first and last second with sound, None: as the picture.
        shift: added to every time of the file, picture and sound.
        prepare: sets what else the video stream needs, such as its colours.
    """
    times = [i / 25 for i in range(round(seconds * 25))] if times is None else times
    base = Fraction(1, 12800)
    with av.open(str(path), "w", container_options=dict(container_options or {})) as out:
        video = out.add_stream(codec, rate=Fraction(25), options=dict(options or {}))
        video.height, video.width = size
        video.pix_fmt = pixels
        video.codec_context.time_base = base
        if rotation:
            video.set_display_rotation(rotation)
        prepare(video)
        audio = out.add_stream(sound, rate=RATE, layout="stereo") if sound else None
        packets = _pictures(video, times, seconds, size, shift)
        if audio is not None:
            packets += _beeps(audio, sound_span or (times[0], seconds), shift)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    return path


def _pictures(
    video: av.VideoStream, times: Sequence[float], end: float, size: tuple[int, int], shift: float
) -> list[av.Packet]:
    base = video.codec_context.time_base
    ticks = [round((t + shift) / base) for t in times]
    lengths = {a: b - a for a, b in pairwise([*ticks, round((end + shift) / base)])}
    packets = []
    for time, tick in zip(times, ticks, strict=True):
        bright = any(m - 1e-6 <= time < m + 0.2 for m in MOMENTS)
        frame = av.VideoFrame.from_ndarray(flash_picture(bright, size), format="bgr24")
        context = video.codec_context
        frame = frame.reformat(
            format=context.pix_fmt, dst_colorspace=context.colorspace, dst_color_range=context.color_range or None
        )
        frame.pts, frame.time_base = tick, base
        packets += video.encode(frame)
    packets += video.encode(None)
    for packet in packets:
        packet.duration = lengths[packet.pts]
    return packets


def _beeps(audio: av.AudioStream, span: tuple[float, float], shift: float) -> list[av.Packet]:
    time = np.arange(round(span[0] * RATE), round(span[1] * RATE)) / RATE
    loud = np.any([(time >= m) & (time < m + _BEEP) for m in MOMENTS], axis=0)
    wave = (16000 * loud * np.sin(2 * np.pi * 1000 * time)).astype(np.int16).repeat(2)
    packets, offset = [], round((span[0] + shift) * RATE)
    for start in range(0, len(time), 1024):
        piece = np.ascontiguousarray(wave[None, 2 * start : 2 * (start + 1024)])
        frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, offset + start, Fraction(1, RATE)
        packets += audio.encode(frame)
    return packets + audio.encode(None)


@dataclass(frozen=True)
class Seen:
    """What a player shows: seconds of frames, flashes and beeps, length of the picture track, and a first frame."""

    times: list[float]
    flashes: list[float]
    beeps: list[float]
    duration: float
    first: Frame


def watch(path: Path) -> Seen:
    """Decode all of ``path``, as a player does."""
    times, light, sound = [], [], []
    with av.open(str(path)) as file:
        video = file.streams.video[0]
        for frame in file.decode(video):
            grey = frame.to_ndarray(format="gray")
            if not times:
                first = frame.to_ndarray(format="bgr24")
            times.append(frame.time)
            light.append(float(grey[grey.shape[0] // 2 :].mean()) > 120)
            end = frame.time + float((frame.duration or 0) * frame.time_base)
    with av.open(str(path)) as file:
        if file.streams.audio:
            for block in file.decode(file.streams.audio[0]):
                wave = av.AudioResampler("fltp", "mono").resample(block)[0].to_ndarray()[0]
                sound += [block.time + i / block.sample_rate for i in np.flatnonzero(np.abs(wave) > 0.15)]
    flashes = [t for t, now, before in zip(times, light, [False, *light], strict=False) if now and not before]
    beeps = [t for t, before in zip(sound, [-1.0, *sound], strict=False) if t - before > 0.2]
    return Seen(times, flashes, beeps, end - times[0], first)

"""Video files, and whatever else FFmpeg reads, as frames: upright, in their own colours, with their own times."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from stylesdk.errors import MissingExtraError, SourceError
from stylesdk.frames import Frame
from stylesdk.live.sources import Kind, SourceFrame

try:
    import av
    from av.video.reformatter import ColorRange, Colorspace
except ImportError as error:
    raise MissingExtraError("av", "live", "video files") from error

_log = logging.getLogger(__name__)
_NO_VIDEO = {"tty", "image2"}  # FFmpeg opens any text as terminal art
_UNSPECIFIED = 2
# libswscale's flags bilinear, accurate_rnd, full_chroma_int: without the latter two pictures darken by two levels.
EXACT = 0x2 | 0x40000 | 0x2000
_HDR = {16: "PQ", 18: "HLG"}  # ITU-T H.273 codes of transfer functions


class VideoSource:
    """A video file; its frames upright, with their own times."""

    kind: Kind = "video"
    live = False

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.description = f"the video {path}"
        self.paths: Sequence[Path] = (path,)
        do = "check that a video player opens it"
        try:
            self._container = av.open(str(path))
        except (av.FFmpegError, OSError) as error:
            raise SourceError(f"{path}: {error}", expected="a video or image file", do=do) from error
        streams = self._container.streams.video
        if not streams or self._container.format.name in _NO_VIDEO:
            self._container.close()
            raise SourceError(f"{path}, without a picture track", expected="a video or image file", do=do)
        self._stream = streams[0]
        self._stream.thread_type = "AUTO"
        if hdr := _HDR.get(self._stream.codec_context.color_trc):
            _log.warning("%s is HDR (%s) and is styled as if it were not: its colours come out flat", path, hdr)
        rate = self._stream.average_rate
        self.fps = Fraction(rate) if rate else None
        self.frames: int | None = self._stream.frames or None

    def __iter__(self) -> Iterator[SourceFrame]:
        count = damaged = 0
        try:
            for packet in self._container.demux(self._stream):
                try:
                    decoded = packet.decode()
                except av.error.InvalidDataError:
                    damaged += 1
                    continue
                for frame in decoded:
                    count += 1
                    duration = frame.duration or None
                    yield SourceFrame(bgr_from_video(frame), "", frame.pts, frame.time_base, duration)
        except av.FFmpegError as error:
            raise SourceError(f"{self.name}: {error}, after {count} frames", do="check the file") from error
        if damaged:
            _log.warning("%s: %d damaged pieces were left out", self.name, damaged)
        if not count:
            raise SourceError(f"{self.name}, no readable frame in it", do="check that a player shows it")

    def close(self) -> None:
        """Close the file."""
        self._container.close()


def bgr_from_video(frame: av.VideoFrame) -> Frame:
    """BGR uint8 (H, W, 3), upright, by the frame's own colour matrix and range; HD without a matrix is BT.709."""
    guess = frame.colorspace == _UNSPECIFIED and (frame.width >= 1280 or frame.height >= 720)
    # Everything is said: what is left out, releases of PyAV understand differently.
    image = frame.to_ndarray(
        format="bgr24",
        src_colorspace=Colorspace.ITU709 if guess else frame.colorspace,
        dst_colorspace=Colorspace.DEFAULT,
        src_color_range=frame.color_range,
        dst_color_range=ColorRange.JPEG,
        interpolation=EXACT,
    )
    turns = round(frame.rotation / 90) % 4  # counter-clockwise
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else np.asarray(image, dtype=np.uint8)


def pixel_shape(path: Path) -> Fraction:
    """Width divided by height of a pixel of the upright frames of ``path``: not 1 for DVDs and old camcorders."""
    try:
        with av.open(str(path)) as file:
            frame = next(file.decode(video=0))
            shape = Fraction(file.streams.video[0].sample_aspect_ratio or 1)
    except (av.FFmpegError, OSError, IndexError, StopIteration):
        return Fraction(1)
    if not Fraction(1, 4) <= shape <= 4:  # broken files say anything
        return Fraction(1)
    return 1 / shape if round(frame.rotation / 90) % 2 else shape

"""Video files in and out through PyAV: same frames, same times, same sound."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from stylesdk.errors import MissingExtraError, SinkError, SourceError
from stylesdk.frames import Frame
from stylesdk.live.sinks import check_writable
from stylesdk.live.sources import Kind, SourceFrame

try:
    import av
    from av.video.reformatter import ColorRange, Colorspace

    from stylesdk.live.audio import Sound
except ImportError as error:
    raise MissingExtraError("av", "live", "video files") from error

_log = logging.getLogger(__name__)
_NO_VIDEO = {"tty", "image2"}  # FFmpeg opens any text as terminal art
_BT709 = 1  # ITU-T H.273 code of the HD colour matrix, primaries and transfer
_UNSPECIFIED = 2
# Without B-frames frames are stored as they are shown, and mp4 keeps uneven times to the last frame.
_H264 = ("libx264", {"crf": "18", "preset": "veryfast", "bf": "0"})
_VP9 = ("libvpx-vp9", {"crf": "28", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1"})


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
    """BGR uint8 (H, W, 3), upright, by the frame's own colour matrix; HD without one is BT.709."""
    guess = frame.colorspace == _UNSPECIFIED and frame.height >= 720
    image = frame.to_ndarray(format="bgr24", src_colorspace=Colorspace.ITU709 if guess else None)
    turns = round(frame.rotation / 90) % 4  # counter-clockwise
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else np.asarray(image, dtype=np.uint8)


class VideoSink:
    """A video file: H.264 in mp4, mkv, mov; VP9 in webm. Appears under its name only when it is whole.

    Frames keep the times of their source. An odd width or height is made even for H.264 by repeating the last
    column or row. A frame of another size than the first is scaled to the first.

    Args:
        path: output; its suffix chooses the container.
        source_video: file whose sound is carried over, None for silence.
        fps: for frames without times, and a hint to the encoder.

    Raises:
        SinkError: folder not there or not writable, or an encoder that this FFmpeg lacks.
    """

    main_thread = False

    def __init__(self, path: Path, source_video: Path | None, fps: Fraction) -> None:
        self.name = str(path)
        self._path, self._fps = path, fps
        self._part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
        self._webm = path.suffix.lower() == ".webm"
        self._size: tuple[int, int] | None = None
        self._last = -1
        self._end = Fraction(0)
        self._durations: dict[int, int] = {}
        self._sound: Sound | None = None
        check_writable(path.parent)
        codec, options = _VP9 if self._webm else _H264
        mp4 = path.suffix.lower() in {".mp4", ".m4v", ".mov"}
        try:
            container_options = {"movflags": "faststart"} if mp4 else {}
            self._out = av.open(str(self._part), "w", container_options=container_options)
            self._stream = self._out.add_stream(codec, rate=fps, options=options)
            if source_video is not None:
                self._sound = Sound(source_video, self._out, path.suffix.lower())
        except (av.FFmpegError, ValueError, OSError) as error:
            self.abort()
            raise SinkError(f"{path}: {error}", expected=f"an FFmpeg with {codec}", do="use .mp4") from error

    def write(self, image: Frame, frame: SourceFrame) -> None:
        """Encode ``image``, BGR uint8 (H, W, 3), at the time of ``frame``.

        Raises:
            SinkError: disk full or another write error.
        """
        if self._size is None:
            self._set_size(image, frame)
        try:
            picture = self._picture(image)
            self._time(picture, frame)
            self._mux(self._stream.encode(picture))
            if self._sound is not None:
                self._sound.mux_until(self._end)
        except (av.FFmpegError, OSError) as error:
            raise self._failed(error) from error

    def close(self, *, complete: bool = True) -> None:
        """Finish the file and give it its name; sound of an incomplete video ends with the picture.

        Raises:
            SinkError: it could not be finished; nothing is left.
        """
        if self._size is None:  # not one frame: an empty video is no video
            self.abort()
            return
        try:
            self._mux(self._stream.encode(None))
            if self._sound is not None:
                self._sound.finish(None if complete else self._end)
            self._out.close()
            self._part.replace(self._path)
        except (av.FFmpegError, OSError) as error:
            raise self._failed(error) from error
        finally:
            self.abort()

    def abort(self) -> None:
        """Leave nothing behind. Harmless after ``close``."""
        if self._sound is not None:
            self._sound.close()
        if hasattr(self, "_out"):
            with suppress(av.FFmpegError, OSError):
                self._out.close()
        self._part.unlink(missing_ok=True)

    def _set_size(self, image: Frame, frame: SourceFrame) -> None:
        height, width = image.shape[:2]
        self._size = (width, height)
        context = self._stream.codec_context
        context.width, context.height = (width, height) if self._webm else (width + width % 2, height + height % 2)
        context.pix_fmt = "yuv420p"
        context.time_base = frame.time_base or 1 / self._fps
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = ColorRange.MPEG

    def _picture(self, image: Frame) -> av.VideoFrame:
        assert self._size is not None
        width, height = self._size
        if image.shape[:2] != (height, width):
            image = np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        if not self._webm and (width % 2 or height % 2):
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
        return picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)

    def _time(self, picture: av.VideoFrame, frame: SourceFrame) -> None:
        base = self._stream.codec_context.time_base
        step = max(round(1 / self._fps / base), 1)
        pts = self._last + step if self._last >= 0 else 0
        if frame.pts is not None and frame.time_base is not None:
            start = self._sound.start if self._sound is not None else Fraction(0)
            pts = round((frame.pts * frame.time_base - start) / base)
            if frame.duration:
                step = round(frame.duration * frame.time_base / base)
        # Broken files repeat times or run backwards; an encoder takes neither.
        pts = max(pts, self._last + 1)
        self._last, self._end = pts, (pts + step) * base
        self._durations[pts] = step
        picture.pts, picture.time_base = pts, base

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            # Without it the last frame of the file would be as long as the one before.
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            self._out.mux(packet)

    def _failed(self, error: Exception) -> SinkError:
        return SinkError(f"{self._path}: {error}", do="check the free space; nothing was left under this name")

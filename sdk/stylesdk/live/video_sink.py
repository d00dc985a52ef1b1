"""Styled frames into a video file, with the times and the sound of their source."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np

from stylesdk.errors import MissingExtraError, SinkError
from stylesdk.frames import Frame
from stylesdk.live.sinks import check_room, check_writable, letterboxed
from stylesdk.live.sources import SourceFrame

try:
    import av
    from av.video.reformatter import ColorRange, Colorspace

    from stylesdk.live.audio import Sound
    from stylesdk.live.encoder import ENCODER_VARIABLE, VP9, Encoder, choose_encoder
    from stylesdk.live.salvage import container_options, name_beside, part_of, rescue, salvage
    from stylesdk.live.video import EXACT, pixel_shape
except ImportError as error:
    raise MissingExtraError("av", "live", "video files") from error

_log = logging.getLogger(__name__)
_BT709 = 1  # ITU-T H.273 code of the HD colour matrix, primaries and transfer
_LARGEST_TICK = 65535  # MPEG-4 counts a second in no smaller parts


class VideoSink:
    """A video file: H.264 in mp4, mkv, mov; VP9 in webm. Appears under its name only when it is whole.

    Frames keep the times of their source. An odd width or height is made even for H.264 by repeating the last
    column or row. A frame of another size than the first is fitted into the first, with black bars. ``encoder`` is
    the name of FFmpeg's encoder in use: the hardware's if there is one, see ``choose_encoder``.

    What was recorded from a camera cannot be had again, so with ``keep`` a fault in mid-run, such as a full disk,
    leaves the part until then under the name, playable; the error is raised all the same. What killed runs have left
    of recordings under this name gets a name beside it when the next one begins.

    Args:
        path: output; its suffix chooses the container.
        source_video: file whose sound and shape of pixels are carried over, None for silence and square pixels.
        fps: for frames without times, and a hint to the encoder.
        keep: for a live source.
        encoder: forces one, None chooses; .webm has only one.

    Raises:
        SinkError: folder not there, not writable or full, or an encoder that this FFmpeg lacks.
    """

    main_thread = False

    def __init__(
        self, path: Path, source_video: Path | None, fps: Fraction, *, keep: bool = False, encoder: str | None = None
    ) -> None:
        self.name = str(path)
        self._path, self._fps, self._keep = path, fps, keep
        self._part = part_of(path, os.getpid())
        self._whole = False
        self._webm = path.suffix.lower() == ".webm"
        self._source_video = source_video
        self._forced = bool(encoder or os.environ.get(ENCODER_VARIABLE))
        self._size: tuple[int, int] | None = None
        self._last = -1
        self._end = Fraction(0)
        self._durations: dict[int, int] = {}
        check_writable(path.parent)
        check_room(path.parent)
        if keep:
            rescue(path)
        self._open(VP9 if self._webm else choose_encoder(encoder))

    @property
    def encoder(self) -> str:
        """FFmpeg's name of the encoder in use."""
        return self._encoder.name

    def _open(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._out: av.container.OutputContainer | None = None
        self._sound: Sound | None = None
        options = container_options(self._path.suffix.lower(), lasting=self._keep)
        try:
            self._out = av.open(str(self._part), "w", container_options=options)
            self._stream = self._out.add_stream(encoder.name, rate=self._fps, options=dict(encoder.options))
            if self._source_video is not None:
                self._sound = Sound(self._source_video, self._out, self._path.suffix.lower())
        except (av.FFmpegError, ValueError, OSError) as error:
            self.abort()
            raise SinkError(
                f"{self._path}: {error}", expected=f"an FFmpeg with {encoder.name}", do="use .mp4"
            ) from error

    def write(self, image: Frame, frame: SourceFrame) -> None:
        """Encode ``image``, BGR uint8 (H, W, 3), at the time of ``frame``.

        Raises:
            SinkError: disk full, an encoder that failed, or another write error.
        """
        try:
            if self._size is None:
                self._start(image, frame)
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
            SinkError: it could not be finished; or not get its name, and then it has another one, which is said.
        """
        if self._size is None or self._out is None:  # not one frame: an empty video is no video
            self.abort()
            return
        try:
            self._mux(self._stream.encode(None))
            if self._sound is not None:
                self._sound.finish(None if complete else self._end)
            self._out.close()
        except (av.FFmpegError, OSError) as error:
            raise self._failed(error) from error
        else:
            self._whole = True
            self._name()
        finally:
            self.abort()

    def _name(self) -> None:
        try:
            self._part.replace(self._path)
        except OSError as error:  # Windows refuses while a player has the old file open
            kept = self._part
            with suppress(OSError):
                kept = self._part.replace(name_beside(self._path, os.getpid()))
            do = f"close the program that has the old file open; the whole video is in {kept}"
            raise SinkError(f"{self._path}: {error}", do=do) from error

    def abort(self) -> None:
        """Leave nothing behind. Harmless after ``close``."""
        if self._sound is not None:
            self._sound.close()
        if self._out is not None:
            with suppress(av.FFmpegError, OSError):
                self._out.close()
        self._out = None
        if not self._whole:
            self._part.unlink(missing_ok=True)

    def _start(self, image: Frame, frame: SourceFrame) -> None:
        height, width = image.shape[:2]
        self._size = (width, height)
        base = frame.time_base or 1 / self._fps
        try:
            self._open_encoder(base)
        except av.FFmpegError as error:
            if self._forced or not self._encoder.hardware:
                raise
            # Hardware has limits of its own: of size, of how many work at once.
            _log.warning("%s: no %s for %dx%d (%s)", self._path, self.encoder, width, height, error)
            self.abort()
            self._open(choose_encoder(hardware=False))
            self._open_encoder(base)
        _log.info("%s: %dx%d by %s", self._path, width, height, self.encoder)

    def _open_encoder(self, base: Fraction) -> None:
        assert self._size is not None
        width, height = self._size
        context = self._stream.codec_context
        context.width, context.height = (width, height) if self._webm else (width + width % 2, height + height % 2)
        context.pix_fmt = self._encoder.pixels
        small = self.encoder == "mpeg4" and base.denominator > _LARGEST_TICK
        context.time_base = Fraction(1, _LARGEST_TICK) if small else base
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = ColorRange.MPEG
        if self._source_video is not None:
            context.sample_aspect_ratio = pixel_shape(self._source_video)
        context.open()

    def _picture(self, image: Frame) -> av.VideoFrame:
        assert self._size is not None
        width, height = self._size
        image = letterboxed(image, self._size)
        if not self._webm and (width % 2 or height % 2):
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
        return picture.reformat(
            format=self._encoder.pixels,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=EXACT,
        )

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
        assert self._out is not None
        for packet in packets:
            # Without it the last frame of the file would be as long as the one before.
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            self._out.mux(packet)

    def _failed(self, error: Exception) -> SinkError:
        do = "check the free space"
        if self._encoder.hardware:
            do += f", or set {ENCODER_VARIABLE}=libx264 to do without the hardware"
        kept = self._kept() if self._keep else None
        self.abort()
        left = f"what was recorded until then is in {kept}" if kept else "nothing was left under this name"
        return SinkError(f"{self._path}: {error}, after {float(self._end):.1f} s", do=f"{do}; {left}")

    def _kept(self) -> Path | None:
        """Give what is written so far a name, if it can be played: its own, or one beside it if that is taken."""
        if self._out is not None:
            with suppress(av.FFmpegError, OSError):
                self._out.close()
        if salvage(self._part):
            for path in (self._path, name_beside(self._path, os.getpid())):
                with suppress(OSError):  # as in _name
                    return self._part.replace(path)
        return None
